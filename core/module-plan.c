/* SPDX-License-Identifier: Apache-2.0 */
#include "core/module-plan.h"

#include <stdio.h>
#include <string.h>

#include "core/note.h"

static bool offers(const struct module_plan_row *row, const char *name, uint32_t major)
{
    char other[NOTE_NAME_SIZE];
    uint32_t other_major;
    const char *list = row->provides;
    while (note_next_service(&list, other, &other_major))
        if (other_major == major && strcmp(other, name) == 0)
            return true;
    return false;
}

static struct module_plan_row *provider(struct module_plan_row *rows, uint32_t count,
                                        const char *name, uint32_t major, bool may_be_refused)
{
    for (uint32_t i = 0; i < count; i++)
        if ((may_be_refused || !rows[i].is_refused) && offers(&rows[i], name, major))
            return &rows[i];
    return NULL;
}

static void refuse_second_providers(struct module_plan_row *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char name[NOTE_NAME_SIZE];
        uint32_t major;
        const char *list = rows[i].provides;
        while (!rows[i].is_refused && note_next_service(&list, name, &major)) {
            const struct module_plan_row *first = provider(rows, i, name, major, false);
            if (first == NULL)
                continue;
            rows[i].is_refused = true;
            imp_error_set(&rows[i].reason, IMP_EXISTS,
                          "service %s/%u is offered by module %s already", name, major,
                          first->name);
        }
    }
}

/* Another major of the same service, to be helpful. */
static const struct module_plan_row *other_major_of(const struct module_plan_row *rows,
                                                    uint32_t count, const char *name,
                                                    uint32_t *major)
{
    for (uint32_t i = 0; i < count; i++) {
        char other[NOTE_NAME_SIZE];
        const char *list = rows[i].provides;
        while (note_next_service(&list, other, major))
            if (strcmp(other, name) == 0)
                return &rows[i];
    }
    return NULL;
}

static bool refuse_if_missing(struct module_plan_row *rows, uint32_t count,
                              struct module_plan_row *row)
{
    char name[NOTE_NAME_SIZE];
    uint32_t major, other_major;
    const char *list = row->requires;
    while (note_next_service(&list, name, &major)) {
        if (provider(rows, count, name, major, false) != NULL)
            continue;
        const struct module_plan_row *failed = provider(rows, count, name, major, true);
        const struct module_plan_row *other = other_major_of(rows, count, name, &other_major);
        row->is_refused = true;
        if (failed != NULL)
            imp_error_set(&row->reason, IMP_UNAVAILABLE,
                          "needs service %s/%u of module %s, which has failed", name, major,
                          failed->name);
        else if (other != NULL)
            imp_error_set(&row->reason, IMP_UNAVAILABLE,
                          "needs service %s/%u, but module %s offers %s/%u", name, major,
                          other->name, name, other_major);
        else
            imp_error_set(&row->reason, IMP_UNAVAILABLE,
                          "needs service %s/%u, which no enabled module offers", name, major);
        return true;
    }
    return false;
}

static void refuse_missing(struct module_plan_row *rows, uint32_t count)
{
    bool is_changed;
    do {
        is_changed = false;
        for (uint32_t i = 0; i < count; i++)
            if (!rows[i].is_refused && refuse_if_missing(rows, count, &rows[i]))
                is_changed = true;
    } while (is_changed);
}

static bool is_ordered(const uint32_t *order, uint32_t ordered, uint32_t index)
{
    for (uint32_t i = 0; i < ordered; i++)
        if (order[i] == index)
            return true;
    return false;
}

/* A provider of something that the row requires and that is not in the order yet, or NULL. */
static struct module_plan_row *waits_for(struct module_plan_row *rows, uint32_t count,
                                         const struct module_plan_row *row, const uint32_t *order,
                                         uint32_t ordered)
{
    char name[NOTE_NAME_SIZE];
    uint32_t major;
    const char *list = row->requires;
    while (note_next_service(&list, name, &major)) {
        struct module_plan_row *other = provider(rows, count, name, major, false);
        if (other != NULL && other != row && !is_ordered(order, ordered, (uint32_t)(other - rows)))
            return other;
    }
    return NULL;
}

/* None of those that are left can go first. Following what each waits for leads round a circle; its
 * members are refused, and the rest looked at again. */
static void refuse_circle(struct module_plan_row *rows, uint32_t count, const uint32_t *order,
                          uint32_t ordered)
{
    struct module_plan_row *row = rows;
    while (row->is_refused || is_ordered(order, ordered, (uint32_t)(row - rows)))
        row++;
    for (uint32_t i = 0; i < count; i++)
        row = waits_for(rows, count, row, order, ordered);

    char text[IMP_ERROR_MESSAGE_MAX / 2];
    size_t used = 0;
    struct module_plan_row *start = row;
    text[0] = '\0';
    do {
        int length = snprintf(text + used, sizeof(text) - used, "%s needs ", row->name);
        if (length < 0 || (size_t)length >= sizeof(text) - used)
            break;
        used += (size_t)length;
        row = waits_for(rows, count, row, order, ordered);
    } while (row != start);
    do {
        struct module_plan_row *next = waits_for(rows, count, row, order, ordered);
        imp_error_set(&row->reason, IMP_INVALID, "modules need each other in a circle: %s%s", text,
                      start->name);
        row = next;
    } while (row != start);
    /* Only now: a refused row provides nothing, and the walk above needs all of them. */
    for (uint32_t i = 0; i < count; i++)
        if (rows[i].reason.status != IMP_OK)
            rows[i].is_refused = true;
}

uint32_t module_plan(struct module_plan_row *rows, uint32_t count, uint32_t *order)
{
    uint32_t ordered = 0;
    for (uint32_t i = 0; i < count; i++)
        rows[i].reason = (imp_error){.status = IMP_OK};
    refuse_second_providers(rows, count);
    for (;;) {
        refuse_missing(rows, count);
        uint32_t next = count, left = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (rows[i].is_refused || is_ordered(order, ordered, i))
                continue;
            left++;
            if (next == count && waits_for(rows, count, &rows[i], order, ordered) == NULL)
                next = i;
        }
        if (left == 0)
            return ordered;
        if (next < count)
            order[ordered++] = next;
        else
            refuse_circle(rows, count, order, ordered);
    }
}

bool module_plan_is_needed(const struct module_plan_row *rows, uint32_t count, uint32_t index)
{
    char name[NOTE_NAME_SIZE];
    uint32_t major;
    for (uint32_t i = 0; i < count; i++) {
        const char *list = rows[i].requires;
        while (note_next_service(&list, name, &major))
            if (offers(&rows[index], name, major))
                return true;
    }
    return false;
}
