/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - what all threads see of services and hooks: one immutable block, replaced as a whole.
 *
 * service.c and hook.c keep the registry on the control thread and describe it here; snapshot_publish
 * makes a block of it and lets threads take it at their next quiescent point (thread.h). The block that
 * it replaces is freed when all have.
 */
#ifndef CORE_SNAPSHOT_H
#define CORE_SNAPSHOT_H

#include <imprimatur/hook.h>

#define SNAPSHOT_NAME_SIZE 32  /* services */
#define SNAPSHOT_POINT_SIZE 64 /* hook points */

struct snapshot_service {
    char name[SNAPSHOT_NAME_SIZE];
    uint32_t major;
    imp_self *provider;
    const void *vtable;
};

struct snapshot_hook {
    imp_self *self; /* its generation's end removes it from the next snapshot */
    imp_hook_function function;
};

/* A hook point with at least one hook; its hooks stand one behind another, in their order. */
struct snapshot_point {
    char name[SNAPSHOT_POINT_SIZE];
    uint32_t first, count;
};

struct snapshot {
    uint32_t service_count, point_count, hook_count;
    const struct snapshot_service *services;
    const struct snapshot_point *points;
    const struct snapshot_hook *hooks;
};

/* The block of the newest publication; never NULL. For thread.c. */
const struct snapshot *snapshot_newest(void);
/* Makes and publishes a new block of what service.c and hook.c have. IMP_LIMIT when memory is short:
 * then the old one stays. Control thread. */
imp_status snapshot_publish(imp_error *error);
/* Forgets everything (tests). No other thread may be registered. */
void snapshot_clear_for_test(void);

/* The point's hooks in a snapshot, or NULL. */
const struct snapshot_point *snapshot_point_find(const struct snapshot *snapshot, const char *name);

/* From service.c and hook.c: how much they have, and filling it in. */
uint32_t service_snapshot_count(void);
void service_snapshot_fill(struct snapshot_service *services);
void hook_snapshot_count(uint32_t *points, uint32_t *hooks);
void hook_snapshot_fill(struct snapshot_point *points, struct snapshot_hook *hooks);

#endif
