/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Releasing a held job at a device: who asks (session), where (device), may he (owner, delegate, queue,
 * hook), and then one commit that claims the job and puts it into the device's line.
 */
#include "modules/jobs/jobs-release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-terms.h"

struct release {
    struct jobs *jobs;
    imp_id job, delivery, claimed_at; /* claimed_at: the device that has it already */
    imp_session session;
    imp_device device;
    struct release_terms terms; /* what the hooks are given and say */
    bool by_delegate, is_condemned;
    void (*asked)(const imp_release_question *question, void *arg);
    void (*done)(imp_status status, const imp_id *delivery, const imp_error *error, void *arg);
    void *arg;
    struct jobs_write write;
};

static void release_end(struct release *release, imp_status status, const imp_error *error)
{
    release->done(status, status == IMP_OK ? &release->delivery : NULL, error, release->arg);
    imp_unpin(release->jobs->self, "release");
    terms_free(&release->terms);
    free(release);
}

/* ---- may he? ---- */

/* Everything that can be known of job and queue; asked before the hook, and again in the commit, which
 * alone decides. */
static imp_status check(struct release *release, imp_tx *tx, Job **result, imp_error *error)
{
    struct jobs *jobs = release->jobs;
    imp_status status;
    Job *job = job_load(jobs, tx, &release->job, &status);
    if (job == NULL)
        return imp_error_set(error, status, "there is no such job");
    imp_id queue_id = imp_id_of_field(job->queue);
    Queue *queue = queue_load(jobs, tx, &queue_id, &status);
    if (queue == NULL)
        return imp_error_set(error, status, "the job's queue can't be read: %s",
                             imp_status_name(status));
    /* Who may not release it learns nothing of it. */
    bool is_owner = record_id_is(job->owner, release->session.principal);
    release->by_delegate = !is_owner && record_ids_have(queue->delegates, queue->n_delegates,
                                                        release->session.principal);
    if (!is_owner && !release->by_delegate)
        return imp_error_set(error, IMP_DENIED, "this job is not yours to release");
    if (queue->n_allowed_devices != 0 &&
        !record_ids_have(queue->allowed_devices, queue->n_allowed_devices, release->device.id))
        return imp_error_set(error, IMP_DENIED,
                             "jobs of queue %s may not be printed on this device", queue->name);
    if (queue->n_allowed_principals != 0 &&
        !record_ids_have(queue->allowed_principals, queue->n_allowed_principals,
                         release->session.principal) &&
        !release->by_delegate)
        return imp_error_set(error, IMP_DENIED, "you may not print on queue %s", queue->name);
    if (job_situation_is_claimed(job->situation)) {
        release->claimed_at = imp_id_of_field(job->device);
        return imp_error_set(error, IMP_BUSY, "already printing");
    }
    if (!job_situation_is_releasable(job->situation))
        return imp_error_set(error, IMP_INVALID, "the job can't be released: it is %s",
                             job_situation_name(job->situation));
    if (!job->has_documents)
        return imp_error_set(error, IMP_INVALID, "the job's documents are gone");
    *result = job;
    return IMP_OK;
}

/* Services can't be asked in a closure, so the device's name is put in here. */
static imp_status name_device(struct release *release, imp_status status, imp_error *error)
{
    imp_device device = {.size = sizeof device};
    if (status != IMP_BUSY || imp_id_is_zero(release->claimed_at))
        return status;
    if (imp_device_get(release->jobs->self, &release->claimed_at, &device) != IMP_OK)
        memcpy(device.name, "another device", sizeof "another device");
    return imp_error_set(error, IMP_BUSY, "already printing at %s", device.name);
}

/* ---- the claim ---- */

static imp_status release_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct release *release = arg;
    struct jobs *jobs = release->jobs;
    Job *job = NULL;
    char text[IMP_ID_TEXT_SIZE];
    struct jobs_actor actor = {
        .principal = release->session.principal,
        .place_kind = "device",
        .place = release->device.id,
    };
    imp_ticket change = {release->terms.change, release->terms.change_count};
    struct delivery_plan plan = {
        .id = release->delivery,
        .device = release->device.id,
        .releaser = release->session.principal,
        .session = release->session.id,
        .change = &change,
    };
    release->claimed_at = (imp_id){{0}};
    release->is_condemned = false;
    imp_status status = check(release, tx, &job, error);
    if (status != IMP_OK)
        return status;
    /* From now on it is a person's: a failed delivery brings it back to held. */
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): check() answered IMP_OK, so it is there */
    job->was_hold = true;
    if ((status = line_join_tx(jobs, tx, job, &plan, error)) != IMP_OK)
        return status;
    status = job_apply_tx(jobs, tx, job, JOB_RELEASE, &release->is_condemned, error);
    if (status == IMP_OK)
        status = job_audit_tx(jobs, tx, "job.release", release->job, &actor, IMP_OK, error,
                              "delivery=%s%s", imp_id_format(release->delivery, text),
                              release->by_delegate ? " delegate=yes" : "");
    return status;
}

static void refused(struct release *release, imp_status status, imp_error *error)
{
    char detail[sizeof "asks=" + IMP_RELEASE_WORD_MAX] = "";
    if (release->terms.is_asked)
        snprintf(detail, sizeof detail, "asks=%s", release->terms.question.id);
    imp_audit_event event = {
        .size = sizeof event,
        .action = "job.release",
        .principal = release->session.principal,
        .place_kind = "device",
        .place = release->device.id,
        .object_kind = "job",
        .object = release->job,
        .result = status,
        .detail = detail,
    };
    status = name_device(release, status, error);
    imp_audit_append(release->jobs->self, &event, NULL, NULL);
    if (release->terms.is_asked && release->asked != NULL)
        release->asked(&release->terms.question, release->arg);
    release_end(release, status, error);
}

static void release_done(imp_status status, const imp_error *error, void *arg)
{
    struct release *release = arg;
    if (status == IMP_OK) {
        delivery_wake(release->jobs, &release->device.id);
        release_end(release, IMP_OK, NULL);
        return;
    }
    imp_error copy = {0};
    if (error != NULL)
        copy = *error;
    refused(release, status, &copy);
}

/* A hook may have taken its time: who logged out meanwhile, or was disabled, releases nothing. */
static imp_status session_is_there(struct release *release, imp_error *error)
{
    imp_session session = {.size = sizeof session};
    imp_status status = imp_session_get(release->jobs->self, &release->session.id, &session);
    if (status == IMP_OK && imp_id_equal(session.principal, release->session.principal))
        return IMP_OK;
    return imp_error_set(error, status == IMP_UNAVAILABLE ? status : IMP_DENIED,
                         "you are not logged in any more");
}

static void hook_answered(imp_status status, const imp_error *error, void *arg)
{
    struct release *release = arg;
    imp_error copy = {0};
    /* A hook that asks and then says otherwise has asked nothing. */
    release->terms.is_asked = release->terms.is_asked && status != IMP_OK;
    if (status != IMP_OK && error != NULL)
        copy = *error;
    if (status == IMP_OK)
        status = session_is_there(release, &copy);
    if (status != IMP_OK) {
        refused(release, status, &copy);
        return;
    }
    release->write = (struct jobs_write){
        .jobs = release->jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = release_tx,
        .done = release_done,
        .arg = release,
    };
    jobs_write_submit(&release->write);
}

/* ---- the call ---- */

static imp_status look(struct release *release, const imp_release_request *request,
                       imp_error *error)
{
    struct jobs *jobs = release->jobs;
    Job *job = NULL;
    imp_tx *tx;

    release->session.size = sizeof release->session;
    release->device.size = sizeof release->device;
    imp_status status = imp_session_get(jobs->self, &request->session, &release->session);
    if (status != IMP_OK)
        return imp_error_set(error, status == IMP_UNAVAILABLE ? status : IMP_DENIED,
                             "you are not logged in any more");
    status = imp_device_get(jobs->self, &request->device, &release->device);
    if (status != IMP_OK)
        return imp_error_set(error, status, "there is no such device");
    if (!release->device.is_enabled)
        return imp_error_set(error, IMP_UNAVAILABLE, "device %s is disabled", release->device.name);
    if (!imp_id_is_zero(release->session.device) &&
        !imp_id_equal(release->session.device, release->device.id))
        return imp_error_set(error, IMP_DENIED, "you are logged in at another device");
    if ((status = imp_store_read_begin(jobs->self, &tx, error)) != IMP_OK)
        return status;
    status = check(release, tx, &job, error);
    if (status == IMP_OK)
        status = terms_describe(&release->terms, job, &release->device, error);
    release->terms.argument.session = &release->session;
    imp_store_read_end(tx);
    return status;
}

void release_job(struct jobs *jobs, const imp_release_request *request,
                 void (*done)(imp_status status, const imp_id *delivery, const imp_error *error,
                              void *arg),
                 void *arg)
{
    imp_error error = {0};
    struct release *release = calloc(1, sizeof *release);
    if (release == NULL) {
        imp_error_set(&error, IMP_LIMIT, "not enough memory to release a job");
        done(IMP_LIMIT, NULL, &error, arg);
        return;
    }
    imp_pin(jobs->self, "release");
    release->jobs = jobs;
    release->job = request->job;
    release->delivery = imp_id_new();
    release->asked = request->asked;
    release->done = done;
    release->arg = arg;
    imp_status status;
    if (atomic_load(&jobs->is_draining))
        status = imp_error_set(&error, IMP_UNAVAILABLE, "the server is going down");
    else if ((status = terms_init(&release->terms, request, &error)) == IMP_OK)
        status = look(release, request, &error);
    if (status != IMP_OK) {
        refused(release, status, &error);
        return;
    }
    imp_hook_ask(jobs->self, "job.release", &release->terms.argument, hook_answered, release);
}
