/* SPDX-License-Identifier: Apache-2.0 */
/* store-read.c - read transactions: a pool of reset ones, and an eye on those that grow old. */
#include <stdlib.h>
#include <string.h>

#include <imprimatur/log.h>

#include "core/store-private.h"

/* Idle transactions keep their reader slot and some memory; more than this at one time is a burst. */
#define READS_IDLE_MAX 64u

static void list_add(imp_tx **list, imp_tx *tx)
{
    tx->previous = NULL;
    tx->next = *list;
    if (*list != NULL) {
        (*list)->previous = tx;
    }
    *list = tx;
}

static void list_remove(imp_tx **list, imp_tx *tx)
{
    if (tx->previous != NULL) {
        tx->previous->next = tx->next;
    } else {
        *list = tx->next;
    }
    if (tx->next != NULL) {
        tx->next->previous = tx->previous;
    }
}

static void free_read(imp_tx *tx)
{
    mdb_txn_abort(tx->txn);
    store_arena_free(&tx->arena);
    free(tx);
}

static imp_status begin(struct store *store, imp_self *self, bool is_long, imp_tx **out,
                        imp_error *error)
{
    *out = NULL;
    pthread_mutex_lock(&store->read_lock);
    imp_tx *tx = store->reads_idle;
    if (tx != NULL) {
        list_remove(&store->reads_idle, tx);
        store->reads_idle_count--;
    }
    pthread_mutex_unlock(&store->read_lock);

    int code;
    if (tx != NULL) {
        code = mdb_txn_renew(tx->txn);
    } else {
        tx = calloc(1, sizeof *tx);
        if (tx == NULL) {
            return imp_error_set(error, IMP_LIMIT, "no memory to read the store");
        }
        tx->store = store;
        code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &tx->txn);
    }
    if (code != 0) {
        if (tx->txn != NULL) {
            mdb_txn_abort(tx->txn);
        }
        store_arena_free(&tx->arena);
        free(tx);
        return store_error(error, code, "a read can't begin");
    }
    tx->self = self;
    tx->began = imp_ticks();
    tx->is_long_allowed = is_long;
    tx->is_age_logged = false;
    pthread_mutex_lock(&store->read_lock);
    list_add(&store->reads_open, tx);
    pthread_mutex_unlock(&store->read_lock);
    atomic_fetch_add_explicit(&store->read_count, 1, memory_order_relaxed);
    *out = tx;
    return IMP_OK;
}

imp_status store_read_begin(struct store *store, imp_self *self, imp_tx **tx, imp_error *error)
{
    return begin(store, self, false, tx, error);
}

imp_status store_read_begin_long(struct store *store, imp_tx **tx, imp_error *error)
{
    return begin(store, NULL, true, tx, error);
}

void imp_store_read_end(imp_tx *tx)
{
    struct store *store = tx->store;
    if (tx->cursors != NULL) {
        imp_log_limited(tx->self, 10000, IMP_LOG_ERROR, "store.cursor-left",
                        "text=\"a cursor was left open\"");
    }
    store_tx_reset(tx);
    mdb_txn_reset(tx->txn);
    pthread_mutex_lock(&store->read_lock);
    list_remove(&store->reads_open, tx);
    bool is_kept = store->reads_idle_count < READS_IDLE_MAX;
    if (is_kept) {
        list_add(&store->reads_idle, tx);
        store->reads_idle_count++;
    }
    pthread_mutex_unlock(&store->read_lock);
    if (!is_kept) {
        free_read(tx);
    }
}

imp_status imp_store_read_begin(imp_self *self, imp_tx **tx, imp_error *error)
{
    struct store *store = store_current();
    if (store == NULL) {
        *tx = NULL;
        return imp_error_set(error, IMP_UNAVAILABLE, "the store is closed");
    }
    return begin(store, self, false, tx, error);
}

void store_reads_check(struct store *store)
{
    int64_t now = imp_ticks();
    pthread_mutex_lock(&store->read_lock);
    for (imp_tx *tx = store->reads_open; tx != NULL; tx = tx->next) {
        if (!tx->is_long_allowed && !tx->is_age_logged && now - tx->began > STORE_READ_AGE_MAX) {
            tx->is_age_logged = true;
            imp_log(NULL, IMP_LOG_WARNING, "store.long-read",
                    "module=%s seconds=%lld text=\"a read keeps freed pages from being used\"",
                    tx->self != NULL ? imp_self_name(tx->self) : "core",
                    (long long)((now - tx->began) / IMP_SECOND));
        }
    }
    pthread_mutex_unlock(&store->read_lock);
    if (now >= store->next_check) {
        int dead = 0;
        store->next_check = now + STORE_READER_CHECK_INTERVAL;
        if (mdb_reader_check(store->env, &dead) == 0 && dead > 0) {
            imp_log(NULL, IMP_LOG_NOTICE, "store.dead-readers", "count=%d", dead);
        }
    }
}

void store_reads_end_all(struct store *store)
{
    while (store->reads_idle != NULL) {
        imp_tx *tx = store->reads_idle;
        store->reads_idle = tx->next;
        free_read(tx);
    }
    store->reads_idle_count = 0;
    while (store->reads_open != NULL) { /* a caller's fault, but the environment goes now */
        imp_tx *tx = store->reads_open;
        store_tx_reset(tx);
        store->reads_open = tx->next;
        free_read(tx);
    }
}
