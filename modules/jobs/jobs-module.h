/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-module.h - the instance of module jobs: its tables, settings, metrics, and what all its files
 * share. Truth lies in the store; what stands here is handles, settings and what runs right now.
 */
#ifndef JOBS_MODULE_H
#define JOBS_MODULE_H

#include <imprimatur/audit.h>
#include <imprimatur/devices.h>
#include <imprimatur/hook.h>
#include <imprimatur/jobs.h>
#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/metrics.h>
#include <imprimatur/options.h>
#include <imprimatur/store.h>
#include <pthread.h>
#include <stdatomic.h>

#include "modules/jobs/spool.h"

/* The settings as the core reads them. */
struct jobs_conf {
    SPOOL_SETTINGS_FIELDS
    int64_t hold_expiry;
    int64_t keep_after;
    int64_t name_retention;
    int64_t record_retention;
    int64_t evidence_timeout;
    int64_t lease;
    int64_t retry_first;
    int64_t retry_longest;
    int64_t retry_limit;
    int64_t sweep_interval;
    int64_t clock_tolerance;
    int64_t queue_jobs_max;
    int64_t queue_bytes_max;
    int64_t user_jobs_max;
    int64_t user_bytes_max;
    int64_t job_bytes_max;
    int64_t job_documents_max;
    int64_t source_rate;
    int64_t sources_max;
    int64_t submission_window;
    int64_t acknowledge_grace;
};

/* The same values, readable on every thread while the control thread replaces them one by one. */
struct jobs_settings {
    _Atomic int64_t hold_expiry, keep_after, name_retention, record_retention, evidence_timeout,
        lease, retry_first, retry_longest, retry_limit, sweep_interval, clock_tolerance,
        queue_jobs_max, queue_bytes_max, user_jobs_max, user_bytes_max, job_bytes_max,
        job_documents_max, source_rate, sources_max, submission_window, acknowledge_grace;
};

struct jobs_tables {
    imp_table *queue;      /* queue id -> Queue */
    imp_table *queue_name; /* keyed hash of the name -> queue id */
    imp_table *counter;    /* "q" queue id | "u" principal -> Counter */
    imp_table *job;        /* sequence -> Job */
    imp_table *job_id;     /* job id -> sequence */
    imp_table *queued;     /* queue id, sequence -> nothing: jobs not in a final state */
    imp_table *submitted;  /* submitter, sequence -> nothing: as `queued`, by who sent them */
    imp_table *owned;      /* principal, sequence -> nothing: all jobs of an owner */
    imp_table *due;        /* time, sequence -> nothing: what the sweeper has to look at */
    imp_table *personal;   /* sequence -> Personal, sealed under the job's own slot */
    imp_table *delivery;   /* sequence, attempt -> Delivery */
    imp_table *line;       /* device, class, number -> struct line_row: who is next on a device */
    imp_table *submission; /* keyed hash -> Submission */
    imp_table *clock;      /* "clock" -> Clock */
};

/* Refusals, counted by reason. */
enum jobs_refusal {
    JOBS_REFUSED_QUEUE,  /* no such queue */
    JOBS_REFUSED_CLOSED, /* it does not accept */
    JOBS_REFUSED_SPACE,
    JOBS_REFUSED_LIMIT,
    JOBS_REFUSED_RATE,
    JOBS_REFUSED_HOOK,
    JOBS_REFUSED_OWNER, /* not one of the queue's principals */
    JOBS_REFUSED_STORE,
    JOBS_REFUSAL_COUNT
};

struct jobs_metrics {
    imp_metric *received, *received_bytes, *quarantined, *retries_seen, *held;
    imp_metric *deliveries, *delivered, *delivered_bytes, *failed, *uncertain;
    imp_metric *expired, *canceled, *sweeping, *bad_rows, *view_rows, *sweeps;
    imp_metric *refused[JOBS_REFUSAL_COUNT];
};

/* Rows that a closure had to set aside; see jobs-bad.h. */
#define JOBS_BAD_MAX 16u
struct jobs_bad {
    uint32_t count;
    struct {
        uint64_t sequence; /* of the job; 0: not known */
        imp_status status;
    } rows[JOBS_BAD_MAX];
};

struct jobs_rates;       /* jobs-rate.c */
struct jobs_submissions; /* jobs-submission.c */
struct device_line;      /* jobs-delivery.c */
struct delivery;

struct jobs {
    imp_self *self;
    struct jobs_settings settings;
    struct jobs_tables tables;
    struct jobs_metrics metrics;
    struct spool *spool;
    struct jobs_rates *rates;
    struct jobs_submissions *submissions;
    uint64_t run; /* names this run of the server; the same in all generations of one process */
    int64_t started_ticks;
    _Atomic bool is_draining;
    pthread_mutex_t held_lock;
    struct delivery *deliveries_held; /* by this generation; see delivery_is_held */
    uint32_t view_looks;              /* VIEW_LOOKS_MAX; tests have less patience */

    uint32_t loop_count;
    struct device_line **lines; /* one list a loop, touched on that loop only */

    /* The sweeper's, on the control loop. */
    imp_timer *sweep_timer;
    bool is_sweeping, is_clock_doubtful;
    int64_t clock_wall, clock_ticks; /* at the last look */

    /* Leases of deliveries (jobs-lease.c), on the control loop. */
    imp_timer *lease_timer;
    bool is_lapsing;
    int64_t lease_wall, lease_ticks; /* at the last look */
};

/* ---- writing, with patience ---- */

/* A write that waits for room in its queue by itself. Embedded in the state of an action; `done` is
 * called exactly once on the loop of the submission, and not from within it while the loop takes
 * posts: who submits may still look at the action. */
struct jobs_write {
    struct jobs *jobs;
    imp_write_queue queue;
    imp_write_function fn;
    imp_write_done done;
    void *arg;
    imp_status refusal; /* why the store did not take it */
};
void jobs_write_submit(struct jobs_write *write);

/* ---- small helpers ---- */

static inline imp_bytes jobs_bytes_of_id(const imp_id *id)
{
    return (imp_bytes){id->bytes, sizeof id->bytes};
}

#define JOBS_SEQUENCE_SIZE 8
void jobs_put_u64(uint8_t *target, uint64_t value); /* big endian, so that keys sort */
uint64_t jobs_get_u64(const uint8_t *source);
void jobs_put_u32(uint8_t *target, uint32_t value);
uint32_t jobs_get_u32(const uint8_t *source);

/* Counts a refusal. */
void jobs_refuse(struct jobs *jobs, enum jobs_refusal reason);

/* Runs `fn(arg)` on the loop of that index (0..loop_count-1 carry connections). */
imp_status jobs_post(struct jobs *jobs, imp_loop *loop, void (*fn)(void *arg), void *arg);

extern const imp_option jobs_options[];
extern const imp_table_spec jobs_table_specs[];

#endif
