/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-change.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-queue.h"

/* How long the sweeper leaves a job alone that it can't change now (it is being delivered). */
#define DUE_POSTPONED (IMP_SECOND * 60 * 10)

/* Keys of two ids and numbers: owner, submitter or queue (16) or time (8), then the sequence. */
struct index_key {
    uint8_t bytes[16 + JOBS_SEQUENCE_SIZE];
    size_t length;
};

static struct index_key key_of_id(ProtobufCBinaryData id, uint64_t sequence)
{
    struct index_key key = {.length = 16 + JOBS_SEQUENCE_SIZE};
    imp_id value = imp_id_of_field(id);
    memcpy(key.bytes, value.bytes, sizeof value.bytes);
    jobs_put_u64(key.bytes + 16, sequence);
    return key;
}

static struct index_key key_of_time(int64_t time, uint64_t sequence)
{
    struct index_key key = {.length = 8 + JOBS_SEQUENCE_SIZE};
    jobs_put_u64(key.bytes, (uint64_t)time);
    jobs_put_u64(key.bytes + 8, sequence);
    return key;
}

static imp_bytes bytes_of(const struct index_key *key)
{
    return (imp_bytes){key->bytes, key->length};
}

static const imp_bytes nothing = {"", 0};

/* A row that may be gone already is no error when it is to go. */
static imp_status delete_row(imp_tx *tx, imp_table *table, imp_bytes key)
{
    imp_status status = imp_tx_delete(tx, table, key);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* ---- reading ---- */

Job *job_load_sequence(struct jobs *jobs, imp_tx *tx, uint64_t sequence, imp_status *status)
{
    uint8_t key[JOBS_SEQUENCE_SIZE];
    jobs_put_u64(key, sequence);
    return imp_message_get(tx, jobs->tables.job, (imp_bytes){key, sizeof key}, JOB_TYPE, status);
}

Job *job_load(struct jobs *jobs, imp_tx *tx, const imp_id *id, imp_status *status)
{
    imp_bytes value;
    *status = imp_tx_get(tx, jobs->tables.job_id, jobs_bytes_of_id(id), &value);
    if (*status != IMP_OK)
        return NULL;
    if (value.length != JOBS_SEQUENCE_SIZE) {
        *status = IMP_CORRUPT;
        return NULL;
    }
    return job_load_sequence(jobs, tx, jobs_get_u64(value.data), status);
}

Delivery *job_load_delivery(struct jobs *jobs, imp_tx *tx, const Job *job, imp_status *status)
{
    uint8_t key[DELIVERY_KEY_SIZE];
    if (job->attempts == 0) {
        *status = IMP_NOT_FOUND;
        return NULL;
    }
    delivery_key(key, job->sequence, job->attempts);
    return imp_message_get(tx, jobs->tables.delivery, (imp_bytes){key, sizeof key}, DELIVERY_TYPE,
                           status);
}

uint32_t job_number(uint64_t sequence)
{
    return (uint32_t)((sequence - 1) % INT32_MAX) + 1;
}

/* ---- counters ---- */

static size_t counter_key(uint8_t key[17], char kind, const imp_id *id)
{
    key[0] = (uint8_t)kind;
    memcpy(key + 1, id->bytes, sizeof id->bytes);
    return 17;
}

imp_status counter_read(struct jobs *jobs, imp_tx *tx, char kind, const imp_id *id,
                        struct counter_value *value)
{
    uint8_t key[17];
    imp_status status;
    Counter *counter =
        imp_message_get(tx, jobs->tables.counter, (imp_bytes){key, counter_key(key, kind, id)},
                        COUNTER_TYPE, &status);
    *value = (struct counter_value){0};
    if (status == IMP_NOT_FOUND)
        return IMP_OK;
    if (counter != NULL)
        *value = (struct counter_value){counter->jobs, counter->bytes};
    return status;
}

static uint64_t moved(uint64_t value, int64_t by)
{
    if (by >= 0)
        return value + (uint64_t)by;
    return value < (uint64_t)-by ? 0 : value - (uint64_t)-by;
}

imp_status counter_add_tx(struct jobs *jobs, imp_tx *tx, char kind, const imp_id *id, int64_t count,
                          int64_t bytes)
{
    uint8_t key[17];
    imp_bytes row = {key, counter_key(key, kind, id)};
    imp_status status;
    Counter fresh = COUNTER_INIT, *counter;
    counter = imp_message_get(tx, jobs->tables.counter, row, COUNTER_TYPE, &status);
    if (status == IMP_NOT_FOUND) {
        fresh.schema = JOBS_SCHEMA;
        counter = &fresh;
    } else if (status != IMP_OK) {
        return status;
    }
    counter->jobs = moved(counter->jobs, count);
    counter->bytes = moved(counter->bytes, bytes);
    if (kind == COUNTER_OWNER && counter->jobs == 0)
        return delete_row(tx, jobs->tables.counter, row);
    return imp_message_put(tx, jobs->tables.counter, row, counter);
}

/* A job comes onto (+1) or leaves (-1) its queue and its owner's account. */
static imp_status count_job_tx(struct jobs *jobs, imp_tx *tx, const Job *job, int64_t sign)
{
    imp_id queue = imp_id_of_field(job->queue), owner = imp_id_of_field(job->owner);
    int64_t bytes = sign * (int64_t)job->bytes;
    imp_status status = counter_add_tx(jobs, tx, COUNTER_QUEUE, &queue, sign, bytes);
    if (status == IMP_OK && !imp_id_is_zero(owner))
        status = counter_add_tx(jobs, tx, COUNTER_OWNER, &owner, sign, bytes);
    return status;
}

/* ---- saving ---- */

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 ? b : b == 0 ? a : a < b ? a : b;
}

/* When the sweeper has to look at this job next; 0: never. */
static int64_t job_due(struct jobs *jobs, const Job *job)
{
    if (!job_situation_is_final(job->situation))
        return job->expires;
    int64_t due = job->finished + atomic_load(&jobs->settings.record_retention);
    if (job->text.len != 0)
        due = earlier(due, job->finished + atomic_load(&jobs->settings.name_retention));
    if (job->has_documents)
        due = earlier(due, job->keep_until);
    return due;
}

imp_status job_due_delete_tx(struct jobs *jobs, imp_tx *tx, int64_t due, uint64_t sequence)
{
    struct index_key key = key_of_time(due, sequence);
    return delete_row(tx, jobs->tables.due, bytes_of(&key));
}

imp_status job_due_put_tx(struct jobs *jobs, imp_tx *tx, int64_t due, uint64_t sequence)
{
    struct index_key key = key_of_time(due, sequence);
    return imp_tx_put(tx, jobs->tables.due, bytes_of(&key), nothing);
}

static imp_status set_due_tx(struct jobs *jobs, imp_tx *tx, Job *job, int64_t due)
{
    imp_status status = IMP_OK;
    if (due == job->due)
        return IMP_OK;
    if (job->due != 0)
        status = job_due_delete_tx(jobs, tx, job->due, job->sequence);
    job->due = due;
    if (status == IMP_OK && due != 0)
        status = job_due_put_tx(jobs, tx, due, job->sequence);
    return status;
}

static imp_status put_job_tx(struct jobs *jobs, imp_tx *tx, const Job *job)
{
    uint8_t key[JOBS_SEQUENCE_SIZE];
    jobs_put_u64(key, job->sequence);
    return imp_message_put(tx, jobs->tables.job, (imp_bytes){key, sizeof key}, job);
}

imp_status job_due_set_tx(struct jobs *jobs, imp_tx *tx, Job *job, int64_t due)
{
    imp_status status = set_due_tx(jobs, tx, job, due);
    return status == IMP_OK ? put_job_tx(jobs, tx, job) : status;
}

imp_status job_save_tx(struct jobs *jobs, imp_tx *tx, Job *job)
{
    int64_t due = job_due(jobs, job), now = imp_now();
    if (due != 0 && due <= now && job->due != 0 && job->due <= now)
        due = now + DUE_POSTPONED; /* the sweeper has just been here */
    imp_status status = set_due_tx(jobs, tx, job, due);
    return status == IMP_OK ? put_job_tx(jobs, tx, job) : status;
}

imp_status job_insert_tx(struct jobs *jobs, imp_tx *tx, Job *job)
{
    imp_status status;
    uint8_t sequence[JOBS_SEQUENCE_SIZE];
    jobs_put_u64(sequence, job->sequence);
    job->due = 0;
    if ((status = set_due_tx(jobs, tx, job, job_due(jobs, job))) != IMP_OK)
        return status;
    if ((status = put_job_tx(jobs, tx, job)) != IMP_OK)
        return status;
    status = imp_tx_insert(tx, jobs->tables.job_id, (imp_bytes){job->id.data, job->id.len},
                           (imp_bytes){sequence, sizeof sequence});
    if (status != IMP_OK)
        return status;
    struct index_key queued = key_of_id(job->queue, job->sequence);
    if ((status = imp_tx_put(tx, jobs->tables.queued, bytes_of(&queued), nothing)) != IMP_OK)
        return status;
    if (job->submitter.len == 16) {
        struct index_key submitted = key_of_id(job->submitter, job->sequence);
        status = imp_tx_put(tx, jobs->tables.submitted, bytes_of(&submitted), nothing);
        if (status != IMP_OK)
            return status;
    }
    if (job->owner.len != 0) {
        struct index_key owned = key_of_id(job->owner, job->sequence);
        if ((status = imp_tx_put(tx, jobs->tables.owned, bytes_of(&owned), nothing)) != IMP_OK)
            return status;
    }
    return count_job_tx(jobs, tx, job, +1);
}

/* ---- documents and names ---- */

imp_status job_condemn_documents_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                                    imp_error *error)
{
    if (!job->has_documents)
        return IMP_OK;
    for (size_t i = 0; i < job->n_documents; i++) {
        ProtobufCBinaryData *reference = &job->documents[i]->reference;
        struct spool_document document;
        imp_status status =
            spool_document_unpack((imp_bytes){reference->data, reference->len}, &document);
        if (status == IMP_OK)
            status = spool_condemn_tx(jobs->spool, tx, &document, error);
        if (status != IMP_OK)
            return status;
        /* The document's id is half of its key: it goes with it. */
        *reference = (ProtobufCBinaryData){0};
    }
    job->has_documents = false;
    *is_condemned = true;
    return IMP_OK;
}

imp_status job_condemn_personal_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                                   imp_error *error)
{
    struct spool_key key;
    uint8_t row[JOBS_SEQUENCE_SIZE];
    if (job->text.len == 0)
        return IMP_OK;
    imp_status status = spool_key_unpack((imp_bytes){job->text.data, job->text.len}, &key);
    if (status == IMP_OK)
        status = spool_key_condemn_tx(jobs->spool, tx, &key, error);
    if (status != IMP_OK)
        return status;
    jobs_put_u64(row, job->sequence);
    job->text = (ProtobufCBinaryData){0};
    *is_condemned = true;
    return delete_row(tx, jobs->tables.personal, (imp_bytes){row, sizeof row});
}

/* ---- events ---- */

/* What becomes of the documents of a job that has just got into a final situation. */
static imp_status finish_documents_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                                      imp_error *error)
{
    imp_status status;
    imp_id id = imp_id_of_field(job->queue);
    Queue *queue = queue_load(jobs, tx, &id, &status);
    bool keeps = queue != NULL && queue->keep_after > 0 && queue->private_mode == IMP_PRIVATE_OFF &&
                 job_situation_state(job->situation) == IMP_JOB_COMPLETED;
    if (keeps) {
        job->keep_until = job->finished + queue->keep_after;
        return IMP_OK;
    }
    return job_condemn_documents_tx(jobs, tx, job, is_condemned, error);
}

imp_status job_apply_tx(struct jobs *jobs, imp_tx *tx, Job *job, enum job_event event,
                        bool *is_condemned, imp_error *error)
{
    uint32_t before = job->situation;
    imp_status status = job_situation_next(before, event, &job->situation);
    if (status != IMP_OK)
        return imp_error_set(error, IMP_INVALID, "a job that is %s knows no event %s",
                             job_situation_name(before), job_event_name(event));
    /* Until a delivery of it begins again, nothing has answered whether its pages lie somewhere. */
    if (before == JOB_UNCERTAIN && event == JOB_RELEASE)
        job->is_doubted = true;
    /* A job that leaves the line by anything but its delivery's end takes its place with it. */
    if (before == JOB_QUEUED && job->situation != JOB_SENDING && job->situation != JOB_QUEUED)
        status = line_leave_tx(jobs, tx, job);
    if (status == IMP_OK && !job_situation_is_claimed(job->situation))
        job->delivery = (ProtobufCBinaryData){0};
    if (status == IMP_OK && job_situation_is_final(job->situation)) {
        struct index_key queued = key_of_id(job->queue, job->sequence);
        job->finished = imp_now();
        status = delete_row(tx, jobs->tables.queued, bytes_of(&queued));
        if (status == IMP_OK && job->submitter.len == 16) {
            struct index_key submitted = key_of_id(job->submitter, job->sequence);
            status = delete_row(tx, jobs->tables.submitted, bytes_of(&submitted));
        }
        if (status == IMP_OK)
            status = count_job_tx(jobs, tx, job, -1);
        if (status == IMP_OK)
            status = finish_documents_tx(jobs, tx, job, is_condemned, error);
    }
    if (status == IMP_OK)
        status = job_save_tx(jobs, tx, job);
    if (status != IMP_OK && (error == NULL || error->status == IMP_OK))
        imp_error_set(error, status, "the job's records can't be changed: %s",
                      imp_status_name(status));
    return status;
}

imp_status job_forget_tx(struct jobs *jobs, imp_tx *tx, Job *job, bool *is_condemned,
                         imp_error *error)
{
    uint8_t row[JOBS_SEQUENCE_SIZE];
    jobs_put_u64(row, job->sequence);
    imp_status status = job_condemn_documents_tx(jobs, tx, job, is_condemned, error);
    if (status == IMP_OK)
        status = job_condemn_personal_tx(jobs, tx, job, is_condemned, error);
    for (uint32_t attempt = 1; status == IMP_OK && attempt <= job->attempts; attempt++) {
        uint8_t key[DELIVERY_KEY_SIZE];
        delivery_key(key, job->sequence, attempt);
        status = delete_row(tx, jobs->tables.delivery, (imp_bytes){key, sizeof key});
    }
    if (status == IMP_OK)
        status = set_due_tx(jobs, tx, job, 0);
    if (status == IMP_OK && job->owner.len != 0) {
        struct index_key owned = key_of_id(job->owner, job->sequence);
        status = delete_row(tx, jobs->tables.owned, bytes_of(&owned));
    }
    if (status == IMP_OK)
        status = delete_row(tx, jobs->tables.job_id, (imp_bytes){job->id.data, job->id.len});
    if (status == IMP_OK)
        status = delete_row(tx, jobs->tables.job, (imp_bytes){row, sizeof row});
    return status;
}

imp_status job_set_owner_tx(struct jobs *jobs, imp_tx *tx, Job *job, imp_id owner, imp_error *error)
{
    imp_status status = IMP_OK;
    bool is_counted = !job_situation_is_final(job->situation);
    imp_id before = imp_id_of_field(job->owner);
    imp_id *kept = imp_tx_alloc(tx, sizeof *kept);
    if (kept == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory to change the job's owner");
    *kept = owner;
    if (!imp_id_is_zero(before)) {
        struct index_key key = key_of_id(job->owner, job->sequence);
        status = delete_row(tx, jobs->tables.owned, bytes_of(&key));
        if (status == IMP_OK && is_counted)
            status = counter_add_tx(jobs, tx, COUNTER_OWNER, &before, -1, -(int64_t)job->bytes);
    }
    job->owner = record_bytes(kept->bytes, sizeof kept->bytes);
    if (status == IMP_OK) {
        struct index_key key = key_of_id(job->owner, job->sequence);
        status = imp_tx_put(tx, jobs->tables.owned, bytes_of(&key), nothing);
    }
    if (status == IMP_OK && is_counted)
        status = counter_add_tx(jobs, tx, COUNTER_OWNER, &owner, +1, (int64_t)job->bytes);
    return status;
}

/* ---- audit ---- */

struct jobs_actor jobs_actor_at(imp_id principal, const char *address)
{
    struct jobs_actor actor = {.principal = principal, .place_kind = ""};
    if (address != NULL && address[0] != '\0') {
        actor.place_kind = "address";
        imp_text_clean(actor.address, sizeof actor.address, address, strlen(address));
    }
    return actor;
}

imp_status job_audit_tx(struct jobs *jobs, imp_tx *tx, const char *action, imp_id job,
                        const struct jobs_actor *actor, imp_status result, imp_error *error,
                        const char *detail, ...)
{
    char text[200] = "";
    if (detail != NULL) {
        va_list arguments;
        va_start(arguments, detail);
        vsnprintf(text, sizeof text, detail, arguments);
        va_end(arguments);
    }
    imp_audit_event event = {
        .size = sizeof event,
        .action = action,
        .principal = actor->principal,
        .actor_uid = actor->uid,
        .has_actor_uid = actor->has_uid,
        .place_kind = actor->place_kind == NULL ? "" : actor->place_kind,
        .place = actor->place,
        .address = actor->address,
        .object_kind = "job",
        .object = job,
        .result = result,
        .detail = text,
    };
    return imp_audit_append_tx(jobs->self, tx, &event, error);
}
