/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-jobs.h - the jobs that one connection collects, told apart by the names of their files.
 *
 * RFC 1179 section 6 gives the files of a job one name but for its first letters: cfA123host, dfA123host,
 * dfB123host; number and host are the job's. Clients keep to that mostly, and jobs may be interleaved
 * on a connection, control file first or data file first. So what is sure is taken first (a control
 * file lists the data file by its name), then what the rule says (number and host), and where names do
 * not match at all, the order of arrival decides:
 *   - a data file whose name fits nothing belongs to the first control file that still waits for data,
 *     else it begins a job of its own;
 *   - a control file whose name fits nothing belongs to the first data that waits for one.
 * The same file name twice is two jobs.
 *
 * No bytes and no answers are known here. Everything is allocated by need: a connection that has begun
 * nothing has nothing.
 */
#ifndef IMPRIMATUR_MODULES_LPR_JOBS_H
#define IMPRIMATUR_MODULES_LPR_JOBS_H

#include "lpr.h"

/* A data file that came before its control file. */
struct lpr_early_file {
    struct lpr_early_file *next;
    char name[];
};

struct lpr_job {
    imp_intake *intake;          /* the door's, or from the first data file on */
    struct lpr_control *control; /* NULL: not here yet */
    char *key;                   /* number and host of its files' names; NULL: not known */
    bool has_number;
    uint32_t number;     /* what the control file's name says, else the first data file's */
    uint32_t data_count; /* data files that are in */
    struct lpr_early_file *early;
};

struct lpr_jobs {
    uint32_t count;
    struct lpr_job *jobs[LPR_JOBS_PENDING_MAX]; /* in the order of their first file */
};

/* A job without any file, which the first file of the connection will take; NULL: no memory, or too
 * many jobs. */
struct lpr_job *lpr_jobs_add(struct lpr_jobs *jobs);
/* The job that a data file belongs to, made when there is none. NULL as above. */
struct lpr_job *lpr_jobs_for_data(struct lpr_jobs *jobs, const struct lpr_file *file);
/* The same for a control file that was read. */
struct lpr_job *lpr_jobs_for_control(struct lpr_jobs *jobs, const struct lpr_file *file,
                                     const struct lpr_control *control);
/* A data file is in. False: no memory. */
bool lpr_job_data_is_here(struct lpr_job *job, const struct lpr_file *file);
/* The control file is in; the job owns `control` from now on. */
void lpr_job_control_is_here(struct lpr_job *job, const struct lpr_file *file,
                             struct lpr_control *control);
/* No file of it is in. */
bool lpr_job_is_empty(const struct lpr_job *job);
/* The control file and all data files that it lists are in. */
bool lpr_job_is_complete(const struct lpr_job *job);
/* The source name that the control file gives to a data file, "" when it gives none. */
const char *lpr_job_source(const struct lpr_job *job, const char *name);
/* Takes a job out of the collection and gives it to the caller. */
void lpr_jobs_remove(struct lpr_jobs *jobs, struct lpr_job *job);
/* Frees a job that is in no collection, and abandons its intake. */
void lpr_job_free(struct lpr_job *job);
/* Frees all jobs. */
void lpr_jobs_clear(struct lpr_jobs *jobs);

#endif
