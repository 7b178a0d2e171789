/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOBS_RELEASE_H
#define JOBS_RELEASE_H

#include "modules/jobs/jobs-module.h"

/* Service function; see imprimatur/jobs.h. */
void release_job(struct jobs *jobs, const imp_release_request *request,
                 void (*done)(imp_status status, const imp_id *delivery, const imp_error *error,
                              void *arg),
                 void *arg);

#endif
