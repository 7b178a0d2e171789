/* SPDX-License-Identifier: Apache-2.0 */
/* lpr-parse.c - reading command lines and control files of RFC 1179. Pure and bounded. */
#include "lpr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(uint8_t byte)
{
    /* RFC 1179 section 2: operands are separated by space, tab, vertical tab or form feed */
    return byte == ' ' || byte == '\t' || byte == '\v' || byte == '\f';
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The next operand: *word and its length; false when none is left. */
static bool next_operand(const uint8_t **at, const uint8_t *end, const uint8_t **word,
                         size_t *length)
{
    while (*at < end && is_blank(**at))
        (*at)++;
    *word = *at;
    while (*at < end && !is_blank(**at))
        (*at)++;
    *length = (size_t)(*at - *word);
    return *length > 0;
}

imp_status lpr_command_parse(const uint8_t *line, size_t length, struct lpr_command *command)
{
    memset(command, 0, sizeof *command);
    if (length == 0 || line[0] < LPR_PRINT_WAITING || line[0] > LPR_REMOVE)
        return IMP_INVALID;
    command->code = line[0];
    const uint8_t *at = line + 1, *end = line + length, *word;
    size_t word_length;
    if (end > at && end[-1] == '\r') /* some send CR LF */
        end--;
    /* A queue is a path to some clients ("printers/NAME"), and has blanks for others; only 03 to 05
     * have operands behind it. */
    if (command->code <= LPR_RECEIVE_JOB) {
        while (at < end && is_blank(*at))
            at++;
        while (end > at && is_blank(end[-1]))
            end--;
        if ((size_t)(end - at) >= sizeof command->queue)
            return IMP_INVALID;
        imp_text_clean(command->queue, sizeof command->queue, at, (size_t)(end - at));
        return IMP_OK;
    }
    if (next_operand(&at, end, &word, &word_length)) {
        if (word_length >= sizeof command->queue)
            return IMP_INVALID;
        imp_text_clean(command->queue, sizeof command->queue, word, word_length);
    }
    if (command->code == LPR_REMOVE && next_operand(&at, end, &word, &word_length)) {
        if (word_length >= sizeof command->agent)
            return IMP_INVALID;
        imp_text_clean(command->agent, sizeof command->agent, word, word_length);
    }
    while (next_operand(&at, end, &word, &word_length)) {
        if (command->operand_count == LPR_OPERANDS_MAX || word_length >= IMP_NAME_MAX)
            return IMP_INVALID;
        imp_text_clean(command->operands[command->operand_count++], IMP_NAME_MAX, word,
                       word_length);
    }
    return IMP_OK;
}

/* What clients announce for a size that they do not know: Windows without "LPR Byte Counting", CUPS in
 * mode=stream (two versions), and others. */
static bool is_unknown_size(uint64_t size)
{
    return size == UINT64_C(125899906843000) || size == UINT64_C(999999999999) ||
           size == UINT64_C(2147483647) || size == UINT64_C(4294967295);
}

imp_status lpr_file_parse(const uint8_t *line, size_t length, struct lpr_file *file)
{
    memset(file, 0, sizeof *file);
    if (length == 0 || line[0] < LPR_ABORT_JOB || line[0] > LPR_DATA_FILE)
        return IMP_INVALID;
    file->code = line[0];
    const uint8_t *at = line + 1, *end = line + length, *word;
    size_t word_length;
    if (end > at && end[-1] == '\r')
        end--;
    if (file->code == LPR_ABORT_JOB)
        return IMP_OK;
    if (!next_operand(&at, end, &word, &word_length) || word_length > 18)
        return IMP_INVALID;
    for (size_t i = 0; i < word_length; i++) {
        if (!is_digit(word[i]))
            return IMP_INVALID;
        file->size = file->size * 10 + (uint64_t)(word[i] - '0');
    }
    file->size_kind = file->size == 0               ? LPR_SIZE_ZERO
                      : is_unknown_size(file->size) ? LPR_SIZE_UNTIL_CLOSE
                                                    : LPR_SIZE_KNOWN;
    /* The name may hold blanks (a host's name that a person chose). */
    while (at < end && is_blank(*at))
        at++;
    if ((size_t)(end - at) >= sizeof file->name)
        return IMP_INVALID;
    imp_text_clean(file->name, sizeof file->name, at, (size_t)(end - at));
    /* "cfA123host": three digits; what follows may be an address and start with digits too */
    const uint8_t *digits = (const uint8_t *)file->name + 3;
    if (strlen(file->name) >= 6 && file->name[1] == 'f' && is_digit(digits[0]) &&
        is_digit(digits[1]) && is_digit(digits[2])) {
        file->has_number = true;
        file->number = (uint32_t)(digits[0] - '0') * 100 + (uint32_t)(digits[1] - '0') * 10 +
                       (uint32_t)(digits[2] - '0');
    }
    return IMP_OK;
}

static struct lpr_listed *listed_find(struct lpr_control *control, const char *name)
{
    for (uint32_t i = 0; i < control->file_count; i++)
        if (strcmp(control->files[i].name, name) == 0)
            return &control->files[i];
    return NULL;
}

/* Room for one more listed file. */
static struct lpr_listed *listed_add(struct lpr_control *control)
{
    if (control->file_count == control->file_room) {
        uint32_t room = control->file_room == 0 ? 1 : control->file_room * 2;
        struct lpr_listed *files = NULL;
        if (room > LPR_FILES_MAX)
            room = LPR_FILES_MAX;
        if (control->file_count < room)
            files =
                calloc(room, sizeof *files); /* not realloc: names that are left behind are wiped */
        if (files == NULL)
            return NULL;
        if (control->file_count > 0) {
            memcpy(files, control->files, control->file_count * sizeof *files);
            imp_wipe(control->files, control->file_count * sizeof *files);
        }
        free(control->files);
        control->files = files;
        control->file_room = room;
    }
    return &control->files[control->file_count++];
}

void lpr_control_clear(struct lpr_control *control)
{
    if (control->files != NULL)
        imp_wipe(control->files, control->file_count * sizeof *control->files);
    free(control->files);
    imp_wipe(control, sizeof *control);
}

/* The lower-case letters that print a file (RFC 1179 sections 7.17 to 7.27; 'z' is LPRng's). */
static bool is_format(uint8_t letter)
{
    return letter != 0 && strchr("cdfglnoprtvz", letter) != NULL;
}

imp_status lpr_control_parse(const uint8_t *text, size_t length, struct lpr_control *control)
{
    memset(control, 0, sizeof *control);
    char title[IMP_NAME_MAX * 2] = "", source[LPR_SOURCE_MAX] = "";
    struct lpr_listed *last = NULL;
    if (memchr(text, '\0', length) != NULL)
        return IMP_INVALID;
    for (size_t at = 0; at < length;) {
        const uint8_t *line = text + at;
        const uint8_t *feed = memchr(line, '\n', length - at);
        size_t line_length = feed == NULL ? length - at : (size_t)(feed - line);
        at += line_length + 1;
        if (line_length > 0 && line[line_length - 1] == '\r')
            line_length--;
        if (line_length == 0)
            continue;
        uint8_t letter = line[0];
        const uint8_t *operand = line + 1;
        size_t operand_length = line_length - 1;
        if (letter == 'H') {
            imp_text_clean(control->host, sizeof control->host, operand, operand_length);
        } else if (letter == 'P') {
            imp_text_clean(control->user, sizeof control->user, operand, operand_length);
        } else if (letter == 'J') {
            imp_text_clean(control->job_name, sizeof control->job_name, operand, operand_length);
        } else if (letter == 'T') {
            imp_text_clean(title, sizeof title, operand, operand_length);
        } else if (letter == 'N') {
            /* names the file of the format line before it, or, with clients that send N first, of the
             * one behind it */
            char *target = last != NULL && last->source[0] == '\0' ? last->source : source;
            imp_text_clean(target, LPR_SOURCE_MAX, operand, operand_length);
        } else if (is_format(letter)) {
            char name[LPR_FILE_NAME_MAX];
            if (operand_length == 0 || operand_length >= sizeof name)
                return IMP_INVALID;
            imp_text_clean(name, sizeof name, operand, operand_length);
            struct lpr_listed *listed = listed_find(control, name);
            if (listed == NULL) {
                listed = listed_add(control);
                if (listed == NULL)
                    return IMP_LIMIT;
                snprintf(listed->name, sizeof listed->name, "%s", name);
                snprintf(listed->source, sizeof listed->source, "%s", source);
                source[0] = '\0';
                listed->format = (char)letter;
            }
            if (listed->copies < LPR_COPIES_MAX)
                listed->copies++;
            last = listed;
        }
    }
    if (control->job_name[0] == '\0')
        snprintf(control->job_name, sizeof control->job_name, "%s", title);
    return IMP_OK;
}
