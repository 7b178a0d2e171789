/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream-private.h - what stream.c, stream-tls.c and stream-connect.c share of a stream.
 */
#ifndef IMPRIMATUR_CORE_STREAM_PRIVATE_H
#define IMPRIMATUR_CORE_STREAM_PRIVATE_H

#include "core/loop.h"
#include "core/stream.h"

struct ssl_st;
struct stream_connect;

enum stream_phase {
    STREAM_RESOLVING,  /* outgoing: the name is looked up, or the next address is to be tried */
    STREAM_CONNECTING, /* outgoing: connect() is under way */
    STREAM_PROXY,      /* accepted: the PROXY header is to come */
    STREAM_HANDSHAKE,  /* TLS, of either side, or STARTTLS */
    STREAM_OPEN,
    STREAM_LINGER, /* `closed` was called; the peer's rest is read and dropped */
    STREAM_GONE    /* `closed` is being called, or memory is being freed */
};

enum stream_io {
    STREAM_IO_BYTES, /* some were moved */
    STREAM_IO_LATER, /* when the poller says so */
    STREAM_IO_END,   /* the peer ended its direction, in order */
    STREAM_IO_FAILED /* stream_fail was called */
};

struct stream_buffer {
    uint8_t *data;
    size_t room, start, length;
};

struct imp_stream {
    struct loop_object object;
    struct loop_ready ready;
    struct loop_timer timer;
    imp_loop *loop;
    loop_watch *watch;
    struct ssl_st *ssl;
    imp_stream_events events;
    void *arg;

    int fd;
    uint8_t phase;       /* enum stream_phase */
    uint8_t reason;      /* imp_close_reason, when it ends */
    bool is_running : 1; /* stream_run is on the stack: it looks again by itself */
    bool can_read : 1;   /* what the poller said, until the system says no */
    bool can_write : 1;
    bool is_paused : 1;
    bool is_failed : 1;       /* `reason` and `message` say why */
    bool is_write_broken : 1; /* writing failed; what the peer sent before is still read */
    bool has_ended : 1;       /* the peer's direction */
    bool was_ended_told : 1;
    bool is_readable_due : 1; /* input that `readable` was not called for */
    bool is_busy_told : 1;    /* a write answered IMP_BUSY */
    bool is_flush_wanted : 1;
    bool is_end_wanted : 1; /* our direction */
    bool was_end_sent : 1;
    bool is_close_wanted : 1;
    bool is_abort_wanted : 1;
    bool is_tls_wanted : 1; /* STARTTLS, when `plain_left` is sent */
    bool is_tls_allowed : 1;
    bool is_tls_dead : 1; /* after a fatal TLS error nothing may be sent, not even an alert */
    bool is_scratch : 1;  /* the input lies in the loop's shared buffer */
    bool is_opening : 1;  /* accepted, and not yet given to a module */
    bool has_local : 1;
    bool is_expecting : 1; /* the module expects bytes: the minimum rate counts */

    struct stream_buffer input, output;
    size_t input_max;
    size_t plain_left;
    uint64_t lingered;

    int64_t idle_us;
    int64_t last_ticks;     /* of the last byte in either direction */
    int64_t deadline;       /* ticks; 0 = none */
    int64_t phase_deadline; /* ticks; opening, connecting, lingering */

    uint32_t rate_min;   /* bytes a second; 0 = none */
    int64_t rate_window; /* us */
    int64_t rate_since;  /* ticks; since when the time left runs */
    int64_t rate_left;   /* us that the window had left then */
    uint64_t rate_bytes; /* that came in it */

    const char *message;
    imp_peer peer, local;
    struct stream_opening opening;
    struct stream_connect *connect; /* outgoing, until it is open */
};

/* Notes why the stream must end; `closed` follows from stream_run. The first call counts. `message` is
 * a constant string. */
void stream_fail(imp_stream *stream, imp_close_reason reason, const char *message);
/* The same for an errno of the socket. */
void stream_fail_errno(imp_stream *stream, int error_number);
/* Looks at the stream later in this turn. */
void stream_wake(imp_stream *stream);
/* Arms the timer for the earliest of the deadlines, unless it is armed for an earlier time. */
void stream_timer_set(imp_stream *stream);
/* A stream without descriptor, in `phase`; not yet listed. NULL when memory is short. */
imp_stream *stream_new(imp_loop *loop, const imp_stream_events *events, void *arg,
                       enum stream_phase phase);
/* Frees one that was never listed. */
void stream_discard(imp_stream *stream);
/* Takes the descriptor and watches it. */
imp_status stream_set_fd(imp_stream *stream, int fd);
/* Ends the watch and closes the descriptor. */
void stream_drop_fd(imp_stream *stream);
/* The connection stands (with TLS, if asked for): tells who waits for it. */
void stream_opened(imp_stream *stream);

/* stream-tls.c */
imp_status stream_tls_begin_server(imp_stream *stream);
imp_status stream_tls_begin_client(imp_stream *stream, const char *name, bool has_pin);
/* STREAM_IO_BYTES: it is through. */
enum stream_io stream_tls_handshake(imp_stream *stream);
enum stream_io stream_tls_read(imp_stream *stream, void *data, size_t size, size_t *done);
enum stream_io stream_tls_write(imp_stream *stream, const void *data, size_t size, size_t *done);
/* close_notify; STREAM_IO_BYTES: sent. */
enum stream_io stream_tls_end(imp_stream *stream);
/* The peer's key is the pinned one. */
bool stream_tls_fits_pin(imp_stream *stream, const uint8_t *pin);
void stream_tls_free(imp_stream *stream);

/* stream-rate.c */
/* When the rate is to be looked at; INT64_MAX: not while things are as they are. */
int64_t stream_rate_due(const imp_stream *stream);
/* The window is over; begins the next one if the peer has sent enough. */
bool stream_rate_is_kept(imp_stream *stream, int64_t now);
/* Reading is going to be paused; reading goes on; the peer could not send until now. */
void stream_rate_pause(imp_stream *stream, int64_t now);
void stream_rate_resume(imp_stream *stream, int64_t now);
void stream_rate_restart(imp_stream *stream, int64_t now);

/* stream-connect.c */
/* In STREAM_RESOLVING and STREAM_CONNECTING. */
void stream_connect_run(imp_stream *stream);
/* After the handshake. False: the peer is not who it should be; stream_fail was called. */
bool stream_connect_verify(imp_stream *stream);
/* phase_deadline has passed. True: another address is tried. */
bool stream_connect_timed_out(imp_stream *stream);
void stream_connect_free(imp_stream *stream);

#endif
