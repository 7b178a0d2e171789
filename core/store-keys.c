/* SPDX-License-Identifier: Apache-2.0 */
/* store-keys.c - the key table: where the key ring's records lie. */
#include "core/store-private.h"

#include <string.h>

imp_status store_keys_load(struct store *store, MDB_txn *txn, const uint8_t *master,
                           imp_error *error)
{
    MDB_cursor *cursor = NULL;
    imp_status status = keyring_open_begin(&store->ring, error);
    int code = 0;
    if (status == IMP_OK) {
        code = mdb_cursor_open(txn, store->keys->dbi, &cursor);
    }
    MDB_val key, value;
    while (status == IMP_OK && code == 0) {
        code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (code != 0) {
            break;
        }
        char name[KEYS_RECORD_NAME_MAX];
        if (key.mv_size >= sizeof name) {
            status = imp_error_set(error, IMP_CORRUPT, "the key table has a name too long");
            break;
        }
        memcpy(name, key.mv_data, key.mv_size);
        name[key.mv_size] = '\0';
        status =
            keyring_open_add(store->ring, name, (imp_bytes){value.mv_data, value.mv_size}, error);
    }
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    if (status == IMP_OK && code != MDB_NOTFOUND) {
        status = store_error(error, code, "reading the key table");
    }
    return status == IMP_OK ? keyring_open_end(store->ring, master, error) : status;
}

imp_status store_key_write(void *arg, const struct keys_record *record, imp_error *error)
{
    struct store_key_sink *sink = arg;
    struct keys_record copy = *record;
    MDB_val key = {strlen(copy.name), copy.name};
    MDB_val value = {copy.length, copy.value};
    int code = mdb_put(sink->txn, sink->store->keys->dbi, &key, &value, 0);
    return code == 0 ? IMP_OK : store_error(error, code, "writing the key table");
}

struct rewrap {
    struct store *store;
    const uint8_t *master;
};

static imp_status rewrap_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct rewrap *rewrap = arg;
    struct store_key_sink sink = {rewrap->store, tx->txn};
    tx->changes++; /* it must be committed */
    return keyring_rewrap(rewrap->store->ring, rewrap->master, store_key_write, &sink, error);
}

imp_status store_rewrap(struct store *store, const uint8_t master[KEYS_MASTER_SIZE],
                        imp_error *error)
{
    struct rewrap rewrap = {store, master};
    imp_status status = store_write_exclusive(store, NULL, rewrap_in, &rewrap, error);
    if (status == IMP_OK) {
        keyring_rewrapped(store->ring, master);
    }
    return status;
}

/* ---- the SDK's functions that need keys ---- */

void imp_keyed_hash(imp_self *self, const char *purpose, imp_bytes data,
                    uint8_t hash[IMP_HASH_SIZE])
{
    const char *module = self != NULL ? imp_self_name(self) : "core";
    keyring_keyed_hash(store_keyring(store_current()), module, purpose, data, hash);
}

#define DERIVE_INFO_MAX 512u

void imp_derive_key(imp_self *self, imp_bytes salt, imp_bytes info, void *key, size_t length)
{
    const char *module = self != NULL ? imp_self_name(self) : "core";
    uint8_t text[DERIVE_INFO_MAX];
    size_t name_size = strlen(module) + 1;
    struct keyring *ring = store_keyring(store_current());
    if (info.length <= sizeof text - name_size) {
        memcpy(text, module, name_size);
        if (info.length > 0) {
            memcpy(text + name_size, info.data, info.length);
        }
        keyring_derive(ring, KEYS_ROOT_SPOOL, salt, (imp_bytes){text, name_size + info.length}, key,
                       length);
        return;
    }
    /* Longer than any id: a root of the module's own, then the information by itself. */
    uint8_t root[KEYS_ROOT_SIZE];
    keyring_derive(ring, KEYS_ROOT_SPOOL, (imp_bytes){NULL, 0}, (imp_bytes){module, name_size},
                   root, sizeof root);
    keys_hkdf((imp_bytes){root, sizeof root}, salt, info, key, length);
    imp_wipe(root, sizeof root);
}
