/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - telling the service manager how we are (sd_notify(3)'s protocol: datagrams of
 * NAME=VALUE lines to the socket that $NOTIFY_SOCKET names). Without a manager all of it does
 * nothing. Used by the supervisor alone.
 */
#ifndef CORE_NOTIFY_H
#define CORE_NOTIFY_H

#include <imprimatur/base.h>

struct notify {
    int fd;              /* -1: nobody to tell */
    int64_t watchdog_us; /* at most this long between two WATCHDOG=1; 0 = not wanted */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and takes them out of the environment. */
void notify_open(struct notify *notify);
/* Sends lines ("READY=1\nSTATUS=..."); what can't be sent is dropped, the manager's time-outs tell. */
void notify_send(const struct notify *notify, const char *format, ...) IMP_PRINTF(2, 3);
void notify_close(struct notify *notify);

#endif
