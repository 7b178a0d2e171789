/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - where log lines go (the writing side is <imprimatur/log.h>).
 *
 *     2026-11-22T12:34:56.789012Z warning lpr lpr.refused source=7f0c… reason="too many"
 *
 * Until log_start() every line is written at once by the thread that logs: the supervisor, the
 * spawner and imprimctl stay so. The server calls log_start(): then lines go into a bounded buffer
 * that a thread of its own empties, so that a slow disk or a stopped reader of standard error holds
 * nobody up; lines that find it full are counted, and the next line that fits says how many.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <imprimatur/log.h>

enum log_target { LOG_TO_STDERR = 0, LOG_TO_FILE = 1, LOG_TO_SYSLOG = 2 };
#define LOG_TARGETS "stderr|file|syslog"
#define LOG_LEVELS "critical|error|warning|notice|info|debug"

#define LOG_LINE_MAX 2048u /* bytes with the newline; longer ones are cut and end in "..." */

/* Sets target, level and buffer; again on reload. A file is opened (appending, 0640) before the old
 * target is given up: on an error the old one stays. Without any call: stderr, level info. */
imp_status log_open(enum log_target target, const char *file, imp_log_level level,
                    size_t buffer_bytes, imp_error *error);
void log_set_level(imp_log_level level);
imp_log_level log_level(void);
/* True when a line of this level would be written: to skip costly arguments. */
bool log_is_on(imp_log_level level);
/* Opens the file anew under its name (after logrotate; SIGHUP). On failure the old one goes on and
 * that is logged. Any thread. */
void log_reopen(void);

/* Starts the log's own thread; after this logging never blocks. In a process that forks, after the
 * fork. */
imp_status log_start(imp_error *error) IMP_MUST_CHECK;
/* Waits until what was logged so far is written, at most `timeout_us`. */
void log_flush(int64_t timeout_us);
/* Writes what is left, ends the thread, closes the file. Logging works on, to stderr and at once. */
void log_stop(void);

/* Lines dropped since the start because the buffer was full. */
uint64_t log_dropped(void);

/* Tests: every line (without the newline) goes to `sink` instead; NULL ends it. */
void log_capture_for_test(void (*sink)(const char *line, void *arg), void *arg);

#endif
