/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-view.h - what a viewer may see of jobs.
 */
#ifndef JOBS_VIEW_H
#define JOBS_VIEW_H

#include "modules/jobs/jobs-change.h"

/* Rows that one transaction of a listing reads. */
#define VIEW_LOOKS_MAX 20000u

/* Service functions; see imprimatur/jobs.h. */
imp_status view_list(struct jobs *jobs, const imp_viewer *viewer, const imp_job_filter *filter,
                     bool (*visit)(const imp_job_view *view, void *arg), void *arg,
                     imp_error *error);
imp_status view_find(struct jobs *jobs, const char *text, imp_id *job);
/* The sequence of the job that a text names. One that is named by its number need not be there any more. */
imp_status view_find_sequence(struct jobs *jobs, const char *text, uint64_t *sequence);

/* Whether the viewer has proved to own this job: by authentication, or by user name and submitting
 * host where that is a proof. Any thread but the writer. */
bool view_is_owner(struct jobs *jobs, const imp_viewer *viewer, const Job *job);

#endif
