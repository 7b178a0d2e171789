/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-life.c - the steps from a name to a running module, each with its one reverse.
 *
 * A step that fails leaves nothing of its own behind; the steps before it are reversed in reverse order.
 * From `start` on the reverse takes time (other threads may be inside of the module), so it is
 * module-end.c's; the rows below say which those are.
 */
#include "build-config.h"

#include <imprimatur/log.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hook.h"
#include "core/listener.h"
#include "core/loop.h"
#include "core/module-private.h"
#include "core/module-watch.h"
#include "core/service.h"
#include "core/snapshot.h"
#include "core/store.h"
#include "core/thread.h"

struct step {
    const char *name;
    enum self_state reached; /* when it has succeeded */
    imp_status (*forward)(struct module *module, imp_error *error);
    /* Can't fail. NULL: nothing to do, or (with is_ending) module-end.c does it. */
    void (*reverse)(struct module *module);
    bool is_ending;
    bool is_checked; /* taken by `imprimd --check` too */
};

/* ---- verify ---- */

static imp_status verify(struct module *module, imp_error *error)
{
    imp_status status =
        module_file_open(&module_context.settings, module->name, &module->file, error);
    if (status != IMP_OK)
        return status;
    memcpy(module->version, module->file.note.version, sizeof(module->version));
    snprintf(module->path, sizeof(module->path), "%s", module->file.path);
    return IMP_OK;
}

static void unverify(struct module *module)
{
    module_file_close(&module->file);
}

/* ---- a generation ---- */

static imp_status make_self(struct module *module, imp_error *error)
{
    module->self = self_new(module->name);
    if (module->self == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short, or %u generations are mapped",
                             SELF_MAX);
    module->generation = module->self->generation;
    return IMP_OK;
}

static void free_self(struct module *module)
{
    self_free(module->self);
    module->self = NULL;
}

/* ---- mark and watch ---- */

static imp_status begin_mark(struct module *module, imp_error *error)
{
    if (module_context.is_check_only)
        return IMP_OK;
    imp_status status =
        module_mark_begin(module_context.settings.state_dir, &module->file, &module->mark, error);
    if (status == IMP_NO_SPACE) {
        /* The module is what tells its clients that the disk is full. */
        imp_log(NULL, IMP_LOG_WARNING, "module.unmarked", "module=%s reason=\"%s\"", module->name,
                error->message);
        status = IMP_OK;
        *error = (imp_error){.status = IMP_OK};
    }
    if (status == IMP_OK)
        module_watch_begin(module->name, "start", module_context.settings.start_timeout_us);
    return status;
}

static void end_mark(struct module *module)
{
    module_watch_end();
    module_mark_end(&module->mark);
}

/* ---- map ---- */

static imp_status map(struct module *module, imp_error *error)
{
    /* Constructors run in here. */
    module_call_begin(module->self);
    imp_status status = module_image_open(&module->file, module_context.settings.keeps_mapped,
                                          module->self, &module->image, error);
    module_call_end(module->self);
    if (status == IMP_OK)
        module->self->descriptor = &module->image.descriptor;
    return status;
}

static void unmap(struct module *module)
{
    module->self->descriptor = NULL;
    module->is_still_mapped = !module_image_close(&module->image, module->self);
}

/* ---- settings ---- */

static imp_status configure(struct module *module, imp_error *error)
{
    const imp_module *descriptor = &module->image.descriptor;
    imp_status status = config_module_settings(module_context.config, descriptor, module->name,
                                               &module->block, error);
    if (status != IMP_OK)
        return status;
    module->self->conf = config_block_data(module->block);
    if (descriptor->check == NULL)
        return IMP_OK;
    imp_error reason = {.status = IMP_OK};
    module_call_begin(module->self);
    status = descriptor->check(module->self->conf, &reason);
    module_call_end(module->self);
    if (status != IMP_OK) {
        imp_error_set(error, status, "its settings are refused: %s", reason.message);
        config_block_free(module->block);
        module->block = NULL;
    }
    return status;
}

static void unconfigure(struct module *module)
{
    module->self->conf = NULL;
    config_block_free(module->block);
    module->block = NULL;
}

/* ---- tables and services ---- */

static imp_status declare_tables(struct module *module, imp_error *error)
{
    const imp_module *descriptor = &module->image.descriptor;
    if (descriptor->tables == NULL)
        return IMP_OK;
    struct store *store = store_current();
    if (store == NULL)
        return imp_error_set(error, IMP_UNAVAILABLE, "it has tables, but no store is open");
    return store_table_declare(store, module->self, module->name, descriptor->tables,
                               descriptor->migrate, error);
}

static imp_status offer_services(struct module *module, imp_error *error)
{
    const imp_service_offer *offer = module->image.descriptor.provides;
    imp_status status = IMP_OK;
    for (; status == IMP_OK && offer != NULL && offer->name != NULL; offer++)
        status = service_offer(module->self, offer, error);
    if (status != IMP_OK)
        self_revoke(module->self, SELF_SWEEP); /* nothing was visible yet */
    return status;
}

static void withdraw_services(struct module *module)
{
    self_revoke(module->self, SELF_SWEEP);
}

/* What the descriptor requires must be there by now: a provider may have failed to start. */
static imp_status find_needs(struct module *module, imp_error *error)
{
    const imp_service_need *need = module->image.descriptor.requires;
    for (; need != NULL && need->name != NULL; need++) {
        const struct imp_self *provider = service_provider(need->name, need->major);
        if (provider == NULL || provider->state != SELF_STARTED)
            return imp_error_set(error, IMP_UNAVAILABLE,
                                 "needs service %s/%u, whose module has not started", need->name,
                                 need->major);
    }
    return IMP_OK;
}

/* ---- start ---- */

static imp_status start(struct module *module, imp_error *error)
{
    void *instance = NULL;
    imp_error reason = {.status = IMP_OK};
    module_call_begin(module->self);
    imp_status status =
        module->image.descriptor.start(module->self, module->self->conf, &instance, &reason);
    module_call_end(module->self);
    if (status != IMP_OK) {
        imp_error_set(error, status, "its start failed: %s",
                      reason.status != IMP_OK ? reason.message : imp_status_name(status));
        return status;
    }
    module->self->instance = instance;
    return IMP_OK;
}

void module_life_drain(struct module *module)
{
    if (module->image.descriptor.drain == NULL)
        return;
    module_watch_begin(module->name, "drain", module_context.settings.stop_timeout_us);
    module_call_begin(module->self);
    module->image.descriptor.drain(module->self, module->self->instance);
    module_call_end(module->self);
    module_watch_end();
}

void module_life_stop(struct module *module)
{
    module_watch_begin(module->name, "stop", module_context.settings.stop_timeout_us);
    module_call_begin(module->self);
    module->image.descriptor.stop(module->self, module->self->instance);
    module_call_end(module->self);
    module_watch_end();
    module->self->instance = NULL;
}

/* ---- loops ---- */

/* A call on every loop, for whose end the control thread waits: loops never wait for us. */
struct round {
    struct module *module;
    imp_loop *loop;
    bool is_leave;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_done;
    imp_status status;
    imp_error error;
};

static void round_run(void *arg)
{
    struct round *round = arg;
    struct imp_self *self = round->module->self;
    const imp_module *descriptor = &round->module->image.descriptor;
    imp_error error = {.status = IMP_OK};
    imp_status status = IMP_OK;

    module_call_begin(self);
    if (round->is_leave)
        descriptor->loop_leave(self, self->instance, round->loop);
    else
        status = descriptor->loop_enter(self, self->instance, round->loop, &error);
    module_call_end(self);

    pthread_mutex_lock(&round->lock);
    round->status = status;
    round->error = error;
    round->is_done = true;
    pthread_cond_signal(&round->changed);
    pthread_mutex_unlock(&round->lock);
}

static imp_status round_on(struct module *module, imp_loop *loop, bool is_leave, imp_error *error)
{
    struct round round = {.module = module,
                          .loop = loop,
                          .is_leave = is_leave,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER};
    if (loop == imp_loop_current()) {
        round_run(&round);
    } else {
        imp_status status = loop_post_core(loop, round_run, &round);
        if (status != IMP_OK)
            return imp_error_set(error, status, "a loop takes no more calls");
        pthread_mutex_lock(&round.lock);
        while (!round.is_done)
            pthread_cond_wait(&round.changed, &round.lock);
        pthread_mutex_unlock(&round.lock);
    }
    if (round.status != IMP_OK)
        imp_error_set(error, round.status, "its loop_enter failed: %s",
                      round.error.status != IMP_OK ? round.error.message
                                                   : imp_status_name(round.status));
    return round.status;
}

void module_life_leave_loops(struct module *module)
{
    bool has_leave = module->image.descriptor.loop_leave != NULL;
    while (module->loops_entered > 0) {
        module->loops_entered--;
        if (has_leave)
            (void)round_on(module, imp_loop_at(module->loops_entered), true, NULL);
    }
}

static imp_status enter_loops(struct module *module, imp_error *error)
{
    if (module->image.descriptor.loop_enter == NULL)
        return IMP_OK;
    module_mark_all_threads();
    for (uint32_t i = 0; i < imp_loop_count(); i++) {
        imp_status status = round_on(module, imp_loop_at(i), false, error);
        if (status != IMP_OK)
            return status; /* those that were entered are left by the end */
        module->loops_entered++;
    }
    return IMP_OK;
}

/* ---- publish ---- */

static imp_status publish(struct module *module, imp_error *error)
{
    service_show(module->self);
    hook_show(module->self);
    imp_status status = snapshot_publish(error);
    if (status == IMP_OK)
        status = listener_publish(module->self, error);
    return status;
}

/* ---- the table ---- */

static imp_status finish_mark(struct module *module, imp_error *error)
{
    (void)error;
    end_mark(module);
    module->started_us = imp_now();
    module_file_close(&module->file);
    return IMP_OK;
}

static const struct step STEPS[] = {
    {"verify", SELF_VERIFIED, verify, unverify, false, true},
    {"generation", SELF_VERIFIED, make_self, free_self, false, true},
    {"mark", SELF_VERIFIED, begin_mark, end_mark, false, true},
    {"map", SELF_MAPPED, map, unmap, false, true},
    {"settings", SELF_MAPPED, configure, unconfigure, false, true},
    {"needs", SELF_MAPPED, find_needs, NULL, false, false},
    {"tables", SELF_MAPPED, declare_tables, NULL, false, false},
    {"offer", SELF_MAPPED, offer_services, withdraw_services, false, false},
    {"start", SELF_MAPPED, start, NULL, true, false},
    {"loops", SELF_MAPPED, enter_loops, NULL, true, false},
    {"publish", SELF_STARTED, publish, NULL, true, false},
    {"ready", SELF_STARTED, finish_mark, NULL, true, false},
};
#define STEP_COUNT (sizeof(STEPS) / sizeof(STEPS[0]))

void module_set_state(struct module *module, enum self_state state)
{
    module->state = state;
    if (module->self != NULL)
        module->self->state = state;
}

static bool is_goal_reached(const struct module *module, enum life_goal goal)
{
    if (module->steps == STEP_COUNT)
        return true;
    const struct step *next = &STEPS[module->steps];
    return (goal == LIFE_VERIFIED && module->steps == 1) ||
           (goal == LIFE_CHECKED && !next->is_checked);
}

bool module_life_failed_at_tables(const struct module *module)
{
    return module->steps < STEP_COUNT && STEPS[module->steps].forward == declare_tables;
}

void module_life_unwind(struct module *module)
{
    while (module->steps > 0 && !STEPS[module->steps - 1].is_ending) {
        module->steps--;
        if (STEPS[module->steps].reverse != NULL)
            STEPS[module->steps].reverse(module);
    }
}

static uint32_t start_index(void)
{
    uint32_t index = 0;
    while (STEPS[index].forward != start)
        index++;
    return index;
}

enum life_end module_life_end_from(const struct module *module)
{
    uint32_t first = start_index();
    if (module->steps < first)
        return LIFE_END_UNWIND;
    return module->steps == first ? LIFE_END_SWEEP : LIFE_END_WHOLE;
}

void module_life_ended(struct module *module)
{
    uint32_t first = start_index();
    if (module->steps > first)
        module->steps = first;
}

imp_status module_life_advance(struct module *module, enum life_goal goal)
{
    while (!is_goal_reached(module, goal)) {
        const struct step *step = &STEPS[module->steps];
        imp_status status = step->forward(module, &module->reason);
        if (status != IMP_OK) {
            module->reason.status = status;
            return status;
        }
        module->steps++;
        module_set_state(module, step->reached);
    }
    return IMP_OK;
}
