/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener-accept.c - the loops' side of the listeners: accepting, refusing, choosing the loop.
 *
 * A listening socket is watched by some loops; whichever wakes accepts a batch, and keeps each
 * connection unless it carries too many more than the least loaded loop. Which module gets it is
 * asked only when PROXY header and TLS are through: so a connection that comes while a generation
 * takes over goes to the new one, and none is refused for it.
 */
#include "build-config.h"

#include "core/listener-private.h"
#include "core/log-line.h"
#include "core/stream.h"

#include <errno.h>
#include <imprimatur/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_INTERVAL_MS 10000u

/* One accepted connection, until its descriptor is closed. */
struct connection {
    struct listener *listener;
    struct listener_source *source;
    struct loop_post post; /* on its way to another loop */
    int fd;
    bool is_proxied;  /* accepted as one of a proxy's, which alone may say who their client is */
    bool is_told;     /* its module has taken it, or why not was counted */
    bool has_telling; /* one of LISTENER_TOLD_MAX */
    bool has_left;    /* it counts no more, though its descriptor is open */
    struct sockaddr_storage peer;
};

static const char *const refusal_names[LISTENER_REFUSALS] = {
    [LISTENER_REFUSED_NETWORK] = "network", [LISTENER_REFUSED_PROXY] = "proxy",
    [LISTENER_REFUSED_LIMIT] = "limit",     [LISTENER_REFUSED_SOURCE] = "source",
    [LISTENER_REFUSED_OPENING] = "opening", [LISTENER_REFUSED_MODULE] = "module",
};

static const char *const refusal_keys[LISTENER_REFUSALS] = {
    [LISTENER_REFUSED_NETWORK] = "listener.refused-network",
    [LISTENER_REFUSED_PROXY] = "listener.refused-proxy",
    [LISTENER_REFUSED_LIMIT] = "listener.refused-limit",
    [LISTENER_REFUSED_SOURCE] = "listener.refused-source",
    [LISTENER_REFUSED_OPENING] = "listener.refused-opening",
    [LISTENER_REFUSED_MODULE] = "listener.refused-module",
};

static struct {
    _Atomic uint32_t connections;
    _Atomic uint32_t told; /* refused ones that are being told so */
    imp_metric *accepted, *refused[LISTENER_REFUSALS], *gauge, *pauses, *slow;
} state;

uint32_t listener_connections(void)
{
    return atomic_load_explicit(&state.connections, memory_order_relaxed);
}

imp_status listener_accept_start(imp_error *error)
{
    static const char *const labels[LISTENER_REFUSALS] = {
        "reason=\"network\"", "reason=\"proxy\"",   "reason=\"limit\"",
        "reason=\"source\"",  "reason=\"opening\"", "reason=\"module\""};

    state.accepted = imp_metric_register(NULL, IMP_METRIC_COUNTER, "connections_accepted_total",
                                         NULL, "Connections accepted");
    state.gauge = imp_metric_register(NULL, IMP_METRIC_GAUGE, "connections", NULL,
                                      "Accepted connections that are open");
    state.pauses =
        imp_metric_register(NULL, IMP_METRIC_COUNTER, "accept_pauses_total", NULL,
                            "Times that accepting paused for want of descriptors or memory");
    state.slow = imp_metric_register(NULL, IMP_METRIC_COUNTER, "connections_slow_total", NULL,
                                     "Connections cut because the client sent less than min_rate");
    bool is_complete =
        state.accepted != NULL && state.gauge != NULL && state.pauses != NULL && state.slow != NULL;
    for (size_t i = 0; i < LISTENER_REFUSALS; i++) {
        state.refused[i] =
            imp_metric_register(NULL, IMP_METRIC_COUNTER, "connections_refused_total", labels[i],
                                "Connections closed before a module got them");
        is_complete = is_complete && state.refused[i] != NULL;
    }
    return is_complete ? IMP_OK
                       : imp_error_set(error, IMP_LIMIT, "can't register the listeners' metrics");
}

void listener_accept_stop(void)
{
    memset(&state, 0, sizeof state);
}

/* Each reason has an interval of its own: a flood of one must not hide another. */
static void refuse(const struct listener *listener, enum listener_refusal reason)
{
    char more[40] = "";
    uint64_t suppressed = 0;
    imp_metric_add(state.refused[reason], 1);
    if (!log_is_on(IMP_LOG_WARNING) ||
        !log_limit_passes(NULL, refusal_keys[reason], LOG_INTERVAL_MS, &suppressed))
        return;
    if (suppressed > 0)
        snprintf(more, sizeof more, " suppressed=%llu", (unsigned long long)suppressed);
    imp_log(NULL, IMP_LOG_WARNING, "listener.refused", "module=%s listener=%s reason=%s%s",
            listener->module, listener->name, refusal_names[reason], more);
}

/* ---- one connection ---- */

/* Its place is free for another. Idempotent. */
static void connection_leave(struct connection *connection)
{
    if (connection->has_left)
        return;
    connection->has_left = true;
    listener_source_leave(connection->source);
    connection->source = NULL;
    atomic_fetch_sub_explicit(&connection->listener->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&state.connections, 1, memory_order_relaxed);
    imp_metric_add(state.gauge, -1);
}

static void connection_end(struct connection *connection)
{
    connection_leave(connection);
    listener_drop(connection->listener);
    free(connection);
}

static struct listener_part *part_here(struct listener *listener)
{
    return &listener->parts[imp_loop_index(imp_loop_current())];
}

/* A flood must not make us keep more than a few of those whom we don't want. */
static bool telling_begin(void)
{
    if (atomic_fetch_add_explicit(&state.told, 1, memory_order_relaxed) < LISTENER_TOLD_MAX)
        return true;
    atomic_fetch_sub_explicit(&state.told, 1, memory_order_relaxed);
    return false;
}

static void telling_end(void)
{
    atomic_fetch_sub_explicit(&state.told, 1, memory_order_relaxed);
}

static void telling_released(imp_stream *stream, void *arg)
{
    (void)stream;
    (void)arg;
    telling_end();
}

/* Says the module's word for "not now" and closes, or just closes. Plain text only: a TLS handshake for
 * a refusal would cost more than the connection. */
static void socket_refuse(const struct listener_view *view, int fd,
                          const struct sockaddr_storage *peer)
{
    const struct stream_opening opening = {.released = telling_released};
    if (view != NULL && view->refusal_length > 0 && view->tls != CONFIG_TLS_IMPLICIT &&
        telling_begin()) {
        imp_stream *stream = stream_accept(fd, peer, &opening);
        if (stream != NULL) {
            stream_refuse(stream, (imp_bytes){view->refusal, view->refusal_length});
            return;
        }
        telling_end();
    }
    close(fd);
}

static void connection_refuse(struct connection *connection, enum listener_refusal reason)
{
    refuse(connection->listener, reason);
    if (reason == LISTENER_REFUSED_PROXY)
        close(connection->fd); /* as at accept */
    else
        socket_refuse(part_here(connection->listener)->view, connection->fd, &connection->peer);
    connection_end(connection);
}

/* The same for one that is a stream already; returns `status`, by which a stream that is not told
 * ends at once. */
static imp_status stream_refuse_by(imp_stream *stream, struct connection *connection,
                                   const struct listener_view *view, enum listener_refusal reason,
                                   imp_status status)
{
    bool is_readable =
        view != NULL && (view->tls != CONFIG_TLS_IMPLICIT || imp_stream_is_tls(stream));
    connection->is_told = true;
    refuse(connection->listener, reason);
    /* While it is told it counts among those who are, and keeps no other's place. */
    connection_leave(connection);
    if (is_readable && view->refusal_length > 0 && reason != LISTENER_REFUSED_NETWORK &&
        telling_begin()) {
        connection->has_telling = true;
        stream_refuse(stream, (imp_bytes){view->refusal, view->refusal_length});
    }
    return status;
}

/* PROXY header and TLS are through: the module that serves now gets it. */
static imp_status connection_opened(imp_stream *stream, void *arg)
{
    struct connection *connection = arg;
    struct listener *listener = connection->listener;
    struct listener_view *view = part_here(listener)->view;

    connection->is_told = true;
    if (view == NULL || view->self == NULL || !stream_give(stream, view->self))
        return stream_refuse_by(stream, connection, view, LISTENER_REFUSED_MODULE, IMP_UNAVAILABLE);
    stream_allow_start_tls(stream, view->tls == CONFIG_TLS_STARTTLS);
    imp_status status = stream_call_accepted(stream, view->accepted, view->self, listener->name);
    if (status != IMP_OK)
        return stream_refuse_by(stream, connection, view, LISTENER_REFUSED_MODULE, status);
    return IMP_OK;
}

static bool is_allowed(const struct listener_view *view, const struct sockaddr_storage *client)
{
    return view->allow_count == 0 || config_networks_contain(view->networks, view->allow_count,
                                                             (const struct sockaddr *)client);
}

static bool is_proxy(const struct listener_view *view, const struct sockaddr_storage *peer)
{
    return config_networks_contain(view->networks + view->allow_count, view->proxies_count,
                                   (const struct sockaddr *)peer);
}

/* The header has said who the client is: `allow` and the bound of a source are about that one. A proxy
 * that speaks for itself (health checks) is its own client. */
static imp_status connection_proxied(imp_stream *stream, const struct sockaddr_storage *source,
                                     void *arg)
{
    struct connection *connection = arg;
    const struct listener_view *view = part_here(connection->listener)->view;
    uint32_t max =
        atomic_load_explicit(&listener_bounds.connections_per_source_max, memory_order_relaxed);
    const struct sockaddr_storage *client =
        source->ss_family != AF_UNSPEC ? source : &connection->peer;

    if (view == NULL)
        return stream_refuse_by(stream, connection, view, LISTENER_REFUSED_MODULE, IMP_UNAVAILABLE);
    if (!is_allowed(view, client))
        return stream_refuse_by(stream, connection, view, LISTENER_REFUSED_NETWORK, IMP_DENIED);
    connection->source = listener_source_enter(client, max);
    if (connection->source == NULL)
        return stream_refuse_by(stream, connection, view, LISTENER_REFUSED_SOURCE, IMP_LIMIT);
    return IMP_OK;
}

static void connection_released(imp_stream *stream, void *arg)
{
    struct connection *connection = arg;
    (void)stream;
    if (!connection->is_told)
        refuse(connection->listener, LISTENER_REFUSED_OPENING);
    if (connection->has_telling)
        telling_end();
    connection_end(connection);
}

static void connection_slow(imp_stream *stream, void *arg)
{
    const struct connection *connection = arg;
    (void)stream;
    imp_metric_add(state.slow, 1);
    imp_log_limited(NULL, LOG_INTERVAL_MS, IMP_LOG_WARNING, "listener.slow",
                    "module=%s listener=%s", connection->listener->module,
                    connection->listener->name);
}

static void connection_begin(struct connection *connection)
{
    struct listener_view *view = part_here(connection->listener)->view;

    if (view == NULL) {
        connection_refuse(connection, LISTENER_REFUSED_MODULE);
        return;
    }
    /* Settings that changed on its way here: it was looked at by the old ones, and one that nobody has
     * taken for a proxy must not be believed. */
    if (view->proxy != connection->is_proxied ||
        (view->proxy && !is_proxy(view, &connection->peer))) {
        connection_refuse(connection, LISTENER_REFUSED_PROXY);
        return;
    }
    const struct stream_opening opening = {
        .proxy = view->proxy,
        .tls = view->tls == CONFIG_TLS_IMPLICIT,
        .proxy_timeout_us =
            atomic_load_explicit(&listener_bounds.proxy_timeout, memory_order_relaxed),
        .handshake_timeout_us =
            atomic_load_explicit(&listener_bounds.handshake_timeout, memory_order_relaxed),
        .min_rate = atomic_load_explicit(&listener_bounds.min_rate, memory_order_relaxed),
        .min_rate_window_us =
            atomic_load_explicit(&listener_bounds.min_rate_window, memory_order_relaxed),
        .opened = connection_opened,
        .proxied = connection_proxied,
        .slow = connection_slow,
        .released = connection_released,
        .arg = connection,
    };
    if (stream_accept(connection->fd, &connection->peer, &opening) == NULL)
        connection_refuse(connection, LISTENER_REFUSED_LIMIT);
}

static void connection_arrived(void *arg)
{
    loop_load_add(imp_loop_current(), -1); /* the stream counts from here */
    connection_begin(arg);
}

/* The loop that is to carry it: this one, unless it is well ahead of the least loaded. */
static imp_loop *loop_choose(imp_loop *here)
{
    imp_loop *least = here;
    for (uint32_t i = 0; i < imp_loop_count(); i++) {
        imp_loop *loop = imp_loop_at(i);
        if (loop_load(loop) < loop_load(least))
            least = loop;
    }
    uint32_t ahead = loop_load(here) > loop_load(least) ? loop_load(here) - loop_load(least) : 0;
    return ahead > atomic_load_explicit(&listener_bounds.imbalance, memory_order_relaxed) ? least
                                                                                          : here;
}

static void connection_accepted(struct listener_part *part, int fd,
                                const struct sockaddr_storage *peer)
{
    struct listener *listener = part->listener;
    struct connection *connection;

    imp_metric_add(state.accepted, 1);
    /* Behind a proxy the client is known only with its header. */
    if (part->view->proxy ? !is_proxy(part->view, peer) : !is_allowed(part->view, peer)) {
        refuse(listener, part->view->proxy ? LISTENER_REFUSED_PROXY : LISTENER_REFUSED_NETWORK);
        close(fd);
        return;
    }
    connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        refuse(listener, LISTENER_REFUSED_LIMIT);
        close(fd);
        return;
    }
    connection->fd = fd;
    connection->peer = *peer;
    connection->is_proxied = part->view->proxy;
    connection->listener = listener;
    listener_hold(listener);
    atomic_fetch_add_explicit(&listener->connections, 1, memory_order_relaxed);
    uint32_t before = atomic_fetch_add_explicit(&state.connections, 1, memory_order_relaxed);
    imp_metric_add(state.gauge, 1);
    if (before >= atomic_load_explicit(&listener_bounds.connections_max, memory_order_relaxed)) {
        connection_refuse(connection, LISTENER_REFUSED_LIMIT);
        return;
    }
    if (!part->view->proxy) {
        connection->source = listener_source_enter(
            peer, atomic_load_explicit(&listener_bounds.connections_per_source_max,
                                       memory_order_relaxed));
        if (connection->source == NULL) {
            connection_refuse(connection, LISTENER_REFUSED_SOURCE);
            return;
        }
    }
    imp_loop *loop = loop_choose(part->loop);
    connection->post = (struct loop_post){.fn = connection_arrived, .arg = connection};
    if (loop == part->loop) {
        connection_begin(connection);
        return;
    }
    loop_load_add(loop, 1); /* on its way it counts already, or a burst would all go to one loop */
    if (!loop_post_node(loop, &connection->post)) {
        loop_load_add(loop, -1);
        connection_refuse(connection, LISTENER_REFUSED_MODULE);
    }
}

/* ---- accepting ---- */

static void accept_ready(int fd, uint32_t events, void *arg);

static void part_watch(struct listener_part *part)
{
    bool is_wanted = part->is_acceptor && part->view != NULL && part->view->self != NULL &&
                     part->pause.place == 0;
    if (is_wanted == (part->watch != NULL))
        return;
    if (!is_wanted) {
        loop_watch_stop(part->watch);
        part->watch = NULL;
        return;
    }
    part->watch = loop_watch_start(part->loop, part->listener->fd, LOOP_READ, accept_ready, part);
    if (part->watch == NULL)
        imp_log(NULL, IMP_LOG_ERROR, "listener.watch", "module=%s listener=%s error=\"%s\"",
                part->listener->module, part->listener->name, strerrordesc_np(errno));
}

static void pause_over(struct loop_timer *timer)
{
    struct listener_part *part =
        (struct listener_part *)(void *)((char *)timer - offsetof(struct listener_part, pause));
    part_watch(part);
}

/* Errors that say "later" rather than "this one". */
static void accept_pause(struct listener_part *part, int error_number)
{
    imp_metric_add(state.pauses, 1);
    imp_log_limited(NULL, LOG_INTERVAL_MS, IMP_LOG_ERROR, "listener.pause",
                    "module=%s listener=%s error=\"%s\"", part->listener->module,
                    part->listener->name, strerrordesc_np(error_number));
    part->pause.fn = pause_over;
    if (loop_timer_arm(part->loop, &part->pause, loop_ticks(part->loop) + LISTENER_PAUSE))
        part_watch(part);
}

static void accept_ready(int fd, uint32_t events, void *arg)
{
    struct listener_part *part = arg;

    (void)events;
    for (uint32_t i = 0; i < LISTENER_ACCEPT_BATCH && part->watch != NULL; i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        memset(&peer, 0, sizeof peer);
        int accepted = accept4(fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            connection_accepted(part, accepted, &peer);
            continue;
        }
        switch (errno) {
        case EAGAIN: return;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
            /* Nothing to take it with, or not a listening socket any more: watching on would spin. */
            accept_pause(part, errno);
            return;
        default: /* this connection is gone already (accept(2)) */ break;
        }
    }
}

void listener_part_set(struct listener_part *part, struct listener_view *view)
{
    struct listener_view *old = part->view;
    part->view = view;
    if (view == NULL)
        loop_timer_disarm(part->loop, &part->pause);
    part_watch(part);
    listener_view_drop(old);
}
