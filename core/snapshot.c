/* SPDX-License-Identifier: Apache-2.0 */
#include "core/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "core/thread.h"

static const struct snapshot EMPTY;
static const struct snapshot *newest = &EMPTY;

const struct snapshot *snapshot_newest(void)
{
    return __atomic_load_n(&newest, __ATOMIC_SEQ_CST);
}

static void free_block(void *block)
{
    free(block);
}

/* One allocation: head, services, points, hooks; all of them hold pointers, so each part is aligned for
 * the next. */
imp_status snapshot_publish(imp_error *error)
{
    uint32_t services = service_snapshot_count(), points, hooks;
    hook_snapshot_count(&points, &hooks);
    size_t services_at = sizeof(struct snapshot);
    size_t hooks_at = services_at + services * sizeof(struct snapshot_service);
    size_t points_at = hooks_at + hooks * sizeof(struct snapshot_hook);
    char *block = calloc(1, points_at + points * sizeof(struct snapshot_point));
    if (block == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    struct snapshot *next = (struct snapshot *)(void *)block;
    struct snapshot_service *service_rows =
        (struct snapshot_service *)(void *)(block + services_at);
    struct snapshot_hook *hook_rows = (struct snapshot_hook *)(void *)(block + hooks_at);
    struct snapshot_point *point_rows = (struct snapshot_point *)(void *)(block + points_at);
    service_snapshot_fill(service_rows);
    hook_snapshot_fill(point_rows, hook_rows);
    next->service_count = services;
    next->services = service_rows;
    next->point_count = points;
    next->points = point_rows;
    next->hook_count = hooks;
    next->hooks = hook_rows;

    const struct snapshot *old = newest;
    __atomic_store_n(&newest, next, __ATOMIC_SEQ_CST);
    thread_defer(free_block, old == &EMPTY ? NULL : (void *)(uintptr_t)old);
    return IMP_OK;
}

void snapshot_clear_for_test(void)
{
    const struct snapshot *old = newest;
    __atomic_store_n(&newest, &EMPTY, __ATOMIC_SEQ_CST);
    thread_defer(free_block, old == &EMPTY ? NULL : (void *)(uintptr_t)old);
    thread_quiescent();
}

const struct snapshot_point *snapshot_point_find(const struct snapshot *snapshot, const char *name)
{
    for (uint32_t i = 0; i < snapshot->point_count; i++)
        if (strcmp(snapshot->points[i].name, name) == 0)
            return &snapshot->points[i];
    return NULL;
}
