/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener-private.h - what listener.c (the table, control thread) and listener-accept.c (the loops)
 * share.
 */
#ifndef IMPRIMATUR_CORE_LISTENER_PRIVATE_H
#define IMPRIMATUR_CORE_LISTENER_PRIVATE_H

#include "core/listener.h"
#include "core/loop.h"
#include "core/metrics.h"

#include <stdatomic.h>

/* What a loop knows of an entry: immutable, replaced as a whole. */
struct listener_view {
    _Atomic uint32_t references;
    imp_self *self; /* NULL: nobody serves */
    imp_accepted accepted;
    enum config_tls tls;
    bool proxy;
    uint8_t refusal_length; /* what a refused client is told; 0: nothing */
    uint8_t refusal[IMP_REFUSAL_MAX];
    uint32_t allow_count, proxies_count;
    struct config_network networks[]; /* of allow, then of proxies */
};

/* An entry's part of one loop; touched by that loop only. */
struct listener_part {
    struct listener *listener;
    imp_loop *loop;
    struct listener_view *view;
    loop_watch *watch;
    struct loop_timer pause; /* armed: out of descriptors, not watching */
    bool is_acceptor;        /* this loop is one of those that watch */
};

struct listener_settings; /* names and values of the group, for imp_listener_setting */

struct listener {
    struct listener *next; /* in the table */
    _Atomic uint32_t references;
    _Atomic uint32_t connections;
    char module[CONFIG_MODULE_NAME_SIZE];
    char name[CONFIG_LISTENER_NAME_SIZE];
    int fd;
    uint16_t port;
    _Atomic uint32_t watchers;          /* loops that have not yet heard of its removal */
    struct listener_settings *settings; /* under the table's lock */
    struct listener_view *view;         /* the newest; control thread */
    uint32_t part_count;
    struct listener_part parts[]; /* one a loop */
};

enum listener_refusal {
    LISTENER_REFUSED_NETWORK, /* the client is not in `allow` */
    LISTENER_REFUSED_PROXY,   /* the peer is not in `proxies`, or was not when it came */
    LISTENER_REFUSED_LIMIT,   /* connections_max */
    LISTENER_REFUSED_SOURCE,  /* connections_per_source_max */
    LISTENER_REFUSED_OPENING, /* PROXY header or TLS handshake failed, or came too late */
    LISTENER_REFUSED_MODULE,  /* its module did not take it */
    LISTENER_REFUSALS
};

/* Limits, read by all loops. */
struct listener_bounds {
    _Atomic uint32_t connections_max, connections_per_source_max, imbalance, min_rate;
    _Atomic int64_t proxy_timeout, handshake_timeout, min_rate_window;
};
extern struct listener_bounds listener_bounds;

void listener_hold(struct listener *listener);
void listener_drop(struct listener *listener);
void listener_view_drop(struct listener_view *view);

/* listener-accept.c */
imp_status listener_accept_start(imp_error *error);
void listener_accept_stop(void);
/* Sets the part's view (takes over the reference) and watches or not. On the part's loop, or when the
 * loops have ended. */
void listener_part_set(struct listener_part *part, struct listener_view *view);

/* listener-source.c: connections of each source address, over all loops. IPv6 counts by /64, which is
 * what one host commonly has. */
struct listener_source;
/* NULL: `max` (0 = none) is reached, or memory is short. */
struct listener_source *listener_source_enter(const struct sockaddr_storage *address, uint32_t max);
void listener_source_leave(struct listener_source *source);

#endif
