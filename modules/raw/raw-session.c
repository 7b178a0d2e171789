/* SPDX-License-Identifier: Apache-2.0 */
/* raw-session.c - one connection: one job. */
#include "raw.h"

#include <imprimatur/jobs-upload.h>
#include <imprimatur/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFUSALS_LOG_MS 10000
#define RAW_DOOR_INTERVAL (1 * IMP_SECOND) /* between two looks whether the queue takes jobs */
#define RAW_HEAD_FIRST 256                 /* bytes of room for a head; doubled by need */

struct session {
    struct raw *raw;
    imp_upload upload;
    imp_intake *intake; /* NULL before it began and after the commit began */
    struct raw_pjl pjl;
    char queue[IMP_NAME_MAX];
    uint8_t *head; /* the document's first bytes, until names were looked for in them */
    size_t head_length, head_room;
    bool has_names;             /* they were looked for */
    char *user_name, *job_name; /* NULL: the document has none */
    bool has_document;          /* the intake has one open */
    bool has_ended;
    bool is_over;       /* nothing more is read */
    bool is_waiting;    /* the queue takes no job now: nothing is read */
    int64_t wait_until; /* by imp_ticks */
    imp_timer *timer;   /* of the wait, else of the silence that ends a job */
};

static void session_process(struct session *session);

static void wiped_free(void *bytes, size_t length)
{
    if (bytes != NULL)
        imp_wipe(bytes, length);
    free(bytes);
}

static void head_drop(struct session *session)
{
    wiped_free(session->head, session->head_length);
    session->head = NULL;
    session->head_length = session->head_room = 0;
}

static void session_over(void *arg)
{
    struct session *session = arg;
    imp_timer_cancel(session->timer);
    if (session->intake != NULL)
        imp_intake_abandon(session->intake);
    head_drop(session);
    if (session->user_name != NULL)
        wiped_free(session->user_name, strlen(session->user_name));
    if (session->job_name != NULL)
        wiped_free(session->job_name, strlen(session->job_name));
    imp_wipe(session, sizeof *session);
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
    if (session->upload.stream != NULL)
        imp_stream_abort(session->upload.stream);
}

/* ---- whose the document is ---- */

static char *name_copy(const char *name)
{
    return name[0] == '\0' ? NULL : strdup(name);
}

/* Once, when enough of the document is here or all of it: nothing of it is kept afterwards. A name for
 * which there is no memory is one that the document does not have: then the job is kept for review. */
static void names_look_for(struct session *session)
{
    imp_document_head *found = session->has_names ? NULL : calloc(1, sizeof *found);
    session->has_names = true;
    if (found != NULL) {
        found->size = sizeof *found;
        if (imp_document_head_read(session->raw->self,
                                   (imp_bytes){session->head, session->head_length},
                                   found) == IMP_OK) {
            session->user_name = name_copy(found->user_name);
            session->job_name = name_copy(found->job_name);
        }
        wiped_free(found, sizeof *found);
    }
    head_drop(session);
}

/* Room for more of the document's first bytes; most connections that wait have sent few. */
static bool head_reserve(struct session *session, size_t length)
{
    size_t room = session->head_room == 0 ? RAW_HEAD_FIRST : session->head_room;
    if (session->head_length + length <= session->head_room)
        return true;
    while (room < session->head_length + length)
        room *= 2;
    uint8_t *head = malloc(room); /* not realloc: what is left behind is wiped */
    if (head == NULL)
        return false;
    if (session->head_length > 0)
        memcpy(head, session->head, session->head_length);
    wiped_free(session->head, session->head_length);
    session->head = head;
    session->head_room = room;
    return true;
}

static void head_keep(struct session *session, const uint8_t *bytes, size_t length)
{
    size_t room = RAW_HEAD_MAX - session->head_length;
    size_t take = length < room ? length : room;
    if (session->has_names)
        return;
    bool has_room = head_reserve(session, take);
    if (has_room) {
        memcpy(session->head + session->head_length, bytes, take);
        session->head_length += take;
    }
    if (!has_room || session->head_length == RAW_HEAD_MAX)
        names_look_for(session);
}

/* ---- the end of a job ---- */

static void commit_done(imp_status status, const imp_job_result *result, const imp_error *error,
                        void *arg)
{
    struct session *session = arg;
    (void)result;
    if (status == IMP_OK)
        imp_metric_add(session->raw->jobs, 1);
    if (session->upload.stream == NULL)
        return;
    if (status == IMP_OK)
        imp_stream_close(session->upload.stream);
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
    if (imp_upload_document_end(&session->upload, session->intake, &error) != IMP_OK) {
        refuse(session, "spool", &error);
        return;
    }
    names_look_for(session);
    const char *user = session->user_name;
    if (user == NULL)
        user = host_user(session->raw->conf, imp_stream_peer(session->upload.stream)->address);
    imp_job_attributes attributes = {
        .size = sizeof attributes,
        .user_name = user,
        .job_name = session->job_name,
        .is_quarantined = user == NULL,
    };
    imp_intake *intake = session->intake;
    session->intake = NULL;
    session->is_over = true;
    imp_upload_commit(&session->upload, intake, &attributes, commit_done);
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
    imp_stream_close(session->upload.stream);
}

static void job_is_idle(void *arg)
{
    struct session *session = arg;
    session->timer = NULL;
    if (session->upload.stream != NULL && !session->is_over && !session->upload.is_paused)
        job_end(session);
}

static void idle_timer_restart(struct session *session)
{
    imp_timer_cancel(session->timer);
    session->timer = imp_timer_start(session->raw->self, session->raw->conf->job_idle, false,
                                     job_is_idle, session);
}

/* ---- data ---- */

static void spool_has_room(void *arg)
{
    struct session *session = arg;
    idle_timer_restart(session); /* it did not count meanwhile, and no byte may follow */
    session_process(session);
}

/* The first byte opens the document: a connection that says nothing takes no place in the spool. */
static imp_status data_write(struct session *session, imp_bytes data, imp_error *error)
{
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    imp_status status = IMP_OK;
    if (!session->has_document)
        status = imp_intake_document(session->intake, &document, error);
    session->has_document = true;
    return status != IMP_OK
               ? status
               : imp_upload_write(&session->upload, session->intake, data.data, data.length, error);
}

static void session_process(struct session *session)
{
    while (!session->is_over && !session->upload.is_paused && session->upload.stream != NULL) {
        imp_bytes input = imp_stream_input(session->upload.stream);
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
        imp_status status = data_write(session, (imp_bytes){input.data, taken}, &error);
        imp_stream_consume(session->upload.stream, taken);
        if (status != IMP_OK) {
            refuse(session, "spool", &error);
            return;
        }
        if (answer_length > 0) {
            imp_metric_add(session->raw->queries, 1);
            imp_stream_write(session->upload.stream, answer, answer_length);
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
    /* A reset, a deadline or our own end in the middle: what came is not all, so it is no job. */
    if (!session->is_over && session->pjl.has_payload && reason != IMP_CLOSED_BY_US)
        imp_metric_add(session->raw->aborted, 1);
    session->is_over = true;
    imp_upload_closed(&session->upload);
}

static const imp_stream_events session_events = {.size = sizeof(imp_stream_events),
                                                 .readable = on_readable,
                                                 .ended = on_ended,
                                                 .closed = on_closed};

/* ---- the door ---- */

static imp_status door_ask(struct session *session, imp_error *error)
{
    return imp_upload_begin(&session->upload, session->queue, "raw", -1, &session->intake, error);
}

/* A client of this protocol does not learn of a refusal for sure: what it could hand to its system it may
 * take for printed (CUPS's socket backend does). So what may pass is waited for, with nothing read. */
static bool may_pass(imp_status status)
{
    return status != IMP_NOT_FOUND && status != IMP_INVALID;
}

static void door_again(void *arg);

static bool door_wait(struct session *session)
{
    session->timer =
        imp_timer_start(session->raw->self, RAW_DOOR_INTERVAL, false, door_again, session);
    return session->timer != NULL;
}

static void door_again(void *arg)
{
    struct session *session = arg;
    imp_error error;
    session->timer = NULL;
    if (session->upload.stream == NULL || session->is_over)
        return;
    imp_status status = door_ask(session, &error);
    if (status == IMP_OK) {
        session->is_waiting = false;
        imp_stream_resume(session->upload.stream);
        idle_timer_restart(session);
    } else if (!may_pass(status) || imp_ticks() >= session->wait_until || !door_wait(session)) {
        refuse(session, "door", &error);
    }
}

imp_status raw_accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream)
{
    struct raw *raw = instance;
    const struct raw_conf *conf = raw->conf;
    imp_error error;
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return IMP_LIMIT;
    const char *queue = imp_listener_setting(self, listener, "queue");
    snprintf(session->queue, sizeof session->queue, "%s", queue != NULL ? queue : conf->queue);
    session->raw = raw;
    imp_upload_start(&session->upload, self, stream, spool_has_room, session_over, session);
    imp_status status = door_ask(session, &error);
    session->is_waiting =
        status != IMP_OK && may_pass(status) && conf->door_wait > 0 && door_wait(session);
    if (status != IMP_OK && !session->is_waiting) {
        imp_metric_add(raw->refused, 1);
        imp_log_limited(self, REFUSALS_LOG_MS, IMP_LOG_NOTICE, "raw.refused",
                        "reason=door status=%s", imp_status_name(status));
        imp_upload_closed(&session->upload);
        return status;
    }
    imp_stream_set_events(stream, &session_events, session);
    imp_stream_set_deadline(stream, conf->job_timeout);
    if (session->is_waiting) {
        imp_metric_add(raw->waits, 1);
        imp_log_limited(self, REFUSALS_LOG_MS, IMP_LOG_NOTICE, "raw.waiting", "status=%s",
                        imp_status_name(status));
        session->wait_until = imp_ticks() + conf->door_wait;
        imp_stream_pause(stream);
    } else {
        idle_timer_restart(session);
    }
    return IMP_OK;
}
