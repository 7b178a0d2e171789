/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit.h - service `audit`: an append-only, hash-chained record of who did what to which object.
 *
 * An event holds ids only: no job name, user name, mail address, card or PIN. Who may see more
 * resolves the ids. A network address is given as such, and kept apart. An event that belongs to a
 * change of the store is appended in the same transaction, by imp_audit_append_tx.
 */
#ifndef IMPRIMATUR_AUDIT_H
#define IMPRIMATUR_AUDIT_H

#include <imprimatur/base.h>
#include <imprimatur/service.h>
#include <imprimatur/store.h>

#define IMP_AUDIT_V1                                                                               \
    {                                                                                              \
        "audit", 1                                                                                 \
    }

typedef struct imp_audit_event {
    uint32_t size;
    const char *action; /* "job.release", "user.login", "config.reload": [a-z.-]+, at most 47 */
    imp_id principal;   /* zero: nobody known */
    uint32_t actor_uid; /* with principal zero: uid of an administrator at the control socket */
    bool has_actor_uid;
    const char *place_kind; /* "device" | "address" | "control" | "" */
    imp_id place; /* device id; zero when unknown, and with "address": see the last member */
    const char *object_kind; /* "job" | "queue" | "user" | "device" | "module" | "" */
    imp_id object;
    imp_status result;  /* IMP_OK, or why it was refused */
    const char *detail; /* key=value pairs of ids, numbers and constant words only; at most 200 */
    /* With place_kind "address": the client's numeric address ("192.0.2.7", "2001:db8::7"). The trail
     * keeps it beside the chain, in a table whose rows are erased when their retention is over, and the
     * event names that row's id. NULL or what is no address leaves the place unknown. */
    const char *address;
} imp_audit_event;

typedef struct imp_audit_v1 {
    uint32_t size;
    imp_status (*append_tx)(imp_self *provider, imp_self *caller, imp_tx *tx,
                            const imp_audit_event *event, imp_error *error);
    void (*append)(imp_self *provider, imp_self *caller, const imp_audit_event *event,
                   void (*done)(imp_status status, void *arg), void *arg);
} imp_audit_v1;

/* Appends inside a closure of the caller's: the event stands in the commit of its action. Writer. */
static inline imp_status imp_audit_append_tx(imp_self *self, imp_tx *tx,
                                             const imp_audit_event *event, imp_error *error)
{
    imp_service_call call;
    const imp_audit_v1 *audit = imp_service_enter(self, "audit", 1, &call);
    if (audit == NULL)
        return imp_error_set(error, IMP_UNAVAILABLE, "service audit is not there");
    imp_status status = audit->append_tx(call.provider, self, tx, event, error);
    imp_service_leave(&call);
    return status;
}

/* Appends on its own (a refused login). `done` (may be NULL) is called once, on the calling loop, when
 * the event is durable. Loop threads. */
static inline void imp_audit_append(imp_self *self, const imp_audit_event *event,
                                    void (*done)(imp_status status, void *arg), void *arg)
{
    imp_service_call call;
    const imp_audit_v1 *audit = imp_service_enter(self, "audit", 1, &call);
    if (audit == NULL) {
        if (done != NULL)
            done(IMP_UNAVAILABLE, arg);
        return;
    }
    audit->append(call.provider, self, event, done, arg);
    imp_service_leave(&call);
}

#endif
