/* SPDX-License-Identifier: Apache-2.0 */
/* audit.c - module audit: descriptor, start and the service that others append by. */
#include "audit.h"

#include <imprimatur/log.h>
#include <imprimatur/module.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* How often the newest checkpoint's number is looked up for the supervisor. */
#define TELL_INTERVAL (1 * IMP_SECOND)

/* How often erasable addresses are looked for. */
#define SWEEP_INTERVAL (600 * IMP_SECOND)
#define SWEEP_FIRST (10 * IMP_SECOND) /* after the start, for a server that never lives long */
#define DROPPED_LOG_INTERVAL_MS 60000

static const imp_option audit_options[] = {
    IMP_OPT_INTEGER(struct audit_conf, checkpoint_events, "100", "1", "1000000", IMP_LIVE,
                    "events between two checkpoints"),
    IMP_OPT_DURATION(struct audit_conf, address_retention, "90d", "0s", "3650d", IMP_LIVE,
                     "how long a network address is kept after its last use; 0s keeps none"),
    IMP_OPT_INTEGER(struct audit_conf, addresses_max, "100000", "1", "10000000", IMP_LIVE,
                    "most network addresses on record; of the longest unused one makes room"),
    IMP_OPT_END};

static const imp_table_spec audit_tables[] = {{"event", 1, 0},       {"head", 1, 0},
                                              {"checkpoint", 1, 0},  {"address", 1, 0},
                                              {"address_use", 1, 0}, {NULL, 0, 0}};

/* ---- service ---- */

static imp_status service_append_tx(imp_self *provider, imp_self *caller, imp_tx *tx,
                                    const imp_audit_event *event, imp_error *error)
{
    (void)caller;
    return audit_append_tx(imp_self_instance(provider), tx, event, error);
}

/* An event on its way to the writer; its strings are copied behind it. */
struct append {
    struct audit *audit;
    imp_audit_event event;
    void (*done)(imp_status status, void *arg);
    void *arg;
    char action[AUDIT_ACTION_MAX + 1], place_kind[AUDIT_ACTION_MAX + 1];
    char object_kind[AUDIT_ACTION_MAX + 1], detail[AUDIT_DETAIL_MAX + 1];
    char address[IMP_NETWORK_TEXT_SIZE];
};

static imp_status append_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct append *append = arg;
    return audit_append_tx(append->audit, tx, &append->event, error);
}

static void append_done(imp_status status, const imp_error *error, void *arg)
{
    struct append *append = arg;
    if (status != IMP_OK)
        imp_log(append->audit->self, IMP_LOG_ERROR, "audit.append-failed",
                "status=%s reason=\"%s\"", imp_status_name(status),
                error == NULL ? "" : error->message);
    if (append->done != NULL)
        append->done(status, append->arg);
    imp_unpin(append->audit->self, "append");
    free(append);
}

static void append_queue(void *arg);

/* A full queue is waited for: an event is never dropped for load. */
static void append_queue(void *arg)
{
    struct append *append = arg;
    imp_status status =
        imp_store_write(append->audit->self, IMP_WRITE_CONTROL, append_run, append_done, append);
    if (status == IMP_BUSY)
        imp_store_wait(append->audit->self, IMP_WRITE_CONTROL, append_queue, append);
    else if (status != IMP_OK)
        append_done(status, NULL, append);
}

static bool copy_word(char *target, size_t size, const char *source, const char **slot)
{
    if (source == NULL)
        return true;
    size_t length = strlen(source);
    if (length >= size)
        return false;
    memcpy(target, source, length + 1);
    *slot = target;
    return true;
}

static void service_append(imp_self *provider, imp_self *caller, const imp_audit_event *event,
                           void (*done)(imp_status status, void *arg), void *arg)
{
    (void)caller;
    struct append *append = calloc(1, sizeof *append);
    imp_status status = append == NULL ? IMP_LIMIT : IMP_OK;
    if (status == IMP_OK) {
        append->audit = imp_self_instance(provider);
        /* no more than the caller's struct holds */
        memcpy(&append->event, event,
               event->size < sizeof append->event ? event->size : sizeof append->event);
        append->event.size = sizeof append->event;
        append->done = done;
        append->arg = arg;
        if (!copy_word(append->action, sizeof append->action, event->action,
                       &append->event.action) ||
            !copy_word(append->place_kind, sizeof append->place_kind, event->place_kind,
                       &append->event.place_kind) ||
            !copy_word(append->object_kind, sizeof append->object_kind, event->object_kind,
                       &append->event.object_kind) ||
            !copy_word(append->detail, sizeof append->detail, event->detail, &append->event.detail))
            status = IMP_INVALID;
        /* What does not fit is no address, and the event is worth more than its place. */
        if (!copy_word(append->address, sizeof append->address, append->event.address,
                       &append->event.address))
            append->event.address = NULL;
    }
    if (status != IMP_OK) {
        imp_log(provider, IMP_LOG_ERROR, "audit.append-failed", "status=%s",
                imp_status_name(status));
        free(append);
        if (done != NULL)
            done(status, arg);
        return;
    }
    imp_pin(provider, "append");
    append_queue(append);
}

static const imp_audit_v1 audit_v1 = {sizeof(imp_audit_v1), service_append_tx, service_append};

/* ---- checkpoints and the supervisor ---- */

static imp_status newest_checkpoint(struct audit *audit, uint64_t *number, imp_error *error)
{
    imp_tx *tx;
    struct audit_head head;
    imp_status status = imp_store_read_begin(audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = audit_head_read(tx, &audit->chain, &head);
    imp_store_read_end(tx);
    *number = head.checkpoint;
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "the audit trail's head does not read");
}

/* The number only ever grows, and a number told late only makes a roll-back of that last second pass
 * unnoticed; so a look once a second costs less than a word in every commit. */
static void tell_supervisor(void *arg)
{
    struct audit *audit = arg;
    uint64_t number;
    if (newest_checkpoint(audit, &number, NULL) == IMP_OK && number > audit->told_checkpoint) {
        audit->told_checkpoint = number;
        imp_checkpoint_tell(audit->self, number);
    }
}

/* ---- addresses ---- */

static void say_dropped(struct audit *audit)
{
    int64_t dropped = imp_metric_value(audit->addresses_dropped);
    if (dropped == audit->said_dropped)
        return;
    audit->said_dropped = dropped;
    imp_log_limited(audit->self, DROPPED_LOG_INTERVAL_MS, IMP_LOG_WARNING, "audit.addresses-full",
                    "addresses_max=%" PRId64 " dropped=%" PRId64,
                    ((const struct audit_conf *)audit->conf)->addresses_max, dropped);
}

static void every_second(void *arg)
{
    tell_supervisor(arg);
    say_dropped(arg);
}

static void sweep_run(void *arg)
{
    address_sweep(arg);
}

static void sweep_done(void *arg, bool was_cancelled)
{
    (void)was_cancelled; /* the next one does it */
    ((struct audit *)arg)->is_sweeping = false;
}

static void sweep_start(void *arg)
{
    struct audit *audit = arg;
    if (!audit->is_sweeping)
        audit->is_sweeping = imp_work(audit->self, sweep_run, sweep_done, audit) != NULL;
}

/* ---- looking for a roll-back ---- */

static imp_status note_rollback(imp_tx *tx, void *arg, imp_error *error)
{
    struct audit *audit = arg;
    return audit_note_rollback_tx(audit, tx, imp_checkpoint_remembered(audit->self), error);
}

/* A store older than what the supervisor remembers was put back as a whole: said loudly, recorded in
 * the trail itself, and work goes on (a restored backup is a legitimate case of it). */
static imp_status look_for_rollback(struct audit *audit, imp_error *error)
{
    imp_status status = newest_checkpoint(audit, &audit->told_checkpoint, error);
    if (status != IMP_OK)
        return status;
    uint64_t remembered = imp_checkpoint_remembered(audit->self);
    if (remembered <= audit->told_checkpoint)
        return IMP_OK;
    imp_log(audit->self, IMP_LOG_CRITICAL, "audit.rolled-back",
            "checkpoint=%" PRIu64 " remembered=%" PRIu64, audit->told_checkpoint, remembered);
    return imp_store_write_sync(audit->self, note_rollback, audit, error);
}

/* ---- life ---- */

static imp_status audit_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    struct audit *audit = calloc(1, sizeof *audit);
    if (audit == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    audit->self = self;
    audit->conf = conf;
    audit->chain.event = imp_table_open(self, "event");
    audit->chain.head = imp_table_open(self, "head");
    audit->chain.checkpoint = imp_table_open(self, "checkpoint");
    audit->address = imp_table_open(self, "address");
    audit->address_use = imp_table_open(self, "address_use");
    audit->appended = imp_metric_register(self, IMP_METRIC_COUNTER, "events_total", NULL,
                                          "audit events appended");
    audit->addresses_dropped =
        imp_metric_register(self, IMP_METRIC_COUNTER, "addresses_dropped_total", NULL,
                            "addresses erased before their time, for there were too many");
    audit->said_dropped = imp_metric_value(audit->addresses_dropped);
    audit->unreadable = imp_metric_register(self, IMP_METRIC_COUNTER, "events_unreadable_total",
                                            NULL, "events that a listing or export left out");
    imp_status status = IMP_OK;
    if (audit->chain.event == NULL || audit->chain.head == NULL ||
        audit->chain.checkpoint == NULL || audit->address == NULL || audit->address_use == NULL)
        status = imp_error_set(error, IMP_NOT_FOUND, "the tables of module audit do not open");
    if (status == IMP_OK)
        status = look_for_rollback(audit, error);
    if (status == IMP_OK)
        status = audit_verbs_add(audit, error);
    if (status == IMP_OK)
        status = imp_backup_check_add(self, audit_check_backup, error);
    if (status == IMP_OK) {
        audit->tell_timer = imp_timer_start(self, TELL_INTERVAL, true, every_second, audit);
        audit->sweep_timer = imp_timer_start(self, SWEEP_INTERVAL, true, sweep_start, audit);
        if (audit->tell_timer == NULL || audit->sweep_timer == NULL ||
            imp_timer_start(self, SWEEP_FIRST, false, sweep_start, audit) == NULL)
            status = imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    if (status != IMP_OK) {
        free(audit);
        return status;
    }
    *instance = audit;
    return IMP_OK;
}

static void audit_reconfigure(imp_self *self, void *instance, const void *conf)
{
    (void)self;
    ((struct audit *)instance)->conf = conf;
}

static void audit_drain(imp_self *self, void *instance)
{
    (void)self;
    struct audit *audit = instance;
    imp_timer_cancel(audit->tell_timer);
    imp_timer_cancel(audit->sweep_timer);
    audit->tell_timer = audit->sweep_timer = NULL;
}

static void audit_stop(imp_self *self, void *instance)
{
    (void)self;
    tell_supervisor(instance);
    free(instance);
}

IMP_MODULE(.name = "audit", .version = "1.0.0", .summary = "hash-chained audit trail",
           .provides = IMP_PROVIDES({"audit", 1, &audit_v1}), .options = audit_options,
           .conf_size = sizeof(struct audit_conf), .tables = audit_tables, .start = audit_start,
           .reconfigure = audit_reconfigure, .drain = audit_drain, .stop = audit_stop);
IMP_MODULE_NOTE("audit", "1.0.0", "", "audit/1");
