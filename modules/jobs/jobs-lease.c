/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-lease.h"

#include <stdlib.h>

#include "modules/jobs/jobs-delivery-private.h"

/* Looks at a lease while it lasts, so that one missed renewal loses nothing. */
#define LOOKS_A_LEASE 4
/* From being asked to stop until the delivery is taken away. */
#define STOP_PATIENCE (10 * IMP_SECOND)

static int64_t look_interval(struct jobs *jobs)
{
    return atomic_load(&jobs->settings.lease) / LOOKS_A_LEASE;
}

/* ---- renewing ---- */

struct renewal {
    struct jobs *jobs;
    uint64_t sequence;
    imp_id delivery;
    int64_t lease_end;
    struct jobs_write write;
};

static imp_status renewal_tx(imp_tx *tx, void *arg, imp_error *error IMP_UNUSED)
{
    struct renewal *renewal = arg;
    imp_status status;
    Job *job = job_load_sequence(renewal->jobs, tx, renewal->sequence, &status);
    if (job == NULL || !record_id_is(job->delivery, renewal->delivery))
        return IMP_OK; /* it has ended meanwhile, or its end will say what is wrong */
    Delivery *record = job_load_delivery(renewal->jobs, tx, job, &status);
    if (record == NULL || !record_id_is(record->id, renewal->delivery))
        return IMP_OK;
    record->lease_end = renewal->lease_end;
    return delivery_save_tx(renewal->jobs, tx, record);
}

static void renewal_done(imp_status status, const imp_error *error, void *arg)
{
    struct renewal *renewal = arg;
    if (status != IMP_OK)
        imp_log_limited(renewal->jobs->self, 10000, IMP_LOG_WARNING, "jobs.renewal-failed",
                        "status=%s reason=\"%s\"", imp_status_name(status),
                        error == NULL ? "" : error->message);
    imp_unpin(renewal->jobs->self, "renewal");
    free(renewal);
}

static void renew(struct delivery *delivery)
{
    struct jobs *jobs = delivery->jobs;
    struct renewal *renewal = calloc(1, sizeof *renewal);
    if (renewal == NULL)
        return; /* the next look comes before the lease is over */
    imp_pin(jobs->self, "renewal");
    renewal->jobs = jobs;
    renewal->sequence = delivery->job->sequence;
    renewal->delivery = imp_id_of_field(delivery->record->id);
    renewal->lease_end = imp_now() + atomic_load(&jobs->settings.lease);
    renewal->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = renewal_tx,
        .done = renewal_done,
        .arg = renewal,
    };
    jobs_write_submit(&renewal->write);
}

/* ---- taking away ---- */

static void take_away(void *arg)
{
    struct delivery *delivery = arg;
    char id[IMP_ID_TEXT_SIZE];
    delivery->stop_timer = NULL;
    if (delivery->is_finished)
        return;
    imp_log(delivery->jobs->self, IMP_LOG_ERROR, "jobs.delivery-taken",
            "delivery=%s transport=%s reason=\"it did not stop when it was asked to\"",
            imp_id_format(delivery->info.id, id), delivery->transport);
    delivery->is_lost = true;
    /* Whatever it has said: a transport that is silent may send yet. */
    delivery->outcome = delivery->is_offered ? IMP_DELIVERY_UNCERTAIN : IMP_DELIVERY_NOT_STARTED;
    if (delivery->error.status == IMP_OK)
        imp_error_set(&delivery->error, IMP_TIMEOUT,
                      delivery->is_offered ? "its transport gave no sign of life and did not stop"
                                           : "a module did not say whether it may be printed");
    delivery_commit_end(delivery);
}

void delivery_stop_soon(struct delivery *delivery)
{
    if (delivery->stop_timer == NULL)
        delivery->stop_timer =
            imp_timer_start(delivery->jobs->self, STOP_PATIENCE, false, take_away, delivery);
    delivery_ask_to_stop(delivery);
}

static void check_lease(struct delivery *delivery)
{
    struct jobs *jobs = delivery->jobs;
    int64_t silence = imp_ticks() - delivery->last_sign;
    char id[IMP_ID_TEXT_SIZE];
    /* A device that waits for paper may do so for days; a transport that is not there yet is waited for by
     * us; an end that finds no room in the store is tried again by us. */
    if (delivery->is_finished || delivery->is_in_trouble || delivery->transport_timer != NULL ||
        silence <= atomic_load(&jobs->settings.lease)) {
        renew(delivery);
        return;
    }
    if (delivery->stop_timer != NULL)
        return; /* asked already */
    imp_log(jobs->self, IMP_LOG_WARNING, "jobs.lease-over", "delivery=%s transport=%s",
            imp_id_format(delivery->info.id, id), delivery->transport);
    delivery_stop_soon(delivery);
}

/* ---- the looks ---- */

static void look_on_loop(void *arg)
{
    delivery_each_on_loop(arg, check_lease);
}

static void forgive(struct delivery *delivery)
{
    delivery->last_sign = imp_ticks();
    renew(delivery);
}

static void forgive_on_loop(void *arg)
{
    delivery_each_on_loop(arg, forgive);
}

static void lapsed(struct jobs *jobs)
{
    jobs->is_lapsing = false;
}

static void look(void *arg)
{
    struct jobs *jobs = arg;
    int64_t wall = imp_now(), ticks = imp_ticks(), interval = look_interval(jobs);
    int64_t passed = ticks - jobs->lease_ticks, step = wall - jobs->lease_wall - passed;
    /* A process that was kept from running has seen no sign of anybody. */
    bool was_away = passed >= 2 * interval;
    jobs->lease_wall = wall;
    jobs->lease_ticks = ticks;
    for (uint32_t i = 0; i < jobs->loop_count; i++) {
        if (jobs_post(jobs, imp_loop_at(i), was_away ? forgive_on_loop : look_on_loop, jobs) !=
            IMP_OK)
            return;
    }
    /* Claims that their holders have not renewed. The store's times are of the wall clock: after a step of
     * it, or when we were away, those that are alive renew first, and the next look finds the others. */
    if (was_away || step >= interval / 2 || step <= -interval / 2 || jobs->is_lapsing ||
        atomic_load(&jobs->is_draining))
        return;
    jobs->is_lapsing = true;
    if (!delivery_end_lapsed(jobs, wall - interval, lapsed))
        jobs->is_lapsing = false;
}

void leases_reconfigure(struct jobs *jobs)
{
    imp_timer_cancel(jobs->lease_timer);
    jobs->lease_wall = imp_now();
    jobs->lease_ticks = imp_ticks();
    jobs->lease_timer = imp_timer_start(jobs->self, look_interval(jobs), true, look, jobs);
}

imp_status leases_start(struct jobs *jobs, imp_error *error)
{
    leases_reconfigure(jobs);
    if (jobs->lease_timer == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory for the timer of the leases");
    return IMP_OK;
}

void leases_stop(struct jobs *jobs)
{
    imp_timer_cancel(jobs->lease_timer);
    jobs->lease_timer = NULL;
}
