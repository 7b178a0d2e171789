/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.c - taking rows out of a table whose time is over; see <imprimatur/sweep.h>. */
#include <imprimatur/sweep.h>

#include <imprimatur/loop.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_ROWS 2000  /* looked at in one read transaction */
#define SWEEP_ERASE 256u /* erased by one closure */
/* The first version of a rule, which every module has at least. */
#define RULE_SIZE_MIN (offsetof(imp_sweep_rule, arg) + sizeof(((imp_sweep_rule *)0)->arg))

struct sweep {
    const imp_sweep_rule *rule;
    uint8_t after[IMP_KEY_MAX]; /* key of the last row seen */
    size_t after_length;
    bool is_at_end;
    uint32_t count, erased;
    struct {
        uint16_t length;
        uint8_t key[IMP_KEY_MAX];
    } over[SWEEP_ERASE];
};

/* One closure's worth; the rows' own status, so that what changed meanwhile stays. */
static imp_status erase_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct sweep *sweep = arg;
    const imp_sweep_rule *rule = sweep->rule;
    (void)error;
    sweep->erased = 0; /* it may run again */
    for (uint32_t i = 0; i < sweep->count; i++) {
        const imp_bytes key = {sweep->over[i].key, sweep->over[i].length};
        imp_bytes value = {NULL, 0};
        bool is_over = false;
        imp_status status = imp_tx_get(tx, rule->table, key, &value);
        if (status == IMP_NOT_FOUND)
            continue;
        if (status == IMP_CORRUPT)
            value = (imp_bytes){NULL, 0};
        else if (status != IMP_OK)
            return status;
        status = rule->is_over_tx(tx, key, value, &is_over, rule->arg);
        if (status == IMP_OK && is_over && rule->erase_more_tx != NULL)
            status = rule->erase_more_tx(tx, key, value, rule->arg);
        if (status == IMP_OK && is_over)
            status = imp_tx_delete(tx, rule->table, key);
        if (status != IMP_OK)
            return status;
        sweep->erased += is_over;
    }
    return IMP_OK;
}

/* Collects what is over from the next rows, until there is enough for a closure. */
static imp_status collect(imp_self *self, struct sweep *sweep, imp_error *error)
{
    const imp_sweep_rule *rule = sweep->rule;
    imp_cursor *cursor = NULL;
    imp_tx *tx;
    sweep->count = 0;
    imp_status status = imp_store_read_begin(self, &tx, error);
    if (status != IMP_OK)
        return status;
    status =
        imp_cursor_open(tx, rule->table, (imp_bytes){sweep->after, sweep->after_length}, &cursor);
    for (int i = 0; status == IMP_OK && i < SWEEP_ROWS && sweep->count < SWEEP_ERASE; i++) {
        imp_bytes key = {NULL, 0}, value = {NULL, 0};
        bool is_over = false;
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_NOT_FOUND) { /* the cursor's: a rule's own ends the sweep */
            sweep->is_at_end = true;
            status = IMP_OK;
            break;
        }
        if ((status != IMP_OK && status != IMP_CORRUPT) || key.data == NULL)
            break;
        if (status == IMP_CORRUPT)
            value = (imp_bytes){NULL, 0};
        status = rule->is_over_tx(tx, key, value, &is_over, rule->arg);
        memcpy(sweep->after, key.data, key.length);
        sweep->after_length = key.length;
        if (status == IMP_OK && is_over) {
            memcpy(sweep->over[sweep->count].key, key.data, key.length);
            sweep->over[sweep->count++].length = (uint16_t)key.length;
        }
    }
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
    return status;
}

imp_status imp_sweep(imp_self *self, const imp_sweep_rule *rule, uint64_t *erased, imp_error *error)
{
    imp_status status = IMP_OK;
    if (rule->size < RULE_SIZE_MIN)
        return imp_error_set(error, IMP_INVALID, "a rule of a sweep has the wrong size");
    struct sweep *sweep = calloc(1, sizeof *sweep);
    if (sweep == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    sweep->rule = rule;
    while (status == IMP_OK && !sweep->is_at_end) {
        if (imp_work_is_cancelled()) { /* what is left is for the next sweep */
            status = imp_error_set(error, IMP_UNAVAILABLE, "the sweep was cancelled");
            break;
        }
        sweep->erased = 0;
        status = collect(self, sweep, error);
        if (status == IMP_OK && sweep->count > 0)
            status = imp_store_write_sync(self, erase_in, sweep, error);
        if (status == IMP_OK && erased != NULL)
            *erased += sweep->erased;
    }
    free(sweep);
    return status;
}
