/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - connections as the core sees them; the modules' part is <imprimatur/stream.h>.
 */
#ifndef IMPRIMATUR_CORE_STREAM_H
#define IMPRIMATUR_CORE_STREAM_H

#include <imprimatur/stream.h>

#include <sys/socket.h>

#define STREAM_INPUT_DEFAULT ((size_t)64 * 1024)
#define STREAM_INPUT_MAX ((size_t)1024 * 1024)
#define STREAM_INPUT_FIRST ((size_t)4 * 1024) /* the smallest buffer that is kept for a rest */
/* Output: over HIGH a write answers IMP_BUSY, down at LOW `writable` is called, over MAX a write is
 * not taken. */
#define STREAM_OUTPUT_HIGH ((size_t)256 * 1024)
#define STREAM_OUTPUT_LOW ((size_t)64 * 1024)
#define STREAM_OUTPUT_MAX ((size_t)4 * 1024 * 1024)
/* After our last byte the peer may still be sending: its bytes are read and dropped for so long and
 * so much, because a close with unread input is a reset that takes our last bytes with it. */
#define STREAM_LINGER_TIMEOUT (2 * IMP_SECOND)
#define STREAM_LINGER_BYTES ((uint64_t)16 * 1024 * 1024)
/* A closing stream without idle time-out waits so long for a peer that takes nothing. */
#define STREAM_CLOSE_TIMEOUT (30 * IMP_SECOND)
/* TLS handshake of an accepted connection. */
#define STREAM_OPENING_TIMEOUT (30 * IMP_SECOND)
#define STREAM_CONNECT_TIMEOUT (30 * IMP_SECOND)
#define STREAM_RATE_WINDOW_MAX (IMP_SECOND * 3600 * 24)
/* One stream reads so much in a turn before the others have theirs. */
#define STREAM_TURN_BYTES ((size_t)512 * 1024)

/* Takes over a connected, non-blocking socket on the current loop, as an open stream of `self`.
 * NULL when memory is short: then the socket is still the caller's. */
imp_stream *stream_adopt(imp_self *self, int fd, const imp_stream_events *events, void *arg);

/* An accepted socket: PROXY header and TLS come first, when asked for; then `opened` is called, on
 * the loop; it takes the stream for a generation (stream_give, imp_stream_set_events) and returns
 * IMP_OK, or the stream is closed. `released` is called exactly once, when the descriptor is closed;
 * NULL for the stream means that `released` was not and will not be called. On the current loop. */
struct stream_opening {
    bool proxy;
    bool tls;
    int64_t proxy_timeout_us;     /* for the PROXY header */
    int64_t handshake_timeout_us; /* for TLS, at once or by STARTTLS; 0 = STREAM_OPENING_TIMEOUT */
    /* The least that the peer has to send while it is expected to (imp_stream_expect); 0 = none. */
    uint32_t min_rate; /* bytes a second */
    int64_t min_rate_window_us;
    imp_status (*opened)(imp_stream *stream, void *arg);
    /* The true peer is known from the PROXY header (AF_UNSPEC: it is the socket's own); may refuse. NULL
     * is allowed. */
    imp_status (*proxied)(imp_stream *stream, const struct sockaddr_storage *source, void *arg);
    /* The peer was slower than that; the stream ends. NULL is allowed. */
    void (*slow)(imp_stream *stream, void *arg);
    void (*released)(imp_stream *stream, void *arg);
    void *arg;
};
imp_stream *stream_accept(int fd, const struct sockaddr_storage *peer,
                          const struct stream_opening *opening);
/* Instead of opening it: sends `last` and closes; no module sees the stream. From `opened` or `proxied`,
 * which return an error then, or at once after stream_accept. Empty: just closes. */
void stream_refuse(imp_stream *stream, imp_bytes last);
/* Gives the stream to a generation: what it calls from now on is that module. False when the
 * generation has ended. */
bool stream_give(imp_stream *stream, imp_self *self) IMP_MUST_CHECK;
/* Calls a module's `accepted` for the stream, as every call into a module is made. */
imp_status stream_call_accepted(imp_stream *stream, imp_accepted accepted, imp_self *self,
                                const char *listener);
/* Whether a server that says STARTTLS may be offered on this stream (its listener says so). */
void stream_allow_start_tls(imp_stream *stream, bool is_allowed);

/* Numeric text of a socket address, IPv4-mapped as IPv4. */
void stream_peer_format(const struct sockaddr_storage *address, imp_peer *peer);

#endif
