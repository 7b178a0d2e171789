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
#include "lpr-session.h"

#include <imprimatur/log.h>

#include <stdlib.h>
#include <string.h>

#define REFUSALS_LOG_MS 10000

/* ---- answers ---- */

void lpr_session_answer(struct lpr_session *session, uint8_t octet)
{
    if (session->upload.stream != NULL)
        imp_stream_write(session->upload.stream, &octet, 1);
}

void lpr_session_refuse(struct lpr_session *session, uint8_t octet, const char *reason,
                        const imp_error *error)
{
    imp_metric_add(session->lpr->refused, 1);
    imp_log_limited(session->lpr->self, REFUSALS_LOG_MS, IMP_LOG_NOTICE, "lpr.refused",
                    "reason=%s status=%s", reason,
                    error == NULL ? "invalid" : imp_status_name(error->status));
    lpr_jobs_clear(&session->jobs);
    session->target = NULL;
    session->state = LPR_STATE_ANSWERED;
    lpr_session_answer(session, octet);
    if (session->upload.stream != NULL)
        imp_stream_close(session->upload.stream);
}

uint8_t lpr_session_octet(imp_status status)
{
    return status == IMP_NO_SPACE || status == IMP_BUSY || status == IMP_LIMIT ? LPR_ANSWER_RETRY
                                                                               : LPR_ANSWER_NO;
}

/* ---- commands ---- */

static void command_run(struct lpr_session *session, const struct lpr_command *command)
{
    struct lpr *lpr = session->lpr;
    switch (command->code) {
    case LPR_PRINT_WAITING: /* nothing waits for being asked (RFC 1179 section 5.1) */
        session->state = LPR_STATE_ANSWERED;
        lpr_session_answer(session, LPR_ANSWER_YES);
        imp_stream_close(session->upload.stream);
        break;
    case LPR_RECEIVE_JOB:
        if (lpr_files_open_door(session, command->queue)) {
            session->state = LPR_STATE_SUBCOMMAND;
            lpr_session_answer(session, LPR_ANSWER_YES);
        }
        break;
    case LPR_REMOVE:
        session->state = LPR_STATE_ANSWERED;
        imp_metric_add(lpr->removed, 1);
        session->removal = lpr_remove(lpr, session->upload.stream, command);
        break;
    default:
        session->state = LPR_STATE_ANSWERED;
        imp_metric_add(lpr->status_queries, 1);
        session->query = lpr_status(lpr, session->upload.stream, command);
        break;
    }
}

static void empty_file_is_empty(void *arg);

static void subcommand_run(struct lpr_session *session)
{
    const struct lpr_conf *conf = session->lpr->conf;
    imp_error error;
    imp_error_set(&error, IMP_LIMIT, "out of memory");
    switch (session->file.code) {
    case LPR_ABORT_JOB: /* RFC 1179 section 6.1 */
        lpr_jobs_clear(&session->jobs);
        imp_metric_add(session->lpr->aborted, 1);
        lpr_session_answer(session, LPR_ANSWER_YES);
        break;
    case LPR_CONTROL_FILE:
        if (!lpr_files_control_begin(session, &error)) {
            lpr_session_refuse(session, lpr_session_octet(error.status), "control-size", &error);
            break;
        }
        session->state = LPR_STATE_CONTROL;
        session->file_left = session->file.size;
        lpr_session_answer(session, LPR_ANSWER_YES);
        break;
    default:
        if (session->jobs_left <= 0) {
            imp_error_set(&error, IMP_LIMIT, "too many jobs on one connection");
            lpr_session_refuse(session, LPR_ANSWER_RETRY, "jobs", &error);
            break;
        }
        if (!lpr_files_data_begin(session, &error)) {
            lpr_session_refuse(session, lpr_session_octet(error.status), "data", &error);
            break;
        }
        imp_stream_set_deadline(session->upload.stream, conf->upload_timeout);
        session->file_left = session->file.size;
        session->state = session->file.size_kind == LPR_SIZE_KNOWN  ? LPR_STATE_DATA
                         : session->file.size_kind == LPR_SIZE_ZERO ? LPR_STATE_DATA_EMPTY
                                                                    : LPR_STATE_DATA_STREAM;
        lpr_session_answer(session, LPR_ANSWER_YES);
        break;
    }
}

/* ---- the machine ---- */

/* Takes a line off the input; false when it is not all there. A line that can't end is refused. */
static bool line_take(struct lpr_session *session, uint8_t line[LPR_LINE_MAX], size_t *length)
{
    imp_bytes input = imp_stream_input(session->upload.stream);
    const uint8_t *feed =
        memchr(input.data, '\n', input.length < LPR_LINE_MAX ? input.length : LPR_LINE_MAX);
    if (feed == NULL) {
        if (input.length >= LPR_LINE_MAX)
            lpr_session_refuse(session, LPR_ANSWER_NO, "line-length", NULL);
        return false;
    }
    *length = (size_t)(feed - (const uint8_t *)input.data);
    memcpy(line, input.data, *length);
    imp_stream_consume(session->upload.stream, *length + 1);
    return true;
}

static bool step_command(struct lpr_session *session)
{
    uint8_t line[LPR_LINE_MAX];
    size_t length;
    imp_bytes input = imp_stream_input(session->upload.stream);
    const uint8_t *first = input.data;
    if (input.length > 0 && (first[0] < LPR_PRINT_WAITING || first[0] > LPR_REMOVE)) {
        lpr_session_refuse(session, LPR_ANSWER_NO, "command",
                           NULL); /* TLS, HTTP, or noise: no line may ever come */
        return false;
    }
    if (!line_take(session, line, &length))
        return false;
    struct lpr_command *command = malloc(sizeof *command);
    if (command == NULL || lpr_command_parse(line, length, command) != IMP_OK)
        lpr_session_refuse(session, LPR_ANSWER_NO, "command", NULL);
    else
        command_run(session, command);
    free(command);
    return session->state == LPR_STATE_SUBCOMMAND;
}

static bool step_subcommand(struct lpr_session *session)
{
    uint8_t line[LPR_LINE_MAX];
    size_t length;
    imp_bytes input = imp_stream_input(session->upload.stream);
    if (input.length == 0)
        return false;
    const uint8_t *first = input.data;
    if (first[0] == '\0' || first[0] == '\n' || first[0] == '\r') {
        /* PLP ends its files with a lone NUL; others put LF behind the octet of a file */
        imp_stream_consume(session->upload.stream, 1);
        return true;
    }
    if (first[0] > LPR_DATA_FILE) {
        lpr_session_refuse(session, LPR_ANSWER_NO, "subcommand", NULL);
        return false;
    }
    if (!line_take(session, line, &length))
        return false;
    if (lpr_file_parse(line, length, &session->file) != IMP_OK) {
        lpr_session_refuse(session, LPR_ANSWER_NO, "subcommand", NULL);
        return false;
    }
    subcommand_run(session);
    return session->state != LPR_STATE_ANSWERED;
}

static bool step_control(struct lpr_session *session)
{
    imp_bytes input = imp_stream_input(session->upload.stream);
    size_t take = input.length < session->file_left ? input.length : (size_t)session->file_left;
    if (take == 0)
        return false;
    memcpy(session->control_text + session->control_length, input.data, take);
    session->control_length += take;
    session->file_left -= take;
    imp_stream_consume(session->upload.stream, take);
    if (session->file_left == 0)
        session->state = LPR_STATE_FILE_END;
    return true;
}

static bool step_data(struct lpr_session *session)
{
    imp_bytes input = imp_stream_input(session->upload.stream);
    size_t take = input.length < session->file_left ? input.length : (size_t)session->file_left;
    if (take == 0 || session->upload.is_paused)
        return false;
    if (!lpr_files_data_write(session, input.data, take))
        return false;
    session->file_left -= take;
    imp_stream_consume(session->upload.stream, take);
    if (session->file_left == 0)
        session->state = LPR_STATE_FILE_END;
    return true;
}

static bool step_data_stream(struct lpr_session *session)
{
    imp_bytes input = imp_stream_input(session->upload.stream);
    if (session->upload.is_paused)
        return false;
    if (input.length > 0) {
        /* A client that announced one of the "unknown" numbers and meant it: exactly so many bytes,
         * then the NUL. */
        if (session->file.size_kind == LPR_SIZE_UNTIL_CLOSE && session->file_left == 0 &&
            input.length == 1 && *(const uint8_t *)input.data == '\0') {
            session->state = LPR_STATE_FILE_END;
            return true;
        }
        size_t take = input.length;
        if (session->file_left > 0 && take > session->file_left)
            take = (size_t)session->file_left;
        if (!lpr_files_data_write(session, input.data, take))
            return false;
        if (session->file_left > 0)
            session->file_left -= take;
        imp_stream_consume(session->upload.stream, take);
        return true;
    }
    if (!session->has_ended)
        return false;
    lpr_files_data_end(session);
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
static bool step_data_empty(struct lpr_session *session)
{
    imp_bytes input = imp_stream_input(session->upload.stream);
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
    session->state = is_stream ? LPR_STATE_DATA_STREAM : LPR_STATE_FILE_END;
    return true;
}

static void empty_file_is_empty(void *arg)
{
    struct lpr_session *session = arg;
    session->empty_timer = NULL;
    if (session->upload.stream == NULL || session->state != LPR_STATE_DATA_EMPTY)
        return;
    session->state = LPR_STATE_FILE_END;
    lpr_session_process(session);
}

/* The octet that a client sends behind a file: zero says that it sent all (RFC 1179 section 6). It may
 * be missing when the connection ends, or when the next subcommand follows at once. */
static bool step_file_end(struct lpr_session *session)
{
    imp_bytes input = imp_stream_input(session->upload.stream);
    if (input.length == 0 && !session->has_ended)
        return false;
    if (input.length > 0) {
        uint8_t octet = *(const uint8_t *)input.data;
        if (octet == '\0') {
            imp_stream_consume(session->upload.stream, 1);
        } else if (octet != LPR_CONTROL_FILE && octet != LPR_DATA_FILE) {
            lpr_session_refuse(session, LPR_ANSWER_NO, "file-end", NULL);
            return false;
        }
    }
    if (session->file.code == LPR_CONTROL_FILE)
        lpr_files_control_end(session);
    else
        lpr_files_data_end(session);
    return session->state == LPR_STATE_SUBCOMMAND;
}

typedef bool (*step_function)(struct lpr_session *session);

/* true: the state or the input has changed, go on; false: wait. */
static const step_function steps[] = {
    [LPR_STATE_COMMAND] = step_command,
    [LPR_STATE_SUBCOMMAND] = step_subcommand,
    [LPR_STATE_CONTROL] = step_control,
    [LPR_STATE_DATA] = step_data,
    [LPR_STATE_DATA_EMPTY] = step_data_empty,
    [LPR_STATE_DATA_STREAM] = step_data_stream,
    [LPR_STATE_FILE_END] = step_file_end,
    [LPR_STATE_COMMITTING] = NULL,
    [LPR_STATE_ANSWERED] = NULL,
};

/* Something of a job is here, and not all of it. */
static bool is_midway(const struct lpr_session *session)
{
    bool has_files = false;
    for (uint32_t i = 0; i < session->jobs.count; i++)
        has_files = has_files || !lpr_job_is_empty(session->jobs.jobs[i]);
    return has_files ||
           (session->state >= LPR_STATE_CONTROL && session->state <= LPR_STATE_FILE_END);
}

static bool has_work_left(const struct lpr_session *session)
{
    return session->upload.is_committing || session->upload.is_paused || session->removal != NULL ||
           session->query != NULL;
}

void lpr_session_process(struct lpr_session *session)
{
    while (session->upload.stream != NULL && steps[session->state] != NULL &&
           steps[session->state](session))
        ;
    /* Only a file of known length has to come at once: what is sent until the connection ends comes from
     * programs that think in between. */
    if (session->upload.stream != NULL)
        imp_stream_expect(session->upload.stream,
                          session->state == LPR_STATE_CONTROL || session->state == LPR_STATE_DATA);
    /* All that will come is here and nothing can be made of the rest. */
    if (session->upload.stream != NULL && session->has_ended && !has_work_left(session) &&
        session->state != LPR_STATE_ANSWERED) {
        if (is_midway(session))
            imp_metric_add(session->lpr->aborted, 1);
        session->state = LPR_STATE_ANSWERED;
        imp_stream_close(session->upload.stream);
    }
}

/* ---- events of the stream ---- */

static void on_readable(imp_stream *stream, void *arg)
{
    struct lpr_session *session = arg;
    if (session->state ==
        LPR_STATE_ANSWERED) /* the answer is out, or on its way: take it and forget it */
        imp_stream_consume(stream, imp_stream_input(stream).length);
    else
        lpr_session_process(session);
}

static void on_ended(imp_stream *stream, void *arg)
{
    struct lpr_session *session = arg;
    (void)stream;
    session->has_ended = true;
    lpr_session_process(session);
}

static void on_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    struct lpr_session *session = arg;
    (void)stream;
    if (reason != IMP_CLOSED_BY_US && is_midway(session))
        imp_metric_add(session->lpr->aborted, 1);
    if (session->removal != NULL)
        lpr_removal_forget(session->removal);
    if (session->query != NULL)
        lpr_query_forget(session->query);
    imp_timer_cancel(session->empty_timer);
    session->empty_timer = NULL;
    lpr_jobs_clear(&session->jobs);
    lpr_files_control_drop(session);
    imp_upload_closed(&session->upload);
}

static const imp_stream_events session_events = {.size = sizeof(imp_stream_events),
                                                 .readable = on_readable,
                                                 .ended = on_ended,
                                                 .closed = on_closed};

static void spool_has_room(void *arg)
{
    lpr_session_process(arg);
}

static void session_over(void *arg)
{
    struct lpr_session *session = arg;
    imp_wipe(session, sizeof *session);
    free(session);
}

imp_status lpr_accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream)
{
    struct lpr *lpr = instance;
    const struct lpr_conf *conf = lpr->conf;
    struct lpr_session *session = calloc(1, sizeof *session);
    (void)listener;
    if (session == NULL)
        return IMP_LIMIT;
    session->lpr = lpr;
    session->jobs_left = conf->jobs_per_connection;
    imp_upload_start(&session->upload, self, stream, spool_has_room, session_over, session);
    imp_stream_set_idle_timeout(stream, conf->idle_timeout);
    imp_stream_set_events(stream, &session_events, session);
    return IMP_OK;
}
