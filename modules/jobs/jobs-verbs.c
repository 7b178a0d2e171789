/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs `job ...`. The control socket shows ids, states and sizes, never titles or names. */
#include "modules/jobs/jobs-verbs.h"

#include <imprimatur/control.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-cancel.h"
#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-expiry.h"
#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-release.h"
#include "modules/jobs/jobs-view.h"

static const imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};

/* The job that argument JOB names; refuses the request when there is none. */
static bool take_job(struct jobs *jobs, imp_request *request, imp_id *job)
{
    imp_error error;
    const char *text = imp_request_value(request, "JOB", 0);
    imp_status status = view_find(jobs, text, job);
    if (status == IMP_OK)
        return true;
    imp_error_set(&error, status, "there is no job '%s': see imprimctl job list", text);
    imp_request_finish(request, status, &error);
    return false;
}

static void finish(imp_status status, const imp_error *error, void *arg)
{
    imp_request_finish(arg, status, error);
}

/* ---- job list ---- */

static void add_view(imp_request *request, const imp_job_view *view, bool is_single)
{
    imp_row_begin(request, is_single);
    imp_field_integer(request, "job-id", view->job_id);
    imp_field_id(request, "id", view->id);
    imp_field_text(request, "queue", view->queue);
    imp_field_text(request, "state",
                   (const char *const[]){"pending", "pending-held", "processing",
                                         "processing-stopped", "canceled", "aborted",
                                         "completed"}[view->state - IMP_JOB_PENDING]);
    imp_field_text(request, "reasons", view->reasons);
    imp_field_bool(request, "uncertain", view->is_delivery_uncertain);
    imp_field_integer(request, "position", view->position);
    imp_field_integer(request, "documents", view->document_count);
    imp_field_integer(request, "bytes", (int64_t)view->document_bytes);
    imp_field_id(request, "owner", view->owner_id);
    imp_field_text(request, "device", view->last_device);
    imp_field_time(request, "received", view->received);
    imp_field_time(request, "expires", view->expires);
}

#define LIST_ROWS 1000u      /* without --limit */
#define LIST_ROWS_MAX 10000u /* an answer is built in memory, and a person reads no more */

/* A listing reads rows by the thousand: on a worker, which alone has the request meanwhile. */
struct list_verb {
    struct jobs *jobs;
    imp_request *request;
    imp_job_filter filter;
    uint32_t shown, rows_max;
    uint32_t last; /* job-id of the last row */
    bool has_more;
    imp_status status;
    imp_error error;
};

static bool list_visit(const imp_job_view *view, void *arg)
{
    struct list_verb *verb = arg;
    verb->has_more = verb->shown == verb->rows_max;
    if (verb->has_more)
        return false;
    add_view(verb->request, view, false);
    verb->shown++;
    verb->last = view->job_id;
    return true;
}

static void list_run(void *arg)
{
    struct list_verb *verb = arg;
    verb->status =
        view_list(verb->jobs, &administrator, &verb->filter, list_visit, verb, &verb->error);
    if (verb->has_more && verb->status == IMP_OK)
        imp_request_say(verb->request, "there are more jobs: go on with --after %u", verb->last);
}

static void list_done(void *arg, bool was_cancelled)
{
    struct list_verb *verb = arg;
    if (was_cancelled)
        verb->status = imp_error_set(&verb->error, IMP_UNAVAILABLE, "the server is going down");
    imp_request_finish(verb->request, verb->status, &verb->error);
    free(verb);
}

static imp_status list_options(struct list_verb *verb, imp_error *error)
{
    const char *limit = imp_request_value(verb->request, "limit", 0);
    const char *after = imp_request_value(verb->request, "after", 0);
    imp_status status = IMP_OK;
    verb->rows_max = LIST_ROWS;
    if (limit != NULL) {
        char *end;
        unsigned long value = strtoul(limit, &end, 10);
        if (*limit < '0' || *limit > '9' || *end != '\0' || value == 0 || value > 10000000)
            return imp_error_set(error, IMP_INVALID, "'%s' is no number of jobs", limit);
        verb->rows_max = value < LIST_ROWS_MAX ? (uint32_t)value : LIST_ROWS_MAX;
    }
    if (after != NULL &&
        (status = view_find_sequence(verb->jobs, after, &verb->filter.after)) != IMP_OK)
        return imp_error_set(error, status, "there is no job '%s' to go on after", after);
    verb->filter.limit = verb->rows_max + 1; /* one more tells that there are more */
    return IMP_OK;
}

static void job_list(imp_self *self, void *instance, imp_request *request)
{
    imp_error error = {0};
    imp_status status = IMP_LIMIT;
    struct list_verb *verb = calloc(1, sizeof *verb);
    if (verb == NULL) {
        imp_error_set(&error, status, "not enough memory to list jobs");
        goto failed;
    }
    verb->jobs = instance;
    verb->request = request;
    verb->filter = (imp_job_filter){
        .size = sizeof verb->filter,
        .queue = imp_request_value(request, "queue", 0),
        .include_final = imp_request_value(request, "all", 0) != NULL,
    };
    if ((status = list_options(verb, &error)) != IMP_OK)
        goto failed;
    if (imp_work(self, list_run, list_done, verb) != NULL)
        return;
    status = imp_error_set(&error, IMP_BUSY, "all workers are busy: try again");
failed:
    imp_request_finish(request, status, &error);
    free(verb);
}

/* ---- job show ---- */

static void show_delivery(imp_request *request, const Delivery *delivery)
{
    imp_field_integer(request, "attempt", delivery->attempt);
    imp_field_id(request, "delivery", imp_id_of_field(delivery->id));
    imp_field_text(request, "delivery-state", delivery_state_name(delivery->state));
    imp_field_id(request, "device-id", imp_id_of_field(delivery->device));
    imp_field_id(request, "releaser", imp_id_of_field(delivery->releaser));
    imp_field_text(request, "transport", delivery->transport);
    imp_field_integer(request, "bytes-sent", (int64_t)delivery->bytes_sent);
    imp_field_text(request, "evidence", delivery->evidence);
    imp_field_text(request, "result", imp_status_name((imp_status)delivery->status));
    imp_field_time(request, "claimed", delivery->claimed);
    imp_field_time(request, "ended", delivery->ended);
}

static void job_show(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    struct jobs *jobs = instance;
    imp_error error = {0};
    imp_status status;
    imp_id id;
    imp_tx *tx;
    if (!take_job(jobs, request, &id))
        return;
    if ((status = imp_store_read_begin(jobs->self, &tx, &error)) != IMP_OK) {
        imp_request_finish(request, status, &error);
        return;
    }
    Job *job = job_load(jobs, tx, &id, &status);
    if (job != NULL) {
        imp_id queue_id = imp_id_of_field(job->queue), device_id = imp_id_of_field(job->device);
        imp_device device = {.size = sizeof device};
        imp_status found;
        Queue *queue = queue_load(jobs, tx, &queue_id, &found);
        if (imp_id_is_zero(device_id) || imp_device_get(jobs->self, &device_id, &device) != IMP_OK)
            device.name[0] = '\0';
        imp_job_view view = {
            .size = sizeof view,
            .id = id,
            .job_id = job_number(job->sequence),
            .state = job_situation_state(job->situation),
            .reasons = job_situation_reasons(job->situation),
            .queue = queue == NULL ? "" : queue->name,
            .is_delivery_uncertain = job->situation == JOB_UNCERTAIN,
            .owner_id = imp_id_of_field(job->owner),
            .document_bytes = job->bytes,
            .document_count = (uint32_t)job->n_documents,
            .received = job->received,
            .expires = job->expires,
            .last_device = device.name,
        };
        add_view(request, &view, true);
        imp_field_text(request, "situation", job_situation_name(job->situation));
        imp_field_text(request, "protocol", job->protocol);
        imp_field_bool(request, "has-documents", job->has_documents);
        imp_field_bool(request, "has-names", job->text.len != 0);
        for (size_t i = 0; i < job->n_documents; i++)
            imp_field_text(request, "format", job->documents[i]->detected_format);
        imp_ticket_value values[IMP_TICKET_VALUES_MAX];
        uint32_t count =
            record_ticket_add(job->ticket, job->n_ticket, values, 0, IMP_TICKET_VALUES_MAX);
        count = ticket_resolve(values, count);
        for (uint32_t i = 0; i < count; i++)
            imp_field_text(request, values[i].name, values[i].value);
        Delivery *delivery = job_load_delivery(jobs, tx, job, &found);
        if (delivery != NULL)
            show_delivery(request, delivery);
    }
    imp_store_read_end(tx);
    imp_request_finish(request, status, &error);
}

/* ---- job release ---- */

struct release_verb {
    struct jobs *jobs;
    imp_request *request;
    imp_id job;
    imp_device device;
    char *user;
    imp_id session;
    bool is_asked;
    imp_error question; /* how to answer it */
};

static void release_verb_end(struct release_verb *verb, imp_status status, const imp_error *error)
{
    if (!imp_id_is_zero(verb->session))
        (void)imp_session_end(verb->jobs->self, &verb->session);
    imp_request_finish(verb->request, status, error);
    free(verb->user);
    free(verb);
}

static void released(imp_status status, const imp_id *delivery, const imp_error *error, void *arg)
{
    struct release_verb *verb = arg;
    char text[IMP_ID_TEXT_SIZE], id[IMP_ID_TEXT_SIZE];
    if (status == IMP_OK) {
        imp_request_say(verb->request, "released job %s at %s, delivery %s",
                        imp_id_format(verb->job, text), verb->device.name,
                        imp_id_format(*delivery, id));
    }
    release_verb_end(verb, status, verb->is_asked ? &verb->question : error);
}

/* The question as an object, for programs; what to do with it as the reason of the refusal. */
static void release_asks(const imp_release_question *question, void *arg)
{
    struct release_verb *verb = arg;
    char choices[IMP_RELEASE_CHOICES_MAX * (IMP_RELEASE_WORD_MAX + 2) + 1] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < question->choice_count; i++)
        used += (size_t)snprintf(choices + used, sizeof choices - used, "%s%s", i == 0 ? "" : ", ",
                                 question->choices[i]);
    imp_row_begin(verb->request, true);
    imp_field_text(verb->request, "question", question->id);
    imp_field_text(verb->request, "text", question->text);
    imp_field_text(verb->request, "choices", choices);
    verb->is_asked = true;
    imp_error_set(&verb->question, IMP_DENIED,
                  "there is a question: release again with --answer %s=CHOICE", question->id);
}

#define ANSWERS_TEXT_MAX (IMP_RELEASE_ANSWERS_MAX * 2u * (IMP_RELEASE_WORD_MAX + 1u))

/* "QUESTION=CHOICE" of each --answer, cut in place in `text`. */
static imp_status release_answers(imp_request *request, char *text, size_t size,
                                  imp_release_answer answers[IMP_RELEASE_ANSWERS_MAX],
                                  uint32_t *count, imp_error *error)
{
    const char *value;
    *count = 0;
    for (uint32_t i = 0; (value = imp_request_value(request, "answer", i)) != NULL; i++) {
        size_t length = strlen(value) + 1;
        const char *equals = strchr(value, '=');
        if (equals == NULL || i == IMP_RELEASE_ANSWERS_MAX || length > size)
            return imp_error_set(error, IMP_INVALID,
                                 equals == NULL ? "'%s' is no answer: --answer QUESTION=CHOICE"
                                                : "'%s' is one answer too many",
                                 value);
        memcpy(text, value, length);
        text[equals - value] = '\0';
        answers[i] = (imp_release_answer){.question = text, .choice = text + (equals - value) + 1};
        text += length;
        size -= length;
        (*count)++;
    }
    return IMP_OK;
}

static void authenticated(imp_status status, const imp_session *session, const imp_error *error,
                          void *arg)
{
    struct release_verb *verb = arg;
    if (status != IMP_OK) {
        release_verb_end(verb, status, error);
        return;
    }
    verb->session = session->id;
    char text[ANSWERS_TEXT_MAX];
    imp_release_answer answers[IMP_RELEASE_ANSWERS_MAX];
    uint32_t answer_count;
    imp_error wrong = {0};
    status = release_answers(verb->request, text, sizeof text, answers, &answer_count, &wrong);
    if (status != IMP_OK) {
        release_verb_end(verb, status, &wrong);
        return;
    }
    imp_release_request request = {
        .size = sizeof request,
        .job = verb->job,
        .device = verb->device.id,
        .session = session->id,
        .answers = answers,
        .answer_count = answer_count,
        .asked = release_asks,
    };
    release_job(verb->jobs, &request, released, verb);
}

static void secrets_answered(imp_request *request IMP_UNUSED, const char *const *values,
                             uint32_t count, void *arg)
{
    struct release_verb *verb = arg;
    imp_error error = {0};
    imp_credentials credentials = {
        .size = sizeof credentials,
        .device = verb->device.id,
        .address = "",
    };
    uint32_t needed = verb->user == NULL ? 2 : 1;
    if (values == NULL || count < needed) {
        release_verb_end(verb,
                         imp_error_set(&error, IMP_INVALID, "%s",
                                       verb->user == NULL
                                           ? "card and PIN are read from standard input, one a line"
                                           : "the password is read from standard input"),
                         &error);
        return;
    }
    if (verb->user == NULL) {
        credentials.card = values[0];
        credentials.pin = values[1][0] == '\0' ? NULL : values[1];
    } else {
        credentials.user_name = verb->user;
        credentials.password = values[0];
    }
    imp_authenticate(verb->jobs->self, &credentials, authenticated, verb);
}

static void job_release(imp_self *self, void *instance, imp_request *request)
{
    struct jobs *jobs = instance;
    imp_error error = {0};
    imp_id job;
    const char *device = imp_request_value(request, "device", 0);
    const char *user = imp_request_value(request, "user", 0);
    bool by_card = imp_request_value(request, "card", 0) != NULL;
    if (device == NULL || by_card == (user != NULL)) {
        imp_error_set(&error, IMP_INVALID, "%s",
                      device == NULL ? "name the device: --device DEVICE"
                                     : "say who releases: --card or --user USER, one of the two");
        imp_request_finish(request, IMP_INVALID, &error);
        return;
    }
    /* What is wrong in the command line is said before anybody looks for a card. */
    char text[ANSWERS_TEXT_MAX];
    imp_release_answer answers[IMP_RELEASE_ANSWERS_MAX];
    uint32_t answer_count;
    if (release_answers(request, text, sizeof text, answers, &answer_count, &error) != IMP_OK) {
        imp_request_finish(request, error.status, &error);
        return;
    }
    if (!take_job(jobs, request, &job))
        return;
    struct release_verb *verb = calloc(1, sizeof *verb);
    if (verb == NULL || (user != NULL && (verb->user = strdup(user)) == NULL)) {
        free(verb);
        imp_error_set(&error, IMP_LIMIT, "not enough memory to release a job");
        imp_request_finish(request, IMP_LIMIT, &error);
        return;
    }
    verb->jobs = jobs;
    verb->request = request;
    verb->job = job;
    verb->device.size = sizeof verb->device;
    imp_status status = imp_device_find(self, device, &verb->device);
    if (status != IMP_OK) {
        imp_error_set(&error, status, "there is no device '%s': see imprimctl device list", device);
        release_verb_end(verb, status, &error);
        return;
    }
    imp_request_ask(request, user == NULL ? "card pin" : "password", secrets_answered, verb);
}

/* ---- job cancel ---- */

static void job_cancel(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    imp_id job;
    if (!take_job(instance, request, &job))
        return;
    struct jobs_actor actor = {
        .has_uid = true,
        .uid = imp_request_uid(request),
        .place_kind = "control",
    };
    cancel_job(instance, &job, &administrator, &actor, finish, request);
}

/* ---- job set-owner ---- */

struct owner_verb {
    struct jobs *jobs;
    imp_request *request;
    imp_id job, owner;
    struct jobs_write write;
};

static imp_status owner_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct owner_verb *verb = arg;
    imp_status status;
    bool is_condemned = false;
    char text[IMP_ID_TEXT_SIZE];
    struct jobs_actor actor = {
        .has_uid = true,
        .uid = imp_request_uid(verb->request),
        .place_kind = "control",
    };
    Job *job = job_load(verb->jobs, tx, &verb->job, &status);
    if (job == NULL)
        return imp_error_set(error, status, "there is no such job");
    if (job->situation != JOB_REVIEW && job->situation != JOB_HELD)
        return imp_error_set(error, IMP_INVALID, "the owner of a job that is %s can't be changed",
                             job_situation_name(job->situation));
    status = job_set_owner_tx(verb->jobs, tx, job, verb->owner, error);
    if (status == IMP_OK && job->situation == JOB_REVIEW)
        status = job_apply_tx(verb->jobs, tx, job, JOB_CLAIMED, &is_condemned, error);
    else if (status == IMP_OK)
        status = job_save_tx(verb->jobs, tx, job);
    if (status == IMP_OK)
        status = job_audit_tx(verb->jobs, tx, "job.set-owner", verb->job, &actor, IMP_OK, error,
                              "owner=%s", imp_id_format(verb->owner, text));
    return status;
}

static void owner_done(imp_status status, const imp_error *error, void *arg)
{
    struct owner_verb *verb = arg;
    imp_request_finish(verb->request, status, error);
    free(verb);
}

static void job_set_owner(imp_self *self, void *instance, imp_request *request)
{
    struct jobs *jobs = instance;
    imp_error error = {0};
    imp_id job;
    imp_principal principal = {.size = sizeof principal};
    const char *user = imp_request_value(request, "USER", 0);
    if (!take_job(jobs, request, &job))
        return;
    imp_status status = imp_user_find(self, user, &principal);
    struct owner_verb *verb = status == IMP_OK ? calloc(1, sizeof *verb) : NULL;
    if (verb == NULL) {
        if (status == IMP_OK)
            status = imp_error_set(&error, IMP_LIMIT, "not enough memory to change an owner");
        else
            imp_error_set(&error, status, "there is no such user: see imprimctl user list");
        imp_request_finish(request, status, &error);
        return;
    }
    verb->jobs = jobs;
    verb->request = request;
    verb->job = job;
    verb->owner = principal.id;
    verb->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = owner_tx,
        .done = owner_done,
        .arg = verb,
    };
    jobs_write_submit(&verb->write);
}

/* ---- job confirm-clock ---- */

static void job_confirm_clock(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    expiry_confirm_clock(instance, finish, request);
}

/* ---- the table ---- */

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "job list",
     .arguments = "",
     .options = "queue=QUEUE all limit=NUMBER after=JOB",
     .help = "list jobs in the order in which they came, with --all the ended ones too; --limit of "
             "them (1000, at most 10000), from the one behind --after on",
     .run = job_list},
    {.size = sizeof(imp_verb_spec),
     .words = "job show",
     .arguments = "JOB",
     .options = "",
     .help = "show a job and its last delivery",
     .run = job_show},
    {.size = sizeof(imp_verb_spec),
     .words = "job release",
     .arguments = "JOB",
     .options = "device=DEVICE card user=USER answer=QUESTION=CHOICE",
     .help = "release a held job at a device, as the person whose card and PIN, or password, are "
             "read from standard input; --answer what a module asked about it, each question once",
     .run = job_release},
    {.size = sizeof(imp_verb_spec),
     .words = "job cancel",
     .arguments = "JOB",
     .options = "",
     .help = "cancel a job and shred its documents",
     .run = job_cancel},
    {.size = sizeof(imp_verb_spec),
     .words = "job set-owner",
     .arguments = "JOB USER",
     .options = "",
     .help = "give a quarantined or held job to a user, who can then release it",
     .run = job_set_owner},
    {.size = sizeof(imp_verb_spec),
     .words = "job confirm-clock",
     .arguments = "",
     .options = "",
     .help = "say that the clock is right, so that expiry goes on after a jump of the clock",
     .run = job_confirm_clock},
};

imp_status job_verbs_register(struct jobs *jobs, imp_error *error)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        imp_status status = imp_verb_add(jobs->self, &verbs[i], error);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}
