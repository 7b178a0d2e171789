/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims whose holder is gone: those of an earlier run of the server, read at start, and those that nobody
 * has renewed. Both walk over the running rows of all devices' lines.
 */
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-bad.h"
#include "modules/jobs/jobs-delivery-private.h"

struct recovery {
    struct jobs *jobs;
    int64_t lapsed_before; /* 0: at start */
    imp_id *devices;       /* to be woken: at start all that have a line */
    size_t device_count, device_room;
    uint32_t uncertain, resumed;
    struct jobs_bad bad;
    struct jobs_write write;
    void (*done)(struct jobs *jobs);
};

static bool note_device(struct recovery *recovery, const uint8_t *device)
{
    if (recovery->device_count != 0 &&
        memcmp(recovery->devices[recovery->device_count - 1].bytes, device, 16) == 0)
        return true; /* rows of a device lie together */
    if (recovery->device_count == recovery->device_room) {
        size_t room = recovery->device_room == 0 ? 16 : recovery->device_room * 2;
        imp_id *more = realloc(recovery->devices, room * sizeof *more);
        if (more == NULL)
            return false;
        recovery->devices = more;
        recovery->device_room = room;
    }
    memcpy(recovery->devices[recovery->device_count++].bytes, device, 16);
    return true;
}

static bool is_abandoned(const struct recovery *recovery, const Delivery *record)
{
    if (recovery->lapsed_before != 0)
        /* What is held here may have ended well, and only found no room in the store for that yet. */
        return record->lease_end < recovery->lapsed_before &&
               !delivery_is_held(recovery->jobs, imp_id_of_field(record->id));
    return record->run !=
           recovery->jobs->run; /* else another generation of this process is at it */
}

/* One claim that nobody holds. At start the word of "bytes sent" tells whether it may go on; one that has
 * lapsed in this process may still have its transport, which may send yet. */
static imp_status end_claim_tx(struct recovery *recovery, imp_tx *tx, Job *job, Delivery *record,
                               imp_bytes key, imp_error *error)
{
    struct jobs *jobs = recovery->jobs;
    bool is_start = recovery->lapsed_before == 0, is_condemned = false;
    imp_sent_slot slot;
    uint64_t sent = 1;
    imp_id id = imp_id_of_field(record->id);
    struct jobs_actor actor = {.place_kind = "device", .place = imp_id_of_field(record->device)};
    bool has_word = is_start && imp_sent_find(id, &slot, &sent);
    bool never_began = has_word && sent == 0;
    char text[IMP_ID_TEXT_SIZE];
    imp_status status;
    if (never_began) {
        record->state = DELIVERY_WAITING;
        status = line_put_tx(jobs, tx, job, record, false, 0);
        recovery->resumed++;
    } else {
        record->state = DELIVERY_UNCERTAIN;
        record->ended = imp_now();
        status = imp_tx_delete(tx, jobs->tables.line, key);
        recovery->uncertain++;
    }
    if (status == IMP_OK)
        status = delivery_save_tx(jobs, tx, record);
    if (status == IMP_OK)
        status =
            job_apply_tx(jobs, tx, job, never_began ? JOB_RETRY : JOB_DOUBT, &is_condemned, error);
    if (status == IMP_OK)
        status =
            job_audit_tx(jobs, tx, is_start ? "delivery.recover" : "delivery.lapse",
                         imp_id_of_field(job->id), &actor, IMP_OK, error, "delivery=%s state=%s",
                         imp_id_format(id, text), delivery_state_name(record->state));
    return status;
}

/* One running row; is_full when it could not be set aside in this commit. */
static imp_status look_at_row_tx(struct recovery *recovery, imp_tx *tx, const struct line_row *row,
                                 imp_bytes key, bool *is_full, imp_error *error)
{
    struct jobs *jobs = recovery->jobs;
    imp_status status;
    uint32_t unused;
    Job *job = job_load_sequence(jobs, tx, row->sequence, &status);
    Delivery *record = NULL;
    if (job != NULL && job->attempts != row->attempt) {
        job = NULL; /* it has another delivery: the row alone is wrong */
        status = IMP_INVALID;
    }
    if (job != NULL)
        record = job_load_delivery(jobs, tx, job, &status);
    if (record != NULL && !is_abandoned(recovery, record))
        return IMP_OK;
    if (record != NULL && job_situation_next(job->situation, JOB_DOUBT, &unused) == IMP_OK)
        return end_claim_tx(recovery, tx, job, record, key, error);
    if (record != NULL)
        status = IMP_INVALID;
    if (!bad_is_of_row(status))
        return imp_error_set(error, status, "a job on a device can't be read: %s",
                             imp_status_name(status));
    *is_full = !bad_add(&recovery->bad, row->sequence, status);
    if (*is_full)
        return IMP_OK;
    recovery->uncertain += job != NULL && record == NULL ? 1 : 0;
    return line_set_aside_tx(jobs, tx, key, job, JOB_DOUBT, error);
}

static imp_status walk_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct recovery *recovery = arg;
    struct jobs *jobs = recovery->jobs;
    uint8_t from[IMP_KEY_MAX] = {0};
    size_t from_length = 0;
    bool is_full = false;

    recovery->device_count = 0;
    recovery->uncertain = recovery->resumed = recovery->bad.count = 0;
    for (;;) {
        struct line_row row;
        imp_cursor *cursor;
        imp_bytes key, value;
        bool is_usable = false;
        uint32_t ended = recovery->uncertain + recovery->resumed;
        imp_status status =
            imp_cursor_open(tx, jobs->tables.line, (imp_bytes){from, from_length}, &cursor);
        if (status != IMP_OK)
            return status;
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_OK) {
            is_usable = key.length == LINE_KEY_SIZE && line_row_read(value, &row);
            from_length = key.length;
            memcpy(from, key.data, from_length);
        }
        imp_cursor_close(cursor);
        if (status == IMP_NOT_FOUND)
            return IMP_OK;
        if (status != IMP_OK)
            return imp_error_set(error, status, "the devices' lines can't be read: %s",
                                 imp_status_name(status));
        key = (imp_bytes){from, from_length};
        if (!is_usable) {
            if (!bad_add(&recovery->bad, 0, IMP_CORRUPT))
                return IMP_OK;
            status = line_set_aside_tx(jobs, tx, key, NULL, JOB_DOUBT, error);
            if (status != IMP_OK)
                return status;
            continue; /* the one behind it may be running as well */
        }
        if (row.is_running)
            status = look_at_row_tx(recovery, tx, &row, key, &is_full, error);
        if (status != IMP_OK || is_full)
            return status;
        bool wakes = recovery->lapsed_before == 0 || recovery->bad.count != 0 ||
                     ended != recovery->uncertain + recovery->resumed;
        if (wakes && !note_device(recovery, from))
            return imp_error_set(error, IMP_LIMIT, "not enough memory for the devices' lines");
        /* Running rows are the first of their class, so the walk jumps from class to class and never
         * over all jobs that wait. */
        memset(from + 17, 0xff, 8);
    }
}

/* After the commit. True when a full list of bad rows stopped the walk. */
static bool walked(struct recovery *recovery, const char *event)
{
    struct jobs *jobs = recovery->jobs;
    bool has_more = bad_is_full(&recovery->bad);
    if (recovery->uncertain != 0 || recovery->resumed != 0)
        imp_log(jobs->self, IMP_LOG_WARNING, event, "uncertain=%u resumed=%u", recovery->uncertain,
                recovery->resumed);
    imp_metric_add(jobs->metrics.uncertain, recovery->uncertain);
    bad_tell(jobs, "claims", &recovery->bad);
    for (size_t i = 0; i < recovery->device_count; i++)
        delivery_wake(jobs, &recovery->devices[i]);
    return has_more;
}

/* ---- at start ---- */

imp_status delivery_recover(struct jobs *jobs, imp_error *error)
{
    struct recovery recovery = {.jobs = jobs};
    imp_status status;
    do {
        status = imp_store_write_sync(jobs->self, walk_tx, &recovery, error);
    } while (status == IMP_OK && walked(&recovery, "jobs.recovered"));
    free(recovery.devices);
    /* All of them: a word may outlive its delivery, whose end was committed right before the crash. */
    if (status == IMP_OK)
        imp_sent_end_old();
    return status;
}

/* ---- lapsed ones ---- */

static void lapsed_walked(imp_status status, const imp_error *error, void *arg)
{
    struct recovery *recovery = arg;
    struct jobs *jobs = recovery->jobs;
    if (status == IMP_OK && walked(recovery, "jobs.lapsed")) {
        jobs_write_submit(&recovery->write);
        return;
    }
    if (status != IMP_OK)
        imp_log_limited(jobs->self, 60000, IMP_LOG_ERROR, "jobs.lapse-failed",
                        "status=%s reason=\"%s\"", imp_status_name(status),
                        error == NULL ? "" : error->message);
    recovery->done(jobs);
    imp_unpin(jobs->self, "lapse");
    free(recovery->devices);
    free(recovery);
}

bool delivery_end_lapsed(struct jobs *jobs, int64_t before, void (*done)(struct jobs *jobs))
{
    struct recovery *recovery = calloc(1, sizeof *recovery);
    if (recovery == NULL)
        return false;
    imp_pin(jobs->self, "lapse");
    recovery->jobs = jobs;
    recovery->lapsed_before = before;
    recovery->done = done;
    recovery->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = walk_tx,
        .done = lapsed_walked,
        .arg = recovery,
    };
    jobs_write_submit(&recovery->write);
    return true;
}
