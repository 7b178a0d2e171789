/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of device lines: claims, hands to transports, cancels, recovers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-bad.h"
#include "modules/jobs/jobs-delivery-private.h"

/* A transport may be started after us: so long a device's first delivery waits for it. */
#define TRANSPORT_PATIENCE (10 * IMP_SECOND)
#define TRANSPORT_LOOK (200 * IMP_MILLISECOND)
/* When another generation runs the device's delivery, or the store did not answer. */
#define LINE_LOOK (1 * IMP_SECOND)

/* ---- lines ---- */

static uint32_t loop_of(const struct jobs *jobs, const imp_id *device)
{
    return jobs_get_u32(device->bytes) % jobs->loop_count;
}

static struct device_line *line_find(struct jobs *jobs, const imp_id *device)
{
    struct device_line *line = jobs->lines[loop_of(jobs, device)];
    while (line != NULL && !imp_id_equal(line->device, *device))
        line = line->next;
    return line;
}

static void line_look(void *arg)
{
    struct device_line *line = arg;
    line->timer = NULL;
    line_next(line);
}

static void line_look_later(struct device_line *line, int64_t delay)
{
    if (line->timer == NULL)
        line->timer = imp_timer_start(line->jobs->self, delay, false, line_look, line);
}

static imp_status claim_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct device_line *line = arg;
    imp_status status = claim_next_tx(line->jobs, tx, &line->device, &line->claim, error);
    return status;
}

static void claim_done(imp_status status, const imp_error *error, void *arg)
{
    struct device_line *line = arg;
    struct claim claim = line->claim;
    line->claim = (struct claim){0};
    line->is_claiming = false;
    if (status != IMP_OK) {
        claim_clear(&claim);
        imp_log_limited(line->jobs->self, 10000, IMP_LOG_ERROR, "jobs.claim-failed",
                        "status=%s reason=\"%s\"", imp_status_name(status),
                        error == NULL ? "" : error->message);
        line_look_later(line, LINE_LOOK);
        return;
    }
    line_claimed(line, &claim);
}

void line_next(struct device_line *line)
{
    if (line->running != NULL || line->is_claiming) {
        line->wakes_again = true;
        return;
    }
    if (atomic_load(&line->jobs->is_draining))
        return;
    imp_timer_cancel(line->timer);
    line->timer = NULL;
    line->is_claiming = true;
    line->wakes_again = false;
    line->write = (struct jobs_write){
        .jobs = line->jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = claim_tx,
        .done = claim_done,
        .arg = line,
    };
    jobs_write_submit(&line->write);
}

struct wake {
    struct jobs *jobs;
    imp_id device;
};

static void wake_on_loop(void *arg)
{
    struct wake *wake = arg;
    struct jobs *jobs = wake->jobs;
    struct device_line *line = line_find(jobs, &wake->device);
    if (line == NULL && (line = calloc(1, sizeof *line)) != NULL) {
        struct device_line **head = &jobs->lines[loop_of(jobs, &wake->device)];
        line->jobs = jobs;
        line->device = wake->device;
        line->next = *head;
        *head = line;
    }
    free(wake);
    if (line != NULL)
        line_next(line);
}

void delivery_wake(struct jobs *jobs, const imp_id *device)
{
    struct wake *wake = malloc(sizeof *wake);
    if (wake == NULL)
        return; /* the row is in the store: the next wake of this device finds it */
    *wake = (struct wake){jobs, *device};
    if (jobs_post(jobs, imp_loop_at(loop_of(jobs, device)), wake_on_loop, wake) != IMP_OK)
        free(wake);
}

void delivery_free_lines(struct jobs *jobs)
{
    for (uint32_t i = 0; jobs->lines != NULL && i < jobs->loop_count; i++) {
        while (jobs->lines[i] != NULL) {
            struct device_line *line = jobs->lines[i];
            jobs->lines[i] = line->next;
            free(line);
        }
    }
    free(jobs->lines);
    jobs->lines = NULL;
}

/* ---- starting one ---- */

static void hold(struct delivery *delivery)
{
    struct jobs *jobs = delivery->jobs;
    pthread_mutex_lock(&jobs->held_lock);
    delivery->next_held = jobs->deliveries_held;
    delivery->held_link = &jobs->deliveries_held;
    if (delivery->next_held != NULL)
        delivery->next_held->held_link = &delivery->next_held;
    jobs->deliveries_held = delivery;
    pthread_mutex_unlock(&jobs->held_lock);
}

static void let_go(struct delivery *delivery)
{
    pthread_mutex_lock(&delivery->jobs->held_lock);
    *delivery->held_link = delivery->next_held;
    if (delivery->next_held != NULL)
        delivery->next_held->held_link = delivery->held_link;
    pthread_mutex_unlock(&delivery->jobs->held_lock);
}

bool delivery_is_held(struct jobs *jobs, imp_id id)
{
    pthread_mutex_lock(&jobs->held_lock);
    const struct delivery *delivery = jobs->deliveries_held;
    while (delivery != NULL && !record_id_is(delivery->record->id, id))
        delivery = delivery->next_held;
    pthread_mutex_unlock(&jobs->held_lock);
    return delivery != NULL;
}

void delivery_free(struct delivery *delivery)
{
    let_go(delivery);
    spool_reader_close(delivery->reader);
    imp_timer_cancel(delivery->evidence_timer);
    imp_timer_cancel(delivery->stop_timer);
    imp_timer_cancel(delivery->transport_timer);
    imp_message_free(delivery->job);
    imp_message_free(delivery->record);
    if (delivery->personal != NULL) {
        imp_wipe(delivery->personal->user_name, strlen(delivery->personal->user_name));
        imp_wipe(delivery->personal->job_name, strlen(delivery->personal->job_name));
        imp_message_free(delivery->personal);
    }
    if (delivery->terms != NULL)
        terms_free(delivery->terms);
    free(delivery->terms);
    free(delivery->documents);
    imp_unpin(delivery->jobs->self, "delivery");
    free(delivery);
}

/* The personal strings; a job without them (shredded, or of another key pool) is sent nameless. */
static void load_personal(struct delivery *delivery, imp_tx *tx)
{
    struct jobs *jobs = delivery->jobs;
    uint8_t row[JOBS_SEQUENCE_SIZE];
    imp_bytes sealed;
    struct spool_key key;
    size_t length = 0;
    const ProtobufCBinaryData *text = &delivery->job->text;
    jobs_put_u64(row, delivery->job->sequence);
    if (text->len == 0 || spool_key_unpack((imp_bytes){text->data, text->len}, &key) != IMP_OK ||
        imp_tx_get(tx, jobs->tables.personal, (imp_bytes){row, sizeof row}, &sealed) != IMP_OK ||
        sealed.length < SPOOL_STRINGS_OVERHEAD)
        return;
    uint8_t *plain = malloc(sealed.length);
    if (plain != NULL &&
        spool_strings_open(jobs->spool, &key, sealed, plain, &length, NULL) == IMP_OK)
        delivery->personal = imp_message_decode(NULL, PERSONAL_TYPE, (imp_bytes){plain, length});
    if (plain != NULL)
        imp_wipe(plain, sealed.length);
    free(plain);
    imp_wipe(&key, sizeof key);
}

static imp_status load_documents(struct delivery *delivery)
{
    const Job *job = delivery->job;
    if (!job->has_documents || job->n_documents == 0)
        return IMP_NOT_FOUND;
    delivery->documents = calloc(job->n_documents, sizeof *delivery->documents);
    if (delivery->documents == NULL)
        return IMP_LIMIT;
    for (size_t i = 0; i < job->n_documents; i++) {
        const ProtobufCBinaryData *reference = &job->documents[i]->reference;
        imp_status status = spool_document_unpack((imp_bytes){reference->data, reference->len},
                                                  &delivery->documents[i]);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}

static imp_status load(struct delivery *delivery, imp_error *error)
{
    struct jobs *jobs = delivery->jobs;
    imp_delivery_info *info = &delivery->info;
    const Job *job = delivery->job;
    imp_id id = imp_id_of_field(delivery->record->device);
    uint32_t count = 0;
    imp_tx *tx;

    delivery->device.size = sizeof delivery->device;
    imp_status status = imp_device_get(jobs->self, &id, &delivery->device);
    if (status != IMP_OK)
        return imp_error_set(error, IMP_NOT_FOUND, "the device is not there any more");
    if (!delivery->device.is_enabled)
        return imp_error_set(error, IMP_UNAVAILABLE, "the device is disabled");
    status = load_documents(delivery);
    delivery->is_document_lost = status == IMP_NOT_FOUND;
    delivery->is_document_corrupt = status == IMP_CORRUPT;
    if (status != IMP_OK)
        return imp_error_set(error, status, "the job's documents can't be opened: %s",
                             imp_status_name(status));
    if ((status = imp_store_read_begin(jobs->self, &tx, error)) != IMP_OK)
        return status;
    imp_id queue_id = imp_id_of_field(job->queue);
    Queue *queue = queue_load(jobs, tx, &queue_id, &status);
    if (queue != NULL) {
        info->queue_flags = queue->flags;
        delivery->private_mode = (imp_queue_private)queue->private_mode;
    }
    load_personal(delivery, tx);
    imp_store_read_end(tx);

    count = record_ticket_add(job->ticket, job->n_ticket, delivery->ticket, count,
                              2 * IMP_TICKET_VALUES_MAX);
    count = record_ticket_add(delivery->record->change, delivery->record->n_change,
                              delivery->ticket, count, 3 * IMP_TICKET_VALUES_MAX);
    info->size = sizeof *info;
    info->id = imp_id_of_field(delivery->record->id);
    info->job = imp_id_of_field(job->id);
    info->device = id;
    info->device_name = delivery->device.name;
    info->device_capabilities = delivery->device.capabilities;
    info->ticket = (imp_ticket){delivery->ticket, ticket_resolve(delivery->ticket, count)};
    info->document_count = (uint32_t)job->n_documents;
    info->document_bytes = job->bytes;
    info->user_name = delivery->personal == NULL ? "" : delivery->personal->user_name;
    info->job_name = delivery->personal == NULL ? "" : delivery->personal->job_name;
    info->owner_id = imp_id_of_field(job->owner);
    return IMP_OK;
}

/* Offers the delivery to the transports of the device's addresses, in order. */
static imp_status offer(struct delivery *delivery, bool *has_transport, imp_error *error)
{
    imp_status status =
        imp_error_set(error, IMP_UNSUPPORTED, "no transport for the addresses of device %s",
                      delivery->device.name);
    for (uint32_t i = 0; i < delivery->device.uri_count && i < IMP_DEVICE_URIS_MAX; i++) {
        const char *uri = delivery->device.uris[i], *colon = strchr(uri, ':');
        imp_service_call call;
        if (colon == NULL || colon - uri > 15)
            continue;
        snprintf(delivery->transport, sizeof delivery->transport, "transport.%.*s",
                 (int)(colon - uri), uri);
        const imp_transport_v1 *transport =
            imp_service_enter(delivery->jobs->self, delivery->transport, 1, &call);
        if (transport == NULL)
            continue;
        *has_transport = true;
        delivery->info.uri = uri;
        status = transport->deliver(call.provider, &delivery->base, error);
        imp_service_leave(&call);
        if (status == IMP_OK)
            return IMP_OK;
    }
    return status;
}

static void start_again(void *arg)
{
    struct delivery *delivery = arg;
    delivery->transport_timer = NULL;
    delivery_start(delivery);
}

void delivery_start(struct delivery *delivery)
{
    struct jobs *jobs = delivery->jobs;
    bool has_transport = false;
    delivery->last_sign = imp_ticks();
    delivery->is_offered = true;
    imp_at_hand(IMP_AT_HAND_DELIVERY, delivery->info.id);
    imp_error error = {0};
    imp_status status = offer(delivery, &has_transport, &error);
    if (status == IMP_OK)
        return;
    delivery->error = error;
    if (!has_transport && imp_ticks() - jobs->started_ticks < TRANSPORT_PATIENCE &&
        !delivery->is_cancel_asked) {
        delivery->transport_timer =
            imp_timer_start(jobs->self, TRANSPORT_LOOK, false, start_again, delivery);
        if (delivery->transport_timer != NULL)
            return;
    }
    delivery->outcome = IMP_DELIVERY_NOT_STARTED;
    delivery_commit_end(delivery);
}

/* ---- hooks of a direct job ---- */

static void end_unstarted(struct delivery *delivery)
{
    delivery->outcome = IMP_DELIVERY_NOT_STARTED;
    delivery_commit_end(delivery);
}

static void hooks_answered(imp_status status, const imp_error *error, void *arg)
{
    struct delivery *delivery = arg;
    if (delivery->is_lost) { /* the hooks took longer than its lease */
        delivery_give_back(delivery);
        return;
    }
    if (status == IMP_OK) {
        delivery->info.ticket = delivery->terms->argument.ticket;
        delivery_start(delivery);
        return;
    }
    if (error != NULL)
        delivery->error = *error;
    delivery->is_error_of_hook = true;
    /* A refusal is final, and a question too, for nobody is there; a module's own troubles pass. */
    delivery->is_denied =
        status == IMP_DENIED || status == IMP_INVALID || status == IMP_UNSUPPORTED;
    end_unstarted(delivery);
}

/* What a person released has been through the hooks before its claim; a direct job comes by here. */
static void ask_hooks(struct delivery *delivery)
{
    struct release_terms *terms = delivery->terms = calloc(1, sizeof *terms);
    imp_status status = IMP_LIMIT;
    if (terms == NULL)
        imp_error_set(&delivery->error, status, "not enough memory to ask about a job");
    else if ((status = terms_init(terms, NULL, &delivery->error)) == IMP_OK)
        status = terms_describe(terms, delivery->job, &delivery->device, &delivery->error);
    if (status == IMP_OK)
        imp_hook_ask(delivery->jobs->self, "job.release", &terms->argument, hooks_answered,
                     delivery);
    else
        end_unstarted(delivery);
}

void line_claimed(struct device_line *line, struct claim *claim)
{
    struct jobs *jobs = line->jobs;
    struct delivery *delivery;
    int64_t delay = claim->not_before - imp_now();

    bad_tell(jobs, "line", &claim->bad);
    switch (claim->status) {
    case IMP_OK: break;
    case IMP_TIMEOUT:
        line_look_later(line, delay < IMP_MILLISECOND ? IMP_MILLISECOND : delay);
        break;
    case IMP_BUSY: /* another generation is at it */ line_look_later(line, LINE_LOOK); break;
    default: break;
    }
    if (claim->status != IMP_OK) {
        claim_clear(claim);
        if (line->wakes_again)
            line_next(line);
        return;
    }
    delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL) { /* claimed, and nobody to do it: its lease runs out */
        imp_log(jobs->self, IMP_LOG_CRITICAL, "jobs.delivery-memory", "status=limit");
        claim_clear(claim);
        return;
    }
    imp_pin(jobs->self, "delivery");
    imp_metric_add(jobs->metrics.deliveries, 1);
    delivery->base.ops = &delivery_operations;
    delivery->jobs = jobs;
    delivery->line = line;
    delivery->loop = imp_loop_current();
    delivery->job = claim->job;
    delivery->record = claim->record;
    *claim = (struct claim){0};
    delivery->reading = UINT32_MAX;
    line->running = delivery;
    hold(delivery);
    delivery->word = imp_sent_begin(imp_id_of_field(delivery->record->id));
    delivery->last_sign = imp_ticks();
    imp_status status = load(delivery, &delivery->error);
    if (status != IMP_OK)
        end_unstarted(delivery);
    else if (!delivery->job->was_hold && imp_hook_count("job.release") != 0)
        ask_hooks(delivery);
    else
        delivery_start(delivery);
}

/* ---- canceling ---- */

bool delivery_ask_to_stop(struct delivery *delivery)
{
    if (delivery->is_finished)
        return true; /* its end is being committed */
    if (delivery->transport_timer != NULL) {
        imp_timer_cancel(delivery->transport_timer);
        delivery->transport_timer = NULL;
        delivery->outcome = IMP_DELIVERY_NOT_STARTED;
        delivery_commit_end(delivery);
        return true;
    }
    if (delivery->base.cancel == NULL)
        return false;
    delivery->base.cancel(&delivery->base, delivery->base.arg);
    return true;
}

static void cancel_answered(void *arg)
{
    struct delivery_cancel *cancel = arg;
    cancel->done(cancel, cancel->status);
}

static void cancel_answer(struct delivery_cancel *cancel, imp_status status)
{
    cancel->status = status;
    if (jobs_post(cancel->jobs, cancel->loop, cancel_answered, cancel) != IMP_OK)
        cancel->done(cancel, IMP_UNAVAILABLE);
}

void delivery_answer_cancels(struct delivery *delivery, imp_status status)
{
    while (delivery->cancels != NULL) {
        struct delivery_cancel *cancel = delivery->cancels;
        delivery->cancels = cancel->next;
        cancel_answer(cancel, status);
    }
}

static void cancel_on_loop(void *arg)
{
    struct delivery_cancel *cancel = arg;
    struct device_line *line = line_find(cancel->jobs, &cancel->device);
    struct delivery *delivery = line == NULL ? NULL : line->running;

    if (delivery == NULL || !record_id_is(delivery->job->id, cancel->job)) {
        cancel_answer(cancel, line != NULL && line->is_claiming ? IMP_BUSY : IMP_NOT_FOUND);
        return;
    }
    if (!delivery->is_finished && delivery->base.cancel == NULL &&
        delivery->transport_timer == NULL) {
        cancel_answer(cancel, IMP_BUSY);
        return;
    }
    delivery->is_cancel_asked = true;
    delivery->is_cancel_by_operator = cancel->by_operator;
    delivery->canceler = cancel->actor;
    cancel->next = delivery->cancels;
    delivery->cancels = cancel;
    /* With a limit: nothing else ends one whose device was in trouble when its transport began to hang. */
    if (!delivery->is_finished)
        delivery_stop_soon(delivery);
}

imp_status delivery_cancel_ask(struct delivery_cancel *cancel)
{
    struct jobs *jobs = cancel->jobs;
    cancel->loop = imp_loop_current();
    return jobs_post(jobs, imp_loop_at(loop_of(jobs, &cancel->device)), cancel_on_loop, cancel);
}

/* ---- looking at them ---- */

void delivery_each_on_loop(struct jobs *jobs, void (*visit)(struct delivery *delivery))
{
    uint32_t index = imp_loop_index(imp_loop_current());
    if (index >= jobs->loop_count)
        return;
    for (struct device_line *line = jobs->lines[index]; line != NULL; line = line->next) {
        if (line->running != NULL)
            visit(line->running);
    }
}
