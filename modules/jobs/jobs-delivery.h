/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-delivery.h - running deliveries: one a device at a time, each on the loop of its device.
 *
 * What waits and what runs stands in table line; here is only the part that runs in this generation.
 * A device belongs to one loop, chosen by its id, so nothing here needs a lock.
 */
#ifndef JOBS_DELIVERY_H
#define JOBS_DELIVERY_H

#include "modules/jobs/jobs-change.h"

struct delivery;

/* There may be something new in this device's line. Any thread. */
void delivery_wake(struct jobs *jobs, const imp_id *device);
/* Reads what an earlier run of the server left: what may have begun becomes uncertain, what surely did
 * not begin waits again. Wakes all devices that have a line. Control thread, in start. */
imp_status delivery_recover(struct jobs *jobs, imp_error *error);

/* Ends claims whose lease was over at `before` (imp_now()) as uncertain, and wakes their devices; `done` is
 * called on the control loop. False when memory is short: then it is not. Control loop. */
bool delivery_end_lapsed(struct jobs *jobs, int64_t before, void (*done)(struct jobs *jobs));

/* Asks the transport of a running job to stop; `done` is called on the calling loop when the delivery
 * has ended: IMP_OK when the job is canceled now, IMP_BUSY when it can't be stopped or was printed
 * already, IMP_NOT_FOUND when this generation does not deliver it. */
struct delivery_cancel {
    struct jobs *jobs;
    imp_id job, device;
    bool by_operator;
    struct jobs_actor actor; /* for the audit trail */
    void (*done)(struct delivery_cancel *cancel, imp_status status);
    imp_loop *loop;
    imp_status status;
    struct delivery_cancel *next;
};
imp_status delivery_cancel_ask(struct delivery_cancel *cancel);

/* Frees the lines; no delivery may run any more. Control thread, in stop. */
void delivery_free_lines(struct jobs *jobs);
/* Visits the deliveries that this generation runs on the current loop; `visit` may end them. */
void delivery_each_on_loop(struct jobs *jobs, void (*visit)(struct delivery *delivery));

#endif
