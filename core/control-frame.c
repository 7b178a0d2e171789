/* SPDX-License-Identifier: Apache-2.0 */
/* control-frame.c - see control-frame.h. */
#include "build-config.h"

#include "core/control-frame.h"

#include <stdlib.h>
#include <string.h>

/* ---- buffers ---- */

char *control_buffer_room(struct control_buffer *buffer, size_t length)
{
    if (length > PTRDIFF_MAX - buffer->used)
        return NULL;
    if (buffer->used + length > buffer->capacity) {
        size_t capacity = buffer->capacity == 0 ? 4096 : buffer->capacity;
        while (capacity < buffer->used + length)
            capacity *= 2;
        /* Not realloc: it would leave a copy behind. */
        char *data = malloc(capacity);
        if (data == NULL)
            return NULL;
        if (buffer->used > 0)
            memcpy(data, buffer->data, buffer->used);
        if (buffer->data != NULL)
            imp_wipe(buffer->data, buffer->capacity);
        free(buffer->data);
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->used;
}

bool control_buffer_add(struct control_buffer *buffer, const void *data, size_t length)
{
    if (length == 0)
        return true;
    char *room = control_buffer_room(buffer, length);
    if (room == NULL)
        return false;
    memcpy(room, data, length);
    buffer->used += length;
    return true;
}

void control_buffer_consume(struct control_buffer *buffer, size_t length)
{
    size_t left = buffer->used - length;
    if (length == 0)
        return;
    memmove(buffer->data, buffer->data + length, left);
    imp_wipe(buffer->data + left, length);
    buffer->used = left;
}

void control_buffer_free(struct control_buffer *buffer)
{
    if (buffer->data != NULL)
        imp_wipe(buffer->data, buffer->capacity);
    free(buffer->data);
    *buffer = (struct control_buffer){0};
}

/* ---- frames ---- */

imp_status control_frame_next(const struct control_buffer *buffer, size_t most,
                              struct control_frame *frame)
{
    if (buffer->used < CONTROL_HEADER_SIZE)
        return IMP_BUSY;
    const uint8_t *p = (const uint8_t *)buffer->data;
    size_t rest = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    /* Judged by the header alone: nobody waits for what will be refused. */
    if (rest > most)
        return IMP_LIMIT;
    if (rest == 0 || p[4] < CONTROL_FRAME_JSON || p[4] > CONTROL_FRAME_SECRETS)
        return IMP_INVALID;
    if (buffer->used - 4 < rest)
        return IMP_BUSY;
    frame->kind = (enum control_frame_kind)p[4];
    frame->payload = buffer->data + CONTROL_HEADER_SIZE;
    frame->length = rest - 1;
    frame->whole = rest + 4;
    return IMP_OK;
}

bool control_frame_add(struct control_buffer *buffer, enum control_frame_kind kind,
                       const void *payload, size_t length)
{
    if (length >= CONTROL_ANSWER_MAX)
        return false;
    size_t rest = length + 1;
    uint8_t header[CONTROL_HEADER_SIZE] = {(uint8_t)(rest >> 24), (uint8_t)(rest >> 16),
                                           (uint8_t)(rest >> 8), (uint8_t)rest, (uint8_t)kind};
    if (control_buffer_room(buffer, sizeof header + length) == NULL)
        return false;
    return control_buffer_add(buffer, header, sizeof header) &&
           control_buffer_add(buffer, payload, length);
}

bool control_frame_add_json(struct control_buffer *buffer, json_t *json)
{
    if (json == NULL)
        return false;
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        return false;
    bool is_added = control_frame_add(buffer, CONTROL_FRAME_JSON, text, strlen(text));
    free(text);
    return is_added;
}

/* The parser recurses by depth; what goes deeper than any frame of ours does not reach it. */
static bool depth_is_good(const char *payload, size_t length)
{
    uint32_t depth = 0;
    bool is_string = false;
    for (size_t i = 0; i < length; i++) {
        char c = payload[i];
        if (is_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                is_string = false;
        } else if (c == '"') {
            is_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > CONTROL_JSON_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *control_frame_parse(const char *payload, size_t length, imp_error *error)
{
    json_error_t reason;
    if (!depth_is_good(payload, length)) {
        imp_error_set(error, IMP_INVALID, "a frame on the control socket is nested too deep");
        return NULL;
    }
    json_t *json = json_loadb(payload, length, JSON_REJECT_DUPLICATES, &reason);
    if (json == NULL) {
        imp_error_set(error, IMP_INVALID, "a frame on the control socket is no JSON: %s",
                      reason.text);
        return NULL;
    }
    if (!json_is_object(json)) {
        json_decref(json);
        imp_error_set(error, IMP_INVALID, "a frame on the control socket is no JSON object");
        return NULL;
    }
    return json;
}

imp_status control_command_parse(const char *payload, size_t length,
                                 struct control_command *command, imp_error *error)
{
    *command = (struct control_command){0};
    json_t *json = control_frame_parse(payload, length, error);
    if (json == NULL)
        return IMP_INVALID;
    const json_t *argv = json_object_get(json, "argv");
    size_t count = json_array_size(argv); /* 0 for what is no array */
    imp_status status = IMP_INVALID;
    if (!json_is_array(argv) || count > CONTROL_WORDS_MAX) {
        imp_error_set(error, status, "the command has no argv, or one of more than %u words",
                      CONTROL_WORDS_MAX);
        goto failed;
    }
    command->words = calloc(count + 1, sizeof *command->words);
    if (command->words == NULL) {
        status = imp_error_set(error, IMP_LIMIT, "out of memory");
        goto failed;
    }
    for (size_t i = 0; i < count; i++) {
        command->words[i] = json_string_value(json_array_get(argv, i));
        if (command->words[i] == NULL) {
            imp_error_set(error, status, "the command's argv holds something else than strings");
            goto failed;
        }
    }
    command->count = (uint32_t)count;
    command->json = json;
    return IMP_OK;
failed:
    free(command->words);
    json_decref(json);
    *command = (struct control_command){0};
    return status;
}

void control_command_free(struct control_command *command)
{
    free(command->words);
    json_decref(command->json);
    *command = (struct control_command){0};
}
