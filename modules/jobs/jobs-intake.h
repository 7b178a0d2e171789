/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-intake.h - how a job comes in: the door, documents into the spool, and one commit for all of it.
 */
#ifndef JOBS_INTAKE_H
#define JOBS_INTAKE_H

#include "modules/jobs/jobs-module.h"

/* Service functions; see imprimatur/jobs.h. */
imp_status intake_begin(struct jobs *jobs, imp_self *caller, const imp_intake_options *options,
                        imp_intake **intake, imp_error *error);
void intake_acknowledged(struct jobs *jobs, const imp_id *job);

/* 16 bytes that prove a submitter: keyed hash of the user name as submitted and the address. */
#define INTAKE_SUBMITTER_SIZE 16u
void intake_submitter(struct jobs *jobs, const char *user_name, const char *address,
                      uint8_t submitter[INTAKE_SUBMITTER_SIZE]);

#endif
