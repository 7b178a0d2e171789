/* SPDX-License-Identifier: Apache-2.0 */
/* store-table.c - tables: declaring, migrating, finding. */
#include "core/store-private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/record.h"

static imp_table *find_locked(struct store *store, const char *name)
{
    for (imp_table *table = store->tables; table != NULL; table = table->next) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

imp_table *store_table_handle(struct store *store, const char *name, uint32_t flags)
{
    pthread_mutex_lock(&store->table_lock);
    imp_table *table = find_locked(store, name);
    if (table == NULL && strlen(name) < STORE_TABLE_NAME_MAX &&
        store->next_table_number < STORE_TABLES_MAX) {
        table = calloc(1, sizeof *table);
    }
    if (table != NULL && table->store == NULL) {
        snprintf(table->name, sizeof table->name, "%s", name);
        table->store = store;
        table->flags = flags;
        table->scope.name = table->name;
        table->scope.number = store->next_table_number++;
        table->next = store->tables;
        store->tables = table;
    }
    /* Once: when a module comes back, others may be reading with this handle. */
    if (table != NULL && table->scope.ring == NULL) {
        table->scope.ring = store->ring; /* NULL until the keys are open: the core's plain tables */
    }
    pthread_mutex_unlock(&store->table_lock);
    return table;
}

imp_table *store_table_find(struct store *store, const char *full_name)
{
    pthread_mutex_lock(&store->table_lock);
    imp_table *table = find_locked(store, full_name);
    if (table != NULL && !table->is_open) {
        table = NULL;
    }
    pthread_mutex_unlock(&store->table_lock);
    return table;
}

imp_status store_table_record_read(imp_bytes bytes, struct store_table_record *record)
{
    struct record_reader reader = record_reader_of(bytes);
    record->schema = record_read_u32(&reader);
    record->flags = record_read_u32(&reader);
    return reader.is_failed || record->schema == 0 ? IMP_CORRUPT : IMP_OK;
}

imp_status store_table_each(imp_tx *tx, store_table_visit visit, void *arg, imp_error *error)
{
    imp_cursor *cursor = NULL;
    imp_bytes key, value;
    imp_status status = imp_cursor_open(tx, tx->store->table_list, (imp_bytes){NULL, 0}, &cursor);
    while (status == IMP_OK) {
        status = imp_cursor_next(cursor, &key, &value);
        if (status != IMP_OK) {
            status = status == IMP_NOT_FOUND ? IMP_OK : status; /* behind the last */
            break;
        }
        char name[STORE_TABLE_NAME_MAX];
        struct store_table_record record;
        if (key.length >= sizeof name || store_table_record_read(value, &record) != IMP_OK) {
            status = imp_error_set(error, IMP_CORRUPT, "the list of tables is damaged");
            break;
        }
        memcpy(name, key.data, key.length);
        name[key.length] = '\0';
        status = visit(arg, name, &record, error);
    }
    imp_cursor_close(cursor);
    return status;
}

static imp_status write_record(imp_tx *tx, const imp_table *table, uint32_t schema, uint32_t flags)
{
    uint8_t bytes[8];
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u32(&writer, schema);
    record_write_u32(&writer, flags);
    const imp_bytes value = record_written(&writer);
    return store_apply(tx, tx->store->table_list, (imp_bytes){table->name, strlen(table->name)},
                       &value, false, false);
}

/* Opens the table's dbi in this transaction. LMDB forgets it again when the transaction is aborted. */
static imp_status open_in(imp_tx *tx, imp_table *table, imp_error *error)
{
    if (table->is_open) {
        return IMP_OK;
    }
    int code = mdb_dbi_open(tx->txn, table->name, MDB_CREATE, &table->dbi);
    if (code != 0) {
        return store_error(error, code, table->name);
    }
    table->is_pending = true;
    return IMP_OK;
}

/* Runs `fn`, which opens tables, in a transaction of its own; their handles are good from its commit on. */
static imp_status open_by(struct store *store, imp_self *self, imp_write_function fn, void *arg,
                          imp_error *error)
{
    pthread_mutex_lock(&store->declare_lock);
    imp_status status = store_write_exclusive(store, self, fn, arg, error);
    pthread_mutex_lock(&store->table_lock);
    for (imp_table *table = store->tables; table != NULL; table = table->next) {
        table->is_open = table->is_open || (table->is_pending && status == IMP_OK);
        table->is_pending = false;
    }
    pthread_mutex_unlock(&store->table_lock);
    pthread_mutex_unlock(&store->declare_lock);
    return status;
}

/* ---- declaring ---- */

struct declaration {
    struct store *store;
    imp_self *self;
    const char *module;
    const imp_table_spec *specs;
    store_migrate migrate;
};

static bool name_is_good(const char *name)
{
    if (name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

static imp_status migrate_table(struct declaration *declaration, imp_tx *tx,
                                const imp_table_spec *spec, const imp_table *table, uint32_t from,
                                imp_error *error)
{
    if (declaration->migrate == NULL) {
        return imp_error_set(
            error, IMP_UNSUPPORTED,
            "table %s has schema %u in the store and %u in the module, which can't "
            "migrate it",
            table->name, from, spec->schema);
    }
    for (uint32_t step = from; step < spec->schema; step++) {
        imp_error reason = {.status = IMP_OK};
        imp_status status = declaration->migrate(declaration->self, tx, spec, step, &reason);
        if (status == IMP_OK) {
            status = tx->failure;
        }
        if (status != IMP_OK) {
            return imp_error_set(
                error, status, "table %s: migrating schema %u to %u failed: %s", table->name, step,
                step + 1, reason.status != IMP_OK ? reason.message : imp_status_name(status));
        }
    }
    return IMP_OK;
}

static imp_status declare_one(struct declaration *declaration, imp_tx *tx,
                              const imp_table_spec *spec, imp_error *error)
{
    char name[STORE_TABLE_NAME_MAX];
    int length = snprintf(name, sizeof name, "%s.%s", declaration->module, spec->name);
    if (!name_is_good(spec->name) || length >= (int)sizeof name || spec->schema == 0) {
        return imp_error_set(error, IMP_INVALID, "\"%s\" is not a good table name with a schema",
                             spec->name);
    }
    imp_table *table = store_table_handle(declaration->store, name, spec->flags);
    if (table == NULL) {
        return imp_error_set(error, IMP_LIMIT, "too many tables (%u) for %s", STORE_TABLES_MAX,
                             name);
    }
    imp_bytes value;
    struct store_table_record record;
    imp_status status =
        imp_tx_get(tx, tx->store->table_list, (imp_bytes){name, strlen(name)}, &value);
    if (status == IMP_NOT_FOUND) {
        status = open_in(tx, table, error);
        if (status == IMP_OK) {
            table->schema = spec->schema;
            table->flags = spec->flags;
            status = write_record(tx, table, spec->schema, spec->flags);
        }
        return status;
    }
    if (status == IMP_OK) {
        status = store_table_record_read(value, &record);
    }
    if (status != IMP_OK) {
        return imp_error_set(error, status, "table %s: its description is damaged", name);
    }
    if (record.schema > spec->schema) {
        return imp_error_set(error, IMP_UNSUPPORTED,
                             "table %s has schema %u in the store, this module knows up to %u; use "
                             "a newer module (nothing was changed)",
                             name, record.schema, spec->schema);
    }
    if (((record.flags ^ spec->flags) & IMP_TABLE_PLAIN) != 0) {
        return imp_error_set(error, IMP_UNSUPPORTED,
                             "table %s can't change between sealed and plain", name);
    }
    status = open_in(tx, table, error);
    if (status != IMP_OK) {
        return status;
    }
    if (table->flags != spec->flags) {
        table->flags = spec->flags;
    }
    if (record.schema < spec->schema) {
        status = migrate_table(declaration, tx, spec, table, record.schema, error);
    }
    if (status == IMP_OK && (record.schema != spec->schema || record.flags != spec->flags)) {
        status = write_record(tx, table, spec->schema, spec->flags);
    }
    if (status == IMP_OK) {
        table->schema = spec->schema;
    }
    return status;
}

/* Two passes over the tables: a migration of one may look into the others. */
static imp_status declare_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct declaration *declaration = arg;
    imp_status status = IMP_OK;
    tx->changes++; /* opening a table has to be committed for its handle to stay */
    for (const imp_table_spec *spec = declaration->specs; status == IMP_OK && spec->name != NULL;
         spec++) {
        char name[STORE_TABLE_NAME_MAX];
        snprintf(name, sizeof name, "%s.%s", declaration->module, spec->name);
        imp_table *table = store_table_handle(declaration->store, name, spec->flags);
        imp_bytes value;
        if (table != NULL && imp_tx_get(tx, tx->store->table_list, (imp_bytes){name, strlen(name)},
                                        &value) == IMP_OK) {
            status = open_in(tx, table, error);
        }
    }
    for (const imp_table_spec *spec = declaration->specs; status == IMP_OK && spec->name != NULL;
         spec++) {
        status = declare_one(declaration, tx, spec, error);
    }
    return status;
}

imp_status store_table_declare(struct store *store, imp_self *self, const char *module,
                               const imp_table_spec *specs, store_migrate migrate, imp_error *error)
{
    if (specs == NULL || specs->name == NULL) {
        return IMP_OK;
    }
    struct declaration declaration = {store, self, module, specs, migrate};
    return open_by(store, self, declare_in, &declaration, error);
}

/* ---- as found ---- */

static imp_status open_found(void *arg, const char *name, const struct store_table_record *record,
                             imp_error *error)
{
    imp_tx *tx = arg;
    imp_table *table = store_table_handle(tx->store, name, record->flags);
    if (table == NULL) {
        return imp_error_set(error, IMP_LIMIT, "too many tables (%u)", STORE_TABLES_MAX);
    }
    imp_status status = open_in(tx, table, error);
    if (!table->is_open) {
        table->schema = record->schema;
        table->flags = record->flags;
    }
    return status;
}

static imp_status open_all_in(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    tx->changes++; /* to be committed, or the handles are forgotten */
    return store_table_each(tx, open_found, tx, error);
}

imp_status store_table_open_all(struct store *store, imp_error *error)
{
    return open_by(store, NULL, open_all_in, NULL, error);
}

/* ---- the SDK ---- */

static imp_table *find_of(struct store *store, imp_self *self, const char *name)
{
    char full_name[STORE_TABLE_NAME_MAX];
    int length = snprintf(full_name, sizeof full_name, "%s.%s",
                          self != NULL ? imp_self_name(self) : "core", name);
    if (store == NULL || length >= (int)sizeof full_name) {
        return NULL;
    }
    return store_table_find(store, full_name);
}

imp_table *imp_table_open(imp_self *self, const char *name)
{
    return find_of(store_current(), self, name);
}

imp_table *imp_tx_table(imp_tx *tx, imp_self *self, const char *name)
{
    return find_of(tx->store, self, name);
}

const char *imp_state_dir(imp_self *self)
{
    (void)self;
    return store_state_dir(store_current());
}

imp_id imp_store_id(void)
{
    return store_id(store_current());
}
