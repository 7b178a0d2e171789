/* SPDX-License-Identifier: Apache-2.0 */
/* control-local.c - runs a command line without a socket, for tests. */
#include "build-config.h"

#include "core/control-request.h"
#include "core/control.h"

#include <stdlib.h>

struct local_client {
    struct control_client client; /* first */
    json_t *answers;
    void (*done)(const char *frames_json, int exit_status, void *arg);
    void *arg;
};

static void local_send(struct control_client *client, struct control_buffer *frames)
{
    struct local_client *local = (struct local_client *)client;
    struct control_frame frame;
    while (control_frame_next(frames, CONTROL_ANSWER_MAX, &frame) == IMP_OK) {
        json_array_append_new(local->answers,
                              control_frame_parse(frame.payload, frame.length, NULL));
        control_buffer_consume(frames, frame.whole);
    }
}

static void local_ask(struct control_client *client, uint32_t count)
{
    (void)count;
    imp_request *request = client->request;
    if (request != NULL)
        control_request_answer(request, NULL, 0);
}

static void local_done(struct control_client *client, int exit_status)
{
    struct local_client *local = (struct local_client *)client;
    char *text = json_dumps(local->answers, JSON_COMPACT);
    local->done(text == NULL ? "[]" : text, exit_status, local->arg);
    free(text);
    json_decref(local->answers);
    free(local);
}

static const struct control_client_kind local_kind = {local_send, local_ask, local_done};

static void refuse(struct local_client *local, const imp_error *error)
{
    struct control_buffer frames = {0};
    if (control_done_add(&frames, error->status, error->message))
        local_send(&local->client, &frames);
    control_buffer_free(&frames);
    local_done(&local->client, control_exit_status(error->status));
}

void control_run_for_test(const char *const *argv, uint32_t argc, uint32_t uid,
                          void (*done)(const char *frames_json, int exit_status, void *arg),
                          void *arg)
{
    imp_error error = {.status = IMP_INVALID};
    struct control_values values;
    uint32_t used;
    struct local_client *local = calloc(1, sizeof *local);
    if (local == NULL)
        abort();
    *local = (struct local_client){
        .client.kind = &local_kind, .answers = json_array(), .done = done, .arg = arg};
    const struct control_verb *verb = control_verb_find(argv, argc, &used);
    if (verb == NULL) {
        control_unknown_verb(argv, argc, &error);
        refuse(local, &error);
    } else if (control_values_parse(verb, argv + used, argc - used, &values, &error) != IMP_OK) {
        refuse(local, &error);
    } else if (!control_request_start(&local->client, uid, verb, &values)) {
        abort();
    }
}
