/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event.h - the one durable, ordered stream of what happens, read by cursors.
 *
 * Portal, IPP notifications, fleet uplink and site outbox all read this stream; there is never a second
 * one. Order is by sequence, never by time. An event holds ids only, as the audit trail does.
 *
 * The noun and the shape of the call are fixed here. No module offers service `events` in this
 * version: imp_event_append_tx answers IMP_UNAVAILABLE.
 */
#ifndef IMPRIMATUR_EVENT_H
#define IMPRIMATUR_EVENT_H

#include <imprimatur/base.h>
#include <imprimatur/service.h>
#include <imprimatur/store.h>

#define IMP_EVENTS_V1                                                                              \
    {                                                                                              \
        "events", 1                                                                                \
    }

typedef struct imp_event {
    uint32_t size;
    uint64_t sequence;       /* given at the append */
    int64_t time;            /* imp_now() */
    const char *name;        /* "job.state", "device.alert": [a-z.-]+, at most 47 */
    const char *object_kind; /* "job" | "device" | "queue" | "delivery" */
    imp_id object;
    imp_id about;       /* a second object, such as the job's device; zero: none */
    const char *detail; /* key=value pairs of ids, numbers and constant words; at most 200 */
} imp_event;

typedef struct imp_events_v1 {
    uint32_t size;
    imp_status (*append_tx)(imp_self *provider, imp_self *caller, imp_tx *tx,
                            const imp_event *event, imp_error *error);
} imp_events_v1;

/* Appends inside a closure of the caller's: the event stands in the commit of what it tells. Writer. */
static inline imp_status imp_event_append_tx(imp_self *self, imp_tx *tx, const imp_event *event,
                                             imp_error *error)
{
    imp_service_call call;
    const imp_events_v1 *events = imp_service_enter(self, "events", 1, &call);
    if (events == NULL)
        return imp_error_set(error, IMP_UNAVAILABLE, "service events is not there");
    imp_status status = events->append_tx(call.provider, self, tx, event, error);
    imp_service_leave(&call);
    return status;
}

#endif
