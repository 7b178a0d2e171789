/* SPDX-License-Identifier: Apache-2.0 */
/* store-restore.c - filling a new store with records that are sealed already. */
#include <string.h>

#include "core/crash-point.h"
#include "core/record.h"
#include "core/store-private.h"

static imp_status begin(struct store *store, imp_error *error)
{
    if (store->write_tx.txn != NULL) {
        return IMP_OK;
    }
    imp_tx *tx = &store->write_tx;
    int code = mdb_txn_begin(store->env, NULL, 0, &tx->txn);
    if (code != 0) {
        return store_error(error, code, "restoring");
    }
    tx->store = store;
    tx->is_writing = true;
    tx->failure = IMP_OK;
    tx->changes = tx->bytes = tx->seals = 0;
    return IMP_OK;
}

static imp_status commit(struct store *store, imp_error *error)
{
    imp_tx *tx = &store->write_tx;
    store_tx_reset(tx);
    int code = mdb_txn_commit(tx->txn);
    tx->txn = NULL;
    if (code != 0) {
        return store_error(error, code, "restoring");
    }
    IMP_CRASH_POINT("restore.batch-committed");
    store_space_after_commit(store);
    return IMP_OK;
}

static imp_status apply(struct store *store, imp_table *table, imp_bytes key, imp_bytes value,
                        bool is_raw, imp_error *error)
{
    imp_status status = begin(store, error);
    if (status == IMP_OK) {
        status = store_apply(&store->write_tx, table, key, &value, true, is_raw);
        if (status == IMP_EXISTS) {
            return imp_error_set(error, IMP_CORRUPT, "table %s has a key twice in the backup",
                                 table->name);
        }
        if (status != IMP_OK) {
            return imp_error_set(error, status, "table %s: a record can't be restored: %s",
                                 table->name, imp_status_name(status));
        }
    }
    if (status == IMP_OK && store->write_tx.bytes >= STORE_BATCH_BYTES) {
        status = commit(store, error);
    }
    return status;
}

imp_status store_restore_table(struct store *store, const char *name, uint32_t schema,
                               uint32_t flags, uint64_t number, imp_table **out, imp_error *error)
{
    uint8_t bytes[8];
    imp_status status = begin(store, error);
    imp_table *table = store_table_handle(store, name, flags);
    if (status == IMP_OK && (table == NULL || table->is_open)) {
        status = imp_error_set(error, IMP_CORRUPT, "table %s can't be restored", name);
    }
    if (status != IMP_OK) {
        return status;
    }
    int code = mdb_dbi_open(store->write_tx.txn, name, MDB_CREATE, &table->dbi);
    if (code != 0) {
        return store_error(error, code, name);
    }
    table->is_open = true; /* this thread is the only one here */
    table->schema = schema;
    table->flags = flags;
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u32(&writer, schema);
    record_write_u32(&writer, flags);
    const imp_bytes key = {name, strlen(name)};
    status = apply(store, store->table_list, key, record_written(&writer), false, error);
    if (status == IMP_OK && number > 0) {
        writer = record_writer_of(bytes, sizeof bytes);
        record_write_u64(&writer, number);
        status = apply(store, store->numbers, key, record_written(&writer), false, error);
    }
    *out = table;
    return status;
}

imp_status store_restore_put(struct store *store, imp_table *table, imp_bytes key, imp_bytes sealed,
                             imp_error *error)
{
    return apply(store, table, key, sealed, true, error);
}

imp_status store_restore_end(struct store *store, imp_error *error)
{
    uint8_t bytes[8];
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u64(&writer, store->sequence);
    imp_status status = begin(store, error);
    if (status == IMP_OK) {
        status = store_meta_put(store, store->write_tx.txn, STORE_META_SEQUENCE, bytes,
                                sizeof bytes, error);
    }
    if (status != IMP_OK) {
        return status;
    }
    char mark[] = STORE_META_RESTORING;
    MDB_val key = {sizeof mark - 1, mark};
    int code = mdb_del(store->write_tx.txn, store->meta->dbi, &key, NULL);
    if (code != 0) {
        return store_error(error, code, "ending a restore");
    }
    status = commit(store, error);
    if (status == IMP_OK) {
        atomic_store(&store->committed_sequence, store->sequence);
        IMP_CRASH_POINT("restore.done");
    }
    return status;
}
