/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor.h - the three processes of imprimd: supervisor, spawner, server.
 *
 * The supervisor alone has privileges. It binds the ports, keeps the crash record, starts spawner and
 * server as an unprivileged user by executing its own file again with a role, and restarts what dies
 * while the listening sockets stay open. Roles get what they need by fixed descriptors; nothing
 * secret stands in argv or environment.
 */
#ifndef CORE_SUPERVISOR_H
#define CORE_SUPERVISOR_H

#include <imprimatur/base.h>

/* Descriptors that a server inherits. */
#define SERVER_FD_LINK 3    /* link.h, to the supervisor; end of file = stop in order */
#define SERVER_FD_SPAWNER 4 /* spawner.h, to the spawner; see child.h */
#define SERVER_FD_RECORD 5  /* crash-record.h */
#define SERVER_FD_KEY 6     /* the master key, a sealed memfd; keys.h */

/* What a server is started with. */
struct server_start {
    const char *config_path;
    int link_fd;
    int spawner_fd;
    int record_fd;
    int key_fd;
};

/*
 * The server's main (core/server.c). Descriptors are the callee's. It is called in a fresh process
 * of the unprivileged user, without capabilities and with no_new_privs, single-threaded, standard
 * error open for logs. Exit statuses:
 */
#define SERVER_EXIT_STOPPED 0 /* stopped in order, as LINK_STOP or the end of the link asked */
#define SERVER_EXIT_REFUSED 3 /* can't run with this configuration or state; said by LINK_REFUSED */
#define SERVER_EXIT_FAILED 4  /* went wrong while running (a failed sync): start it again */
int server_main(const struct server_start *start);

/* imprimd's main; the only thing that core/main.c calls. Returns the exit status. */
IMP_PUBLIC int imp_imprimd_main(int argc, char **argv);

#endif
