/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw-pjl.c - answering the questions that drivers ask before they print (HP's PJL Technical Reference
 * Manual, chapters 6 and 8), so that they do not wait for ever.
 *
 * Only what a held job can honestly say is said: an ID, "ready", and echoes. Everything else is answered
 * as a device answers what it does not know: with "?".
 */
#include "raw.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char uel[] = "\033%-12345X"; /* Universal Exit Language */
#define UEL_LENGTH 9

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* The next word of a line, in place; "" at its end. */
static const char *next_word(const char **at, size_t *length)
{
    while (is_space(**at))
        (*at)++;
    const char *word = *at;
    while (**at != '\0' && !is_space(**at))
        (*at)++;
    *length = (size_t)(*at - word);
    return word;
}

static bool word_is(const char *word, size_t length, const char *expected)
{
    return strlen(expected) == length && strncasecmp(word, expected, length) == 0;
}

/* One whole @PJL line, without its end. */
static size_t line_answer(struct raw_pjl *pjl, char answer[RAW_PJL_ANSWER_MAX])
{
    const char *at = pjl->line + strlen("@PJL");
    size_t length;
    const char *command = next_word(&at, &length);
    int written = 0;
    if (word_is(command, length, "ENTER")) {
        pjl->is_in_pjl = false;
    } else if (word_is(command, length, "ECHO")) {
        while (is_space(*at))
            at++;
        written = snprintf(answer, RAW_PJL_ANSWER_MAX, "@PJL ECHO %s\r\n\f", at);
    } else if (word_is(command, length, "INFO")) {
        const char *topic = next_word(&at, &length);
        if (word_is(topic, length, "ID"))
            written = snprintf(answer, RAW_PJL_ANSWER_MAX, "@PJL INFO ID\r\n\"Imprimatur\"\r\n\f");
        else if (word_is(topic, length, "STATUS"))
            written = snprintf(answer, RAW_PJL_ANSWER_MAX,
                               "@PJL INFO STATUS\r\nCODE=10001\r\nDISPLAY=\"Ready\"\r\n"
                               "ONLINE=TRUE\r\n\f");
        else
            written = snprintf(answer, RAW_PJL_ANSWER_MAX, "@PJL INFO %.*s\r\n?\r\n\f", (int)length,
                               topic);
    } else if (word_is(command, length, "INQUIRE") || word_is(command, length, "DINQUIRE")) {
        while (is_space(*at))
            at++;
        written = snprintf(answer, RAW_PJL_ANSWER_MAX, "@PJL %s %s\r\n\"?\"\r\n\f",
                           length == strlen("INQUIRE") ? "INQUIRE" : "DINQUIRE", at);
    }
    return written > 0 && written < RAW_PJL_ANSWER_MAX ? (size_t)written : 0;
}

static void line_end(struct raw_pjl *pjl, char answer[RAW_PJL_ANSWER_MAX], size_t *answer_length)
{
    while (pjl->length > 0 && pjl->line[pjl->length - 1] == '\r')
        pjl->length--;
    pjl->line[pjl->length] = '\0';
    for (uint32_t i = 0; i < pjl->length; i++)
        if ((unsigned char)pjl->line[i] < ' ' && pjl->line[i] != '\t')
            pjl->line[i] = '?'; /* what is echoed is text */
    if (pjl->length >= 4 && strncasecmp(pjl->line, "@PJL", 4) == 0) {
        if (!pjl->is_line_too_long)
            *answer_length = line_answer(pjl, answer);
    } else if (pjl->length > 0) {
        pjl->is_in_pjl = false;
        pjl->has_payload = true;
    }
    pjl->length = 0;
    pjl->is_line_too_long = false;
}

/* True when the line can't be PJL any more: then it is the document. */
static bool line_is_document(const struct raw_pjl *pjl)
{
    static const char prefix[] = "@PJL";
    uint32_t length = pjl->length < 4 ? pjl->length : 4;
    return strncasecmp(pjl->line, prefix, length) != 0 && pjl->line[0] != '\r';
}

size_t raw_pjl_feed(struct raw_pjl *pjl, const uint8_t *bytes, size_t length,
                    char answer[RAW_PJL_ANSWER_MAX], size_t *answer_length)
{
    size_t at = 0;
    *answer_length = 0;
    while (at < length && *answer_length == 0) {
        if (!pjl->is_in_pjl && pjl->uel_matched == 0) {
            /* the bulk of a document: nothing but the next escape matters */
            const uint8_t *escape = memchr(bytes + at, uel[0], length - at);
            size_t skip = escape == NULL ? length - at : (size_t)(escape - (bytes + at));
            for (size_t i = 0; i < skip && !pjl->has_payload; i++)
                pjl->has_payload = bytes[at + i] > ' ';
            at += skip;
            if (at == length)
                break;
        }
        char c = (char)bytes[at++];
        if (c == uel[pjl->uel_matched]) {
            if (++pjl->uel_matched == UEL_LENGTH) {
                pjl->uel_matched = 0;
                pjl->is_in_pjl = true;
                pjl->is_line_too_long = false;
                pjl->length = 0;
            }
            continue;
        }
        if (pjl->uel_matched > 0) { /* an escape of the document's own */
            pjl->uel_matched = c == uel[0] ? 1 : 0;
            pjl->has_payload = true;
            pjl->is_in_pjl = false;
            if (pjl->uel_matched == 0)
                continue;
        }
        if (!pjl->is_in_pjl)
            continue;
        if (c == '\n') {
            line_end(pjl, answer, answer_length);
            continue;
        }
        if (pjl->length < RAW_PJL_LINE_MAX)
            pjl->line[pjl->length++] = c;
        else
            pjl->is_line_too_long = true;
        if (line_is_document(pjl)) {
            pjl->is_in_pjl = false;
            pjl->has_payload = true;
        }
    }
    return at;
}
