/* SPDX-License-Identifier: Apache-2.0 */
/* lpr-text.c - what the answers to commands 03 to 05 are made of. */
#include "lpr.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SAY_MAX 1024

bool lpr_operand_is_number(const char *operand, uint32_t *number)
{
    size_t length = strlen(operand);
    if (length == 0 || length > 9 || strspn(operand, "0123456789") != length)
        return false;
    *number = 0;
    for (const char *c = operand; *c != '\0'; c++)
        *number = *number * 10 + (uint32_t)(*c - '0');
    return true;
}

void lpr_say(imp_stream *stream, const char *format, ...)
{
    char text[SAY_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        imp_stream_write(stream, text,
                         (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}
