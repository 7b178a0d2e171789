/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/spool-bytes.h"
#include "modules/jobs/spool-private.h"

/* ---- the keys ---- */

void spool_key_derive(struct spool *spool, const char *purpose, const struct key_slot *slot,
                      imp_id id, uint8_t key[SEGMENT_KEY])
{
    uint8_t info[16 + sizeof id.bytes + 8];
    size_t length = strlen(purpose);

    memcpy(info, purpose, length);
    memcpy(info + length, id.bytes, sizeof id.bytes);
    length += sizeof id.bytes;
    spool_put_u64(info + length, slot->generation);
    length += 8;
    imp_derive_key(spool->self, (imp_bytes){slot->secret, sizeof slot->secret},
                   (imp_bytes){info, length}, key, SEGMENT_KEY);
    imp_wipe(info, sizeof info);
}

bool spool_has_key(const struct spool *spool, const struct spool_key *key)
{
    return key->pool == spool->keys.number;
}

imp_status spool_key_open(struct spool *spool, const char *purpose, const struct spool_key *from,
                          uint8_t key[SEGMENT_KEY], imp_error *error)
{
    struct key_slot slot;

    /* After a restore on other ground: the keys stayed where they were made. */
    if (from->pool != spool->keys.number)
        return imp_error_set(error, IMP_NOT_FOUND, "its key is in another key pool");
    imp_status status = key_pool_get(&spool->keys, from->slot, &slot, error);
    if (status == IMP_NOT_FOUND)
        status = imp_error_set(error, IMP_CORRUPT, "the key pool is shorter than it was");
    if (status == IMP_OK && slot.generation > from->generation)
        status = imp_error_set(error, IMP_NOT_FOUND, "its key was destroyed");
    else if (status == IMP_OK && slot.generation < from->generation)
        status = imp_error_set(error, IMP_CORRUPT, "the key pool is older than the record");
    if (status == IMP_OK)
        spool_key_derive(spool, purpose, &slot, from->id, key);
    imp_wipe(&slot, sizeof slot);
    return status;
}

/* ---- slots at hand ---- */

static void slots_wiped_free(struct key_slot *items, size_t count)
{
    if (items != NULL)
        imp_wipe(items, count * sizeof *items);
    free(items);
}

/* Under the lock. */
static bool slots_push(struct spool_slots *slots, const struct key_slot *slot)
{
    if (slots->count == slots->room) {
        size_t room = slots->room == 0 ? SPOOL_SLOTS_HIGH : 2 * slots->room;
        struct key_slot *items = malloc(room * sizeof *items); /* not realloc: secrets are wiped */
        if (items == NULL)
            return false;
        if (slots->count > 0)
            memcpy(items, slots->items, slots->count * sizeof *items);
        slots_wiped_free(slots->items, slots->count);
        slots->items = items;
        slots->room = room;
    }
    slots->items[slots->count++] = *slot;
    return true;
}

static bool slots_is_leased(const struct spool_slots *slots, uint32_t chunk)
{
    return chunk < slots->leased_chunks && (slots->leased[chunk / 8] & 1u << chunk % 8) != 0;
}

static bool slots_note_lease(struct spool_slots *slots, uint32_t chunk)
{
    if (chunk >= slots->leased_chunks) {
        uint32_t chunks = (chunk / 512 + 1) * 512;
        uint8_t *leased = realloc(slots->leased, chunks / 8);
        if (leased == NULL)
            return false;
        memset(leased + slots->leased_chunks / 8, 0, (chunks - slots->leased_chunks) / 8);
        slots->leased = leased;
        slots->leased_chunks = chunks;
    }
    slots->leased[chunk / 8] |= (uint8_t)(1u << chunk % 8);
    return true;
}

/* Takes the free slots of a chunk that was leased just now. */
static imp_status slots_load(struct spool *spool, uint32_t chunk, imp_error *error)
{
    struct spool_slots *slots = &spool->slots;
    struct key_slot *loaded = calloc(SPOOL_CHUNK, sizeof *loaded);
    bool is_sound[SPOOL_CHUNK];
    uint8_t bitmap[SPOOL_BITMAP];
    uint32_t renewed = 0;
    imp_status status = IMP_OK;

    if (loaded == NULL)
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    status = spool_chunk_get(spool, spool->table_slot, chunk, bitmap, error);
    /* Of chunks without a free slot, as a start with many held jobs meets them, nothing is read. */
    bool has_free = false;
    for (uint32_t i = 0; i < SPOOL_BITMAP; i++)
        has_free = has_free || bitmap[i] != 0xff;
    if (status == IMP_OK && has_free)
        status =
            key_pool_read(&spool->keys, chunk * SPOOL_CHUNK, SPOOL_CHUNK, loaded, is_sound, error);
    for (uint32_t i = 0; i < SPOOL_CHUNK && status == IMP_OK; i++) {
        bool is_used = (bitmap[i / 8] & 1u << i % 8) != 0;
        if (is_used || is_sound[i])
            continue;
        /* A power cut while the pool grew. A free slot that is damaged is only to be made anew. */
        status = key_pool_renew(&spool->keys, chunk * SPOOL_CHUNK + i, &loaded[i], error);
        renewed++;
    }
    if (status == IMP_OK && renewed > 0)
        status = key_pool_sync(&spool->keys, error);
    pthread_mutex_lock(&slots->lock);
    if (status == IMP_OK && !slots_note_lease(slots, chunk))
        status = imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    /* Backwards, so that the lowest number is taken first. */
    for (uint32_t i = SPOOL_CHUNK; i-- > 0 && status == IMP_OK;)
        if ((bitmap[i / 8] & 1u << i % 8) == 0 && !slots_push(slots, &loaded[i]))
            status = imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    pthread_mutex_unlock(&slots->lock);
    slots_wiped_free(loaded, SPOOL_CHUNK);
    return status;
}

/* More slots in the file; another generation may have made some meanwhile. */
static imp_status slots_grow(struct spool *spool, imp_error *error)
{
    uint32_t step = (uint32_t)(spool->slot_step / SPOOL_CHUNK * SPOOL_CHUNK);

    if (!spool_lease_take(spool, SPOOL_LEASE_GROW, 0))
        return imp_error_set(error, IMP_BUSY, "spool: the key pool is being extended");
    imp_status status = key_pool_refresh(&spool->keys, error);
    /* Whole chunks only: a power cut may have left a part of one. */
    uint32_t rest = spool->keys.slot_count % SPOOL_CHUNK;
    if (status == IMP_OK)
        status = key_pool_grow(&spool->keys, rest == 0 ? step : SPOOL_CHUNK - rest, error);
    spool_lease_give(spool, SPOOL_LEASE_GROW, 0);
    return status;
}

imp_status spool_slots_fill(struct spool *spool, imp_error *error)
{
    struct spool_slots *slots = &spool->slots;
    imp_status status = IMP_OK;

    for (;;) {
        pthread_mutex_lock(&slots->lock);
        size_t count = slots->count;
        pthread_mutex_unlock(&slots->lock);
        if (count >= SPOOL_SLOTS_HIGH)
            return IMP_OK;
        uint32_t chunks = spool->keys.slot_count / SPOOL_CHUNK;
        while (slots->next_chunk < chunks &&
               (slots_is_leased(slots, slots->next_chunk) ||
                !spool_lease_take(spool, SPOOL_LEASE_SLOTS, slots->next_chunk)))
            slots->next_chunk++;
        if (slots->next_chunk < chunks) {
            status = slots_load(spool, slots->next_chunk, error);
            if (status != IMP_OK) {
                spool_lease_give(spool, SPOOL_LEASE_SLOTS, slots->next_chunk);
                return status;
            }
            slots->next_chunk++;
            continue;
        }
        status = slots_grow(spool, error);
        if (status != IMP_OK)
            return status;
    }
}

static void slots_fill_run(struct spool_task *task)
{
    struct spool *spool = task->spool;
    imp_error error;

    spool->slots.fill_status = spool_slots_fill(spool, &error);
    if (spool->slots.fill_status != IMP_OK)
        imp_log_limited(spool->self, 10000, IMP_LOG_ERROR, "spool.no-slots", "reason=\"%s\"",
                        error.message);
}

static void slots_fill_done(struct spool_task *task, bool was_cancelled)
{
    struct spool_slots *slots = &task->spool->slots;

    (void)was_cancelled;
    pthread_mutex_lock(&slots->lock);
    slots->is_filling = false;
    pthread_mutex_unlock(&slots->lock);
}

imp_status spool_slots_take(struct spool *spool, struct key_slot *slot, imp_error *error)
{
    struct spool_slots *slots = &spool->slots;
    imp_status status = IMP_OK;
    bool must_fill = false;

    pthread_mutex_lock(&slots->lock);
    if (slots->count > 0) {
        *slot = slots->items[--slots->count];
        imp_wipe(&slots->items[slots->count], sizeof slots->items[0]);
    } else {
        status = IMP_BUSY;
    }
    if (slots->count < SPOOL_SLOTS_LOW && !slots->is_filling) {
        slots->is_filling = true;
        must_fill = true;
    }
    pthread_mutex_unlock(&slots->lock);
    if (must_fill) {
        slots->task =
            (struct spool_task){.spool = spool, .run = slots_fill_run, .done = slots_fill_done};
        spool_task_start(&slots->task);
    }
    if (status != IMP_OK) {
        /* After a full disk it is space that is missing, not time. */
        bool is_full = slots->fill_status == IMP_NO_SPACE;
        status = imp_error_set(error, is_full ? IMP_NO_SPACE : IMP_BUSY, "%s",
                               is_full ? "no disk space for the key pool" : "no key slot is ready");
    }
    return status;
}

void spool_slots_give(struct spool *spool, const struct key_slot *slot)
{
    struct spool_slots *slots = &spool->slots;

    /* When memory is short it is found again by the next start. */
    pthread_mutex_lock(&slots->lock);
    if (slots_is_leased(slots, slot->number / SPOOL_CHUNK))
        (void)slots_push(slots, slot);
    pthread_mutex_unlock(&slots->lock);
}

void spool_slots_end(struct spool *spool)
{
    slots_wiped_free(spool->slots.items, spool->slots.count);
    free(spool->slots.leased);
    pthread_mutex_destroy(&spool->slots.lock);
}
