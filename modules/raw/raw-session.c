/* SPDX-License-Identifier: Apache-2.0 */
/* raw-session.c - one connection: one job. */
#include "raw.h"

#include <imprimatur/log.h>
#include <imprimatur/service.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFUSALS_LOG_MS 10000

struct session {
    struct raw *raw;
    imp_stream *stream; /* NULL once it has closed */
    imp_intake *intake; /* NULL before it began and after the commit began */
    struct raw_pjl pjl;
    char queue[IMP_NAME_MAX];
    uint8_t *head;
    size_t head_length;
    bool is_paused; /* the spool can't take more */
    bool has_ended;
    bool is_committing;
    bool is_over; /* nothing more is read */
    imp_timer *idle_timer;
};

static void session_process(struct session *session);

static void session_free(struct session *session)
{
    imp_timer_cancel(session->idle_timer);
    if (session->intake != NULL)
        imp_intake_abandon(session->intake);
    if (session->head != NULL)
        imp_wipe(session->head, session->head_length);
    free(session->head);
    imp_unpin(session->raw->self, "connection");
    free(session);
}

/* There is no octet to refuse with: a reset is what a client of this protocol understands as "not
 * taken". */
static void refuse(struct session *session, const char *reason, const imp_error *error)
{
    imp_metric_add(session->raw->refused, 1);
    imp_log_limited(session->raw->self, REFUSALS_LOG_MS, IMP_LOG_NOTICE, "raw.refused",
                    "reason=%s status=%s", reason, imp_status_name(error->status));
    session->is_over = true;
    if (session->intake != NULL)
        imp_intake_abandon(session->intake);
    session->intake = NULL;
    if (session->stream != NULL)
        imp_stream_abort(session->stream);
}

/* ---- the end of a job ---- */

static void commit_done(imp_status status, const imp_job_result *result, const imp_error *error,
                        void *arg)
{
    struct session *session = arg;
    (void)result;
    session->is_committing = false;
    if (status == IMP_OK)
        imp_metric_add(session->raw->jobs, 1);
    if (session->stream == NULL)
        session_free(session);
    else if (status == IMP_OK)
        imp_stream_close(session->stream);
    else
        refuse(session, "commit", error);
}

/* The user that a host rule names for an address; NULL when none does. The first rule that fits
 * counts. */
static const char *host_user(const struct raw_conf *conf, const char *address)
{
    const struct raw_host_rule *rules = conf->hosts.items;
    imp_network here, network;
    if (imp_network_parse(address, &here, NULL) != IMP_OK)
        return NULL;
    for (uint32_t i = 0; i < conf->hosts.count; i++)
        if (imp_network_parse(rules[i].network, &network, NULL) == IMP_OK &&
            imp_network_contains(&network, &here))
            return rules[i].user;
    return NULL;
}

static void job_commit(struct session *session)
{
    imp_error error;
    imp_document_head *head = calloc(1, sizeof *head);
    imp_status status = head == NULL ? imp_error_set(&error, IMP_LIMIT, "out of memory")
                                     : imp_intake_document_end(session->intake, &error);
    if (status != IMP_OK) {
        free(head);
        refuse(session, "spool", &error);
        return;
    }
    head->size = sizeof *head;
    if (imp_document_head_read(session->raw->self, (imp_bytes){session->head, session->head_length},
                               head) != IMP_OK)
        memset(head, 0, sizeof *head);
    const char *user =
        head->user_name[0] != '\0'
            ? head->user_name
            : host_user(session->raw->conf, imp_stream_peer(session->stream)->address);
    imp_job_attributes attributes = {
        .size = sizeof attributes,
        .user_name = user,
        .job_name = head->job_name[0] != '\0' ? head->job_name : NULL,
        .is_quarantined = user == NULL,
    };
    imp_intake *intake = session->intake;
    session->intake = NULL;
    session->is_over = true;
    session->is_committing = true;
    imp_intake_commit(intake, &attributes, commit_done, session);
    imp_wipe(head, sizeof *head);
    free(head);
}

/* The client has closed, or said nothing for `job_idle`. */
static void job_end(struct session *session)
{
    if (session->intake != NULL && session->pjl.has_payload) {
        job_commit(session);
        return;
    }
    /* questions and answers only, or nothing at all: no job */
    session->is_over = true;
    imp_stream_close(session->stream);
}

static void job_is_idle(void *arg)
{
    struct session *session = arg;
    session->idle_timer = NULL;
    if (session->stream != NULL && !session->is_over && !session->is_paused)
        job_end(session);
}

static void idle_timer_restart(struct session *session)
{
    imp_timer_cancel(session->idle_timer);
    session->idle_timer = imp_timer_start(session->raw->self, session->raw->conf->job_idle, false,
                                          job_is_idle, session);
}

/* ---- data ---- */

static void spool_ready(void *arg)
{
    struct session *session = arg;
    if (!session->is_paused || session->stream == NULL)
        return;
    session->is_paused = false;
    imp_stream_resume(session->stream);
    idle_timer_restart(session); /* it did not count meanwhile, and no byte may follow */
    session_process(session);
}

static bool intake_begin(struct session *session, imp_error *error)
{
    imp_intake_options options = {.size = sizeof options,
                                  .queue = session->queue,
                                  .protocol = "raw",
                                  .address = imp_stream_peer(session->stream)->address,
                                  .expected_size = -1,
                                  .ready = spool_ready,
                                  .arg = session};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    return imp_intake_begin(session->raw->self, &options, &session->intake, error) == IMP_OK &&
           imp_intake_document(session->intake, &document, error) == IMP_OK;
}

static void head_keep(struct session *session, const uint8_t *bytes, size_t length)
{
    size_t room = RAW_HEAD_MAX - session->head_length;
    size_t take = length < room ? length : room;
    memcpy(session->head + session->head_length, bytes, take);
    session->head_length += take;
}

static void session_process(struct session *session)
{
    while (!session->is_over && !session->is_paused && session->stream != NULL) {
        imp_bytes input = imp_stream_input(session->stream);
        char answer[RAW_PJL_ANSWER_MAX];
        size_t answer_length;
        imp_error error;
        if (input.length == 0) {
            if (session->has_ended)
                job_end(session);
            return;
        }
        size_t taken =
            raw_pjl_feed(&session->pjl, input.data, input.length, answer, &answer_length);
        head_keep(session, input.data, taken);
        imp_status status = imp_intake_write(session->intake, input.data, taken, &error);
        imp_stream_consume(session->stream, taken);
        if (status != IMP_OK && status != IMP_BUSY) {
            refuse(session, "spool", &error);
            return;
        }
        if (answer_length > 0) {
            imp_metric_add(session->raw->queries, 1);
            imp_stream_write(session->stream, answer, answer_length);
        }
        if (status == IMP_BUSY) {
            session->is_paused = true;
            imp_stream_pause(session->stream);
        }
    }
}

/* ---- events of the stream ---- */

static void on_readable(imp_stream *stream, void *arg)
{
    struct session *session = arg;
    if (session->is_over) { /* behind the end of the job; a new one needs a new connection */
        imp_stream_consume(stream, imp_stream_input(stream).length);
        return;
    }
    idle_timer_restart(session);
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
    session->stream = NULL;
    /* A reset, a deadline or our own end in the middle: what came is not all, so it is no job. */
    if (!session->is_over && session->pjl.has_payload && reason != IMP_CLOSED_BY_US)
        imp_metric_add(session->raw->aborted, 1);
    if (!session->is_committing)
        session_free(session);
}

static const imp_stream_events session_events = {.size = sizeof(imp_stream_events),
                                                 .readable = on_readable,
                                                 .ended = on_ended,
                                                 .closed = on_closed};

imp_status raw_accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream)
{
    struct raw *raw = instance;
    const struct raw_conf *conf = raw->conf;
    imp_error error;
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL || (session->head = malloc(RAW_HEAD_MAX)) == NULL) {
        free(session);
        return IMP_LIMIT;
    }
    const char *queue = imp_listener_setting(self, listener, "queue");
    snprintf(session->queue, sizeof session->queue, "%s", queue != NULL ? queue : conf->queue);
    session->raw = raw;
    session->stream = stream;
    imp_pin(self, "connection");
    if (!intake_begin(session, &error)) {
        imp_metric_add(raw->refused, 1);
        imp_log_limited(self, REFUSALS_LOG_MS, IMP_LOG_NOTICE, "raw.refused",
                        "reason=door status=%s", imp_status_name(error.status));
        session->stream = NULL;
        session_free(session);
        return error.status;
    }
    imp_stream_set_events(stream, &session_events, session);
    imp_stream_set_deadline(stream, conf->job_timeout);
    idle_timer_restart(session);
    return IMP_OK;
}
