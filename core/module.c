/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include "core/module.h"

#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/module-plan.h"
#include "core/module-private.h"
#include "core/module-watch.h"
#include "core/thread.h"

struct module_context module_context;
struct module **module_rows;
uint32_t module_row_count;

/* ---- records ---- */

static imp_status make_rows(const struct config *config, imp_error *error)
{
    uint32_t count = config_module_count(config);
    module_rows = calloc((size_t)count + 1, sizeof(struct module *));
    if (module_rows == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    for (uint32_t i = 0; i < count; i++) {
        struct module *module = calloc(1, sizeof(*module));
        if (module == NULL)
            return imp_error_set(error, IMP_LIMIT, "memory is short");
        snprintf(module->name, sizeof(module->name), "%s", config_module_name(config, i));
        module->file.fd = module->mark.fd = -1;
        module_rows[module_row_count++] = module;
    }
    return IMP_OK;
}

static void free_rows(void)
{
    for (uint32_t i = 0; i < module_row_count; i++) {
        /* A zombie's record is in use by whatever holds it. */
        if (module_rows[i]->state == SELF_ZOMBIE)
            continue;
        module_image_forget(&module_rows[i]->image);
        free(module_rows[i]);
    }
    free(module_rows);
    module_rows = NULL;
    module_row_count = 0;
}

/* ---- order ---- */

/* Brings the rows into the order of start, those that can't start behind them, and gives these their
 * reasons. */
static imp_status put_in_order(imp_error *error)
{
    uint32_t count = module_row_count, placed = 0;
    struct module_plan_row *plan = calloc((size_t)count + 1, sizeof(*plan));
    uint32_t *order = calloc((size_t)count + 1, sizeof(*order));
    struct module **sorted = calloc((size_t)count + 1, sizeof(struct module *));
    if (plan == NULL || order == NULL || sorted == NULL) {
        free(plan);
        free(order);
        free(sorted);
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    }
    for (uint32_t i = 0; i < count; i++)
        plan[i] = (struct module_plan_row){.name = module_rows[i]->name,
                                           .requires = module_rows[i]->file.note.requires,
                                           .provides = module_rows[i]->file.note.provides,
                                           .is_refused = module_rows[i]->state != SELF_VERIFIED};
    uint32_t startable = module_plan(plan, count, order);
    for (uint32_t i = 0; i < startable; i++) {
        sorted[placed++] = module_rows[order[i]];
        module_rows[order[i]]->is_in_order = true;
        module_rows[order[i]]->is_needed = module_plan_is_needed(plan, count, order[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (module_rows[i]->is_in_order)
            continue;
        if (plan[i].reason.status != IMP_OK)
            module_rows[i]->reason = plan[i].reason;
        sorted[placed++] = module_rows[i];
    }
    free(plan);
    free(order);
    free(module_rows);
    module_rows = sorted;
    return IMP_OK;
}

/* ---- start ---- */

static void undo(struct module *module)
{
    if (module_life_end_from(module) != LIFE_END_UNWIND) {
        module_end_now(module);
        return;
    }
    module_life_unwind(module);
    module_set_state(module, SELF_FAILED);
}

static void fail(struct module *module)
{
    imp_log(NULL, IMP_LOG_ERROR, "module.failed", "module=%s reason=\"%s\"", module->name,
            module->reason.message);
    undo(module);
}

static bool has_listeners(const struct module *module)
{
    const struct config_listeners *listeners = config_listeners(module_context.config);
    for (uint32_t i = 0; i < listeners->count; i++)
        if (strcmp(listeners->items[i].module, module->name) == 0)
            return true;
    return false;
}

/* A module that failed is left out, as a rule. Not when that would leave clients waiting in a backlog
 * that nobody empties, for something that passes by itself: then a new start has to try again. And not
 * when the store was written by a newer module: what it holds must not be worked around. */
static imp_status whole_start_fails(const struct module *module, imp_error *error)
{
    imp_status status = module->reason.status;
    bool passes = (status == IMP_NO_SPACE && (module->is_needed || has_listeners(module))) ||
                  (status == IMP_IO && module->is_needed);
    bool is_newer = status == IMP_UNSUPPORTED && module_life_failed_at_tables(module);
    if (!passes && !is_newer)
        return IMP_OK;
    return imp_error_set(error, status, "module %s: %s", module->name, module->reason.message);
}

imp_status module_start_all(const struct config *config, const struct module_settings *settings,
                            imp_error *error)
{
    imp_status status = module_file_check_developer(settings, error);
    if (status != IMP_OK)
        return status;
    module_context.settings = *settings;
    module_context.config = config;
    module_context.is_check_only = false;
    status = module_watch_start(error);
    if (status == IMP_OK)
        status = make_rows(config, error);
    if (status != IMP_OK)
        goto done;
    for (uint32_t i = 0; i < module_row_count; i++)
        (void)module_life_advance(module_rows[i], LIFE_VERIFIED);
    status = put_in_order(error);
    if (status != IMP_OK)
        goto done;
    for (uint32_t i = 0; i < module_row_count; i++) {
        struct module *module = module_rows[i];
        int64_t begin = imp_ticks();
        if (!module->is_in_order || module_life_advance(module, LIFE_STARTED) != IMP_OK) {
            status = module->is_in_order ? whole_start_fails(module, error) : IMP_OK;
            if (status != IMP_OK)
                break;
            fail(module);
            continue;
        }
        imp_log(NULL, IMP_LOG_INFO, "module.started", "module=%s version=%s generation=%u ms=%lld",
                module->name, module->version, module->generation,
                (long long)((imp_ticks() - begin) / IMP_MILLISECOND));
    }
    for (uint32_t i = 0; status != IMP_OK && i < module_row_count; i++)
        if (module_rows[i]->state != SELF_STARTED && module_rows[i]->state != SELF_FAILED &&
            module_rows[i]->state != SELF_ZOMBIE)
            undo(module_rows[i]);
done:
    module_context.config = NULL;
    return status;
}

uint32_t module_check_all(const struct config *config, const struct module_settings *settings,
                          void (*say)(const char *line, void *arg), void *arg)
{
    imp_error error;
    uint32_t errors = 0;
    char line[IMP_ERROR_MESSAGE_MAX + SELF_NAME_SIZE + 16];

    module_context.settings = *settings;
    module_context.config = config;
    module_context.is_check_only = true;
    if (module_file_check_developer(settings, &error) != IMP_OK ||
        make_rows(config, &error) != IMP_OK) {
        say(error.message, arg);
        errors++;
        goto done;
    }
    for (uint32_t i = 0; i < module_row_count; i++)
        (void)module_life_advance(module_rows[i], LIFE_VERIFIED);
    if (put_in_order(&error) != IMP_OK) {
        say(error.message, arg);
        errors++;
        goto done;
    }
    for (uint32_t i = 0; i < module_row_count; i++) {
        struct module *module = module_rows[i];
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): put_in_order() keeps every row */
        if (!module->is_in_order || module_life_advance(module, LIFE_CHECKED) != IMP_OK) {
            snprintf(line, sizeof(line), "module %s: %s", module->name, module->reason.message);
            say(line, arg);
            errors++;
        }
        module_life_unwind(module);
    }
done:
    module_context.config = NULL;
    free_rows();
    return errors;
}

/* ---- end ---- */

static struct {
    void (*done)(void *arg);
    void *arg;
    int64_t deadline;
    uint32_t next; /* rows below it are still to be ended */
} stopping;

static void stop_next(void *arg)
{
    (void)arg;
    while (stopping.next > 0) {
        struct module *module = module_rows[--stopping.next];
        if (module->state == SELF_STARTED) {
            module_end_begin(module, stopping.deadline, stop_next, NULL);
            return;
        }
    }
    stopping.done(stopping.arg);
}

void module_stop_all(void (*done)(void *arg), void *arg)
{
    stopping.done = done;
    stopping.arg = arg;
    stopping.next = module_row_count;
    stopping.deadline = imp_ticks() + module_context.settings.upgrade_deadline_us;
    stop_next(NULL);
}

void module_teardown(void)
{
    module_watch_stop();
    free_rows();
}

/* ---- looking ---- */

static struct module *find_started(const char *name)
{
    for (uint32_t i = 0; i < module_row_count; i++)
        if (module_rows[i]->state == SELF_STARTED && strcmp(module_rows[i]->name, name) == 0)
            return module_rows[i];
    return NULL;
}

struct imp_self *module_find(const char *name)
{
    struct module *module = find_started(name);
    return module != NULL ? module->self : NULL;
}

const struct config_block *module_block(const char *name)
{
    struct module *module = find_started(name);
    return module != NULL ? module->block : NULL;
}

void module_count(struct module_counts *counts)
{
    *counts = (struct module_counts){0};
    for (uint32_t i = 0; i < module_row_count; i++) {
        counts->started += module_rows[i]->state == SELF_STARTED;
        counts->failed += module_rows[i]->state == SELF_FAILED;
        counts->zombies += module_rows[i]->state == SELF_ZOMBIE;
    }
}

const char *module_failed_names(void)
{
    static char text[2048];
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < module_row_count; i++) {
        const struct module *module = module_rows[i];
        if (module->state != SELF_FAILED && module->state != SELF_ZOMBIE)
            continue;
        int added = snprintf(text + length, sizeof(text) - length, "%s%s (%s)",
                             length > 0 ? ", " : "", module->name, module->reason.message);
        if (added < 0 || (size_t)added >= sizeof(text) - length)
            break;
        length += (size_t)added;
    }
    return text;
}

/* ---- settings while running ---- */

/* The limit is the new one: whoever raised it for this module has a reason. */
static imp_status check_settings(const struct config_subject *subject, const struct config *next,
                                 imp_error *error)
{
    struct module *module = find_started(subject->name);
    module_watch_begin(module->name, "check", config_core(next)->module_start_timeout);
    module_call_begin(module->self);
    imp_status status = subject->module->check(config_block_data(subject->next), error);
    module_call_end(module->self);
    module_watch_end();
    return status;
}

uint32_t module_subjects(struct config_subject *subjects, uint32_t room)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < module_row_count; i++) {
        struct module *module = module_rows[i];
        if (module->state != SELF_STARTED)
            continue;
        if (count < room)
            subjects[count] = (struct config_subject){.module = &module->image.descriptor,
                                                      .name = module->name,
                                                      .current = module->block,
                                                      .check = check_settings};
        count++;
    }
    return count;
}

void module_take_limits(const struct module_settings *settings)
{
    module_context.settings.start_timeout_us = settings->start_timeout_us;
    module_context.settings.stop_timeout_us = settings->stop_timeout_us;
    module_context.settings.upgrade_deadline_us = settings->upgrade_deadline_us;
}

static void free_block(void *arg)
{
    config_block_free(arg);
}

void module_take_settings(struct config_subject *subject)
{
    struct module *module = find_started(subject->name);
    if (module == NULL || subject->next == NULL)
        return;
    /* A module that takes no settings while it runs goes on with the block that start() got. */
    if (subject->change == CONFIG_SAME || module->image.descriptor.reconfigure == NULL) {
        config_block_free(subject->next);
        subject->next = NULL;
        return;
    }
    struct config_block *old = module->block;
    module->block = subject->next;
    subject->next = NULL;
    module->self->conf = config_block_data(module->block);
    module_watch_begin(module->name, "reconfigure", module_context.settings.start_timeout_us);
    module_call_begin(module->self);
    module->image.descriptor.reconfigure(module->self, module->self->instance, module->self->conf);
    module_call_end(module->self);
    module_watch_end();
    /* Other threads may be reading it until they have come out of the module. */
    thread_defer(free_block, old);
}
