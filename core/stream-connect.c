/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream-connect.c - outgoing connections: look-up on a worker, the addresses one after another,
 * then TLS.
 */
#include "build-config.h"

#include "core/stream-private.h"
#include "core/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_ADDRESSES_MAX 8u
/* While other addresses remain, one has so long; a dead one must not eat the whole time. */
#define CONNECT_ATTEMPT_MAX (5 * IMP_SECOND)

struct stream_connect {
    imp_stream *stream; /* NULL: it ended while the name was looked up */
    imp_work_token *work;
    char *host;
    char *tls_name;
    uint16_t port;
    bool tls;
    bool has_pin;
    uint8_t pin[TLS_PIN_SIZE];
    int64_t deadline; /* for everything together */
    struct sockaddr_storage addresses[CONNECT_ADDRESSES_MAX];
    socklen_t sizes[CONNECT_ADDRESSES_MAX];
    uint32_t count, next;
    int last_errno;
    int lookup_result; /* of getaddrinfo; written by the worker */
};

static void connect_destroy(struct stream_connect *connection)
{
    free(connection->host);
    free(connection->tls_name);
    free(connection);
}

/* On a worker, or at once for numbers (`flags` AI_NUMERICHOST). */
static void connect_look_up(struct stream_connect *connection, int flags)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];

    snprintf(port, sizeof port, "%u", connection->port);
    connection->lookup_result = getaddrinfo(connection->host, port, &hints, &found);
    if (connection->lookup_result != 0)
        return;
    for (const struct addrinfo *item = found;
         item != NULL && connection->count < CONNECT_ADDRESSES_MAX; item = item->ai_next) {
        if (item->ai_addrlen > sizeof(struct sockaddr_storage))
            continue;
        memcpy(&connection->addresses[connection->count], item->ai_addr, item->ai_addrlen);
        connection->sizes[connection->count++] = item->ai_addrlen;
    }
    freeaddrinfo(found);
}

static void look_up_run(void *arg)
{
    connect_look_up(arg, AI_ADDRCONFIG);
}

static void look_up_done(void *arg, bool was_cancelled)
{
    struct stream_connect *connection = arg;

    connection->work = NULL;
    if (connection->stream == NULL) {
        connect_destroy(connection);
        return;
    }
    if (was_cancelled)
        stream_fail(connection->stream, IMP_CLOSED_SHUTDOWN, "the server ends");
    else if (connection->count == 0)
        stream_fail(connection->stream, IMP_CLOSED_ERROR, gai_strerror(connection->lookup_result));
    stream_wake(connection->stream);
}

void stream_connect_free(imp_stream *stream)
{
    struct stream_connect *connection = stream->connect;
    if (connection == NULL)
        return;
    stream->connect = NULL;
    connection->stream = NULL;
    if (connection->work != NULL)
        imp_work_cancel(connection->work); /* look_up_done frees it */
    else
        connect_destroy(connection);
}

/* Starts on the next address that takes a connect(); fails the stream when none is left. */
static void connect_attempt(imp_stream *stream)
{
    struct stream_connect *connection = stream->connect;

    stream_drop_fd(stream);
    while (connection->next < connection->count) {
        uint32_t i = connection->next++;
        const int on = 1;
        int fd = socket(connection->addresses[i].ss_family,
                        SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            connection->last_errno = errno;
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd, (const struct sockaddr *)&connection->addresses[i], connection->sizes[i]) !=
                0 &&
            errno != EINPROGRESS) {
            connection->last_errno = errno;
            close(fd);
            continue;
        }
        if (stream_set_fd(stream, fd) != IMP_OK) {
            close(fd);
            stream_fail(stream, IMP_CLOSED_ERROR, "out of memory");
            return;
        }
        stream_peer_format(&connection->addresses[i], &stream->peer);
        stream->phase = STREAM_CONNECTING;
        stream->phase_deadline = connection->deadline;
        int64_t limit = loop_ticks(stream->loop) + CONNECT_ATTEMPT_MAX;
        if (connection->next < connection->count && limit < connection->deadline)
            stream->phase_deadline = limit;
        stream_timer_set(stream);
        return;
    }
    const char *text = strerrordesc_np(connection->last_errno);
    stream_fail(stream, connection->last_errno == ETIMEDOUT ? IMP_CLOSED_TIMEOUT : IMP_CLOSED_ERROR,
                connection->last_errno != 0 && text != NULL ? text : "no address to connect to");
}

bool stream_connect_timed_out(imp_stream *stream)
{
    struct stream_connect *connection = stream->connect;
    if (stream->phase != STREAM_CONNECTING || connection->next == connection->count ||
        connection->deadline <= loop_ticks(stream->loop))
        return false;
    connection->last_errno = ETIMEDOUT;
    connect_attempt(stream);
    return true;
}

void stream_connect_run(imp_stream *stream)
{
    struct stream_connect *connection = stream->connect;
    int error_number = 0;
    socklen_t size = sizeof error_number;

    if (stream->phase == STREAM_RESOLVING) {
        if (connection->work == NULL)
            connect_attempt(stream);
        return;
    }
    if (!stream->can_write)
        return;
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error_number, &size) != 0)
        error_number = errno;
    if (error_number != 0) {
        connection->last_errno = error_number;
        connect_attempt(stream);
        return;
    }
    if (!connection->tls) {
        stream_opened(stream);
        return;
    }
    stream->phase = STREAM_HANDSHAKE;
    stream->phase_deadline = connection->deadline;
    const char *name = connection->tls_name != NULL ? connection->tls_name : connection->host;
    if (stream_tls_begin_client(stream, name, connection->has_pin) != IMP_OK)
        stream_fail(stream, IMP_CLOSED_ERROR, "TLS is not available");
}

bool stream_connect_verify(imp_stream *stream)
{
    struct stream_connect *connection = stream->connect;
    if (!connection->tls || !connection->has_pin || stream_tls_fits_pin(stream, connection->pin))
        return true;
    stream_fail(stream, IMP_CLOSED_ERROR, "the peer's key is not the pinned one");
    return false;
}

imp_status imp_stream_connect(imp_self *self, const imp_connect_options *options,
                              const imp_stream_events *events, void *arg, imp_stream **stream,
                              imp_error *error)
{
    imp_loop *loop = imp_loop_current();
    struct stream_connect *connection = NULL;
    imp_stream *made = NULL;
    imp_status status = IMP_OK;

    *stream = NULL;
    if (loop == NULL)
        return imp_error_set(error, IMP_INVALID, "connections are made on a loop's thread");
    if (options->host == NULL || options->host[0] == '\0' || options->port == 0)
        return imp_error_set(error, IMP_INVALID, "a connection needs a host and a port");
    connection = calloc(1, sizeof *connection);
    made = stream_new(loop, events, arg, STREAM_RESOLVING);
    if (connection == NULL || made == NULL)
        goto no_memory;
    connection->host = strdup(options->host);
    connection->tls_name = options->tls_name != NULL ? strdup(options->tls_name) : NULL;
    if (connection->host == NULL || (options->tls_name != NULL && connection->tls_name == NULL))
        goto no_memory;
    connection->port = options->port;
    connection->tls = options->tls;
    if (options->tls_pin != NULL) {
        connection->has_pin = true;
        memcpy(connection->pin, options->tls_pin, TLS_PIN_SIZE);
    }
    connection->deadline =
        imp_ticks() + (options->timeout_us > 0 ? options->timeout_us : STREAM_CONNECT_TIMEOUT);
    connection->stream = made;
    if (!loop_object_add(loop, &made->object, self, LOOP_OBJECT_STREAM)) {
        status = imp_error_set(error, IMP_UNAVAILABLE, "the module ends");
        goto failed;
    }
    connect_look_up(connection, AI_NUMERICHOST);
    if (connection->count == 0) {
        connection->work = imp_work(NULL, look_up_run, look_up_done, connection);
        if (connection->work == NULL) {
            loop_object_remove(&made->object);
            status = imp_error_set(error, IMP_BUSY, "too much work waits (worker_queue)");
            goto failed;
        }
    }
    made->connect = connection;
    made->phase_deadline = connection->deadline;
    stream_timer_set(made);
    stream_wake(made);
    *stream = made;
    return IMP_OK;

no_memory:
    status = imp_error_set(error, IMP_LIMIT, "out of memory");
failed:
    if (made != NULL)
        stream_discard(made);
    if (connection != NULL)
        connect_destroy(connection);
    return status;
}
