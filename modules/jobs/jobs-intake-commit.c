/* SPDX-License-Identifier: Apache-2.0 */
/* One commit for the whole job: owner, hook, personal strings, and the closure that writes it all. */
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-intake-private.h"

/* While no key slot is ready for the job's strings: how often and how long to try again. */
#define SEAL_RETRY (10 * IMP_MILLISECOND)
#define SEAL_TRIES_MAX 500u

/* ---- the end ---- */

static void report(void *arg)
{
    struct intake *intake = arg;
    struct jobs *jobs = intake->jobs;
    bool is_new = intake->failed == IMP_OK && !intake->result.is_retry;

    if (is_new) {
        imp_metric_add(jobs->metrics.received, 1);
        imp_metric_add(jobs->metrics.received_bytes, (int64_t)intake->bytes);
        if (intake->is_quarantined)
            imp_metric_add(jobs->metrics.quarantined, 1);
        if (intake->queue.release == IMP_QUEUE_DIRECT)
            delivery_wake(jobs, &intake->queue.device);
        else
            imp_metric_add(jobs->metrics.held, 1);
    } else if (intake->failed == IMP_OK) {
        imp_metric_add(jobs->metrics.retries_seen, 1);
    }
    if (intake->failed == IMP_OK && intake->has_submission)
        submissions_committed(jobs->submissions, &intake->result.id, intake->submission_hash,
                              intake->sequence);
    if (intake->failed == IMP_OK)
        intake->done(IMP_OK, &intake->result, NULL, intake->done_arg);
    else
        intake->done(intake->failed, NULL, &intake->failure, intake->done_arg);
    intake_free(intake, is_new);
}

/* Never from within imp_intake_commit: its caller may still look at what it passed. */
static void report_later(struct intake *intake)
{
    if (jobs_post(intake->jobs, intake->loop, report, intake) != IMP_OK)
        report(intake);
}

/* ---- the closure ---- */

static imp_status check_limits_tx(struct intake *intake, imp_tx *tx, imp_error *error)
{
    struct jobs *jobs = intake->jobs;
    struct counter_value queue = {0}, user = {0};
    const struct counter_limits *limits = &intake->limits;
    imp_bytes record;
    /* It may have been removed since the door: nobody could ever release a job of no queue. */
    imp_status status =
        imp_tx_get(tx, jobs->tables.queue, jobs_bytes_of_id(&intake->queue.id), &record);
    if (status == IMP_NOT_FOUND)
        return imp_error_set(error, status, "there is no queue %s any more", intake->queue.name);
    if (status == IMP_OK)
        status = counter_read(jobs, tx, COUNTER_QUEUE, &intake->queue.id, &queue);
    if (status == IMP_OK && (limits->user_jobs | limits->user_bytes) != 0 &&
        !imp_id_is_zero(intake->owner))
        status = counter_read(jobs, tx, COUNTER_OWNER, &intake->owner, &user);
    if (status != IMP_OK)
        return status;
    if ((limits->jobs != 0 && queue.jobs + 1 > limits->jobs) ||
        (limits->bytes != 0 && queue.bytes + intake->bytes > limits->bytes))
        return imp_error_set(error, IMP_LIMIT, "queue %s is full", intake->queue.name);
    if (limits->user_jobs != 0 && user.jobs + 1 > limits->user_jobs)
        return imp_error_set(error, IMP_LIMIT, "the job's owner has %llu jobs already",
                             (unsigned long long)user.jobs);
    if (limits->user_bytes != 0 && user.bytes + intake->bytes > limits->user_bytes)
        return imp_error_set(error, IMP_LIMIT, "the job's owner has %llu bytes of jobs already",
                             (unsigned long long)user.bytes);
    return IMP_OK;
}

/* The submission is here already: nothing is written, its job answers. */
static imp_status answer_retry_tx(struct intake *intake, imp_tx *tx, uint64_t sequence)
{
    imp_status status;
    Job *job = job_load_sequence(intake->jobs, tx, sequence, &status);
    if (job == NULL)
        return status;
    intake->result.is_retry = true;
    intake->result.id = imp_id_of_field(job->id);
    intake->result.job_id = job_number(sequence);
    intake->sequence = sequence;
    return IMP_OK;
}

static imp_status put_documents_tx(struct intake *intake, imp_tx *tx, Job *job, imp_error *error)
{
    uint32_t count = intake->document_count;
    Document *documents = imp_tx_alloc(tx, count * sizeof *documents);
    Document **pointers = imp_tx_alloc(tx, count * sizeof *pointers);
    uint8_t(*packed)[SPOOL_DOCUMENT_PACKED_MAX] = imp_tx_alloc(tx, count * sizeof *packed);
    if (documents == NULL || pointers == NULL || packed == NULL)
        return IMP_LIMIT;
    for (uint32_t i = 0; i < count; i++) {
        const struct intake_document *from = intake->documents[i];
        const struct spool_document *sealed = spool_writer_document(from->writer);
        imp_status status = spool_writer_put_tx(from->writer, tx, error);
        if (status != IMP_OK)
            return status;
        pointers[i] = &documents[i];
        documents[i] = (Document)DOCUMENT_INIT;
        documents[i].reference = record_bytes(packed[i], spool_document_pack(sealed, packed[i]));
        documents[i].size = sealed->size;
        documents[i].detected_format = (char *)(uintptr_t)from->detected;
        if (from->format != NULL)
            documents[i].format = from->format;
    }
    job->n_documents = count;
    job->documents = pointers;
    job->has_documents = true;
    return IMP_OK;
}

static imp_status put_personal_tx(struct intake *intake, imp_tx *tx, Job *job, imp_error *error)
{
    uint8_t *packed = imp_tx_alloc(tx, SPOOL_KEY_PACKED_MAX), row[JOBS_SEQUENCE_SIZE];
    if (packed == NULL)
        return IMP_LIMIT;
    job->text = record_bytes(packed, spool_key_pack(&intake->personal_key, packed));
    jobs_put_u64(row, job->sequence);
    imp_status status = spool_key_put_tx(intake->jobs->spool, tx, &intake->personal_key, error);
    if (status != IMP_OK)
        return status;
    return imp_tx_put(tx, intake->jobs->tables.personal, (imp_bytes){row, sizeof row},
                      (imp_bytes){intake->personal, intake->personal_length});
}

/* The event decides the situation, so this goes through the table as every change does. */
static imp_status place_tx(struct intake *intake, imp_tx *tx, Job *job, imp_error *error)
{
    struct jobs *jobs = intake->jobs;
    enum job_event event = JOB_COMMIT_HOLD;
    if (intake->is_quarantined)
        event = JOB_COMMIT_REVIEW;
    else if (intake->queue.release == IMP_QUEUE_DIRECT)
        event = JOB_COMMIT_DIRECT;
    job->was_hold = intake->queue.release != IMP_QUEUE_DIRECT;
    imp_status status = job_situation_next(JOB_RECEIVING, event, &job->situation);
    if (status == IMP_OK && event == JOB_COMMIT_DIRECT) {
        struct delivery_plan plan = {.id = intake->delivery, .device = intake->queue.device};
        status = line_join_tx(jobs, tx, job, &plan, error);
    }
    return status;
}

static imp_status commit_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct intake *intake = arg;
    struct jobs *jobs = intake->jobs;
    struct jobs_actor actor = jobs_actor_at(intake->owner, intake->address);
    TicketValue rows[2 * IMP_TICKET_VALUES_MAX], *pointers[2 * IMP_TICKET_VALUES_MAX];
    uint8_t submitter[INTAKE_SUBMITTER_SIZE];
    uint64_t sequence = 0;
    Job job = JOB_INIT;
    imp_status status;

    intake->result = (imp_job_result){.size = sizeof intake->result, .id = intake->job};
    if ((status = submission_forget_tx(jobs, tx, &intake->batch)) != IMP_OK)
        goto done;
    if (intake->has_submission) {
        status = submission_find_tx(jobs, tx, intake->submission_hash, intake->counts_own_run,
                                    &sequence);
        if (status == IMP_OK)
            status = answer_retry_tx(intake, tx, sequence);
        if (status != IMP_NOT_FOUND)
            goto done;
    }
    if ((status = check_limits_tx(intake, tx, error)) != IMP_OK)
        goto done;
    if ((status = imp_tx_next_number(tx, jobs->tables.job, &sequence)) != IMP_OK)
        goto done;
    intake->result.job_id = job_number(sequence);
    intake->sequence = sequence;

    job.schema = JOBS_SCHEMA;
    job.sequence = sequence;
    job.id = imp_id_field(&intake->job);
    job.lpd_number = intake->has_lpd_number ? intake->lpd_number : (uint32_t)(sequence % 1000);
    job.queue = imp_id_field(&intake->queue.id);
    job.owner = imp_id_field(&intake->owner);
    job.protocol = intake->protocol;
    job.received = intake->received;
    job.bytes = intake->bytes;
    int64_t expiry = intake->queue.hold_expiry != 0 ? intake->queue.hold_expiry
                                                    : atomic_load(&jobs->settings.hold_expiry);
    job.expires = expiry == 0 ? 0 : intake->received + expiry;
    imp_ticket ticket = {intake->ticket, intake->ticket_count};
    imp_ticket defaults = {intake->defaults, intake->default_count};
    job.n_ticket = record_ticket(&ticket, rows, pointers, IMP_TICKET_VALUES_MAX);
    job.n_ticket += record_ticket(&defaults, rows + job.n_ticket, pointers + job.n_ticket,
                                  IMP_TICKET_VALUES_MAX);
    job.ticket = pointers;
    if (intake->user_name != NULL) {
        intake_submitter(jobs, intake->user_name, intake->address, submitter);
        job.submitter = record_bytes(submitter, sizeof submitter);
    }
    if (intake->has_submission)
        job.submission = record_bytes(intake->submission_hash, IMP_HASH_SIZE);

    if ((status = put_documents_tx(intake, tx, &job, error)) != IMP_OK)
        goto done;
    if (intake->has_personal && (status = put_personal_tx(intake, tx, &job, error)) != IMP_OK)
        goto done;
    if ((status = place_tx(intake, tx, &job, error)) != IMP_OK)
        goto done;
    if ((status = job_insert_tx(jobs, tx, &job)) != IMP_OK)
        goto done;
    if (intake->has_submission &&
        (status = submission_put_tx(jobs, tx, intake->submission_hash, sequence)) != IMP_OK)
        goto done;
    char queue[IMP_ID_TEXT_SIZE];
    status = job_audit_tx(jobs, tx, "job.receive", intake->job, &actor, IMP_OK, error,
                          "queue=%s bytes=%llu documents=%u state=%s",
                          imp_id_format(intake->queue.id, queue), (unsigned long long)intake->bytes,
                          intake->document_count, job_situation_name(job.situation));
done:
    if (status != IMP_OK && (error == NULL || error->status != status))
        imp_error_set(error, status, "the job can't be stored: %s", imp_status_name(status));
    return status;
}

static void committed(imp_status status, const imp_error *error, void *arg)
{
    struct intake *intake = arg;
    if (status != IMP_OK) {
        submissions_give_back(intake->jobs->submissions, &intake->batch);
        intake_fail(intake, status, error);
        jobs_refuse(intake->jobs, status == IMP_LIMIT      ? JOBS_REFUSED_LIMIT
                                  : status == IMP_NO_SPACE ? JOBS_REFUSED_SPACE
                                                           : JOBS_REFUSED_STORE);
    }
    report(intake);
}

static void write_job(struct intake *intake)
{
    struct jobs *jobs = intake->jobs;
    intake->counts_own_run = intake->has_submission &&
                             submissions_is_open(jobs->submissions, intake->submission_hash,
                                                 atomic_load(&jobs->settings.acknowledge_grace));
    submissions_take(jobs->submissions, &intake->batch);
    intake->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_BULK,
        .fn = commit_tx,
        .done = committed,
        .arg = intake,
    };
    jobs_write_submit(&intake->write);
}

/* ---- personal strings ---- */

static char *clean(const char *text)
{
    return (char *)(uintptr_t)(text == NULL ? "" : text);
}

static void seal_personal(void *arg)
{
    struct intake *intake = arg;
    Personal personal = PERSONAL_INIT;
    imp_error error = {0};
    imp_status status = IMP_LIMIT;
    size_t length = 0;
    uint8_t *plain = NULL;
    char **names = calloc(intake->document_count, sizeof *names);
    if (names == NULL)
        goto done;
    personal.schema = JOBS_SCHEMA;
    personal.user_name = clean(intake->user_name);
    personal.job_name = clean(intake->job_name);
    personal.host_name = clean(intake->host_name);
    personal.address = clean(intake->address);
    for (uint32_t i = 0; i < intake->document_count; i++)
        names[i] = clean(intake->documents[i]->name);
    personal.n_document_names = intake->document_count;
    personal.document_names = names;
    plain = record_encode(&personal, &length);
    free(intake->personal);
    intake->personal = malloc(length + SPOOL_STRINGS_OVERHEAD);
    if (plain == NULL || intake->personal == NULL)
        goto done;
    intake->personal_length = length + SPOOL_STRINGS_OVERHEAD;
    status = spool_strings_seal(intake->jobs->spool, (imp_bytes){plain, length},
                                &intake->personal_key, intake->personal, &error);
    intake->has_personal = status == IMP_OK;
done:
    if (plain != NULL)
        imp_wipe(plain, length);
    free(plain);
    free(names);
    if (status == IMP_OK) {
        write_job(intake);
    } else if (status == IMP_BUSY && intake->seal_tries++ < SEAL_TRIES_MAX &&
               imp_timer_start(intake->jobs->self, SEAL_RETRY, false, seal_personal, intake) !=
                   NULL) {
        return;
    } else {
        intake_fail(intake, status, &error);
        report_later(intake);
    }
}

/* ---- owner and hook ---- */

static bool is_allowed(const struct intake *intake)
{
    for (size_t i = 0; i < intake->allowed_count; i++) {
        if (imp_id_equal(intake->allowed_principals[i], intake->owner))
            return true;
    }
    return intake->allowed_count == 0;
}

/* Mapping a name to a principal belongs to accounts. Nobody found: the job of a hold queue is kept for
 * an administrator, a direct queue needs no owner. */
static imp_status find_owner(struct intake *intake, imp_error *error)
{
    imp_principal principal = {.size = sizeof principal};
    imp_status status = IMP_NOT_FOUND;
    if (intake->user_name != NULL && intake->user_name[0] != '\0')
        status = imp_user_find(intake->jobs->self, intake->user_name, &principal);
    if (status == IMP_OK && principal.is_enabled)
        intake->owner = principal.id;
    else if (status != IMP_OK && status != IMP_NOT_FOUND)
        return imp_error_set(error, status, "the job's owner can't be looked up: %s",
                             imp_status_name(status));
    imp_wipe(&principal, sizeof principal);
    bool is_known = !imp_id_is_zero(intake->owner);
    if (is_known && !is_allowed(intake)) {
        jobs_refuse(intake->jobs, JOBS_REFUSED_OWNER);
        return imp_error_set(error, IMP_DENIED, "this user may not print on queue %s",
                             intake->queue.name);
    }
    bool needs_owner = intake->queue.release == IMP_QUEUE_HOLD || intake->allowed_count != 0;
    intake->is_quarantined = !is_known && needs_owner;
    return IMP_OK;
}

static void hook_answered(imp_status status, const imp_error *error, void *arg)
{
    struct intake *intake = arg;
    if (status != IMP_OK) {
        jobs_refuse(intake->jobs, JOBS_REFUSED_HOOK);
        intake_fail(intake, status, error);
        report_later(intake);
        return;
    }
    seal_personal(intake);
}

static void hash_submission(struct intake *intake)
{
    size_t length = intake->submission.length;
    size_t total = length + (size_t)intake->document_count * SPOOL_DIGEST_SIZE;
    uint8_t *text = malloc(total);
    if (text == NULL) {
        intake_fail(intake, IMP_LIMIT, NULL);
        return;
    }
    memcpy(text, intake->submission.data, length);
    for (uint32_t i = 0; i < intake->document_count; i++)
        memcpy(text + length + i * (size_t)SPOOL_DIGEST_SIZE,
               spool_writer_document(intake->documents[i]->writer)->digest, SPOOL_DIGEST_SIZE);
    imp_keyed_hash(intake->jobs->self, "submission", (imp_bytes){text, total},
                   intake->submission_hash);
    imp_wipe(text, total);
    free(text);
    intake->has_submission = true;
}

void intake_commit_continue(struct intake *intake)
{
    imp_error error = {0};
    struct jobs *jobs = intake->jobs;

    if ((intake->queue.flags & IMP_QUEUE_OWNER_FROM_PJL) != 0) {
        if (intake->head_user[0] != '\0')
            intake->user_name = intake_copy(intake, intake->head_user);
        if (intake->head_title[0] != '\0')
            intake->job_name = intake_copy(intake, intake->head_title);
    }
    if (intake->job_name == NULL && intake->document_count != 0)
        intake->job_name = intake->documents[0]->name;
    imp_wipe(intake->head_user, sizeof intake->head_user);
    imp_wipe(intake->head_title, sizeof intake->head_title);
    if (intake->failed == IMP_OK && intake->submission.length != 0)
        hash_submission(intake);
    if (intake->failed == IMP_OK) {
        imp_status status = find_owner(intake, &error);
        if (status != IMP_OK)
            intake_fail(intake, status, &error);
    }
    if (intake->failed != IMP_OK) {
        report_later(intake);
        return;
    }
    intake->job = imp_id_new();
    intake->delivery = imp_id_new();
    intake->received = imp_now();
    if (imp_hook_count("job.received") == 0) {
        seal_personal(intake);
        return;
    }
    intake->argument = (imp_job_received_argument){
        .size = sizeof intake->argument,
        .job = intake->job,
        .queue = &intake->queue,
        .owner_id = intake->owner,
        .document_bytes = intake->bytes,
        .protocol = intake->protocol,
        .address = intake->address,
    };
    imp_hook_ask(jobs->self, "job.received", &intake->argument, hook_answered, intake);
}

/* ---- the call ---- */

static void copy_attributes(struct intake *intake, const imp_job_attributes *attributes)
{
    intake->user_name = intake_copy(intake, attributes->user_name);
    intake->job_name = intake_copy(intake, attributes->job_name);
    intake->host_name = intake_copy(intake, attributes->host_name);
    intake->has_lpd_number = attributes->has_lpd_number;
    intake->lpd_number = attributes->lpd_number % 1000;
    if (attributes->is_quarantined)
        intake->user_name = NULL;
    for (uint32_t i = 0; i < attributes->ticket.count && i < IMP_TICKET_VALUES_MAX; i++) {
        const imp_ticket_value *value = &attributes->ticket.values[i];
        intake->ticket[intake->ticket_count++] = (imp_ticket_value){
            .layer = value->layer,
            .name = intake_copy(intake, value->name),
            .value = intake_copy(intake, value->value),
            .source = intake_copy(intake, value->source == NULL ? "" : value->source),
        };
    }
    if (attributes->submission.length != 0 && attributes->submission.data != NULL) {
        struct intake_text *copy = malloc(sizeof *copy + attributes->submission.length + 1);
        if (copy == NULL) {
            intake_fail(intake, IMP_LIMIT, NULL);
            return;
        }
        memcpy(copy->bytes, attributes->submission.data, attributes->submission.length);
        copy->bytes[attributes->submission.length] = '\0';
        copy->next = intake->texts;
        intake->texts = copy;
        intake->submission = (imp_bytes){copy->bytes, attributes->submission.length};
    }
}

void intake_commit(imp_intake *base, const imp_job_attributes *attributes,
                   void (*done)(imp_status status, const imp_job_result *result,
                                const imp_error *error, void *arg),
                   void *arg)
{
    struct intake *intake = (struct intake *)base;
    imp_error error = {0};

    intake->done = done;
    intake->done_arg = arg;
    intake->is_committing = true;
    copy_attributes(intake, attributes);
    if (intake->document_count == 0)
        intake_fail(intake, imp_error_set(&error, IMP_INVALID, "a job needs a document"), &error);
    else if (!intake->documents[intake->document_count - 1]->is_ended)
        intake_fail(intake, imp_error_set(&error, IMP_INVALID, "the last document is still open"),
                    &error);
    if (intake->unsealed == 0)
        intake_commit_continue(intake);
}
