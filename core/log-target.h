/* SPDX-License-Identifier: Apache-2.0 */
/* log-target.h - standard error (or the journal behind it), a file, or the local syslog. */
#ifndef CORE_LOG_TARGET_H
#define CORE_LOG_TARGET_H

#include "core/log.h"

#define LOG_PREFIX_SIZE 64

struct log_output {
    enum log_target target;
    int fd;     /* file and syslog */
    char *path; /* file */
};
#define LOG_OUTPUT_STDERR                                                                          \
    {                                                                                              \
        .target = LOG_TO_STDERR, .fd = -1, .path = NULL                                            \
    }

imp_status log_output_open(struct log_output *output, enum log_target target, const char *file,
                           imp_error *error);
/* Opens a file anew by its name; nothing to do for the others. */
imp_status log_output_reopen(struct log_output *output, imp_error *error);
void log_output_close(struct log_output *output);

/* What stands before each line: "<4>" for the journal, priority and name for syslog; not terminated.
 */
size_t log_output_prefix(enum log_target target, imp_log_level level, char prefix[LOG_PREFIX_SIZE]);
/* Writes whole lines; returns how many were lost. May block. */
uint64_t log_output_write(struct log_output *output, const char *lines, size_t length);

/* Tests: where the local syslog listens; NULL = /dev/log again. */
void log_syslog_path_for_test(const char *path);

#endif
