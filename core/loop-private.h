/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop-private.h - what loop.c, loop-timer.c and loop-object.c share of a loop.
 */
#ifndef IMPRIMATUR_CORE_LOOP_PRIVATE_H
#define IMPRIMATUR_CORE_LOOP_PRIVATE_H

#include "core/loop.h"
#include "core/self.h"

#include <pthread.h>
#include <stdatomic.h>

struct event_base;
struct event;

struct imp_loop {
    struct event_base *base;
    struct event *wake_event;  /* wake_fd */
    struct event *sleep_event; /* ends the poll when the first timer is due */
    int64_t sleep_until;       /* what sleep_event is armed for; 0 = nothing */
    int wake_fd;               /* an eventfd, watched for edges: it is never read */
    uint32_t index;
    pthread_t thread;
    bool has_thread;
    bool is_stopping;       /* its thread ends after this turn */
    bool is_tick_stale;     /* the poll may have slept since `ticks` was read */
    _Atomic bool is_broken; /* loop_break */
    int64_t ticks;

    /* What others posted: newest first, taken as a whole by the loop. POST_CLOSED ends it. */
    _Atomic(struct loop_post *) inbox;

    struct loop_timer **timers; /* a binary heap from [1], the earliest first */
    uint32_t timer_count, timer_room;

    struct loop_ready ready;                     /* list head */
    struct loop_object objects;                  /* list head */
    struct loop_object walk_marker, walk_cursor; /* of objects_end */

    void *scratch;
    size_t scratch_size;

    _Atomic uint32_t load;
    /* Objects of each generation (by self->slot) and kind. Posts are added by other threads. */
    _Atomic uint32_t counts[SELF_MAX][LOOP_OBJECT_KINDS];
};

/* All loops, control last; NULL behind. */
uint32_t loop_total(void);
imp_loop *loop_get(uint32_t place);

/* loop-timer.c */
bool loop_timers_run(imp_loop *loop);
void loop_timers_free(imp_loop *loop);

/* loop-object.c */
void loop_objects_setup(void);
/* Ends everything on this loop, the core's objects too (end of process). */
void loop_objects_end_all(imp_loop *loop);
/* False: the generation is past SELF_CUT. Counts before it looks, so that whoever sees a count of 0
 * after SELF_CUT knows that nothing will come. */
bool loop_object_count_in(imp_loop *loop, imp_self *self, enum loop_object_kind kind);
void loop_object_count_out(imp_loop *loop, imp_self *self, enum loop_object_kind kind);
/* SELF_SWEEP was reached: no callback may go into this generation any more. */
bool loop_self_is_swept(const imp_self *self);

#endif
