/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.h - the listener table: who listens where, who may connect, and which generation of a
 * module gets the connections.
 *
 * An entry is (module, listener name) with its listening socket and its settings. Its socket is
 * bound once, by the supervisor or, in simple mode and tests, by listener_bind; it outlives every
 * generation of the module. A generation asks by imp_listen() in start; listener_publish() at the end
 * of start lets it have the connections from then on, instead of the one before. While an entry has
 * no generation nothing is accepted: clients wait in the backlog.
 */
#ifndef IMPRIMATUR_CORE_LISTENER_H
#define IMPRIMATUR_CORE_LISTENER_H

#include <imprimatur/stream.h>

#include "core/config-listen.h"

#include <sys/socket.h>

#define LISTENER_BACKLOG 4096
#define LISTENER_ACCEPT_BATCH 64u
/* A listening socket is watched by so many loops at most: all that watch wake for a connection, and
 * one gets it. The others get theirs by the balance. */
#define LISTENER_LOOPS_MAX 4u
/* Out of descriptors or memory: the sockets are left alone for so long; clients wait in the backlog. */
#define LISTENER_PAUSE (100 * IMP_MILLISECOND)

/* Refused connections that are told so at a time, with the linger that it takes; others just end. */
#define LISTENER_TOLD_MAX 64u

struct listener_limits {
    uint32_t connections_max;            /* of the server */
    uint32_t connections_per_source_max; /* from one address; 0 = no bound of its own */
    uint32_t imbalance; /* a loop hands on when it is ahead of the least loaded by more than this */
    int64_t proxy_timeout, handshake_timeout; /* us */
    uint32_t min_rate;       /* bytes a second, while a client is expected to send; 0 = none */
    int64_t min_rate_window; /* us */
};
struct config_core;
struct listener_limits listener_limits_of(const struct config_core *core);
#define LISTENER_LIMITS_DEFAULT                                                                    \
    {                                                                                              \
        .connections_max = 20000, .connections_per_source_max = 1000, .imbalance = 8,              \
        .proxy_timeout = 5 * IMP_SECOND, .handshake_timeout = 30 * IMP_SECOND                      \
    }

/* Once, after loop_setup; and the reverse, after loop_stop, which closes all sockets. */
imp_status listener_start(const struct listener_limits *limits, imp_error *error);
void listener_stop(void);
/* New limits apply to connections that come from now on. Control thread. */
void listener_set_limits(const struct listener_limits *limits);

/* Adds an entry, or replaces the settings of one that is there (they apply to connections that come
 * from then on). All of `config` is copied. The socket belongs to the table when it returns IMP_OK;
 * for an entry that is there, -1 keeps its socket, and another replaces it. Control thread. */
imp_status listener_table_add(const struct config_listener *config, int fd, imp_error *error);
/* Removes one entry (`name`) or all of the module's (NULL), and closes the sockets. Control thread. */
void listener_table_remove(const char *module, const char *name);
/* Binds the address that the configuration says, listening, without SO_REUSEPORT. Port 0: any. */
imp_status listener_bind(const struct config_listener *config, int backlog, int *fd,
                         imp_error *error);

/* What imp_listen does: notes the callback for this generation. Control thread. */
imp_status listener_serve(imp_self *self, imp_accepted accepted, imp_error *error);
/* The generation gets all connections of its module's entries, present and future, if it has asked
 * by imp_listen. Control thread, at the end of start. */
imp_status listener_publish(imp_self *self, imp_error *error);
/* The generation gets no more connections; when no other was published nobody accepts. Idempotent;
 * self_end(SELF_INTAKE) calls it. Control thread. */
void listener_withdraw(imp_self *self);

/* For `imprimctl status` and tests: calls `each` for every entry. Control thread. */
struct listener_info {
    const char *module, *name;
    int fd;
    uint16_t port;        /* as bound */
    uint32_t connections; /* now */
    bool is_served;
};
void listener_each(void (*each)(const struct listener_info *info, void *arg), void *arg);
uint32_t listener_connections(void);

/* ---- PROXY protocol (proxy.c) ---- */

#define PROXY_HEADER_MAX                                                                           \
    4096u /* a version 2 header with its TLVs; version 1 has at most 107 bytes */
/* Reads a PROXY header, version 1 or 2, from the first bytes of a connection. IMP_OK: `*length` bytes
 * are the header; `source` is the client (family AF_UNSPEC: LOCAL or UNKNOWN, keep the socket's own
 * address). IMP_BUSY: more bytes are needed. IMP_INVALID: not a PROXY header. Pure. */
imp_status proxy_parse(const uint8_t *data, size_t available, struct sockaddr_storage *source,
                       struct sockaddr_storage *destination, size_t *length);

#endif
