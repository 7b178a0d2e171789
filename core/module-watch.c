/* SPDX-License-Identifier: Apache-2.0 */
#include "core/module-watch.h"

#include <imprimatur/log.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/crash-record.h"
#include "core/log.h"
#include "core/module-mark.h"
#include "core/server.h"

/* The last line of the log must get out, but not hold us up. */
#define LAST_LINE_WAIT (2 * IMP_SECOND)
/* How much longer than our limit the supervisor waits for the control thread's heart. */
#define SUPERVISOR_GRACE (5 * IMP_SECOND)

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool is_running, is_ending;
    bool is_armed;
    struct timespec deadline; /* CLOCK_MONOTONIC, the real one: tests may stop imp_ticks */
    int64_t limit_us;
    char module[SELF_NAME_SIZE], what[16];
    void (*end_for_test)(const char *module, const char *what);
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void limit_passed(void)
{
    if (watch.end_for_test != NULL) {
        watch.is_armed = false;
        watch.end_for_test(watch.module, watch.what);
        return;
    }
    imp_log(NULL, IMP_LOG_CRITICAL, "module.timeout",
            "module=%s in=%s limit_ms=%lld action=\"the server ends and is started again\"",
            watch.module, watch.what, (long long)(watch.limit_us / IMP_MILLISECOND));
    module_mark_hung();
    log_flush(LAST_LINE_WAIT);
    _exit(SERVER_EXIT_MODULE_STUCK);
}

static bool has_passed(const struct timespec *deadline)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > deadline->tv_sec ||
           (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

static void *watch_run(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&watch.lock);
    while (!watch.is_ending) {
        if (!watch.is_armed) {
            pthread_cond_wait(&watch.changed, &watch.lock);
            continue;
        }
        if (has_passed(&watch.deadline)) {
            limit_passed();
            continue;
        }
        /* The next call may move the deadline meanwhile. */
        struct timespec deadline = watch.deadline;
        pthread_cond_timedwait(&watch.changed, &watch.lock, &deadline);
    }
    pthread_mutex_unlock(&watch.lock);
    return NULL;
}

imp_status module_watch_start(imp_error *error)
{
    pthread_condattr_t attributes;
    pthread_attr_t thread_attributes;
    if (watch.is_running)
        return IMP_OK;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    watch.is_ending = watch.is_armed = false;
    pthread_attr_init(&thread_attributes);
    pthread_attr_setstacksize(&thread_attributes, (size_t)128 * 1024);
    int result = pthread_create(&watch.thread, &thread_attributes, watch_run, NULL);
    pthread_attr_destroy(&thread_attributes);
    if (result != 0) {
        pthread_cond_destroy(&watch.changed);
        return imp_error_set(error, IMP_LIMIT, "the watchdog's thread can't be made: %s",
                             strerror(result));
    }
    watch.is_running = true;
    return IMP_OK;
}

void module_watch_stop(void)
{
    if (!watch.is_running)
        return;
    pthread_mutex_lock(&watch.lock);
    watch.is_ending = true;
    pthread_cond_signal(&watch.changed);
    pthread_mutex_unlock(&watch.lock);
    pthread_join(watch.thread, NULL);
    pthread_cond_destroy(&watch.changed);
    watch.is_running = false;
}

void module_watch_begin(const char *module, const char *what, int64_t limit_us)
{
    if (!watch.is_running)
        return;
    crash_beat_excuse(limit_us + SUPERVISOR_GRACE);
    pthread_mutex_lock(&watch.lock);
    clock_gettime(CLOCK_MONOTONIC, &watch.deadline);
    int64_t nanoseconds = watch.deadline.tv_nsec + (limit_us % IMP_SECOND) * 1000;
    watch.deadline.tv_sec += (time_t)(limit_us / IMP_SECOND + nanoseconds / 1000000000);
    watch.deadline.tv_nsec = (long)(nanoseconds % 1000000000);
    watch.limit_us = limit_us;
    snprintf(watch.module, sizeof(watch.module), "%s", module);
    snprintf(watch.what, sizeof(watch.what), "%s", what);
    watch.is_armed = true;
    pthread_cond_signal(&watch.changed);
    pthread_mutex_unlock(&watch.lock);
}

void module_watch_end(void)
{
    if (!watch.is_running)
        return;
    pthread_mutex_lock(&watch.lock);
    watch.is_armed = false;
    pthread_mutex_unlock(&watch.lock);
    crash_beat();
}

void module_watch_set_end_for_test(void (*end)(const char *module, const char *what))
{
    pthread_mutex_lock(&watch.lock);
    watch.end_for_test = end;
    pthread_mutex_unlock(&watch.lock);
}
