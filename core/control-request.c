/* SPDX-License-Identifier: Apache-2.0 */
/* control-request.c - see control-request.h and <imprimatur/control.h>. */
#include "build-config.h"

#include "core/control-request.h"
#include "core/loop.h"
#include "core/module.h"
#include "core/text.h"
#include "core/time.h"

#include <imprimatur/service.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIN_NAME "request"
#define FIELD_MAX ((size_t)16 * 1024) /* bytes of one text value */
#define SAY_MAX ((size_t)4 * 1024)
#define TEXT_CHUNK ((size_t)256 * 1024)
/* Rows go into a frame when there are so many, or so many bytes: a frame is bounded. */
#define ROWS_PER_FRAME 256u
#define BYTES_PER_FRAME ((size_t)512 * 1024)

struct imp_request {
    imp_self *self;
    struct control_client *client; /* NULL: gone */
    struct control_values values;
    uint32_t uid;

    struct control_buffer frames; /* built, not sent */
    json_t *rows, *row;
    bool is_single;
    size_t row_bytes;
    bool is_short_of_memory;

    void (*answered)(imp_request *request, const char *const *values, uint32_t count, void *arg);
    void *answered_arg;

    _Atomic bool is_finished; /* set by whichever thread finishes it */
    imp_error result;
    struct loop_post finish_post, gone_post;
};

/* ---- arguments ---- */

const char *imp_request_value(imp_request *request, const char *name, uint32_t index)
{
    const struct control_value *value = control_values_find(&request->values, name, index);
    return value == NULL ? NULL : value->text;
}

int imp_request_file(imp_request *request, const char *name)
{
    const struct control_value *value = control_values_find(&request->values, name, 0);
    return value == NULL ? -1 : value->fd;
}

uint32_t imp_request_uid(imp_request *request)
{
    return request->uid;
}

/* ---- building the answer ---- */

static void add_json(imp_request *request, json_t *json)
{
    if (!control_frame_add_json(&request->frames, json))
        request->is_short_of_memory = true;
}

/* Puts the rows so far into a frame. */
static void end_rows(imp_request *request)
{
    if (request->row != NULL && json_array_append_new(request->rows, request->row) != 0)
        request->is_short_of_memory = true;
    request->row = NULL;
    if (request->rows == NULL)
        return;
    if (json_array_size(request->rows) > 0)
        add_json(request, json_pack("{s:o, s:b}", "rows", request->rows, "single",
                                    request->is_single ? 1 : 0));
    else
        json_decref(request->rows);
    request->rows = NULL;
    request->row_bytes = 0;
}

void imp_row_begin(imp_request *request, bool is_single)
{
    if (request->rows != NULL &&
        (request->is_single != is_single || request->row_bytes >= BYTES_PER_FRAME ||
         json_array_size(request->rows) >= ROWS_PER_FRAME))
        end_rows(request);
    if (request->row != NULL && json_array_append_new(request->rows, request->row) != 0)
        request->is_short_of_memory = true;
    if (request->rows == NULL)
        request->rows = json_array();
    request->is_single = is_single;
    request->row = json_object();
    if (request->rows == NULL || request->row == NULL) {
        json_decref(request->row);
        request->row = NULL;
        request->is_short_of_memory = true;
    }
}

static void set_field(imp_request *request, const char *name, json_t *value)
{
    if (request->row == NULL && !request->is_short_of_memory)
        imp_row_begin(request, true);
    if (request->row == NULL || json_object_set_new(request->row, name, value) != 0) {
        if (request->row == NULL)
            json_decref(value);
        request->is_short_of_memory = true;
    }
    request->row_bytes += strlen(name) + 32;
}

void imp_field_text(imp_request *request, const char *name, const char *value)
{
    char buffer[512], *clean = buffer;
    if (value == NULL) {
        set_field(request, name, json_null());
        return;
    }
    size_t length = strlen(value), size = length + 1;
    /* Cleaning text that is no UTF-8 may make three bytes of one. */
    if (!imp_utf8_is_valid(value, length))
        size = 3 * length + 1;
    if (size > FIELD_MAX)
        size = FIELD_MAX;
    if (size > sizeof buffer && (clean = malloc(size)) == NULL) {
        request->is_short_of_memory = true;
        return;
    }
    size_t written =
        imp_text_clean(clean, size > sizeof buffer ? size : sizeof buffer, value, length);
    set_field(request, name, json_stringn(clean, written));
    request->row_bytes += written;
    if (clean != buffer)
        free(clean);
}

void imp_field_printf(imp_request *request, const char *name, const char *format, ...)
{
    char text[SAY_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text)
        text[text_cut(text, sizeof text - 1)] = '\0';
    imp_field_text(request, name, length < 0 ? "" : text);
}

void imp_field_integer(imp_request *request, const char *name, int64_t value)
{
    set_field(request, name, json_integer(value));
}

void imp_field_bool(imp_request *request, const char *name, bool value)
{
    set_field(request, name, json_boolean(value));
}

void imp_field_id(imp_request *request, const char *name, imp_id id)
{
    char text[IMP_ID_TEXT_SIZE];
    imp_field_text(request, name, imp_id_format(id, text));
}

void imp_field_time(imp_request *request, const char *name, int64_t time_us)
{
    char text[TIME_TEXT_SIZE];
    imp_field_text(request, name, time_us == 0 ? NULL : time_format(time_us, text));
}

void imp_request_say(imp_request *request, const char *format, ...)
{
    char text[SAY_MAX], clean[SAY_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0)
        length = 0;
    if ((size_t)length >= sizeof text)
        length = (int)text_cut(text, sizeof text - 1);
    imp_text_clean(clean, sizeof clean, text, (size_t)length);
    end_rows(request); /* in the order in which the verb said them */
    add_json(request, json_pack("{s:s}", "say", clean));
}

void control_request_text(imp_request *request, const char *text, size_t length)
{
    end_rows(request);
    while (length > 0) {
        size_t size = length;
        if (size > TEXT_CHUNK)
            size = text_cut(text, TEXT_CHUNK);
        add_json(request, json_pack("{s:o}", "text", json_stringn(text, size)));
        text += size;
        length -= size;
    }
}

/* ---- life ---- */

static void send_frames(imp_request *request)
{
    if (request->client != NULL && request->frames.used > 0)
        request->client->kind->send(request->client, &request->frames);
    control_buffer_free(&request->frames);
}

void imp_request_flush(imp_request *request)
{
    end_rows(request);
    send_frames(request);
}

bool control_request_start(struct control_client *client, uint32_t uid,
                           const struct control_verb *verb, struct control_values *values)
{
    imp_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        control_values_free(values);
        return false;
    }
    request->self = verb->self;
    request->client = client;
    request->uid = uid;
    request->values = *values;
    *values = (struct control_values){0};
    client->request = request;
    if (request->self != NULL)
        imp_pin(request->self, PIN_NAME);
    /* The verb may be swept, and the request be finished elsewhere, before run returns. */
    imp_self *self = request->self;
    void *instance = self == NULL ? NULL : imp_self_instance(self);
    module_call_begin(self);
    verb->run(self, instance, request);
    module_call_end(self);
    return true;
}

void control_request_answer(imp_request *request, const char *const *values, uint32_t count)
{
    void (*answered)(imp_request *, const char *const *, uint32_t, void *) = request->answered;
    imp_self *self = request->self;
    if (answered == NULL)
        return;
    request->answered = NULL;
    module_call_begin(self);
    answered(request, values, count, request->answered_arg);
    module_call_end(self);
}

static void answer_gone(void *arg)
{
    control_request_answer(arg, NULL, 0);
}

/* From the loop: the verb may be in the middle of asking. */
static void post_gone(imp_request *request)
{
    request->gone_post = (struct loop_post){.fn = answer_gone, .arg = request};
    if (!loop_post_node(imp_loop_control(), &request->gone_post))
        answer_gone(request);
}

void imp_request_ask(imp_request *request, const char *names,
                     void (*answered)(imp_request *request, const char *const *values,
                                      uint32_t count, void *arg),
                     void *arg)
{
    json_t *list = json_array();
    uint32_t count = 0;
    for (const char *p = names; *p != '\0';) {
        size_t length = strcspn(p, " ");
        if (length > 0) {
            json_array_append_new(list, json_stringn(p, length));
            count++;
        }
        p += length;
        p += strspn(p, " ");
    }
    request->answered = answered;
    request->answered_arg = arg;
    end_rows(request);
    add_json(request, json_pack("{s:o}", "ask", list));
    if (request->client == NULL || request->is_short_of_memory || count > CONTROL_SECRETS_MAX) {
        post_gone(request);
        return;
    }
    send_frames(request);
    request->client->kind->ask(request->client, count);
}

void control_request_abandon(imp_request *request)
{
    request->client = NULL;
    /* A finished one is about to be freed: nobody is waiting for its secrets. */
    if (request->answered != NULL && !request->is_finished)
        post_gone(request);
}

int control_exit_status(imp_status status)
{
    return status == IMP_OK ? 0 : status == IMP_INVALID ? 2 : 1;
}

bool control_done_add(struct control_buffer *frames, imp_status status, const char *message)
{
    return control_frame_add_json(
        frames, json_pack("{s:{s:s, s:i, s:s}}", "done", "status", imp_status_name(status), "exit",
                          control_exit_status(status), "message", message));
}

static void request_end(void *arg)
{
    imp_request *request = arg;
    imp_self *self = request->self;
    struct control_client *client = request->client;
    int exit_status;
    end_rows(request);
    if (request->is_short_of_memory && request->result.status == IMP_OK)
        imp_error_set(&request->result, IMP_LIMIT,
                      "the answer could not be built as a whole: memory is short");
    if (!control_done_add(&request->frames, request->result.status, request->result.message))
        imp_error_set(&request->result, IMP_LIMIT, "out of memory");
    exit_status = control_exit_status(request->result.status);
    send_frames(request);
    if (client != NULL) {
        client->request = NULL;
        client->kind->done(client, exit_status);
    }
    control_values_free(&request->values);
    free(request);
    imp_unpin(self, PIN_NAME); /* last: with it the module's code may go */
}

void imp_request_finish(imp_request *request, imp_status status, const imp_error *error)
{
    if (request->is_finished)
        return;
    request->is_finished = true;
    request->result.status = status;
    if (status != IMP_OK)
        imp_error_set(&request->result, status, "%s",
                      error == NULL || error->message[0] == '\0' ? imp_status_name(status)
                                                                 : error->message);
    request->finish_post = (struct loop_post){.fn = request_end, .arg = request};
    if (!loop_post_node(imp_loop_control(), &request->finish_post))
        request_end(request); /* the loop has ended, and with it every other thread's use */
}
