/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-change.h - the one place where a job changes: every event goes through the table of states, and
 * record, indexes, counters, due time, line and documents change in one transaction.
 *
 * All functions that end in _tx are for closures (writer thread); messages live in the transaction's
 * arena.
 */
#ifndef JOBS_CHANGE_H
#define JOBS_CHANGE_H

#include <imprimatur/network.h>

#include "modules/jobs/jobs-module.h"
#include "modules/jobs/jobs-record.h"
#include "modules/jobs/jobs-states.h"

/* A job by id or sequence, in reading and writing transactions. NULL with *status. */
Job *job_load(struct jobs *jobs, imp_tx *tx, const imp_id *id, imp_status *status);
Job *job_load_sequence(struct jobs *jobs, imp_tx *tx, uint64_t sequence, imp_status *status);
/* The latest delivery of a job, or NULL. */
Delivery *job_load_delivery(struct jobs *jobs, imp_tx *tx, const Job *job, imp_status *status);
/* IPP's job-id: the sequence folded into 31 bits, so it comes back after 2,147,483,647 jobs, long after
 * retention. */
uint32_t job_number(uint64_t sequence);

/* A new job, whose record is complete but for its sequence and due time: writes record and indexes. */
imp_status job_insert_tx(struct jobs *jobs, imp_tx *tx, Job *job);
/* Lets an event happen and saves the job. Leaving the last situation that is not final takes the job
 * off its queue and the counters, and condemns its documents unless the queue keeps them;
 * *is_condemned is set to true when the caller has to call spool_shred after the commit. IMP_INVALID:
 * the event can't happen now. */
imp_status job_apply_tx(struct jobs *jobs, imp_tx *tx, Job *job, enum job_event event,
                        bool *is_condemned, imp_error *error);
/* Saves a changed record whose situation is the same; brings its due time up to date. */
imp_status job_save_tx(struct jobs *jobs, imp_tx *tx, Job *job);
/* The rows of table due, for the sweeper alone: takes one out (it may be gone already), makes one for a job
 * whose record can't be read, and saves a job with another time than its record says. */
imp_status job_due_delete_tx(struct jobs *jobs, imp_tx *tx, int64_t due, uint64_t sequence);
imp_status job_due_put_tx(struct jobs *jobs, imp_tx *tx, int64_t due, uint64_t sequence);
imp_status job_due_set_tx(struct jobs *jobs, imp_tx *tx, Job *job, int64_t due);
/* Condemns what the job has of it. */
imp_status job_condemn_documents_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                                    imp_error *error);
imp_status job_condemn_personal_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                                   imp_error *error);
/* Takes everything of a final job out of the store. */
imp_status job_forget_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                         imp_error *error);
/* Another owner: moves index and counters. */
imp_status job_set_owner_tx(struct jobs *jobs, imp_tx *tx, Job *job, imp_id owner,
                            imp_error *error);

/* ---- counters ---- */

#define COUNTER_QUEUE 'q'
#define COUNTER_OWNER 'u'
struct counter_value {
    uint64_t jobs, bytes;
};
imp_status counter_read(struct jobs *jobs, imp_tx *tx, char kind, const imp_id *id,
                        struct counter_value *value);
imp_status counter_add_tx(struct jobs *jobs, imp_tx *tx, char kind, const imp_id *id, int64_t count,
                          int64_t bytes);

/* ---- audit ---- */

/* Who did it, for the audit trail. */
struct jobs_actor {
    imp_id principal; /* zero: nobody known */
    bool has_uid;
    uint32_t uid; /* of an administrator at the control socket */
    const char *place_kind;
    imp_id place;
    char address[IMP_NETWORK_TEXT_SIZE]; /* with place_kind "address"; "" when local */
};
/* One who came over the network. `address` may be NULL. */
struct jobs_actor jobs_actor_at(imp_id principal, const char *address);
/* Appends "job.ACTION" to the trail in the same transaction. `detail` may be NULL. */
imp_status job_audit_tx(struct jobs *jobs, imp_tx *tx, const char *action, imp_id job,
                        const struct jobs_actor *actor, imp_status result, imp_error *error,
                        const char *detail, ...) IMP_PRINTF(8, 9);

#endif
