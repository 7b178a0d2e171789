/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-submission.h"

#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-record.h"

#define BUCKETS 1024u /* keys are random: their first bytes spread them */

struct open_submission {
    struct open_submission *next_by_id, *next_by_hash;
    imp_id job;
    uint8_t hash[IMP_HASH_SIZE];
    uint64_t sequence;
    int64_t ticks;
};

struct acknowledged {
    struct acknowledged *next;
    uint8_t hash[IMP_HASH_SIZE];
    uint64_t sequence;
};

struct jobs_submissions {
    pthread_mutex_t lock;
    struct open_submission *by_id[BUCKETS], *by_hash[BUCKETS];
    struct acknowledged *done;
    uint32_t done_count;
};

static uint32_t bucket_of(const uint8_t *random_bytes)
{
    return ((uint32_t)random_bytes[0] | (uint32_t)random_bytes[1] << 8) % BUCKETS;
}

struct jobs_submissions *submissions_new(void)
{
    struct jobs_submissions *submissions = calloc(1, sizeof *submissions);
    if (submissions != NULL)
        pthread_mutex_init(&submissions->lock, NULL);
    return submissions;
}

void submissions_free(struct jobs_submissions *submissions)
{
    if (submissions == NULL)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        while (submissions->by_id[i] != NULL) {
            struct open_submission *entry = submissions->by_id[i];
            submissions->by_id[i] = entry->next_by_id;
            free(entry);
        }
    }
    while (submissions->done != NULL) {
        struct acknowledged *entry = submissions->done;
        submissions->done = entry->next;
        free(entry);
    }
    pthread_mutex_destroy(&submissions->lock);
    free(submissions);
}

void submissions_committed(struct jobs_submissions *submissions, const imp_id *job,
                           const uint8_t hash[IMP_HASH_SIZE], uint64_t sequence)
{
    /* Without memory the row simply stays until its window has passed. */
    struct open_submission *entry = malloc(sizeof *entry);
    if (entry == NULL)
        return;
    entry->job = *job;
    memcpy(entry->hash, hash, IMP_HASH_SIZE);
    entry->sequence = sequence;
    entry->ticks = imp_ticks();
    pthread_mutex_lock(&submissions->lock);
    struct open_submission **by_id = &submissions->by_id[bucket_of(job->bytes)];
    struct open_submission **by_hash = &submissions->by_hash[bucket_of(hash)];
    entry->next_by_id = *by_id;
    entry->next_by_hash = *by_hash;
    *by_id = *by_hash = entry;
    pthread_mutex_unlock(&submissions->lock);
}

/* Takes the entry that *link leads to out of both chains. */
static struct open_submission *unlink_by_id(struct jobs_submissions *submissions,
                                            struct open_submission **link)
{
    struct open_submission *entry = *link;
    struct open_submission **other = &submissions->by_hash[bucket_of(entry->hash)];
    *link = entry->next_by_id;
    while (*other != entry)
        other = &(*other)->next_by_hash;
    *other = entry->next_by_hash;
    return entry;
}

void submissions_acknowledged(struct jobs_submissions *submissions, const imp_id *job)
{
    struct acknowledged *done = malloc(sizeof *done);
    struct open_submission *entry = NULL;
    pthread_mutex_lock(&submissions->lock);
    struct open_submission **link = &submissions->by_id[bucket_of(job->bytes)];
    while (*link != NULL && !imp_id_equal((*link)->job, *job))
        link = &(*link)->next_by_id;
    if (*link != NULL)
        entry = unlink_by_id(submissions, link);
    if (entry != NULL && done != NULL) {
        memcpy(done->hash, entry->hash, IMP_HASH_SIZE);
        done->sequence = entry->sequence;
        done->next = submissions->done;
        submissions->done = done;
        submissions->done_count++;
        done = NULL;
    }
    pthread_mutex_unlock(&submissions->lock);
    free(entry);
    free(done);
}

bool submissions_is_open(struct jobs_submissions *submissions, const uint8_t hash[IMP_HASH_SIZE],
                         int64_t grace)
{
    bool is_open = false;
    int64_t now = imp_ticks();
    pthread_mutex_lock(&submissions->lock);
    for (const struct open_submission *entry = submissions->by_hash[bucket_of(hash)];
         entry != NULL && !is_open; entry = entry->next_by_hash) {
        is_open = memcmp(entry->hash, hash, IMP_HASH_SIZE) == 0 && now - entry->ticks >= grace;
    }
    pthread_mutex_unlock(&submissions->lock);
    return is_open;
}

void submissions_take(struct jobs_submissions *submissions, struct submission_batch *batch)
{
    batch->count = 0;
    pthread_mutex_lock(&submissions->lock);
    while (batch->count < SUBMISSION_BATCH && submissions->done != NULL) {
        struct acknowledged *entry = submissions->done;
        submissions->done = entry->next;
        submissions->done_count--;
        memcpy(batch->hashes[batch->count], entry->hash, IMP_HASH_SIZE);
        batch->sequences[batch->count++] = entry->sequence;
        free(entry);
    }
    pthread_mutex_unlock(&submissions->lock);
}

void submissions_give_back(struct jobs_submissions *submissions,
                           const struct submission_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct acknowledged *entry = malloc(sizeof *entry);
        if (entry == NULL)
            return; /* the sweeper takes the row out when its window has passed */
        memcpy(entry->hash, batch->hashes[i], IMP_HASH_SIZE);
        entry->sequence = batch->sequences[i];
        pthread_mutex_lock(&submissions->lock);
        entry->next = submissions->done;
        submissions->done = entry;
        submissions->done_count++;
        pthread_mutex_unlock(&submissions->lock);
    }
}

uint32_t submissions_waiting(struct jobs_submissions *submissions)
{
    pthread_mutex_lock(&submissions->lock);
    uint32_t count = submissions->done_count;
    pthread_mutex_unlock(&submissions->lock);
    return count;
}

void submissions_age(struct jobs_submissions *submissions, int64_t age)
{
    int64_t now = imp_ticks();
    for (uint32_t i = 0; i < BUCKETS; i++) {
        pthread_mutex_lock(&submissions->lock);
        struct open_submission **link = &submissions->by_id[i];
        while (*link != NULL) {
            if (now - (*link)->ticks > age)
                free(unlink_by_id(submissions, link));
            else
                link = &(*link)->next_by_id;
        }
        pthread_mutex_unlock(&submissions->lock);
    }
}

/* ---- rows ---- */

imp_status submission_find_tx(struct jobs *jobs, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                              bool counts_own_run, uint64_t *sequence)
{
    imp_status status;
    Submission *row = record_get(tx, jobs->tables.submission, (imp_bytes){hash, IMP_HASH_SIZE},
                                 SUBMISSION_TYPE, &status);
    if (row == NULL)
        return status;
    int64_t age = imp_now() - row->received;
    /* A clock that was set back between the two makes no new job: the row is young then. */
    if (age > atomic_load(&jobs->settings.submission_window))
        return IMP_NOT_FOUND;
    if (row->run == jobs->run && !counts_own_run)
        return IMP_NOT_FOUND;
    *sequence = row->job_sequence;
    return IMP_OK;
}

imp_status submission_put_tx(struct jobs *jobs, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                             uint64_t sequence)
{
    Submission row = SUBMISSION_INIT;
    row.schema = JOBS_SCHEMA;
    row.job_sequence = sequence;
    row.run = jobs->run;
    row.received = imp_now();
    return record_put(tx, jobs->tables.submission, (imp_bytes){hash, IMP_HASH_SIZE}, &row);
}

imp_status submission_forget_tx(struct jobs *jobs, imp_tx *tx, const struct submission_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        imp_status status;
        imp_bytes key = {batch->hashes[i], IMP_HASH_SIZE};
        Submission *row = record_get(tx, jobs->tables.submission, key, SUBMISSION_TYPE, &status);
        if (row != NULL && row->job_sequence == batch->sequences[i])
            status = imp_tx_delete(tx, jobs->tables.submission, key);
        if (status != IMP_OK && status != IMP_NOT_FOUND)
            return status;
    }
    return IMP_OK;
}

imp_status submission_sweep_tx(struct jobs *jobs, imp_tx *tx, uint32_t limit)
{
    imp_cursor *cursor;
    imp_bytes key, value;
    int64_t oldest = imp_now() - atomic_load(&jobs->settings.submission_window);
    imp_status status = imp_cursor_open(tx, jobs->tables.submission, (imp_bytes){"", 0}, &cursor);
    if (status != IMP_OK)
        return status;
    while (limit-- > 0 && (status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
        Submission *row = record_decode(tx, SUBMISSION_TYPE, value);
        if (row != NULL && row->received >= oldest)
            continue;
        if ((status = imp_tx_delete(tx, jobs->tables.submission, key)) != IMP_OK)
            break;
    }
    imp_cursor_close(cursor);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}
