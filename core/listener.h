/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.h - the listener table: who listens where, who may connect, and which generation of a
 * module gets the connections.
 *
 * An entry is (module, listener name) with its listening sockets and its settings. Its sockets are
 * bound once, by the supervisor or, in simple mode and tests, by listener_bind; they outlive every
 * generation of the module. A generation asks by imp_listen() in start; listener_publish() at the end
 * of start lets it have the connections from then on, instead of the one before. While an entry has
 * no generation nothing is accepted: clients wait in the backlog.
 */
#ifndef IMPRIMATUR_CORE_LISTENER_H
#define IMPRIMATUR_CORE_LISTENER_H

#include <imprimatur/stream.h>

#include <sys/socket.h>

#define LISTENER_BACKLOG 4096
#define LISTENER_NAME_SIZE 32u /* module and listener names, with NUL */
#define LISTENER_FDS_MAX 8u    /* sockets of one entry: each address and family */
#define LISTENER_ACCEPT_BATCH 64u

typedef int32_t listener_tls;
#define LISTENER_TLS_NONE ((listener_tls)0)
#define LISTENER_TLS_IMPLICIT ((listener_tls)1)
#define LISTENER_TLS_STARTTLS ((listener_tls)2)

struct listener_setting {
    const char *name, *value;
};

/* One group of a module's `listen`, as the configuration gives it; all is copied. */
struct listener_config {
    const char *name;
    listener_tls tls;
    bool proxy;               /* every connection starts with a PROXY header, v1 or v2 */
    const char *const *allow; /* "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"; none = everyone. With
                               * `proxy` it says which proxies may connect */
    uint32_t allow_count;
    uint32_t connections_max; /* of this listener; 0 = the server's */
    const struct listener_setting *settings; /* what the core does not know itself */
    uint32_t setting_count;
};

struct listener_limits {
    uint32_t connections_max;            /* of the server */
    uint32_t connections_per_source_max; /* from one address */
    uint32_t balance;   /* a loop hands on when it is ahead of the least loaded by more than this */
    int64_t opening_timeout; /* us, for PROXY header and TLS handshake together */
};
#define LISTENER_LIMITS_DEFAULT                                                                    \
    {.connections_max = 20000,                                                                     \
     .connections_per_source_max = 1000,                                                           \
     .balance = 8,                                                                                 \
     .opening_timeout = 30 * IMP_SECOND}

/* Once, after loop_setup; and the reverse, after loop_stop, which closes all sockets. */
imp_status listener_start(const struct listener_limits *limits, imp_error *error);
void listener_stop(void);
/* New limits apply to connections that come from now on. Control thread. */
void listener_set_limits(const struct listener_limits *limits);

/* Adds an entry, or replaces the settings of one that is there. The sockets (non-blocking is set
 * here) belong to the table when it returns IMP_OK; for an entry that is there, `fd_count` 0 keeps
 * its sockets, and others replace them. Control thread. */
imp_status listener_table_add(const char *module, const struct listener_config *config,
                              const int *fds, uint32_t fd_count, imp_error *error);
/* Removes one entry (`name`) or all of the module's (NULL), and closes the sockets. Control thread. */
void listener_table_remove(const char *module, const char *name);
/* Only looks whether a group is right: the allow list and the names. */
imp_status listener_config_check(const struct listener_config *config, imp_error *error);

/* What imp_listen does: notes the callback for this generation. Control thread. */
imp_status listener_serve(imp_self *self, imp_accepted accepted, imp_error *error);
/* The generation gets all connections of its module's entries, present and future, if it has asked
 * by imp_listen. Control thread, at the end of start. */
imp_status listener_publish(imp_self *self, imp_error *error);
/* The generation gets no more connections; when no other was published nobody accepts. Idempotent.
 * Its pins of the table go when every loop has seen it. Control thread, when it drains. */
void listener_withdraw(imp_self *self);

/* Binds an address of a `listen` group: "*:515" (both families), "192.0.2.1:515", "[2001:db8::1]:515",
 * port 0 for any. No SO_REUSEPORT. Gives up to LISTENER_FDS_MAX sockets, listening already. */
imp_status listener_bind(const char *address, int fds[LISTENER_FDS_MAX], uint32_t *fd_count,
                         imp_error *error);
/* Splits the same syntax; address_count is 2 for "*". Pure. */
imp_status listener_address_parse(const char *text, struct sockaddr_storage addresses[2],
                                  uint32_t *address_count, imp_error *error);

/* For `imprimctl status` and tests: calls `each` for every entry. Control thread. */
struct listener_info {
    const char *module, *name;
    const int *fds;
    uint32_t fd_count;
    uint32_t connections; /* now */
    bool is_served;
};
void listener_each(void (*each)(const struct listener_info *info, void *arg), void *arg);
uint32_t listener_connections(void);

/* ---- allowed networks (listener-allow.c) ---- */

struct listener_network {
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint8_t prefix;      /* 0..128 */
};
/* "10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "::1"; bits behind the prefix must be zero. Pure. */
imp_status listener_network_parse(const char *text, struct listener_network *network,
                                  imp_error *error);
bool listener_network_holds(const struct listener_network *network,
                            const struct sockaddr_storage *address);
/* The 16 bytes of an address, IPv4 mapped; false for families without one. */
bool listener_address_bytes(const struct sockaddr_storage *address, uint8_t bytes[16]);

/* ---- PROXY protocol (proxy.c) ---- */

#define PROXY_HEADER_MAX 4096u /* a version 2 header with its TLVs; version 1 has at most 107 bytes */
/* Reads a PROXY header, version 1 or 2, from the first bytes of a connection. IMP_OK: `*length` bytes
 * are the header; `source` is the client (family AF_UNSPEC: LOCAL or UNKNOWN, keep the socket's own
 * address). IMP_BUSY: more bytes are needed. IMP_INVALID: not a PROXY header. Pure. */
imp_status proxy_parse(const uint8_t *data, size_t available, struct sockaddr_storage *source,
                       struct sockaddr_storage *destination, size_t *length);

#endif
