/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - rows that lead from what people type or present to the id of a record.
 *
 * A table of records has random ids as keys. Beside it stand index tables: the key is a keyed hash
 * (imp_keyed_hash) of a name, a card number, a range of addresses; the value is the record's id. They
 * hold nothing but ids, so that they can be IMP_TABLE_PLAIN. A record and its index rows change in one
 * closure.
 */
#ifndef IMPRIMATUR_INDEX_H
#define IMPRIMATUR_INDEX_H

#include <imprimatur/base.h>
#include <imprimatur/store.h>

/* The id that `key` leads to. IMP_NOT_FOUND when there is no such row, IMP_CORRUPT when it holds no id.
 * Any thread that may use `tx`. */
IMP_PUBLIC imp_status imp_index_get(imp_tx *tx, imp_table *index, imp_bytes key, imp_id *id);
/* Makes `key` lead to `id`. IMP_OK when it does so already, IMP_EXISTS when it leads to another record,
 * which stays. Writing transactions only. */
IMP_PUBLIC imp_status imp_index_add(imp_tx *tx, imp_table *index, imp_bytes key, const imp_id *id);
/* Takes `key` away if it leads to `id`. IMP_OK when there is no such row, or when it leads to another
 * record: then it is that one's, and stays. Writing transactions only. */
IMP_PUBLIC imp_status imp_index_remove(imp_tx *tx, imp_table *index, imp_bytes key,
                                       const imp_id *id);
/* The record that a person means by `text`: 32 digits that are the id of a record in `records`, else
 * what `key` (the hash of `text`) leads to in `index`; with key.data NULL, a text that can't be a name,
 * only the id counts. IMP_NOT_FOUND when nothing is meant. Any thread that may use `tx`. */
IMP_PUBLIC imp_status imp_index_find(imp_tx *tx, imp_table *records, const char *text,
                                     imp_table *index, imp_bytes key, imp_id *id);

#endif
