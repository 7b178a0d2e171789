/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-submission.h"

#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-bad.h"
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

static struct open_submission *find_by_hash(struct jobs_submissions *submissions,
                                            const uint8_t hash[IMP_HASH_SIZE])
{
    struct open_submission *entry = submissions->by_hash[bucket_of(hash)];
    while (entry != NULL && memcmp(entry->hash, hash, IMP_HASH_SIZE) != 0)
        entry = entry->next_by_hash;
    return entry;
}

/* Takes an entry out of both chains. */
static struct open_submission *unlink_open(struct jobs_submissions *submissions,
                                           struct open_submission *entry)
{
    struct open_submission **by_id = &submissions->by_id[bucket_of(entry->job.bytes)];
    struct open_submission **by_hash = &submissions->by_hash[bucket_of(entry->hash)];
    while (*by_id != entry)
        by_id = &(*by_id)->next_by_id;
    *by_id = entry->next_by_id;
    while (*by_hash != entry)
        by_hash = &(*by_hash)->next_by_hash;
    *by_hash = entry->next_by_hash;
    return entry;
}

void submissions_committed(struct jobs_submissions *submissions, const imp_id *job,
                           const uint8_t hash[IMP_HASH_SIZE], uint64_t sequence)
{
    /* Without memory the row simply stays until its window has passed. */
    struct open_submission *entry = malloc(sizeof *entry), *before;
    pthread_mutex_lock(&submissions->lock);
    before = find_by_hash(submissions, hash);
    if (before != NULL &&
        before->sequence >= sequence) { /* this one again, or a newer one was faster */
        pthread_mutex_unlock(&submissions->lock);
        free(entry);
        return;
    }
    if (before != NULL) /* its row names the newer job from now on */
        free(unlink_open(submissions, before));
    if (entry != NULL) {
        struct open_submission **by_id = &submissions->by_id[bucket_of(job->bytes)];
        struct open_submission **by_hash = &submissions->by_hash[bucket_of(hash)];
        entry->job = *job;
        memcpy(entry->hash, hash, IMP_HASH_SIZE);
        entry->sequence = sequence;
        entry->ticks = imp_ticks();
        entry->next_by_id = *by_id;
        entry->next_by_hash = *by_hash;
        *by_id = *by_hash = entry;
    }
    pthread_mutex_unlock(&submissions->lock);
}

void submissions_acknowledged(struct jobs_submissions *submissions, const imp_id *job)
{
    struct acknowledged *done = malloc(sizeof *done);
    struct open_submission *entry = NULL;
    pthread_mutex_lock(&submissions->lock);
    entry = submissions->by_id[bucket_of(job->bytes)];
    while (entry != NULL && !imp_id_equal(entry->job, *job))
        entry = entry->next_by_id;
    if (entry != NULL)
        unlink_open(submissions, entry);
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
    int64_t now = imp_ticks();
    pthread_mutex_lock(&submissions->lock);
    const struct open_submission *entry = find_by_hash(submissions, hash);
    bool is_open = entry != NULL && now - entry->ticks >= grace;
    struct acknowledged **link = &submissions->done;
    while (*link != NULL && memcmp((*link)->hash, hash, IMP_HASH_SIZE) != 0)
        link = &(*link)->next;
    if (*link != NULL) {
        struct acknowledged *first = *link;
        *link = first->next;
        first->next = submissions->done;
        submissions->done = first;
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
            /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): unlink_open() has put the next in *link */
            if (now - (*link)->ticks > age)
                free(unlink_open(submissions, *link));
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
    Submission *row = imp_message_get(tx, jobs->tables.submission, (imp_bytes){hash, IMP_HASH_SIZE},
                                      SUBMISSION_TYPE, &status);
    if (row == NULL) /* one that can't be read is no proof of anything: the new job's replaces it */
        return bad_is_of_row(status) ? IMP_NOT_FOUND : status;
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
    return imp_message_put(tx, jobs->tables.submission, (imp_bytes){hash, IMP_HASH_SIZE}, &row);
}

imp_status submission_forget_tx(struct jobs *jobs, imp_tx *tx, const struct submission_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        imp_status status;
        imp_bytes key = {batch->hashes[i], IMP_HASH_SIZE};
        Submission *row =
            imp_message_get(tx, jobs->tables.submission, key, SUBMISSION_TYPE, &status);
        if (status == IMP_CORRUPT || (row != NULL && row->job_sequence == batch->sequences[i]))
            status = imp_tx_delete(tx, jobs->tables.submission, key);
        if (status != IMP_OK && status != IMP_NOT_FOUND)
            return status;
    }
    return IMP_OK;
}

imp_status submission_sweep_tx(struct jobs *jobs, imp_tx *tx, uint32_t limit, bool *has_more)
{
    imp_cursor *cursor;
    imp_bytes key, value;
    int64_t oldest = imp_now() - atomic_load(&jobs->settings.submission_window);
    uint32_t looked = 0, deleted = 0;
    *has_more = false;
    imp_status status = imp_cursor_open(tx, jobs->tables.submission, (imp_bytes){"", 0}, &cursor);
    if (status != IMP_OK)
        return status;
    while (looked < limit && (status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
        looked++;
        Submission *row = imp_message_decode(tx, SUBMISSION_TYPE, value);
        if (row != NULL && row->received >= oldest)
            continue;
        if ((status = imp_tx_delete(tx, jobs->tables.submission, key)) != IMP_OK)
            break;
        deleted++;
    }
    imp_cursor_close(cursor);
    *has_more = looked == limit && deleted != 0; /* else the next look would see the same rows */
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* ---- the last ones ---- */

struct flush {
    struct jobs *jobs;
    struct submission_batch batch;
    struct jobs_write write;
};

static void flush_next(struct flush *flush);

static imp_status flush_tx(imp_tx *tx, void *arg, imp_error *error IMP_UNUSED)
{
    struct flush *flush = arg;
    return submission_forget_tx(flush->jobs, tx, &flush->batch);
}

static void flush_done(imp_status status, const imp_error *error IMP_UNUSED, void *arg)
{
    struct flush *flush = arg;
    if (status == IMP_OK) {
        flush_next(flush);
        return;
    }
    imp_log(flush->jobs->self, IMP_LOG_WARNING, "jobs.flush-failed", "status=%s waiting=%u",
            imp_status_name(status), submissions_waiting(flush->jobs->submissions));
    imp_unpin(flush->jobs->self, "flush");
    free(flush);
}

static void flush_next(struct flush *flush)
{
    submissions_take(flush->jobs->submissions, &flush->batch);
    if (flush->batch.count != 0) {
        jobs_write_submit(&flush->write);
        return;
    }
    imp_unpin(flush->jobs->self, "flush");
    free(flush);
}

void submissions_flush(struct jobs *jobs)
{
    struct flush *flush = calloc(1, sizeof *flush);
    if (flush == NULL)
        return; /* their window passes */
    imp_pin(jobs->self, "flush");
    flush->jobs = jobs;
    flush->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = flush_tx,
        .done = flush_done,
        .arg = flush,
    };
    flush_next(flush);
}
