/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOBS_VERBS_H
#define JOBS_VERBS_H

#include "modules/jobs/jobs-module.h"

/* Registers `job list|show|release|cancel|set-owner|confirm-clock`. */
imp_status job_verbs_register(struct jobs *jobs, imp_error *error);

#endif
