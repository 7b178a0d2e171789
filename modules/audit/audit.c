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

static const imp_option audit_options[] = {IMP_OPT_INTEGER(struct audit_conf, checkpoint_events,
                                                           "100", "1", "1000000", IMP_LIVE,
                                                           "events between two checkpoints"),
                                           IMP_OPT_END};

static const imp_table_spec audit_tables[] = {
    {"event", 1, 0}, {"head", 1, 0}, {"checkpoint", 1, 0}, {NULL, 0, 0}};

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
        append->event = *event;
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
    uint64_t sequence, next;
    uint8_t hash[AUDIT_HASH_SIZE];
    imp_status status = imp_store_read_begin(audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = audit_head_read(audit, tx, &sequence, hash, number, &next);
    imp_store_read_end(tx);
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

static imp_status note_rollback(imp_tx *tx, void *arg, imp_error *error)
{
    imp_audit_event event = {.size = sizeof event,
                             .action = "audit.rolled-back",
                             .place_kind = "",
                             .object_kind = "",
                             .result = IMP_CORRUPT,
                             .detail = "store=older-than-last-checkpoint"};
    return audit_append_tx(arg, tx, &event, error);
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
    audit->events = imp_table_open(self, "event");
    audit->head = imp_table_open(self, "head");
    audit->checkpoints = imp_table_open(self, "checkpoint");
    audit->appended = imp_metric_register(self, IMP_METRIC_COUNTER, "events_total", NULL,
                                          "audit events appended");
    imp_status status = IMP_OK;
    if (audit->events == NULL || audit->head == NULL || audit->checkpoints == NULL)
        status = imp_error_set(error, IMP_IO, "the tables of module audit do not open");
    if (status == IMP_OK)
        status = look_for_rollback(audit, error);
    if (status == IMP_OK)
        status = audit_verbs_add(audit, error);
    if (status == IMP_OK) {
        audit->tell_timer = imp_timer_start(self, TELL_INTERVAL, true, tell_supervisor, audit);
        if (audit->tell_timer == NULL)
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
    audit->tell_timer = NULL;
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
