/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop-timer.c - a loop's timers: a binary heap by due time, and the modules' timers on it.
 */
#include "build-config.h"

#include "core/loop-private.h"
#include "core/module.h"

#include <stdlib.h>

#define TIMER_ROOM_FIRST 64u

struct imp_timer {
    struct loop_object object;
    struct loop_timer timer;
    int64_t period; /* 0 = one shot */
    bool is_called; /* its fn is on the stack */
    bool is_cancelled;
    void (*fn)(void *arg);
    void *arg;
};

#define TIMER_OF(pointer, member)                                                                  \
    ((imp_timer *)(void *)((char *)(pointer)-offsetof(imp_timer, member)))

/* ---- the heap ---- */

static void heap_put(imp_loop *loop, uint32_t place, struct loop_timer *timer)
{
    loop->timers[place] = timer;
    timer->place = place;
}

static void heap_up(imp_loop *loop, uint32_t place, struct loop_timer *timer)
{
    while (place > 1 && loop->timers[place / 2]->due > timer->due) {
        heap_put(loop, place, loop->timers[place / 2]);
        place /= 2;
    }
    heap_put(loop, place, timer);
}

static void heap_down(imp_loop *loop, uint32_t place, struct loop_timer *timer)
{
    for (;;) {
        uint32_t child = place * 2;
        if (child > loop->timer_count)
            break;
        if (child < loop->timer_count && loop->timers[child + 1]->due < loop->timers[child]->due)
            child++;
        if (loop->timers[child]->due >= timer->due)
            break;
        heap_put(loop, place, loop->timers[child]);
        place = child;
    }
    heap_put(loop, place, timer);
}

static void heap_settle(imp_loop *loop, struct loop_timer *timer)
{
    if (timer->place > 1 && loop->timers[timer->place / 2]->due > timer->due)
        heap_up(loop, timer->place, timer);
    else
        heap_down(loop, timer->place, timer);
}

bool loop_timer_arm(imp_loop *loop, struct loop_timer *timer, int64_t due)
{
    timer->due = due;
    if (timer->place != 0) {
        heap_settle(loop, timer);
        return true;
    }
    if (loop->timer_count + 1 >= loop->timer_room) {
        uint32_t room = loop->timer_room == 0 ? TIMER_ROOM_FIRST : loop->timer_room * 2;
        struct loop_timer **timers = realloc(loop->timers, room * sizeof *timers);
        if (timers == NULL)
            return false;
        loop->timers = timers;
        loop->timer_room = room;
    }
    heap_up(loop, ++loop->timer_count, timer);
    return true;
}

void loop_timer_disarm(imp_loop *loop, struct loop_timer *timer)
{
    uint32_t place = timer->place;
    if (place == 0)
        return;
    struct loop_timer *last = loop->timers[loop->timer_count--];
    timer->place = 0;
    if (last != timer) {
        heap_put(loop, place, last);
        heap_settle(loop, last);
    }
}

bool loop_timers_run(imp_loop *loop)
{
    bool did = false;
    /* A timer that is armed anew for now waits for the next turn. */
    for (uint32_t left = loop->timer_count; left > 0; left--) {
        struct loop_timer *timer = loop->timer_count > 0 ? loop->timers[1] : NULL;
        if (timer == NULL || timer->due > loop->ticks)
            break;
        loop_timer_disarm(loop, timer);
        timer->fn(timer);
        did = true;
    }
    return did;
}

void loop_timers_free(imp_loop *loop)
{
    free(loop->timers);
    loop->timers = NULL;
    loop->timer_count = loop->timer_room = 0;
}

/* ---- modules' timers ---- */

static void timer_free(imp_timer *timer)
{
    loop_timer_disarm(timer->object.loop, &timer->timer);
    loop_object_remove(&timer->object);
    free(timer);
}

static void timer_fired(struct loop_timer *node)
{
    imp_timer *timer = TIMER_OF(node, timer);
    imp_self *self = timer->object.self;
    void (*fn)(void *) = timer->fn;
    void *arg = timer->arg;

    if (timer->period == 0) {
        module_call_begin(self);
        timer_free(timer);
        fn(arg);
        module_call_end(self);
        return;
    }
    imp_loop *loop = timer->object.loop;
    int64_t due = node->due + timer->period;
    if (due <= loop->ticks) /* turns were missed: they are not made up for */
        due = loop->ticks + timer->period;
    /* There is room: this timer has just left the heap. */
    loop_timer_arm(loop, node, due);
    timer->is_called = true;
    module_call_begin(self);
    fn(arg);
    module_call_end(self);
    timer->is_called = false;
    if (timer->is_cancelled)
        timer_free(timer);
}

/* At SELF_CUT a module's timer goes silent but stays until SELF_SWEEP: what is closed meanwhile, and
 * stop() itself, may still cancel it. */
static void timer_end(struct loop_object *object, bool may_call)
{
    imp_timer *timer = TIMER_OF(object, object);
    if (!may_call || object->self == NULL || object->is_silent) {
        imp_timer_cancel(timer);
        return;
    }
    loop_timer_disarm(object->loop, &timer->timer);
    loop_object_silence(object);
}

imp_timer *imp_timer_start(imp_self *self, int64_t delay_us, bool is_periodic,
                           void (*fn)(void *arg), void *arg)
{
    imp_loop *loop = imp_loop_current();
    if (loop == NULL)
        return NULL;
    imp_timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL)
        return NULL;
    if (delay_us < 0)
        delay_us = 0;
    timer->timer.fn = timer_fired;
    timer->fn = fn;
    timer->arg = arg;
    /* A period of nothing would keep the loop from everything else. */
    timer->period = !is_periodic ? 0 : delay_us > IMP_MILLISECOND ? delay_us : IMP_MILLISECOND;
    if (!loop_timer_arm(loop, &timer->timer, imp_ticks() + delay_us)) {
        free(timer);
        return NULL;
    }
    loop_object_set_end(LOOP_OBJECT_TIMER, timer_end);
    if (!loop_object_add(loop, &timer->object, self, LOOP_OBJECT_TIMER)) {
        loop_timer_disarm(loop, &timer->timer);
        free(timer);
        return NULL;
    }
    return timer;
}

void imp_timer_cancel(imp_timer *timer)
{
    if (timer == NULL)
        return;
    if (timer->is_called) {
        timer->is_cancelled = true;
        loop_timer_disarm(timer->object.loop, &timer->timer);
        return;
    }
    timer_free(timer);
}
