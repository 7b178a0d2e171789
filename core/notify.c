/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - telling the service manager how we are. */
#include "build-config.h"

#include "core/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NOTIFY_SIZE 512

static int64_t number_read(const char *text)
{
    if (text == NULL || *text == '\0')
        return 0;
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return errno != 0 || *end != '\0' || value < 0 ? 0 : (int64_t)value;
}

/* Connected once, so that the address need not be kept; "@" stands for an abstract name. */
static int socket_open(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (connect(fd, (const struct sockaddr *)&address, size) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void notify_open(struct notify *notify)
{
    notify->fd = -1;
    notify->watchdog_us = 0;
    const char *path = getenv("NOTIFY_SOCKET");
    if (path != NULL) {
        notify->fd = socket_open(path);
        int64_t pid = number_read(getenv("WATCHDOG_PID"));
        if (pid == 0 || pid == getpid())
            notify->watchdog_us = number_read(getenv("WATCHDOG_USEC"));
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
}

void notify_send(const struct notify *notify, const char *format, ...)
{
    if (notify->fd < 0)
        return;
    char text[NOTIFY_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length <= 0)
        return;
    size_t size = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
    while (send(notify->fd, text, size, MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}
