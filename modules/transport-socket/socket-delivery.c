/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket-delivery.c - one delivery on one connection.
 *
 * Connect, settle, send, drain, wait for the close. The delivery is finished as soon as its outcome is
 * known; the connection may live a little longer, and takes the object with it.
 *
 * What is known when something ends it:
 *   - no byte was handed to the system yet: nothing was printed, the job may be tried again;
 *   - bytes were: nobody can tell what the device made of them, so a person decides;
 *   - all bytes and the end of our direction are acknowledged by the device's host: taken, which is
 *     the most that this protocol can tell.
 */
#include "pjl-merge.h"
#include "transport-socket.h"

#include <imprimatur/at-hand.h>
#include <imprimatur/devices.h>
#include <imprimatur/log.h>
#include <imprimatur/service.h>
#include <imprimatur/stream.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A read of the spool's segments, and at least a document's head. */
#define SOCKET_BUFFER_SIZE ((size_t)64 * 1024)
_Static_assert(SOCKET_BUFFER_SIZE >= IMP_DOCUMENT_HEAD_MAX, "the head is read into the buffer");
/* Handed to the stream in one turn of the loop, so that one fast device does not keep others waiting. */
#define SOCKET_TURN_BYTES ((uint64_t)1024 * 1024)
/* What a device may say back before it is not listened to any more. */
#define SOCKET_REPLY_MAX ((uint64_t)1024 * 1024)
/* Looks at how much is acknowledged, for which the system has no event: soon at first, then seldom. */
#define SOCKET_LOOK_FIRST (1 * IMP_MILLISECOND)
#define SOCKET_LOOK_LONGEST (100 * IMP_MILLISECOND)

enum socket_state {
    SOCKET_CONNECTING,
    SOCKET_SETTLING, /* connected, nothing sent: a busy device may close still */
    SOCKET_SENDING,
    SOCKET_DRAINING, /* all bytes are handed over, some are on their way */
    SOCKET_CLOSING,  /* all are acknowledged; the device has not closed yet */
    SOCKET_FINISHED, /* the delivery is gone, the stream ends */
};

struct socket_delivery {
    struct socket_transport *transport;
    imp_self *self;
    imp_delivery *delivery; /* NULL when finished */
    imp_id id;
    imp_stream *stream;
    enum socket_state state;
    bool has_first_byte, has_ended, is_in_trouble, is_reply_paused;
    imp_timer *timer;

    /* What to send. A round is all documents one behind another; a repeat is one document. */
    bool looks_at_heads, speaks_pjl, drops_hold, is_head_done, is_at_end, is_exit_due;
    uint32_t copies; /* 0: as the documents say */
    pjl_sides sides;
    uint32_t document, rounds_left, repeats_left;
    size_t head_length;      /* in the buffer while the head is gathered */
    struct pjl_merge *merge; /* of the head in the buffer; NULL: pieces are all sent */
    uint32_t piece;
    uint64_t sent;
    uint64_t replied;

    /* Progress of the device, looked at by the timer. */
    uint64_t taken;      /* bytes that its host had acknowledged */
    int64_t taken_ticks; /* when that last grew */
    int64_t look;        /* until the next look */

    int64_t connect_settle, stall_notice, write_timeout, drain_timeout, close_wait, identity;
    bool copies_are_qty;
    char pseudonym[9], job_pseudonym[9];
    uint8_t
        *buffer; /* SOCKET_BUFFER_SIZE, only while it sends: devices are waited for much longer */
};

static void begin_to_send(struct socket_delivery *socket);
static void pump(struct socket_delivery *socket);
static void look(void *arg);

/* ---- ends ---- */

static void free_buffers(struct socket_delivery *socket)
{
    free(socket->merge);
    socket->merge = NULL;
    if (socket->buffer != NULL)
        imp_wipe(socket->buffer, SOCKET_BUFFER_SIZE);
    free(socket->buffer);
    socket->buffer = NULL;
}

static void free_socket(struct socket_delivery *socket)
{
    imp_self *self = socket->self;
    imp_timer_cancel(socket->timer);
    free_buffers(socket);
    free(socket);
    imp_unpin(self, "delivery");
}

static void finish(struct socket_delivery *socket, imp_delivery_outcome outcome,
                   const imp_error *error)
{
    struct socket_transport *transport = socket->transport;
    imp_delivery *delivery = socket->delivery;

    if (delivery == NULL)
        return;
    imp_metric_add(outcome == IMP_DELIVERY_UNCONFIRMED   ? transport->taken
                   : outcome == IMP_DELIVERY_NOT_STARTED ? transport->not_started
                                                         : transport->uncertain,
                   1);
    imp_metric_add(transport->bytes, (int64_t)socket->sent);
    imp_timer_cancel(socket->timer);
    socket->timer = NULL;
    socket->state = SOCKET_FINISHED;
    socket->delivery = NULL;
    imp_delivery_finish(delivery, outcome, error);
}

/* It can't go on, for this reason. The stream ends if it has not yet. */
static void fail(struct socket_delivery *socket, const imp_error *error)
{
    finish(socket, socket->has_first_byte ? IMP_DELIVERY_UNCERTAIN : IMP_DELIVERY_NOT_STARTED,
           error);
    imp_stream_abort(socket->stream);
}

static void fail_busy(struct socket_delivery *socket, imp_status status, const char *reason)
{
    imp_error error;
    imp_error_set(&error, status, "%s", reason);
    if (socket->delivery != NULL && !socket->has_first_byte)
        imp_delivery_trouble(socket->delivery, "connecting-to-device");
    fail(socket, &error);
}

static void set_timer(struct socket_delivery *socket, int64_t delay)
{
    imp_timer_cancel(socket->timer);
    socket->timer = imp_timer_start(socket->self, delay, false, look, socket);
    if (socket->timer == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_LIMIT, "not enough memory to watch the device");
        fail(socket, &error);
    }
}

/* ---- the device's progress ---- */

/* Everything has arrived: the delivery ends when the device closes, or soon. */
static void all_is_taken(struct socket_delivery *socket)
{
    if (socket->has_ended || socket->close_wait == 0) {
        finish(socket, IMP_DELIVERY_UNCONFIRMED, NULL);
        imp_stream_close(socket->stream);
        return;
    }
    socket->state = SOCKET_CLOSING;
    set_timer(socket, socket->close_wait);
}

/* True when the device has taken more since the last look. */
static bool has_progress(struct socket_delivery *socket, size_t pending)
{
    uint64_t taken = socket->sent > pending ? socket->sent - pending : 0;
    bool is_more = taken > socket->taken;
    if (is_more) {
        socket->taken = taken;
        socket->taken_ticks = imp_ticks();
        /* No byte more is handed on while a slow device takes what waits for it: this is its sign. */
        imp_delivery_progress(socket->delivery, socket->sent);
    }
    if (is_more && socket->is_in_trouble) {
        socket->is_in_trouble = false;
        imp_delivery_trouble(socket->delivery, NULL);
    }
    return is_more;
}

static void look_at_progress(struct socket_delivery *socket)
{
    size_t pending =
        imp_stream_output_pending(socket->stream) + imp_stream_unacknowledged(socket->stream);
    int64_t limit =
        socket->state == SOCKET_DRAINING ? socket->drain_timeout : socket->write_timeout;
    bool is_more = has_progress(socket, pending);

    if (socket->state == SOCKET_DRAINING && pending == 0) {
        all_is_taken(socket);
        return;
    }
    int64_t stalled = imp_ticks() - socket->taken_ticks;
    if (!is_more && pending != 0) {
        if (stalled >= limit) {
            imp_error error;
            imp_error_set(&error, IMP_TIMEOUT, "the device takes no more data");
            fail(socket, &error);
            return;
        }
        if (stalled >= socket->stall_notice && !socket->is_in_trouble) {
            socket->is_in_trouble = true;
            imp_delivery_trouble(socket->delivery, "timed-out");
        }
    } else if (pending == 0) {
        /* We wait for the spool, not for the device. */
        socket->taken_ticks = imp_ticks();
    }
    socket->look = socket->look * 2 < SOCKET_LOOK_LONGEST ? socket->look * 2 : SOCKET_LOOK_LONGEST;
    set_timer(socket, socket->look);
}

static void look(void *arg)
{
    struct socket_delivery *socket = arg;
    socket->timer = NULL;
    imp_at_hand(IMP_AT_HAND_DELIVERY, socket->id);
    switch (socket->state) {
    case SOCKET_SETTLING: begin_to_send(socket); break;
    case SOCKET_SENDING:
    case SOCKET_DRAINING: look_at_progress(socket); break;
    case SOCKET_CLOSING:
        finish(socket, IMP_DELIVERY_UNCONFIRMED, NULL);
        imp_stream_close(socket->stream);
        break;
    case SOCKET_CONNECTING:
    case SOCKET_FINISHED: break;
    }
}

/* ---- sending ---- */

/* Hands bytes to the stream. False: not now, or not any more. */
static bool send_bytes(struct socket_delivery *socket, const void *data, size_t length,
                       bool *is_busy)
{
    if (!socket->has_first_byte) {
        socket->has_first_byte = true;
        imp_delivery_first_byte(socket->delivery);
        socket->taken_ticks = imp_ticks();
        socket->look = SOCKET_LOOK_LONGEST;
        set_timer(socket, socket->look);
        if (socket->delivery == NULL)
            return false;
    }
    socket->sent += length;
    imp_delivery_progress(socket->delivery, socket->sent);
    imp_status status = imp_stream_write(socket->stream, data, length);
    if (status == IMP_BUSY)
        *is_busy = true;
    return status == IMP_OK || status == IMP_BUSY; /* else `closed` follows */
}

/* Something that was asked for can't be said to this device: it is dropped, and said here. */
static void log_lost(const struct socket_delivery *socket, const char *item)
{
    char id[IMP_ID_TEXT_SIZE];
    imp_log(socket->self, IMP_LOG_NOTICE, "transport-socket.lost", "delivery=%s item=%s",
            imp_id_format(socket->id, id), item);
}

static void make_merge(struct socket_delivery *socket)
{
    const imp_delivery_info *info = imp_delivery_get(socket->delivery);
    imp_document_head found = {.size = sizeof found};
    imp_bytes head = {socket->buffer, socket->head_length};
    struct pjl_wanted wanted = {
        .speaks_pjl = socket->speaks_pjl,
        .drops_hold = socket->drops_hold,
        .copies = socket->copies,
        .copies_are_qty = socket->copies_are_qty,
        .sides = socket->sides,
        .replaces_names = socket->speaks_pjl,
    };
    if (socket->identity == SOCKET_IDENTITY_FULL) {
        wanted.user_name = info->user_name;
        wanted.job_name = info->job_name;
    } else if (socket->identity == SOCKET_IDENTITY_PSEUDONYM) {
        wanted.user_name = socket->pseudonym;
        wanted.job_name = socket->job_pseudonym;
    }
    imp_status status = imp_document_head_read(socket->self, head, &found);
    if (status != IMP_OK) {
        imp_error error;
        imp_error_set(&error, status, "the document's head can't be read");
        fail(socket, &error);
        return;
    }
    if (socket->merge == NULL)
        socket->merge = malloc(sizeof *socket->merge);
    if (socket->merge == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_LIMIT, "not enough memory for the document's head");
        fail(socket, &error);
        return;
    }
    pjl_merge(head, &found, &wanted, socket->merge);
    socket->piece = 0;
    socket->is_exit_due = socket->merge->needs_exit;
    if (socket->speaks_pjl && socket->merge->has_lost_sides)
        log_lost(socket, "sides");
    /* A document that can't be told its copies by PJL is sent so often. */
    if (socket->repeats_left == 0 && socket->speaks_pjl && socket->copies > 1 &&
        !socket->merge->has_copies)
        socket->repeats_left = socket->copies;
}

/* The document is at its end: the next one, the same again, or none. */
static void next_document(struct socket_delivery *socket)
{
    const imp_delivery_info *info = imp_delivery_get(socket->delivery);
    socket->is_head_done = socket->is_at_end = false;
    socket->head_length = 0;
    if (socket->repeats_left > 1) {
        socket->repeats_left--;
        return;
    }
    socket->repeats_left = 0;
    if (++socket->document == info->document_count && socket->rounds_left > 1) {
        socket->rounds_left--;
        socket->document = 0;
    }
}

static void all_is_sent(struct socket_delivery *socket)
{
    socket->state = SOCKET_DRAINING;
    free_buffers(socket);
    socket->taken_ticks = imp_ticks();
    socket->look = SOCKET_LOOK_FIRST;
    /* A device that has ended its direction would be closed by our end at once, before it has taken
     * everything; it gets our end with the close. */
    if (!socket->has_ended)
        imp_stream_end(socket->stream);
    set_timer(socket, socket->look);
}

enum step { STEP_MORE, STEP_WAIT, STEP_OVER };

static enum step send_pieces(struct socket_delivery *socket, bool *is_busy)
{
    while (socket->piece < socket->merge->count) {
        imp_bytes piece = socket->merge->pieces[socket->piece++];
        if (!send_bytes(socket, piece.data, piece.length, is_busy))
            return STEP_OVER;
    }
    socket->is_head_done = true;
    return *is_busy ? STEP_WAIT : STEP_MORE;
}

/* Sends some bytes of the current document. */
static enum step step(struct socket_delivery *socket, bool *is_busy)
{
    imp_error error = {0};
    bool is_gathering = socket->looks_at_heads && !socket->is_head_done;
    size_t at = is_gathering ? socket->head_length : 0, length = 0;
    size_t size = (is_gathering ? IMP_DOCUMENT_HEAD_MAX : SOCKET_BUFFER_SIZE) - at;

    if (socket->document == imp_delivery_get(socket->delivery)->document_count) {
        all_is_sent(socket);
        return STEP_OVER;
    }
    /* A read behind the end would begin the document again. */
    imp_status status = socket->is_at_end
                            ? IMP_OK
                            : imp_delivery_read(socket->delivery, socket->document,
                                                socket->buffer + at, size, &length, &error);
    if (status == IMP_BUSY)
        return STEP_WAIT;
    if (status != IMP_OK) {
        fail(socket, &error);
        return STEP_OVER;
    }
    socket->is_at_end = length == 0;
    if (is_gathering) {
        socket->head_length += length;
        if (length != 0 && socket->head_length < IMP_DOCUMENT_HEAD_MAX)
            return STEP_MORE;
        make_merge(socket);
        return socket->delivery == NULL ? STEP_OVER : send_pieces(socket, is_busy);
    }
    if (length != 0) {
        if (!send_bytes(socket, socket->buffer, length, is_busy))
            return STEP_OVER;
        return *is_busy ? STEP_WAIT : STEP_MORE;
    }
    if (socket->is_exit_due) {
        socket->is_exit_due = false;
        if (!send_bytes(socket, PJL_EXIT, sizeof PJL_EXIT - 1, is_busy))
            return STEP_OVER;
    }
    next_document(socket);
    return *is_busy ? STEP_WAIT : STEP_MORE;
}

static void begin_to_send(struct socket_delivery *socket)
{
    socket->state = SOCKET_SENDING;
    socket->buffer = malloc(SOCKET_BUFFER_SIZE);
    if (socket->buffer == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_LIMIT, "not enough memory for a delivery");
        fail(socket, &error);
        return;
    }
    pump(socket);
}

static void pump(struct socket_delivery *socket)
{
    uint64_t turn_end = socket->sent + SOCKET_TURN_BYTES;
    while (socket->state == SOCKET_SENDING) {
        bool is_busy = false;
        if (step(socket, &is_busy) != STEP_MORE)
            return;
        if (socket->sent >= turn_end) {
            imp_stream_flush_notify(socket->stream);
            return;
        }
    }
}

/* ---- what the delivery says ---- */

static void delivery_readable(imp_delivery *delivery, void *arg)
{
    struct socket_delivery *socket = arg;
    (void)delivery;
    imp_at_hand(IMP_AT_HAND_DELIVERY, socket->id);
    /* While the stream is full its `writable` goes on. */
    if (socket->state == SOCKET_SENDING && imp_stream_output_pending(socket->stream) == 0)
        pump(socket);
    else if (socket->state == SOCKET_SENDING)
        imp_stream_flush_notify(socket->stream);
}

static void delivery_cancel(imp_delivery *delivery, void *arg)
{
    struct socket_delivery *socket = arg;
    imp_error error;
    (void)delivery;
    if (socket->state == SOCKET_CLOSING) {
        finish(socket, IMP_DELIVERY_UNCONFIRMED, NULL);
        imp_stream_close(socket->stream);
        return;
    }
    imp_error_set(&error, IMP_UNAVAILABLE, "the delivery was given up");
    fail(socket, &error);
}

/* ---- what the stream says ---- */

static void stream_connected(imp_stream *stream, void *arg)
{
    struct socket_delivery *socket = arg;
    (void)stream;
    imp_at_hand(IMP_AT_HAND_DELIVERY, socket->id);
    if (socket->state != SOCKET_CONNECTING)
        return;
    if (socket->connect_settle != 0) {
        socket->state = SOCKET_SETTLING;
        set_timer(socket, socket->connect_settle);
        return;
    }
    begin_to_send(socket);
}

static void stream_readable(imp_stream *stream, void *arg)
{
    struct socket_delivery *socket = arg;
    size_t length = imp_stream_input(stream).length;
    imp_stream_consume(stream, length);
    imp_metric_add(socket->transport->replies, (int64_t)length);
    socket->replied += length;
    if (socket->replied > SOCKET_REPLY_MAX && !socket->is_reply_paused) {
        socket->is_reply_paused = true;
        imp_stream_pause(stream);
    }
}

static void stream_ended(imp_stream *stream, void *arg)
{
    struct socket_delivery *socket = arg;
    imp_at_hand(IMP_AT_HAND_DELIVERY, socket->id);
    socket->has_ended = true;
    switch (socket->state) {
    case SOCKET_CONNECTING:
    case SOCKET_SETTLING:
    case SOCKET_SENDING:
        /* It may have closed one direction only and print on: only the first byte is a border. */
        if (!socket->has_first_byte)
            fail_busy(socket, IMP_BUSY, "the device closed the connection before it took anything");
        break;
    case SOCKET_DRAINING:
        if (imp_stream_output_pending(stream) + imp_stream_unacknowledged(stream) == 0)
            all_is_taken(socket);
        break;
    case SOCKET_CLOSING: all_is_taken(socket); break;
    case SOCKET_FINISHED: imp_stream_close(stream); break;
    }
}

static void stream_writable(imp_stream *stream, void *arg)
{
    struct socket_delivery *socket = arg;
    (void)stream;
    imp_at_hand(IMP_AT_HAND_DELIVERY, socket->id);
    if (socket->state == SOCKET_SENDING)
        pump(socket);
}

static void stream_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    struct socket_delivery *socket = arg;
    imp_error error;
    imp_at_hand(IMP_AT_HAND_DELIVERY, socket->id);
    if (socket->delivery != NULL) {
        bool is_timeout = reason == IMP_CLOSED_TIMEOUT;
        imp_error_set(&error, is_timeout ? IMP_TIMEOUT : IMP_UNAVAILABLE, "%s: %s",
                      socket->state == SOCKET_CONNECTING ? "the device can't be reached"
                                                         : "the connection to the device broke",
                      imp_stream_close_message(stream));
        if (socket->state == SOCKET_CLOSING) {
            /* It had taken everything; a reset instead of an end is how many devices close. */
            finish(socket, IMP_DELIVERY_UNCONFIRMED, NULL);
        } else {
            if (!socket->has_first_byte && reason != IMP_CLOSED_SHUTDOWN)
                imp_delivery_trouble(socket->delivery, "connecting-to-device");
            finish(socket,
                   socket->has_first_byte ? IMP_DELIVERY_UNCERTAIN : IMP_DELIVERY_NOT_STARTED,
                   &error);
        }
    }
    free_socket(socket);
}

static const imp_stream_events stream_events = {
    .size = sizeof stream_events,
    .connected = stream_connected,
    .readable = stream_readable,
    .ended = stream_ended,
    .writable = stream_writable,
    .closed = stream_closed,
};

/* ---- the beginning ---- */

static const struct {
    const char *keyword; /* RFC 8011 section 5.2.8 */
    pjl_sides sides;
} sides_of[] = {
    {"one-sided", PJL_SIDES_ONE},
    {"two-sided-long-edge", PJL_SIDES_LONG_EDGE},
    {"two-sided-short-edge", PJL_SIDES_SHORT_EDGE},
};

/* What is asked for beside the documents themselves. A value that was read in the document is in it
 * already. */
static const char *asked(const imp_ticket *ticket, const char *name)
{
    const char *value = imp_ticket_get(ticket, name);
    for (uint32_t i = 0; i < ticket->count; i++) {
        const imp_ticket_value *item = &ticket->values[i];
        if (item->value == value && value != NULL &&
            (strcmp(item->source, "pjl") == 0 || strcmp(item->source, "stream") == 0))
            return NULL;
    }
    return value;
}

static void plan(struct socket_delivery *socket, const imp_delivery_info *info)
{
    const char *copies = asked(&info->ticket, "copies"), *sides = asked(&info->ticket, "sides");
    socket->speaks_pjl = (info->device_capabilities & IMP_DEVICE_SPEAKS_PJL) != 0;
    socket->drops_hold = (info->queue_flags & IMP_QUEUE_STRIP_PJL_HOLD) != 0;
    if (copies != NULL) {
        unsigned long number = strtoul(copies, NULL, 10);
        socket->copies = number > IMP_COPIES_MAX ? IMP_COPIES_MAX : (uint32_t)number;
    }
    for (size_t i = 0; sides != NULL && i < sizeof sides_of / sizeof *sides_of; i++) {
        if (strcmp(sides, sides_of[i].keyword) == 0)
            socket->sides = sides_of[i].sides;
    }
    if (socket->sides != PJL_SIDES_AS_SENT && !socket->speaks_pjl)
        log_lost(socket, "sides");
    /* Exactly one place applies copies: the device by PJL, or we by sending again. In both cases a
     * number in the document itself must not multiply them. */
    socket->rounds_left = socket->copies > 1 && !socket->speaks_pjl ? socket->copies : 1;
    socket->looks_at_heads = socket->drops_hold || socket->speaks_pjl || socket->copies != 0;
    if (!imp_id_is_zero(info->owner_id)) {
        char text[IMP_ID_TEXT_SIZE];
        snprintf(socket->pseudonym, sizeof socket->pseudonym, "%.8s",
                 imp_id_format(info->owner_id, text));
    }
    char text[IMP_ID_TEXT_SIZE];
    snprintf(socket->job_pseudonym, sizeof socket->job_pseudonym, "%.8s",
             imp_id_format(info->job, text));
}

imp_status socket_deliver(imp_self *provider, imp_delivery *delivery, imp_error *error)
{
    struct socket_transport *transport = imp_self_instance(provider);
    struct socket_settings *settings = &transport->settings;
    const imp_delivery_info *info = imp_delivery_get(delivery);
    char host[SOCKET_HOST_MAX];
    imp_connect_options options = {.size = sizeof options, .host = host};
    struct socket_delivery *socket;

    imp_status status = socket_uri_parse(info->uri, host, &options.port, error);
    if (status != IMP_OK)
        return status;
    socket = calloc(1, sizeof *socket);
    if (socket == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory for a delivery");
    socket->transport = transport;
    socket->self = provider;
    socket->delivery = delivery;
    socket->id = info->id;
    socket->connect_settle = atomic_load(&settings->connect_settle);
    socket->stall_notice = atomic_load(&settings->stall_notice);
    socket->write_timeout = atomic_load(&settings->write_timeout);
    socket->drain_timeout = atomic_load(&settings->drain_timeout);
    socket->close_wait = atomic_load(&settings->close_wait);
    socket->identity = atomic_load(&settings->identity_to_device);
    socket->copies_are_qty = atomic_load(&settings->pjl_copies) == 1;
    plan(socket, info);
    options.timeout_us = atomic_load(&settings->connect_timeout);
    imp_pin(provider, "delivery");
    status = imp_stream_connect(provider, &options, &stream_events, socket, &socket->stream, error);
    if (status != IMP_OK) {
        free_socket(socket);
        return status;
    }
    delivery->readable = delivery_readable;
    delivery->cancel = delivery_cancel;
    delivery->arg = socket;
    return IMP_OK;
}
