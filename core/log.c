/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - makes lines and hands them to the target, at once or through the log's own thread.
 *
 * Two locks: `queue` guards the buffer that loggers fill and is held for a copy only; `output` guards
 * the target and is held while writing. With the thread running no logger ever takes `output`.
 */
#include "build-config.h"

#include "core/log-line.h"
#include "core/log-target.h"
#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUFFER_DEFAULT ((size_t)256 * 1024)
#define BUFFER_MIN ((size_t)4 * LOG_LINE_MAX)

static struct {
    pthread_mutex_t queue, output;
    pthread_cond_t filled;  /* something is in the buffer, or the thread shall end */
    pthread_cond_t emptied; /* everything taken so far was written */
    _Atomic int32_t level;
    _Atomic int32_t kind;     /* of `target`, for those who don't hold `output` */
    struct log_output target; /* under `output` */
    /* Under `queue`: */
    bool is_threaded, is_ending, is_writing;
    pthread_t thread;
    char *buffer, *spare;
    size_t size, used;
    uint64_t unsaid; /* dropped since the last line that said so */
    _Atomic uint64_t dropped;
    void (*sink)(const char *line, void *arg);
    void *sink_arg;
} logger = {
    .queue = PTHREAD_MUTEX_INITIALIZER,
    .output = PTHREAD_MUTEX_INITIALIZER,
    .filled = PTHREAD_COND_INITIALIZER,
    .emptied = PTHREAD_COND_INITIALIZER,
    .level = IMP_LOG_INFO,
    .target = LOG_OUTPUT_STDERR,
    .size = BUFFER_DEFAULT,
};

void log_set_level(imp_log_level level)
{
    atomic_store_explicit(&logger.level, level, memory_order_relaxed);
}

imp_log_level log_level(void)
{
    return atomic_load_explicit(&logger.level, memory_order_relaxed);
}

bool log_is_on(imp_log_level level)
{
    return level <= log_level();
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&logger.dropped, memory_order_relaxed);
}

imp_status log_open(enum log_target target, const char *file, imp_log_level level,
                    size_t buffer_bytes, imp_error *error)
{
    struct log_output output;
    imp_status status = log_output_open(&output, target, file, error);
    if (status != IMP_OK)
        return status;
    pthread_mutex_lock(&logger.output);
    log_output_close(&logger.target);
    logger.target = output;
    atomic_store(&logger.kind, (int32_t)target);
    pthread_mutex_unlock(&logger.output);
    log_set_level(level);

    pthread_mutex_lock(&logger.queue);
    size_t size = buffer_bytes < BUFFER_MIN ? BUFFER_MIN : buffer_bytes;
    /* A running thread keeps the buffers it has: their size changes with the next start. */
    if (!logger.is_threaded)
        logger.size = size;
    pthread_mutex_unlock(&logger.queue);
    return IMP_OK;
}

void log_reopen(void)
{
    imp_error error;
    pthread_mutex_lock(&logger.output);
    imp_status status = log_output_reopen(&logger.target, &error);
    pthread_mutex_unlock(&logger.output);
    if (status != IMP_OK)
        imp_log(NULL, IMP_LOG_ERROR, "log.reopen-failed", "reason=\"%s\"", error.message);
}

/* ---- the thread ---- */

/* Writes what waits. With `queue` locked, which it gives up meanwhile. */
static void write_buffer(void)
{
    char *full = logger.buffer;
    size_t length = logger.used;
    logger.buffer = logger.spare;
    logger.spare = NULL;
    logger.used = 0;
    logger.is_writing = true;
    pthread_mutex_unlock(&logger.queue);

    pthread_mutex_lock(&logger.output);
    uint64_t lost = log_output_write(&logger.target, full, length);
    pthread_mutex_unlock(&logger.output);

    pthread_mutex_lock(&logger.queue);
    logger.spare = full;
    logger.is_writing = false;
    if (lost > 0) {
        logger.unsaid += lost;
        atomic_fetch_add_explicit(&logger.dropped, lost, memory_order_relaxed);
    }
    if (logger.used == 0)
        pthread_cond_broadcast(&logger.emptied);
}

static void *log_thread(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&logger.queue);
    for (;;) {
        while (logger.used == 0 && !logger.is_ending)
            pthread_cond_wait(&logger.filled, &logger.queue);
        if (logger.used == 0)
            break;
        write_buffer();
    }
    pthread_mutex_unlock(&logger.queue);
    return NULL;
}

imp_status log_start(imp_error *error)
{
    imp_status status = IMP_OK;
    pthread_mutex_lock(&logger.queue);
    if (logger.is_threaded)
        goto done;
    logger.buffer = malloc(logger.size);
    logger.spare = malloc(logger.size);
    if (logger.buffer == NULL || logger.spare == NULL) {
        status = imp_error_set(error, IMP_LIMIT, "no memory for the log's buffer of %zu bytes",
                               logger.size);
        goto failed;
    }
    logger.used = 0;
    logger.is_ending = false;
    /* Signals are for threads that handle them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&logger.thread, NULL, log_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0) {
        status =
            imp_error_set(error, IMP_LIMIT, "can't start the log's thread: %s", strerror(failure));
        goto failed;
    }
    logger.is_threaded = true;
    goto done;
failed:
    free(logger.buffer);
    free(logger.spare);
    logger.buffer = logger.spare = NULL;
done:
    pthread_mutex_unlock(&logger.queue);
    return status;
}

void log_flush(int64_t timeout_us)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t nanoseconds = until.tv_nsec + timeout_us % IMP_SECOND * 1000;
    until.tv_sec += (time_t)(timeout_us / IMP_SECOND + nanoseconds / 1000000000);
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&logger.queue);
    while (logger.is_threaded && (logger.used > 0 || logger.is_writing))
        if (pthread_cond_timedwait(&logger.emptied, &logger.queue, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&logger.queue);
}

void log_stop(void)
{
    pthread_mutex_lock(&logger.queue);
    bool was_threaded = logger.is_threaded;
    logger.is_ending = true;
    pthread_cond_signal(&logger.filled);
    pthread_mutex_unlock(&logger.queue);
    if (was_threaded)
        pthread_join(logger.thread, NULL);

    pthread_mutex_lock(&logger.queue);
    /* Lines that came while the thread ended. */
    if (was_threaded && logger.used > 0)
        write_buffer();
    logger.is_threaded = false;
    free(logger.buffer);
    free(logger.spare);
    logger.buffer = logger.spare = NULL;
    pthread_mutex_unlock(&logger.queue);

    pthread_mutex_lock(&logger.output);
    log_output_close(&logger.target);
    logger.target = (struct log_output)LOG_OUTPUT_STDERR;
    atomic_store(&logger.kind, LOG_TO_STDERR);
    pthread_mutex_unlock(&logger.output);
}

/* ---- lines ---- */

static void append(const char *line, size_t length)
{
    memcpy(logger.buffer + logger.used, line, length);
    logger.used += length;
}

/* Writes a finished line (with newline) to where it belongs. */
static void emit(imp_log_level level, char *line, size_t length)
{
    pthread_mutex_lock(&logger.queue);
    if (logger.sink != NULL) {
        line[length - 1] = '\0';
        logger.sink(line, logger.sink_arg);
        pthread_mutex_unlock(&logger.queue);
        return;
    }
    if (!logger.is_threaded) {
        pthread_mutex_unlock(&logger.queue);
        char prefix[LOG_PREFIX_SIZE];
        pthread_mutex_lock(&logger.output);
        size_t prefix_length = log_output_prefix(logger.target.target, level, prefix);
        char whole[LOG_PREFIX_SIZE + LOG_LINE_MAX];
        memcpy(whole, prefix, prefix_length);
        memcpy(whole + prefix_length, line, length);
        uint64_t lost = log_output_write(&logger.target, whole, prefix_length + length);
        pthread_mutex_unlock(&logger.output);
        atomic_fetch_add_explicit(&logger.dropped, lost, memory_order_relaxed);
        return;
    }
    /* A line that crosses a change of target may carry the other one's prefix. */
    char prefix[LOG_PREFIX_SIZE], note[LOG_LINE_MAX];
    size_t prefix_length =
        log_output_prefix((enum log_target)atomic_load(&logger.kind), level, prefix);
    size_t note_length = 0;
    if (logger.unsaid > 0)
        note_length = log_line_format(note, IMP_LOG_WARNING, NULL, "log.dropped", "lines=%llu",
                                      (unsigned long long)logger.unsaid);
    size_t note_whole = note_length == 0 ? 0 : prefix_length + note_length;
    if (note_whole + prefix_length + length > logger.size - logger.used) {
        logger.unsaid++;
        atomic_fetch_add_explicit(&logger.dropped, 1, memory_order_relaxed);
    } else {
        if (note_length > 0) {
            append(prefix, prefix_length);
            append(note, note_length);
            logger.unsaid = 0;
        }
        append(prefix, prefix_length);
        append(line, length);
        pthread_cond_signal(&logger.filled);
    }
    pthread_mutex_unlock(&logger.queue);
}

static void log_va(imp_self *self, imp_log_level level, uint64_t suppressed, const char *event,
                   const char *format, va_list arguments) IMP_PRINTF(5, 0);
static void log_va(imp_self *self, imp_log_level level, uint64_t suppressed, const char *event,
                   const char *format, va_list arguments)
{
    char line[LOG_LINE_MAX];
    size_t length = log_line_format_va(line, level, self, event, suppressed, format, arguments);
    emit(level, line, length);
}

void imp_log(imp_self *self, imp_log_level level, const char *event, const char *format, ...)
{
    if (!log_is_on(level))
        return;
    int saved_errno = errno;
    va_list arguments;
    va_start(arguments, format);
    log_va(self, level, 0, event, format, arguments);
    va_end(arguments);
    errno = saved_errno;
}

void imp_log_limited(imp_self *self, uint32_t interval_ms, imp_log_level level, const char *event,
                     const char *format, ...)
{
    uint64_t suppressed;
    if (!log_is_on(level) || !log_limit_passes(self, event, interval_ms, &suppressed))
        return;
    int saved_errno = errno;
    va_list arguments;
    va_start(arguments, format);
    log_va(self, level, suppressed, event, format, arguments);
    va_end(arguments);
    errno = saved_errno;
}

void log_capture_for_test(void (*sink)(const char *line, void *arg), void *arg)
{
    pthread_mutex_lock(&logger.queue);
    logger.sink = sink;
    logger.sink_arg = arg;
    pthread_mutex_unlock(&logger.queue);
}
