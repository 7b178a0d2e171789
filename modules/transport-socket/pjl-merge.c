/* SPDX-License-Identifier: Apache-2.0 */
#include "pjl-merge.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- text ---- */

/* One character of UTF-8, which the caller knows to end with a NUL; what is none counts as one byte. */
static uint32_t take_character(const unsigned char **at)
{
    const unsigned char *c = *at;
    uint32_t value = 0xfffd;
    size_t length = 1;
    if (c[0] < 0x80) {
        value = c[0];
    } else if ((c[0] & 0xe0) == 0xc0 && (c[1] & 0xc0) == 0x80) {
        value = (uint32_t)(c[0] & 0x1f) << 6 | (c[1] & 0x3f);
        length = 2;
    } else if ((c[0] & 0xf0) == 0xe0 || (c[0] & 0xf8) == 0xf0) {
        /* Nothing of these is in Latin-1. */
        while ((c[length] & 0xc0) == 0x80 && length < 4)
            length++;
    }
    *at = c + length;
    return value;
}

size_t pjl_quote(char target[PJL_NAME_MAX], const char *name)
{
    const unsigned char *at = (const unsigned char *)name;
    size_t length = 0;
    while (*at != '\0' && length < PJL_NAME_MAX) {
        uint32_t character = take_character(&at);
        if (character == '"')
            character = '\'';
        else if (character < 0x20 || (character >= 0x7f && character < 0xa0) || character > 0xff)
            character = '?';
        target[length++] = (char)(unsigned char)character;
    }
    return length;
}

static void add_bytes(struct pjl_merge *merge, const void *bytes, size_t length)
{
    /* Names are bounded, so all lines together fit; _Static_assert below. */
    if (length > sizeof merge->text - merge->text_length)
        return;
    memcpy(merge->text + merge->text_length, bytes, length);
    merge->text_length += length;
}

static void add_text(struct pjl_merge *merge, const char *text)
{
    add_bytes(merge, text, strlen(text));
}

_Static_assert(PJL_TEXT_MAX >= 2 * (PJL_NAME_MAX + 32) + 200, "names and lines fit");

static void add_name(struct pjl_merge *merge, const char *variable, const char *name)
{
    char quoted[PJL_NAME_MAX];
    size_t length = name == NULL ? 0 : pjl_quote(quoted, name);
    if (length == 0)
        return;
    add_text(merge, "@PJL SET ");
    add_text(merge, variable);
    add_text(merge, "=\"");
    add_bytes(merge, quoted, length);
    add_text(merge, "\"\r\n");
}

/* ---- pieces ---- */

static void add_piece(struct pjl_merge *merge, const void *data, size_t length)
{
    if (length != 0 && merge->count < PJL_PIECES_MAX)
        merge->pieces[merge->count++] = (imp_bytes){data, length};
}

static bool is_dropped(const struct pjl_wanted *wanted, int32_t kind)
{
    switch (kind) {
    case IMP_SPAN_PJL_HOLD: return wanted->drops_hold;
    case IMP_SPAN_PJL_COPIES: return wanted->copies != 0;
    case IMP_SPAN_PJL_DUPLEX:
    case IMP_SPAN_PJL_BINDING: return wanted->speaks_pjl && wanted->sides != PJL_SIDES_AS_SENT;
    case IMP_SPAN_PJL_USERNAME:
    case IMP_SPAN_PJL_JOBNAME:
    case IMP_SPAN_PJL_JOB_NAME: return wanted->speaks_pjl && wanted->replaces_names;
    default: return false;
    }
}

/* Where in the head lines go in: in front of ENTER LANGUAGE, so that they are the last word, else behind
 * the header's last line. False when there is no place that is sure. */
static bool find_place(imp_bytes head, const imp_document_head *found, size_t *place)
{
    bool has_place = false;
    /* A full list may be one that was cut: the header's end is unknown then. */
    if (!found->has_pjl || found->span_count >= IMP_DOCUMENT_SPANS_MAX)
        return false;
    for (uint32_t i = 0; i < found->span_count; i++) {
        const imp_document_span *span = &found->spans[i];
        if (span->offset > head.length || span->length > head.length - span->offset)
            continue;
        if (span->kind == IMP_SPAN_PJL_ENTER) {
            *place = span->offset;
            return true;
        }
        if (span->kind == IMP_SPAN_PJL_HEADER) {
            *place = (size_t)span->offset + span->length;
            has_place = true;
        }
    }
    return has_place;
}

/* Languages that a header of our own may enter, by their media type. */
static const struct {
    const char *format, *language;
} languages[] = {
    {"application/postscript", "POSTSCRIPT"},
    {"application/vnd.hp-PCL", "PCL"},
    {"application/vnd.hp-PCLXL", "PCLXL"},
    {"application/pdf", "PDF"},
};

static const char *language_of(const imp_document_head *found)
{
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++) {
        if (strcmp(found->format, languages[i].format) == 0)
            return languages[i].language;
    }
    return NULL;
}

/* Which of the two the document used itself: its driver knows the device. */
static bool says_qty(imp_bytes head, const imp_document_head *found, bool otherwise)
{
    static const char word[] = "QTY";
    const char *bytes = head.data;
    bool is_qty = otherwise;
    for (uint32_t i = 0; i < found->span_count; i++) {
        const imp_document_span *span = &found->spans[i];
        if (span->kind != IMP_SPAN_PJL_COPIES || span->offset > head.length ||
            span->length > head.length - span->offset)
            continue;
        is_qty = false;
        for (size_t at = 0; at + sizeof word - 1 <= span->length; at++) {
            const char *c = bytes + span->offset + at;
            if ((c[0] & ~0x20) == 'Q' && (c[1] & ~0x20) == 'T' && (c[2] & ~0x20) == 'Y')
                return true;
        }
    }
    return is_qty;
}

static void write_lines(imp_bytes head, const imp_document_head *found,
                        const struct pjl_wanted *wanted, struct pjl_merge *merge)
{
    if (wanted->replaces_names) {
        add_name(merge, "USERNAME", wanted->user_name);
        add_name(merge, "JOBNAME", wanted->job_name);
    }
    if (wanted->copies != 0) {
        char line[40];
        bool is_qty = says_qty(head, found, wanted->copies_are_qty);
        snprintf(line, sizeof line, "@PJL SET %s=%u\r\n", is_qty ? "QTY" : "COPIES",
                 wanted->copies);
        add_text(merge, line);
        merge->has_copies = true;
    }
    if (wanted->sides == PJL_SIDES_ONE)
        add_text(merge, "@PJL SET DUPLEX=OFF\r\n");
    else if (wanted->sides == PJL_SIDES_LONG_EDGE)
        add_text(merge, "@PJL SET DUPLEX=ON\r\n@PJL SET BINDING=LONGEDGE\r\n");
    else if (wanted->sides == PJL_SIDES_SHORT_EDGE)
        add_text(merge, "@PJL SET DUPLEX=ON\r\n@PJL SET BINDING=SHORTEDGE\r\n");
}

/* Sends head[from, to) without the spans that are dropped. */
static void add_range(imp_bytes head, const imp_document_head *found,
                      const struct pjl_wanted *wanted, size_t from, size_t to,
                      struct pjl_merge *merge)
{
    const uint8_t *bytes = head.data;
    while (from < to) {
        size_t next = to, end = to;
        /* The first dropped span that is not behind us; they come in order, but nothing relies on it. */
        for (uint32_t i = 0; i < found->span_count; i++) {
            const imp_document_span *span = &found->spans[i];
            if (span->offset > head.length || span->length > head.length - span->offset ||
                !is_dropped(wanted, span->kind))
                continue;
            size_t span_end = (size_t)span->offset + span->length;
            if (span_end <= from || span->offset >= next)
                continue;
            next = span->offset < from ? from : span->offset;
            end = span_end;
        }
        add_piece(merge, bytes + from, next - from);
        if (next < to)
            merge->is_changed = true;
        from = end < to ? end : to;
    }
}

void pjl_merge(imp_bytes head, const imp_document_head *found, const struct pjl_wanted *wanted,
               struct pjl_merge *merge)
{
    size_t place = 0, from = 0;
    bool has_place = false;
    *merge = (struct pjl_merge){0};

    if (wanted->speaks_pjl && find_place(head, found, &place)) {
        write_lines(head, found, wanted, merge);
        has_place = true;
    } else if (wanted->speaks_pjl && !found->has_pjl && language_of(found) != NULL) {
        add_text(merge, PJL_EXIT "@PJL\r\n");
        size_t prologue = merge->text_length;
        write_lines(head, found, wanted, merge);
        if (merge->text_length == prologue) {
            merge->text_length = 0;
        } else {
            add_text(merge, "@PJL ENTER LANGUAGE=");
            add_text(merge, language_of(found));
            add_text(merge, "\r\n");
            merge->needs_exit = true;
            /* An end-of-file mark in front of PostScript would end the job that was just described. */
            while (from < head.length && ((const uint8_t *)head.data)[from] == '\004')
                from++;
        }
        has_place = true;
        place = from;
    }
    merge->has_lost_sides = wanted->sides != PJL_SIDES_AS_SENT && !has_place;
    add_range(head, found, wanted, from, place, merge);
    if (merge->text_length != 0) {
        add_piece(merge, merge->text, merge->text_length);
        merge->is_changed = true;
    }
    add_range(head, found, wanted, place, head.length, merge);
}
