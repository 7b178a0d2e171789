/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - what the core knows of each of its threads: index, quiescent points, object at hand.
 *
 * Services and hooks are found through an immutable snapshot that the control thread replaces as a
 * whole. Every thread remembers the snapshot it uses, and takes the newest one at its quiescent points:
 * whenever no module is on its stack. module_call_begin() at depth 0 is one, so a callback into a
 * module always sees the newest snapshot; the top of a loop's iteration, a worker between two works and
 * the writer between two batches are the others (thread_quiescent). A thread that sleeps outside of any
 * module says so (thread_idle_begin/end) or has a `wake` that makes it pass a quiescent point. What a
 * replaced snapshot or an ended generation leaves behind is freed when all threads have passed.
 *
 * Registering also claims the thread's place in the crash record (crash-record.h).
 */
#ifndef CORE_THREAD_H
#define CORE_THREAD_H

#include <imprimatur/base.h>

/* Registered threads at one time: LOOP_COUNT_MAX, WORKER_COUNT_MAX, writer and control. */
#define THREAD_MAX 384u

enum thread_kind { THREAD_CONTROL, THREAD_LOOP, THREAD_WORKER, THREAD_WRITER, THREAD_KIND_COUNT };

struct thread;

/* Registers the calling thread. `number` tells threads of a kind apart ("loop 3"). `wake` (may be
 * NULL, for threads that use thread_idle_begin) makes the thread pass a quiescent point soon; it is
 * called on the control thread and must not call back into this file. The process ends when THREAD_MAX is passed: the settings that make
 * threads have ranges below it. */
struct thread *thread_register(enum thread_kind kind, uint32_t number, void (*wake)(void *arg),
                               void *arg);
/* The calling thread ends; no module may be on its stack. */
void thread_unregister(void);
/* NULL on threads that are not registered. */
struct thread *thread_current(void);
/* Below THREAD_MAX and unique among living threads; 0 for unregistered ones. */
uint32_t thread_index(void);
const char *thread_kind_name(enum thread_kind kind);

/* No module is on this thread's stack and nothing of a snapshot is in use: takes the newest snapshot
 * and beats the thread's heart. Cheap enough for every iteration. */
void thread_quiescent(void);
/* Between the two the thread sleeps and touches no module and no snapshot (pthread_cond_wait, poll). */
void thread_idle_begin(void);
void thread_idle_end(void);

/* Calls `fn(arg)` on the control thread, from a later thread_quiescent of it, when every thread has
 * passed a quiescent point after this call. In order of deferral. Control thread. */
void thread_defer(void (*fn)(void *arg), void *arg);
/* A number that thread_has_passed() takes; wakes the threads that sleep. Control thread. */
uint64_t thread_barrier(void);
bool thread_has_passed(uint64_t barrier);
/* Waits for a barrier, for at most `timeout_us`; false when a thread did not pass. Control thread. */
bool thread_wait_passed(int64_t timeout_us);

#endif
