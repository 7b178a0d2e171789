/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-intake-private.h"

#include <stdlib.h>
#include <string.h>

#include "modules/jobs/document-head.h"
#include "modules/jobs/jobs-rate.h"

#define LIMIT_LOG_MS 10000u

/* ---- memory ---- */

char *intake_copy(struct intake *intake, const char *text)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    struct intake_text *copy = malloc(sizeof *copy + size);
    if (copy == NULL) {
        intake_fail(intake, IMP_LIMIT, NULL);
        return NULL;
    }
    memcpy(copy->bytes, text, size);
    copy->next = intake->texts;
    intake->texts = copy;
    return copy->bytes;
}

imp_status intake_fail(struct intake *intake, imp_status status, const imp_error *error)
{
    if (intake->failed == IMP_OK) {
        intake->failed = status;
        if (error != NULL && error->status == status)
            intake->failure = *error;
        else
            imp_error_set(&intake->failure, status, "the job can't be taken: %s",
                          imp_status_name(status));
    }
    return status;
}

void intake_free(struct intake *intake, bool is_committed)
{
    for (uint32_t i = 0; i < intake->document_count; i++) {
        spool_writer_close(intake->documents[i]->writer, is_committed);
        free(intake->documents[i]);
    }
    free(intake->documents);
    if (intake->has_personal && !is_committed)
        spool_key_release(intake->jobs->spool, &intake->personal_key);
    imp_wipe(&intake->personal_key, sizeof intake->personal_key);
    free(intake->personal);
    free(intake->allowed_principals);
    while (intake->texts != NULL) { /* names of people and of their documents */
        struct intake_text *text = intake->texts;
        intake->texts = text->next;
        imp_wipe(text->bytes, strlen(text->bytes));
        free(text);
    }
    imp_unpin(intake->jobs->self, "intake");
    free(intake);
}

/* ---- the door ---- */

static uint64_t bound(uint64_t of_queue, int64_t of_module)
{
    return of_queue != 0 ? of_queue : (uint64_t)of_module;
}

static imp_status refuse(struct jobs *jobs, enum jobs_refusal reason, imp_status status,
                         const imp_intake_options *options)
{
    jobs_refuse(jobs, reason);
    imp_log_limited(jobs->self, LIMIT_LOG_MS, IMP_LOG_NOTICE, "jobs.refused",
                    "protocol=%s reason=%s status=%s",
                    options->protocol == NULL ? "-" : options->protocol,
                    (const char *const[]){"no-queue", "not-accepting", "no-space", "limit", "rate",
                                          "hook", "not-allowed", "store"}[reason],
                    imp_status_name(status));
    return status;
}

static imp_status copy_queue(struct intake *intake, const Queue *record)
{
    struct jobs_settings *settings = &intake->jobs->settings;
    intake->limits = (struct counter_limits){
        bound(record->jobs_max, atomic_load(&settings->queue_jobs_max)),
        bound(record->bytes_max, atomic_load(&settings->queue_bytes_max)),
        bound(record->user_jobs_max, atomic_load(&settings->user_jobs_max)),
        bound(record->user_bytes_max, atomic_load(&settings->user_bytes_max)),
    };
    intake->allowed_count = record->n_allowed_principals;
    if (intake->allowed_count != 0) {
        intake->allowed_principals = calloc(intake->allowed_count, sizeof(imp_id));
        if (intake->allowed_principals == NULL)
            return intake_fail(intake, IMP_LIMIT, NULL);
        for (size_t i = 0; i < intake->allowed_count; i++)
            intake->allowed_principals[i] = imp_id_of_field(record->allowed_principals[i]);
    }
    for (size_t i = 0; i < record->n_defaults && i < IMP_TICKET_VALUES_MAX; i++) {
        intake->defaults[intake->default_count++] = (imp_ticket_value){
            .layer = IMP_TICKET_QUEUE_DEFAULT,
            .name = intake_copy(intake, record->defaults[i]->name),
            .value = intake_copy(intake, record->defaults[i]->value),
            .source = "admin",
        };
    }
    return intake->failed;
}

/* What can be said before the client has sent a byte. */
static imp_status ask_door(struct intake *intake, const imp_intake_options *options,
                           imp_error *error)
{
    struct jobs *jobs = intake->jobs;
    struct counter_value counter = {0};
    struct spool_space space;
    uint64_t rate = 0, expected = 0;
    imp_tx *tx;

    if (atomic_load(&jobs->is_draining))
        return imp_error_set(error, IMP_UNAVAILABLE, "the server takes no jobs now");
    imp_status status = imp_store_read_begin(jobs->self, &tx, error);
    if (status != IMP_OK)
        return status;
    Queue *record =
        queue_load_by_name(jobs, tx, options->queue == NULL ? "" : options->queue, &status);
    if (record != NULL) {
        intake->queue.size = sizeof intake->queue;
        status = queue_describe(jobs, tx, record, &intake->queue);
        counter = (struct counter_value){0};
        if (status == IMP_OK)
            status = counter_read(jobs, tx, COUNTER_QUEUE, &intake->queue.id, &counter);
        if (status == IMP_OK)
            status = copy_queue(intake, record);
        rate = bound(record->source_rate, atomic_load(&jobs->settings.source_rate));
    }
    imp_store_read_end(tx);
    if (status == IMP_NOT_FOUND) {
        refuse(jobs, JOBS_REFUSED_QUEUE, status, options);
        return imp_error_set(error, status, "there is no such queue");
    }
    if (status != IMP_OK)
        return imp_error_set(error, status, "the queue can't be read: %s", imp_status_name(status));

    if (!intake->queue.is_accepting) {
        refuse(jobs, JOBS_REFUSED_CLOSED, IMP_DENIED, options);
        return imp_error_set(error, IMP_DENIED, "queue %s takes no jobs now", intake->queue.name);
    }
    if (options->expected_size > 0)
        expected = (uint64_t)options->expected_size;
    uint64_t job_bytes_max = (uint64_t)atomic_load(&jobs->settings.job_bytes_max);
    if ((intake->limits.jobs != 0 && counter.jobs >= intake->limits.jobs) ||
        (intake->limits.bytes != 0 && counter.bytes + expected > intake->limits.bytes) ||
        (job_bytes_max != 0 && expected > job_bytes_max)) {
        refuse(jobs, JOBS_REFUSED_LIMIT, IMP_LIMIT, options);
        return imp_error_set(error, IMP_LIMIT, "queue %s is full", intake->queue.name);
    }
    spool_space(jobs->spool, &space);
    if (space.free_bytes == 0 || expected > space.free_bytes) {
        refuse(jobs, JOBS_REFUSED_SPACE, IMP_NO_SPACE, options);
        return imp_error_set(error, IMP_NO_SPACE, "there is no space for this job");
    }
    /* The rate last: what is refused for another reason takes nothing of it. */
    if (rate != 0 && options->address != NULL && options->address[0] != '\0' &&
        !rates_allow(jobs->rates, options->address, rate, imp_ticks())) {
        refuse(jobs, JOBS_REFUSED_RATE, IMP_LIMIT, options);
        return imp_error_set(error, IMP_LIMIT, "more than %llu jobs a minute from one address",
                             (unsigned long long)rate);
    }
    return IMP_OK;
}

/* ---- documents ---- */

static struct intake *intake_of(imp_intake *base)
{
    return (struct intake *)base;
}

/* The document that takes bytes now, or NULL. */
static struct intake_document *open_document(struct intake *intake)
{
    if (intake->document_count == 0)
        return NULL;
    struct intake_document *last = intake->documents[intake->document_count - 1];
    return last->is_ended ? NULL : last;
}

static void writer_is_ready(void *arg)
{
    struct intake *intake = arg;
    if (intake->ready != NULL && !intake->is_committing)
        intake->ready(intake->ready_arg);
}

/* Bytes that a job of this queue may have: what the queue could not take even if it were empty is refused
 * at the bound, and not when a job of unknown size has filled the disk. 0: no bound. */
static uint64_t job_bound(const struct intake *intake)
{
    uint64_t bound = (uint64_t)atomic_load(&intake->jobs->settings.job_bytes_max);
    if (intake->limits.bytes != 0 && (bound == 0 || intake->limits.bytes < bound))
        bound = intake->limits.bytes;
    return bound;
}

static imp_status refuse_too_large(struct intake *intake, imp_error *cause)
{
    jobs_refuse(intake->jobs, JOBS_REFUSED_LIMIT);
    return imp_error_set(cause, IMP_LIMIT, "the job is larger than %llu bytes",
                         (unsigned long long)job_bound(intake));
}

static imp_status intake_document(imp_intake *base, const imp_document_options *options,
                                  imp_error *error)
{
    struct intake *intake = intake_of(base);
    struct jobs *jobs = intake->jobs;
    struct intake_document *document = NULL;
    imp_error cause = {0};
    imp_status status = intake->failed;

    if (status != IMP_OK)
        goto failed;
    if (open_document(intake) != NULL) {
        status = imp_error_set(&cause, IMP_INVALID, "the document before is still open");
        goto failed;
    }
    uint64_t bytes_max = job_bound(intake);
    if (bytes_max != 0 && options->expected_size > 0 &&
        intake->bytes + (uint64_t)options->expected_size > bytes_max) {
        status = refuse_too_large(intake, &cause);
        goto failed;
    }
    if (intake->document_count >= (uint64_t)atomic_load(&jobs->settings.job_documents_max)) {
        jobs_refuse(jobs, JOBS_REFUSED_LIMIT);
        status = imp_error_set(&cause, IMP_LIMIT, "a job has at most %u documents",
                               intake->document_count);
        goto failed;
    }
    if (intake->document_count == intake->document_room) {
        uint32_t room = intake->document_room == 0 ? 4 : intake->document_room * 2;
        void *more = realloc(intake->documents, room * sizeof(struct intake_document *));
        if (more == NULL) {
            status = imp_error_set(&cause, IMP_LIMIT, "not enough memory for a document");
            goto failed;
        }
        intake->documents = more;
        intake->document_room = room;
    }
    document = calloc(1, sizeof *document);
    if (document == NULL) {
        status = imp_error_set(&cause, IMP_LIMIT, "not enough memory for a document");
        goto failed;
    }
    document->intake = intake;
    document->name = intake_copy(intake, options->name);
    document->format = intake_copy(intake, options->format);
    status = intake->failed;
    if (status == IMP_OK)
        status = spool_writer_open(jobs->spool, options->expected_size, writer_is_ready, intake,
                                   &document->writer, &cause);
    if (status == IMP_NO_SPACE)
        jobs_refuse(jobs, JOBS_REFUSED_SPACE);
    if (status == IMP_BUSY) /* a flood: the client may come again */
        status = imp_error_set(&cause, IMP_LIMIT, "too many documents at one time");
    if (status != IMP_OK) {
        free(document);
        goto failed;
    }
    intake->documents[intake->document_count++] = document;
    return IMP_OK;
failed:
    intake_fail(intake, status, &cause);
    if (error != NULL)
        *error = intake->failure;
    return intake->failed;
}

/* Format of each document; user and title of the first that names them. */
static void look_at_head(struct intake *intake, struct intake_document *document)
{
    imp_document_head head = {.size = sizeof head};

    document->is_head_read = true;
    document_head_read(spool_writer_head(document->writer), &head);
    memcpy(document->detected, head.format, sizeof document->detected);
    if (intake->head_user[0] == '\0')
        memcpy(intake->head_user, head.user_name, sizeof intake->head_user);
    if (intake->head_title[0] == '\0')
        memcpy(intake->head_title, head.job_name, sizeof intake->head_title);
    spool_writer_forget_head(document->writer);
    imp_wipe(&head, sizeof head);
}

static imp_status intake_write(imp_intake *base, const void *data, size_t length, imp_error *error)
{
    struct intake *intake = intake_of(base);
    struct intake_document *document = open_document(intake);
    imp_error cause = {0};
    imp_status status = intake->failed;
    uint64_t bytes_max = job_bound(intake);

    if (status == IMP_OK && document == NULL)
        status = imp_error_set(&cause, IMP_INVALID, "no document is open");
    if (status == IMP_OK && bytes_max != 0 && intake->bytes + length > bytes_max)
        status = refuse_too_large(intake, &cause);
    if (status == IMP_OK)
        status = spool_writer_write(document->writer, data, length, &cause);
    if (status == IMP_OK || status == IMP_BUSY) {
        intake->bytes += length;
        /* A long document's head is not kept until its end. */
        if (!document->is_head_read &&
            spool_writer_head(document->writer).length >= IMP_DOCUMENT_HEAD_MAX)
            look_at_head(intake, document);
        return status;
    }
    if (status == IMP_NO_SPACE)
        jobs_refuse(intake->jobs, JOBS_REFUSED_SPACE);
    intake_fail(intake, status, &cause);
    if (error != NULL)
        *error = intake->failure;
    return intake->failed;
}

static void document_is_sealed(imp_status status, const imp_error *error, void *arg)
{
    struct intake_document *document = arg;
    struct intake *intake = document->intake;
    document->is_sealed = status == IMP_OK;
    intake->unsealed--;
    if (status != IMP_OK)
        intake_fail(intake, status, error);
    if (intake->is_committing && intake->unsealed == 0)
        intake_commit_continue(intake);
}

static imp_status intake_document_end(imp_intake *base, imp_error *error)
{
    struct intake *intake = intake_of(base);
    struct intake_document *document = open_document(intake);
    imp_error cause = {0};
    imp_status status = intake->failed;

    if (status == IMP_OK && document == NULL)
        status = imp_error_set(&cause, IMP_INVALID, "no document is open");
    if (status == IMP_OK) {
        document->is_ended = true;
        if (!document->is_head_read)
            look_at_head(intake, document);
        status = spool_writer_finish(document->writer, document_is_sealed, document, &cause);
        if (status == IMP_BUSY) {
            intake->unsealed++; /* the commit waits for it */
            return IMP_OK;
        }
        document->is_sealed = status == IMP_OK;
    }
    if (status == IMP_OK)
        return IMP_OK;
    intake_fail(intake, status, &cause);
    if (error != NULL)
        *error = intake->failure;
    return intake->failed;
}

static void intake_abandon(imp_intake *base)
{
    intake_free(intake_of(base), false);
}

static const struct imp_intake_ops operations = {
    .size = sizeof operations,
    .document = intake_document,
    .write = intake_write,
    .document_end = intake_document_end,
    .commit = intake_commit,
    .abandon = intake_abandon,
};

imp_status intake_begin(struct jobs *jobs, imp_self *caller IMP_UNUSED,
                        const imp_intake_options *options, imp_intake **result, imp_error *error)
{
    struct intake *intake = calloc(1, sizeof *intake);
    if (intake == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory for a job");
    intake->base.ops = &operations;
    intake->jobs = jobs;
    intake->loop = imp_loop_current();
    imp_pin(jobs->self, "intake");
    intake->ready = options->ready;
    intake->ready_arg = options->arg;
    intake->protocol = intake_copy(intake, options->protocol == NULL ? "" : options->protocol);
    intake->address = intake_copy(intake, options->address == NULL ? "" : options->address);
    imp_status status = intake->failed;
    if (status == IMP_OK)
        status = ask_door(intake, options, error);
    else if (error != NULL)
        *error = intake->failure;
    if (status != IMP_OK) {
        intake_free(intake, false);
        return status;
    }
    *result = &intake->base;
    return IMP_OK;
}

void intake_acknowledged(struct jobs *jobs, const imp_id *job)
{
    submissions_acknowledged(jobs->submissions, job);
}

void intake_submitter(struct jobs *jobs, const char *user_name, const char *address,
                      uint8_t submitter[INTAKE_SUBMITTER_SIZE])
{
    uint8_t hash[IMP_HASH_SIZE];
    char text[512];
    size_t user = strnlen(user_name, 255), host = strnlen(address, 255);
    memcpy(text, user_name, user);
    text[user] = '\0'; /* neither holds a NUL, so the pair is unambiguous */
    memcpy(text + user + 1, address, host);
    imp_keyed_hash(jobs->self, "submitter", (imp_bytes){text, user + 1 + host}, hash);
    memcpy(submitter, hash, INTAKE_SUBMITTER_SIZE);
    imp_wipe(text, sizeof text);
}
