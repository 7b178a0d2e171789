/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport-socket.h - RAW printing (AppSocket, port 9100): documents on a TCP connection, nothing
 * else. The protocol has no acknowledgement: the most that can be known is that the device's host has
 * taken the last byte.
 */
#ifndef TRANSPORT_SOCKET_H
#define TRANSPORT_SOCKET_H

#include <imprimatur/jobs.h>
#include <imprimatur/metrics.h>

#include <stdatomic.h>

#define SOCKET_PORT_DEFAULT 9100

/* Values of identity_to_device, in the order of its choices. */
#define SOCKET_IDENTITY_FULL 0
#define SOCKET_IDENTITY_PSEUDONYM 1
#define SOCKET_IDENTITY_NONE 2

struct socket_conf {
    int64_t connect_timeout;
    int64_t connect_settle;
    int64_t stall_notice;
    int64_t write_timeout;
    int64_t drain_timeout;
    int64_t close_wait;
    int64_t identity_to_device;
    int64_t pjl_copies;
};

/* The settings, as loops may read them while they are changed. */
struct socket_settings {
    _Atomic int64_t connect_timeout, connect_settle, stall_notice, write_timeout, drain_timeout,
        close_wait, identity_to_device, pjl_copies;
};

struct socket_transport {
    imp_self *self;
    struct socket_settings settings;
    imp_metric *taken, *not_started, *uncertain, *bytes, *replies;
};

/* Takes host and port out of socket://HOST[:PORT][/...]; an IPv6 address stands in brackets. IMP_INVALID
 * for anything else. Any thread. */
#define SOCKET_HOST_MAX 256u
imp_status socket_uri_parse(const char *uri, char host[SOCKET_HOST_MAX], uint16_t *port,
                            imp_error *error);

/* imp_transport_v1.deliver */
imp_status socket_deliver(imp_self *provider, imp_delivery *base, imp_error *error);

#endif
