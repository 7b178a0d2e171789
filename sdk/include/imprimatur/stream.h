/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - connections: accepted by the core for a module's listeners, or made by the module.
 *
 * The core alone accepts (allowed networks, connection limits, PROXY protocol, TLS by the listener's
 * `tls`) and hands the module a stream on the loop it stays on. A stream has an input buffer with an
 * upper bound (back-pressure: at the bound the core stops reading), an output buffer with a bound,
 * an idle deadline, an overall deadline and a minimum rate. All calls on a stream are made on its loop.
 *
 * After `closed` was called the stream is gone; it is called exactly once for every stream whose
 * `accepted` returned IMP_OK or whose imp_stream_connect did.
 */
#ifndef IMPRIMATUR_STREAM_H
#define IMPRIMATUR_STREAM_H

#include <imprimatur/base.h>
#include <imprimatur/loop.h>

typedef struct imp_stream imp_stream;

typedef int32_t imp_close_reason;
#define IMP_CLOSED_BY_US ((imp_close_reason)0)    /* imp_stream_close, after output was sent */
#define IMP_CLOSED_BY_PEER ((imp_close_reason)1)  /* end of stream after `ended`, or reset */
#define IMP_CLOSED_TIMEOUT ((imp_close_reason)2)  /* idle or overall deadline, connect deadline */
#define IMP_CLOSED_ERROR ((imp_close_reason)3)    /* network or TLS error */
#define IMP_CLOSED_SHUTDOWN ((imp_close_reason)4) /* the generation or the server ends */

typedef struct imp_stream_events {
    uint32_t size; /* sizeof(imp_stream_events) */
    /* Outgoing streams: connected and, with TLS, verified. Optional. */
    void (*connected)(imp_stream *stream, void *arg);
    /* Input is there (imp_stream_input), or more of it. Not called while reading is paused. */
    void (*readable)(imp_stream *stream, void *arg);
    /* The peer ended its direction; what is in the input is all there will be. Output can still be
     * written. Optional: without it the stream closes itself. */
    void (*ended)(imp_stream *stream, void *arg);
    /* The output buffer has drained below its low mark after a write answered IMP_BUSY, or has
     * become empty after imp_stream_flush_notify. Optional. */
    void (*writable)(imp_stream *stream, void *arg);
    /* The last call. */
    void (*closed)(imp_stream *stream, imp_close_reason reason, void *arg);
} imp_stream_events;

/* Where a peer's name or address goes: numeric, with port ("192.0.2.7", 51234). */
typedef struct imp_peer {
    char address[46]; /* numeric IPv4 or IPv6, IPv4-mapped shown as IPv4; "" for local sockets */
    uint16_t port;
} imp_peer;

/* The bytes that have come and were not consumed; `data` is valid until the next call on the
 * stream. */
IMP_PUBLIC imp_bytes imp_stream_input(imp_stream *stream);
/* Takes `length` bytes off the front of the input. */
IMP_PUBLIC void imp_stream_consume(imp_stream *stream, size_t length);
/* Bounds the input buffer (default 64 KiB, at most 1 MiB): a message longer than the bound can't be
 * waited for. */
IMP_PUBLIC void imp_stream_set_input_max(imp_stream *stream, size_t length);
/* Stops reading from the peer, and the calls of `readable`, until a resume. */
IMP_PUBLIC void imp_stream_pause(imp_stream *stream);
/* Ends a pause; `readable` follows when input is there. */
IMP_PUBLIC void imp_stream_resume(imp_stream *stream);

/* Copies to the output. IMP_BUSY: taken, but the buffer is over its mark: write no more before
 * `writable`. IMP_LIMIT: not taken, the buffer is full. IMP_UNAVAILABLE: closing. */
IMP_PUBLIC imp_status imp_stream_write(imp_stream *stream, const void *data, size_t length);
/* Calls `writable` once when everything written so far was handed to the system (for TLS: encrypted
 * and handed over); at once, from the loop, when the output is empty already. */
IMP_PUBLIC void imp_stream_flush_notify(imp_stream *stream);
/* Bytes of the output that the system has not taken. */
IMP_PUBLIC size_t imp_stream_output_pending(imp_stream *stream);
/* Bytes that the peer's host has not yet acknowledged (TCP send queue). */
IMP_PUBLIC size_t imp_stream_unacknowledged(imp_stream *stream);
/* Sends what is in the output, then ends our direction (shutdown, close_notify); reading goes on. */
IMP_PUBLIC void imp_stream_end(imp_stream *stream);
/* Sends what is in the output, then closes; `closed` follows from the loop, never from within. */
IMP_PUBLIC void imp_stream_close(imp_stream *stream);
/* Drops the output and resets the connection; `closed` follows from the loop. */
IMP_PUBLIC void imp_stream_abort(imp_stream *stream);

/* The idle deadline, in microseconds; 0 = none. Counted anew with every byte in either direction. */
IMP_PUBLIC void imp_stream_set_idle_timeout(imp_stream *stream, int64_t idle_us);
/* The overall deadline, in microseconds from now; 0 = none. */
IMP_PUBLIC void imp_stream_set_deadline(imp_stream *stream, int64_t deadline_us);

/* Says whether the peer is to send now (a document, the rest of a command), or is itself waiting for us.
 * While it is, it has to send at least the settings' min_rate bytes a second, on the average of each
 * min_rate_window; time in which reading is paused or the input is full does not count. Who does not is
 * cut after two windows at the latest: `closed` with IMP_CLOSED_TIMEOUT, counted in the metric
 * connections_slow_total. Against peers that keep a connection, and with it one of its bounds, by a byte
 * now and then, which an idle deadline does not see. Not expected at first; the same value again changes
 * nothing. On the stream's loop. */
IMP_PUBLIC void imp_stream_expect(imp_stream *stream, bool is_expected);
/* Another minimum for this stream than the settings' (for outgoing streams there is none at first);
 * `bytes_per_second` 0 = none. The window begins anew. On the stream's loop. */
IMP_PUBLIC void imp_stream_set_min_rate(imp_stream *stream, uint32_t bytes_per_second,
                                        int64_t window_us);

/* Who is at the other end. Valid as long as the stream. */
IMP_PUBLIC const imp_peer *imp_stream_peer(imp_stream *stream);
/* Our side's address, as the client reached it. */
IMP_PUBLIC const imp_peer *imp_stream_local(imp_stream *stream);
/* The loop that the stream stays on. */
IMP_PUBLIC imp_loop *imp_stream_loop(imp_stream *stream);
/* True once TLS protects the stream. */
IMP_PUBLIC bool imp_stream_is_tls(imp_stream *stream);
/* Replaces the event table and its argument (a protocol that hands a connection on inside itself). */
IMP_PUBLIC void imp_stream_set_events(imp_stream *stream, const imp_stream_events *events,
                                      void *arg);
/* STARTTLS in place as a server, after the plain answer has been written; input that is already there
 * was pipelined behind the command and is refused: IMP_INVALID, close then (RFC 3207 section 5). */
IMP_PUBLIC imp_status imp_stream_start_tls(imp_stream *stream);

/* ---- listeners ---- */

/* Called on the connection's loop for every accepted stream. Sets events and arg by
 * imp_stream_set_events before it returns IMP_OK; any other status closes the stream at once.
 * `listener` is the listener's name in the module's `listen` ("lpd"). */
typedef imp_status (*imp_accepted)(imp_self *self, void *instance, const char *listener,
                                   imp_stream *stream);
/* Takes the connections of all listeners in the module's `listen` from the end of start() on. A
 * listener's own setting beyond the core's (its row in `listen`) is read by imp_listener_setting.
 * Control thread (in start). */
IMP_PUBLIC imp_status imp_listen(imp_self *self, imp_accepted accepted, imp_error *error);
#define IMP_REFUSAL_MAX 200u
/* What a client is told, in the protocol's own words, when its connection is refused at a bound of the
 * core (connections_max, connections_per_source_max) or because `accepted` did not take it: at most
 * IMP_REFUSAL_MAX bytes, copied, which are sent before the connection is closed ("421 too busy", a
 * negative octet). Not sent before a TLS handshake, to clients that `allow` does not name, and to more
 * than 64 at a time. Without a call the connection is just closed. IMP_INVALID when the generation has not
 * called imp_listen, or the bytes are too many. Control thread (in start). */
IMP_PUBLIC imp_status imp_listen_refusal(imp_self *self, const void *bytes, size_t length,
                                         imp_error *error);
/* A string setting of a listener's group that the core does not know itself, e.g. queue = "hold" of
 * a raw port; NULL when it is not there. Valid until the configuration changes. Any thread. */
IMP_PUBLIC const char *imp_listener_setting(imp_self *self, const char *listener, const char *name);

/* ---- outgoing ---- */

typedef struct imp_connect_options {
    uint32_t size;    /* sizeof(imp_connect_options) */
    const char *host; /* name or numeric address; names are looked up on a worker */
    uint16_t port;
    int64_t timeout_us;     /* for look-up, connect and TLS together; 0 = 30 s */
    bool tls;               /* TLS at once */
    const char *tls_name;   /* the name the certificate must carry; NULL = host */
    const uint8_t *tls_pin; /* SHA-256 of the peer's SubjectPublicKeyInfo; NULL = verify by name */
} imp_connect_options;

/* Starts to connect on the current loop; `connected` or `closed` follows from the loop, never from
 * within. All of `options` is copied. */
IMP_PUBLIC imp_status imp_stream_connect(imp_self *self, const imp_connect_options *options,
                                         const imp_stream_events *events, void *arg,
                                         imp_stream **stream, imp_error *error);
/* Why the stream was closed, for people ("connection refused"), in `closed` only; never NULL. */
IMP_PUBLIC const char *imp_stream_close_message(imp_stream *stream);

#endif
