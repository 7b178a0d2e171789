/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-line.h"

#include <string.h>

#include "modules/jobs/jobs-bad.h"

static const char *const state_names[] = {
    [DELIVERY_WAITING] = "waiting",
    [DELIVERY_CLAIMED] = "claimed",
    [DELIVERY_SENT] = "sent",
    [DELIVERY_CONFIRMED] = "confirmed",
    [DELIVERY_UNCONFIRMED] = "unconfirmed",
    [DELIVERY_NOT_STARTED] = "not-started",
    [DELIVERY_UNCERTAIN] = "uncertain",
    [DELIVERY_CANCELED] = "canceled",
};

const char *delivery_state_name(uint32_t state)
{
    return state < sizeof state_names / sizeof *state_names ? state_names[state] : "unknown";
}

void delivery_key(uint8_t key[DELIVERY_KEY_SIZE], uint64_t sequence, uint32_t attempt)
{
    jobs_put_u64(key, sequence);
    jobs_put_u32(key + JOBS_SEQUENCE_SIZE, attempt);
}

static void line_key(uint8_t key[LINE_KEY_SIZE], const imp_id *device, uint32_t class,
                     uint64_t number)
{
    memcpy(key, device->bytes, 16);
    key[16] = (uint8_t) class;
    jobs_put_u64(key + 17, number);
}

static uint32_t line_class(const Job *job)
{
    return job->was_hold ? LINE_RELEASED : LINE_DIRECT;
}

bool line_row_read(imp_bytes value, struct line_row *row)
{
    const uint8_t *bytes = value.data;
    if (value.length != LINE_ROW_SIZE)
        return false;
    row->sequence = jobs_get_u64(bytes);
    row->attempt = jobs_get_u32(bytes + 8);
    row->is_running = bytes[12] != 0;
    row->not_before = (int64_t)jobs_get_u64(bytes + 13);
    return true;
}

imp_status delivery_save_tx(struct jobs *jobs, imp_tx *tx, const Delivery *delivery)
{
    uint8_t key[DELIVERY_KEY_SIZE];
    delivery_key(key, delivery->job_sequence, delivery->attempt);
    return imp_message_put(tx, jobs->tables.delivery, (imp_bytes){key, sizeof key}, delivery);
}

imp_status line_put_tx(struct jobs *jobs, imp_tx *tx, const Job *job, const Delivery *delivery,
                       bool is_running, int64_t not_before)
{
    uint8_t key[LINE_KEY_SIZE], row[LINE_ROW_SIZE];
    imp_id device = imp_id_of_field(delivery->device);
    line_key(key, &device, line_class(job), delivery->line_number);
    jobs_put_u64(row, job->sequence);
    jobs_put_u32(row + 8, delivery->attempt);
    row[12] = is_running ? 1 : 0;
    jobs_put_u64(row + 13, (uint64_t)not_before);
    return imp_tx_put(tx, jobs->tables.line, (imp_bytes){key, sizeof key},
                      (imp_bytes){row, sizeof row});
}

imp_status line_join_tx(struct jobs *jobs, imp_tx *tx, Job *job, const struct delivery_plan *plan,
                        imp_error *error)
{
    Delivery delivery = DELIVERY_INIT;
    TicketValue rows[IMP_TICKET_VALUES_MAX], *pointers[IMP_TICKET_VALUES_MAX];
    imp_id *ids = imp_tx_alloc(tx, 2 * sizeof *ids); /* the job's record borrows them */
    imp_status status = IMP_OK;
    uint64_t number = plan->line_number;

    if (ids == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory for a delivery");
    ids[0] = plan->id;
    ids[1] = plan->device;
    if (number == 0)
        status = imp_tx_next_number(tx, jobs->tables.line, &number);
    if (status != IMP_OK)
        goto done;
    job->attempts++;
    job->delivery = imp_id_field(&ids[0]);
    job->device = imp_id_field(&ids[1]);
    delivery.schema = JOBS_SCHEMA;
    delivery.id = job->delivery;
    delivery.job = job->id;
    delivery.job_sequence = job->sequence;
    delivery.attempt = job->attempts;
    delivery.device = job->device;
    delivery.releaser = imp_id_field(&plan->releaser);
    delivery.session = imp_id_field(&plan->session);
    delivery.state = DELIVERY_WAITING;
    delivery.line_number = number;
    delivery.created = imp_now();
    if (plan->change != NULL) {
        delivery.n_change = record_ticket(plan->change, rows, pointers, IMP_TICKET_VALUES_MAX);
        delivery.change = pointers;
    }
    status = delivery_save_tx(jobs, tx, &delivery);
    if (status == IMP_OK)
        status = line_put_tx(jobs, tx, job, &delivery, false, plan->not_before);
done:
    if (status != IMP_OK)
        imp_error_set(error, status, "the delivery can't be recorded: %s", imp_status_name(status));
    return status;
}

void line_key_of(uint8_t key[LINE_KEY_SIZE], const Job *job, const Delivery *delivery)
{
    imp_id device = imp_id_of_field(delivery->device);
    line_key(key, &device, line_class(job), delivery->line_number);
}

imp_status line_leave_tx(struct jobs *jobs, imp_tx *tx, const Job *job)
{
    imp_status status;
    uint8_t key[LINE_KEY_SIZE];
    Delivery *delivery = job_load_delivery(jobs, tx, job, &status);
    if (delivery == NULL)
        return bad_is_of_row(status) ? IMP_OK : status;
    line_key_of(key, job, delivery);
    status = imp_tx_delete(tx, jobs->tables.line, (imp_bytes){key, sizeof key});
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* ---- who is next ---- */

struct place {
    uint8_t key[LINE_KEY_SIZE];
    struct line_row row;
};

static uint64_t place_number(const struct place *place)
{
    return jobs_get_u64(place->key + 17);
}

imp_status line_set_aside_tx(struct jobs *jobs, imp_tx *tx, imp_bytes key, Job *job,
                             enum job_event event, imp_error *error)
{
    uint32_t unused;
    bool is_condemned = false;
    imp_status status = imp_tx_delete(tx, jobs->tables.line, key);
    if (status == IMP_NOT_FOUND)
        status = IMP_OK;
    if (status == IMP_OK && job != NULL &&
        job_situation_next(job->situation, event, &unused) == IMP_OK)
        status = job_apply_tx(jobs, tx, job, event, &is_condemned, error);
    return status;
}

/* The first usable row of a class; IMP_NOT_FOUND when the class is empty, IMP_LIMIT when `bad` is full
 * and there may be more. */
static imp_status line_first(struct jobs *jobs, imp_tx *tx, const imp_id *device, uint32_t class,
                             struct place *place, struct jobs_bad *bad, imp_error *error)
{
    uint8_t from[LINE_KEY_SIZE], bad_key[IMP_KEY_MAX] = {0};
    line_key(from, device, class, 0);
    for (;;) {
        imp_cursor *cursor;
        imp_bytes key, value;
        size_t length = 0;
        bool is_usable = false;
        imp_status status =
            imp_cursor_open(tx, jobs->tables.line, (imp_bytes){from, sizeof from}, &cursor);
        if (status != IMP_OK)
            return status;
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_OK && (key.length < 17 || memcmp(key.data, from, 17) != 0))
            status = IMP_NOT_FOUND;
        if (status == IMP_OK) {
            is_usable = key.length == LINE_KEY_SIZE && line_row_read(value, &place->row);
            length = key.length;
            memcpy(is_usable ? place->key : bad_key, key.data, length);
        }
        imp_cursor_close(cursor);
        if (status != IMP_OK || is_usable)
            return status;
        if (!bad_add(bad, 0, IMP_CORRUPT))
            return IMP_LIMIT;
        status = line_set_aside_tx(jobs, tx, (imp_bytes){bad_key, length}, NULL, JOB_RETURN, error);
        if (status != IMP_OK)
            return status;
    }
}

/* The row that is next; outcomes as of line_claim_tx. */
static imp_status line_next_place(struct jobs *jobs, imp_tx *tx, const imp_id *device,
                                  struct place *next, int64_t *not_before, struct jobs_bad *bad,
                                  imp_error *error)
{
    struct place places[2], *winner = NULL;
    imp_status found[2];
    int64_t now = imp_now();

    *not_before = 0;
    for (uint32_t class = 0; class < 2; class ++) {
        found[class] = line_first(jobs, tx, device, class, &places[class], bad, error);
        if (found[class] != IMP_OK && found[class] != IMP_NOT_FOUND)
            return found[class];
        /* A running row is always the first of its class: rows are claimed in order. */
        if (found[class] == IMP_OK && places[class].row.is_running)
            return IMP_BUSY;
    }
    if (found[LINE_RELEASED] == IMP_OK)
        winner = &places[LINE_RELEASED];
    if (found[LINE_DIRECT] == IMP_OK) {
        if (places[LINE_DIRECT].row.not_before > now)
            *not_before = places[LINE_DIRECT].row.not_before;
        else if (winner == NULL || place_number(&places[LINE_DIRECT]) < place_number(winner))
            winner = &places[LINE_DIRECT];
    }
    if (winner == NULL)
        return *not_before != 0 ? IMP_TIMEOUT : IMP_NOT_FOUND;
    *next = *winner;
    return IMP_OK;
}

/* Job and delivery of a row, when they can be claimed. */
static imp_status line_load(struct jobs *jobs, imp_tx *tx, const struct line_row *row, Job **job,
                            Delivery **delivery)
{
    imp_status status;
    uint32_t unused;
    *delivery = NULL;
    *job = job_load_sequence(jobs, tx, row->sequence, &status);
    if (*job == NULL)
        return status;
    if ((*job)->attempts != row->attempt) {
        *job = NULL; /* it has another delivery: the row alone is wrong */
        return IMP_INVALID;
    }
    *delivery = job_load_delivery(jobs, tx, *job, &status);
    if (status == IMP_OK && job_situation_next((*job)->situation, JOB_START, &unused) != IMP_OK) {
        *job = NULL;
        return IMP_INVALID;
    }
    return status;
}

imp_status line_claim_tx(struct jobs *jobs, imp_tx *tx, const imp_id *device, Job **job,
                         Delivery **delivery, int64_t *not_before, struct jobs_bad *bad,
                         imp_error *error)
{
    struct place place;
    imp_status status;
    bool is_condemned = false;

    for (;;) {
        status = line_next_place(jobs, tx, device, &place, not_before, bad, error);
        if (status == IMP_NOT_FOUND || status == IMP_BUSY || status == IMP_TIMEOUT)
            return status;
        if (status == IMP_OK)
            status = line_load(jobs, tx, &place.row, job, delivery);
        else if (status != IMP_LIMIT || !bad_is_full(bad))
            return imp_error_set(error, status, "the device's line can't be read: %s",
                                 imp_status_name(status));
        if (status == IMP_OK)
            break;
        if (bad_is_full(bad) && (status == IMP_LIMIT || bad_is_of_row(status))) {
            *not_before = imp_now(); /* what was set aside is committed; then at once again */
            return IMP_TIMEOUT;
        }
        if (!bad_is_of_row(status))
            return imp_error_set(error, status, "a job in the device's line can't be read: %s",
                                 imp_status_name(status));
        bad_add(bad, place.row.sequence, status);
        enum job_event event = *job != NULL && (*job)->is_doubted ? JOB_RETURN_DOUBTED : JOB_RETURN;
        status = line_set_aside_tx(jobs, tx, (imp_bytes){place.key, sizeof place.key}, *job, event,
                                   error);
        if (status != IMP_OK)
            return status;
    }
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): line_load() has found both */
    (*delivery)->state = DELIVERY_CLAIMED;
    (*delivery)->claimed = imp_now();
    (*delivery)->lease_end = (*delivery)->claimed + atomic_load(&jobs->settings.lease);
    (*delivery)->run = jobs->run;
    status = delivery_save_tx(jobs, tx, *delivery);
    if (status == IMP_OK)
        status = line_put_tx(jobs, tx, *job, *delivery, true, 0);
    if (status == IMP_OK)
        status = job_apply_tx(jobs, tx, *job, JOB_START, &is_condemned, error);
    return status;
}
