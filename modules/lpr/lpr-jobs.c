/* SPDX-License-Identifier: Apache-2.0 */
/* lpr-jobs.c - which file belongs to which job of a connection. */
#include "lpr-jobs.h"

#include <stdlib.h>
#include <string.h>

#define KEY_START 3 /* "cfA", "dfB": what follows is the job's number and host */

/* How surely a file belongs to a job; the surest job gets it, of equal ones the first. */
enum fit {
    FIT_NOT,
    FIT_ORDER,       /* only because it came in that order */
    FIT_NUMBER,      /* same number; hosts are cut at different lengths */
    FIT_KEY,         /* same number and host */
    FIT_KEY_AWAITED, /* and the job's control file is waiting for data */
    FIT_LISTED,      /* the control file names the data file */
};

/* ---- names ---- */

static const char *key_of(const struct lpr_file *file)
{
    return file->has_number ? file->name + KEY_START : NULL;
}

static bool is_same_key(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static struct lpr_listed *find_listed(const struct lpr_control *control, const char *name)
{
    for (uint32_t i = 0; control != NULL && i < control->file_count; i++)
        if (strcmp(control->files[i].name, name) == 0)
            return &control->files[i];
    return NULL;
}

static bool has_early(const struct lpr_job *job, const char *name)
{
    const struct lpr_early_file *early = job->early;
    while (early != NULL && strcmp(early->name, name) != 0)
        early = early->next;
    return early != NULL;
}

/* ---- life of a job ---- */

static void wiped_free(char *text)
{
    if (text != NULL)
        imp_wipe(text, strlen(text));
    free(text);
}

static void early_free(struct lpr_job *job)
{
    while (job->early != NULL) {
        struct lpr_early_file *next = job->early->next;
        imp_wipe(job->early->name, strlen(job->early->name));
        free(job->early);
        job->early = next;
    }
}

void lpr_job_free(struct lpr_job *job)
{
    if (job == NULL)
        return;
    if (job->intake != NULL)
        imp_intake_abandon(job->intake);
    if (job->control != NULL)
        lpr_control_clear(job->control);
    free(job->control);
    early_free(job);
    wiped_free(job->key);
    free(job);
}

struct lpr_job *lpr_jobs_add(struct lpr_jobs *jobs)
{
    struct lpr_job *job = jobs->count < LPR_JOBS_PENDING_MAX ? calloc(1, sizeof *job) : NULL;
    if (job != NULL)
        jobs->jobs[jobs->count++] = job;
    return job;
}

void lpr_jobs_remove(struct lpr_jobs *jobs, struct lpr_job *job)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < jobs->count; i++)
        if (jobs->jobs[i] != job)
            jobs->jobs[kept++] = jobs->jobs[i];
    jobs->count = kept;
}

void lpr_jobs_clear(struct lpr_jobs *jobs)
{
    for (uint32_t i = 0; i < jobs->count; i++)
        lpr_job_free(jobs->jobs[i]);
    jobs->count = 0;
}

/* ---- which job ---- */

bool lpr_job_is_empty(const struct lpr_job *job)
{
    return job->control == NULL && job->data_count == 0;
}

bool lpr_job_is_complete(const struct lpr_job *job)
{
    return job->control != NULL && job->data_count > 0 &&
           job->data_count >= job->control->file_count;
}

static enum fit data_fit(const struct lpr_job *job, const struct lpr_file *file)
{
    const char *key = key_of(file);
    const struct lpr_listed *listed = find_listed(job->control, file->name);
    if (listed != NULL && !listed->is_here)
        return FIT_LISTED;
    if (lpr_job_is_empty(job))
        return FIT_ORDER;
    if (job->control != NULL) {
        if (lpr_job_is_complete(job))
            return FIT_NOT;
        return key != NULL && is_same_key(job->key, key) ? FIT_KEY_AWAITED : FIT_ORDER;
    }
    /* Number and host are the same, but a job has no file twice: the client counts badly. Names of no
     * known form say nothing about that. */
    if (!is_same_key(job->key, key) || (key != NULL && has_early(job, file->name)))
        return FIT_NOT;
    return FIT_KEY;
}

static enum fit control_fit(const struct lpr_job *job, const struct lpr_file *file,
                            const struct lpr_control *control)
{
    if (job->control != NULL)
        return FIT_NOT;
    for (const struct lpr_early_file *early = job->early; early != NULL; early = early->next)
        if (find_listed(control, early->name) != NULL)
            return FIT_LISTED;
    if (!file->has_number || lpr_job_is_empty(job))
        return FIT_ORDER;
    if (is_same_key(job->key, key_of(file)))
        return FIT_KEY;
    return job->has_number && job->number == file->number ? FIT_NUMBER : FIT_ORDER;
}

struct lpr_job *lpr_jobs_for_data(struct lpr_jobs *jobs, const struct lpr_file *file)
{
    struct lpr_job *best = NULL;
    enum fit best_fit = FIT_NOT;
    for (uint32_t i = 0; i < jobs->count; i++) {
        enum fit fit = data_fit(jobs->jobs[i], file);
        if (fit > best_fit) {
            best = jobs->jobs[i];
            best_fit = fit;
        }
    }
    return best != NULL ? best : lpr_jobs_add(jobs);
}

struct lpr_job *lpr_jobs_for_control(struct lpr_jobs *jobs, const struct lpr_file *file,
                                     const struct lpr_control *control)
{
    struct lpr_job *best = NULL;
    enum fit best_fit = FIT_NOT;
    for (uint32_t i = 0; i < jobs->count; i++) {
        enum fit fit = control_fit(jobs->jobs[i], file, control);
        if (fit > best_fit) {
            best = jobs->jobs[i];
            best_fit = fit;
        }
    }
    return best != NULL ? best : lpr_jobs_add(jobs);
}

/* ---- files that are here ---- */

/* Marks the listed file that a data file is: by name, else the next one that is not here. */
static void mark_here(struct lpr_control *control, const char *name)
{
    struct lpr_listed *listed = find_listed(control, name);
    for (uint32_t i = 0; i < control->file_count && (listed == NULL || listed->is_here); i++)
        listed = &control->files[i];
    if (listed != NULL)
        listed->is_here = true;
}

bool lpr_job_data_is_here(struct lpr_job *job, const struct lpr_file *file)
{
    if (job->control == NULL) {
        size_t length = strlen(file->name);
        struct lpr_early_file *early = malloc(sizeof *early + length + 1);
        if (early == NULL)
            return false;
        memcpy(early->name, file->name, length + 1);
        early->next = job->early;
        job->early = early;
    } else {
        mark_here(job->control, file->name);
    }
    if (!job->has_number && file->has_number) {
        if ((job->key = strdup(key_of(file))) == NULL)
            return false;
        job->has_number = true;
        job->number = file->number;
    }
    job->data_count++;
    return true;
}

void lpr_job_control_is_here(struct lpr_job *job, const struct lpr_file *file,
                             struct lpr_control *control)
{
    job->control = control;
    if (file->has_number) {
        char *key = strdup(key_of(file));
        if (key != NULL) { /* else the name counts no more than any other */
            wiped_free(job->key);
            job->key = key;
        }
        job->has_number = true;
        job->number = file->number;
    }
    for (const struct lpr_early_file *early = job->early; early != NULL; early = early->next)
        mark_here(control, early->name);
    early_free(job);
}

const char *lpr_job_source(const struct lpr_job *job, const char *name)
{
    const struct lpr_listed *listed = find_listed(job->control, name);
    return listed == NULL ? "" : listed->source;
}
