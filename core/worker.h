/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - the pool of threads behind imp_work(): what blocks runs there, its `done` on the loop
 * that asked.
 */
#ifndef IMPRIMATUR_CORE_WORKER_H
#define IMPRIMATUR_CORE_WORKER_H

#include <imprimatur/loop.h>

#define WORKER_COUNT_MAX 56u /* with LOOP_COUNT_MAX below THREAD_MAX of thread.h */
#define WORKER_QUEUE_DEFAULT 1024u
/* Workers run foreign code (name service switch, password hashing): twice a loop's stack. */
#define WORKER_STACK_SIZE ((size_t)512 * 1024)

/* Starts `count` threads (0: two per CPU, at least 4) with a queue of `queue_max` works (0:
 * WORKER_QUEUE_DEFAULT). After loop_setup. Control thread. */
imp_status worker_start(uint32_t count, uint32_t queue_max, imp_error *error);
/* Refuses new work from now on, cancels what waits, and lets running work know (imp_work_is_cancelled).
 * Control thread. */
void worker_refuse(void);
/* The same, then joins the threads, however long a running work takes: who can't wait looks at
 * worker_running() first. Every `done` was posted when it returns. Control thread, before loop_stop. */
void worker_stop(void);
/* Instead of it, in front of _exit: nobody will wait for the threads. Control thread. */
void worker_leave(void);
/* Works that wait for a thread; works that run. Any thread. */
uint32_t worker_waiting(void);
uint32_t worker_running(void);
/* Works that were taken and whose `done` has not returned. Any thread. */
uint32_t worker_unfinished(void);
/* Takes work again after worker_stop; loop_setup calls it. */
void worker_reopen(void);
bool worker_has_threads(void);
/* Runs one waiting work on the calling thread, for tests without threads. False when none waits. */
bool worker_run_one(void);

#endif
