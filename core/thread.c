/* SPDX-License-Identifier: Apache-2.0 */
#include "core/thread.h"

#include <imprimatur/log.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "core/crash-record.h"
#include "core/module.h"
#include "core/snapshot.h"
#include "core/thread-private.h"

/* A thread that sleeps or has ended has passed every barrier. */
#define SEEN_ALL UINT64_MAX

/* How often thread_wait_passed looks. */
#define WAIT_STEP_NS 200000L

struct thread {
    enum thread_kind kind;
    uint32_t number, index;
    void (*wake)(void *arg);
    void *wake_arg;
    /* The barrier number that this thread has passed; written by the thread. */
    uint64_t seen;
    const struct snapshot *snapshot;
    uint32_t depth; /* calls into modules that are on its stack */
    bool is_used;   /* under `lock` */
};

struct deferred {
    struct deferred *next;
    uint64_t barrier;
    void (*fn)(void *arg);
    void *arg;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Places are never given back to the system; place 0 stays free: index 0 means "not registered". */
static struct thread threads[THREAD_MAX];
static uint32_t thread_limit = 1; /* places below it were used; under `lock` */
static uint64_t barrier_number = 1;

/* Of the control thread alone. */
static struct deferred *deferred_first, **deferred_end = &deferred_first;

/* libimprimatur is loaded with the program, never by dlopen, so the fast form is safe. */
static _Thread_local struct thread *current __attribute__((tls_model("initial-exec")));

static const char *const KIND_NAMES[THREAD_KIND_COUNT] = {
    [THREAD_CONTROL] = "control",
    [THREAD_LOOP] = "loop",
    [THREAD_WORKER] = "worker",
    [THREAD_WRITER] = "writer",
};
static const uint32_t CRASH_KINDS[THREAD_KIND_COUNT] = {
    [THREAD_CONTROL] = CRASH_THREAD_CONTROL,
    [THREAD_LOOP] = CRASH_THREAD_LOOP,
    [THREAD_WORKER] = CRASH_THREAD_WORKER,
    [THREAD_WRITER] = CRASH_THREAD_WRITER,
};

/* The thread has been away (or was never there): everything may have been replaced meanwhile. The
 * exchange and the control thread's accesses are sequentially consistent, so either the control thread
 * sees that we are back, or we see its newest snapshot. */
static void come_back(struct thread *thread)
{
    uint64_t number = __atomic_load_n(&barrier_number, __ATOMIC_SEQ_CST);
    __atomic_exchange_n(&thread->seen, number, __ATOMIC_SEQ_CST);
    thread->snapshot = snapshot_newest();
}

struct thread *thread_register(enum thread_kind kind, uint32_t number, void (*wake)(void *arg),
                               void *arg)
{
    if (current != NULL)
        return current;
    pthread_mutex_lock(&lock);
    uint32_t index = 1;
    while (index < THREAD_MAX && threads[index].is_used)
        index++;
    if (index == THREAD_MAX) {
        pthread_mutex_unlock(&lock);
        imp_log(NULL, IMP_LOG_CRITICAL, "thread.limit", "threads=%u", THREAD_MAX - 1);
        abort();
    }
    struct thread *thread = &threads[index];
    thread->kind = kind;
    thread->number = number;
    thread->index = index;
    thread->wake = wake;
    thread->wake_arg = arg;
    thread->depth = 0;
    thread->is_used = true;
    come_back(thread);
    if (index >= thread_limit)
        thread_limit = index + 1;
    pthread_mutex_unlock(&lock);
    current = thread;

    imp_error error;
    if (crash_thread_begin(CRASH_KINDS[kind], number, &error) != IMP_OK)
        imp_log(NULL, IMP_LOG_WARNING, "thread.unseen", "thread=%s-%u reason=\"%s\"",
                KIND_NAMES[kind], number, error.message);
    return thread;
}

void thread_unregister(void)
{
    struct thread *thread = current;
    if (thread == NULL)
        return;
    crash_thread_end();
    current = NULL;
    pthread_mutex_lock(&lock);
    thread->snapshot = NULL;
    __atomic_store_n(&thread->seen, SEEN_ALL, __ATOMIC_SEQ_CST);
    thread->is_used = false;
    pthread_mutex_unlock(&lock);
}

struct thread *thread_current(void)
{
    return current;
}

uint32_t thread_index(void)
{
    return current != NULL ? current->index : 0;
}

const char *thread_kind_name(enum thread_kind kind)
{
    return KIND_NAMES[kind];
}

/* ---- quiescent points ---- */

/* Nothing of the snapshot is in use on this thread. */
static void refresh(struct thread *thread)
{
    uint64_t number = __atomic_load_n(&barrier_number, __ATOMIC_ACQUIRE);
    if (number == __atomic_load_n(&thread->seen, __ATOMIC_RELAXED))
        return;
    thread->snapshot = snapshot_newest();
    __atomic_store_n(&thread->seen, number, __ATOMIC_RELEASE);
}

static void run_deferred(void)
{
    while (deferred_first != NULL && thread_has_passed(deferred_first->barrier)) {
        struct deferred *first = deferred_first;
        deferred_first = first->next;
        if (deferred_first == NULL)
            deferred_end = &deferred_first;
        first->fn(first->arg);
        free(first);
    }
}

void thread_quiescent(void)
{
    struct thread *thread = current;
    if (thread == NULL || thread->depth != 0)
        return;
    refresh(thread);
    if (thread->kind == THREAD_CONTROL && deferred_first != NULL)
        run_deferred();
    if (thread->kind != THREAD_WORKER)
        crash_beat();
}

void thread_idle_begin(void)
{
    struct thread *thread = current;
    if (thread != NULL && thread->depth == 0)
        __atomic_store_n(&thread->seen, SEEN_ALL, __ATOMIC_SEQ_CST);
    /* The writer waits for closures, which may never come; loops wake up to beat. */
    if (thread != NULL && thread->kind == THREAD_WRITER)
        crash_beat_rest();
}

void thread_idle_end(void)
{
    struct thread *thread = current;
    if (thread != NULL && thread->depth == 0)
        come_back(thread);
}

/* ---- barriers ---- */

uint64_t thread_barrier(void)
{
    uint64_t number = __atomic_add_fetch(&barrier_number, 1, __ATOMIC_SEQ_CST);
    if (current != NULL && current->depth == 0)
        refresh(current);
    pthread_mutex_lock(&lock);
    for (uint32_t i = 1; i < thread_limit; i++) {
        struct thread *thread = &threads[i];
        if (thread->is_used && thread != current && thread->wake != NULL &&
            __atomic_load_n(&thread->seen, __ATOMIC_SEQ_CST) < number)
            thread->wake(thread->wake_arg);
    }
    pthread_mutex_unlock(&lock);
    return number;
}

bool thread_has_passed(uint64_t barrier)
{
    bool has_passed = true;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 1; has_passed && i < thread_limit; i++)
        has_passed =
            !threads[i].is_used || __atomic_load_n(&threads[i].seen, __ATOMIC_SEQ_CST) >= barrier;
    pthread_mutex_unlock(&lock);
    return has_passed;
}

bool thread_wait_passed(int64_t timeout_us)
{
    /* The real clock: a test's clock may stand still. */
    struct timespec now, step = {.tv_nsec = WAIT_STEP_NS};
    uint64_t barrier = thread_barrier();
    int64_t end = 0;
    for (;;) {
        if (thread_has_passed(barrier))
            return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t now_us = (int64_t)now.tv_sec * IMP_SECOND + now.tv_nsec / 1000;
        if (end == 0)
            end = now_us + timeout_us;
        if (now_us >= end)
            return false;
        nanosleep(&step, NULL);
    }
}

void thread_defer(void (*fn)(void *arg), void *arg)
{
    uint64_t barrier = thread_barrier();
    struct deferred *row = malloc(sizeof(*row));
    if (row == NULL) {
        /* The thing is lost until the process ends: better than using it after it was freed. */
        imp_log(NULL, IMP_LOG_ERROR, "thread.defer", "reason=\"memory is short\"");
        return;
    }
    *row = (struct deferred){.barrier = barrier, .fn = fn, .arg = arg};
    *deferred_end = row;
    deferred_end = &row->next;
}

/* ---- calls into modules ---- */

void thread_hold(void)
{
    if (current != NULL)
        current->depth++;
}

void thread_release(void)
{
    if (current != NULL)
        current->depth--;
}

const struct snapshot *thread_snapshot(void)
{
    struct thread *thread = current;
    if (thread == NULL)
        return NULL;
    if (thread->depth == 0)
        refresh(thread);
    return thread->snapshot;
}

void module_call_begin(struct imp_self *self)
{
    if (self == NULL)
        return;
    struct thread *thread = current;
    if (thread != NULL) {
        if (thread->depth == 0)
            refresh(thread);
        thread->depth++;
    }
    self_pin(self);
    crash_push(&self->crash);
}

void module_call_end(struct imp_self *self)
{
    if (self == NULL)
        return;
    crash_pop();
    if (current != NULL)
        current->depth--;
    /* Last: with the last pin the generation may go. */
    self_unpin(self);
}
