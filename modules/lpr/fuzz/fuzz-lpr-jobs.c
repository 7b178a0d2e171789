/* SPDX-License-Identifier: Apache-2.0 */
/* However a client orders and names its files: each data file is in one job, a job that lists its files
 * is complete when so many are in, and no connection collects more than it may. One line an event: a
 * subcommand, and behind "|" what its control file lists. */
#include <stdlib.h>
#include <string.h>

#include "modules/lpr/lpr-jobs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
    if (!truth)
        abort();
}

static void commit_if_complete(struct lpr_jobs *jobs, struct lpr_job *job)
{
    if (!lpr_job_is_complete(job))
        return;
    must(job->data_count >= job->control->file_count);
    lpr_jobs_remove(jobs, job);
    lpr_job_free(job);
}

static void data_comes(struct lpr_jobs *jobs, const struct lpr_file *file)
{
    struct lpr_job *job = lpr_jobs_for_data(jobs, file);
    if (job == NULL) {
        must(jobs->count == LPR_JOBS_PENDING_MAX);
        return;
    }
    uint32_t before = job->data_count;
    if (before == LPR_FILES_MAX)
        return;
    must(!lpr_job_is_complete(job));
    must(lpr_job_data_is_here(job, file));
    must(job->data_count == before + 1);
    must(!job->has_number || job->number <= 999);
    commit_if_complete(jobs, job);
}

static void control_comes(struct lpr_jobs *jobs, const struct lpr_file *file, const uint8_t *text,
                          size_t length)
{
    struct lpr_control *control = calloc(1, sizeof *control);
    must(control != NULL);
    struct lpr_job *job = lpr_control_parse(text, length, control) == IMP_OK
                              ? lpr_jobs_for_control(jobs, file, control)
                              : NULL;
    if (job == NULL) {
        lpr_control_clear(control);
        free(control);
        return;
    }
    must(job->control == NULL);
    lpr_job_control_is_here(job, file, control);
    must(job->early == NULL);
    commit_if_complete(jobs, job);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lpr_jobs jobs = {0};
    must(lpr_jobs_add(&jobs) != NULL);
    for (size_t at = 0; at < size;) {
        struct lpr_file file;
        const uint8_t *line = data + at;
        const uint8_t *feed = memchr(line, '\0', size - at); /* lists hold line ends */
        size_t length = feed == NULL ? size - at : (size_t)(feed - line);
        at += length + 1;
        const uint8_t *bar = memchr(line, '|', length);
        size_t name_length = bar == NULL ? length : (size_t)(bar - line);
        if (name_length > LPR_LINE_MAX || lpr_file_parse(line, name_length, &file) != IMP_OK)
            continue;
        if (file.code == LPR_ABORT_JOB)
            lpr_jobs_clear(&jobs);
        else if (file.code == LPR_DATA_FILE)
            data_comes(&jobs, &file);
        else
            control_comes(&jobs, &file, line + name_length, length - name_length);
        must(jobs.count <= LPR_JOBS_PENDING_MAX);
    }
    lpr_jobs_clear(&jobs);
    return 0;
}
