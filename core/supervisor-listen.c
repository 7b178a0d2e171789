/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor-listen.c - listening sockets, bound once and kept.
 *
 * The files alone say what is bound. A socket whose address they still name is kept, under another
 * listener's name if need be, so that clients which wait in its backlog are served.
 */
#include "build-config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/listener.h"
#include "core/supervisor-private.h"

static bool address_is_equal(const struct listen_socket *socket,
                             const struct config_listener *listener)
{
    return socket->is_any == listener->is_any &&
           socket->address_length == listener->address_length &&
           memcmp(&socket->address, &listener->address, socket->address_length) == 0;
}

static bool is_of(const struct listen_socket *socket, const char *module)
{
    return *module == '\0' || strcmp(socket->module, module) == 0;
}

/* A stale socket with this address, of the same listener if there is one. */
static struct listen_socket *listen_find_stale(struct listen_set *set,
                                               const struct config_listener *listener)
{
    struct listen_socket *found = NULL;
    for (uint32_t i = 0; i < set->count; i++) {
        struct listen_socket *item = &set->items[i];
        if (!item->is_stale || !address_is_equal(item, listener))
            continue;
        if (strcmp(item->module, listener->module) == 0 && strcmp(item->name, listener->name) == 0)
            return item;
        found = item;
    }
    return found;
}

static void listen_name(struct listen_socket *socket, const struct config_listener *listener)
{
    memcpy(socket->module, listener->module, sizeof socket->module);
    memcpy(socket->name, listener->name, sizeof socket->name);
    socket->address = listener->address;
    socket->address_length = listener->address_length;
    socket->is_any = listener->is_any;
    socket->is_stale = false;
}

/* "*" is one IPv6 socket that takes IPv4 as well; on a kernel without IPv6 it is an IPv4 one. */
static imp_status listen_bind(const struct config_listener *listener, int backlog, int *fd,
                              imp_error *error)
{
    imp_status status = listener_bind(listener, backlog, fd, error);
    if (status == IMP_OK || !listener->is_any || listener->address.ss_family != AF_INET6)
        return status;
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe >= 0 || errno != EAFNOSUPPORT) {
        if (probe >= 0)
            close(probe);
        return status;
    }
    struct config_listener plain = *listener;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(listener->port)};
    memset(&plain.address, 0, sizeof plain.address);
    memcpy(&plain.address, &address, sizeof address);
    plain.address_length = sizeof address;
    return listener_bind(&plain, backlog, fd, error);
}

static imp_status listen_add(struct listen_set *set, const struct config_listener *listener,
                             int64_t backlog, imp_error *error)
{
    struct listen_socket *item = listen_find_stale(set, listener);
    if (item != NULL) {
        listen_name(item, listener);
        return IMP_OK;
    }
    if (set->count == sizeof set->items / sizeof set->items[0])
        return imp_error_set(error, IMP_LIMIT, "%s: too many listeners", listener->origin);
    imp_error reason;
    int fd = -1;
    imp_status status = listen_bind(listener, (int)backlog, &fd, &reason);
    if (status != IMP_OK)
        return imp_error_set(error, status, "%s: %s", listener->origin, reason.message);
    item = &set->items[set->count++];
    listen_name(item, listener);
    item->fd = fd;
    return IMP_OK;
}

static void listen_close_if(struct listen_set *set, bool (*is_chosen)(const struct listen_socket *),
                            const char *module)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        if (is_of(&set->items[i], module) && is_chosen(&set->items[i]))
            close(set->items[i].fd);
        else
            set->items[kept++] = set->items[i];
    }
    set->count = kept;
}

static bool is_stale(const struct listen_socket *socket)
{
    return socket->is_stale;
}

static bool is_any_socket(const struct listen_socket *socket)
{
    return socket != NULL;
}

imp_status listen_refresh(struct listen_set *set, const char *config_path, const char *module,
                          int64_t backlog, imp_error *error)
{
    struct config_listeners *listeners = NULL;
    imp_status status = config_listen_read(config_path, module, &listeners, error);
    if (status != IMP_OK)
        return status;
    /* Left from an earlier refresh that nobody confirmed. */
    listen_prune(set, module == NULL ? "" : module);
    struct listen_set before = *set;
    for (uint32_t i = 0; i < set->count; i++)
        if (is_of(&set->items[i], module == NULL ? "" : module))
            set->items[i].is_stale = true;
    for (uint32_t i = 0; i < listeners->count && status == IMP_OK; i++)
        status = listen_add(set, &listeners->items[i], backlog, error);
    if (status != IMP_OK) {
        for (uint32_t i = before.count; i < set->count; i++)
            close(set->items[i].fd);
        *set = before;
    }
    config_listen_free(listeners);
    return status;
}

void listen_prune(struct listen_set *set, const char *module)
{
    listen_close_if(set, is_stale, module);
}

void listen_drop(struct listen_set *set, const char *module)
{
    listen_close_if(set, is_any_socket, module);
}
