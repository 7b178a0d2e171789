/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-lease.h - the leases of deliveries: a claim holds for `lease`, and its holder renews it in the
 * store while its transport shows signs of life.
 *
 * Whose transport is silent for so long is asked to stop, and what does not stop is taken from it. A claim
 * that nobody renews, because its holder is gone with its generation or forgot it, is found in the store
 * and ended as uncertain: a device's line never waits for ever. What an earlier run of the server left is
 * ended at start (delivery_recover).
 */
#ifndef JOBS_LEASE_H
#define JOBS_LEASE_H

#include "modules/jobs/jobs-module.h"

/* Starts the looks at leases; control thread. They go on while the module drains, for what it still
 * delivers. */
imp_status leases_start(struct jobs *jobs, imp_error *error);
/* Takes another `lease`. Control thread. */
void leases_reconfigure(struct jobs *jobs);
void leases_stop(struct jobs *jobs);

#endif
