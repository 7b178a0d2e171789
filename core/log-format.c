/* SPDX-License-Identifier: Apache-2.0 */
/* log-format.c - see log-format.h. */
#include "build-config.h"

#include "core/log-format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPEC_SIZE 32u    /* of one conversion, "%-20.10lld" */
#define NUMBER_SIZE 352u /* %f of the largest double, and then some */

struct output {
    char *text;
    size_t size, used;
    bool is_cut;
};

static void add(struct output *output, const char *bytes, size_t length)
{
    size_t room = output->size - 1 - output->used;
    if (output->is_cut)
        return; /* nothing behind a gap */
    if (length > room) {
        output->is_cut = true;
        return;
    }
    memcpy(output->text + output->used, bytes, length);
    output->used += length;
}

/* As much as there is room for. */
static void add_cut(struct output *output, const char *bytes, size_t length)
{
    size_t room = output->size - 1 - output->used;
    if (length > room && !output->is_cut) {
        add(output, bytes, room);
        output->is_cut = true;
        return;
    }
    add(output, bytes, length);
}

static void add_escaped(struct output *output, const char *value, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)value[i];
        char escape[5] = {'\\', (char)byte};
        size_t size = 2;
        switch (byte) {
        case '"':
        case '\\': break;
        case '\n': escape[1] = 'n'; break;
        case '\r': escape[1] = 'r'; break;
        case '\t': escape[1] = 't'; break;
        default:
            if (byte < 0x20 || byte == 0x7F) {
                size = (size_t)snprintf(escape, sizeof escape, "\\x%02x", byte);
            } else {
                escape[0] = (char)byte;
                size = 1;
            }
        }
        add(output, escape, size);
    }
}

static bool is_plain_word(const char *value, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)value[i];
        if (byte <= ' ' || byte == 0x7F || byte == '"' || byte == '\\')
            return false;
    }
    return true;
}

static void add_value(struct output *output, bool is_quoted, bool is_behind_equals,
                      const char *value, size_t length)
{
    if (is_quoted) {
        add_escaped(output, value, length);
    } else if (is_behind_equals && !is_plain_word(value, length)) {
        add(output, "\"", 1);
        add_escaped(output, value, length);
        add(output, "\"", 1);
    } else {
        add_cut(output, value, length);
    }
}

/* ---- conversions ---- */

struct conversion {
    char spec[SPEC_SIZE]; /* "%", flags, width, precision with stars resolved, length, letter */
    size_t spec_length;
    int precision; /* -1: none */
    char size[3];  /* "", "hh", "h", "l", "ll", "j", "z", "t", "L" */
    char letter;
};

static void spec_add(struct conversion *conversion, const char *text, size_t length)
{
    if (length < SPEC_SIZE - conversion->spec_length) {
        memcpy(conversion->spec + conversion->spec_length, text, length);
        conversion->spec_length += length;
    }
}

/* A number or a star; -1 when there is none. */
static int read_number(const char **format, struct conversion *conversion, va_list *arguments)
{
    char digits[16];
    int number = -1;
    if (**format == '*') {
        (*format)++;
        number = va_arg(*arguments, int);
        int length = snprintf(digits, sizeof digits, "%d", number);
        spec_add(conversion, digits, (size_t)length);
        return number;
    }
    size_t count = strspn(*format, "0123456789");
    if (count > 0)
        number = (int)strtol(*format, NULL, 10);
    spec_add(conversion, *format, count);
    *format += count;
    return number;
}

/* `format` stands behind the percent sign, and then behind the conversion's letter. */
static void read_conversion(const char **format, struct conversion *conversion, va_list *arguments)
{
    *conversion = (struct conversion){.spec = "%", .spec_length = 1, .precision = -1};
    size_t flags = strspn(*format, "-+ #0'");
    spec_add(conversion, *format, flags);
    *format += flags;
    (void)read_number(format, conversion, arguments);
    if (**format == '.') {
        size_t before = conversion->spec_length;
        spec_add(conversion, ".", 1);
        (*format)++;
        bool is_star = **format == '*';
        int precision = read_number(format, conversion, arguments);
        conversion->precision = precision < 0 ? 0 : precision;
        if (is_star && precision < 0) { /* as if there was none (C17 7.21.6.1) */
            conversion->precision = -1;
            memset(conversion->spec + before, 0, conversion->spec_length - before);
            conversion->spec_length = before;
        }
    }
    size_t size = strspn(*format, "hljztL");
    memcpy(conversion->size, *format, size < 2 ? size : 2);
    spec_add(conversion, *format, size);
    *format += size;
    conversion->letter = **format;
    if (conversion->letter != '\0')
        (*format)++;
    spec_add(conversion, &conversion->letter, 1);
}

static bool has_size(const struct conversion *conversion, const char *size)
{
    return strcmp(conversion->size, size) == 0;
}

/* The spec was taken out of a format that the compiler has checked. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static int format_integer(char *text, const struct conversion *conversion, va_list *arguments)
{
    const char *spec = conversion->spec;
    if (has_size(conversion, "l"))
        return snprintf(text, NUMBER_SIZE, spec, va_arg(*arguments, long));
    if (has_size(conversion, "ll"))
        return snprintf(text, NUMBER_SIZE, spec, va_arg(*arguments, long long));
    if (has_size(conversion, "j"))
        return snprintf(text, NUMBER_SIZE, spec, va_arg(*arguments, intmax_t));
    if (has_size(conversion, "z"))
        return snprintf(text, NUMBER_SIZE, spec, va_arg(*arguments, size_t));
    if (has_size(conversion, "t"))
        return snprintf(text, NUMBER_SIZE, spec, va_arg(*arguments, ptrdiff_t));
    return snprintf(text, NUMBER_SIZE, spec, va_arg(*arguments, int));
}

static void add_number(struct output *output, const struct conversion *conversion,
                       va_list *arguments)
{
    char text[NUMBER_SIZE];
    int length = 0;
    if (strchr("diuxXo", conversion->letter) != NULL)
        length = format_integer(text, conversion, arguments);
    else if (conversion->letter == 'p')
        /* NOLINTNEXTLINE(bugprone-branch-clone): the types that are fetched differ */
        length = snprintf(text, sizeof text, conversion->spec, va_arg(*arguments, void *));
    else if (has_size(conversion, "L"))
        length = snprintf(text, sizeof text, conversion->spec, va_arg(*arguments, long double));
    else
        length = snprintf(text, sizeof text, conversion->spec, va_arg(*arguments, double));
    if (length > 0)
        add_cut(output, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

#pragma GCC diagnostic pop

size_t log_format_va(char *text, size_t size, bool *is_cut, const char *format, va_list arguments)
{
    struct output output = {.text = text, .size = size};
    int error_number = errno; /* for %m */
    bool is_quoted = false;
    va_list own;
    va_copy(own, arguments);
    for (const char *begin = format; *format != '\0' && !output.is_cut;) {
        if (*format != '%' || format[1] == '%') {
            is_quoted = is_quoted != (*format == '"');
            add(&output, format, 1);
            format += *format == '%' ? 2 : 1;
            continue;
        }
        bool is_behind_equals = format > begin && format[-1] == '=';
        struct conversion conversion;
        format++;
        read_conversion(&format, &conversion, &own);
        const char *value = NULL;
        char character[1];
        size_t length = 0;
        switch (conversion.letter) {
        case 's':
            value = va_arg(own, const char *);
            if (value == NULL)
                value = "(null)";
            length = conversion.precision >= 0 ? strnlen(value, (size_t)conversion.precision)
                                               : strlen(value);
            break;
        case 'c':
            character[0] = (char)va_arg(own, int);
            value = character;
            length = 1;
            break;
        case 'm':
            value = strerrordesc_np(error_number);
            value = value != NULL ? value : "unknown error";
            length = strlen(value);
            break;
        case 'n': (void)va_arg(own, void *); break;
        case '\0': break;
        default: add_number(&output, &conversion, &own); break;
        }
        if (value != NULL)
            add_value(&output, is_quoted, is_behind_equals, value, length);
    }
    va_end(own);
    output.text[output.used] = '\0';
    *is_cut = output.is_cut;
    return output.used;
}
