/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the server process: core and modules, without any privilege.
 *
 * imprimd's main calls server_run() in the process that the supervisor made, or in the only process
 * there is (single-process mode: `link_fd` is -1; the server then reads the master key file and binds
 * the listeners itself, which needs ports that its user may bind).
 *
 * Order of start: configuration, log, crash record, keys, store, loops and workers, listeners, control
 * socket, modules, then "ready" to whoever waits (the link, or NOTIFY_SOCKET). Whatever fails before the
 * modules ends the process with one line; a module that fails is left out, unless that would leave a
 * server that says ready and takes nothing (module_start_all): then it ends with one line as well.
 * SIGTERM or the link's end: stop accepting, drain, stop modules in reverse, close the store, exit 0.
 * SIGHUP: read the configuration again, all or nothing.
 */
#ifndef CORE_SERVER_H
#define CORE_SERVER_H

#include <stdbool.h>
#include <stddef.h>

/* A bound and listening socket, keyed as the configuration names it. */
struct server_socket {
    const char *module;   /* "lpr" */
    const char *listener; /* "lpd" */
    int fd;
};

struct server_params {
    const char *config_path;
    const char *instance; /* NULL = the default instance */
    int master_key_fd;    /* sealed memfd with the master key; -1: read (or make) the file */
    int link_fd;          /* SOCK_SEQPACKET to the supervisor; -1: single process */
    int spawner_fd;       /* SOCK_SEQPACKET to the spawner; -1: no children can be made */
    int record_fd;        /* memfd of the crash record; -1: private memory */
    const struct server_socket *sockets; /* from the supervisor; adopted by the server */
    size_t socket_count;
    bool is_foreground; /* log to standard error */
};

/* Exit statuses of the server process, which the supervisor tells apart. */
#define SERVER_EXIT_OK 0
#define SERVER_EXIT_FAILURE 1 /* it can't start: configuration, store, key; one line was logged */
#define SERVER_EXIT_MODULE_STUCK 71 /* a module hung in start; it is left out at the next start */
#define SERVER_EXIT_STORE 72        /* a sync failed: restart and read again */
#define SERVER_EXIT_LATER                                                                          \
    73 /* it can't start for want of space or by an error of a disk: try again */

/* Runs until it is told to end; returns the exit status. */
int server_run(const struct server_params *params);

/* `imprimd --check`: reads the configuration and every enabled module's settings, starts nothing, and
 * prints "OK" or one line per error on standard output. Returns the exit status (0 or 1). */
int server_check(const char *config_path);

#endif
