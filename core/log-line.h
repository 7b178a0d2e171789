/* SPDX-License-Identifier: Apache-2.0 */
/* log-line.h - one log line's text, and which events have to wait. */
#ifndef CORE_LOG_LINE_H
#define CORE_LOG_LINE_H

#include "core/log.h"

#include <stdarg.h>

/* "TIME level module event text\n" into `line`, cleaned of control characters, cut at LOG_LINE_MAX.
 * Returns its length. `suppressed` over 0 adds suppressed=N. */
size_t log_line_format_va(char line[LOG_LINE_MAX], imp_log_level level, const imp_self *self,
                          const char *event, uint64_t suppressed, const char *format,
                          va_list arguments) IMP_PRINTF(6, 0);
size_t log_line_format(char line[LOG_LINE_MAX], imp_log_level level, const imp_self *self,
                       const char *event, const char *format, ...) IMP_PRINTF(5, 6);

/* Different rate-limited events that are told apart; further ones share one limit. Events have
 * constant names, so that this is bounded by the code, not by clients. */
#define LOG_LIMITED_EVENTS_MAX 1024u
/* False when this event of this module was logged within the interval; that is counted, and the next
 * one that passes gets the count. Any thread. */
bool log_limit_passes(const imp_self *self, const char *event, uint32_t interval_ms,
                      uint64_t *suppressed);

#endif
