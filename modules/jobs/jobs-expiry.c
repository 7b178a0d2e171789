/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-expiry.h"

#include <stdlib.h>

#include "modules/jobs/jobs-bad.h"
#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-submission.h"

#define BATCH 64u /* jobs a closure, so that one sweep never holds the writer for long */
#define SUBMISSIONS_LOOK 1024u /* rows of submissions a closure */
#define FIRST_SWEEP (1 * IMP_SECOND)
/* When a job that can't be swept is looked at again. */
#define BAD_POSTPONED (IMP_SECOND * 3600 * 24)

struct sweep {
    struct jobs *jobs;
    bool is_confirmed; /* an administrator vouches for the clock */
    uint32_t looked, expired, forgotten, held_expired;
    bool is_condemned, has_more;
    enum clock_verdict verdict;
    int64_t wall, ticks;
    /* Jobs that made the closure fail: it leaves no trace then, so it runs again and postpones them. */
    struct jobs_bad bad;
    uint64_t failed;
    struct submission_batch batch;
    struct jobs_write write;
    void (*done)(imp_status status, const imp_error *error, void *arg);
    void *arg;
};

enum clock_verdict clock_judge(int64_t high_water, int64_t wall_before, int64_t ticks_before,
                               int64_t wall, int64_t ticks, int64_t tolerance)
{
    if (wall < high_water - tolerance)
        return CLOCK_STEPPED_BACK;
    if (wall_before != 0 && (wall - wall_before) - (ticks - ticks_before) > tolerance)
        return CLOCK_JUMPED_AHEAD;
    return CLOCK_FINE;
}

/* ---- one job ---- */

static imp_status sweep_job_tx(struct sweep *sweep, imp_tx *tx, int64_t due, uint64_t sequence,
                               imp_error *error)
{
    struct jobs *jobs = sweep->jobs;
    struct jobs_settings *settings = &jobs->settings;
    static const struct jobs_actor nobody = {.place_kind = ""};
    imp_status status;
    uint32_t next;
    Job *job = job_load_sequence(jobs, tx, sequence, &status);
    if (job == NULL)
        return status;
    if (job->due != due) /* the job has another row */
        return job_due_delete_tx(jobs, tx, due, sequence);
    if (!job_situation_is_final(job->situation)) {
        if (job_situation_next(job->situation, JOB_EXPIRE, &next) != IMP_OK ||
            job->expires > sweep->wall)
            return job_save_tx(jobs, tx, job); /* being delivered: later */
        bool was_hold = job->was_hold;
        status = job_apply_tx(jobs, tx, job, JOB_EXPIRE, &sweep->is_condemned, error);
        if (status != IMP_OK)
            return status;
        sweep->expired++;
        sweep->held_expired += was_hold ? 1 : 0;
        return job_audit_tx(jobs, tx, "job.expire", imp_id_of_field(job->id), &nobody, IMP_OK,
                            error, NULL);
    }
    if (job->has_documents && job->keep_until <= sweep->wall)
        status = job_condemn_documents_tx(jobs, tx, job, &sweep->is_condemned, error);
    if (status == IMP_OK && job->text.len != 0 &&
        job->finished + atomic_load(&settings->name_retention) <= sweep->wall)
        status = job_condemn_personal_tx(jobs, tx, job, &sweep->is_condemned, error);
    if (status != IMP_OK)
        return status;
    if (job->finished + atomic_load(&settings->record_retention) <= sweep->wall) {
        sweep->forgotten++;
        return job_forget_tx(jobs, tx, job, &sweep->is_condemned, error);
    }
    return job_save_tx(jobs, tx, job);
}

/* A job that can't be swept comes by again in a day: who repairs it need not know of this. */
static imp_status postpone_tx(struct sweep *sweep, imp_tx *tx, int64_t due, uint64_t sequence)
{
    struct jobs *jobs = sweep->jobs;
    imp_status status;
    int64_t later = sweep->wall + BAD_POSTPONED;
    Job *job = job_load_sequence(jobs, tx, sequence, &status);
    if (job != NULL && job->due == due)
        return job_due_set_tx(jobs, tx, job, later);
    imp_status deleted = job_due_delete_tx(jobs, tx, due, sequence);
    if (deleted != IMP_OK || job != NULL || status == IMP_NOT_FOUND)
        return deleted; /* nothing is left that could be due */
    return job_due_put_tx(jobs, tx, later, sequence);
}

/* ---- the closure ---- */

static imp_status check_clock_tx(struct sweep *sweep, imp_tx *tx)
{
    struct jobs *jobs = sweep->jobs;
    static const imp_bytes key = {"clock", 5};
    Clock fresh = CLOCK_INIT;
    imp_status status;
    Clock *clock = imp_message_get(tx, jobs->tables.clock, key, CLOCK_TYPE, &status);
    if (status == IMP_NOT_FOUND) {
        fresh.schema = JOBS_SCHEMA;
        clock = &fresh;
    } else if (status != IMP_OK) {
        return status;
    }
    sweep->verdict = CLOCK_FINE;
    if (!sweep->is_confirmed)
        sweep->verdict =
            clock_judge(clock->high_water, jobs->clock_wall, jobs->clock_ticks, sweep->wall,
                        sweep->ticks, atomic_load(&jobs->settings.clock_tolerance));
    if (sweep->verdict != CLOCK_FINE)
        return IMP_OK;
    if (!sweep->is_confirmed && clock->high_water >= sweep->wall)
        return IMP_OK;
    clock->high_water = sweep->wall;
    return imp_message_put(tx, jobs->tables.clock, key, clock);
}

static imp_status sweep_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct sweep *sweep = arg;
    struct jobs *jobs = sweep->jobs;
    struct {
        int64_t time;
        uint64_t sequence;
    } due[BATCH];
    uint32_t count = 0, looked = 0;
    bool has_submissions = false;
    imp_cursor *cursor;
    imp_bytes key;

    sweep->looked = sweep->expired = sweep->forgotten = sweep->held_expired = 0;
    sweep->is_condemned = sweep->has_more = false;
    sweep->failed = 0;
    imp_status status = check_clock_tx(sweep, tx);
    if (status == IMP_OK)
        status = submission_forget_tx(jobs, tx, &sweep->batch);
    if (status != IMP_OK || sweep->verdict != CLOCK_FINE)
        return status;
    if ((status = submission_sweep_tx(jobs, tx, SUBMISSIONS_LOOK, &has_submissions)) != IMP_OK)
        return status;
    if ((status = imp_cursor_open(tx, jobs->tables.due, (imp_bytes){"", 0}, &cursor)) != IMP_OK)
        return status;
    while (count < BATCH && (status = imp_cursor_next(cursor, &key, NULL)) == IMP_OK) {
        if (key.length != 16 || (int64_t)jobs_get_u64(key.data) > sweep->wall)
            break;
        due[count].time = (int64_t)jobs_get_u64(key.data);
        due[count++].sequence = jobs_get_u64((const uint8_t *)key.data + 8);
    }
    imp_cursor_close(cursor);
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return status;
    status = IMP_OK;
    while (looked < count && status == IMP_OK) {
        uint64_t sequence = due[looked].sequence;
        if (bad_has(&sweep->bad, sequence)) {
            status = postpone_tx(sweep, tx, due[looked].time, sequence);
        } else if (bad_is_full(&sweep->bad)) {
            break; /* what was done so far is committed, and the list is empty again */
        } else {
            sweep->failed = sequence;
            status = sweep_job_tx(sweep, tx, due[looked].time, sequence, error);
            if (status == IMP_OK)
                sweep->failed = 0;
        }
        looked++;
    }
    sweep->looked = looked;
    sweep->has_more = count == BATCH || looked < count || has_submissions;
    return status;
}

static void sweep_submit(struct sweep *sweep);

static void say_verdict(struct jobs *jobs, const struct sweep *sweep)
{
    bool is_doubtful = sweep->verdict != CLOCK_FINE;
    imp_metric_set(jobs->metrics.sweeping, is_doubtful ? 0 : 1);
    if (is_doubtful == jobs->is_clock_doubtful)
        return;
    jobs->is_clock_doubtful = is_doubtful;
    if (is_doubtful)
        imp_log(jobs->self, IMP_LOG_ERROR, "jobs.clock-doubtful",
                "verdict=%s reason=\"nothing expires until the clock is confirmed: imprimctl job "
                "confirm-clock\"",
                sweep->verdict == CLOCK_STEPPED_BACK ? "stepped-back" : "jumped-ahead");
    else
        imp_log(jobs->self, IMP_LOG_NOTICE, "jobs.clock-fine", "swept=%u", sweep->looked);
}

static void sweep_end(struct sweep *sweep, imp_status status, const imp_error *error)
{
    struct jobs *jobs = sweep->jobs;
    if (sweep->done != NULL)
        sweep->done(status, error, sweep->arg);
    jobs->is_sweeping = false;
    imp_metric_add(jobs->metrics.sweeps, 1);
    imp_unpin(jobs->self, "sweep");
    free(sweep);
}

static void sweep_done(imp_status status, const imp_error *error, void *arg)
{
    struct sweep *sweep = arg;
    struct jobs *jobs = sweep->jobs;
    if (status != IMP_OK && sweep->failed != 0 && bad_is_of_row(status) &&
        bad_add(&sweep->bad, sweep->failed, status)) {
        jobs_write_submit(&sweep->write);
        return;
    }
    if (status != IMP_OK) {
        submissions_give_back(jobs->submissions, &sweep->batch);
        imp_log_limited(jobs->self, 60000, IMP_LOG_ERROR, "jobs.sweep-failed",
                        "status=%s reason=\"%s\"", imp_status_name(status),
                        error == NULL ? "" : error->message);
        sweep_end(sweep, status, error);
        return;
    }
    if (sweep->verdict != CLOCK_JUMPED_AHEAD) {
        /* After a jump the look before stays the measure, until somebody confirms the clock. */
        jobs->clock_wall = sweep->wall;
        jobs->clock_ticks = sweep->ticks;
    }
    say_verdict(jobs, sweep);
    bad_tell(jobs, "sweep", &sweep->bad);
    imp_metric_add(jobs->metrics.expired, sweep->expired);
    imp_metric_add(jobs->metrics.held, -(int64_t)sweep->held_expired);
    if (sweep->is_condemned)
        spool_shred(jobs->spool, NULL, NULL);
    if ((sweep->has_more || submissions_waiting(jobs->submissions) >= SUBMISSION_BATCH) &&
        sweep->verdict == CLOCK_FINE && !atomic_load(&jobs->is_draining)) {
        sweep_submit(sweep);
        return;
    }
    sweep_end(sweep, IMP_OK, NULL);
}

static void sweep_submit(struct sweep *sweep)
{
    sweep->wall = imp_now();
    sweep->ticks = imp_ticks();
    submissions_take(sweep->jobs->submissions, &sweep->batch);
    sweep->write = (struct jobs_write){
        .jobs = sweep->jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = sweep_tx,
        .done = sweep_done,
        .arg = sweep,
    };
    jobs_write_submit(&sweep->write);
}

/* ---- the timer ---- */

static void sweep_now(void *arg)
{
    struct jobs *jobs = arg;
    struct sweep *sweep;
    if (jobs->is_sweeping || atomic_load(&jobs->is_draining))
        return;
    submissions_age(jobs->submissions, atomic_load(&jobs->settings.submission_window));
    if ((sweep = calloc(1, sizeof *sweep)) == NULL)
        return; /* the next interval comes */
    imp_pin(jobs->self, "sweep");
    jobs->is_sweeping = true;
    sweep->jobs = jobs;
    sweep_submit(sweep);
}

void expiry_reconfigure(struct jobs *jobs)
{
    imp_timer_cancel(jobs->sweep_timer);
    jobs->sweep_timer = imp_timer_start(jobs->self, atomic_load(&jobs->settings.sweep_interval),
                                        true, sweep_now, jobs);
}

imp_status expiry_start(struct jobs *jobs, imp_error *error)
{
    imp_timer *first = imp_timer_start(jobs->self, FIRST_SWEEP, false, sweep_now, jobs);
    expiry_reconfigure(jobs);
    if (first == NULL || jobs->sweep_timer == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory for the sweeper's timer");
    imp_metric_set(jobs->metrics.sweeping, 1);
    return IMP_OK;
}

void expiry_stop(struct jobs *jobs)
{
    imp_timer_cancel(jobs->sweep_timer);
    jobs->sweep_timer = NULL;
}

void expiry_confirm_clock(struct jobs *jobs,
                          void (*done)(imp_status status, const imp_error *error, void *arg),
                          void *arg)
{
    imp_error error;
    struct sweep *sweep = jobs->is_sweeping ? NULL : calloc(1, sizeof *sweep);
    if (sweep == NULL) {
        done(imp_error_set(&error, IMP_BUSY, "a sweep is running: try again"), &error, arg);
        return;
    }
    imp_pin(jobs->self, "sweep");
    jobs->is_sweeping = true;
    sweep->jobs = jobs;
    sweep->is_confirmed = true;
    sweep->done = done;
    sweep->arg = arg;
    sweep_submit(sweep);
}
