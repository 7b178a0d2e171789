/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-line.h - who is next on a device: deliveries in the order of their creation, one running at a
 * time.
 *
 * A row's key is device, class and number. Class 0 are jobs that a person released, class 1 those of
 * direct queues; the one with the smaller number is next. A direct job that waits for its next try
 * keeps its place and holds up class 1 alone: who stands at the device need not wait for it.
 */
#ifndef JOBS_LINE_H
#define JOBS_LINE_H

#include "modules/jobs/jobs-change.h"

/* Numbers stand in records. */
enum delivery_state {
    DELIVERY_WAITING = 0, /* in the line */
    DELIVERY_CLAIMED = 1, /* committed; the transport may send */
    DELIVERY_SENT = 2,    /* all bytes taken, evidence awaited */
    DELIVERY_CONFIRMED = 3,
    DELIVERY_UNCONFIRMED = 4,
    DELIVERY_NOT_STARTED = 5,
    DELIVERY_UNCERTAIN = 6,
    DELIVERY_CANCELED = 7,
};
const char *delivery_state_name(uint32_t state);

#define DELIVERY_KEY_SIZE (JOBS_SEQUENCE_SIZE + 4)
void delivery_key(uint8_t key[DELIVERY_KEY_SIZE], uint64_t sequence, uint32_t attempt);

#define LINE_KEY_SIZE (16 + 1 + 8)
#define LINE_ROW_SIZE (JOBS_SEQUENCE_SIZE + 4 + 1 + 8)
#define LINE_RELEASED 0u
#define LINE_DIRECT 1u
struct line_row {
    uint64_t sequence;
    uint32_t attempt;
    bool is_running;
    int64_t not_before; /* imp_now(); 0: at once */
};
bool line_row_read(imp_bytes value, struct line_row *row);

/* What a new delivery is made of. */
struct delivery_plan {
    imp_id id, device, releaser, session;
    const imp_ticket *change; /* may be NULL */
    int64_t not_before;
    uint64_t line_number; /* a place that is kept; 0: at the end */
};
/* Makes the next delivery of a job and puts it into the device's line; the caller then applies its
 * event, which saves the job. */
imp_status line_join_tx(struct jobs *jobs, imp_tx *tx, Job *job, const struct delivery_plan *plan,
                        imp_error *error);
/* Takes the row of the job's latest delivery out of its line; one whose delivery can't be read stays, and
 * is set aside by the claim that meets it. */
imp_status line_leave_tx(struct jobs *jobs, imp_tx *tx, const Job *job);
imp_status delivery_save_tx(struct jobs *jobs, imp_tx *tx, const Delivery *delivery);
/* Writes the row of a delivery anew. */
imp_status line_put_tx(struct jobs *jobs, imp_tx *tx, const Job *job, const Delivery *delivery,
                       bool is_running, int64_t not_before);

/* The key of a delivery's row, from the records as they were claimed. */
void line_key_of(uint8_t key[LINE_KEY_SIZE], const Job *job, const Delivery *delivery);
/* Takes a row that can't be used out of the line. A job that can be read and was in it goes by `event`,
 * if the table knows the way, for it must not wait for what never comes. */
imp_status line_set_aside_tx(struct jobs *jobs, imp_tx *tx, imp_bytes key, Job *job,
                             enum job_event event, imp_error *error);

/* The next job of a device, claimed: row, job and delivery say so when it returns IMP_OK. Its outcome
 * otherwise: IMP_NOT_FOUND, nobody waits; IMP_BUSY, one is running already; IMP_TIMEOUT, not before
 * *not_before. Rows that can't be used are set aside and noted in `bad`. */
imp_status line_claim_tx(struct jobs *jobs, imp_tx *tx, const imp_id *device, Job **job,
                         Delivery **delivery, int64_t *not_before, struct jobs_bad *bad,
                         imp_error *error);

#endif
