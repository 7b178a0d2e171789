/* SPDX-License-Identifier: Apache-2.0 */
/* The commits of a delivery: claim, events in between, the end together with the next claim. */
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-bad.h"
#include "modules/jobs/jobs-delivery-private.h"

/* ---- claims ---- */

void claim_clear(struct claim *claim)
{
    imp_message_free(claim->job);
    imp_message_free(claim->record);
    *claim = (struct claim){0};
}

/* A copy of a message that outlives its transaction. */
static void *heap_copy(const void *message)
{
    const ProtobufCMessageDescriptor *type = ((const ProtobufCMessage *)message)->descriptor;
    size_t length;
    uint8_t *packed = record_encode(message, &length);
    void *copy =
        packed == NULL ? NULL : imp_message_decode(NULL, type, (imp_bytes){packed, length});
    free(packed);
    return copy;
}

imp_status claim_next_tx(struct jobs *jobs, imp_tx *tx, const imp_id *device, struct claim *claim,
                         imp_error *error)
{
    Job *job = NULL;
    Delivery *record = NULL;
    claim_clear(claim); /* a closure may run again */
    claim->status =
        line_claim_tx(jobs, tx, device, &job, &record, &claim->not_before, &claim->bad, error);
    switch (claim->status) {
    case IMP_NOT_FOUND:
    case IMP_BUSY:
    case IMP_TIMEOUT: return IMP_OK; /* nothing was written */
    case IMP_OK: break;
    default: return claim->status;
    }
    claim->job = heap_copy(job);
    claim->record = heap_copy(record);
    if (claim->job == NULL || claim->record == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory for a delivery");
    struct jobs_actor actor = {
        .principal = imp_id_of_field(record->releaser),
        .place_kind = "device",
        .place = *device,
    };
    char id[IMP_ID_TEXT_SIZE];
    return job_audit_tx(jobs, tx, "delivery.start", imp_id_of_field(job->id), &actor, IMP_OK, error,
                        "delivery=%s attempt=%u", imp_id_format(imp_id_of_field(record->id), id),
                        record->attempt);
}

/* ---- events in between ---- */

struct event_write {
    struct jobs *jobs;
    uint64_t sequence;
    imp_id delivery;
    enum job_event event;
    bool shreds;
    bool is_condemned;
    struct jobs_write write;
};

static imp_status event_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct event_write *event = arg;
    imp_status status;
    event->is_condemned = false;
    Job *job = job_load_sequence(event->jobs, tx, event->sequence, &status);
    if (job == NULL || !record_id_is(job->delivery, event->delivery))
        return IMP_OK; /* the delivery has ended meanwhile */
    if (event->event == JOB_SENT) {
        Delivery *record = job_load_delivery(event->jobs, tx, job, &status);
        if (record != NULL) {
            record->state = DELIVERY_SENT;
            status = delivery_save_tx(event->jobs, tx, record);
        }
        if (status == IMP_OK && event->shreds)
            status = job_condemn_documents_tx(event->jobs, tx, job, &event->is_condemned, error);
        if (status != IMP_OK)
            return status;
    }
    return job_apply_tx(event->jobs, tx, job, event->event, &event->is_condemned, error);
}

static void event_done(imp_status status, const imp_error *error, void *arg)
{
    struct event_write *event = arg;
    if (status != IMP_OK)
        imp_log_limited(event->jobs->self, 10000, IMP_LOG_WARNING, "jobs.event-failed",
                        "event=%s status=%s reason=\"%s\"", job_event_name(event->event),
                        imp_status_name(status), error == NULL ? "" : error->message);
    else if (event->is_condemned)
        spool_shred(event->jobs->spool, NULL, NULL);
    imp_unpin(event->jobs->self, "event");
    free(event);
}

void delivery_commit_event(struct delivery *delivery, enum job_event job_event)
{
    struct event_write *event = calloc(1, sizeof *event);
    if (event == NULL)
        return; /* only what is shown meanwhile is missing: the end says it all */
    imp_pin(delivery->jobs->self, "event");
    event->jobs = delivery->jobs;
    event->sequence = delivery->job->sequence;
    event->delivery = delivery->info.id;
    event->event = job_event;
    event->shreds = delivery->private_mode == IMP_PRIVATE_SENT;
    event->write = (struct jobs_write){
        .jobs = delivery->jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = event_tx,
        .done = event_done,
        .arg = event,
    };
    jobs_write_submit(&event->write);
}

/* ---- the end ---- */

struct ending {
    enum job_event event;
    uint32_t state; /* of the delivery's record */
    const char *evidence;
};

/* What an outcome means for the job. At most once after the first byte: a delivery that may have begun
 * never goes back into a line. */
static struct ending ending_of(const struct delivery *delivery, const Job *job)
{
    struct jobs_settings *settings = &delivery->jobs->settings;
    int64_t limit = atomic_load(&settings->retry_limit);
    imp_delivery_outcome outcome = delivery->outcome;

    if (delivery->is_sent && outcome != IMP_DELIVERY_CONFIRMED && outcome != IMP_DELIVERY_CANCELED)
        outcome = IMP_DELIVERY_UNCONFIRMED;
    else if (delivery->has_first_byte && outcome == IMP_DELIVERY_NOT_STARTED)
        outcome = IMP_DELIVERY_UNCERTAIN;

    if (delivery->is_document_lost)
        return (struct ending){JOB_LOSE_DOCUMENT,
                               delivery->has_first_byte ? DELIVERY_UNCERTAIN : DELIVERY_NOT_STARTED,
                               "none"};
    switch (outcome) {
    case IMP_DELIVERY_CONFIRMED: return (struct ending){JOB_EVIDENCE, DELIVERY_CONFIRMED, "device"};
    case IMP_DELIVERY_UNCONFIRMED:
        return (struct ending){JOB_NO_EVIDENCE, DELIVERY_UNCONFIRMED, "none"};
    case IMP_DELIVERY_CANCELED:
        return (struct ending){JOB_CANCEL_DEVICE, DELIVERY_CANCELED, "device"};
    default: break;
    }
    if (delivery->is_cancel_asked)
        return (struct ending){delivery->is_cancel_by_operator ? JOB_CANCEL_OPERATOR
                                                               : JOB_CANCEL_USER,
                               DELIVERY_CANCELED, "none"};
    if (outcome != IMP_DELIVERY_NOT_STARTED)
        return (struct ending){JOB_DOUBT, DELIVERY_UNCERTAIN, "none"};
    if (job->was_hold)
        return (struct ending){job->is_doubted ? JOB_RETURN_DOUBTED : JOB_RETURN,
                               DELIVERY_NOT_STARTED, "none"};
    if (delivery->is_denied || delivery->is_document_corrupt ||
        (limit != 0 && job->attempts >= (uint64_t)limit))
        return (struct ending){JOB_GIVE_UP, DELIVERY_NOT_STARTED, "none"};
    return (struct ending){JOB_RETRY, DELIVERY_NOT_STARTED, "none"};
}

static int64_t back_off(struct jobs *jobs, uint32_t attempts)
{
    int64_t delay = atomic_load(&jobs->settings.retry_first);
    int64_t longest = atomic_load(&jobs->settings.retry_longest);
    for (uint32_t i = 1; i < attempts && delay < longest; i++)
        delay *= 2;
    return delay < longest ? delay : longest;
}

/* Of the job: uncertain, when it still is this delivery's and its records let themselves be read. */
static imp_status end_in_doubt_tx(struct delivery *delivery, imp_tx *tx, imp_error *error)
{
    struct jobs *jobs = delivery->jobs;
    imp_status status;
    uint32_t unused;
    imp_id id = imp_id_of_field(delivery->record->id);
    struct jobs_actor actor = {
        .principal = imp_id_of_field(delivery->record->releaser),
        .place_kind = "device",
        .place = imp_id_of_field(delivery->record->device),
    };
    char text[IMP_ID_TEXT_SIZE];
    Job *job = job_load_sequence(jobs, tx, delivery->record->job_sequence, &status);
    if (job == NULL)
        return status;
    if (!record_id_is(job->delivery, id) ||
        job_situation_next(job->situation, JOB_DOUBT, &unused) != IMP_OK)
        return IMP_OK; /* somebody else has ended it */
    Delivery *record = job_load_delivery(jobs, tx, job, &status);
    if (record != NULL) {
        record->state = DELIVERY_UNCERTAIN;
        record->ended = imp_now();
        record->bytes_sent = delivery->bytes_sent;
        record->transport = delivery->transport;
        record->status = (uint32_t)delivery->error.status;
        if ((status = delivery_save_tx(jobs, tx, record)) != IMP_OK)
            return status;
    }
    status = job_apply_tx(jobs, tx, job, JOB_DOUBT, &delivery->is_condemned, error);
    if (status == IMP_OK)
        status = job_audit_tx(
            jobs, tx, "delivery.end", imp_id_of_field(job->id), &actor, delivery->error.status,
            error, "delivery=%s state=%s job=%s bytes=%llu", imp_id_format(id, text),
            delivery_state_name(DELIVERY_UNCERTAIN), job_situation_name(job->situation),
            (unsigned long long)delivery->bytes_sent);
    return status;
}

/* The end that the store refused, with what it may still take. The next job is claimed by another commit. */
static imp_status end_refused_tx(struct delivery *delivery, imp_tx *tx, imp_error *error)
{
    uint8_t key[LINE_KEY_SIZE];
    line_key_of(key, delivery->job, delivery->record);
    imp_status status =
        line_set_aside_tx(delivery->jobs, tx, (imp_bytes){key, sizeof key}, NULL, JOB_DOUBT, error);
    if (status == IMP_OK && delivery->end_mode == END_IN_DOUBT)
        status = end_in_doubt_tx(delivery, tx, error);
    delivery->situation = JOB_UNCERTAIN;
    delivery->next.status = IMP_NOT_FOUND;
    return status;
}

static imp_status end_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct delivery *delivery = arg;
    struct jobs *jobs = delivery->jobs;
    imp_status status;
    imp_id device = imp_id_of_field(delivery->record->device);
    imp_id id = imp_id_of_field(delivery->record->id);
    struct jobs_actor actor = {.place_kind = "device", .place = device};
    char text[IMP_ID_TEXT_SIZE];

    delivery->is_condemned = false;
    claim_clear(&delivery->next);
    if (delivery->end_mode != END_AS_IT_WAS) {
        status = end_refused_tx(delivery, tx, error);
        goto done;
    }
    Job *job = job_load_sequence(jobs, tx, delivery->record->job_sequence, &status);
    if (job == NULL)
        goto done;
    Delivery *record = job_load_delivery(jobs, tx, job, &status);
    if (record == NULL)
        goto done;
    if (!record_id_is(record->id, id) || !record_id_is(job->delivery, id)) {
        status = imp_error_set(error, IMP_CORRUPT, "the job has another delivery meanwhile");
        goto done;
    }
    struct ending ending = ending_of(delivery, job);
    if (delivery->is_sent && !job_situation_is_final(job->situation)) {
        /* The commit of "sent" may not have come through: the table knows both ways. */
        uint32_t unused;
        if (job_situation_next(job->situation, ending.event, &unused) != IMP_OK)
            ending = (struct ending){JOB_NO_EVIDENCE, DELIVERY_UNCONFIRMED, "none"};
    }
    record->state = ending.state;
    record->ended = imp_now();
    record->bytes_sent = delivery->bytes_sent;
    record->transport = delivery->transport;
    record->evidence = (char *)(uintptr_t)ending.evidence;
    record->status = (uint32_t)delivery->error.status;
    actor.principal = imp_id_of_field(record->releaser);
    if ((status = delivery_save_tx(jobs, tx, record)) != IMP_OK)
        goto done;
    if ((status = line_leave_tx(jobs, tx, job)) != IMP_OK)
        goto done;
    if (ending.event == JOB_RETRY) {
        struct delivery_plan plan = {
            .id = imp_id_new(),
            .device = device,
            .not_before = imp_now() + back_off(jobs, job->attempts),
            .line_number = record->line_number,
        };
        if ((status = line_join_tx(jobs, tx, job, &plan, error)) != IMP_OK)
            goto done;
    }
    status = job_apply_tx(jobs, tx, job, ending.event, &delivery->is_condemned, error);
    if (status != IMP_OK)
        goto done;
    delivery->situation = job->situation;
    status =
        job_audit_tx(jobs, tx, "delivery.end", imp_id_of_field(job->id), &actor,
                     delivery->error.status, error, "delivery=%s state=%s job=%s bytes=%llu",
                     imp_id_format(id, text), delivery_state_name(record->state),
                     job_situation_name(job->situation), (unsigned long long)delivery->bytes_sent);
    if (status == IMP_OK &&
        (ending.event == JOB_CANCEL_USER || ending.event == JOB_CANCEL_OPERATOR))
        status = job_audit_tx(jobs, tx, "job.cancel", imp_id_of_field(job->id), &delivery->canceler,
                              IMP_OK, error, "state=%s", job_situation_name(job->situation));
    if (status == IMP_OK && !atomic_load(&jobs->is_draining))
        status = claim_next_tx(jobs, tx, &device, &delivery->next, error);
    else
        delivery->next.status = IMP_NOT_FOUND;
done:
    if (status != IMP_OK && (error == NULL || error->status != status))
        imp_error_set(error, status, "the delivery's end can't be recorded: %s",
                      imp_status_name(status));
    return status;
}

static void count_end(const struct delivery *delivery)
{
    struct jobs_metrics *metrics = &delivery->jobs->metrics;
    switch (job_situation_state(delivery->situation)) {
    case IMP_JOB_COMPLETED:
        imp_metric_add(metrics->delivered, 1);
        imp_metric_add(metrics->delivered_bytes, (int64_t)delivery->bytes_sent);
        break;
    case IMP_JOB_CANCELED: imp_metric_add(metrics->canceled, 1); break;
    default:
        imp_metric_add(delivery->situation == JOB_UNCERTAIN ? metrics->uncertain : metrics->failed,
                       1);
    }
    if (job_situation_is_final(delivery->situation) && delivery->job->was_hold)
        imp_metric_add(metrics->held, -1);
}

static void end_again(void *arg)
{
    struct delivery *delivery = arg;
    delivery->transport_timer = NULL;
    delivery_commit_end(delivery);
}

/* Between two tries to record an end that the store has no room for, and their number where it may be the
 * record that is too large. */
#define END_RETRY (1 * IMP_SECOND)
#define END_TRIES_MAX 10u

/* The next try to record the end; false when there is none: the lease of the row runs out. */
static bool end_try_again(struct delivery *delivery, imp_status status)
{
    bool is_refused =
        bad_is_of_row(status) || (status == IMP_LIMIT && ++delivery->end_tries >= END_TRIES_MAX);
    if (status == IMP_UNAVAILABLE) /* the store is closing; what it has is read at the next start */
        return false;
    if (is_refused && delivery->end_mode != END_OFF_LINE) {
        delivery->end_mode++;
        delivery->end_tries = 0;
        delivery_commit_end(delivery);
        return true;
    }
    delivery->transport_timer =
        imp_timer_start(delivery->jobs->self, END_RETRY, false, end_again, delivery);
    return delivery->transport_timer != NULL;
}

/* A lost one stays until its transport gives it back. */
static void end_free(struct delivery *delivery)
{
    struct device_line *line = delivery->line;
    line->running = NULL;
    if (delivery->is_lost && !delivery->is_given_back) {
        delivery->is_end_committed = true;
        delivery->next_lost = line->lost;
        line->lost = delivery;
    } else {
        delivery_free(delivery);
    }
}

void delivery_give_back(struct delivery *delivery)
{
    struct delivery **link = &delivery->line->lost;
    delivery->is_given_back = true;
    if (!delivery->is_end_committed)
        return;
    while (*link != delivery)
        link = &(*link)->next_lost;
    *link = delivery->next_lost;
    delivery_free(delivery);
}

static void end_done(imp_status status, const imp_error *error, void *arg)
{
    struct delivery *delivery = arg;
    struct jobs *jobs = delivery->jobs;
    struct device_line *line = delivery->line;
    struct claim next = delivery->next;
    enum end_mode mode = delivery->end_mode;
    char id[IMP_ID_TEXT_SIZE];

    delivery->next = (struct claim){0};
    if (status != IMP_OK) {
        claim_clear(&next);
        imp_log_limited(jobs->self, 10000, IMP_LOG_ERROR, "jobs.end-failed",
                        "delivery=%s status=%s reason=\"%s\"", imp_id_format(delivery->info.id, id),
                        imp_status_name(status), error == NULL ? "" : error->message);
        if (end_try_again(delivery, status))
            return;
        delivery_answer_cancels(delivery, status);
        end_free(delivery);
        return;
    }
    if (mode != END_AS_IT_WAS) {
        struct jobs_bad bad = {0};
        bad_add(&bad, delivery->record->job_sequence, IMP_CORRUPT);
        bad_tell(jobs, "delivery", &bad);
    }
    imp_sent_end(delivery->word);
    count_end(delivery);
    if (delivery->error.status != IMP_OK)
        imp_log(jobs->self, IMP_LOG_NOTICE, "jobs.delivery-failed",
                "delivery=%s job=%s status=%s reason=\"%s\"",
                imp_id_format(imp_id_of_field(delivery->record->id), id),
                job_situation_name(delivery->situation), imp_status_name(delivery->error.status),
                delivery->is_error_of_hook ? "a module's answer" : delivery->error.message);
    if (delivery->is_condemned)
        spool_shred(jobs->spool, NULL, NULL);
    delivery_answer_cancels(
        delivery, job_situation_state(delivery->situation) == IMP_JOB_CANCELED ? IMP_OK : IMP_BUSY);
    end_free(delivery);
    line_claimed(line, &next);
    if (mode != END_AS_IT_WAS)
        line_next(line);
}

void delivery_commit_end(struct delivery *delivery)
{
    delivery->is_finished = true;
    delivery->transport_timer = NULL;
    imp_timer_cancel(delivery->evidence_timer);
    imp_timer_cancel(delivery->stop_timer);
    delivery->evidence_timer = delivery->stop_timer = NULL;
    spool_reader_close(delivery->reader);
    delivery->reader = NULL;
    delivery->write = (struct jobs_write){
        .jobs = delivery->jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = end_tx,
        .done = end_done,
        .arg = delivery,
    };
    jobs_write_submit(&delivery->write);
}
