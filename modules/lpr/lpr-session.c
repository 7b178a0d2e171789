/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-session.c - one connection: commands, files, and the octets that answer them.
 *
 * A connection collects jobs. A job is complete when its control file is in and every data file that
 * it lists; then it is committed, and the octet of the file that completed it waits for the commit.
 * All other octets promise nothing. What is not complete when the connection ends leaves nothing,
 * with one exception: a file of unknown size ends by closing, and its job is then committed with what
 * is known.
 */
#include "lpr.h"

#include <imprimatur/log.h>
#include <imprimatur/service.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_YES 0
#define ANSWER_NO 1    /* RFC 1179 section 3: any other octet than zero refuses */
#define ANSWER_RETRY 2 /* what BSD's lpd says for "no room now" */

#define REFUSALS_LOG_MS 10000

enum session_state {
    STATE_COMMAND,     /* the connection's first line */
    STATE_SUBCOMMAND,  /* after command 02 */
    STATE_CONTROL,     /* bytes of a control file */
    STATE_DATA,        /* bytes of a data file of known size */
    STATE_DATA_EMPTY,  /* a data file of size 0: empty or unknown? */
    STATE_DATA_STREAM, /* bytes of a data file up to the end of the connection */
    STATE_FILE_END,    /* the NUL behind a file */
    STATE_COMMITTING,  /* waits for the commit */
    STATE_ANSWERED,    /* nothing more is read */
};

/* A job that is being collected; slot i of a session. */
struct pending_job {
    imp_intake *intake; /* from the first data file on */
    struct lpr_control *control;
    bool has_number;
    uint32_t number;
    uint32_t data_count; /* data files that are in */
    uint64_t data_bytes;
    struct {
        char name[LPR_FILE_NAME_MAX];
    } data[LPR_FILES_MAX];
};

struct session {
    struct lpr *lpr;
    imp_stream *stream; /* NULL once it has closed */
    enum session_state state;
    char queue[LPR_QUEUE_MAX];
    int64_t jobs_left;
    struct pending_job *jobs[LPR_JOBS_PENDING_MAX];
    uint32_t job_count;
    struct lpr_file file;       /* the one that is coming */
    struct pending_job *target; /* whose data file is coming */
    uint64_t file_left;
    uint8_t *control_text; /* the control file that is coming */
    size_t control_length;
    bool has_ended;     /* the peer has sent all it will */
    bool is_paused;     /* the spool can't take more */
    bool is_answer_due; /* of the commit under way */
    uint32_t commits;   /* under way */
    imp_timer *empty_timer;
    struct lpr_removal *removal;
    struct lpr_query *query;
};

static void session_process(struct session *session);

/* ---- jobs of a session ---- */

static void job_free(struct pending_job *job)
{
    if (job == NULL)
        return;
    if (job->intake != NULL)
        imp_intake_abandon(job->intake);
    if (job->control != NULL)
        imp_wipe(job->control, sizeof *job->control);
    free(job->control);
    free(job);
}

static void job_remove(struct session *session, struct pending_job *job)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < session->job_count; i++)
        if (session->jobs[i] != job)
            session->jobs[kept++] = session->jobs[i];
    session->job_count = kept;
    if (session->target == job)
        session->target = NULL;
}

static struct pending_job *job_add(struct session *session)
{
    if (session->job_count == LPR_JOBS_PENDING_MAX)
        return NULL;
    struct pending_job *job = calloc(1, sizeof *job);
    if (job != NULL)
        session->jobs[session->job_count++] = job;
    return job;
}

static bool job_wants(const struct pending_job *job, const char *name)
{
    for (uint32_t i = 0; job->control != NULL && i < job->control->file_count; i++)
        if (!job->control->files[i].is_here && strcmp(job->control->files[i].name, name) == 0)
            return true;
    return false;
}

static bool job_is_complete(const struct pending_job *job)
{
    return job->control != NULL && job->data_count > 0 &&
           job->data_count >= job->control->file_count;
}

/* The job that a data file belongs to: the one that lists its name; else the first that still waits
 * for data (numbers and hosts in names need not match); else a job whose control file is yet to
 * come. */
static struct pending_job *job_for_data(struct session *session, const char *name)
{
    for (uint32_t i = 0; i < session->job_count; i++)
        if (job_wants(session->jobs[i], name))
            return session->jobs[i];
    for (uint32_t i = 0; i < session->job_count; i++)
        if (!job_is_complete(session->jobs[i]))
            return session->jobs[i];
    return job_add(session);
}

/* The job that a control file belongs to: one whose data came first, else a new one. */
static struct pending_job *job_for_control(struct session *session)
{
    for (uint32_t i = 0; i < session->job_count; i++)
        if (session->jobs[i]->control == NULL)
            return session->jobs[i];
    return job_add(session);
}

/* Marks the listed file that a data file is: by name, else the next one that is not here. */
static void job_mark_here(struct pending_job *job, const char *name)
{
    struct lpr_control *control = job->control;
    struct lpr_listed *listed = NULL;
    for (uint32_t i = 0; i < control->file_count && listed == NULL; i++)
        if (!control->files[i].is_here && strcmp(control->files[i].name, name) == 0)
            listed = &control->files[i];
    for (uint32_t i = 0; i < control->file_count && listed == NULL; i++)
        if (!control->files[i].is_here)
            listed = &control->files[i];
    if (listed != NULL)
        listed->is_here = true;
}

/* ---- ending ---- */

static void session_free(struct session *session)
{
    imp_timer_cancel(session->empty_timer);
    for (uint32_t i = 0; i < session->job_count; i++)
        job_free(session->jobs[i]);
    if (session->control_text != NULL)
        imp_wipe(session->control_text, session->control_length);
    free(session->control_text);
    imp_unpin(session->lpr->self, "connection");
    free(session);
}

/* True when the system has taken the octet. */
static bool answer(struct session *session, uint8_t octet)
{
    return session->stream != NULL && imp_stream_write(session->stream, &octet, 1) == IMP_OK &&
           imp_stream_output_pending(session->stream) == 0;
}

/* Says no, drops everything, and lets the connection go once the octet is out. */
static void refuse(struct session *session, uint8_t octet, const char *reason,
                   const imp_error *error)
{
    imp_metric_add(session->lpr->refused, 1);
    imp_log_limited(session->lpr->self, REFUSALS_LOG_MS, IMP_LOG_NOTICE, "lpr.refused",
                    "reason=%s status=%s", reason,
                    error == NULL ? "invalid" : imp_status_name(error->status));
    for (uint32_t i = 0; i < session->job_count; i++)
        job_free(session->jobs[i]);
    session->job_count = 0;
    session->target = NULL;
    session->state = STATE_ANSWERED;
    answer(session, octet);
    if (session->stream != NULL)
        imp_stream_close(session->stream);
}

static uint8_t octet_for(imp_status status)
{
    return status == IMP_NO_SPACE || status == IMP_BUSY || status == IMP_LIMIT ? ANSWER_RETRY
                                                                               : ANSWER_NO;
}

/* ---- committing ---- */

struct commit {
    struct session *session;
    struct lpr *lpr;
    char copies[12];
    imp_ticket_value values[1];
    char submission[64 + LPR_QUEUE_MAX];
};

/* The octet is out: the retry of a submission that looks the same is a new job from now on. */
static void commit_done(imp_status status, const imp_job_result *result, const imp_error *error,
                        void *arg)
{
    struct commit *commit = arg;
    struct session *session = commit->session;
    struct lpr *lpr = commit->lpr;
    free(commit);
    session->commits--;
    if (status == IMP_OK) {
        imp_metric_add(result->is_retry ? lpr->retries : lpr->jobs, 1);
        session->jobs_left--;
    }
    if (session->stream == NULL) {
        if (session->commits == 0)
            session_free(session);
        return;
    }
    if (status != IMP_OK) {
        refuse(session, octet_for(status), "commit", error);
        return;
    }
    if (session->is_answer_due) {
        session->is_answer_due = false;
        if (answer(session, ANSWER_YES))
            imp_job_acknowledged(lpr->self, &result->id);
    }
    session->state = STATE_SUBCOMMAND;
    session_process(session);
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

static void job_commit(struct session *session, struct pending_job *job)
{
    struct commit *commit = calloc(1, sizeof *commit);
    const struct lpr_control *control = job->control;
    imp_error error;
    if (commit == NULL) {
        imp_error_set(&error, IMP_LIMIT, "out of memory");
        refuse(session, ANSWER_RETRY, "memory", &error);
        return;
    }
    commit->session = session;
    commit->lpr = session->lpr;
    imp_job_attributes attributes = {
        .size = sizeof attributes, .has_lpd_number = job->has_number, .lpd_number = job->number};
    if (control != NULL) {
        attributes.user_name = control->user[0] != '\0' ? control->user : NULL;
        attributes.host_name = control->host[0] != '\0' ? control->host : NULL;
        attributes.job_name = control->job_name[0] != '\0' ? control->job_name
                              : control->file_count > 0 && control->files[0].source[0] != '\0'
                                  ? control->files[0].source
                                  : NULL;
    }
    uint32_t copies = job_copies(control);
    if (copies > 1) {
        snprintf(commit->copies, sizeof commit->copies, "%u", copies);
        commit->values[0] = (imp_ticket_value){IMP_TICKET_CLIENT, "copies", commit->copies, "lpr"};
        attributes.ticket = (imp_ticket){commit->values, 1};
    }
    if (job->has_number) {
        int length =
            snprintf(commit->submission, sizeof commit->submission, "lpr %s %03u %s",
                     imp_stream_peer(session->stream)->address, job->number, session->queue);
        attributes.submission = (imp_bytes){commit->submission, (size_t)length};
    }
    imp_intake *intake = job->intake;
    job->intake = NULL;
    session->state = STATE_COMMITTING;
    session->commits++;
    job_remove(session, job);
    imp_intake_commit(intake, &attributes, commit_done, commit);
    job_free(job);
}

/* ---- data ---- */

/* The spool has room again. */
static void spool_ready(void *arg)
{
    struct session *session = arg;
    if (!session->is_paused || session->stream == NULL)
        return;
    session->is_paused = false;
    imp_stream_resume(session->stream);
    session_process(session);
}

static bool data_begin(struct session *session, imp_error *error)
{
    struct pending_job *job = job_for_data(session, session->file.name);
    int64_t expected = session->file.size_kind == LPR_SIZE_KNOWN ? (int64_t)session->file.size : -1;
    if (job == NULL || job->data_count == LPR_FILES_MAX) {
        imp_error_set(error, IMP_LIMIT, "too many files for one job, or jobs on one connection");
        return false;
    }
    if (job->intake == NULL) {
        imp_intake_options options = {.size = sizeof options,
                                      .queue = session->queue,
                                      .protocol = "lpr",
                                      .address = imp_stream_peer(session->stream)->address,
                                      .expected_size = expected,
                                      .ready = spool_ready,
                                      .arg = session};
        if (imp_intake_begin(session->lpr->self, &options, &job->intake, error) != IMP_OK)
            return false;
    }
    imp_document_options document = {.size = sizeof document, .expected_size = expected};
    for (uint32_t i = 0; job->control != NULL && i < job->control->file_count; i++)
        if (strcmp(job->control->files[i].name, session->file.name) == 0 &&
            job->control->files[i].source[0] != '\0')
            document.name = job->control->files[i].source;
    if (!job->has_number) {
        job->has_number = session->file.has_number;
        job->number = session->file.number;
    }
    session->target = job;
    return imp_intake_document(job->intake, &document, error) == IMP_OK;
}

/* Hands bytes to the spool; false when the intake has failed. */
static bool data_write(struct session *session, const void *data, size_t length)
{
    imp_error error;
    imp_status status = imp_intake_write(session->target->intake, data, length, &error);
    session->target->data_bytes += length;
    if (status == IMP_BUSY) {
        session->is_paused = true;
        imp_stream_pause(session->stream);
    } else if (status != IMP_OK) {
        refuse(session, octet_for(status), "spool", &error);
        return false;
    }
    return true;
}

/* A data file is in. Answers it, or leaves that to the commit that it completes. */
static void data_end(struct session *session)
{
    struct pending_job *job = session->target;
    /* Its last bytes may have filled the spool's buffers. What was to be awaited goes with the
     * document, and `ready` may never come: without this nothing would be read any more. */
    if (session->is_paused) {
        session->is_paused = false;
        imp_stream_resume(session->stream);
    }
    imp_error error;
    imp_status status = imp_intake_document_end(job->intake, &error);
    if (status != IMP_OK) {
        refuse(session, octet_for(status), "spool", &error);
        return;
    }
    snprintf(job->data[job->data_count++].name, LPR_FILE_NAME_MAX, "%s", session->file.name);
    session->target = NULL;
    if (job->control != NULL)
        job_mark_here(job, session->file.name);
    bool ends_connection = session->state == STATE_DATA_STREAM;
    if (job_is_complete(job) || ends_connection) {
        session->is_answer_due = true;
        job_commit(session, job);
        return;
    }
    session->state = STATE_SUBCOMMAND;
    answer(session, ANSWER_YES);
}

/* ---- control files ---- */

static bool control_begin(struct session *session, imp_error *error)
{
    const struct lpr_conf *conf = session->lpr->conf;
    if (session->file.size_kind != LPR_SIZE_KNOWN ||
        session->file.size > (uint64_t)conf->control_max) {
        imp_error_set(error, IMP_LIMIT, "a control file has 1 to %d bytes", (int)conf->control_max);
        return false;
    }
    session->control_text = malloc((size_t)session->file.size);
    session->control_length = 0;
    return session->control_text != NULL;
}

static void control_drop(struct session *session)
{
    imp_wipe(session->control_text, session->control_length);
    free(session->control_text);
    session->control_text = NULL;
}

static void control_end(struct session *session)
{
    imp_error error;
    struct lpr_control *control = malloc(sizeof *control);
    struct pending_job *job = job_for_control(session);
    imp_status status = control == NULL || job == NULL ? IMP_LIMIT : IMP_OK;
    if (status == IMP_OK)
        status = lpr_control_parse(session->control_text, session->control_length, control);
    control_drop(session);
    if (status != IMP_OK) {
        free(control);
        imp_error_set(&error, status, "the control file can't be used");
        refuse(session, octet_for(status), "control-file", &error);
        return;
    }
    job->control = control;
    if (session->file.has_number) {
        job->has_number = true;
        job->number = session->file.number;
    }
    for (uint32_t i = 0; i < job->data_count; i++)
        job_mark_here(job, job->data[i].name);
    if (job_is_complete(job)) {
        session->is_answer_due = true;
        job_commit(session, job);
        return;
    }
    session->state = STATE_SUBCOMMAND;
    answer(session, ANSWER_YES);
}

/* ---- commands ---- */

/* True when the queue can be printed to, asked at subcommand 02, where a client still listens. */
static bool queue_accepts(struct session *session, const char *name)
{
    const struct lpr_conf *conf = session->lpr->conf;
    imp_queue queue = {.size = sizeof queue};
    imp_error error;
    imp_status status =
        name[0] != '\0' ? imp_queue_find(session->lpr->self, name, &queue) : IMP_NOT_FOUND;
    if (status == IMP_NOT_FOUND && conf->queue_default[0] != '\0')
        status = imp_queue_find(session->lpr->self, conf->queue_default, &queue);
    if (status != IMP_OK) {
        imp_error_set(&error, status, "no such queue");
        refuse(session, octet_for(status), "queue", &error);
        return false;
    }
    snprintf(session->queue, sizeof session->queue, "%s", queue.name);
    /* Space, limits and the rate of this source are asked by opening an intake and dropping it. */
    imp_intake_options options = {.size = sizeof options,
                                  .queue = session->queue,
                                  .protocol = "lpr",
                                  .address = imp_stream_peer(session->stream)->address,
                                  .expected_size = -1,
                                  .ready = spool_ready,
                                  .arg = session};
    struct pending_job *job = job_add(session);
    status = job == NULL ? IMP_LIMIT
                         : imp_intake_begin(session->lpr->self, &options, &job->intake, &error);
    if (status != IMP_OK) {
        refuse(session, octet_for(status), "door", &error);
        return false;
    }
    return true;
}

static void command_run(struct session *session, const struct lpr_command *command)
{
    struct lpr *lpr = session->lpr;
    switch (command->code) {
    case LPR_PRINT_WAITING: /* nothing waits for being asked (RFC 1179 section 5.1) */
        session->state = STATE_ANSWERED;
        answer(session, ANSWER_YES);
        imp_stream_close(session->stream);
        break;
    case LPR_RECEIVE_JOB:
        if (queue_accepts(session, command->queue)) {
            session->state = STATE_SUBCOMMAND;
            answer(session, ANSWER_YES);
        }
        break;
    case LPR_REMOVE:
        session->state = STATE_ANSWERED;
        imp_metric_add(lpr->removed, 1);
        session->removal = lpr_remove(lpr, session->stream, command);
        break;
    default:
        session->state = STATE_ANSWERED;
        imp_metric_add(lpr->status_queries, 1);
        session->query = lpr_status(lpr, session->stream, command);
        break;
    }
}

static void empty_file_is_empty(void *arg);

static void subcommand_run(struct session *session)
{
    const struct lpr_conf *conf = session->lpr->conf;
    imp_error error;
    imp_error_set(&error, IMP_LIMIT, "out of memory");
    switch (session->file.code) {
    case LPR_ABORT_JOB: /* RFC 1179 section 6.1 */
        for (uint32_t i = 0; i < session->job_count; i++)
            job_free(session->jobs[i]);
        session->job_count = 0;
        imp_metric_add(session->lpr->aborted, 1);
        answer(session, ANSWER_YES);
        break;
    case LPR_CONTROL_FILE:
        if (!control_begin(session, &error)) {
            refuse(session, octet_for(error.status), "control-size", &error);
            break;
        }
        session->state = STATE_CONTROL;
        session->file_left = session->file.size;
        answer(session, ANSWER_YES);
        break;
    default:
        if (session->jobs_left <= 0) {
            imp_error_set(&error, IMP_LIMIT, "too many jobs on one connection");
            refuse(session, ANSWER_RETRY, "jobs", &error);
            break;
        }
        if (!data_begin(session, &error)) {
            refuse(session, octet_for(error.status), "data", &error);
            break;
        }
        imp_stream_set_deadline(session->stream, conf->upload_timeout);
        session->file_left = session->file.size;
        session->state = session->file.size_kind == LPR_SIZE_KNOWN  ? STATE_DATA
                         : session->file.size_kind == LPR_SIZE_ZERO ? STATE_DATA_EMPTY
                                                                    : STATE_DATA_STREAM;
        answer(session, ANSWER_YES);
        break;
    }
}

/* ---- the machine ---- */

/* Takes a line off the input; false when it is not all there. A line that can't end is refused. */
static bool line_take(struct session *session, uint8_t line[LPR_LINE_MAX], size_t *length)
{
    imp_bytes input = imp_stream_input(session->stream);
    const uint8_t *feed =
        memchr(input.data, '\n', input.length < LPR_LINE_MAX ? input.length : LPR_LINE_MAX);
    if (feed == NULL) {
        if (input.length >= LPR_LINE_MAX)
            refuse(session, ANSWER_NO, "line-length", NULL);
        return false;
    }
    *length = (size_t)(feed - (const uint8_t *)input.data);
    memcpy(line, input.data, *length);
    imp_stream_consume(session->stream, *length + 1);
    return true;
}

static bool step_command(struct session *session)
{
    uint8_t line[LPR_LINE_MAX];
    size_t length;
    imp_bytes input = imp_stream_input(session->stream);
    const uint8_t *first = input.data;
    if (input.length > 0 && (first[0] < LPR_PRINT_WAITING || first[0] > LPR_REMOVE)) {
        refuse(session, ANSWER_NO, "command",
               NULL); /* TLS, HTTP, or noise: no line may ever come */
        return false;
    }
    if (!line_take(session, line, &length))
        return false;
    struct lpr_command *command = malloc(sizeof *command);
    if (command == NULL || lpr_command_parse(line, length, command) != IMP_OK)
        refuse(session, ANSWER_NO, "command", NULL);
    else
        command_run(session, command);
    free(command);
    return session->state == STATE_SUBCOMMAND;
}

static bool step_subcommand(struct session *session)
{
    uint8_t line[LPR_LINE_MAX];
    size_t length;
    imp_bytes input = imp_stream_input(session->stream);
    if (input.length == 0)
        return false;
    const uint8_t *first = input.data;
    if (first[0] == '\0' || first[0] == '\n' || first[0] == '\r') {
        /* PLP ends its files with a lone NUL; others put LF behind the octet of a file */
        imp_stream_consume(session->stream, 1);
        return true;
    }
    if (first[0] > LPR_DATA_FILE) {
        refuse(session, ANSWER_NO, "subcommand", NULL);
        return false;
    }
    if (!line_take(session, line, &length))
        return false;
    if (lpr_file_parse(line, length, &session->file) != IMP_OK) {
        refuse(session, ANSWER_NO, "subcommand", NULL);
        return false;
    }
    subcommand_run(session);
    return session->state != STATE_ANSWERED;
}

static bool step_control(struct session *session)
{
    imp_bytes input = imp_stream_input(session->stream);
    size_t take = input.length < session->file_left ? input.length : (size_t)session->file_left;
    if (take == 0)
        return false;
    memcpy(session->control_text + session->control_length, input.data, take);
    session->control_length += take;
    session->file_left -= take;
    imp_stream_consume(session->stream, take);
    if (session->file_left == 0)
        session->state = STATE_FILE_END;
    return true;
}

static bool step_data(struct session *session)
{
    imp_bytes input = imp_stream_input(session->stream);
    size_t take = input.length < session->file_left ? input.length : (size_t)session->file_left;
    if (take == 0 || session->is_paused)
        return false;
    if (!data_write(session, input.data, take))
        return false;
    session->file_left -= take;
    imp_stream_consume(session->stream, take);
    if (session->file_left == 0)
        session->state = STATE_FILE_END;
    return true;
}

static bool step_data_stream(struct session *session)
{
    imp_bytes input = imp_stream_input(session->stream);
    if (session->is_paused)
        return false;
    if (input.length > 0) {
        /* A client that announced one of the "unknown" numbers and meant it: exactly so many bytes,
         * then the NUL. */
        if (session->file.size_kind == LPR_SIZE_UNTIL_CLOSE && session->file_left == 0 &&
            input.length == 1 && *(const uint8_t *)input.data == '\0') {
            session->state = STATE_FILE_END;
            return true;
        }
        size_t take = input.length;
        if (session->file_left > 0 && take > session->file_left)
            take = (size_t)session->file_left;
        if (!data_write(session, input.data, take))
            return false;
        if (session->file_left > 0)
            session->file_left -= take;
        imp_stream_consume(session->stream, take);
        return true;
    }
    if (!session->has_ended)
        return false;
    data_end(session);
    return false;
}

/* What may follow an empty file: nothing, or the next subcommand ("\002 123 cfA..."). */
static bool looks_like_subcommand(const uint8_t *bytes, size_t length)
{
    if (bytes[0] == LPR_ABORT_JOB)
        return length == 1 || bytes[1] == '\n';
    return (bytes[0] == LPR_CONTROL_FILE || bytes[0] == LPR_DATA_FILE) &&
           (length == 1 || bytes[1] == ' ' || (bytes[1] >= '0' && bytes[1] <= '9'));
}

/* Size 0. The file is empty when a NUL is followed by the end, by a subcommand, or by silence (the
 * client waits for its octet); everything else is data up to the end of the connection. */
static bool step_data_empty(struct session *session)
{
    imp_bytes input = imp_stream_input(session->stream);
    const uint8_t *bytes = input.data;
    bool is_stream = input.length > 0 && bytes[0] != '\0';
    if (input.length ==
        0) /* at the end of the connection: not even the NUL, so an aborted upload */
        return false;
    if (input.length == 1 && bytes[0] == '\0' && !session->has_ended) {
        if (session->empty_timer == NULL)
            session->empty_timer =
                imp_timer_start(session->lpr->self, session->lpr->conf->empty_file_wait, false,
                                empty_file_is_empty, session);
        return false;
    }
    if (input.length > 1 && bytes[0] == '\0')
        is_stream = !looks_like_subcommand(bytes + 1, input.length - 1);
    imp_timer_cancel(session->empty_timer);
    session->empty_timer = NULL;
    session->state = is_stream ? STATE_DATA_STREAM : STATE_FILE_END;
    return true;
}

static void empty_file_is_empty(void *arg)
{
    struct session *session = arg;
    session->empty_timer = NULL;
    if (session->stream == NULL || session->state != STATE_DATA_EMPTY)
        return;
    session->state = STATE_FILE_END;
    session_process(session);
}

/* The octet that a client sends behind a file: zero says that it sent all (RFC 1179 section 6). It may
 * be missing when the connection ends, or when the next subcommand follows at once. */
static bool step_file_end(struct session *session)
{
    imp_bytes input = imp_stream_input(session->stream);
    if (input.length == 0 && !session->has_ended)
        return false;
    if (input.length > 0) {
        uint8_t octet = *(const uint8_t *)input.data;
        if (octet == '\0') {
            imp_stream_consume(session->stream, 1);
        } else if (octet != LPR_CONTROL_FILE && octet != LPR_DATA_FILE) {
            refuse(session, ANSWER_NO, "file-end", NULL);
            return false;
        }
    }
    if (session->file.code == LPR_CONTROL_FILE)
        control_end(session);
    else
        data_end(session);
    return session->state == STATE_SUBCOMMAND;
}

typedef bool (*step_function)(struct session *session);

/* true: the state or the input has changed, go on; false: wait. */
static const step_function steps[] = {
    [STATE_COMMAND] = step_command,
    [STATE_SUBCOMMAND] = step_subcommand,
    [STATE_CONTROL] = step_control,
    [STATE_DATA] = step_data,
    [STATE_DATA_EMPTY] = step_data_empty,
    [STATE_DATA_STREAM] = step_data_stream,
    [STATE_FILE_END] = step_file_end,
    [STATE_COMMITTING] = NULL,
    [STATE_ANSWERED] = NULL,
};

static bool has_work_left(const struct session *session)
{
    return session->state == STATE_COMMITTING || session->commits > 0 || session->is_paused ||
           session->removal != NULL || session->query != NULL;
}

static void session_process(struct session *session)
{
    while (session->stream != NULL && steps[session->state] != NULL &&
           steps[session->state](session))
        ;
    /* All that will come is here and nothing can be made of the rest. */
    if (session->stream != NULL && session->has_ended && !has_work_left(session) &&
        session->state != STATE_ANSWERED) {
        bool is_midway = session->state != STATE_SUBCOMMAND && session->state != STATE_COMMAND;
        if (is_midway)
            imp_metric_add(session->lpr->aborted, 1);
        session->state = STATE_ANSWERED;
        imp_stream_close(session->stream);
    }
}

/* ---- events of the stream ---- */

static void on_readable(imp_stream *stream, void *arg)
{
    struct session *session = arg;
    if (session->state ==
        STATE_ANSWERED) /* the answer is out, or on its way: take it and forget it */
        imp_stream_consume(stream, imp_stream_input(stream).length);
    else
        session_process(session);
}

static void on_ended(imp_stream *stream, void *arg)
{
    struct session *session = arg;
    (void)stream;
    session->has_ended = true;
    session_process(session);
}

static void on_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    struct session *session = arg;
    (void)stream;
    if (reason != IMP_CLOSED_BY_US && session->state != STATE_ANSWERED &&
        session->state != STATE_SUBCOMMAND)
        imp_metric_add(session->lpr->aborted, 1);
    session->stream = NULL;
    if (session->removal != NULL)
        lpr_removal_forget(session->removal);
    if (session->query != NULL)
        lpr_query_forget(session->query);
    imp_timer_cancel(session->empty_timer);
    session->empty_timer = NULL;
    for (uint32_t i = 0; i < session->job_count; i++)
        job_free(session->jobs[i]);
    session->job_count = 0;
    if (session->commits == 0)
        session_free(session);
}

static const imp_stream_events session_events = {.size = sizeof(imp_stream_events),
                                                 .readable = on_readable,
                                                 .ended = on_ended,
                                                 .closed = on_closed};

imp_status lpr_accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream)
{
    struct lpr *lpr = instance;
    const struct lpr_conf *conf = lpr->conf;
    struct session *session = calloc(1, sizeof *session);
    (void)listener;
    if (session == NULL)
        return IMP_LIMIT;
    session->lpr = lpr;
    session->stream = stream;
    session->jobs_left = conf->jobs_per_connection;
    imp_pin(self, "connection");
    imp_stream_set_idle_timeout(stream, conf->idle_timeout);
    imp_stream_set_events(stream, &session_events, session);
    return IMP_OK;
}
