/* SPDX-License-Identifier: Apache-2.0 */
/* accounts-session.c - sessions: made by a log-in, ended by their owner, by idleness or by age. */
#include "accounts.h"

#include <imprimatur/log.h>
#include <imprimatur/sweep.h>

#include <stdlib.h>
#include <string.h>

/* An idle end is moved on in the store only when this part of the idle time has passed: a session that
 * is looked at often costs no commit each time. */
#define TOUCH_PART 10

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

/* What does not read lets nobody in and locks nobody: it goes too. */
static imp_status session_row_is_over_tx(imp_tx *tx, imp_bytes key, imp_bytes value, bool *is_over,
                                         void *arg)
{
    const Imprimatur__Accounts__Session *session =
        value.data == NULL
            ? NULL
            : imp_message_decode(tx, &imprimatur__accounts__session__descriptor, value);
    int64_t now = imp_now();
    (void)key;
    (void)arg;
    *is_over = session == NULL || session->idle_end <= now || session->absolute_end <= now;
    return IMP_OK;
}

static imp_status failures_row_is_over_tx(imp_tx *tx, imp_bytes key, imp_bytes value, bool *is_over,
                                          void *arg)
{
    const struct accounts_conf *conf = ((struct accounts *)arg)->conf;
    const Imprimatur__Accounts__Failures *row =
        value.data == NULL
            ? NULL
            : imp_message_decode(tx, &imprimatur__accounts__failures__descriptor, value);
    int64_t now = imp_now();
    (void)key;
    *is_over = row == NULL || (row->locked_until <= now && now - row->last > conf->lock_time);
    return IMP_OK;
}

static void sweep_run(void *arg)
{
    struct accounts *accounts = arg;
    const imp_sweep_rule rules[] = {{.size = sizeof rules[0],
                                     .table = accounts->session,
                                     .is_over_tx = session_row_is_over_tx,
                                     .arg = accounts},
                                    {.size = sizeof rules[0],
                                     .table = accounts->failures,
                                     .is_over_tx = failures_row_is_over_tx,
                                     .arg = accounts}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        imp_status status = imp_sweep(accounts->self, &rules[i], NULL, NULL);
        if (status != IMP_OK && status != IMP_UNAVAILABLE)
            imp_log(accounts->self, IMP_LOG_ERROR, "accounts.sweep-failed", "status=%s",
                    imp_status_name(status));
    }
}

static void sweep_done(void *arg, bool was_cancelled)
{
    (void)was_cancelled; /* the next one does it */
    ((struct accounts *)arg)->is_sweeping = false;
}

void accounts_sweep(void *arg)
{
    struct accounts *accounts = arg;
    if (!accounts->is_sweeping)
        accounts->is_sweeping = imp_work(accounts->self, sweep_run, sweep_done, accounts) != NULL;
}
