/* SPDX-License-Identifier: Apache-2.0 */
/* ctl-print.c - tables for people, JSON for programs. */
#include "build-config.h"

#include "core/ctl/ctl.h"
#include "core/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN_GAP 2
#define CELL_SIZE 64 /* for numbers; text is printed from where it is */

/* ---- width ---- */

struct range {
    uint32_t first, last;
};

/* Marks that stand on the character before them (Unicode general category Mn, the common blocks), and
 * characters without any width. */
static const struct range zero_width[] = {
    {0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x0610, 0x061A}, {0x064B, 0x065F},
    {0x0900, 0x0902}, {0x0E31, 0x0E31}, {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E}, {0x1AB0, 0x1AFF},
    {0x1DC0, 0x1DFF}, {0x200B, 0x200F}, {0x202A, 0x202E}, {0x2060, 0x2064}, {0x20D0, 0x20FF},
    {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF},
};
/* East Asian Wide and Fullwidth (Unicode Standard Annex 11), as blocks. */
static const struct range double_width[] = {
    {0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0x33FF},   {0x3400, 0x4DBF},
    {0x4E00, 0x9FFF},   {0xA000, 0xA4CF},   {0xA960, 0xA97F},   {0xAC00, 0xD7A3},
    {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
    {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD},
};

static bool is_in(uint32_t code, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    return false;
}

size_t ctl_text_width(const char *text)
{
    size_t width = 0, length = strlen(text);
    while (length > 0) {
        const uint8_t *p = (const uint8_t *)text;
        size_t count = text_utf8_sequence(text, length);
        uint32_t code = 0xFFFD;
        if (count == 1)
            code = p[0];
        else if (count > 1) {
            code = p[0] & (0xFFu >> (count + 1));
            for (size_t i = 1; i < count; i++)
                code = code << 6 | (p[i] & 0x3Fu);
        } else {
            count = 1;
        }
        if (is_in(code, double_width, sizeof double_width / sizeof double_width[0]))
            width += 2;
        else if (!is_in(code, zero_width, sizeof zero_width / sizeof zero_width[0]))
            width += 1;
        text += count;
        length -= count;
    }
    return width;
}

/* ---- tables ---- */

static const char *cell_text(const json_t *value, char buffer[CELL_SIZE])
{
    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
    case JSON_STRING: return json_string_value(value);
    case JSON_INTEGER:
        snprintf(buffer, CELL_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return buffer;
    case JSON_REAL: snprintf(buffer, CELL_SIZE, "%g", json_real_value(value)); return buffer;
    case JSON_TRUE: return "yes";
    case JSON_FALSE: return "no";
    default: return "-";
    }
}

static void put(const char *text, size_t width, bool is_right, bool is_last)
{
    size_t used = ctl_text_width(text);
    size_t blanks = used < width ? width - used : 0;
    if (is_right)
        printf("%*s%s", (int)blanks, "", text);
    else
        printf("%s%*s", text, is_last ? 0 : (int)blanks, "");
    printf("%*s", is_last ? 0 : COLUMN_GAP, "");
}

static void print_single(const json_t *row)
{
    char buffer[CELL_SIZE];
    const char *name;
    json_t *value;
    size_t width = 0;
    json_object_foreach((json_t *)row, name, value)
    {
        size_t used = ctl_text_width(name);
        width = used > width ? used : width;
    }
    json_object_foreach((json_t *)row, name, value)
    {
        put(name, width, false, false);
        printf("%s\n", cell_text(value, buffer));
    }
}

struct column {
    const char *name;
    size_t width;
    bool is_right; /* numbers alone */
};

/* The columns of all rows, in the order in which they first come. */
static size_t find_columns(const json_t *rows, struct column **columns)
{
    size_t count = 0, index;
    json_t *row, *value;
    const char *name;
    *columns = NULL;
    json_array_foreach(rows, index, row)
    {
        json_object_foreach(row, name, value)
        {
            char buffer[CELL_SIZE];
            size_t i = 0;
            while (i < count && strcmp((*columns)[i].name, name) != 0)
                i++;
            if (i == count) {
                struct column *more = realloc(*columns, (count + 1) * sizeof *more);
                if (more == NULL)
                    return count;
                *columns = more;
                more[count++] =
                    (struct column){.name = name, .width = ctl_text_width(name), .is_right = true};
            }
            struct column *column = &(*columns)[i];
            size_t width = ctl_text_width(cell_text(value, buffer));
            column->width = width > column->width ? width : column->width;
            column->is_right = column->is_right && (json_is_number(value) || json_is_null(value));
        }
    }
    return count;
}

static void print_table(const json_t *rows)
{
    struct column *columns;
    size_t count = find_columns(rows, &columns), index;
    json_t *row;
    for (size_t i = 0; i < count; i++) {
        char title[CELL_SIZE];
        snprintf(title, sizeof title, "%s", columns[i].name);
        for (char *p = title; *p != '\0'; p++)
            *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p == '_' ? ' ' : *p;
        put(title, columns[i].width, columns[i].is_right, i + 1 == count);
    }
    if (count > 0)
        putchar('\n');
    json_array_foreach(rows, index, row)
    {
        char buffer[CELL_SIZE];
        for (size_t i = 0; i < count; i++)
            put(cell_text(json_object_get(row, columns[i].name), buffer), columns[i].width,
                columns[i].is_right, i + 1 == count);
        putchar('\n');
    }
    free(columns);
}

static void print_rows(struct ctl_printer *printer)
{
    size_t index;
    json_t *row;
    if (printer->rows == NULL)
        return;
    if (printer->is_single)
        json_array_foreach(printer->rows, index, row)
        {
            if (index > 0)
                putchar('\n');
            print_single(row);
        }
    else
        print_table(printer->rows);
    json_decref(printer->rows);
    printer->rows = NULL;
}

/* ---- frames ---- */

bool ctl_print(struct ctl_printer *printer, const json_t *frame)
{
    const char *said = json_string_value(json_object_get(frame, "say"));
    const json_t *text = json_object_get(frame, "text");
    json_t *rows = json_object_get(frame, "rows");
    if (said != NULL) {
        if (!printer->is_json) {
            print_rows(printer);
            printf("%s\n", said);
            fflush(stdout); /* progress is for now */
            return true;
        }
        if (printer->said == NULL)
            printer->said = json_array();
        json_array_append_new(printer->said, json_string(said));
        return true;
    }
    if (json_is_string(text)) {
        print_rows(printer);
        fwrite(json_string_value(text), 1, json_string_length(text), stdout);
        return true;
    }
    if (json_is_array(rows)) {
        bool is_single = json_is_true(json_object_get(frame, "single"));
        if (!printer->is_json && printer->is_single != is_single)
            print_rows(printer);
        printer->is_single = is_single;
        if (printer->rows == NULL)
            printer->rows = json_array();
        json_array_extend(printer->rows, rows);
        return true;
    }
    return false;
}

bool ctl_print_end(struct ctl_printer *printer)
{
    const size_t style = JSON_INDENT(2);
    if (!printer->is_json) {
        print_rows(printer);
    } else if (printer->rows != NULL) {
        const json_t *whole = printer->is_single && json_array_size(printer->rows) == 1
                                  ? json_array_get(printer->rows, 0)
                                  : printer->rows;
        size_t index;
        json_t *said;
        json_dumpf(whole, stdout, style);
        putchar('\n');
        /* Standard output is one JSON text; sentences beside rows are for people. */
        json_array_foreach(printer->said, index, said)
        {
            fprintf(stderr, "%s\n", json_string_value(said));
        }
    } else if (printer->said != NULL) {
        json_t *whole = json_pack("{s:O}", "messages", printer->said);
        json_dumpf(whole, stdout, style);
        putchar('\n');
        json_decref(whole);
    }
    json_decref(printer->rows);
    json_decref(printer->said);
    printer->rows = printer->said = NULL;
    return fflush(stdout) == 0 && ferror(stdout) == 0;
}
