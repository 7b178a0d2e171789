/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.h - taking rows out of a table whose time is over.
 *
 * A table may be long and most of it is not over: so it is looked through on a worker, some rows a read
 * transaction, and only what is over goes to the writer, some rows a closure. A row that does not read
 * holds nothing up: the rule says what becomes of it.
 */
#ifndef IMPRIMATUR_SWEEP_H
#define IMPRIMATUR_SWEEP_H

#include <imprimatur/base.h>
#include <imprimatur/store.h>

/* What a sweep looks for. */
typedef struct imp_sweep_rule {
    uint32_t size;
    imp_table *table;
    /* Whether a row is to go; `value.data` is NULL when it does not read. Asked on the worker, and once
     * more in the closure that erases it, since it may have changed meanwhile. Any status but IMP_OK
     * ends the sweep. */
    imp_status (*is_over_tx)(imp_tx *tx, imp_bytes key, imp_bytes value, bool *is_over, void *arg);
    /* Deletes what belongs to the row, in front of the row itself. NULL when nothing does. Writer. */
    imp_status (*erase_more_tx)(imp_tx *tx, imp_bytes key, imp_bytes value, void *arg);
    void *arg;
} imp_sweep_rule;

/* Looks through the whole table and erases what is over; adds to *erased (may be NULL) what went.
 * IMP_UNAVAILABLE when the store is closing or the work that calls it was cancelled; IMP_INVALID for a rule that is smaller than its first
 * version. Worker threads: it blocks. */
IMP_PUBLIC imp_status imp_sweep(imp_self *self, const imp_sweep_rule *rule, uint64_t *erased,
                                imp_error *error);

#endif
