/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log-format.h - formats the pairs of a log line so that they can be read back, whatever the values are.
 *
 * As vsnprintf, but the value of %s (and %c) is written by where it stands:
 *
 *     reason="%s"     between quotes: a quote, a backslash and control characters are escaped
 *     source=%s       behind an equals sign: put in quotes, and escaped, when it is no plain word
 *     %s              elsewhere: as it is (text that was formatted before)
 *
 * Escapes are \" \\ \n \r \t and \xNN.
 */
#ifndef CORE_LOG_FORMAT_H
#define CORE_LOG_FORMAT_H

#include <imprimatur/base.h>

#include <stdarg.h>

/* Writes at most `size` bytes with the NUL, never half an escape; returns the length that is there.
 * `is_cut` says whether something was left out. Wide characters are not supported. */
size_t log_format_va(char *text, size_t size, bool *is_cut, const char *format, va_list arguments)
    IMP_PRINTF(4, 0);

#endif
