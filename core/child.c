/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - the server's side of the spawner. */
#include "build-config.h"

#include "core/child.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/packet.h"

struct child_call {
    bool is_used;
    uint32_t serial;
    child_done_fn done;
    void *arg;
};

struct child_client {
    int fd;
    pthread_mutex_t lock; /* of all below */
    uint32_t next_serial;
    struct child_call calls[SPAWNER_CHILDREN_MAX];
};

struct child_client *child_client_new(int fd)
{
    struct child_client *client = calloc(1, sizeof *client);
    if (client == NULL || packet_set_nonblocking(fd, NULL) != IMP_OK ||
        pthread_mutex_init(&client->lock, NULL) != 0) {
        free(client);
        return NULL;
    }
    client->fd = fd;
    client->next_serial = 1;
    return client;
}

int child_client_fd(const struct child_client *client)
{
    return client->fd;
}

imp_status child_spawn(struct child_client *client, uint32_t program,
                       const struct spawner_limits *limits, int input, int output,
                       child_done_fn done, void *arg, uint32_t *serial, imp_error *error)
{
    struct spawner_message message;
    const int passed[] = {input, output};
    struct child_call *call = NULL;
    imp_status status;
    pthread_mutex_lock(&client->lock);
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX && call == NULL; i++)
        if (!client->calls[i].is_used)
            call = &client->calls[i];
    if (call == NULL) {
        status = imp_error_set(error, IMP_BUSY, "%u children run already", SPAWNER_CHILDREN_MAX);
        goto done;
    }
    spawner_message_set(&message, SPAWNER_START, client->next_serial);
    message.program = program;
    message.limits = *limits;
    if (spawner_message_parse(&message, sizeof message, &message) != IMP_OK) {
        status = imp_error_set(error, IMP_INVALID, "a child's program or bounds are out of range");
        goto done;
    }
    status = spawner_send(client->fd, &message, passed, 2, error);
    if (status != IMP_OK)
        goto done;
    *call = (struct child_call){true, client->next_serial, done, arg};
    *serial = client->next_serial++;
done:
    pthread_mutex_unlock(&client->lock);
    return status;
}

void child_kill(struct child_client *client, uint32_t serial)
{
    struct spawner_message message;
    spawner_message_set(&message, SPAWNER_KILL, serial);
    /* What can't be said now is done by the child's own deadline. */
    (void)spawner_send(client->fd, &message, NULL, 0, NULL);
}

/* Takes the call of a serial out of the table; the callback runs without the lock. */
static bool call_take(struct child_client *client, uint32_t serial, struct child_call *taken)
{
    bool is_found = false;
    pthread_mutex_lock(&client->lock);
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX && !is_found; i++) {
        struct child_call *call = &client->calls[i];
        if (!call->is_used || call->serial != serial)
            continue;
        *taken = *call;
        call->is_used = false;
        is_found = true;
    }
    pthread_mutex_unlock(&client->lock);
    return is_found;
}

static void end_set(struct child_end *end, const struct spawner_message *message)
{
    memset(end, 0, sizeof *end);
    if (message->kind == SPAWNER_REFUSED) {
        imp_error_set(&end->error, message->status, "%s", message->text);
        return;
    }
    int wait_status = (int)(unsigned)message->value;
    end->was_started = true;
    end->was_signalled = WIFSIGNALED(wait_status);
    end->code = end->was_signalled ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static void calls_end(struct child_client *client)
{
    struct child_end end = {.was_started = false};
    imp_error_set(&end.error, IMP_UNAVAILABLE, "the spawner is gone");
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        struct child_call call;
        pthread_mutex_lock(&client->lock);
        call = client->calls[i];
        client->calls[i].is_used = false;
        pthread_mutex_unlock(&client->lock);
        if (call.is_used)
            call.done(&end, call.arg);
    }
}

bool child_dispatch(struct child_client *client)
{
    for (;;) {
        struct spawner_message message;
        int passed[SPAWNER_PASSED_MAX];
        size_t passed_count;
        imp_status status = spawner_receive(client->fd, &message, passed, &passed_count, NULL);
        if (status == IMP_BUSY)
            return true;
        if (status != IMP_OK) {
            calls_end(client);
            return false;
        }
        packet_close(passed, passed_count);
        struct child_call call;
        if ((message.kind == SPAWNER_REFUSED || message.kind == SPAWNER_ENDED) &&
            call_take(client, message.serial, &call)) {
            struct child_end end;
            end_set(&end, &message);
            call.done(&end, call.arg);
        }
    }
}

void child_client_free(struct child_client *client)
{
    if (client == NULL)
        return;
    calls_end(client);
    close(client->fd);
    pthread_mutex_destroy(&client->lock);
    free(client);
}
