/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.c - module jobs: descriptor, service table, start and stop.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "modules/jobs/document-head.h"
#include "modules/jobs/jobs-cancel.h"
#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-expiry.h"
#include "modules/jobs/jobs-intake.h"
#include "modules/jobs/jobs-lease.h"
#include "modules/jobs/jobs-module.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-rate.h"
#include "modules/jobs/jobs-release.h"
#include "modules/jobs/jobs-restore.h"
#include "modules/jobs/jobs-submission.h"
#include "modules/jobs/jobs-verbs.h"
#include "modules/jobs/jobs-view.h"
#include <imprimatur/control.h>
#include <imprimatur/module.h>

/* ---- the service's functions ---- */

static struct jobs *jobs_of(imp_self *provider)
{
    return imp_self_instance(provider);
}

static imp_status service_queue_find(imp_self *provider, const char *name, imp_queue *queue)
{
    return queue_find(jobs_of(provider), name, queue);
}

static imp_status service_intake_begin(imp_self *provider, imp_self *caller,
                                       const imp_intake_options *options, imp_intake **intake,
                                       imp_error *error)
{
    return intake_begin(jobs_of(provider), caller, options, intake, error);
}

static void service_acknowledged(imp_self *provider, const imp_id *job)
{
    intake_acknowledged(jobs_of(provider), job);
}

static imp_status service_job_list(imp_self *provider, imp_self *caller IMP_UNUSED,
                                   const imp_viewer *viewer, const imp_job_filter *filter,
                                   bool (*visit)(const imp_job_view *view, void *arg), void *arg,
                                   imp_error *error)
{
    return view_list(jobs_of(provider), viewer, filter, visit, arg, error);
}

static imp_status service_job_find(imp_self *provider, const char *text, imp_id *job)
{
    return view_find(jobs_of(provider), text, job);
}

static void service_job_cancel(imp_self *provider, imp_self *caller IMP_UNUSED, const imp_id *job,
                               const imp_viewer *viewer,
                               void (*done)(imp_status status, const imp_error *error, void *arg),
                               void *arg)
{
    cancel_job(jobs_of(provider), job, viewer, NULL, done, arg);
}

static void service_job_release(imp_self *provider, imp_self *caller IMP_UNUSED,
                                const imp_release_request *request,
                                void (*done)(imp_status status, const imp_id *delivery,
                                             const imp_error *error, void *arg),
                                void *arg)
{
    release_job(jobs_of(provider), request, done, arg);
}

static imp_status service_document_head(imp_self *provider IMP_UNUSED, imp_bytes head,
                                        imp_document_head *result)
{
    document_head_read(head, result);
    return IMP_OK;
}

static const imp_jobs_v1 service = {
    .size = sizeof service,
    .queue_find = service_queue_find,
    .intake_begin = service_intake_begin,
    .acknowledged = service_acknowledged,
    .job_list = service_job_list,
    .job_find = service_job_find,
    .job_cancel = service_job_cancel,
    .job_release = service_job_release,
    .document_head = service_document_head,
};

/* ---- settings ---- */

#define COPY(name) atomic_store(&settings->name, conf->name)
static void copy_settings(struct jobs_settings *settings, const struct jobs_conf *conf)
{
    COPY(hold_expiry);
    COPY(keep_after);
    COPY(name_retention);
    COPY(record_retention);
    COPY(evidence_timeout);
    COPY(lease);
    COPY(retry_first);
    COPY(retry_longest);
    COPY(retry_limit);
    COPY(sweep_interval);
    COPY(clock_tolerance);
    COPY(queue_jobs_max);
    COPY(queue_bytes_max);
    COPY(user_jobs_max);
    COPY(user_bytes_max);
    COPY(job_bytes_max);
    COPY(job_documents_max);
    COPY(source_rate);
    COPY(sources_max);
    COPY(submission_window);
    COPY(acknowledge_grace);
}

static imp_status jobs_check(const void *block, imp_error *error)
{
    const struct jobs_conf *conf = block;
    if (conf->retry_longest < conf->retry_first)
        return imp_error_set(error, IMP_INVALID, "retry_longest is shorter than retry_first");
    if (conf->record_retention < conf->name_retention)
        return imp_error_set(error, IMP_INVALID, "record_retention is shorter than name_retention");
    return IMP_OK;
}

static void jobs_reconfigure(imp_self *self IMP_UNUSED, void *instance, const void *block)
{
    struct jobs *jobs = instance;
    const struct jobs_conf *conf = block;
    struct spool_settings spool = SPOOL_SETTINGS_OF(conf);
    copy_settings(&jobs->settings, conf);
    spool_reconfigure(jobs->spool, &spool);
    expiry_reconfigure(jobs);
    leases_reconfigure(jobs);
}

/* ---- start ---- */

static imp_status open_tables(struct jobs *jobs, imp_error *error)
{
    struct jobs_tables *tables = &jobs->tables;
    const struct {
        const char *name;
        imp_table **table;
    } rows[] = {
        {"queue", &tables->queue},       {"queue_name", &tables->queue_name},
        {"counter", &tables->counter},   {"job", &tables->job},
        {"job_id", &tables->job_id},     {"queued", &tables->queued},
        {"owned", &tables->owned},       {"due", &tables->due},
        {"personal", &tables->personal}, {"delivery", &tables->delivery},
        {"line", &tables->line},         {"submission", &tables->submission},
        {"clock", &tables->clock},       {"submitted", &tables->submitted},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        *rows[i].table = imp_table_open(jobs->self, rows[i].name);
        if (*rows[i].table == NULL)
            return imp_error_set(error, IMP_CORRUPT, "table %s can't be opened", rows[i].name);
    }
    return IMP_OK;
}

static void register_metrics(struct jobs *jobs)
{
    struct jobs_metrics *metrics = &jobs->metrics;
    const struct {
        imp_metric **metric;
        imp_metric_kind kind;
        const char *name, *help;
    } rows[] = {
        {&metrics->received, IMP_METRIC_COUNTER, "received_total", "Jobs taken and durable"},
        {&metrics->received_bytes, IMP_METRIC_COUNTER, "received_bytes_total", "Their documents"},
        {&metrics->quarantined, IMP_METRIC_COUNTER, "quarantined_total", "Jobs of unknown owners"},
        {&metrics->retries_seen, IMP_METRIC_COUNTER, "submissions_repeated_total",
         "Submissions that were here already"},
        {&metrics->held, IMP_METRIC_GAUGE, "held", "Jobs of hold queues that have not ended"},
        {&metrics->deliveries, IMP_METRIC_COUNTER, "deliveries_total", "Deliveries begun"},
        {&metrics->delivered, IMP_METRIC_COUNTER, "delivered_total", "Jobs printed"},
        {&metrics->delivered_bytes, IMP_METRIC_COUNTER, "delivered_bytes_total",
         "Bytes sent to devices for them"},
        {&metrics->failed, IMP_METRIC_COUNTER, "deliveries_failed_total",
         "Deliveries that put nothing on their device"},
        {&metrics->uncertain, IMP_METRIC_COUNTER, "deliveries_uncertain_total",
         "Deliveries whose end is not known"},
        {&metrics->expired, IMP_METRIC_COUNTER, "expired_total",
         "Jobs that nobody released in time"},
        {&metrics->canceled, IMP_METRIC_COUNTER, "canceled_total", "Jobs canceled"},
        {&metrics->bad_rows, IMP_METRIC_COUNTER, "bad_rows_total",
         "Rows that could not be used and were set aside"},
        {&metrics->view_rows, IMP_METRIC_COUNTER, "view_rows_total",
         "Jobs read for listings, shown or not"},
        {&metrics->sweeps, IMP_METRIC_COUNTER, "sweeps_total", "Looks for jobs that are due"},
        {&metrics->sweeping, IMP_METRIC_GAUGE, "sweeping",
         "1: expiry runs; 0: stopped because of the clock"},
    };
    static const char *const reasons[JOBS_REFUSAL_COUNT] = {
        [JOBS_REFUSED_QUEUE] = "reason=\"no-queue\"",
        [JOBS_REFUSED_CLOSED] = "reason=\"not-accepting\"",
        [JOBS_REFUSED_SPACE] = "reason=\"no-space\"",
        [JOBS_REFUSED_LIMIT] = "reason=\"limit\"",
        [JOBS_REFUSED_RATE] = "reason=\"rate\"",
        [JOBS_REFUSED_HOOK] = "reason=\"hook\"",
        [JOBS_REFUSED_OWNER] = "reason=\"not-allowed\"",
        [JOBS_REFUSED_STORE] = "reason=\"store\"",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i].metric =
            imp_metric_register(jobs->self, rows[i].kind, rows[i].name, NULL, rows[i].help);
    for (size_t i = 0; i < JOBS_REFUSAL_COUNT; i++)
        metrics->refused[i] = imp_metric_register(jobs->self, IMP_METRIC_COUNTER, "refused_total",
                                                  reasons[i], "Jobs refused");
}

/* Names this process among all that ever ran on this machine: boot, process id, time of its start. All
 * generations of the module in one process have the same. */
static uint64_t name_run(void)
{
    char text[1024] = "";
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)getpid();
    static const char *const files[] = {"/proc/sys/kernel/random/boot_id", "/proc/self/stat"};
    for (size_t i = 0; i < 2; i++) {
        int fd = open(files[i], O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        const char *at = text, *end;
        if (fd >= 0)
            close(fd);
        text[length < 0 ? 0 : length] = '\0';
        end = text + strlen(text);
        if (i == 1) {
            /* proc(5): field 22 is the start; the name in field 2 may hold blanks, so from ')'. */
            at = strrchr(text, ')');
            for (uint32_t field = 2; at != NULL && field < 22; field++)
                at = strchr(at + 1, ' ');
            if (at == NULL)
                at = end;
            else if ((end = strchr(at + 1, ' ')) == NULL)
                end = at + strlen(at);
        }
        for (; at < end; at++)
            hash = (hash ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Held jobs at start, from the counters of the queues: no job is looked at. */
static imp_status count_held(struct jobs *jobs, imp_error *error)
{
    imp_tx *tx;
    imp_cursor *cursor;
    imp_bytes key, value;
    int64_t held = 0;
    imp_status status = imp_store_read_begin(jobs->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = imp_cursor_open(tx, jobs->tables.queue, (imp_bytes){"", 0}, &cursor);
    if (status == IMP_OK) {
        while ((status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
            imp_queue queue = {.size = sizeof queue};
            Queue *record = imp_message_decode(tx, QUEUE_TYPE, value);
            if (record != NULL && record->release == IMP_QUEUE_HOLD &&
                queue_describe(jobs, tx, record, &queue) == IMP_OK)
                held += (int64_t)queue.jobs_queued;
        }
        imp_cursor_close(cursor);
    }
    imp_store_read_end(tx);
    imp_metric_set(jobs->metrics.held, held);
    if (status == IMP_NOT_FOUND)
        return IMP_OK;
    return imp_error_set(error, status, "the queues can't be read: %s", imp_status_name(status));
}

static void jobs_free(struct jobs *jobs)
{
    if (jobs == NULL)
        return;
    spool_close(jobs->spool);
    delivery_free_lines(jobs);
    submissions_free(jobs->submissions);
    rates_free(jobs->rates);
    pthread_mutex_destroy(&jobs->held_lock);
    free(jobs);
}

/* Where destroying a key may leave it readable: docs/security.md. */
static void fill_key_status(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    const struct jobs *jobs = instance;
    imp_field_text(request, "spool_warning", spool_warning(jobs->spool));
}

static imp_status jobs_start(imp_self *self, const void *block, void **instance, imp_error *error)
{
    const struct jobs_conf *conf = block;
    struct spool_settings spool = SPOOL_SETTINGS_OF(conf);
    struct jobs *jobs = calloc(1, sizeof *jobs);
    imp_status status = IMP_LIMIT;

    if (jobs == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory");
    jobs->self = self;
    jobs->run = name_run();
    jobs->started_ticks = imp_ticks();
    jobs->loop_count = imp_loop_count();
    jobs->view_looks = VIEW_LOOKS_MAX;
    pthread_mutex_init(&jobs->held_lock, NULL);
    copy_settings(&jobs->settings, conf);
    jobs->lines = calloc(jobs->loop_count, sizeof(struct device_line *));
    jobs->submissions = submissions_new();
    jobs->rates = rates_new((uint32_t)conf->sources_max);
    if (jobs->lines == NULL || jobs->submissions == NULL || jobs->rates == NULL) {
        imp_error_set(error, status, "not enough memory");
        goto failed;
    }
    register_metrics(jobs);
    if ((status = open_tables(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = spool_open(self, &spool, &jobs->spool, error)) != IMP_OK)
        goto failed;
    if ((status = count_held(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = queue_verbs_register(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = job_verbs_register(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = imp_fields_add(self, "key status", fill_key_status, error)) != IMP_OK)
        goto failed;
    if ((status = expiry_start(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = delivery_recover(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = leases_start(jobs, error)) != IMP_OK)
        goto failed;
    if ((status = restore_start(jobs, error)) != IMP_OK)
        goto failed;
    *instance = jobs;
    return IMP_OK;
failed:
    leases_stop(jobs);
    expiry_stop(jobs);
    jobs_free(jobs);
    return status;
}

/* ---- end ---- */

static void jobs_drain(imp_self *self IMP_UNUSED, void *instance)
{
    struct jobs *jobs = instance;
    atomic_store(&jobs->is_draining, true);
    expiry_stop(jobs);
    submissions_flush(jobs);
}

static void jobs_stop(imp_self *self IMP_UNUSED, void *instance)
{
    struct jobs *jobs = instance;
    atomic_store(&jobs->is_draining, true);
    expiry_stop(jobs);
    leases_stop(jobs);
    jobs_free(jobs);
}

IMP_MODULE(.name = "jobs", .version = "0.1.0", .summary = "jobs, queues, documents, deliveries",
           .requires = IMP_REQUIRES(IMP_ACCOUNTS_V1, IMP_DEVICES_V1, IMP_AUDIT_V1),
           .wants = IMP_REQUIRES({"transport.socket", 1}, {"transport.ipp", 1},
                                 {"transport.ipps", 1}, {"transport.lpd", 1}),
           .provides = IMP_PROVIDES({"jobs", 1, &service}), .options = jobs_options,
           .conf_size = sizeof(struct jobs_conf), .tables = jobs_table_specs, .check = jobs_check,
           .start = jobs_start, .reconfigure = jobs_reconfigure, .drain = jobs_drain,
           .stop = jobs_stop);
IMP_MODULE_NOTE("jobs", "0.1.0", "accounts/1 devices/1 audit/1", "jobs/1");
