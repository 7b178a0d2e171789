/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-shred.c - deleting: condemn in the owner's commit, overwrite the slots and sync, say
 * "deleted", free slots and files in a later commit. A start goes on with what is condemned.
 *
 * One batch runs at a time, under a lease: another generation that overwrote a slot which this one
 * has freed and given out again would destroy a living document.
 */
#include <stdlib.h>
#include <string.h>

#include "core/crash-point.h"
#include "modules/jobs/spool-bytes.h"
#include "modules/jobs/spool-private.h"

/* ---- condemning ---- */

static imp_status condemn_tx(struct spool *spool, imp_tx *tx, const struct spool_key *key,
                             const uint32_t *file, imp_error *error)
{
    uint8_t number[SPOOL_NUMBER_KEY], row[SPOOL_CONDEMNED_ROW] = {0};

    /* Another pool's keys have stayed, or ended, where it is. */
    if (key->pool != spool->keys.number)
        return IMP_OK;
    spool_put_u32(number, key->slot);
    spool_put_u64(row, key->generation);
    if (file != NULL) {
        row[8] = 1;
        spool_put_u32(row + 9, *file);
    }
    imp_status status = imp_tx_put(tx, spool->table_condemned, (imp_bytes){number, sizeof number},
                                   (imp_bytes){row, sizeof row});
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "spool: slot can't be condemned");
}

imp_status spool_key_condemn_tx(struct spool *spool, imp_tx *tx, const struct spool_key *key,
                                imp_error *error)
{
    return condemn_tx(spool, tx, key, NULL, error);
}

imp_status spool_condemn_tx(struct spool *spool, imp_tx *tx, const struct spool_document *document,
                            imp_error *error)
{
    uint8_t number[SPOOL_NUMBER_KEY];

    if (!document->is_inline)
        return condemn_tx(spool, tx, &document->key, &document->file, error);
    imp_status status = condemn_tx(spool, tx, &document->key, NULL, error);
    if (status != IMP_OK || document->key.pool != spool->keys.number)
        return status;
    spool_put_u32(number, document->key.slot);
    status = imp_tx_delete(tx, spool->table_doc, (imp_bytes){number, sizeof number});
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return imp_error_set(error, status, "spool: document can't be removed");
    return IMP_OK;
}

/* ---- overwriting, on a worker ---- */

/* Collects what is condemned, in the order of slots. */
static imp_status shred_collect(struct spool *spool, imp_error *error)
{
    struct spool_shredder *shredder = &spool->shredder;
    imp_tx *tx = NULL;
    imp_cursor *cursor = NULL;
    imp_bytes key, value;

    shredder->batch_count = 0;
    shredder->has_more = false;
    imp_status status = imp_store_read_begin(spool->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = imp_cursor_open(tx, spool->table_condemned, (imp_bytes){NULL, 0}, &cursor);
    while (status == IMP_OK) {
        status = imp_cursor_next(cursor, &key, &value);
        if (status != IMP_OK)
            break;
        if (key.length != SPOOL_NUMBER_KEY || value.length != SPOOL_CONDEMNED_ROW) {
            status = IMP_CORRUPT;
            break;
        }
        if (shredder->batch_count == SPOOL_SHRED_BATCH) {
            shredder->has_more = true;
            break;
        }
        const uint8_t *row = value.data;
        struct spool_shredded *item = &shredder->batch[shredder->batch_count++];
        item->slot.number = spool_get_u32(key.data);
        item->condemned_generation = spool_get_u64(row);
        item->has_file = row[8] != 0;
        item->file = spool_get_u32(row + 9);
    }
    if (cursor != NULL)
        imp_cursor_close(cursor);
    imp_store_read_end(tx);
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return imp_error_set(error, status, "spool: what is condemned can't be read");
    return IMP_OK;
}

static imp_status shred_overwrite(struct spool *spool, imp_error *error)
{
    struct spool_shredder *shredder = &spool->shredder;
    imp_status status = IMP_OK;

    for (uint32_t i = 0; i < shredder->batch_count && status == IMP_OK; i++) {
        struct spool_shredded *item = &shredder->batch[i];
        uint32_t number = item->slot.number;
        /* A slot that was overwritten before a crash is at hand as it is, but not yet synced: a sync
         * that failed may have left it in the cache alone, so it is written again. */
        status = key_pool_renew(&spool->keys, number, &item->slot, error);
        if (status == IMP_NOT_FOUND) {
            imp_log(spool->self, IMP_LOG_WARNING, "spool.slot-missing", "slot=%u", number);
            item->slot.number = number;
            item->slot.generation = 0;
            status = IMP_OK;
        }
    }
    IMP_CRASH_POINT("spool.slots-overwritten");
    if (status == IMP_OK && shredder->batch_count > 0)
        status = key_pool_sync(&spool->keys, error);
    IMP_CRASH_POINT("spool.slots-synced");
    for (uint32_t i = 0; i < shredder->batch_count && status == IMP_OK; i++)
        if (shredder->batch[i].has_file)
            spool_files_trim(spool, shredder->batch[i].file);
    return status;
}

static void shred_run(struct spool_task *task)
{
    struct spool *spool = task->spool;
    struct spool_shredder *shredder = &spool->shredder;

    shredder->batch_count = 0;
    if (!shredder->has_lease)
        shredder->has_lease = spool_lease_take(spool, SPOOL_LEASE_SHRED, 0);
    if (!shredder->has_lease) {
        shredder->status = imp_error_set(&shredder->error, IMP_BUSY, "another generation shreds");
        return;
    }
    shredder->status = shred_collect(spool, &shredder->error);
    if (shredder->status == IMP_OK)
        shredder->status = shred_overwrite(spool, &shredder->error);
}

/* ---- freeing, in the writer ---- */

static imp_status shred_free_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct spool *spool = arg;
    struct spool_shredder *shredder = &spool->shredder;
    imp_status status = IMP_OK;

    for (uint32_t i = 0; i < shredder->batch_count && status == IMP_OK; i++) {
        const struct spool_shredded *item = &shredder->batch[i];
        uint8_t number[SPOOL_NUMBER_KEY];
        spool_put_u32(number, item->slot.number);
        status = imp_tx_delete(tx, spool->table_condemned, (imp_bytes){number, sizeof number});
        if (status == IMP_OK)
            status = spool_chunk_clear_tx(tx, spool->table_slot, item->slot.number);
        if (status == IMP_OK && item->has_file)
            status = spool_chunk_clear_tx(tx, spool->table_file, item->file);
    }
    return status == IMP_OK ? IMP_OK : imp_error_set(error, status, "spool: slots can't be freed");
}

/* ---- the order of things, on the home loop ---- */

static void shred_next(struct spool *spool);

static void shred_answer(void *arg)
{
    struct spool_shred_request *request = arg;
    request->done(request->status, request->arg);
    free(request);
}

static void shred_answer_all(struct spool *spool, imp_status status)
{
    struct spool_shred_request *request = spool->shredder.served;

    spool->shredder.served = NULL;
    while (request != NULL) {
        struct spool_shred_request *next = request->next;
        request->status = status;
        if (request->done == NULL ||
            imp_post(spool->self, request->loop, shred_answer, request) != IMP_OK)
            free(request); /* its loop has ended */
        request = next;
    }
}

static void shred_rest(struct spool *spool)
{
    if (spool->shredder.has_lease)
        spool_lease_give(spool, SPOOL_LEASE_SHRED, 0);
    spool->shredder.has_lease = false;
    spool->shredder.is_running = false;
    imp_wipe(spool->shredder.batch, SPOOL_SHRED_BATCH * sizeof *spool->shredder.batch);
}

static void shred_pause_over(void *arg)
{
    struct spool *spool = arg;
    spool->shredder.pause = NULL;
    shred_next(spool);
}

/* Failed: it stays condemned, and is tried again after a while. */
static void shred_pause(struct spool *spool, int64_t delay)
{
    shred_rest(spool);
    spool->shredder.pause = imp_timer_start(spool->self, delay, false, shred_pause_over, spool);
}

static void shred_freed(imp_status status, const imp_error *error, void *arg)
{
    struct spool *spool = arg;
    struct spool_shredder *shredder = &spool->shredder;

    if (status != IMP_OK) {
        imp_log_limited(spool->self, 10000, IMP_LOG_ERROR, "spool.not-freed", "reason=\"%s\"",
                        error == NULL ? imp_status_name(status) : error->message);
        shred_pause(spool, SPOOL_SHRED_PAUSE);
        return;
    }
    IMP_CRASH_POINT("spool.slots-freed");
    for (uint32_t i = 0; i < shredder->batch_count; i++) {
        const struct spool_shredded *item = &shredder->batch[i];
        if (item->slot.generation > 0)
            spool_slots_give(spool, &item->slot);
        if (item->has_file)
            spool_files_give(spool, item->file);
    }
    bool has_more = shredder->has_more;
    shred_rest(spool);
    pthread_mutex_lock(&shredder->lock);
    has_more = has_more || shredder->asked != NULL;
    pthread_mutex_unlock(&shredder->lock);
    if (has_more)
        shred_next(spool);
}

static void shred_free(void *arg)
{
    struct spool *spool = arg;
    imp_status status =
        imp_store_write(spool->self, IMP_WRITE_CONTROL, shred_free_tx, shred_freed, spool);
    if (status == IMP_BUSY)
        imp_store_wait(spool->self, IMP_WRITE_CONTROL, shred_free, spool);
    else if (status != IMP_OK)
        shred_pause(spool, SPOOL_SHRED_PAUSE); /* the store ends: the next start goes on */
}

static void shred_done(struct spool_task *task, bool was_cancelled)
{
    struct spool *spool = task->spool;
    struct spool_shredder *shredder = &spool->shredder;
    imp_status status = was_cancelled ? IMP_UNAVAILABLE : shredder->status;

    if (status == IMP_BUSY) {
        shred_pause(spool, 20 * IMP_MILLISECOND);
        return;
    }
    if (status != IMP_OK) {
        if (!was_cancelled)
            imp_log_limited(spool->self, 10000, IMP_LOG_ERROR, "spool.not-shredded",
                            "reason=\"%s\"", shredder->error.message);
        shred_answer_all(spool, status);
        shred_pause(spool, SPOOL_SHRED_PAUSE);
        return;
    }
    /* With more to come those who asked before it was collected wait for the last batch. */
    if (!shredder->has_more)
        shred_answer_all(spool, IMP_OK);
    if (shredder->batch_count > 0)
        shred_free(spool);
    else
        shred_freed(IMP_OK, NULL, spool);
}

static void shred_next(struct spool *spool)
{
    struct spool_shredder *shredder = &spool->shredder;
    struct spool_shred_request **end = &shredder->served;

    if (shredder->is_running)
        return;
    /* Who asks during a pause does not wait for its end. */
    imp_timer_cancel(shredder->pause);
    shredder->pause = NULL;
    shredder->is_running = true;
    while (*end != NULL)
        end = &(*end)->next;
    pthread_mutex_lock(&shredder->lock);
    *end = shredder->asked;
    shredder->asked = NULL;
    pthread_mutex_unlock(&shredder->lock);
    shredder->task = (struct spool_task){.spool = spool, .run = shred_run, .done = shred_done};
    spool_task_start(&shredder->task);
}

static void shred_kicked(void *arg)
{
    struct spool *spool = arg;

    pthread_mutex_lock(&spool->shredder.lock);
    spool->shredder.is_kicked = false;
    pthread_mutex_unlock(&spool->shredder.lock);
    shred_next(spool);
}

void spool_shred(struct spool *spool, void (*done)(imp_status status, void *arg), void *arg)
{
    struct spool_shredder *shredder = &spool->shredder;
    struct spool_shred_request *request = calloc(1, sizeof *request);

    if (request == NULL) {
        /* It is condemned, so the next batch takes it; only the word of it fails. */
        if (done != NULL)
            done(IMP_LIMIT, arg);
        return;
    }
    request->spool = spool;
    request->loop = imp_loop_current();
    request->done = done;
    request->arg = arg;
    pthread_mutex_lock(&shredder->lock);
    request->next = shredder->asked;
    shredder->asked = request;
    bool must_kick = !shredder->is_kicked;
    if (must_kick)
        shredder->is_kicked = imp_post(spool->self, spool->home, shred_kicked, spool) == IMP_OK;
    pthread_mutex_unlock(&shredder->lock);
}

imp_status spool_shred_start(struct spool *spool, imp_error *error)
{
    spool->shredder.batch = calloc(SPOOL_SHRED_BATCH, sizeof *spool->shredder.batch);
    if (spool->shredder.batch == NULL)
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    /* What an earlier process left condemned. */
    spool_shred(spool, NULL, NULL);
    return IMP_OK;
}

void spool_shred_end(struct spool *spool)
{
    struct spool_shredder *shredder = &spool->shredder;
    struct spool_shred_request *lists[] = {shredder->asked, shredder->served};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        while (lists[i] != NULL) {
            struct spool_shred_request *next = lists[i]->next;
            free(lists[i]);
            lists[i] = next;
        }
    if (shredder->batch != NULL)
        imp_wipe(shredder->batch, SPOOL_SHRED_BATCH * sizeof *shredder->batch);
    free(shredder->batch);
    pthread_mutex_destroy(&shredder->lock);
}
