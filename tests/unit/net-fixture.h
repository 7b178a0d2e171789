/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net-fixture.h - what the tests of loops, streams and listeners share: turning a loop until
 * something has happened, pairs of sockets, and a stream that notes what it is told.
 */
#ifndef TESTS_UNIT_NET_FIXTURE_H
#define TESTS_UNIT_NET_FIXTURE_H

#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/loop.h"
#include "core/self.h"
#include "core/stream.h"
#include "core/time.h"
#include "core/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TEST_DEADLINE_S 20

static inline double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Turns the control loop until the condition holds; fails the test when it does not in time. */
#define TURN_UNTIL(condition)                                                                      \
    do {                                                                                           \
        double end_ = seconds() + TEST_DEADLINE_S;                                                 \
        while (!(condition)) {                                                                     \
            if (!loop_run_once(imp_loop_control(), false)) {                                       \
                struct pollfd none_ = {.fd = -1};                                                  \
                poll(&none_, 1, 1); /* other threads' and processes' turn */                       \
            }                                                                                      \
            if (seconds() > end_)                                                                  \
                fail_msg("%s:%d: never came: %s", __FILE__, __LINE__, #condition);                 \
        }                                                                                          \
    } while (0)

/* Turns until nothing is left to do at the moment. */
static inline void turn_idle(void)
{
    while (loop_run_once(imp_loop_control(), false))
        ;
    loop_run_once(imp_loop_control(), false);
}

static inline void set_nonblocking(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* A connected TCP pair over loopback; [0] is ours and non-blocking, [1] the peer's and blocking. */
static inline void tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[1], (struct sockaddr *)&address, size), 0);
    fds[0] = accept(listening, NULL, NULL);
    assert_true(fds[0] >= 0);
    set_nonblocking(fds[0]);
    close(listening);
}

/* A stream and what it was told. */
struct seen {
    imp_stream *stream;
    char input[1 << 17]; /* more than a stream shows at once */
    size_t input_length;
    uint64_t received;
    bool keeps_input; /* `readable` consumes nothing */
    bool is_in_call;
    uint32_t readable, ended, writable, connected, closed;
    imp_close_reason reason;
    char message[128];
    void (*on_readable)(struct seen *seen);
    void (*on_ended)(struct seen *seen);
    void (*on_writable)(struct seen *seen);
    void (*on_connected)(struct seen *seen);
};

static inline void seen_take(struct seen *seen)
{
    imp_bytes input = imp_stream_input(seen->stream);
    size_t room = sizeof seen->input - 1 - seen->input_length;
    size_t kept = input.length < room ? input.length : room;
    memcpy(seen->input + seen->input_length, input.data, kept);
    seen->input_length += kept;
    seen->input[seen->input_length] = '\0';
    seen->received += input.length;
    imp_stream_consume(seen->stream, input.length);
}

static inline void seen_readable(imp_stream *stream, void *arg)
{
    struct seen *seen = arg;
    seen->stream = stream;
    seen->readable++;
    seen->is_in_call = true;
    if (!seen->keeps_input)
        seen_take(seen);
    if (seen->on_readable != NULL)
        seen->on_readable(seen);
    seen->is_in_call = false;
}

static inline void seen_ended(imp_stream *stream, void *arg)
{
    struct seen *seen = arg;
    (void)stream;
    seen->ended++;
    seen->is_in_call = true;
    if (seen->on_ended != NULL)
        seen->on_ended(seen);
    seen->is_in_call = false;
}

static inline void seen_writable(imp_stream *stream, void *arg)
{
    struct seen *seen = arg;
    (void)stream;
    seen->writable++;
    seen->is_in_call = true;
    if (seen->on_writable != NULL)
        seen->on_writable(seen);
    seen->is_in_call = false;
}

static inline void seen_connected(imp_stream *stream, void *arg)
{
    struct seen *seen = arg;
    seen->stream = stream;
    seen->connected++;
    seen->is_in_call = true;
    if (seen->on_connected != NULL)
        seen->on_connected(seen);
    seen->is_in_call = false;
}

static inline void seen_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    struct seen *seen = arg;
    assert_false(seen->is_in_call);
    assert_int_equal(seen->closed, 0);
    seen->closed++;
    seen->reason = reason;
    strncpy(seen->message, imp_stream_close_message(stream), sizeof seen->message - 1);
    /* What comes too late is harmless. */
    assert_int_equal(imp_stream_write(stream, "x", 1), IMP_UNAVAILABLE);
    imp_stream_close(stream);
    imp_stream_abort(stream);
    imp_stream_resume(stream);
    seen->stream = NULL;
}

static const imp_stream_events seen_events = {
    .size = sizeof(imp_stream_events),
    .connected = seen_connected,
    .readable = seen_readable,
    .ended = seen_ended,
    .writable = seen_writable,
    .closed = seen_closed,
};

#endif
