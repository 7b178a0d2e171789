/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-end.c - from a running module to an unmapped file, while other threads may be inside of it.
 *
 * One row per phase: what begins it, what must be true to leave it, and what becomes of a module that
 * has not got there by the deadline. A timer of the control loop looks; nothing waits.
 */
#include "build-config.h"

#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/control.h"
#include "core/hook.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "core/module-private.h"
#include "core/snapshot.h"
#include "core/store.h"
#include "core/thread.h"

#define LOOK_INTERVAL (5 * IMP_MILLISECOND)

enum end_phase { END_DRAIN, END_CUT, END_STOP, END_SWEEP, END_UNMAP, END_OVER };

struct ending {
    struct module *module;
    enum end_phase phase;
    uint64_t barrier;       /* every thread has to pass it, or the phase is not over */
    int64_t drain_deadline; /* ticks */
    int64_t deadline;       /* ticks, of this phase */
    imp_timer *timer;
    void (*done)(void *arg);
    void *arg;
};

struct end_row {
    void (*begin)(struct ending *ending);
    bool (*is_over)(struct ending *ending); /* NULL: at once */
    enum end_phase next;
    enum end_phase late; /* where to go at the deadline */
};

/* ---- what still holds a generation ---- */

struct holding {
    char text[IMP_ERROR_MESSAGE_MAX];
    size_t length;
    uint32_t count; /* without timers, which do not end by themselves */
};

static void add_holder(const char *name, uint32_t count, void *arg)
{
    struct holding *holding = arg;
    int length = snprintf(holding->text + holding->length, sizeof(holding->text) - holding->length,
                          "%s%s=%u", holding->length > 0 ? " " : "", name, count);
    if (length > 0 && (size_t)length < sizeof(holding->text) - holding->length)
        holding->length += (size_t)length;
    if (strcmp(name, "timer") != 0)
        holding->count += count;
}

static void find_holders(struct imp_self *self, struct holding *holding)
{
    *holding = (struct holding){.text = ""};
    self_left(self, add_holder, holding);
    int64_t pins = self_pins(self);
    if (pins > 0)
        add_holder("pins", (uint32_t)pins, holding);
    for (uint32_t i = 0; i < self->holder_count; i++) {
        int64_t count = __atomic_load_n(&self->holders[i].count, __ATOMIC_RELAXED);
        if (count > 0)
            add_holder(self->holders[i].name, (uint32_t)count, holding);
    }
}

static bool is_free(struct ending *ending)
{
    return thread_has_passed(ending->barrier) && self_left(ending->module->self, NULL, NULL) == 0 &&
           self_pins(ending->module->self) == 0;
}

/* ---- phases ---- */

static void begin_drain(struct ending *ending)
{
    struct module *module = ending->module;
    module_set_state(module, SELF_DRAINING);
    self_end(module->self, SELF_INTAKE);
    control_sweep(module->self);
    (void)snapshot_publish(NULL);
    module_life_drain(module);
    ending->barrier = thread_barrier();
    ending->deadline = ending->drain_deadline;
}

static bool is_drained(struct ending *ending)
{
    struct holding holding;
    if (!thread_has_passed(ending->barrier))
        return false;
    find_holders(ending->module->self, &holding);
    return holding.count == 0;
}

static void begin_cut(struct ending *ending)
{
    struct module *module = ending->module;
    struct holding holding;
    find_holders(module->self, &holding);
    if (holding.count > 0 && module->reason.status == IMP_OK)
        imp_log(NULL, IMP_LOG_WARNING, "module.cut", "module=%s %s", module->name, holding.text);
    self_end(module->self, SELF_CUT);
    hook_cut(module->self);
    (void)snapshot_publish(NULL);
    ending->barrier = thread_barrier();
    ending->deadline = imp_ticks() + module_context.settings.stop_timeout_us;
}

static void begin_stop(struct ending *ending)
{
    module_life_leave_loops(ending->module);
    module_life_stop(ending->module);
    module_set_state(ending->module, SELF_STOPPED);
}

static void begin_sweep(struct ending *ending)
{
    struct imp_self *self = ending->module->self;
    self_end(self, SELF_SWEEP);
    control_sweep(self);
    metrics_sweep(self);
    if (store_current() != NULL)
        store_sweep(store_current(), self);
    hook_cut(self);
    hook_forget(self);
    (void)snapshot_publish(NULL);
    ending->barrier = thread_barrier();
    ending->deadline = imp_ticks() + module_context.settings.stop_timeout_us;
}

static void begin_unmap(struct ending *ending)
{
    struct module *module = ending->module;
    module_life_ended(module);
    module_life_unwind(module);
    if (module->is_still_mapped) {
        imp_error_set(&module->reason, IMP_BUSY, "stopped, but something keeps its file mapped");
        module_set_state(module, SELF_ZOMBIE);
    } else {
        module_set_state(module, module->reason.status == IMP_OK ? SELF_UNMAPPED : SELF_FAILED);
    }
}

static void become_zombie(struct module *module)
{
    struct holding holding;
    find_holders(module->self, &holding);
    imp_error_set(&module->reason, IMP_BUSY, "still held (%s)",
                  holding.length > 0 ? holding.text : "a thread has not come out of it");
    module_set_state(module, SELF_ZOMBIE);
    imp_log(NULL, IMP_LOG_ERROR, "module.zombie", "module=%s generation=%u reason=\"%s\"",
            module->name, module->generation, module->reason.message);
}

static const struct end_row ROWS[] = {
    [END_DRAIN] = {begin_drain, is_drained, END_CUT, END_CUT},
    [END_CUT] = {begin_cut, is_free, END_STOP, END_OVER},
    [END_STOP] = {begin_stop, NULL, END_SWEEP, END_OVER},
    [END_SWEEP] = {begin_sweep, is_free, END_UNMAP, END_OVER},
    [END_UNMAP] = {begin_unmap, NULL, END_OVER, END_OVER},
};

static void over(struct ending *ending)
{
    void (*done)(void *arg) = ending->done;
    void *arg = ending->arg;
    imp_timer_cancel(ending->timer);
    ending->module->is_ending = false;
    free(ending);
    done(arg);
}

static void enter(struct ending *ending, enum end_phase phase)
{
    ending->phase = phase;
    while (ending->phase != END_OVER) {
        const struct end_row *row = &ROWS[ending->phase];
        row->begin(ending);
        if (row->is_over != NULL)
            return;
        ending->phase = row->next;
    }
}

static void look(void *arg)
{
    struct ending *ending = arg;
    if (ending->phase != END_OVER) {
        const struct end_row *row = &ROWS[ending->phase];
        if (row->is_over(ending)) {
            enter(ending, row->next);
        } else if (imp_ticks() >= ending->deadline) {
            if (row->late == END_OVER)
                become_zombie(ending->module);
            enter(ending, row->late);
        }
    }
    if (ending->phase == END_OVER)
        over(ending);
}

void module_end_begin(struct module *module, int64_t deadline, void (*done)(void *arg), void *arg)
{
    struct ending *ending = calloc(1, sizeof(*ending));
    if (ending != NULL)
        ending->timer = imp_timer_start(NULL, LOOK_INTERVAL, true, look, ending);
    if (ending == NULL || ending->timer == NULL) {
        free(ending);
        imp_error_set(&module->reason, IMP_LIMIT, "memory is short, so it can't be ended");
        module_set_state(module, SELF_ZOMBIE);
        done(arg);
        return;
    }
    ending->module = module;
    ending->drain_deadline = deadline;
    ending->done = done;
    ending->arg = arg;
    module->is_ending = true;
    if (module_life_end_from(module) == LIFE_END_SWEEP)
        enter(ending, END_SWEEP);
    else
        enter(ending, imp_ticks() < deadline ? END_DRAIN : END_CUT);
}

static void note_end(void *arg)
{
    *(bool *)arg = true;
}

void module_end_now(struct module *module)
{
    bool is_over = false;
    module_end_begin(module, imp_ticks(), note_end, &is_over);
    while (!is_over)
        loop_run_once(imp_loop_control(), true);
}
