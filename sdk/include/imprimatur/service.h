/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - calling what another module offers.
 *
 * A service is a versioned table of functions. A module never keeps the table: it enters the service
 * for one call, which pins the provider's generation, and leaves it. The service headers (jobs.h,
 * accounts.h, ...) wrap this into plain functions; modules rarely need the two calls here.
 *
 *     imp_service_call call;
 *     const imp_jobs_v1 *jobs = imp_service_enter(self, "jobs", 1, &call);
 *     if (jobs == NULL) return imp_error_set(error, IMP_UNAVAILABLE, "service jobs is not there");
 *     status = jobs->create(call.provider, ...);
 *     imp_service_leave(&call);
 *
 * Enter and leave cost no lock and no atomic read-modify-write.
 */
#ifndef IMPRIMATUR_SERVICE_H
#define IMPRIMATUR_SERVICE_H

#include <imprimatur/base.h>

typedef struct imp_service_call {
    imp_self *provider; /* first argument of every function of the table */
    imp_self *caller;
    uint64_t private_[2];
} imp_service_call;

/* The service's table, or NULL when it is not there or the caller's descriptor names it neither in
 * requires nor in wants. Every enter that gave a table needs its leave on the same thread. Any
 * thread. */
IMP_PUBLIC const void *imp_service_enter(imp_self *self, const char *name, uint32_t major,
                                         imp_service_call *call);
/* Ends the call that imp_service_enter began; the table may not be used after it. */
IMP_PUBLIC void imp_service_leave(imp_service_call *call);

/* A pin of a long-lived object (an open upload, a session) on a generation, so that its code stays
 * mapped until the object ends. `what` is shown by `module info` ("upload"); a constant string. Any
 * thread; the release may come from another one. */
IMP_PUBLIC void imp_pin(imp_self *self, const char *what);
/* Takes one pin of the same `what` away. Any thread. */
IMP_PUBLIC void imp_unpin(imp_self *self, const char *what);

/* True when `table` of a sized struct pointer carries `member` (newer minor versions append). */
#define IMP_HAS(table, member)                                                                     \
    ((table)->size >= offsetof(__typeof__(*(table)), member) + sizeof((table)->member) &&          \
     (table)->member != NULL)

#endif
