/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - structured logs: one event a line, to the journal, standard error or a file.
 *
 * A line is: time, level, module, event, then key=value pairs. Events have stable names
 * ("lpr.refused"). Logs hold ids only: never job names, user names, mail addresses, card numbers,
 * PINs, passwords or document bytes.
 */
#ifndef IMPRIMATUR_LOG_H
#define IMPRIMATUR_LOG_H

#include <imprimatur/base.h>

typedef int32_t imp_log_level; /* as syslog(3) */
#define IMP_LOG_CRITICAL ((imp_log_level)2)
#define IMP_LOG_ERROR ((imp_log_level)3)
#define IMP_LOG_WARNING ((imp_log_level)4)
#define IMP_LOG_NOTICE ((imp_log_level)5)
#define IMP_LOG_INFO ((imp_log_level)6)
#define IMP_LOG_DEBUG ((imp_log_level)7)

/* Writes one event. `self` NULL means the core itself. `format` yields the key=value pairs, so that the
 * line can be read back whatever the values are: what %s puts between double quotes (key="%s") gets a
 * backslash before quotes and backslashes, and \n, \r, \t or \xNN for control characters; a %s right
 * behind "=" is put in quotes when it is no plain word. Lines over 2 KiB are cut and end in "...". Never
 * blocks on the disk. Any thread. */
IMP_PUBLIC void imp_log(imp_self *self, imp_log_level level, const char *event, const char *format,
                        ...) IMP_PRINTF(4, 5);

/* As imp_log, but at most once per `interval_ms` for this event of this module; what was left out
 * is counted and said with the next line (suppressed=N). For bounds that a client can hit at will.
 * Any thread. */
IMP_PUBLIC void imp_log_limited(imp_self *self, uint32_t interval_ms, imp_log_level level,
                                const char *event, const char *format, ...) IMP_PRINTF(5, 6);

#endif
