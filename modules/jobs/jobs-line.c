/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-line.h"

#include <string.h>

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
    return record_put(tx, jobs->tables.delivery, (imp_bytes){key, sizeof key}, delivery);
}

imp_status line_put_tx(struct jobs *jobs, imp_tx *tx, const Job *job, const Delivery *delivery,
                       bool is_running, int64_t not_before)
{
    uint8_t key[LINE_KEY_SIZE], row[LINE_ROW_SIZE];
    imp_id device = record_id_get(delivery->device);
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
    job->delivery = record_id(&ids[0]);
    job->device = record_id(&ids[1]);
    delivery.schema = JOBS_SCHEMA;
    delivery.id = job->delivery;
    delivery.job = job->id;
    delivery.job_sequence = job->sequence;
    delivery.attempt = job->attempts;
    delivery.device = job->device;
    delivery.releaser = record_id(&plan->releaser);
    delivery.session = record_id(&plan->session);
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

imp_status line_leave_tx(struct jobs *jobs, imp_tx *tx, const Job *job)
{
    imp_status status;
    uint8_t key[LINE_KEY_SIZE];
    Delivery *delivery = job_load_delivery(jobs, tx, job, &status);
    if (delivery == NULL)
        return status == IMP_NOT_FOUND ? IMP_OK : status;
    imp_id device = record_id_get(delivery->device);
    line_key(key, &device, line_class(job), delivery->line_number);
    status = imp_tx_delete(tx, jobs->tables.line, (imp_bytes){key, sizeof key});
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* The first row of a class; IMP_NOT_FOUND when the class is empty. */
static imp_status line_first(struct jobs *jobs, imp_tx *tx, const imp_id *device, uint32_t class,
                             struct line_row *row, uint64_t *number)
{
    uint8_t from[LINE_KEY_SIZE];
    imp_cursor *cursor;
    imp_bytes key, value;
    line_key(from, device, class, 0);
    imp_status status =
        imp_cursor_open(tx, jobs->tables.line, (imp_bytes){from, sizeof from}, &cursor);
    if (status != IMP_OK)
        return status;
    status = imp_cursor_next(cursor, &key, &value);
    if (status == IMP_OK) {
        if (key.length != LINE_KEY_SIZE || memcmp(key.data, from, 17) != 0)
            status = IMP_NOT_FOUND;
        else if (!line_row_read(value, row))
            status = IMP_CORRUPT;
        else
            *number = jobs_get_u64((const uint8_t *)key.data + 17);
    }
    imp_cursor_close(cursor);
    return status;
}

imp_status line_claim_tx(struct jobs *jobs, imp_tx *tx, const imp_id *device, Job **job,
                         Delivery **delivery, int64_t *not_before, imp_error *error)
{
    struct line_row rows[2], *next = NULL;
    uint64_t numbers[2];
    imp_status status, found[2];
    int64_t now = imp_now();
    bool is_condemned = false;

    for (uint32_t class = 0; class < 2; class ++) {
        found[class] = line_first(jobs, tx, device, class, &rows[class], &numbers[class]);
        if (found[class] != IMP_OK && found[class] != IMP_NOT_FOUND)
            return imp_error_set(error, found[class], "the device's line can't be read: %s",
                                 imp_status_name(found[class]));
        if (found[class] == IMP_OK && rows[class].is_running)
            return IMP_BUSY;
    }
    /* A running row is always the first of its class: rows are claimed in order. */
    *not_before = 0;
    if (found[LINE_RELEASED] == IMP_OK)
        next = &rows[LINE_RELEASED];
    if (found[LINE_DIRECT] == IMP_OK) {
        if (rows[LINE_DIRECT].not_before > now)
            *not_before = rows[LINE_DIRECT].not_before;
        else if (next == NULL || numbers[LINE_DIRECT] < numbers[LINE_RELEASED])
            next = &rows[LINE_DIRECT];
    }
    if (next == NULL)
        return *not_before != 0 ? IMP_TIMEOUT : IMP_NOT_FOUND;

    *job = job_load_sequence(jobs, tx, next->sequence, &status);
    if (*job != NULL)
        *delivery = job_load_delivery(jobs, tx, *job, &status);
    if (status != IMP_OK)
        return imp_error_set(error, status, "a job in the device's line can't be read: %s",
                             imp_status_name(status));
    (*delivery)->state = DELIVERY_CLAIMED;
    (*delivery)->claimed = now;
    (*delivery)->lease_end = now + atomic_load(&jobs->settings.lease);
    (*delivery)->run = jobs->run;
    status = delivery_save_tx(jobs, tx, *delivery);
    if (status == IMP_OK)
        status = line_put_tx(jobs, tx, *job, *delivery, true, 0);
    if (status == IMP_OK)
        status = job_apply_tx(jobs, tx, *job, JOB_START, &is_condemned, error);
    return status;
}
