/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-expiry.h - what time does to jobs: expiry of held ones, the end of kept documents, names and
 * records.
 *
 * Wall clock against a stored high-water mark: after a step back, or a jump ahead that the monotonic
 * clock does not match, nothing is swept until an administrator confirms the clock (`job
 * confirm-clock`): a wrong clock must not delete what people wait for.
 */
#ifndef JOBS_EXPIRY_H
#define JOBS_EXPIRY_H

#include "modules/jobs/jobs-module.h"

/* Starts the sweeper's timer; sweeps once soon. Control thread. */
imp_status expiry_start(struct jobs *jobs, imp_error *error);
/* Takes a new interval. Control thread. */
void expiry_reconfigure(struct jobs *jobs);
void expiry_stop(struct jobs *jobs);
/* The clock is right: sweep again from now on. `done` on the control loop. */
void expiry_confirm_clock(struct jobs *jobs,
                          void (*done)(imp_status status, const imp_error *error, void *arg),
                          void *arg);

enum clock_verdict { CLOCK_FINE, CLOCK_STEPPED_BACK, CLOCK_JUMPED_AHEAD };
/* Judges a look at both clocks against the one before (0: none) and the high-water mark. */
enum clock_verdict clock_judge(int64_t high_water, int64_t wall_before, int64_t ticks_before,
                               int64_t wall, int64_t ticks, int64_t tolerance);

#endif
