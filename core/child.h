/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - the server's side of the spawner: start a sandboxed child, learn how it ended.
 *
 * One client for the process, owned by the control thread, which calls child_dispatch when the
 * spawner's descriptor is readable. child_spawn and child_kill may be called on any thread; `done`
 * runs on the thread that dispatches.
 */
#ifndef CORE_CHILD_H
#define CORE_CHILD_H

#include "core/spawner.h"

struct child_client;

/* How a child ended. */
struct child_end {
    bool was_started;   /* false: `error` says why not */
    bool was_signalled; /* then `code` is the signal, else the exit status */
    int code;
    imp_error error;
};

typedef void (*child_done_fn)(const struct child_end *end, void *arg);

/* Takes over `fd` (made non-blocking). NULL when memory is short. */
struct child_client *child_client_new(int fd);
/* The descriptor to watch for reading. */
int child_client_fd(const struct child_client *client);
/* Asks for a child. `input` and `output` stay the caller's and may be closed at once. `done` runs
 * exactly once if IMP_OK is returned, never else. IMP_BUSY when too many run. */
imp_status child_spawn(struct child_client *client, uint32_t program,
                       const struct spawner_limits *limits, int input, int output,
                       child_done_fn done, void *arg, uint32_t *serial, imp_error *error);
void child_kill(struct child_client *client, uint32_t serial);
/* Takes in what the spawner said and calls `done` of children that ended. False when the spawner is
 * gone: every child has then been reported as not started. */
bool child_dispatch(struct child_client *client);
/* Reports what still runs as ended, closes, frees. */
void child_client_free(struct child_client *client);

#endif
