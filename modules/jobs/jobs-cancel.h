/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOBS_CANCEL_H
#define JOBS_CANCEL_H

#include "modules/jobs/jobs-change.h"

/* Service function; `actor` (may be NULL: the viewer's principal) is who stands in the audit trail. */
void cancel_job(struct jobs *jobs, const imp_id *job, const imp_viewer *viewer,
                const struct jobs_actor *actor,
                void (*done)(imp_status status, const imp_error *error, void *arg), void *arg);

#endif
