/* SPDX-License-Identifier: Apache-2.0 */
/* store-tx.c - reading and changing records in a transaction. */
#include "core/store-private.h"

#include <errno.h>
#include <string.h>

#include "core/record.h"

static MDB_val val_of(imp_bytes bytes)
{
    /* LMDB takes what it only reads as non-const. */
    union {
        const void *in;
        void *out;
    } cast = {.in = bytes.data};
    return (MDB_val){bytes.length, cast.out};
}

static bool key_is_good(imp_bytes key)
{
    return key.length > 0 && key.length <= IMP_KEY_MAX;
}

void *imp_tx_alloc(imp_tx *tx, size_t length)
{
    return store_arena_alloc(&tx->arena, length);
}

bool imp_tx_is_writing(const imp_tx *tx)
{
    return tx->is_writing;
}

void store_tx_reset(imp_tx *tx)
{
    while (tx->cursors != NULL) {
        imp_cursor_close(tx->cursors);
    }
    store_arena_reset(&tx->arena);
}

/* ---- reading ---- */

imp_status imp_tx_get(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes *value)
{
    *value = (imp_bytes){NULL, 0};
    if (!key_is_good(key)) {
        return IMP_INVALID;
    }
    MDB_val name = val_of(key);
    MDB_val data;
    int code = mdb_get(tx->txn, table->dbi, &name, &data);
    if (code != 0) {
        return store_status(code);
    }
    if ((table->flags & IMP_TABLE_PLAIN) != 0 && !tx->is_writing) {
        *value = (imp_bytes){data.mv_data, data.mv_size}; /* stays until the transaction's end */
        return IMP_OK;
    }
    if ((table->flags & IMP_TABLE_PLAIN) != 0) {
        void *copy = imp_tx_alloc(tx, data.mv_size + 1);
        if (copy == NULL) {
            return IMP_LIMIT;
        }
        if (data.mv_size > 0) {
            memcpy(copy, data.mv_data, data.mv_size);
        }
        *value = (imp_bytes){copy, data.mv_size};
        return IMP_OK;
    }
    if (data.mv_size < SEAL_OVERHEAD) {
        return IMP_CORRUPT;
    }
    void *plain = imp_tx_alloc(tx, data.mv_size - SEAL_OVERHEAD + 1);
    if (plain == NULL) {
        return IMP_LIMIT;
    }
    imp_status status =
        seal_open(&table->scope, key, (imp_bytes){data.mv_data, data.mv_size}, plain);
    if (status == IMP_OK) {
        *value = (imp_bytes){plain, data.mv_size - SEAL_OVERHEAD};
    }
    return status;
}

imp_status imp_tx_count(imp_tx *tx, imp_table *table, uint64_t *count)
{
    MDB_stat stat;
    int code = mdb_stat(tx->txn, table->dbi, &stat);
    *count = code == 0 ? stat.ms_entries : 0;
    return store_status(code);
}

/* ---- changing ---- */

/* An error that leaves the transaction in doubt: it must not be committed, whatever the closure says. */
static imp_status spoil(imp_tx *tx, imp_status status)
{
    if (tx->failure == IMP_OK) {
        tx->failure = status;
    }
    return status;
}

static imp_status put(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes value,
                      bool must_be_new, bool is_raw, imp_bytes *stored)
{
    bool is_sealing = !is_raw && (table->flags & IMP_TABLE_PLAIN) == 0;
    MDB_val name = val_of(key);
    /* Sealed where it will lie: no copy of the value is made on the way. */
    MDB_val place = {value.length + (is_sealing ? SEAL_OVERHEAD : 0), NULL};
    unsigned flags = MDB_RESERVE | (must_be_new ? MDB_NOOVERWRITE : 0u);
    int code = mdb_put(tx->txn, table->dbi, &name, &place, flags);
    if (code == MDB_KEYEXIST) {
        return IMP_EXISTS;
    }
    if (code != 0) {
        return spoil(tx, store_status(code));
    }
    if (is_sealing) {
        imp_status status = seal_value(&table->scope, key, value, place.mv_data);
        if (status != IMP_OK) {
            return spoil(tx, status);
        }
        tx->seals++;
    } else if (value.length > 0) {
        memcpy(place.mv_data, value.data, value.length);
    }
    *stored = (imp_bytes){place.mv_data, place.mv_size};
    return IMP_OK;
}

imp_status store_apply(imp_tx *tx, imp_table *table, imp_bytes key, const imp_bytes *value,
                       bool must_be_new, bool is_raw)
{
    struct store *store = tx->store;
    imp_bytes stored = {NULL, 0};
    imp_status status;
    if (!tx->is_writing || !key_is_good(key) ||
        (value != NULL && value->length > IMP_VALUE_MAX + (is_raw ? SEAL_OVERHEAD : 0))) {
        return IMP_INVALID;
    }
    if (tx->failure != IMP_OK) {
        return tx->failure;
    }
    if (value == NULL) {
        MDB_val name = val_of(key);
        int code = mdb_del(tx->txn, table->dbi, &name, NULL);
        if (code == MDB_NOTFOUND) {
            return IMP_NOT_FOUND;
        }
        status = code == 0 ? IMP_OK : spoil(tx, store_status(code));
    } else {
        status = put(tx, table, key, *value, must_be_new, is_raw, &stored);
    }
    if (status != IMP_OK) {
        return status;
    }
    tx->changes++;
    tx->bytes += key.length + stored.length;
    store_log_change(store, table->name, key, value == NULL, stored);
    if (store->observer != NULL) {
        store->observer(store->observer_arg, store->sequence, table->name, key, value == NULL,
                        stored);
    }
    return IMP_OK;
}

imp_status imp_tx_put(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes value)
{
    return store_apply(tx, table, key, &value, false, false);
}

imp_status imp_tx_insert(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes value)
{
    return store_apply(tx, table, key, &value, true, false);
}

imp_status imp_tx_delete(imp_tx *tx, imp_table *table, imp_bytes key)
{
    return store_apply(tx, table, key, NULL, false, false);
}

imp_status imp_tx_next_number(imp_tx *tx, imp_table *table, uint64_t *number)
{
    imp_table *numbers = tx->store->numbers;
    const imp_bytes key = {table->name, strlen(table->name)};
    uint8_t bytes[8];
    imp_bytes value;
    uint64_t last = 0;
    *number = 0;
    if (!tx->is_writing) {
        return IMP_INVALID;
    }
    imp_status status = imp_tx_get(tx, numbers, key, &value);
    if (status == IMP_OK) {
        struct record_reader reader = record_reader_of(value);
        last = record_read_u64(&reader);
        if (reader.is_failed || last == UINT64_MAX) {
            return IMP_CORRUPT;
        }
    } else if (status != IMP_NOT_FOUND) {
        return status;
    }
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u64(&writer, last + 1);
    value = record_written(&writer);
    status = store_apply(tx, numbers, key, &value, false, false);
    if (status == IMP_OK) {
        *number = last + 1;
    }
    return status;
}
