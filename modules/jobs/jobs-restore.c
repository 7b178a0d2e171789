/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-restore.h"

#include <inttypes.h>
#include <stdlib.h>

#include "modules/jobs/jobs-bad.h"
#include "modules/jobs/jobs-change.h"

#define BATCH 64u /* jobs a closure, so that the writer is never held for long */

static const imp_bytes origin_key = {"store", 5};

struct pass {
    struct jobs *jobs;
    bool is_done, is_condemned, is_restore;
    uint32_t lost, held_lost; /* of this step */
    uint64_t total;           /* of the whole pass, as far as it is committed */
    struct jobs_bad bad;      /* jobs that made the closure fail: it runs again without them */
    uint64_t failed;
    struct jobs_write write;
};

/* The row, or a fresh one when there is none or it is another store's. */
static imp_status origin_get(struct jobs *jobs, imp_tx *tx, const imp_id *store, Origin *fresh,
                             Origin **origin, bool *is_restore)
{
    imp_status status;
    *origin = imp_message_get(tx, jobs->tables.clock, origin_key, ORIGIN_TYPE, &status);
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return status;
    if (status == IMP_OK && record_id_is((*origin)->store, *store))
        return IMP_OK;
    *is_restore = status == IMP_OK;
    *fresh = (Origin)ORIGIN_INIT;
    fresh->schema = JOBS_SCHEMA;
    fresh->store = imp_id_field(store);
    *origin = fresh;
    return IMP_OK;
}

static bool documents_are_lost(struct jobs *jobs, const Job *job)
{
    for (size_t i = 0; i < job->n_documents; i++) {
        struct spool_document document;
        const ProtobufCBinaryData *reference = &job->documents[i]->reference;
        if (spool_document_unpack((imp_bytes){reference->data, reference->len}, &document) !=
                IMP_OK ||
            !spool_has_key(jobs->spool, &document.key))
            return true;
    }
    return false;
}

static imp_status look_at_job_tx(struct pass *pass, imp_tx *tx, uint64_t sequence, imp_error *error)
{
    struct jobs *jobs = pass->jobs;
    static const struct jobs_actor nobody = {.place_kind = ""};
    imp_status status;
    uint32_t next;
    Job *job = job_load_sequence(jobs, tx, sequence, &status);
    if (job == NULL)
        return status;
    if (!job->has_documents || !documents_are_lost(jobs, job))
        return IMP_OK;
    if (job_situation_is_final(job->situation)) { /* kept after delivery */
        status = job_condemn_documents_tx(jobs, tx, job, &pass->is_condemned, error);
        return status == IMP_OK ? job_save_tx(jobs, tx, job) : status;
    }
    /* One that is being delivered loses its documents there, in its transport's words. */
    if (job_situation_next(job->situation, JOB_LOSE_DOCUMENT, &next) != IMP_OK ||
        (job_situation_is_claimed(job->situation) && job->situation != JOB_QUEUED))
        return IMP_OK;
    bool was_hold = job->was_hold;
    status = job_apply_tx(jobs, tx, job, JOB_LOSE_DOCUMENT, &pass->is_condemned, error);
    if (status != IMP_OK)
        return status;
    pass->lost++;
    pass->held_lost += was_hold ? 1 : 0;
    return job_audit_tx(jobs, tx, "job.lose-document", imp_id_of_field(job->id), &nobody, IMP_OK,
                        error, NULL);
}

static imp_status pass_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct pass *pass = arg;
    struct jobs *jobs = pass->jobs;
    Origin fresh, *origin;
    imp_id store = imp_store_id();
    imp_cursor *cursor;
    imp_bytes key;
    uint64_t found[BATCH];
    uint8_t from[JOBS_SEQUENCE_SIZE];
    uint32_t count = 0;

    pass->lost = pass->held_lost = 0;
    pass->is_condemned = pass->is_done = false;
    pass->failed = 0;
    imp_status status = origin_get(jobs, tx, &store, &fresh, &origin, &pass->is_restore);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the row of the jobs' store can't be read");
    pass->is_done = origin->is_done;
    pass->total = origin->lost;
    if (pass->is_done) /* by another generation */
        return IMP_OK;
    jobs_put_u64(from, origin->next_sequence);
    if ((status = imp_cursor_open(tx, jobs->tables.job, (imp_bytes){from, sizeof from}, &cursor)) !=
        IMP_OK)
        return status;
    while (count < BATCH && (status = imp_cursor_next(cursor, &key, NULL)) == IMP_OK)
        if (key.length == JOBS_SEQUENCE_SIZE)
            found[count++] = jobs_get_u64(key.data);
    imp_cursor_close(cursor);
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return status;
    status = IMP_OK;
    uint32_t looked = 0;
    while (looked < count && status == IMP_OK) {
        if (!bad_has(&pass->bad, found[looked])) {
            if (bad_is_full(&pass->bad))
                break; /* what was done so far is committed, and the list is empty again */
            pass->failed = found[looked];
            status = look_at_job_tx(pass, tx, found[looked], error);
            if (status != IMP_OK)
                return status;
            pass->failed = 0;
        }
        looked++;
    }
    if (looked > 0)
        origin->next_sequence = found[looked - 1] + 1;
    origin->is_done = pass->is_done = count < BATCH && looked == count;
    origin->lost += pass->lost;
    pass->total = origin->lost;
    return imp_message_put(tx, jobs->tables.clock, origin_key, origin);
}

static void pass_submit(struct pass *pass);

static void pass_done(imp_status status, const imp_error *error, void *arg)
{
    struct pass *pass = arg;
    struct jobs *jobs = pass->jobs;
    if (status != IMP_OK && pass->failed != 0 && bad_is_of_row(status) &&
        bad_add(&pass->bad, pass->failed, status)) {
        jobs_write_submit(&pass->write);
        return;
    }
    if (status == IMP_OK) {
        bad_tell(jobs, "restore", &pass->bad);
        imp_metric_add(jobs->metrics.held, -(int64_t)pass->held_lost);
        if (pass->is_condemned)
            spool_shred(jobs->spool, NULL, NULL);
        if (!pass->is_done && !atomic_load(&jobs->is_draining)) {
            pass_submit(pass);
            return;
        }
        if (pass->is_done && (pass->is_restore || pass->total != 0))
            imp_log(jobs->self, IMP_LOG_WARNING, "jobs.restored",
                    "lost=%" PRIu64 " reason=\"documents are not in backups; their jobs were "
                    "aborted\"",
                    pass->total);
    } else {
        imp_log(jobs->self, IMP_LOG_ERROR, "jobs.restore-failed", "status=%s reason=\"%s\"",
                imp_status_name(status), error == NULL ? "" : error->message);
    }
    imp_unpin(jobs->self, "restore");
    free(pass);
}

static void pass_submit(struct pass *pass)
{
    pass->write = (struct jobs_write){
        .jobs = pass->jobs,
        .queue = IMP_WRITE_BULK, /* in turn with what clients send */
        .fn = pass_tx,
        .done = pass_done,
        .arg = pass,
    };
    jobs_write_submit(&pass->write);
}

imp_status restore_start(struct jobs *jobs, imp_error *error)
{
    imp_tx *tx;
    Origin fresh, *origin = NULL;
    bool is_restore = false, is_done = false;
    imp_id store = imp_store_id();
    imp_status status = imp_store_read_begin(jobs->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = origin_get(jobs, tx, &store, &fresh, &origin, &is_restore);
    if (status == IMP_OK)
        is_done = origin->is_done;
    imp_store_read_end(tx);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the row of the jobs' store can't be read");
    if (is_done)
        return IMP_OK;
    struct pass *pass = calloc(1, sizeof *pass);
    if (pass == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory");
    imp_pin(jobs->self, "restore");
    pass->jobs = jobs;
    pass_submit(pass);
    return IMP_OK;
}
