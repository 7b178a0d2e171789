/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/snapshot.h"

#define NAMES_SIZE 256 /* a `before` or `after` list */

struct hook {
    struct self_entry entry;
    struct hook *next; /* in the point's order */
    struct point *point;
    imp_hook_phase phase;
    uint32_t number; /* of registration */
    imp_hook_function function;
    char before[NAMES_SIZE], after[NAMES_SIZE];
    bool is_visible;
    bool is_placed; /* used while sorting */
};

struct point {
    struct point *next; /* by name */
    struct hook *hooks;
    char name[SNAPSHOT_POINT_SIZE];
};

static struct point *points; /* control thread */
static uint32_t last_number;

static const char *const PHASE_NAMES[] = {
    [IMP_PHASE_FIRST] = "first",         [IMP_PHASE_AUTHN] = "authn",
    [IMP_PHASE_AUTHZ] = "authz",         [IMP_PHASE_POLICY] = "policy",
    [IMP_PHASE_TRANSFORM] = "transform", [IMP_PHASE_ACCOUNT] = "account",
    [IMP_PHASE_LAST] = "last",
};

const char *hook_phase_name(imp_hook_phase phase)
{
    return PHASE_NAMES[phase];
}

/* ---- order ---- */

static bool list_has(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == '\0' || at[length] == ' '))
            return true;
    return false;
}

/* Both are of one phase: must `a` stand before `b`? */
static bool must_precede(const struct hook *a, const struct hook *b)
{
    return a != b &&
           (list_has(a->before, b->entry.self->name) || list_has(b->after, a->entry.self->name));
}

/* The order of what before and after leave open. */
static bool comes_first(const struct hook *a, const struct hook *b)
{
    int by_name = strcmp(a->entry.self->name, b->entry.self->name);
    return by_name != 0 ? by_name < 0 : a->number < b->number;
}

static struct hook *predecessor(struct hook *all, const struct hook *hook)
{
    for (struct hook *other = all; other != NULL; other = other->next)
        if (!other->is_placed && other->phase == hook->phase && must_precede(other, hook))
            return other;
    return NULL;
}

/* Nothing of a phase can be placed: walking back from any of its hooks must come round. */
static imp_status say_cycle(struct hook *all, struct hook *from, const char *point,
                            imp_error *error)
{
    char text[IMP_ERROR_MESSAGE_MAX / 2];
    size_t used = 0;
    struct hook *hook = from;
    /* As many steps as there are hooks lead into the cycle. */
    for (struct hook *step = all; step != NULL; step = step->next)
        hook = predecessor(all, hook);
    struct hook *start = hook;
    text[0] = '\0';
    do {
        int length =
            snprintf(text + used, sizeof(text) - used, "%s after ", hook->entry.self->name);
        if (length < 0 || (size_t)length >= sizeof(text) - used)
            break;
        used += (size_t)length;
        hook = predecessor(all, hook);
    } while (hook != start);
    return imp_error_set(error, IMP_INVALID, "hooks of %s stand in a circle: %s%s", point, text,
                         start->entry.self->name);
}

/* Sorts a point's list; on a cycle the list stays as it was. */
static imp_status sort_point(struct point *point, imp_error *error)
{
    struct hook *sorted = NULL;
    struct hook **end = &sorted;
    uint32_t count = 0, placed = 0;
    for (struct hook *hook = point->hooks; hook != NULL; hook = hook->next) {
        hook->is_placed = false;
        count++;
    }
    struct hook **order = calloc(count + 1, sizeof(struct hook *));
    if (order == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    imp_status status = IMP_OK;
    for (imp_hook_phase phase = IMP_PHASE_FIRST; phase <= IMP_PHASE_LAST; phase++) {
        for (;;) {
            struct hook *best = NULL, *left = NULL;
            for (struct hook *hook = point->hooks; hook != NULL; hook = hook->next) {
                if (hook->is_placed || hook->phase != phase)
                    continue;
                left = hook;
                if ((best == NULL || comes_first(hook, best)) &&
                    predecessor(point->hooks, hook) == NULL)
                    best = hook;
            }
            if (left == NULL)
                break;
            if (best == NULL) {
                status = say_cycle(point->hooks, left, point->name, error);
                goto done;
            }
            best->is_placed = true;
            order[placed++] = best;
        }
    }
    for (uint32_t i = 0; i < placed; i++) {
        *end = order[i];
        end = &order[i]->next;
    }
    *end = NULL;
    point->hooks = sorted;
done:
    free(order);
    return status;
}

/* ---- registry ---- */

static struct point *point_get(const char *name)
{
    struct point **at = &points;
    while (*at != NULL && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    if (*at != NULL && strcmp((*at)->name, name) == 0)
        return *at;
    struct point *point = calloc(1, sizeof(*point));
    if (point == NULL)
        return NULL;
    memcpy(point->name, name, strlen(name) + 1);
    point->next = *at;
    *at = point;
    return point;
}

static void point_drop_if_empty(struct point *point)
{
    if (point->hooks != NULL)
        return;
    for (struct point **at = &points; *at != NULL; at = &(*at)->next)
        if (*at == point) {
            *at = point->next;
            free(point);
            return;
        }
}

static void hook_take_out(struct hook *hook)
{
    for (struct hook **at = &hook->point->hooks; *at != NULL; at = &(*at)->next)
        if (*at == hook) {
            *at = hook->next;
            break;
        }
    point_drop_if_empty(hook->point);
}

/* Taking one away leaves the order of the others right. */
static void hook_revoke(struct self_entry *entry)
{
    struct hook *hook = (struct hook *)entry;
    hook_take_out(hook);
    self_detach(entry);
    free(hook);
}

static const char *hook_describe(const struct self_entry *entry)
{
    return ((const struct hook *)entry)->point->name;
}

static const struct self_entry_kind HOOK_KIND = {
    .name = "hook", .stage = SELF_INTAKE, .revoke = hook_revoke, .describe = hook_describe};

static bool point_name_is_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < SNAPSHOT_POINT_SIZE &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._") == length;
}

static imp_status check_spec(const imp_hook_spec *spec, imp_error *error)
{
    if (spec->size < sizeof(imp_hook_spec))
        return imp_error_set(error, IMP_INVALID, "a hook's struct is too short");
    if (spec->point == NULL || !point_name_is_valid(spec->point))
        return imp_error_set(error, IMP_INVALID, "a hook names no valid point");
    if (spec->phase < IMP_PHASE_FIRST || spec->phase > IMP_PHASE_LAST)
        return imp_error_set(error, IMP_INVALID, "a hook of %s names no valid phase", spec->point);
    if (spec->function == NULL)
        return imp_error_set(error, IMP_INVALID, "a hook of %s has no function", spec->point);
    if ((spec->before != NULL && strlen(spec->before) >= NAMES_SIZE) ||
        (spec->after != NULL && strlen(spec->after) >= NAMES_SIZE))
        return imp_error_set(error, IMP_INVALID, "a hook of %s names too many other modules",
                             spec->point);
    return IMP_OK;
}

imp_status imp_hook_add(imp_self *self, const imp_hook_spec *spec, imp_error *error)
{
    imp_status status = check_spec(spec, error);
    if (status != IMP_OK)
        return status;
    struct hook *hook = calloc(1, sizeof(*hook));
    struct point *point = point_get(spec->point);
    if (hook == NULL || point == NULL) {
        free(hook);
        if (point != NULL)
            point_drop_if_empty(point);
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    }
    hook->point = point;
    hook->phase = spec->phase;
    hook->function = spec->function;
    hook->number = ++last_number;
    if (spec->before != NULL)
        memcpy(hook->before, spec->before, strlen(spec->before) + 1);
    if (spec->after != NULL)
        memcpy(hook->after, spec->after, strlen(spec->after) + 1);
    hook->next = point->hooks;
    point->hooks = hook;
    self_attach(self, &hook->entry, &HOOK_KIND);
    status = sort_point(point, error);
    if (status != IMP_OK) {
        hook_revoke(&hook->entry);
        return status;
    }
    if (self->is_test) {
        hook->is_visible = true;
        status = snapshot_publish(error);
    }
    return status;
}

void hook_show(struct imp_self *self)
{
    for (struct point *point = points; point != NULL; point = point->next)
        for (struct hook *hook = point->hooks; hook != NULL; hook = hook->next)
            if (hook->entry.self == self)
                hook->is_visible = true;
}

void hook_each(bool (*each)(const struct hook_info *info, void *arg), void *arg)
{
    for (struct point *point = points; point != NULL; point = point->next)
        for (struct hook *hook = point->hooks; hook != NULL; hook = hook->next) {
            struct hook_info info = {.point = point->name,
                                     .module = hook->entry.self->name,
                                     .generation = hook->entry.self->generation,
                                     .before = hook->before,
                                     .after = hook->after,
                                     .phase = hook->phase};
            if (!each(&info, arg))
                return;
        }
}

/* ---- snapshot ---- */

static uint32_t visible_count(const struct point *point)
{
    uint32_t count = 0;
    for (const struct hook *hook = point->hooks; hook != NULL; hook = hook->next)
        count += hook->is_visible;
    return count;
}

void hook_snapshot_count(uint32_t *point_count, uint32_t *hook_count)
{
    *point_count = *hook_count = 0;
    for (const struct point *point = points; point != NULL; point = point->next) {
        uint32_t count = visible_count(point);
        *point_count += count > 0;
        *hook_count += count;
    }
}

void hook_snapshot_fill(struct snapshot_point *rows, struct snapshot_hook *hooks)
{
    uint32_t first = 0;
    for (const struct point *point = points; point != NULL; point = point->next) {
        uint32_t count = visible_count(point);
        if (count == 0)
            continue;
        memcpy(rows->name, point->name, sizeof(rows->name));
        rows->first = first;
        rows->count = count;
        rows++;
        for (const struct hook *hook = point->hooks; hook != NULL; hook = hook->next)
            if (hook->is_visible)
                hooks[first++] =
                    (struct snapshot_hook){.self = hook->entry.self, .function = hook->function};
    }
}
