/* SPDX-License-Identifier: Apache-2.0 */
/* base.c - status names, errors, identifiers, comparing and wiping. */
#include "build-config.h"

#include <imprimatur/base.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const status_names[] = {
    [IMP_OK] = "ok",
    [IMP_INVALID] = "invalid",
    [IMP_NOT_FOUND] = "not-found",
    [IMP_DENIED] = "denied",
    [IMP_EXISTS] = "exists",
    [IMP_BUSY] = "busy",
    [IMP_LIMIT] = "limit",
    [IMP_NO_SPACE] = "no-space",
    [IMP_IO] = "io",
    [IMP_CORRUPT] = "corrupt",
    [IMP_UNSUPPORTED] = "unsupported",
    [IMP_TIMEOUT] = "timeout",
    [IMP_UNAVAILABLE] = "unavailable",
};

const char *imp_status_name(imp_status status)
{
    if (status < 0 || (size_t)status >= sizeof status_names / sizeof status_names[0])
        return "unknown";
    return status_names[status];
}

#undef imp_error_set /* tests/tidy-model.h */
imp_status imp_error_set(imp_error *error, imp_status status, const char *format, ...)
{
    char text[2 * IMP_ERROR_MESSAGE_MAX];
    va_list arguments;
    if (error == NULL)
        return status;
    /* Formatted beside the target: an argument may be the old message itself. */
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error->status = status;
    if (length < 0)
        length = 0;
    if ((size_t)length >= sizeof text)
        length = (int)sizeof text - 1;
    imp_text_clean(error->message, sizeof error->message, text, (size_t)length);
    return status;
}

/* ---- identifiers ---- */

imp_id imp_id_new(void)
{
    imp_id id = {{0}};
    imp_random(id.bytes, sizeof id.bytes);
    return id;
}

char *imp_id_format(imp_id id, char text[IMP_ID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        text[2 * i] = digits[id.bytes[i] >> 4];
        text[2 * i + 1] = digits[id.bytes[i] & 15];
    }
    text[2 * sizeof id.bytes] = '\0';
    return text;
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

imp_status imp_id_parse(const char *text, imp_id *id)
{
    imp_id parsed;
    if (text == NULL)
        return IMP_INVALID;
    for (size_t i = 0; i < sizeof parsed.bytes; i++) {
        int high = digit_value(text[2 * i]);
        if (high < 0)
            return IMP_INVALID;
        int low = digit_value(text[2 * i + 1]);
        if (low < 0)
            return IMP_INVALID;
        parsed.bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (text[2 * sizeof parsed.bytes] != '\0')
        return IMP_INVALID;
    *id = parsed;
    return IMP_OK;
}

bool imp_id_is_zero(imp_id id)
{
    static const imp_id zero;
    return memcmp(id.bytes, zero.bytes, sizeof id.bytes) == 0;
}

bool imp_id_equal(imp_id a, imp_id b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

/* ---- secrets in memory ---- */

void imp_wipe(void *buffer, size_t length)
{
    if (length > 0)
        explicit_bzero(buffer, length);
}

bool imp_equal_constant_time(const void *a, const void *b, size_t length)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < length; i++)
        difference |= (uint8_t)(x[i] ^ y[i]);
    return difference == 0;
}
