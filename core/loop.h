/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - the event loops as the core sees them; the modules' part is <imprimatur/loop.h>.
 *
 * There is one control loop, on the thread that called loop_setup(), and L loops with a thread each.
 * libevent's event_core polls descriptors; posts, timers and the lists of what belongs to whom are
 * the core's own, so that a post costs no lock and tests can turn a loop by hand under a false clock.
 *
 * One turn of a loop: thread_quiescent(), posts that waited at its start, timers that are due,
 * descriptors that are ready, then what those made ready. A post from the loop itself runs in the
 * next turn, never inside the caller.
 *
 * Timers, posts, works and streams are counted per generation and loop (loop-object.c registers them
 * as sweepers, self.h). At SELF_CUT streams get closed(IMP_CLOSED_SHUTDOWN), works are cancelled and
 * get their done, timers go silent (and may still be cancelled); from then on the generation can
 * start nothing new. At SELF_SWEEP what is left goes without a callback.
 *
 * Life: loop_setup -> loop_start -> loop_run (control thread, returns after loop_break) ->
 * worker_stop -> loop_stop -> loop_teardown.
 */
#ifndef IMPRIMATUR_CORE_LOOP_H
#define IMPRIMATUR_CORE_LOOP_H

#include <imprimatur/loop.h>

struct loop_object;

#define LOOP_COUNT_MAX 64u
/* Loops and workers run shallow code; the unused part of a stack costs address space only, but a
 * small one keeps a runaway recursion from eating memory first. */
#define LOOP_STACK_SIZE ((size_t)256 * 1024)
/* A loop turns at least this often, so that its heart is seen to beat (thread_quiescent). */
#define LOOP_HEARTBEAT_INTERVAL IMP_SECOND

/* ---- life of all loops ---- */

/* Makes the control loop for this thread and `count` more (0: one per CPU, at least 2, at most
 * LOOP_COUNT_MAX). Bounds the number of malloc arenas. Once per process, or again after
 * loop_teardown. */
imp_status loop_setup(uint32_t count, imp_error *error);
/* For unit tests: one loop that is control loop and loop 0 at once, no threads; loop_run_once turns
 * it. Works run inside loop_run_once as well unless worker_start was called. */
imp_status loop_setup_for_test(imp_error *error);
/* Starts the loops' threads. Control thread. */
imp_status loop_start(imp_error *error);
/* Turns a loop of this thread (the control loop) until loop_break. */
void loop_run(imp_loop *loop);
/* Makes loop_run return after the turn. Any thread. */
void loop_break(imp_loop *loop);
/* Ends everything that is left on every loop (streams are closed with IMP_CLOSED_SHUTDOWN), runs the
 * posts that wait, refuses new ones, and joins the threads. Control thread. */
void loop_stop(void);
void loop_teardown(void);

/* One turn without sleeping (may_block false), or sleeping until something happens or a timer is due.
 * Returns true when anything was done. On the loop's thread. */
bool loop_run_once(imp_loop *loop, bool may_block);

/* The wall of this turn: imp_ticks() as read at its start. On the loop's thread. */
int64_t loop_ticks(const imp_loop *loop);

/* ---- posting ---- */

/* As imp_post, for the core itself. Any thread. */
imp_status loop_post_core(imp_loop *loop, void (*fn)(void *arg), void *arg) IMP_MUST_CHECK;

/* A post without an allocation: the node lies in the poster's own object, and must stay until fn is
 * called. False only when the loop has ended. Any thread. */
struct loop_post {
    struct loop_post *next;
    void (*fn)(void *arg);
    void *arg;
    imp_self *self; /* called under this generation's name; holds no pin by itself */
};
bool loop_post_node(imp_loop *loop, struct loop_post *node) IMP_MUST_CHECK;

/* ---- descriptors ---- */

typedef struct loop_watch loop_watch;
#define LOOP_READ 0x1u
#define LOOP_WRITE 0x2u
#define LOOP_EDGE 0x4u /* report changes only (edge-triggered) */

/* Calls `ready(fd, LOOP_READ|LOOP_WRITE bits, arg)` whenever the descriptor is ready; an error or
 * hang-up of the descriptor reports both. The descriptor stays the caller's. NULL when the system
 * refuses. On the loop's thread, or before loop_start. */
loop_watch *loop_watch_start(imp_loop *loop, int fd, uint32_t events,
                             void (*ready)(int fd, uint32_t events, void *arg), void *arg);
/* Changes what is waited for; 0 waits for nothing. */
imp_status loop_watch_set(loop_watch *watch, uint32_t events);
/* Before the descriptor is closed; also from within its own `ready`. NULL is ignored. */
void loop_watch_stop(loop_watch *watch);

/* Calls `fn(signal, arg)` on the control loop for a signal. Control thread. */
imp_status loop_signal(int signal_number, void (*fn)(int signal_number, void *arg), void *arg);

/* ---- timers that lie in the owner's own object ---- */

struct loop_timer {
    int64_t due;    /* ticks */
    uint32_t place; /* in the heap, from 1; 0 = not armed */
    void (*fn)(struct loop_timer *timer);
};
/* Arms (again) for the tick `due`. False when memory is short; then it is not armed. */
bool loop_timer_arm(imp_loop *loop, struct loop_timer *timer, int64_t due);
void loop_timer_disarm(imp_loop *loop, struct loop_timer *timer);

/* ---- what is to be looked at in this turn, whatever the poller says ---- */

struct loop_ready {
    struct loop_ready *next, *previous;
    void (*fn)(struct loop_ready *ready);
};
/* Queues it once; fn is called later in this turn or in the next one, never from within. */
void loop_ready_add(imp_loop *loop, struct loop_ready *ready);
void loop_ready_remove(struct loop_ready *ready);

/* ---- what belongs to a generation ---- */

enum loop_object_kind {
    LOOP_OBJECT_STREAM,
    LOOP_OBJECT_TIMER,
    LOOP_OBJECT_WORK,
    LOOP_OBJECT_POST, /* counted only, not listed */
    LOOP_OBJECT_KINDS
};
/* Ends an object at SELF_CUT (`may_call`: its last callback may still be called) or SELF_SWEEP. On
 * the object's loop, with no module on the stack. */
typedef void (*loop_object_end)(struct loop_object *object, bool may_call);
/* Set once by the file that makes the kind. */
void loop_object_set_end(enum loop_object_kind kind, loop_object_end end);

struct loop_object {
    struct loop_object *next, *previous;
    imp_loop *loop;
    imp_self *self; /* NULL: the core's */
    enum loop_object_kind kind;
    bool is_silent; /* past SELF_CUT: not counted any more, freed at SELF_SWEEP */
};
/* False when the generation is past SELF_CUT: then nothing was added. On the loop's thread. */
bool loop_object_add(imp_loop *loop, struct loop_object *object, imp_self *self,
                     enum loop_object_kind kind) IMP_MUST_CHECK;
void loop_object_remove(struct loop_object *object);
/* Takes it out of the counts; its owner may still remove it until SELF_SWEEP ends it. */
void loop_object_silence(struct loop_object *object);
/* Gives an object to another generation (a connection to its listener's module), or to the core
 * (NULL). False when the generation is past SELF_CUT: then it stays where it is. */
bool loop_object_give(struct loop_object *object, imp_self *self) IMP_MUST_CHECK;
/* Objects of this kind on all loops. Any thread. */
uint32_t loop_object_count(const imp_self *self, enum loop_object_kind kind);

/* Connections that a loop carries, as the acceptor balances by it. Any thread. */
uint32_t loop_load(const imp_loop *loop);
void loop_load_add(imp_loop *loop, int32_t amount);

/* The loop's shared read buffer, at least `size` bytes; its contents last until the next call. NULL
 * when memory is short. On the loop's thread. */
void *loop_scratch(imp_loop *loop, size_t size);

#endif
