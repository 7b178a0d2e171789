/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook-run.c - asking the hooks of a point, one after another, with suspensions between.
 *
 * A run copies the point's hooks. While it goes from hook to hook its thread passes no quiescent point,
 * so all of them are mapped. Suspended, it stands in one list under a mutex, and pins the generation
 * that asked and the one that suspended; of the others it may lose some, and so looks each up again in
 * the snapshot of the moment before it goes on.
 *
 * Who ends a run: its last hook, a refusal, or hook_cut when one of the two generations ends. Whoever
 * takes it off the list first does; a later resume finds it abandoned.
 */
#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/service.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/hook.h"
#include "core/loop.h"
#include "core/module.h"
#include "core/thread-private.h"

struct run_hook {
    imp_self *self;
    uint32_t generation; /* a later generation may get the same address */
    imp_hook_function function;
};

enum run_state {
    RUN_ASKING,    /* a hook is being called */
    RUN_SUSPENDED, /* in the list */
    RUN_CUT,       /* off the list; hook_cut's post is on its way */
    RUN_ABANDONED  /* `done` was called; in the list until the hook resumes or is forgotten */
};

struct imp_hook_run {
    struct imp_hook_run *next, *previous;
    enum run_state state;
    imp_loop *loop;
    imp_self *caller;
    void *argument;
    void (*done)(imp_status status, const imp_error *error, void *arg);
    void *arg;
    char point[SNAPSHOT_POINT_SIZE];
    bool was_resumed; /* from within the hook, before it has returned */
    imp_hook_answer answer;
    imp_error error;
    uint32_t at, count;
    struct run_hook hooks[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct imp_hook_run waiting = {.next = &waiting, .previous = &waiting};

static void list_add(struct imp_hook_run *run)
{
    run->next = waiting.next;
    run->previous = &waiting;
    run->next->previous = run;
    waiting.next = run;
}

static void list_remove(struct imp_hook_run *run)
{
    run->previous->next = run->next;
    run->next->previous = run->previous;
    run->next = run->previous = NULL;
}

/* ---- ending ---- */

static void call_done(struct imp_hook_run *run, imp_status status)
{
    module_call_begin(run->caller);
    run->done(status, &run->error, run->arg);
    module_call_end(run->caller);
}

static void finish(struct imp_hook_run *run, imp_status status)
{
    call_done(run, status);
    free(run);
}

/* What a hook's answer makes of the run; false when the next hook is to be asked. */
static bool is_final(struct imp_hook_run *run, imp_hook_answer answer, imp_status *status)
{
    switch (answer) {
    case IMP_HOOK_CONTINUE: return false;
    case IMP_HOOK_DONE:
        *status = IMP_OK;
        run->error = (imp_error){.status = IMP_OK};
        return true;
    case IMP_HOOK_REFUSE:
        if (run->error.status == IMP_OK)
            imp_error_set(&run->error, IMP_DENIED, "refused by module %s",
                          run->hooks[run->at].self->name);
        *status = run->error.status;
        return true;
    default:
        *status =
            imp_error_set(&run->error, IMP_UNSUPPORTED, "module %s gave no valid answer at %s",
                          run->hooks[run->at].self->name, run->point);
        return true;
    }
}

/* ---- asking ---- */

/* After a suspension some generations may have ended. */
static bool is_still_there(const struct imp_hook_run *run, const struct run_hook *hook)
{
    const struct snapshot *snapshot = thread_snapshot();
    const struct snapshot_point *point =
        snapshot != NULL ? snapshot_point_find(snapshot, run->point) : NULL;
    for (uint32_t i = 0; point != NULL && i < point->count; i++) {
        const struct snapshot_hook *row = &snapshot->hooks[point->first + i];
        if (row->self == hook->self && row->function == hook->function &&
            imp_self_generation(row->self) == hook->generation)
            return true;
    }
    return false;
}

static imp_hook_answer ask_one(struct imp_hook_run *run, const struct run_hook *hook)
{
    run->error = (imp_error){.status = IMP_OK};
    run->was_resumed = false;
    run->state = RUN_ASKING;
    module_call_begin(hook->self);
    imp_hook_answer answer =
        hook->function(hook->self, hook->self->instance, run, run->argument, &run->error);
    module_call_end(hook->self);
    return answer == IMP_HOOK_SUSPEND && run->was_resumed ? run->answer : answer;
}

static void suspend(struct imp_hook_run *run)
{
    imp_pin(run->caller, "hook run");
    imp_pin(run->hooks[run->at].self, "suspended hook");
    pthread_mutex_lock(&lock);
    run->state = RUN_SUSPENDED;
    list_add(run);
    pthread_mutex_unlock(&lock);
}

/* Goes on at run->at; `may_be_gone` after a suspension. */
static void go_on(struct imp_hook_run *run, bool may_be_gone)
{
    imp_status status = IMP_OK;
    thread_hold();
    run->error = (imp_error){.status = IMP_OK};
    for (; run->at < run->count; run->at++) {
        const struct run_hook *hook = &run->hooks[run->at];
        if (may_be_gone && !is_still_there(run, hook))
            continue;
        imp_hook_answer answer = ask_one(run, hook);
        if (answer == IMP_HOOK_SUSPEND) {
            suspend(run);
            thread_release();
            return;
        }
        if (is_final(run, answer, &status))
            break;
    }
    finish(run, status);
    thread_release();
}

void imp_hook_ask(imp_self *self, const char *point_name, void *argument,
                  void (*done)(imp_status status, const imp_error *error, void *arg), void *arg)
{
    imp_error error = {.status = IMP_OK};
    const struct snapshot *snapshot = thread_snapshot();
    thread_hold();
    const struct snapshot_point *point =
        snapshot != NULL ? snapshot_point_find(snapshot, point_name) : NULL;
    if (point == NULL) {
        thread_release();
        done(IMP_OK, &error, arg);
        return;
    }
    struct imp_hook_run *run = calloc(1, sizeof(*run) + point->count * sizeof(struct run_hook));
    if (run == NULL) {
        thread_release();
        done(imp_error_set(&error, IMP_LIMIT, "memory is short"), &error, arg);
        return;
    }
    run->loop = imp_loop_current();
    run->caller = self;
    run->argument = argument;
    run->done = done;
    run->arg = arg;
    run->count = point->count;
    memcpy(run->point, point->name, sizeof(run->point));
    for (uint32_t i = 0; i < point->count; i++) {
        const struct snapshot_hook *hook = &snapshot->hooks[point->first + i];
        run->hooks[i] = (struct run_hook){.self = hook->self,
                                          .generation = imp_self_generation(hook->self),
                                          .function = hook->function};
    }
    go_on(run, false);
    thread_release();
}

void imp_hook_resume(imp_hook_run *run, imp_hook_answer answer, const imp_error *error)
{
    if (run == NULL)
        return; /* imp_hook_ask_now has refused already */
    pthread_mutex_lock(&lock);
    enum run_state state = run->state;
    if (state == RUN_SUSPENDED || state == RUN_ABANDONED)
        list_remove(run);
    if (state == RUN_SUSPENDED)
        run->state = RUN_ASKING;
    else if (state == RUN_CUT)
        run->was_resumed = true; /* the post will free it */
    pthread_mutex_unlock(&lock);
    if (state == RUN_ASKING) {
        /* From within the hook, which has not returned yet. */
        run->was_resumed = true;
        run->answer = answer;
        if (error != NULL)
            run->error = *error;
        return;
    }
    if (state == RUN_ABANDONED)
        free(run);
    if (state != RUN_SUSPENDED)
        return;

    imp_self *suspended = run->hooks[run->at].self, *caller = run->caller;
    imp_status status = IMP_OK;
    run->error = error != NULL ? *error : (imp_error){.status = IMP_OK};
    if (is_final(run, answer, &status)) {
        finish(run, status);
    } else {
        run->at++;
        go_on(run, true);
    }
    imp_unpin(suspended, "suspended hook");
    imp_unpin(caller, "hook run");
}

imp_status imp_hook_ask_now(imp_self *self, const char *point_name, void *argument,
                            imp_error *error)
{
    imp_status status = IMP_OK;
    const struct snapshot *snapshot = thread_snapshot();
    (void)self;
    thread_hold();
    const struct snapshot_point *point =
        snapshot != NULL ? snapshot_point_find(snapshot, point_name) : NULL;
    for (uint32_t i = 0; point != NULL && i < point->count; i++) {
        const struct snapshot_hook *hook = &snapshot->hooks[point->first + i];
        imp_error reason = {.status = IMP_OK};
        module_call_begin(hook->self);
        imp_hook_answer answer =
            hook->function(hook->self, hook->self->instance, NULL, argument, &reason);
        module_call_end(hook->self);
        if (answer == IMP_HOOK_CONTINUE)
            continue;
        if (answer == IMP_HOOK_REFUSE) {
            if (reason.status == IMP_OK)
                imp_error_set(&reason, IMP_DENIED, "refused by module %s", hook->self->name);
            status = reason.status;
            if (error != NULL)
                *error = reason;
        } else if (answer != IMP_HOOK_DONE) {
            status = imp_error_set(error, IMP_UNSUPPORTED, "module %s can't answer at once at %s",
                                   hook->self->name, point_name);
        }
        break;
    }
    thread_release();
    return status;
}

uint32_t imp_hook_count(const char *point_name)
{
    const struct snapshot *snapshot = thread_snapshot();
    const struct snapshot_point *point =
        snapshot != NULL ? snapshot_point_find(snapshot, point_name) : NULL;
    return point != NULL ? point->count : 0;
}

/* ---- a generation ends ---- */

/* On the run's loop. */
static void cut_on_loop(void *arg)
{
    struct imp_hook_run *run = arg;
    imp_self *suspended = run->hooks[run->at].self, *caller = run->caller;
    imp_status status =
        imp_error_set(&run->error, IMP_UNAVAILABLE, "module %s is ending", suspended->name);
    call_done(run, status);
    pthread_mutex_lock(&lock);
    bool is_over = run->was_resumed;
    run->state = RUN_ABANDONED;
    run->caller = NULL;
    if (!is_over)
        list_add(run);
    pthread_mutex_unlock(&lock);
    if (is_over)
        free(run);
    imp_unpin(suspended, "suspended hook");
    imp_unpin(caller, "hook run");
}

void hook_cut(struct imp_self *self)
{
    pthread_mutex_lock(&lock);
    struct imp_hook_run *next;
    for (struct imp_hook_run *run = waiting.next; run != &waiting; run = next) {
        next = run->next;
        if (run->state != RUN_SUSPENDED ||
            (run->caller != self && run->hooks[run->at].self != self))
            continue;
        if (run->loop == NULL || run->loop == imp_loop_current()) {
            run->was_resumed = false;
            run->state = RUN_CUT;
            list_remove(run);
            pthread_mutex_unlock(&lock);
            cut_on_loop(run);
            pthread_mutex_lock(&lock);
            next = waiting.next; /* the list may have changed */
            continue;
        }
        run->was_resumed = false;
        if (loop_post_core(run->loop, cut_on_loop, run) != IMP_OK)
            continue; /* its loop is ending; the run stays, and with it the pins */
        run->state = RUN_CUT;
        list_remove(run);
    }
    pthread_mutex_unlock(&lock);
}

void hook_forget(struct imp_self *self)
{
    pthread_mutex_lock(&lock);
    struct imp_hook_run *next;
    for (struct imp_hook_run *run = waiting.next; run != &waiting; run = next) {
        next = run->next;
        if (run->state != RUN_ABANDONED || run->hooks[run->at].self != self)
            continue;
        list_remove(run);
        free(run);
    }
    pthread_mutex_unlock(&lock);
}
