/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-restore.h - after a restore: documents are in no backup, so jobs that still wait for theirs are
 * aborted (document-access-error).
 *
 * The store's id tells a restored store from the one that the documents were written beside. The pass
 * goes over all jobs in small steps while the server works, keeps its place in the store, and goes on
 * at the next start when it was cut short.
 */
#ifndef JOBS_RESTORE_H
#define JOBS_RESTORE_H

#include "modules/jobs/jobs-module.h"

/* Begins the pass when one is due. Control thread, in start, behind delivery_recover. */
imp_status restore_start(struct jobs *jobs, imp_error *error);

#endif
