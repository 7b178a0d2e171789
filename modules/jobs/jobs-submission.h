/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-submission.h - one submission, one job: a client that never got its acknowledgement sends again.
 *
 * A commit leaves a row: keyed hash of what the client sent -> job. The row goes, in some later commit,
 * when the intake module said that the acknowledgement was handed to the system. A submission that
 * meets a row is the same job when the row was left by an earlier run of the server (a crash ate the
 * acknowledgement), or by this run so long ago that its acknowledgement can't have been written; and
 * in both cases not longer ago than `submission_window`.
 */
#ifndef JOBS_SUBMISSION_H
#define JOBS_SUBMISSION_H

#include "modules/jobs/jobs-module.h"

/* Rows that one commit takes out; so the lazy deletions keep up with any rate of commits. */
#define SUBMISSION_BATCH 8u

struct submission_batch {
    uint32_t count;
    uint8_t hashes[SUBMISSION_BATCH][IMP_HASH_SIZE];
    uint64_t sequences[SUBMISSION_BATCH];
};

struct jobs_submissions *submissions_new(void);
void submissions_free(struct jobs_submissions *submissions);

/* A job is durable and not acknowledged yet. Of several submissions that look the same the newest job is
 * the one that a retry is, as its row says; a retry of it changes nothing. Any thread. */
void submissions_committed(struct jobs_submissions *submissions, const imp_id *job,
                           const uint8_t hash[IMP_HASH_SIZE], uint64_t sequence);
/* Its acknowledgement was written: its row is to go. Any thread. */
void submissions_acknowledged(struct jobs_submissions *submissions, const imp_id *job);
/* True when this run committed the submission at least `grace` ago and nobody acknowledged it. When it was
 * acknowledged and its row waits to be taken out, the next batch has that row: so ask before that. */
bool submissions_is_open(struct jobs_submissions *submissions, const uint8_t hash[IMP_HASH_SIZE],
                         int64_t grace);
/* Some rows to take out in the next commit; given back when that commit fails. */
void submissions_take(struct jobs_submissions *submissions, struct submission_batch *batch);
void submissions_give_back(struct jobs_submissions *submissions,
                           const struct submission_batch *batch);
/* Takes out all that wait, in commits of its own: nothing acknowledged looks unacknowledged to the next run
 * of the server. Control thread. */
void submissions_flush(struct jobs *jobs);
/* Rows that wait to be taken out. */
uint32_t submissions_waiting(struct jobs_submissions *submissions);
/* Forgets what was committed over `age` ago and never acknowledged; its row is the sweeper's. */
void submissions_age(struct jobs_submissions *submissions, int64_t age);

/* IMP_OK and the job when this submission is here already, IMP_NOT_FOUND otherwise. */
imp_status submission_find_tx(struct jobs *jobs, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                              bool counts_own_run, uint64_t *sequence);
imp_status submission_put_tx(struct jobs *jobs, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                             uint64_t sequence);
/* Takes out the rows of a batch that still name the same jobs, and those that can't be read. */
imp_status submission_forget_tx(struct jobs *jobs, imp_tx *tx,
                                const struct submission_batch *batch);
/* Takes out rows that are older than the window; at most `limit` rows are looked at. *has_more: a further
 * look may find others. */
imp_status submission_sweep_tx(struct jobs *jobs, imp_tx *tx, uint32_t limit, bool *has_more);

#endif
