/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - the pool behind imp_work(): a bounded queue, some threads, and the way back.
 *
 * A work is WAITING in the queue, RUNNING on a worker, or on its way back as a post to its loop, from
 * which `done` is called and the token freed. Cancelling takes a waiting one out of the queue and
 * sends it back; a running one just runs on. So there is exactly one post per work, whatever happens.
 */
#include "build-config.h"

#include "core/worker.h"

#include "core/loop.h"
#include "core/module.h"
#include "core/thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Much of what workers do is waiting for a disk: with one a processor they would idle meanwhile. */
#define WORKERS_PER_PROCESSOR 2u
#define WORKER_COUNT_MIN 4u

enum work_state { WORK_WAITING, WORK_RUNNING, WORK_BACK };

struct imp_work_token {
    struct loop_object object;
    struct loop_post post;
    imp_work_token *next, *previous; /* in the queue */
    enum work_state state;           /* under the pool's lock */
    bool was_cancelled;              /* run did not and will not run */
    _Atomic bool is_unwanted;        /* cancelled while it runs: run may ask */
    bool is_silent;                  /* the generation is swept: no `done` */
    void (*run)(void *arg);
    void (*done)(void *arg, bool was_cancelled);
    void *arg;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    imp_work_token *first, *last;
    uint32_t waiting, running;
    _Atomic uint32_t unfinished; /* taken, and their `done` has not returned */
    uint32_t queue_max;
    _Atomic bool is_stopping; /* written under the lock */
    pthread_t threads[WORKER_COUNT_MAX];
    uint32_t thread_count;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wanted = PTHREAD_COND_INITIALIZER,
          .queue_max = WORKER_QUEUE_DEFAULT};

/* What this thread runs. */
static _Thread_local imp_work_token *work_here;

/* ---- the queue; under the lock ---- */

static void queue_append(imp_work_token *token)
{
    token->next = NULL;
    token->previous = pool.last;
    if (pool.last != NULL)
        pool.last->next = token;
    else
        pool.first = token;
    pool.last = token;
    pool.waiting++;
}

static void queue_remove(imp_work_token *token)
{
    if (token->previous != NULL)
        token->previous->next = token->next;
    else
        pool.first = token->next;
    if (token->next != NULL)
        token->next->previous = token->previous;
    else
        pool.last = token->previous;
    token->next = token->previous = NULL;
    pool.waiting--;
}

/* ---- the way back ---- */

static void work_back(void *arg)
{
    imp_work_token *token = arg;
    imp_self *self = token->object.self;

    if (!token->is_silent) {
        module_call_begin(self);
        token->done(token->arg, token->was_cancelled);
        module_call_end(self);
    }
    loop_object_remove(&token->object);
    free(token);
    atomic_fetch_sub(&pool.unfinished, 1);
}

static void work_send_back(imp_work_token *token)
{
    token->post = (struct loop_post){.fn = work_back, .arg = token};
    /* Loops end after the pool has stopped, so the loop is there to take it. */
    bool was_taken = loop_post_node(token->object.loop, &token->post);
    (void)was_taken;
}

/* Takes the first waiting work and runs it. With the lock, which is given up meanwhile. */
static void work_run_first(void)
{
    imp_work_token *token = pool.first;

    queue_remove(token);
    token->state = WORK_RUNNING;
    pool.running++;
    pthread_mutex_unlock(&pool.lock);

    imp_self *self = token->object.self;
    imp_work_token *before = work_here;
    work_here = token;
    module_call_begin(self);
    token->run(token->arg);
    module_call_end(self);
    work_here = before;

    pthread_mutex_lock(&pool.lock);
    pool.running--;
    token->state = WORK_BACK;
    pthread_mutex_unlock(&pool.lock);
    work_send_back(token);
    pthread_mutex_lock(&pool.lock);
}

static void *worker_thread(void *arg)
{
    uint32_t number = (uint32_t)(uintptr_t)arg;
    char name[16];

    snprintf(name, sizeof name, "worker-%u", number);
    pthread_setname_np(pthread_self(), name);
    thread_register(THREAD_WORKER, number, NULL, NULL);
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        if (pool.first != NULL) {
            work_run_first();
            pthread_mutex_unlock(&pool.lock);
            thread_quiescent();
            pthread_mutex_lock(&pool.lock);
            continue;
        }
        if (pool.is_stopping)
            break;
        thread_idle_begin();
        pthread_cond_wait(&pool.wanted, &pool.lock);
        thread_idle_end();
    }
    pthread_mutex_unlock(&pool.lock);
    thread_unregister();
    return NULL;
}

/* ---- life ---- */

imp_status worker_start(uint32_t count, uint32_t queue_max, imp_error *error)
{
    pthread_attr_t attributes;
    sigset_t every, before;
    int failure = 0;

    if (pool.thread_count != 0)
        return imp_error_set(error, IMP_EXISTS, "the workers are there already");
    if (count == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        count = processors > 0 ? WORKERS_PER_PROCESSOR * (uint32_t)processors : 0;
        if (count < WORKER_COUNT_MIN)
            count = WORKER_COUNT_MIN;
    }
    if (count > WORKER_COUNT_MAX)
        count = WORKER_COUNT_MAX;
    pool.queue_max = queue_max != 0 ? queue_max : WORKER_QUEUE_DEFAULT;
    pool.is_stopping = false;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_SIZE);
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    while (pool.thread_count < count && failure == 0) {
        failure = pthread_create(&pool.threads[pool.thread_count], &attributes, worker_thread,
                                 (void *)(uintptr_t)pool.thread_count);
        if (failure == 0)
            pool.thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure != 0) {
        worker_stop();
        return imp_error_set(error, IMP_LIMIT, "can't start a worker thread: %s",
                             strerrordesc_np(failure));
    }
    return IMP_OK;
}

void worker_refuse(void)
{
    imp_work_token *waiting;

    pthread_mutex_lock(&pool.lock);
    pool.is_stopping = true;
    waiting = pool.first;
    pool.first = pool.last = NULL;
    pool.waiting = 0;
    for (imp_work_token *token = waiting; token != NULL; token = token->next) {
        token->state = WORK_BACK;
        token->was_cancelled = true;
    }
    pthread_cond_broadcast(&pool.wanted);
    pthread_mutex_unlock(&pool.lock);
    while (waiting != NULL) {
        imp_work_token *next = waiting->next;
        work_send_back(waiting);
        waiting = next;
    }
}

void worker_leave(void)
{
    for (uint32_t i = 0; i < pool.thread_count; i++)
        pthread_detach(pool.threads[i]);
    pool.thread_count = 0;
}

void worker_stop(void)
{
    worker_refuse();
    for (uint32_t i = 0; i < pool.thread_count; i++)
        pthread_join(pool.threads[i], NULL);
    pool.thread_count = 0;
}

/* ---- work ---- */

static void work_end(struct loop_object *object, bool may_call)
{
    imp_work_token *token =
        (imp_work_token *)(void *)((char *)object - offsetof(imp_work_token, object));
    if (!may_call)
        token->is_silent = true;
    imp_work_cancel(token);
}

imp_work_token *imp_work(imp_self *self, void (*run)(void *arg),
                         void (*done)(void *arg, bool was_cancelled), void *arg)
{
    imp_loop *loop = imp_loop_current();
    if (loop == NULL)
        return NULL;
    imp_work_token *token = calloc(1, sizeof *token);
    if (token == NULL)
        return NULL;
    token->run = run;
    token->done = done;
    token->arg = arg;
    loop_object_set_end(LOOP_OBJECT_WORK, work_end);
    if (!loop_object_add(loop, &token->object, self, LOOP_OBJECT_WORK)) {
        free(token);
        return NULL;
    }
    pthread_mutex_lock(&pool.lock);
    bool is_taken = pool.waiting < pool.queue_max && !pool.is_stopping;
    if (is_taken) {
        queue_append(token);
        atomic_fetch_add(&pool.unfinished, 1);
        pthread_cond_signal(&pool.wanted);
    }
    pthread_mutex_unlock(&pool.lock);
    if (!is_taken) {
        loop_object_remove(&token->object);
        free(token);
        return NULL;
    }
    return token;
}

void imp_work_cancel(imp_work_token *token)
{
    pthread_mutex_lock(&pool.lock);
    bool is_waiting = token->state == WORK_WAITING;
    if (is_waiting) {
        queue_remove(token);
        token->state = WORK_BACK;
        token->was_cancelled = true;
    }
    token->is_unwanted = true;
    pthread_mutex_unlock(&pool.lock);
    if (is_waiting)
        work_send_back(token);
}

bool imp_work_is_cancelled(void)
{
    return work_here != NULL &&
           (atomic_load_explicit(&work_here->is_unwanted, memory_order_relaxed) ||
            atomic_load_explicit(&pool.is_stopping, memory_order_relaxed));
}

uint32_t worker_unfinished(void)
{
    return atomic_load(&pool.unfinished);
}

uint32_t worker_waiting(void)
{
    pthread_mutex_lock(&pool.lock);
    uint32_t waiting = pool.waiting;
    pthread_mutex_unlock(&pool.lock);
    return waiting;
}

uint32_t worker_running(void)
{
    pthread_mutex_lock(&pool.lock);
    uint32_t running = pool.running;
    pthread_mutex_unlock(&pool.lock);
    return running;
}

void worker_reopen(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.is_stopping = false;
    pthread_mutex_unlock(&pool.lock);
}

bool worker_has_threads(void)
{
    return pool.thread_count != 0;
}

bool worker_run_one(void)
{
    pthread_mutex_lock(&pool.lock);
    bool has_one = pool.first != NULL;
    if (has_one)
        work_run_first();
    pthread_mutex_unlock(&pool.lock);
    return has_one;
}
