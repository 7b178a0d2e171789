/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-files.c - what becomes of the files that a connection brings.
 *
 * A job is complete when its control file is in and every data file that it lists; then it is
 * committed, and the octet of the file that completed it waits for the commit.
 */
#include "lpr-session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the door ---- */

static imp_status intake_open(struct lpr_session *session, int64_t expected, struct lpr_job *job,
                              imp_error *error)
{
    return imp_upload_begin(&session->upload, session->queue, "lpr", expected, &job->intake, error);
}

/* The queue that a name stands for: itself, or the default where there is no such queue. */
static imp_status find_queue(struct lpr_session *session, const char *name, imp_error *error)
{
    const struct lpr_conf *conf = session->lpr->conf;
    imp_queue queue = {.size = sizeof queue};
    /* Without a default the door looks it up by itself. */
    if (conf->queue_default[0] == '\0' && name[0] != '\0') {
        snprintf(session->queue, sizeof session->queue, "%s", name);
        return IMP_OK;
    }
    imp_status status =
        name[0] != '\0' ? imp_queue_find(session->lpr->self, name, &queue) : IMP_NOT_FOUND;
    if (status == IMP_NOT_FOUND && conf->queue_default[0] != '\0')
        status = imp_queue_find(session->lpr->self, conf->queue_default, &queue);
    snprintf(session->queue, sizeof session->queue, "%s", queue.name);
    return status == IMP_OK ? IMP_OK : imp_error_set(error, status, "no such queue");
}

bool lpr_files_open_door(struct lpr_session *session, const char *name)
{
    imp_error error;
    imp_status status = find_queue(session, name, &error);
    if (status == IMP_OK) {
        /* Space, limits and the rate of this source are asked by opening the first job's intake. */
        struct lpr_job *job = lpr_jobs_add(&session->jobs);
        status = job == NULL ? imp_error_set(&error, IMP_LIMIT, "out of memory")
                             : intake_open(session, -1, job, &error);
    }
    if (status != IMP_OK)
        lpr_session_refuse(session, lpr_session_octet(status),
                           status == IMP_NOT_FOUND ? "queue" : "door", &error);
    return status == IMP_OK;
}

/* ---- the commit ---- */

static void commit_done(imp_status status, const imp_job_result *result, const imp_error *error,
                        void *arg)
{
    static const uint8_t yes = LPR_ANSWER_YES;
    struct lpr_session *session = arg;
    struct lpr *lpr = session->lpr;
    if (status == IMP_OK) {
        imp_metric_add(result->is_retry ? lpr->retries : lpr->jobs, 1);
        session->jobs_left--;
    }
    if (session->upload.stream == NULL)
        return;
    if (status != IMP_OK) {
        lpr_session_refuse(session, lpr_session_octet(status), "commit", error);
        return;
    }
    imp_upload_acknowledge(&session->upload, result, &yes, 1);
    session->state = LPR_STATE_SUBCOMMAND;
    lpr_session_process(session);
}

/* Copies are the number of lines that ask for a file. A ticket has one number for the whole job: where
 * files differ it is the largest, so that nothing that was asked for is missing. */
static uint32_t job_copies(const struct lpr_control *control)
{
    uint32_t copies = 1;
    for (uint32_t i = 0; control != NULL && i < control->file_count; i++)
        if (control->files[i].copies > copies)
            copies = control->files[i].copies;
    return copies;
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

/* The octet of the file that has just come is left to the commit. */
static void job_commit(struct lpr_session *session, struct lpr_job *job)
{
    const struct lpr_control *control = job->control;
    imp_job_attributes attributes = {
        .size = sizeof attributes, .has_lpd_number = job->has_number, .lpd_number = job->number};
    if (control != NULL) {
        attributes.user_name = or_null(control->user);
        attributes.host_name = or_null(control->host);
        attributes.job_name = or_null(control->job_name);
        if (attributes.job_name == NULL && control->file_count > 0)
            attributes.job_name = or_null(control->files[0].source);
    }
    char number[12];
    uint32_t copies = job_copies(control);
    imp_ticket_value asked[] = {{IMP_TICKET_CLIENT, "copies", number, "lpr"}};
    if (copies > 1) {
        snprintf(number, sizeof number, "%u", copies);
        attributes.ticket = (imp_ticket){asked, 1};
    }
    char submission[64 + LPR_QUEUE_MAX];
    if (job->has_number) {
        int length =
            snprintf(submission, sizeof submission, "lpr %s %03u %s",
                     imp_stream_peer(session->upload.stream)->address, job->number, session->queue);
        attributes.submission = (imp_bytes){submission, (size_t)length};
    }
    imp_intake *intake = job->intake;
    job->intake = NULL;
    session->state = LPR_STATE_COMMITTING;
    imp_upload_commit(&session->upload, intake, &attributes, commit_done);
    lpr_jobs_remove(&session->jobs, job);
    lpr_job_free(job);
}

/* A file is in, and the job that it belongs to knows. */
static void file_is_here(struct lpr_session *session, struct lpr_job *job, bool ends_connection)
{
    if (lpr_job_is_complete(job) || ends_connection) {
        job_commit(session, job);
        return;
    }
    session->state = LPR_STATE_SUBCOMMAND;
    lpr_session_answer(session, LPR_ANSWER_YES);
}

/* ---- data files ---- */

bool lpr_files_data_begin(struct lpr_session *session, imp_error *error)
{
    const struct lpr_file *file = &session->file;
    struct lpr_job *job = lpr_jobs_for_data(&session->jobs, file);
    int64_t expected = file->size_kind == LPR_SIZE_KNOWN ? (int64_t)file->size : -1;
    if (job == NULL || job->data_count == LPR_FILES_MAX) {
        imp_error_set(error, IMP_LIMIT, "too many files for one job, or jobs on one connection");
        return false;
    }
    if (job->intake == NULL && intake_open(session, expected, job, error) != IMP_OK)
        return false;
    imp_document_options document = {.size = sizeof document,
                                     .name = or_null(lpr_job_source(job, file->name)),
                                     .expected_size = expected};
    session->target = job;
    return imp_intake_document(job->intake, &document, error) == IMP_OK;
}

bool lpr_files_data_write(struct lpr_session *session, const void *data, size_t length)
{
    imp_error error;
    imp_status status =
        imp_upload_write(&session->upload, session->target->intake, data, length, &error);
    if (status != IMP_OK)
        lpr_session_refuse(session, lpr_session_octet(status), "spool", &error);
    return status == IMP_OK;
}

void lpr_files_data_end(struct lpr_session *session)
{
    struct lpr_job *job = session->target;
    imp_error error;
    imp_status status = imp_upload_document_end(&session->upload, job->intake, &error);
    if (status == IMP_OK && !lpr_job_data_is_here(job, &session->file))
        status = imp_error_set(&error, IMP_LIMIT, "out of memory");
    if (status != IMP_OK) {
        lpr_session_refuse(session, lpr_session_octet(status), "spool", &error);
        return;
    }
    session->target = NULL;
    file_is_here(session, job, session->state == LPR_STATE_DATA_STREAM);
}

/* ---- control files ---- */

bool lpr_files_control_begin(struct lpr_session *session, imp_error *error)
{
    const struct lpr_conf *conf = session->lpr->conf;
    if (session->file.size_kind != LPR_SIZE_KNOWN ||
        session->file.size > (uint64_t)conf->control_max) {
        imp_error_set(error, IMP_LIMIT, "a control file has 1 to %d bytes", (int)conf->control_max);
        return false;
    }
    session->control_text = malloc((size_t)session->file.size);
    session->control_length = 0;
    if (session->control_text == NULL)
        imp_error_set(error, IMP_LIMIT, "out of memory");
    return session->control_text != NULL;
}

void lpr_files_control_drop(struct lpr_session *session)
{
    if (session->control_text != NULL)
        imp_wipe(session->control_text, session->control_length);
    free(session->control_text);
    session->control_text = NULL;
}

void lpr_files_control_end(struct lpr_session *session)
{
    struct lpr_control *control = calloc(1, sizeof *control);
    struct lpr_job *job = NULL;
    imp_error error;
    imp_status status = control == NULL ? IMP_LIMIT
                                        : lpr_control_parse(session->control_text,
                                                            session->control_length, control);
    lpr_files_control_drop(session);
    if (status == IMP_OK) {
        job = lpr_jobs_for_control(&session->jobs, &session->file, control);
        status = job == NULL ? IMP_LIMIT : IMP_OK;
    }
    if (status != IMP_OK) {
        if (control != NULL)
            lpr_control_clear(control);
        free(control);
        imp_error_set(&error, status, "the control file can't be used");
        lpr_session_refuse(session, lpr_session_octet(status), "control-file", &error);
        return;
    }
    lpr_job_control_is_here(job, &session->file, control);
    file_is_here(session, job, false);
}
