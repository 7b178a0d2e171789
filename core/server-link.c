/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server-link.c - the server's end of the link to its supervisor (link.h).
 */
#include "build-config.h"

#include <fcntl.h>
#include <imprimatur/log.h>
#include <imprimatur/store.h>
#include <unistd.h>

#include "core/crash-record.h"
#include "core/link.h"
#include "core/server-private.h"

/* ---- sending ---- */

static void send_message(const struct link_message *message)
{
    imp_error error = {.status = IMP_OK};
    if (server.params == NULL || server.params->link_fd < 0)
        return;
    if (link_send(server.params->link_fd, message, -1, &error) != IMP_OK)
        imp_log(NULL, IMP_LOG_WARNING, "server.link", "kind=%u reason=\"%s\"", message->kind,
                error.message);
}

static void send_text(uint16_t kind, imp_status status, const char *text)
{
    struct link_message message;
    link_message_set(&message, kind, NULL);
    message.status = status;
    link_text_set(&message, "%s", text);
    send_message(&message);
}

void server_link_ready(void)
{
    send_text(LINK_READY, IMP_OK, "");
}

void server_link_refused(const imp_error *error)
{
    send_text(LINK_REFUSED, error->status, error->message);
}

void server_link_reloading(void)
{
    send_text(LINK_RELOADING, IMP_OK, "");
}

void server_link_reloaded(imp_status status, const char *text)
{
    send_text(LINK_RELOADED, status, text);
}

void imp_checkpoint_tell(imp_self *self, uint64_t number)
{
    struct link_message message;
    (void)self;
    crash_checkpoint_set(number);
    link_message_set(&message, LINK_CHECKPOINT, NULL);
    message.value = number;
    send_message(&message);
}

uint64_t imp_checkpoint_remembered(imp_self *self)
{
    (void)self;
    return crash_checkpoint_remembered();
}

/* ---- receiving ---- */

static void take_message(const struct link_message *message)
{
    switch (message->kind) {
    case LINK_RELOAD: server_reload_logged(); break;
    case LINK_STOP: server_stop("the supervisor says so"); break;
    default: break; /* answers to a request that was given up */
    }
}

static void on_readable(int fd, uint32_t events, void *arg)
{
    (void)events;
    (void)arg;
    for (;;) {
        struct link_message message;
        imp_error error = {.status = IMP_OK};
        int passed = -1;
        imp_status status = link_receive(fd, &message, &passed, &error);
        if (status == IMP_OK) {
            take_message(&message);
        } else if (status == IMP_BUSY) {
            return;
        } else if (status != IMP_CORRUPT) {
            /* Without a supervisor nobody would restart us, or bind our sockets. */
            loop_watch_stop(server.link_watch);
            server.link_watch = NULL;
            server_stop("the supervisor is gone");
            return;
        }
        if (passed >= 0)
            close(passed);
    }
}

imp_status server_link_begin(imp_error *error)
{
    int fd = server.params->link_fd;
    if (fd < 0)
        return IMP_OK;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return imp_error_set(error, IMP_IO, "the link to the supervisor can't be used");
    server.link_watch = loop_watch_start(imp_loop_control(), fd, LOOP_READ, on_readable, NULL);
    if (server.link_watch == NULL)
        return imp_error_set(error, IMP_LIMIT, "the link to the supervisor can't be watched");
    return IMP_OK;
}

void server_link_end(void)
{
    loop_watch_stop(server.link_watch);
    server.link_watch = NULL;
}
