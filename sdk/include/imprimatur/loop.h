/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - event loops, timers, posting between loops, and the worker pool.
 *
 * Each loop is one thread; a connection stays on its loop for life. Callbacks on a loop never block:
 * no disk, no name look-up, no lock held across a call into another module. Blocking work goes to
 * imp_work(). Everything started here belongs to the module's generation: the core ends what is left
 * when the generation ends.
 */
#ifndef IMPRIMATUR_LOOP_H
#define IMPRIMATUR_LOOP_H

#include <imprimatur/base.h>

typedef struct imp_loop imp_loop;
typedef struct imp_timer imp_timer;
typedef struct imp_work_token imp_work_token;

/* The loop whose thread this is (the control thread has one too); NULL on workers and the writer. */
IMP_PUBLIC imp_loop *imp_loop_current(void);
/* The control thread's loop: where start, stop and control requests run. Any thread. */
IMP_PUBLIC imp_loop *imp_loop_control(void);
/* The number of loops that carry connections. Any thread. */
IMP_PUBLIC uint32_t imp_loop_count(void);
/* One of them, 0..count-1. Any thread. */
IMP_PUBLIC imp_loop *imp_loop_at(uint32_t index);
/* The index of a loop, 0..count-1; the control loop has index count. */
IMP_PUBLIC uint32_t imp_loop_index(const imp_loop *loop);

/* Calls `fn(arg)` once on `loop`, in the order of posting from one thread. Any thread. IMP_LIMIT when
 * memory is short, IMP_UNAVAILABLE when the loop is ending; then fn is not called. */
IMP_PUBLIC imp_status imp_post(imp_self *self, imp_loop *loop, void (*fn)(void *arg), void *arg)
    IMP_MUST_CHECK;

/* A timer on the current loop: calls `fn(arg)` after `delay_us`; with `is_periodic` again and again.
 * NULL when memory is short. A one-shot timer is gone when fn is called; none fires during or after
 * stop(). Loop threads. */
IMP_PUBLIC imp_timer *imp_timer_start(imp_self *self, int64_t delay_us, bool is_periodic,
                                      void (*fn)(void *arg), void *arg);
/* Ends a timer before it fired (NULL is ignored); fn is not called after this. On the timer's own
 * loop only. */
IMP_PUBLIC void imp_timer_cancel(imp_timer *timer);

/* Runs `run(arg)` on a worker, then `done(arg, was_cancelled)` on the calling loop. `done` always
 * runs exactly once, cancelled or not; `was_cancelled` is true exactly when `run` did not run: a work
 * that a worker has already taken runs to its end, or until it asks imp_work_is_cancelled. NULL (and neither is called) when the queue is full (`worker_queue`) or memory is short. Loop
 * threads. */
IMP_PUBLIC imp_work_token *imp_work(imp_self *self, void (*run)(void *arg),
                                    void (*done)(void *arg, bool was_cancelled), void *arg)
    IMP_MUST_CHECK;
/* Asks that the work be dropped; idempotent until `done` has run. On the loop that called imp_work. */
IMP_PUBLIC void imp_work_cancel(imp_work_token *token);
/* Within `run`: true once the work was cancelled, its module is cut off, or the server ends. What takes
 * more than a second asks now and then, and returns early: a work that is still running when the server
 * has nothing else to end for is waited for five seconds and then left behind. False on a thread that
 * runs no work. Any thread; costs two loads. */
IMP_PUBLIC bool imp_work_is_cancelled(void);

#endif
