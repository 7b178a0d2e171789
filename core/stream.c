/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - a connection on its loop: buffers, back-pressure, deadlines, and the order of its end.
 *
 * Everything that calls a module happens in stream_run(), which only the loop calls: for a ready
 * descriptor, a timer, or because a call on the stream asked for it (stream_wake). So `closed` never
 * comes from within a module's call, and a stream is freed only when none of its frames is on the
 * stack.
 *
 * The descriptor is watched for edges, once for its whole life: `can_read` and `can_write` say what
 * the system has not yet refused. Pausing is a flag, no system call.
 *
 * Input is received into the loop's shared buffer and lent to the module for the call of `readable`;
 * only what the module leaves there is copied to a buffer of the stream's own. So an idle connection,
 * and one whose module takes all, has no buffer at all.
 */
#include "build-config.h"

#include "core/stream-private.h"

#include "core/listener.h"
#include "core/module.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_OF(pointer, member)                                                                 \
    ((imp_stream *)(void *)((char *)(pointer)-offsetof(imp_stream, member)))

/* Calls one of the module's functions, if it gave it. */
#define STREAM_CALL(stream, event)                                                                 \
    do {                                                                                           \
        imp_self *call_self_ = (stream)->object.self;                                              \
        if ((stream)->events.event != NULL) {                                                      \
            module_call_begin(call_self_);                                                         \
            (stream)->events.event((stream), (stream)->arg);                                       \
            module_call_end(call_self_);                                                           \
        }                                                                                          \
    } while (0)

static void stream_run(imp_stream *stream);
static void stream_finish(imp_stream *stream, imp_close_reason reason, bool may_call);

/* ---- buffers ---- */

/* Makes room for `length` more bytes behind what is there; `room_max` bounds the growth to powers of
 * two. */
static bool buffer_reserve(struct stream_buffer *buffer, size_t length, size_t room_first)
{
    if (buffer->room - buffer->start - buffer->length >= length)
        return true;
    if (buffer->room - buffer->length >= length && buffer->start >= buffer->length) {
        memcpy(buffer->data, buffer->data + buffer->start, buffer->length);
        buffer->start = 0;
        return true;
    }
    size_t room = buffer->room > room_first ? buffer->room : room_first;
    while (room - buffer->length < length)
        room *= 2;
    uint8_t *data = malloc(room);
    if (data == NULL)
        return false;
    if (buffer->length > 0)
        memcpy(data, buffer->data + buffer->start, buffer->length);
    free(buffer->data);
    buffer->data = data;
    buffer->room = room;
    buffer->start = 0;
    return true;
}

static void buffer_free(struct stream_buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

static void buffer_take(struct stream_buffer *buffer, size_t length)
{
    buffer->start += length;
    buffer->length -= length;
    if (buffer->length == 0)
        buffer_free(buffer);
}

/* ---- making and freeing ---- */

static void stream_ready(struct loop_ready *ready)
{
    stream_run(STREAM_OF(ready, ready));
}

void stream_wake(imp_stream *stream)
{
    if (!stream->is_running && stream->phase != STREAM_GONE)
        loop_ready_add(stream->loop, &stream->ready);
}

void stream_fail(imp_stream *stream, imp_close_reason reason, const char *message)
{
    if (stream->is_failed)
        return;
    stream->is_failed = true;
    stream->reason = (uint8_t)reason;
    stream->message = message;
    stream_wake(stream);
}

void stream_fail_errno(imp_stream *stream, int error_number)
{
    imp_close_reason reason = IMP_CLOSED_ERROR;
    if (error_number == ECONNRESET || error_number == EPIPE)
        reason = IMP_CLOSED_BY_PEER;
    else if (error_number == ETIMEDOUT)
        reason = IMP_CLOSED_TIMEOUT;
    const char *text = strerrordesc_np(error_number);
    stream_fail(stream, reason, text != NULL ? text : "unknown network error");
}

static void stream_timer_fired(struct loop_timer *timer);
static void stream_end_object(struct loop_object *object, bool may_call);

static void stream_copy_events(imp_stream *stream, const imp_stream_events *events)
{
    size_t size = events->size < sizeof stream->events ? events->size : sizeof stream->events;
    memset(&stream->events, 0, sizeof stream->events);
    memcpy(&stream->events, events, size);
}

imp_stream *stream_new(imp_loop *loop, const imp_stream_events *events, void *arg,
                       enum stream_phase phase)
{
    imp_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    loop_object_set_end(LOOP_OBJECT_STREAM, stream_end_object);
    stream->loop = loop;
    stream->fd = -1;
    stream->phase = (uint8_t)phase;
    stream->input_max = STREAM_INPUT_DEFAULT;
    stream->is_tls_allowed = true;
    stream->last_ticks = loop_ticks(loop);
    stream->ready.fn = stream_ready;
    stream->timer.fn = stream_timer_fired;
    stream->message = "";
    if (events != NULL)
        stream_copy_events(stream, events);
    stream->arg = arg;
    loop_load_add(loop, 1);
    return stream;
}

static void watch_ready(int fd, uint32_t events, void *arg)
{
    imp_stream *stream = arg;

    if ((events & LOOP_READ) != 0)
        stream->can_read = true;
    if ((events & LOOP_WRITE) != 0)
        stream->can_write = true;
    if (stream->ssl != NULL) /* either direction may have waited for the other's readiness */
        stream->can_read = stream->can_write = true;
    if (stream->is_paused || stream->is_close_wanted || stream->input.length >= stream->input_max) {
        /* Nobody reads now, so a reset would be seen only much later. */
        int error_number = 0;
        socklen_t size = sizeof error_number;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &size) == 0 && error_number != 0)
            stream_fail_errno(stream, error_number);
    }
    stream_run(stream);
}

imp_status stream_set_fd(imp_stream *stream, int fd)
{
    stream->watch =
        loop_watch_start(stream->loop, fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE, watch_ready, stream);
    if (stream->watch == NULL)
        return IMP_LIMIT;
    stream->fd = fd;
    stream->can_read = false;
    stream->can_write = false;
    return IMP_OK;
}

void stream_drop_fd(imp_stream *stream)
{
    loop_watch_stop(stream->watch);
    stream->watch = NULL;
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
}

void stream_discard(imp_stream *stream)
{
    loop_ready_remove(&stream->ready);
    loop_timer_disarm(stream->loop, &stream->timer);
    stream_connect_free(stream);
    stream_tls_free(stream);
    stream_drop_fd(stream);
    if (!stream->is_scratch)
        free(stream->input.data);
    free(stream->output.data);
    loop_load_add(stream->loop, -1);
    free(stream);
}

static void stream_destroy(imp_stream *stream)
{
    struct stream_opening opening = stream->opening;

    stream->phase = STREAM_GONE;
    stream_drop_fd(stream);
    if (opening.released != NULL)
        opening.released(stream, opening.arg);
    loop_object_remove(&stream->object);
    stream_discard(stream);
}

static imp_stream *adopt(imp_self *self, int fd, const imp_stream_events *events, void *arg)
{
    imp_stream *stream = stream_new(imp_loop_current(), events, arg, STREAM_OPEN);

    if (stream == NULL)
        return NULL;
    if (stream_set_fd(stream, fd) != IMP_OK ||
        !loop_object_add(stream->loop, &stream->object, self, LOOP_OBJECT_STREAM)) {
        loop_watch_stop(stream->watch);
        stream->watch = NULL;
        stream->fd = -1;
        stream_discard(stream);
        return NULL;
    }
    stream->can_write = true;
    return stream;
}

imp_stream *stream_adopt(imp_self *self, int fd, const imp_stream_events *events, void *arg)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    imp_stream *stream = adopt(self, fd, events, arg);

    if (stream != NULL && getpeername(fd, (struct sockaddr *)&address, &size) == 0)
        stream_peer_format(&address, &stream->peer);
    return stream;
}

/* The server's side of one. */
static void handshake_begin(imp_stream *stream)
{
    int64_t limit = stream->opening.handshake_timeout_us;
    stream->phase = STREAM_HANDSHAKE;
    stream->phase_deadline =
        loop_ticks(stream->loop) + (limit > 0 ? limit : STREAM_OPENING_TIMEOUT);
}

imp_stream *stream_accept(int fd, const struct sockaddr_storage *peer,
                          const struct stream_opening *opening)
{
    imp_stream *stream = adopt(NULL, fd, NULL, NULL);
    if (stream == NULL)
        return NULL;
    stream_peer_format(peer, &stream->peer);
    stream->opening = *opening;
    stream->is_opening = true;
    stream->rate_min = opening->min_rate;
    stream->rate_window = opening->min_rate_window_us;
    if (opening->proxy) {
        stream->phase = STREAM_PROXY;
        stream->phase_deadline = loop_ticks(stream->loop) + opening->proxy_timeout_us;
    } else if (opening->tls) {
        handshake_begin(stream);
        if (stream_tls_begin_server(stream) != IMP_OK)
            stream_fail(stream, IMP_CLOSED_ERROR, "TLS is not available");
    }
    if (opening->proxy || opening->tls)
        stream_timer_set(stream);
    stream_wake(stream);
    return stream;
}

void stream_refuse(imp_stream *stream, imp_bytes last)
{
    if (last.length == 0) {
        stream_fail(stream, IMP_CLOSED_BY_US, "refused");
        return;
    }
    stream->phase = STREAM_OPEN;
    stream->phase_deadline = 0;
    (void)imp_stream_write(stream, last.data, last.length);
    imp_stream_close(stream);
}

bool stream_give(imp_stream *stream, imp_self *self)
{
    return loop_object_give(&stream->object, self);
}

imp_status stream_call_accepted(imp_stream *stream, imp_accepted accepted, imp_self *self,
                                const char *listener)
{
    module_call_begin(self);
    imp_status status = accepted(self, imp_self_instance(self), listener, stream);
    module_call_end(self);
    return status;
}

void stream_allow_start_tls(imp_stream *stream, bool is_allowed)
{
    stream->is_tls_allowed = is_allowed;
}

/* ---- deadlines ---- */

static int64_t stream_due(const imp_stream *stream)
{
    int64_t due = INT64_MAX;
    if (stream->phase_deadline != 0)
        due = stream->phase_deadline;
    if (stream->deadline != 0 && stream->deadline < due && stream->phase != STREAM_LINGER)
        due = stream->deadline;
    if (stream->idle_us != 0 && stream->phase == STREAM_OPEN &&
        stream->last_ticks + stream->idle_us < due)
        due = stream->last_ticks + stream->idle_us;
    int64_t rate_due = stream_rate_due(stream);
    return rate_due < due ? rate_due : due;
}

void stream_timer_set(imp_stream *stream)
{
    int64_t due = stream_due(stream);
    if (due == INT64_MAX || (stream->timer.place != 0 && stream->timer.due <= due))
        return; /* an armed timer that comes early looks again by itself */
    if (!loop_timer_arm(stream->loop, &stream->timer, due))
        stream_fail(stream, IMP_CLOSED_ERROR, "out of memory");
}

static void stream_timer_fired(struct loop_timer *timer)
{
    imp_stream *stream = STREAM_OF(timer, timer);

    if (stream_due(stream) > loop_ticks(stream->loop)) {
        stream_timer_set(stream);
        return;
    }
    if (stream->phase == STREAM_LINGER) {
        stream_destroy(stream);
        return;
    }
    if (stream->connect != NULL && stream_connect_timed_out(stream)) {
        stream_timer_set(stream);
        stream_run(stream);
        return;
    }
    if (stream_rate_due(stream) <= loop_ticks(stream->loop)) {
        if (stream_rate_is_kept(stream, loop_ticks(stream->loop))) {
            stream_timer_fired(timer); /* whether another deadline has passed as well */
            return;
        }
        if (stream->opening.slow != NULL)
            stream->opening.slow(stream, stream->opening.arg);
        stream_fail(stream, IMP_CLOSED_TIMEOUT, "the peer sends too slowly");
        stream_run(stream);
        return;
    }
    stream_fail(stream, IMP_CLOSED_TIMEOUT,
                stream->phase == STREAM_OPEN ? "no answer in time" : "connection timed out");
    stream_run(stream);
}

void imp_stream_set_idle_timeout(imp_stream *stream, int64_t idle_us)
{
    stream->idle_us = idle_us > 0 ? idle_us : 0;
    stream->last_ticks = imp_ticks();
    if (stream->phase < STREAM_LINGER)
        stream_timer_set(stream);
}

void imp_stream_set_deadline(imp_stream *stream, int64_t deadline_us)
{
    stream->deadline = deadline_us > 0 ? imp_ticks() + deadline_us : 0;
    if (stream->phase < STREAM_LINGER)
        stream_timer_set(stream);
}

/* ---- moving bytes ---- */

static enum stream_io stream_receive(imp_stream *stream, void *data, size_t size, size_t *done)
{
    if (stream->ssl != NULL)
        return stream_tls_read(stream, data, size, done);
    ssize_t count;
    do
        count = recv(stream->fd, data, size, 0);
    while (count < 0 && errno == EINTR);
    if (count > 0) {
        *done = (size_t)count;
        return STREAM_IO_BYTES;
    }
    stream->can_read = false;
    if (count == 0)
        return STREAM_IO_END;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STREAM_IO_LATER;
    stream_fail_errno(stream, errno);
    return STREAM_IO_FAILED;
}

static enum stream_io stream_send(imp_stream *stream, const void *data, size_t size, size_t *done)
{
    if (stream->ssl != NULL)
        return stream_tls_write(stream, data, size, done);
    ssize_t count;
    do
        count = send(stream->fd, data, size, MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    if (count >= 0) {
        *done = (size_t)count;
        if ((size_t)count < size)
            stream->can_write = false;
        return STREAM_IO_BYTES;
    }
    stream->can_write = false;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STREAM_IO_LATER;
    if (errno == EPIPE || errno == ECONNRESET) {
        /* The peer's last words may still wait to be read: they often say why. */
        stream->is_write_broken = true;
        buffer_free(&stream->output);
        stream_wake(stream);
        return STREAM_IO_FAILED;
    }
    stream_fail_errno(stream, errno);
    return STREAM_IO_FAILED;
}

/* Sends what is in the output. */
static void stream_flush(imp_stream *stream)
{
    while (stream->output.length > 0 && stream->can_write && !stream->is_write_broken) {
        size_t length = stream->output.length, done = 0;
        if (stream->is_tls_wanted && length > stream->plain_left)
            length = stream->plain_left;
        if (length == 0)
            return;
        if (stream_send(stream, stream->output.data + stream->output.start, length, &done) !=
            STREAM_IO_BYTES)
            return;
        if (stream->is_tls_wanted)
            stream->plain_left -= done;
        stream->last_ticks = loop_ticks(stream->loop);
        buffer_take(&stream->output, done);
    }
}

/* ---- input ---- */

/* What the module left of a lent buffer is copied to one of the stream's own. */
static void input_settle(imp_stream *stream)
{
    if (!stream->is_scratch)
        return;
    struct stream_buffer lent = stream->input;
    stream->is_scratch = false;
    memset(&stream->input, 0, sizeof stream->input);
    if (lent.length == 0)
        return;
    if (!buffer_reserve(&stream->input, lent.length, STREAM_INPUT_FIRST)) {
        stream_fail(stream, IMP_CLOSED_ERROR, "out of memory");
        return;
    }
    memcpy(stream->input.data, lent.data + lent.start, lent.length);
    stream->input.length = lent.length;
}

static void input_tell(imp_stream *stream)
{
    stream->is_readable_due = false;
    STREAM_CALL(stream, readable);
    input_settle(stream);
}

/* Where received bytes go: a rest of less than STREAM_INPUT_FIRST is joined with them in the shared
 * buffer, so that a module which always leaves a few bytes still gets large pieces; a larger one
 * grows where it is. NULL when memory is short. */
static uint8_t *input_target(imp_stream *stream, size_t *room)
{
    struct stream_buffer *input = &stream->input;

    *room = stream->input_max - input->length;
    if (input->length < STREAM_INPUT_FIRST) {
        uint8_t *scratch = loop_scratch(stream->loop, stream->input_max);
        if (scratch == NULL)
            return NULL;
        if (input->length > 0)
            memcpy(scratch, input->data + input->start, input->length);
        return scratch + input->length;
    }
    size_t step = *room < input->length ? *room : input->length;
    if (!buffer_reserve(input, step, STREAM_INPUT_FIRST))
        return NULL;
    size_t tail = input->room - input->start - input->length;
    if (tail < *room)
        *room = tail;
    return input->data + input->start + input->length;
}

/* Receives once (TLS: as many records as fit) behind what is there. */
static enum stream_io input_receive(imp_stream *stream, size_t *received)
{
    size_t room = 0, total = 0;
    enum stream_io io;
    uint8_t *target = input_target(stream, &room);

    if (target == NULL) {
        stream_fail(stream, IMP_CLOSED_ERROR, "out of memory");
        return STREAM_IO_FAILED;
    }
    do {
        size_t done = 0;
        io = stream_receive(stream, target + total, room - total, &done);
        total += done;
    } while (io == STREAM_IO_BYTES && stream->ssl != NULL && total < room);
    if (total > 0) {
        size_t rest = stream->input.length;
        if (rest < STREAM_INPUT_FIRST) {
            free(stream->input.data);
            stream->input = (struct stream_buffer){.data = target - rest, .room = rest + room};
            stream->is_scratch = true;
        }
        stream->input.length = rest + total;
        stream->rate_bytes += total;
        stream->last_ticks = loop_ticks(stream->loop);
    }
    if (io == STREAM_IO_END)
        stream->has_ended = true;
    *received = total;
    return io;
}

/* One step of reading; true when another is worth while. */
static bool stream_read(imp_stream *stream, size_t *budget)
{
    if (stream->is_paused || stream->is_close_wanted || stream->is_tls_wanted)
        return false;
    if (stream->is_readable_due) {
        if (stream->input.length > 0)
            input_tell(stream);
        stream->is_readable_due = false;
        return true;
    }
    if (!stream->has_ended && stream->can_read && stream->input.length < stream->input_max) {
        size_t received = 0;
        if (*budget == 0) {
            loop_ready_add(stream->loop, &stream->ready);
            return false;
        }
        (void)input_receive(stream, &received);
        *budget -= received < *budget ? received : *budget;
        if (received > 0) {
            input_tell(stream);
            return true;
        }
        if (stream->is_failed)
            return false;
    }
    if (stream->has_ended && !stream->was_ended_told) {
        stream->was_ended_told = true;
        if (stream->events.ended == NULL) {
            stream->is_close_wanted = true;
            stream->reason = (uint8_t)IMP_CLOSED_BY_PEER;
        } else {
            STREAM_CALL(stream, ended);
        }
        return true;
    }
    return false;
}

imp_bytes imp_stream_input(imp_stream *stream)
{
    imp_bytes bytes = {.data = stream->input.data != NULL ? stream->input.data + stream->input.start
                                                          : (const uint8_t *)"",
                       .length = stream->input.length};
    return bytes;
}

void imp_stream_consume(imp_stream *stream, size_t length)
{
    bool was_full = stream->input.length >= stream->input_max;
    if (length > stream->input.length)
        length = stream->input.length;
    if (stream->is_scratch) {
        stream->input.start += length;
        stream->input.length -= length;
    } else if (length > 0) {
        buffer_take(&stream->input, length);
    }
    if (was_full)
        stream_rate_restart(stream, loop_ticks(stream->loop));
    if ((was_full && stream->can_read) || (stream->input.length == 0 && stream->was_ended_told))
        stream_wake(stream);
}

void imp_stream_set_input_max(imp_stream *stream, size_t length)
{
    if (stream->input.length >= stream->input_max)
        stream_rate_restart(stream, loop_ticks(stream->loop));
    stream->input_max = length == 0 ? 1 : length > STREAM_INPUT_MAX ? STREAM_INPUT_MAX : length;
    if (stream->can_read)
        stream_wake(stream);
}

void imp_stream_pause(imp_stream *stream)
{
    if (stream->is_expecting && !stream->is_paused)
        stream_rate_pause(stream, imp_ticks());
    stream->is_paused = true;
}

void imp_stream_resume(imp_stream *stream)
{
    if (!stream->is_paused)
        return;
    stream->is_paused = false;
    stream->is_readable_due = stream->input.length > 0;
    /* The peer could not go on meanwhile: its time counts anew. */
    stream->last_ticks = imp_ticks();
    stream_rate_resume(stream, stream->last_ticks);
    stream_wake(stream);
}

/* ---- output ---- */

imp_status imp_stream_write(imp_stream *stream, const void *data, size_t length)
{
    const uint8_t *rest = data;

    if (stream->is_failed || stream->is_write_broken || stream->is_end_wanted ||
        stream->is_close_wanted || stream->is_abort_wanted || stream->phase >= STREAM_LINGER)
        return IMP_UNAVAILABLE;
    if (length == 0)
        return IMP_OK;
    if (length > STREAM_OUTPUT_MAX - stream->output.length)
        return IMP_LIMIT;
    while (length > 0 && stream->phase == STREAM_OPEN && stream->output.length == 0 &&
           stream->can_write && !stream->is_tls_wanted) {
        size_t done = 0;
        enum stream_io io = stream_send(stream, rest, length, &done);
        if (io == STREAM_IO_FAILED)
            return IMP_UNAVAILABLE;
        if (io != STREAM_IO_BYTES)
            break;
        stream->last_ticks = loop_ticks(stream->loop);
        rest += done;
        length -= done;
    }
    if (length > 0) {
        if (!buffer_reserve(&stream->output, length, STREAM_INPUT_FIRST)) {
            stream_fail(stream, IMP_CLOSED_ERROR, "out of memory");
            return IMP_UNAVAILABLE;
        }
        memcpy(stream->output.data + stream->output.start + stream->output.length, rest, length);
        stream->output.length += length;
    }
    if (stream->output.length <= STREAM_OUTPUT_HIGH)
        return IMP_OK;
    stream->is_busy_told = true;
    return IMP_BUSY;
}

void imp_stream_flush_notify(imp_stream *stream)
{
    stream->is_flush_wanted = true;
    stream_wake(stream);
}

size_t imp_stream_output_pending(imp_stream *stream)
{
    return stream->output.length;
}

size_t imp_stream_unacknowledged(imp_stream *stream)
{
    int queued = 0;
    if (stream->fd < 0 || ioctl(stream->fd, SIOCOUTQ, &queued) != 0 || queued < 0)
        return 0;
    return (size_t)queued;
}

/* ---- ending ---- */

void imp_stream_end(imp_stream *stream)
{
    stream->is_end_wanted = true;
    stream_wake(stream);
}

void imp_stream_close(imp_stream *stream)
{
    if (stream->is_close_wanted || stream->phase >= STREAM_LINGER)
        return;
    stream->is_close_wanted = true;
    if (!stream->is_failed)
        stream->reason = (uint8_t)IMP_CLOSED_BY_US;
    if (stream->idle_us == 0)
        imp_stream_set_idle_timeout(stream, STREAM_CLOSE_TIMEOUT);
    stream_wake(stream);
}

void imp_stream_abort(imp_stream *stream)
{
    if (stream->phase >= STREAM_LINGER)
        return;
    stream->is_abort_wanted = true;
    stream_wake(stream);
}

/* Ends our direction once the output is empty; true when that is done. */
static bool stream_send_end(imp_stream *stream)
{
    if (stream->was_end_sent)
        return true;
    if (stream->output.length > 0 || stream->is_tls_wanted)
        return false;
    if (stream->ssl != NULL && !stream->is_tls_dead && !stream->is_write_broken) {
        enum stream_io io = stream_tls_end(stream);
        if (io == STREAM_IO_LATER)
            return false;
    }
    stream->was_end_sent = true;
    shutdown(stream->fd, SHUT_WR);
    return true;
}

static void stream_linger(imp_stream *stream)
{
    uint8_t dropped[16384];

    while (stream->lingered < STREAM_LINGER_BYTES) {
        ssize_t count = recv(stream->fd, dropped, sizeof dropped, 0);
        if (count > 0) {
            stream->lingered += (uint64_t)count;
            continue;
        }
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        break;
    }
    stream_destroy(stream);
}

/* Calls `closed`, then lets the stream go, or linger. May free it. */
static void stream_finish(imp_stream *stream, imp_close_reason reason, bool may_call)
{
    bool may_linger = stream->phase == STREAM_OPEN && reason == IMP_CLOSED_BY_US &&
                      stream->was_end_sent && !stream->has_ended && !stream->is_abort_wanted &&
                      !stream->is_failed && !stream->is_write_broken;
    imp_self *self = stream->object.self;

    stream->phase = STREAM_GONE;
    stream->reason = (uint8_t)reason;
    loop_ready_remove(&stream->ready);
    loop_timer_disarm(stream->loop, &stream->timer);
    stream_connect_free(stream);
    if (may_call && !stream->is_opening && stream->events.closed != NULL) {
        module_call_begin(self);
        stream->events.closed(stream, reason, stream->arg);
        module_call_end(self);
    }
    input_settle(stream);
    if (stream->is_abort_wanted && stream->fd >= 0) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    if (!may_linger) {
        stream_destroy(stream);
        return;
    }
    /* The core's own from here: the module is done with it. */
    bool is_ours = loop_object_give(&stream->object, NULL);
    (void)is_ours; /* the core has no stages */
    stream_tls_free(stream);
    buffer_free(&stream->input);
    stream->phase = STREAM_LINGER;
    stream->phase_deadline = loop_ticks(stream->loop) + STREAM_LINGER_TIMEOUT;
    stream->is_failed = false;
    stream_timer_set(stream);
    stream_linger(stream);
}

/* A sweep, or the end of the loop. */
static void stream_end_object(struct loop_object *object, bool may_call)
{
    imp_stream *stream = STREAM_OF(object, object);

    if (stream->phase == STREAM_GONE)
        return;
    if (stream->phase == STREAM_LINGER) {
        stream_destroy(stream);
        return;
    }
    stream->message = "the server or the module ends";
    if (may_call && stream->phase == STREAM_OPEN && !stream->is_failed) {
        /* What the system takes at once is still sent. */
        stream_flush(stream);
        if (!stream->is_failed)
            stream_send_end(stream);
    }
    stream_finish(stream, IMP_CLOSED_SHUTDOWN, may_call);
}

/* ---- the turn of a stream ---- */

void stream_opened(imp_stream *stream)
{
    stream->phase = STREAM_OPEN;
    stream->phase_deadline = 0;
    stream->last_ticks = loop_ticks(stream->loop);
    stream_rate_restart(stream, stream->last_ticks); /* nothing could be sent until now */
    if (stream->is_opening) {
        if (stream->opening.opened(stream, stream->opening.arg) != IMP_OK) {
            if (!stream->is_close_wanted)
                stream_fail(stream, IMP_CLOSED_BY_US, "refused");
            return;
        }
        stream->is_opening = false;
    } else if (stream->connect != NULL) {
        if (!stream_connect_verify(stream))
            return;
        stream_connect_free(stream);
        STREAM_CALL(stream, connected);
    }
    stream_timer_set(stream);
}

static void run_proxy(imp_stream *stream)
{
    uint8_t header[PROXY_HEADER_MAX];
    struct sockaddr_storage source, destination;
    size_t length = 0;

    ssize_t count = recv(stream->fd, header, sizeof header, MSG_PEEK);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        stream->can_read = false;
        return;
    }
    if (count <= 0) {
        stream_fail(stream, IMP_CLOSED_BY_PEER, "no PROXY header");
        return;
    }
    imp_status status = proxy_parse(header, (size_t)count, &source, &destination, &length);
    if (status == IMP_BUSY && (size_t)count < sizeof header) {
        stream->can_read = false; /* more bytes make a new edge, also with these unread */
        return;
    }
    /* What was peeked at is there, so this takes the header whole. */
    if (status != IMP_OK || recv(stream->fd, header, length, 0) != (ssize_t)length) {
        stream_fail(stream, IMP_CLOSED_ERROR, "not a PROXY header");
        return;
    }
    if (source.ss_family != AF_UNSPEC) {
        stream_peer_format(&source, &stream->peer);
        stream_peer_format(&destination, &stream->local);
        stream->has_local = true;
    }
    if (stream->opening.proxied != NULL &&
        stream->opening.proxied(stream, &source, stream->opening.arg) != IMP_OK) {
        if (!stream->is_close_wanted)
            stream_fail(stream, IMP_CLOSED_BY_US, "refused");
        return;
    }
    if (!stream->opening.tls) {
        stream_opened(stream);
        return;
    }
    handshake_begin(stream);
    stream_timer_set(stream);
    if (stream_tls_begin_server(stream) != IMP_OK)
        stream_fail(stream, IMP_CLOSED_ERROR, "TLS is not available");
}

static void run_handshake(imp_stream *stream)
{
    if (stream_tls_handshake(stream) != STREAM_IO_BYTES)
        return;
    stream->can_read = stream->can_write = true;
    stream_opened(stream);
}

/* The plain answer to STARTTLS is sent: from here every byte is TLS's. */
static void begin_start_tls(imp_stream *stream)
{
    stream->is_tls_wanted = false;
    if (stream_tls_begin_server(stream) != IMP_OK) {
        stream_fail(stream, IMP_CLOSED_ERROR, "TLS is not available");
        return;
    }
    handshake_begin(stream);
    stream_timer_set(stream);
}

imp_status imp_stream_start_tls(imp_stream *stream)
{
    if (stream->phase != STREAM_OPEN || stream->ssl != NULL || stream->is_tls_wanted ||
        stream->input.length > 0)
        return IMP_INVALID;
    if (!stream->is_tls_allowed)
        return IMP_UNSUPPORTED;
    stream->is_tls_wanted = true;
    stream->plain_left = stream->output.length;
    stream_wake(stream);
    return IMP_OK;
}

static void tell_writable(imp_stream *stream)
{
    bool is_due = (stream->is_busy_told && stream->output.length <= STREAM_OUTPUT_LOW) ||
                  (stream->is_flush_wanted && stream->output.length == 0);
    if (!is_due || stream->is_close_wanted || stream->is_write_broken)
        return;
    stream->is_busy_told = false;
    if (stream->output.length == 0)
        stream->is_flush_wanted = false;
    STREAM_CALL(stream, writable);
    if (stream->is_flush_wanted || stream->is_busy_told)
        loop_ready_add(stream->loop, &stream->ready); /* asked for from within: the next turn */
}

/* One step in STREAM_OPEN; true when another is worth while. */
static bool run_open(imp_stream *stream, size_t *budget)
{
    stream_flush(stream);
    if (stream->is_failed)
        return false;
    tell_writable(stream);
    if (stream->is_failed || stream->is_abort_wanted)
        return false;
    if (stream->is_tls_wanted && stream->plain_left == 0) {
        begin_start_tls(stream);
        return true;
    }
    if (stream->is_end_wanted || stream->is_close_wanted)
        stream_send_end(stream);
    if (stream->is_close_wanted)
        return false;
    if (stream_read(stream, budget))
        return true;
    if (stream->is_write_broken && !stream->is_failed)
        stream_fail(stream, IMP_CLOSED_BY_PEER, "connection reset by peer");
    return false;
}

/* Finishes the stream when it is at its end; true then, and it may be freed. */
static bool stream_is_over(imp_stream *stream)
{
    if (stream->is_abort_wanted)
        stream_finish(stream, IMP_CLOSED_BY_US, true);
    else if (stream->is_failed ||
             (stream->is_close_wanted &&
              (stream->phase != STREAM_OPEN || stream->was_end_sent || stream->is_write_broken)))
        stream_finish(stream, stream->reason, true);
    else if (stream->phase == STREAM_OPEN && stream->was_ended_told && stream->was_end_sent &&
             stream->input.length == 0)
        stream_finish(stream, IMP_CLOSED_BY_PEER, true);
    else
        return false;
    return true;
}

static void stream_run(imp_stream *stream)
{
    size_t budget = STREAM_TURN_BYTES;
    bool is_more = true;

    if (stream->phase == STREAM_LINGER) {
        stream_linger(stream);
        return;
    }
    stream->is_running = true;
    while (is_more && !stream->is_failed && !stream->is_abort_wanted) {
        uint8_t phase = stream->phase;
        is_more = false;
        if (stream->is_close_wanted && phase != STREAM_OPEN)
            break;
        switch ((enum stream_phase)phase) {
        case STREAM_RESOLVING:
        case STREAM_CONNECTING: stream_connect_run(stream); break;
        case STREAM_PROXY: run_proxy(stream); break;
        case STREAM_HANDSHAKE: run_handshake(stream); break;
        case STREAM_OPEN:
            if (stream->is_opening && !stream->is_close_wanted)
                stream_opened(stream);
            else
                is_more = run_open(stream, &budget);
            break;
        case STREAM_LINGER:
        case STREAM_GONE: break;
        }
        if (stream->phase != phase)
            is_more = true;
    }
    stream->is_running = false;
    if (!stream_is_over(stream))
        stream_timer_set(stream);
}

/* ---- what a module may ask ---- */

void stream_peer_format(const struct sockaddr_storage *address, imp_peer *peer)
{
    memset(peer, 0, sizeof *peer);
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &v4->sin_addr, peer->address, sizeof peer->address);
        peer->port = ntohs(v4->sin_port);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], peer->address, sizeof peer->address);
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, peer->address, sizeof peer->address);
        peer->port = ntohs(v6->sin6_port);
    }
}

const imp_peer *imp_stream_peer(imp_stream *stream)
{
    return &stream->peer;
}

const imp_peer *imp_stream_local(imp_stream *stream)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (!stream->has_local && stream->fd >= 0 &&
        getsockname(stream->fd, (struct sockaddr *)&address, &size) == 0) {
        stream_peer_format(&address, &stream->local);
        stream->has_local = true;
    }
    return &stream->local;
}

imp_loop *imp_stream_loop(imp_stream *stream)
{
    return stream->loop;
}

bool imp_stream_is_tls(imp_stream *stream)
{
    return stream->ssl != NULL;
}

void imp_stream_set_events(imp_stream *stream, const imp_stream_events *events, void *arg)
{
    stream_copy_events(stream, events);
    stream->arg = arg;
    if (stream->input.length > 0) {
        stream->is_readable_due = true;
        stream_wake(stream);
    }
}

const char *imp_stream_close_message(imp_stream *stream)
{
    static const char *const reasons[] = {
        [IMP_CLOSED_BY_US] = "closed",      [IMP_CLOSED_BY_PEER] = "closed by the peer",
        [IMP_CLOSED_TIMEOUT] = "timed out", [IMP_CLOSED_ERROR] = "network error",
        [IMP_CLOSED_SHUTDOWN] = "shutdown",
    };
    return stream->message[0] != '\0' ? stream->message : reasons[stream->reason];
}
