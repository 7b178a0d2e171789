/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canceling: a job that no device has begun ends in one commit; one that is being delivered is asked of
 * its transport, and ends with its delivery.
 */
#include "modules/jobs/jobs-cancel.h"

#include <stdlib.h>

#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-view.h"

struct cancel {
    struct jobs *jobs;
    imp_id job;
    bool by_operator, is_condemned, was_hold;
    struct jobs_actor actor;
    imp_id device; /* that delivers it now */
    void (*done)(imp_status status, const imp_error *error, void *arg);
    void *arg;
    struct jobs_write write;
    struct delivery_cancel ask;
};

static void cancel_end(struct cancel *cancel, imp_status status, const imp_error *error)
{
    cancel->done(status, error, cancel->arg);
    imp_unpin(cancel->jobs->self, "cancel");
    free(cancel);
}

static imp_status cancel_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct cancel *cancel = arg;
    imp_status status;
    cancel->is_condemned = false;
    Job *job = job_load(cancel->jobs, tx, &cancel->job, &status);
    if (job == NULL)
        return imp_error_set(error, status, "there is no such job");
    if (job_situation_is_final(job->situation))
        return imp_error_set(error, IMP_INVALID, "the job has ended already: it is %s",
                             job_situation_name(job->situation));
    cancel->was_hold = job->was_hold;
    cancel->device = imp_id_of_field(job->device);
    if (job_situation_is_claimed(job->situation) && job->situation != JOB_QUEUED)
        return imp_error_set(error, IMP_BUSY, "the job is being printed");
    status = job_apply_tx(cancel->jobs, tx, job,
                          cancel->by_operator ? JOB_CANCEL_OPERATOR : JOB_CANCEL_USER,
                          &cancel->is_condemned, error);
    if (status == IMP_OK)
        status = job_audit_tx(cancel->jobs, tx, "job.cancel", cancel->job, &cancel->actor, IMP_OK,
                              error, "state=%s", job_situation_name(job->situation));
    return status;
}

static void shredded(imp_status status IMP_UNUSED, void *arg)
{
    /* A key that could not be overwritten stays condemned and is tried again; the job is canceled. */
    cancel_end(arg, IMP_OK, NULL);
}

static void transport_answered(struct delivery_cancel *ask, imp_status status)
{
    struct cancel *cancel = (struct cancel *)(void *)((char *)ask - offsetof(struct cancel, ask));
    imp_error error;
    if (status == IMP_OK)
        spool_shred(cancel->jobs->spool, shredded,
                    cancel); /* its end has condemned the documents */
    else
        cancel_end(cancel,
                   imp_error_set(&error, IMP_BUSY,
                                 "the job is being printed and can't be stopped any more"),
                   &error);
}

static void cancel_done(imp_status status, const imp_error *error, void *arg)
{
    struct cancel *cancel = arg;
    struct jobs *jobs = cancel->jobs;
    if (status == IMP_OK) {
        imp_metric_add(jobs->metrics.canceled, 1);
        if (cancel->was_hold)
            imp_metric_add(jobs->metrics.held, -1);
        if (cancel->is_condemned)
            spool_shred(jobs->spool, shredded, cancel); /* "deleted" is said when it is true */
        else
            cancel_end(cancel, IMP_OK, NULL);
        return;
    }
    if (status == IMP_BUSY && !imp_id_is_zero(cancel->device)) {
        cancel->ask = (struct delivery_cancel){
            .jobs = jobs,
            .job = cancel->job,
            .device = cancel->device,
            .by_operator = cancel->by_operator,
            .actor = cancel->actor,
            .done = transport_answered,
        };
        if (delivery_cancel_ask(&cancel->ask) == IMP_OK)
            return;
    }
    cancel_end(cancel, status, error);
}

void cancel_job(struct jobs *jobs, const imp_id *id, const imp_viewer *viewer,
                const struct jobs_actor *actor,
                void (*done)(imp_status status, const imp_error *error, void *arg), void *arg)
{
    imp_error error = {0};
    imp_tx *tx;
    bool is_owner = false;
    imp_status status = imp_store_read_begin(jobs->self, &tx, &error);
    if (status == IMP_OK) {
        Job *job = job_load(jobs, tx, id, &status);
        if (job == NULL)
            imp_error_set(&error, status, "there is no such job");
        else
            is_owner = view_is_owner(jobs, viewer, job);
        imp_store_read_end(tx);
    }
    if (status == IMP_OK && !is_owner && !viewer->is_administrator)
        status = imp_error_set(&error, IMP_DENIED, "only its owner may cancel this job");
    struct cancel *cancel = status == IMP_OK ? calloc(1, sizeof *cancel) : NULL;
    if (cancel == NULL) {
        if (status == IMP_OK)
            status = imp_error_set(&error, IMP_LIMIT, "not enough memory to cancel a job");
        done(status, &error, arg);
        return;
    }
    imp_pin(jobs->self, "cancel");
    cancel->jobs = jobs;
    cancel->job = *id;
    cancel->by_operator = !is_owner;
    cancel->actor = actor != NULL ? *actor : jobs_actor_at(viewer->principal, viewer->address);
    cancel->done = done;
    cancel->arg = arg;
    cancel->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = cancel_tx,
        .done = cancel_done,
        .arg = cancel,
    };
    jobs_write_submit(&cancel->write);
}
