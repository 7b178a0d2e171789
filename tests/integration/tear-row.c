/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tear-row.c - damages one row of a table as a bad disk would: its seal does not hold any more. No server
 * may run on the store.
 *
 *     tear-row STATE MASTER-KEY TABLE KEY    e.g. audit.event 0000000000000011 (hexadecimal)
 */
#include "build-config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/keys.h"
#include "core/store-private.h"

struct tear {
    const char *table;
    uint8_t key[IMP_KEY_MAX];
    size_t length;
};

static void fail(const char *what, const imp_error *error)
{
    fprintf(stderr, "tear-row: %s: %s\n", what, error->message);
    exit(1);
}

/* False unless `text` is an even number of hexadecimal digits. */
static bool read_key(const char *text, struct tear *tear)
{
    size_t digits = strlen(text);
    if (digits == 0 || digits % 2 != 0 || digits / 2 > sizeof tear->key ||
        strspn(text, "0123456789abcdef") != digits)
        return false;
    for (size_t i = 0; i < digits; i += 2) {
        char pair[3] = {text[i], text[i + 1], '\0'};
        tear->key[tear->length++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

static imp_status tear_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct tear *tear = arg;
    MDB_val key = {tear->length, tear->key}, data;
    MDB_dbi table;
    if (mdb_dbi_open(tx->txn, tear->table, 0, &table) != 0 ||
        mdb_get(tx->txn, table, &key, &data) != 0 || data.mv_size == 0)
        return imp_error_set(error, IMP_NOT_FOUND, "there is no such row in %s", tear->table);
    uint8_t *copy = imp_tx_alloc(tx, data.mv_size);
    if (copy == NULL)
        return IMP_LIMIT;
    memcpy(copy, data.mv_data, data.mv_size);
    copy[data.mv_size - 1] ^= 1;
    data.mv_data = copy;
    tx->changes++;
    return mdb_put(tx->txn, table, &key, &data, 0) == 0 ? IMP_OK : IMP_IO;
}

int main(int count, char **words)
{
    uint8_t master[KEYS_MASTER_SIZE];
    struct store *store = NULL;
    struct tear tear = {0};
    imp_error error = {.status = IMP_OK};
    if (count != 5 || !read_key(words[4], &tear)) {
        fprintf(stderr, "usage: tear-row STATE MASTER-KEY TABLE KEY\n");
        return 2;
    }
    tear.table = words[3];
    if (keys_master_load_or_make(words[2], false, master, &error) != IMP_OK)
        fail("master key", &error);
    const struct store_options options = {
        .state_dir = words[1], .master = master, .mode = STORE_INLINE, .must_exist = true};
    if (store_open(&options, &store, &error) != IMP_OK)
        fail("store", &error);
    imp_wipe(master, sizeof master);
    imp_status status = store_write_exclusive(store, NULL, tear_in, &tear, &error);
    store_close(store);
    if (status != IMP_OK)
        fail(tear.table, &error);
    return 0;
}
