/* SPDX-License-Identifier: Apache-2.0 */
/* config-value.c - the syntax of single values: numbers with units, choices, secrets' sources. */
#include "build-config.h"

#include "core/config-private.h"
#include "core/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* From small to large; the last that divides a value is the one it is shown in. */
static const struct unit duration_units[] = {
    {"us", 1},
    {"ms", 1000},
    {"s", 1000000},
    {"min", INT64_C(60) * 1000000},
    {"h", INT64_C(3600) * 1000000},
    {"d", INT64_C(86400) * 1000000},
};
static const struct unit size_units[] = {
    {"B", 1},
    {"KiB", INT64_C(1) << 10},
    {"MiB", INT64_C(1) << 20},
    {"GiB", INT64_C(1) << 30},
    {"TiB", INT64_C(1) << 40},
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Digits, then a unit, nothing else: no sign, no blank, no fraction. "0" needs no unit. */
static imp_status parse_with_unit(const char *text, const struct unit *units, size_t count,
                                  int64_t *value)
{
    int64_t number = 0;
    const char *p = text;
    if (p == NULL || *p < '0' || *p > '9')
        return IMP_INVALID;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, *p - '0', &number))
            return IMP_LIMIT;
    if (*p == '\0' && number == 0) {
        *value = 0;
        return IMP_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(p, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(number, units[i].factor, &number))
            return IMP_LIMIT;
        *value = number;
        return IMP_OK;
    }
    return IMP_INVALID;
}

imp_status config_parse_duration(const char *text, int64_t *microseconds)
{
    return parse_with_unit(text, duration_units, COUNT(duration_units), microseconds);
}

imp_status config_parse_size(const char *text, int64_t *bytes)
{
    return parse_with_unit(text, size_units, COUNT(size_units), bytes);
}

static bool parse_integer(const char *text, int64_t *value)
{
    char *end;
    if (*text != '-' && (*text < '0' || *text > '9'))
        return false;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0')
        return false;
    *value = number;
    return true;
}

static bool parse_number(imp_option_type type, const char *text, int64_t *value)
{
    switch (type) {
    case IMP_OPTION_SIZE: return config_parse_size(text, value) == IMP_OK;
    case IMP_OPTION_DURATION: return config_parse_duration(text, value) == IMP_OK;
    default: return parse_integer(text, value);
    }
}

static bool is_in_range(const imp_option *row, int64_t value)
{
    int64_t bound;
    if (row->minimum != NULL && parse_number(row->type, row->minimum, &bound) && value < bound)
        return false;
    return row->maximum == NULL || !parse_number(row->type, row->maximum, &bound) || value <= bound;
}

/* The index of `text` in "a|b|c", or -1. */
static int64_t choice_index(const char *choices, const char *text)
{
    size_t length = strlen(text);
    int64_t index = 0;
    for (const char *p = choices; p != NULL; index++) {
        const char *bar = strchr(p, '|');
        size_t size = bar == NULL ? strlen(p) : (size_t)(bar - p);
        if (size == length && memcmp(p, text, size) == 0)
            return index;
        p = bar == NULL ? NULL : bar + 1;
    }
    return -1;
}

static bool is_clean_text(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            return false;
    return imp_utf8_is_valid(text, strlen(text));
}

static bool is_secret_source(const char *text)
{
    static const char *const kinds[] = {"file:/", "credential:", "store:"};
    if (*text == '\0')
        return true;
    if (!is_clean_text(text))
        return false;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        size_t length = strlen(kinds[i]);
        if (strncmp(text, kinds[i], length) == 0 && text[length] != '\0')
            return true;
    }
    return false;
}

bool config_value_from_text(const imp_option *row, const char *text, void *field)
{
    int64_t number;
    switch (row->type) {
    case IMP_OPTION_BOOL:
        *(bool *)field = strcmp(text, "true") == 0;
        return *(bool *)field || strcmp(text, "false") == 0;
    case IMP_OPTION_INTEGER:
    case IMP_OPTION_SIZE:
    case IMP_OPTION_DURATION:
        if (!parse_number(row->type, text, &number) || !is_in_range(row, number))
            return false;
        *(int64_t *)field = number;
        return true;
    case IMP_OPTION_ENUM:
        *(int64_t *)field = choice_index(row->choices, text);
        return *(int64_t *)field >= 0;
    case IMP_OPTION_STRING: *(const char **)field = text; return is_clean_text(text);
    case IMP_OPTION_SECRET: ((imp_secret *)field)->source = text; return is_secret_source(text);
    default: return false;
    }
}

bool config_value_from_setting(const imp_option *row, const config_setting_t *setting, void *field)
{
    int type = config_setting_type(setting);
    switch (row->type) {
    case IMP_OPTION_BOOL:
        *(bool *)field = config_setting_get_bool(setting) != 0;
        return type == CONFIG_TYPE_BOOL;
    case IMP_OPTION_INTEGER:
        if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
            return false;
        *(int64_t *)field = type == CONFIG_TYPE_INT ? config_setting_get_int(setting)
                                                    : config_setting_get_int64(setting);
        return is_in_range(row, *(int64_t *)field);
    case IMP_OPTION_SIZE:
    case IMP_OPTION_DURATION:
        /* 0 says nothing in any unit. */
        if (type == CONFIG_TYPE_INT && config_setting_get_int(setting) == 0)
            return config_value_from_text(row, "0", field);
        break;
    default: break;
    }
    const char *text = type == CONFIG_TYPE_STRING ? config_setting_get_string(setting) : NULL;
    return text != NULL && config_value_from_text(row, text, field);
}

size_t config_value_size(imp_option_type type)
{
    switch (type) {
    case IMP_OPTION_BOOL: return sizeof(bool);
    case IMP_OPTION_INTEGER:
    case IMP_OPTION_SIZE:
    case IMP_OPTION_DURATION:
    case IMP_OPTION_ENUM: return sizeof(int64_t);
    case IMP_OPTION_STRING: return sizeof(const char *);
    case IMP_OPTION_SECRET: return sizeof(imp_secret);
    case IMP_OPTION_STRINGS: return sizeof(imp_string_list);
    case IMP_OPTION_GROUPS: return sizeof(imp_group_list);
    default: return 0;
    }
}

const imp_option *config_row_next(const imp_option *row)
{
    /* The module's own size of a row, which may be a later minor's. */
    return (const imp_option *)((const char *)row + row->size);
}

/* ---- words for people ---- */

static char *show_number(struct arena *arena, int64_t value, const struct unit *units, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count && value != 0; i++)
        if (value % units[i].factor == 0)
            best = i;
    if (value == 0 && count == COUNT(duration_units))
        best = 2; /* "0s" */
    return arena_printf(arena, "\"%" PRId64 "%s\"", value / units[best].factor, units[best].name);
}

/* In quotes, with the two escapes that clean text can need. */
static char *show_text(struct arena *arena, const char *text)
{
    char *shown = arena_alloc(arena, 2 * strlen(text) + 3), *p = shown;
    if (shown == NULL)
        return NULL;
    *p++ = '"';
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            *p++ = '\\';
        *p++ = *text;
    }
    *p = '"';
    return shown;
}

char *config_value_show(struct arena *arena, const imp_option *row, const void *field)
{
    switch (row->type) {
    case IMP_OPTION_BOOL: return arena_strdup(arena, *(const bool *)field ? "true" : "false");
    case IMP_OPTION_INTEGER: return arena_printf(arena, "%" PRId64, *(const int64_t *)field);
    case IMP_OPTION_SIZE:
        return show_number(arena, *(const int64_t *)field, size_units, COUNT(size_units));
    case IMP_OPTION_DURATION:
        return show_number(arena, *(const int64_t *)field, duration_units, COUNT(duration_units));
    case IMP_OPTION_STRING: return show_text(arena, *(const char *const *)field);
    case IMP_OPTION_SECRET: return show_text(arena, ((const imp_secret *)field)->source);
    case IMP_OPTION_ENUM: {
        const char *p = row->choices;
        for (int64_t i = *(const int64_t *)field; i > 0 && p != NULL; i--) {
            p = strchr(p, '|');
            p = p == NULL ? NULL : p + 1;
        }
        return p == NULL ? arena_strdup(arena, "")
                         : arena_printf(arena, "\"%.*s\"", (int)strcspn(p, "|"), p);
    }
    default: return arena_strdup(arena, "");
    }
}

const char *config_value_found(const config_setting_t *setting, char found[CONFIG_FOUND_SIZE])
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP: return "a group { ... }";
    case CONFIG_TYPE_ARRAY: return "an array [ ... ]";
    case CONFIG_TYPE_LIST: return "a list ( ... )";
    case CONFIG_TYPE_BOOL: return config_setting_get_bool(setting) ? "true" : "false";
    case CONFIG_TYPE_INT:
        snprintf(found, CONFIG_FOUND_SIZE, "%d", config_setting_get_int(setting));
        return found;
    case CONFIG_TYPE_INT64:
        snprintf(found, CONFIG_FOUND_SIZE, "%lld", config_setting_get_int64(setting));
        return found;
    case CONFIG_TYPE_FLOAT:
        snprintf(found, CONFIG_FOUND_SIZE, "%g", config_setting_get_float(setting));
        return found;
    case CONFIG_TYPE_STRING: {
        const char *text = config_setting_get_string(setting);
        if (text == NULL)
            text = "";
        size_t length = strlen(text), shown = length;
        if (shown > 48)
            shown = text_cut(text, 48);
        snprintf(found, CONFIG_FOUND_SIZE, "\"%.*s%s\"", (int)shown, text,
                 shown < length ? "..." : "");
        return found;
    }
    default: return "nothing";
    }
}

static void add_range(const imp_option *row, char *text, size_t size)
{
    size_t used = strlen(text);
    if (row->minimum != NULL && row->maximum != NULL)
        snprintf(text + used, size - used, " (%s to %s)", row->minimum, row->maximum);
    else if (row->minimum != NULL)
        snprintf(text + used, size - used, " (at least %s)", row->minimum);
    else if (row->maximum != NULL)
        snprintf(text + used, size - used, " (at most %s)", row->maximum);
}

static const char *sample(const imp_option *row, const char *otherwise)
{
    const char *text = row->default_text;
    return text == NULL || *text == '\0' || *text == '0' ? otherwise : text;
}

static void expected_choices(const imp_option *row, char expected[CONFIG_EXPECTED_SIZE])
{
    size_t used = (size_t)snprintf(expected, CONFIG_EXPECTED_SIZE, "one of ");
    for (const char *p = row->choices; p != NULL;) {
        size_t length = strcspn(p, "|");
        const char *rest = p[length] == '|' ? p + length + 1 : NULL;
        if (used < CONFIG_EXPECTED_SIZE) {
            int more = snprintf(expected + used, CONFIG_EXPECTED_SIZE - used, "\"%.*s\"%s",
                                (int)length, p, rest == NULL ? "" : ", ");
            used += more < 0 ? 0 : (size_t)more;
        }
        p = rest;
    }
}

const char *config_value_expected(const imp_option *row, char expected[CONFIG_EXPECTED_SIZE])
{
    switch (row->type) {
    case IMP_OPTION_BOOL: return "true or false";
    case IMP_OPTION_INTEGER:
        snprintf(expected, CONFIG_EXPECTED_SIZE, "an integer");
        add_range(row, expected, CONFIG_EXPECTED_SIZE);
        return expected;
    case IMP_OPTION_SIZE:
        snprintf(expected, CONFIG_EXPECTED_SIZE, "a size such as \"%s\"", sample(row, "32KiB"));
        add_range(row, expected, CONFIG_EXPECTED_SIZE);
        return expected;
    case IMP_OPTION_DURATION:
        snprintf(expected, CONFIG_EXPECTED_SIZE, "a duration such as \"%s\"", sample(row, "60s"));
        add_range(row, expected, CONFIG_EXPECTED_SIZE);
        return expected;
    case IMP_OPTION_STRING: return "a string in quotes, UTF-8 without control characters";
    case IMP_OPTION_ENUM: expected_choices(row, expected); return expected;
    case IMP_OPTION_STRINGS:
        snprintf(expected, CONFIG_EXPECTED_SIZE,
                 "an array of at most %u strings such as [ \"a\", \"b\" ]",
                 row->count_max == 0 ? CONFIG_COUNT_MAX_DEFAULT : row->count_max);
        return expected;
    case IMP_OPTION_SECRET: return "\"file:/PATH\", \"credential:NAME\" or \"store:NAME\"";
    case IMP_OPTION_GROUPS:
        snprintf(expected, CONFIG_EXPECTED_SIZE, "a list of at most %u groups such as ( { ... } )",
                 row->count_max == 0 ? CONFIG_COUNT_MAX_DEFAULT : row->count_max);
        return expected;
    default: return "nothing";
    }
}

imp_status config_value_error(imp_error *error, const char *where, const char *path,
                              const char *found, const char *expected)
{
    return imp_error_set(error, IMP_INVALID, "%s: %s: found %s, expected %s", where, path, found,
                         expected);
}
