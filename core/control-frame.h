/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control-frame.h - what imprimctl and the server say to each other on the control socket.
 *
 * A frame is: length of the rest (4 bytes, big-endian), kind (1 byte), payload. A conversation:
 *
 *   client  JSON     {"argv": ["job", "list"], "json": false}
 *   server  JSON     {"files": [{"name": "FILE", "path": "x.bak", "mode": "read" | "create"}]}
 *   client  FILES    one byte a file, the descriptors beside them (SCM_RIGHTS), in that order
 *   server  JSON     {"ask": ["card", "pin"]}
 *   client  SECRETS  the answers, each ended by a NUL; never JSON, whose parser keeps copies
 *   server  JSON     {"say": "released"} | {"rows": [{...}], "single": false} | {"text": "..."}
 *   server  JSON     {"done": {"status": "ok", "exit": 0, "message": ""}}     the last one
 *
 * `files` comes at most once and first, `ask`, `say`, `rows` and `text` any number of times.
 */
#ifndef CORE_CONTROL_FRAME_H
#define CORE_CONTROL_FRAME_H

#include <imprimatur/base.h>

#include <jansson.h>

#define CONTROL_HEADER_SIZE 5u
#define CONTROL_COMMAND_MAX ((size_t)256 * 1024) /* a client's frame: as long as a command line */
#define CONTROL_ANSWER_MAX ((size_t)4 * 1024 * 1024) /* a server's frame */
#define CONTROL_WORDS_MAX 512u                       /* in argv */
#define CONTROL_FILES_MAX 8u
#define CONTROL_SECRETS_MAX 8u
#define CONTROL_JSON_DEPTH_MAX 16u

enum control_frame_kind {
    CONTROL_FRAME_JSON = 1,
    CONTROL_FRAME_FILES = 2,
    CONTROL_FRAME_SECRETS = 3
};

/* Bytes that grow; wiped before they are freed, because frames carry secrets. */
struct control_buffer {
    char *data;
    size_t used, capacity;
};
/* Makes room for `length` more bytes and returns where they go; NULL when memory is short. */
char *control_buffer_room(struct control_buffer *buffer, size_t length);
bool control_buffer_add(struct control_buffer *buffer, const void *data, size_t length);
/* Takes bytes off the front. */
void control_buffer_consume(struct control_buffer *buffer, size_t length);
void control_buffer_free(struct control_buffer *buffer);

struct control_frame {
    enum control_frame_kind kind;
    char *payload; /* in the buffer, until it changes */
    size_t length;
    size_t whole; /* bytes to consume */
};
/* The frame at the front of `buffer`: IMP_OK, IMP_BUSY (not all there yet), IMP_LIMIT (longer than
 * `most`), IMP_INVALID (unknown kind). */
imp_status control_frame_next(const struct control_buffer *buffer, size_t most,
                              struct control_frame *frame);
/* Appends a frame; false when memory is short or it is longer than CONTROL_ANSWER_MAX. */
bool control_frame_add(struct control_buffer *buffer, enum control_frame_kind kind,
                       const void *payload, size_t length);
/* The same from JSON, whose reference it takes (NULL: memory was short). */
bool control_frame_add_json(struct control_buffer *buffer, json_t *json);
/* Parses a payload: UTF-8, one object, no duplicate keys, bounded depth. NULL with `error` filled. */
json_t *control_frame_parse(const char *payload, size_t length, imp_error *error);

/* A client's first frame. */
struct control_command {
    uint32_t count;
    const char **words; /* in `json` */
    json_t *json;
};
imp_status control_command_parse(const char *payload, size_t length,
                                 struct control_command *command, imp_error *error);
void control_command_free(struct control_command *command);

#endif
