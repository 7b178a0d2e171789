/* SPDX-License-Identifier: Apache-2.0 */
/* accounts-session.c - sessions: made by a log-in, ended by their owner, by idleness or by age. */
#include "accounts.h"

#include <stdlib.h>
#include <string.h>

/* An idle end is moved on in the store only when this part of the idle time has passed: a session that
 * is looked at often costs no commit each time. */
#define TOUCH_PART 10
/* Rows that one sweep deletes at most; the next one goes on. */
#define SWEEP_MAX 256

static ProtobufCBinaryData id_data(const imp_id *id)
{
    return (ProtobufCBinaryData){sizeof id->bytes, (uint8_t *)(uintptr_t)id->bytes};
}

imp_status session_put_tx(struct accounts *accounts, imp_tx *tx, const imp_session *session)
{
    Imprimatur__Accounts__Session record = IMPRIMATUR__ACCOUNTS__SESSION__INIT;
    record.id = id_data(&session->id);
    record.principal = id_data(&session->principal);
    record.methods = session->methods;
    record.device = id_data(&session->device);
    record.started = session->started;
    record.idle_end = session->idle_end;
    record.absolute_end = session->absolute_end;
    uint8_t packed[160];
    size_t length = imprimatur__accounts__session__pack(&record, packed);
    return imp_tx_put(tx, accounts->session,
                      (imp_bytes){session->id.bytes, sizeof session->id.bytes},
                      (imp_bytes){packed, length});
}

static bool id_copy(imp_id *id, const ProtobufCBinaryData *data)
{
    if (data->len != sizeof id->bytes)
        return false;
    memcpy(id->bytes, data->data, sizeof id->bytes);
    return true;
}

imp_status session_get_tx(struct accounts *accounts, imp_tx *tx, const imp_id *id,
                          imp_session *session)
{
    imp_bytes value;
    imp_status status =
        imp_tx_get(tx, accounts->session, (imp_bytes){id->bytes, sizeof id->bytes}, &value);
    if (status != IMP_OK)
        return status;
    Imprimatur__Accounts__Session *record =
        imprimatur__accounts__session__unpack(NULL, value.length, value.data);
    if (record == NULL)
        return IMP_CORRUPT;
    memset(session, 0, sizeof *session);
    session->size = sizeof *session;
    session->methods = record->methods;
    session->started = record->started;
    session->idle_end = record->idle_end;
    session->absolute_end = record->absolute_end;
    if (!id_copy(&session->id, &record->id) || !id_copy(&session->principal, &record->principal) ||
        !id_copy(&session->device, &record->device))
        status = IMP_CORRUPT;
    imprimatur__accounts__session__free_unpacked(record, NULL);
    return status;
}

static bool session_is_over(const imp_session *session, int64_t now)
{
    return session->idle_end <= now || session->absolute_end <= now;
}

/* ---- the service's calls ---- */

struct touch {
    struct accounts *accounts;
    imp_id id;
    imp_write_function run;
    bool waits; /* for room in the queue; else it is left out */
};

static imp_status touch_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct touch *touch = arg;
    imp_session session;
    int64_t now = imp_now();
    (void)error;
    imp_status status = session_get_tx(touch->accounts, tx, &touch->id, &session);
    if (status != IMP_OK || session_is_over(&session, now))
        return status;
    session.idle_end = now + touch->accounts->conf->session_idle;
    return session_put_tx(touch->accounts, tx, &session);
}

static void touch_done(imp_status status, const imp_error *error, void *arg)
{
    struct touch *touch = arg;
    (void)status; /* ended meanwhile, or over a little earlier than it might have been */
    (void)error;
    imp_unpin(touch->accounts->self, "session");
    free(touch);
}

static void touch_queue(void *arg)
{
    struct touch *touch = arg;
    imp_self *self = touch->accounts->self;
    imp_status status = imp_store_write(self, IMP_WRITE_CONTROL, touch->run, touch_done, touch);
    if (status == IMP_BUSY && touch->waits)
        imp_store_wait(self, IMP_WRITE_CONTROL, touch_queue, touch);
    else if (status != IMP_OK)
        touch_done(status, NULL, touch);
}

static imp_status session_write(struct accounts *accounts, const imp_id *id, imp_write_function run,
                                bool waits)
{
    struct touch *touch = malloc(sizeof *touch);
    if (touch == NULL)
        return IMP_LIMIT;
    *touch = (struct touch){accounts, *id, run, waits};
    imp_pin(accounts->self, "session");
    touch_queue(touch);
    return IMP_OK;
}

/* Whoever was removed or disabled has no session any more. */
static imp_status owner_check_tx(struct accounts *accounts, imp_tx *tx, const imp_id *principal)
{
    imp_status status;
    const Imprimatur__Accounts__User *user = user_get_tx(accounts, tx, principal, &status);
    return user != NULL && user->is_disabled ? IMP_NOT_FOUND : status;
}

imp_status session_get(struct accounts *accounts, const imp_id *id, imp_session *result)
{
    imp_tx *tx;
    imp_session session;
    int64_t now = imp_now();
    imp_status status = imp_store_read_begin(accounts->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    status = session_get_tx(accounts, tx, id, &session);
    if (status == IMP_OK)
        status = owner_check_tx(accounts, tx, &session.principal);
    imp_store_read_end(tx);
    if (status != IMP_OK)
        return status;
    if (session_is_over(&session, now))
        return IMP_NOT_FOUND;
    /* no more than the caller's struct holds */
    session.size = result->size < sizeof session ? result->size : sizeof session;
    memcpy(result, &session, session.size);
    int64_t idle = accounts->conf->session_idle;
    if (now + idle - session.idle_end > idle / TOUCH_PART && imp_loop_current() != NULL)
        (void)session_write(accounts, id, touch_run, false); /* the next look tries again */
    return IMP_OK;
}

static imp_status end_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct touch *touch = arg;
    imp_session session;
    imp_status status = session_get_tx(touch->accounts, tx, &touch->id, &session);
    if (status != IMP_OK)
        return status;
    status = imp_tx_delete(tx, touch->accounts->session,
                           (imp_bytes){touch->id.bytes, sizeof touch->id.bytes});
    if (status != IMP_OK)
        return status;
    imp_audit_event event = {.size = sizeof event,
                             .action = "user.logout",
                             .principal = session.principal,
                             .place_kind = imp_id_is_zero(session.device) ? "" : "device",
                             .place = session.device,
                             .object_kind = "session",
                             .object = session.id};
    return imp_audit_append_tx(touch->accounts->self, tx, &event, error);
}

imp_status session_end(struct accounts *accounts, const imp_id *id)
{
    imp_session session;
    imp_tx *tx;
    imp_status status = imp_store_read_begin(accounts->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    status = session_get_tx(accounts, tx, id, &session);
    imp_store_read_end(tx);
    if (status == IMP_OK)
        status = session_write(accounts, id, end_run, true);
    return status;
}

/* ---- sweeping ---- */

static imp_status sweep_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct accounts *accounts = arg;
    imp_cursor *cursor;
    imp_bytes key, value;
    int64_t now = imp_now();
    int swept = 0;
    (void)error;
    imp_status status = imp_cursor_open(tx, accounts->session, (imp_bytes){NULL, 0}, &cursor);
    if (status != IMP_OK)
        return status;
    while (swept < SWEEP_MAX && (status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
        Imprimatur__Accounts__Session *session =
            imprimatur__accounts__session__unpack(NULL, value.length, value.data);
        bool is_over = session == NULL || session->idle_end <= now || session->absolute_end <= now;
        if (session != NULL)
            imprimatur__accounts__session__free_unpacked(session, NULL);
        if (is_over && (status = imp_tx_delete(tx, accounts->session, key)) == IMP_OK)
            swept++;
        if (status != IMP_OK)
            break;
    }
    imp_cursor_close(cursor);
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return status;
    status = imp_cursor_open(tx, accounts->failures, (imp_bytes){NULL, 0}, &cursor);
    if (status != IMP_OK)
        return status;
    while (swept < SWEEP_MAX && (status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
        Imprimatur__Accounts__Failures *row =
            imprimatur__accounts__failures__unpack(NULL, value.length, value.data);
        bool is_over = row == NULL ||
                       (row->locked_until <= now && now - row->last > accounts->conf->lock_time);
        if (row != NULL)
            imprimatur__accounts__failures__free_unpacked(row, NULL);
        if (is_over && (status = imp_tx_delete(tx, accounts->failures, key)) == IMP_OK)
            swept++;
        if (status != IMP_OK)
            break;
    }
    imp_cursor_close(cursor);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* A sweep that finds the queue full is left to the next one. */
void accounts_sweep(void *arg)
{
    struct accounts *accounts = arg;
    imp_status status =
        imp_store_write(accounts->self, IMP_WRITE_CONTROL, sweep_run, NULL, accounts);
    (void)status;
}
