/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - what the core needs of UTF-8 beyond <imprimatur/base.h>. */
#ifndef CORE_TEXT_H
#define CORE_TEXT_H

#include <imprimatur/base.h>

/* Bytes of the well-formed UTF-8 character at `text`, 1 to 4; 0 for NUL, ill-formed or cut ones. */
size_t text_utf8_sequence(const char *text, size_t length);
/* The length, at most `length`, at which UTF-8 text that was cut at a byte ends in a whole
 * character. */
size_t text_cut(const char *text, size_t length);

#endif
