/* SPDX-License-Identifier: Apache-2.0 */
/* control-request.h - one call of a verb, between its connection and its module. */
#ifndef CORE_CONTROL_REQUEST_H
#define CORE_CONTROL_REQUEST_H

#include "core/control-frame.h"
#include "core/control-verb.h"

/* Whoever gets the answers: a connection, or a test. All calls on the control loop. */
struct control_client;
struct control_client_kind {
    /* Frames to be sent; takes what is in `frames` and empties it. */
    void (*send)(struct control_client *client, struct control_buffer *frames);
    /* `count` secrets are asked for (the frame was sent already); control_request_answer follows. */
    void (*ask)(struct control_client *client, uint32_t count);
    /* The request is over (its frames were sent already) and must not be used any more. */
    void (*done)(struct control_client *client, int exit_status);
};
struct control_client {
    const struct control_client_kind *kind;
    imp_request *request; /* NULL: none runs */
};

/* Calls the verb; takes `values` over, also on failure. False when memory is short: nothing was
 * called, and the client gets nothing. */
bool control_request_start(struct control_client *client, uint32_t uid,
                           const struct control_verb *verb, struct control_values *values);
/* The secrets that were asked for; wiped by the caller after this. */
void control_request_answer(imp_request *request, const char *const *values, uint32_t count);
/* The client has gone; the request goes on until its verb finishes it. */
void control_request_abandon(imp_request *request);

/* Text that is printed as it is (metrics, help); must be UTF-8. For the core's own verbs. */
void control_request_text(imp_request *request, const char *text, size_t length);

/* Appends the last frame. */
bool control_done_add(struct control_buffer *frames, imp_status status, const char *message);
/* 0, 1 or 2. */
int control_exit_status(imp_status status);

#endif
