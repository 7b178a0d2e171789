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

struct delivery;

/* What a claim found, on the heap, because it outlives the transaction. */
struct claim {
    imp_status status; /* as line_claim_tx says */
    int64_t not_before;
    Job *job;
    Delivery *record;
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
    bool is_claiming, wakes_again;
    imp_timer *timer; /* the next look */
    struct claim claim;
    struct jobs_write write;
};
/* Looks for the next job, now or when what runs has ended. */
void line_next(struct device_line *line);
/* A claim is committed (or found nothing). */
void line_claimed(struct device_line *line, struct claim *claim);

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
    bool has_first_byte, is_sent, is_in_trouble, is_finished, is_document_lost;
    bool is_cancel_asked, is_cancel_by_operator;
    struct jobs_actor canceler; /* who asked last */
    imp_timer *evidence_timer, *transport_timer;
    char transport[32];

    imp_delivery_outcome outcome;
    imp_error error;
    struct delivery_cancel *cancels; /* who waits for the end */
    struct claim next;               /* claimed in the commit of this one's end */
    uint32_t situation;              /* the job's after the end */
    bool is_condemned;
    struct jobs_write write;
};

extern const struct imp_delivery_ops delivery_operations;
/* Hands the delivery to a transport; ends it as not started when none takes it. */
void delivery_start(struct delivery *delivery);
/* Commits the end and the next claim; the delivery is gone after it. */
void delivery_commit_end(struct delivery *delivery);
void delivery_free(struct delivery *delivery);
/* Commits an event in the middle of a delivery (sent, trouble, trouble over). */
void delivery_commit_event(struct delivery *delivery, enum job_event event);
/* Asks the transport to give up; false when it can't. */
bool delivery_ask_to_stop(struct delivery *delivery);
/* Answers those who wait for the end. */
void delivery_answer_cancels(struct delivery *delivery, imp_status status);

#endif
