/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop-object.c - what belongs to whom on the loops, and how a generation's part of it ends.
 *
 * Each loop lists its streams, timers and works, and counts them and the posts by generation. The
 * counts are what self_left() sees: a generation is done with the loops when all are 0 and no sweep
 * is on its way.
 */
#include "build-config.h"

#include "core/loop-private.h"

#include <stdlib.h>

/* What was done to the generation in a slot: its number and the stage, so that the next generation in
 * the slot starts clean without anyone resetting it. */
#define STAGE_CUT 1u
#define STAGE_SWEPT 2u
static _Atomic uint64_t stages[SELF_MAX];
static _Atomic uint32_t sweeps_under_way[SELF_MAX];
static loop_object_end ends[LOOP_OBJECT_KINDS];

struct sweep {
    struct loop_post post;
    imp_loop *loop;
    imp_self *self;
    bool may_call;
};

static uint64_t stage_of(const imp_self *self)
{
    uint64_t word = atomic_load(&stages[self->slot]);
    return word >> 2 == self->generation ? word & 3u : 0;
}

bool loop_self_is_swept(const imp_self *self)
{
    return stage_of(self) == STAGE_SWEPT;
}

bool loop_object_count_in(imp_loop *loop, imp_self *self, enum loop_object_kind kind)
{
    if (self == NULL)
        return true;
    atomic_fetch_add(&loop->counts[self->slot][kind], 1);
    if (stage_of(self) == 0)
        return true;
    loop_object_count_out(loop, self, kind);
    return false;
}

void loop_object_count_out(imp_loop *loop, imp_self *self, enum loop_object_kind kind)
{
    if (self != NULL)
        atomic_fetch_sub(&loop->counts[self->slot][kind], 1);
}

void loop_object_set_end(enum loop_object_kind kind, loop_object_end end)
{
    /* Every caller sets the same function; loops may do it at the same time. */
    __atomic_store_n(&ends[kind], end, __ATOMIC_RELAXED);
}

bool loop_object_add(imp_loop *loop, struct loop_object *object, imp_self *self,
                     enum loop_object_kind kind)
{
    if (!loop_object_count_in(loop, self, kind))
        return false;
    object->loop = loop;
    object->self = self;
    object->kind = kind;
    object->is_silent = false;
    object->next = &loop->objects;
    object->previous = loop->objects.previous;
    object->previous->next = object;
    loop->objects.previous = object;
    return true;
}

void loop_object_remove(struct loop_object *object)
{
    if (object->next == NULL)
        return;
    object->previous->next = object->next;
    object->next->previous = object->previous;
    object->next = object->previous = NULL;
    if (!object->is_silent)
        loop_object_count_out(object->loop, object->self, object->kind);
}

void loop_object_silence(struct loop_object *object)
{
    object->is_silent = true;
    loop_object_count_out(object->loop, object->self, object->kind);
}

bool loop_object_give(struct loop_object *object, imp_self *self)
{
    if (!loop_object_count_in(object->loop, self, object->kind))
        return false;
    loop_object_count_out(object->loop, object->self, object->kind);
    object->self = self;
    return true;
}

uint32_t loop_object_count(const imp_self *self, enum loop_object_kind kind)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < loop_total(); i++)
        sum += atomic_load(&loop_get(i)->counts[self->slot][kind]);
    return sum;
}

/* ---- ending ---- */

static void link_before(struct loop_object *next, struct loop_object *object)
{
    object->next = next;
    object->previous = next->previous;
    object->previous->next = object;
    next->previous = object;
}

static void unlink_object(struct loop_object *object)
{
    object->previous->next = object->next;
    object->next->previous = object->previous;
}

/* Ends all objects, or those of one generation, that are there now. An end may call into a module,
 * and what it calls may end others and make new ones: so a marker stands behind the last one of now,
 * and a cursor keeps the place while an object and perhaps its neighbours go. */
static void objects_end(imp_loop *loop, bool is_all, const imp_self *self, bool may_call)
{
    struct loop_object *marker = &loop->walk_marker, *cursor = &loop->walk_cursor;

    marker->kind = cursor->kind = LOOP_OBJECT_KINDS;
    link_before(&loop->objects, marker);
    for (struct loop_object *object = loop->objects.next; object != marker;) {
        struct loop_object *next = object->next;
        if (is_all || object->self == self) {
            link_before(next, cursor);
            ends[object->kind](object, may_call);
            next = cursor->next;
            unlink_object(cursor);
        }
        object = next;
    }
    unlink_object(marker);
}

void loop_objects_end_all(imp_loop *loop)
{
    objects_end(loop, true, NULL, true);
    objects_end(loop, true, NULL, true); /* what has only gone silent */
}

static void sweep_run(void *arg)
{
    struct sweep *sweep = arg;
    objects_end(sweep->loop, false, sweep->self, sweep->may_call);
    atomic_fetch_sub(&sweeps_under_way[sweep->self->slot], 1);
    free(sweep);
}

/* The stage holds from now on, on every loop; the loops end their objects when the post comes. */
static void sweeper_end(imp_self *self, enum self_stage stage)
{
    if (stage == SELF_INTAKE)
        return;
    uint64_t word = stage == SELF_CUT ? STAGE_CUT : STAGE_SWEPT;
    atomic_store(&stages[self->slot], (uint64_t)self->generation << 2 | word);
    for (uint32_t i = 0; i < loop_total(); i++) {
        struct sweep *sweep = calloc(1, sizeof *sweep);
        if (sweep == NULL)
            continue; /* what is left keeps its count, so the generation is kept: a zombie */
        sweep->loop = loop_get(i);
        sweep->self = self;
        sweep->may_call = stage == SELF_CUT;
        sweep->post.fn = sweep_run;
        sweep->post.arg = sweep;
        atomic_fetch_add(&sweeps_under_way[self->slot], 1);
        if (!loop_post_node(sweep->loop, &sweep->post)) {
            atomic_fetch_sub(&sweeps_under_way[self->slot], 1);
            free(sweep);
        }
    }
}

static void sweeper_end_elsewhere(imp_self *self, enum self_stage stage)
{
    (void)self; /* the streams' sweeper ends all kinds */
    (void)stage;
}

static uint32_t streams_left(imp_self *self)
{
    return loop_object_count(self, LOOP_OBJECT_STREAM);
}

static uint32_t timers_left(imp_self *self)
{
    return loop_object_count(self, LOOP_OBJECT_TIMER);
}

static uint32_t works_left(imp_self *self)
{
    return loop_object_count(self, LOOP_OBJECT_WORK);
}

static uint32_t posts_left(imp_self *self)
{
    return loop_object_count(self, LOOP_OBJECT_POST) + atomic_load(&sweeps_under_way[self->slot]);
}

static struct self_sweeper sweepers[LOOP_OBJECT_KINDS] = {
    {.name = "stream", .end = sweeper_end, .count = streams_left},
    {.name = "timer", .end = sweeper_end_elsewhere, .count = timers_left},
    {.name = "work", .end = sweeper_end_elsewhere, .count = works_left},
    {.name = "post", .end = sweeper_end_elsewhere, .count = posts_left},
};

void loop_objects_setup(void)
{
    static bool is_known; /* sweepers stay for the process's life */
    if (is_known)
        return;
    is_known = true;
    for (size_t i = 0; i < LOOP_OBJECT_KINDS; i++)
        self_sweeper_add(&sweepers[i]);
}
