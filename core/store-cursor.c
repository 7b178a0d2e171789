/* SPDX-License-Identifier: Apache-2.0 */
/* store-cursor.c - walks over a table in key order. */
#include <stdlib.h>
#include <string.h>

#include "core/store-private.h"

struct imp_cursor {
    imp_cursor *next, *previous; /* of the transaction */
    imp_tx *tx;
    imp_table *table;
    MDB_cursor *lmdb;
    bool is_started;
    size_t key_length; /* where the walk stands, or starts */
    uint8_t key[IMP_KEY_MAX];
    uint8_t *value; /* of the last step, opened */
    size_t value_room, value_used;
};

imp_status imp_cursor_open(imp_tx *tx, imp_table *table, imp_bytes from, imp_cursor **out)
{
    *out = NULL;
    if (from.length > IMP_KEY_MAX) {
        return IMP_INVALID;
    }
    imp_cursor *cursor = calloc(1, sizeof *cursor);
    if (cursor == NULL) {
        return IMP_LIMIT;
    }
    int code = mdb_cursor_open(tx->txn, table->dbi, &cursor->lmdb);
    if (code != 0) {
        free(cursor);
        return store_status(code);
    }
    cursor->tx = tx;
    cursor->table = table;
    cursor->key_length = from.length;
    if (from.length > 0) {
        memcpy(cursor->key, from.data, from.length);
    }
    cursor->next = tx->cursors;
    if (tx->cursors != NULL) {
        tx->cursors->previous = cursor;
    }
    tx->cursors = cursor;
    *out = cursor;
    return IMP_OK;
}

void imp_cursor_close(imp_cursor *cursor)
{
    if (cursor == NULL) {
        return;
    }
    if (cursor->previous != NULL) {
        cursor->previous->next = cursor->next;
    } else {
        cursor->tx->cursors = cursor->next;
    }
    if (cursor->next != NULL) {
        cursor->next->previous = cursor->previous;
    }
    mdb_cursor_close(cursor->lmdb);
    if (cursor->value != NULL) {
        imp_wipe(cursor->value, cursor->value_used);
        free(cursor->value);
    }
    imp_wipe(cursor, sizeof *cursor);
    free(cursor);
}

/* The value of the step in the cursor's own buffer. */
static imp_status take_value(imp_cursor *cursor, MDB_val data, imp_bytes *value)
{
    imp_table *table = cursor->table;
    bool is_sealed = (table->flags & IMP_TABLE_PLAIN) == 0;
    if (!is_sealed && !cursor->tx->is_writing) {
        *value = (imp_bytes){data.mv_data, data.mv_size};
        return IMP_OK;
    }
    if (is_sealed && data.mv_size < SEAL_OVERHEAD) {
        return IMP_CORRUPT;
    }
    size_t length = data.mv_size - (is_sealed ? SEAL_OVERHEAD : 0);
    if (cursor->value_room < length || cursor->value == NULL) {
        if (cursor->value != NULL) {
            imp_wipe(cursor->value, cursor->value_used);
        }
        free(cursor->value);
        cursor->value_used = 0;
        cursor->value_room = length < 1024 ? 1024 : length;
        cursor->value = malloc(cursor->value_room);
        if (cursor->value == NULL) {
            cursor->value_room = 0;
            return IMP_LIMIT;
        }
    }
    if (length > cursor->value_used) {
        cursor->value_used = length; /* the most that was ever in it, to be wiped */
    }
    *value = (imp_bytes){cursor->value, length};
    if (!is_sealed) {
        if (length > 0) {
            memcpy(cursor->value, data.mv_data, length);
        }
        return IMP_OK;
    }
    return seal_open(&table->scope, (imp_bytes){cursor->key, cursor->key_length},
                     (imp_bytes){data.mv_data, data.mv_size}, cursor->value);
}

static imp_status take(imp_cursor *cursor, int code, const MDB_val *name, const MDB_val *data,
                       imp_bytes *key, imp_bytes *value)
{
    if (code != 0) {
        return store_status(code);
    }
    if (name->mv_size > sizeof cursor->key) {
        return IMP_CORRUPT;
    }
    cursor->is_started = true;
    cursor->key_length = name->mv_size;
    memcpy(cursor->key, name->mv_data, name->mv_size);
    if (key != NULL) {
        *key = (imp_bytes){cursor->key, cursor->key_length};
    }
    return value != NULL ? take_value(cursor, *data, value) : IMP_OK;
}

/* A writing closure may change the table between two steps, and LMDB's cursors then stand where they
 * like: so it looks its place up again each time. */
static bool keeps_place(const imp_cursor *cursor)
{
    return cursor->is_started && !cursor->tx->is_writing;
}

imp_status imp_cursor_next(imp_cursor *cursor, imp_bytes *key, imp_bytes *value)
{
    MDB_val name = {cursor->key_length, cursor->key};
    MDB_val data = {0, NULL};
    int code;
    if (keeps_place(cursor)) {
        code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_NEXT);
    } else if (cursor->key_length == 0) {
        code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_FIRST);
    } else {
        code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_SET_RANGE);
        if (code == 0 && cursor->is_started && name.mv_size == cursor->key_length &&
            memcmp(name.mv_data, cursor->key, name.mv_size) == 0) {
            code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_NEXT);
        }
    }
    return take(cursor, code, &name, &data, key, value);
}

imp_status imp_cursor_previous(imp_cursor *cursor, imp_bytes *key, imp_bytes *value)
{
    MDB_val name = {cursor->key_length, cursor->key};
    MDB_val data = {0, NULL};
    int code;
    if (keeps_place(cursor)) {
        code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_PREV);
    } else if (cursor->key_length == 0) {
        code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_LAST);
    } else {
        code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_SET_RANGE);
        if (code == 0) {
            code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_PREV);
        } else if (code == MDB_NOTFOUND) {
            code = mdb_cursor_get(cursor->lmdb, &name, &data, MDB_LAST);
        }
    }
    return take(cursor, code, &name, &data, key, value);
}
