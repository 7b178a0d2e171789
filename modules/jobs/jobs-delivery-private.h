/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-delivery-private.h - a running delivery, shared by the line's runner (jobs-delivery.c), what
 * transports call (jobs-delivery-ops.c) and the commits at its ends (jobs-delivery-commit.c).
 */
#ifndef JOBS_DELIVERY_PRIVATE_H
#define JOBS_DELIVERY_PRIVATE_H

#include <imprimatur/at-hand.h>

#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-terms.h"

struct delivery;

/* What a claim found, on the heap, because it outlives the transaction. */
struct claim {
    imp_status status; /* as line_claim_tx says */
    int64_t not_before;
    Job *job;
    Delivery *record;
    struct jobs_bad bad; /* rows that were set aside on the way */
};
void claim_clear(struct claim *claim);
/* Claims the device's next job and copies what was claimed. Writer. */
imp_status claim_next_tx(struct jobs *jobs, imp_tx *tx, const imp_id *device, struct claim *claim,
                         imp_error *error);

/* A device, as far as this generation delivers to it. */
struct device_line {
    struct device_line *next;
    struct jobs *jobs;
    imp_id device;
    struct delivery *running;
    struct delivery *lost; /* taken from transports that have not given them back */
    bool is_claiming, wakes_again;
    imp_timer *timer; /* the next look */
    struct claim claim;
    struct jobs_write write;
};
/* Looks for the next job, now or when what runs has ended. */
void line_next(struct device_line *line);
/* A claim is committed (or found nothing). */
void line_claimed(struct device_line *line, struct claim *claim);

/* How the end is recorded: as it was, or, where the store refuses that, with less and less of it. A row
 * of a delivery that is over must not stay: it would hold up its device for ever. */
enum end_mode {
    END_AS_IT_WAS,
    END_IN_DOUBT, /* the job is uncertain, whatever the end was */
    END_OFF_LINE, /* the device's line alone goes on */
};

struct delivery {
    imp_delivery base;
    struct jobs *jobs;
    struct device_line *line;
    imp_loop *loop;
    Job *job; /* as claimed; the store knows better */
    Delivery *record;
    imp_device device;
    imp_queue_private private_mode;

    imp_delivery_info info;
    Personal *personal;
    imp_ticket_value ticket[3 * IMP_TICKET_VALUES_MAX];
    struct spool_document *documents;

    struct spool_reader *reader;
    uint32_t reading; /* the document that `reader` reads */

    imp_sent_slot word;
    uint64_t bytes_sent;
    int64_t last_sign; /* imp_ticks() of the transport's last call */
    bool has_first_byte, is_sent, is_in_trouble, is_finished;
    bool is_document_lost, is_document_corrupt, is_denied;
    bool is_offered;             /* a transport may have it */
    struct release_terms *terms; /* of a direct job that hooks were asked about */
    bool is_cancel_asked, is_cancel_by_operator;
    struct jobs_actor canceler; /* who asked last */
    bool is_lost;               /* its lease is over and its transport did not stop */
    bool is_end_committed;      /* of a lost one: only its transport's finish is awaited */
    bool is_given_back;         /* the transport has finished a lost one */
    struct delivery *next_lost;
    struct delivery **held_link, *next_held; /* in jobs->deliveries_held */
    imp_timer *evidence_timer, *transport_timer;
    imp_timer *stop_timer; /* the transport was asked to stop */
    char transport[32];

    imp_delivery_outcome outcome;
    imp_error error;
    bool is_error_of_hook; /* its sentence is another module's, and may say what no log may */
    struct delivery_cancel *cancels; /* who waits for the end */
    struct claim next;               /* claimed in the commit of this one's end */
    uint32_t situation;              /* the job's after the end */
    bool is_condemned;
    enum end_mode end_mode;
    uint32_t end_tries;
    struct jobs_write write;
};

extern const struct imp_delivery_ops delivery_operations;
/* Hands the delivery to a transport; ends it as not started when none takes it. */
void delivery_start(struct delivery *delivery);
/* Commits the end and the next claim; the delivery is gone after it. */
void delivery_commit_end(struct delivery *delivery);
void delivery_free(struct delivery *delivery);
/* Whether a delivery of this id is here and its end not yet committed, whatever the store says of its
 * lease. Any thread. */
bool delivery_is_held(struct jobs *jobs, imp_id id);
/* Commits an event in the middle of a delivery (sent, trouble, trouble over). */
void delivery_commit_event(struct delivery *delivery, enum job_event event);
/* Asks the transport to give up; false when it can't. */
bool delivery_ask_to_stop(struct delivery *delivery);
/* Asks it once more with a limit: one that has not ended after it is taken away. The delivery may be gone
 * when this returns. */
void delivery_stop_soon(struct delivery *delivery);
/* The transport's finish of a delivery that was taken from it. */
void delivery_give_back(struct delivery *delivery);
/* Answers those who wait for the end. */
void delivery_answer_cancels(struct delivery *delivery, imp_status status);

#endif
