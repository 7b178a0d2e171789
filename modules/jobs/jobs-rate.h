/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-rate.h - submissions a minute of each source address. In memory only: a restart gives everybody
 * a new minute.
 */
#ifndef JOBS_RATE_H
#define JOBS_RATE_H

#include "modules/jobs/jobs-module.h"

/* `sources` addresses are told apart at one time; beyond that the quietest one is forgotten. */
struct jobs_rates *rates_new(uint32_t sources);
void rates_free(struct jobs_rates *rates);
/* Counts one submission; false when this source has had `limit` in the running minute. Any thread. */
bool rates_allow(struct jobs_rates *rates, const char *address, uint64_t limit, int64_t now_ticks);

#endif
