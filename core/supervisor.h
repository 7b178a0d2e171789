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

/* The role `server` asks for all sockets by LINK_LISTEN, waits for LINK_LISTEN_END, and calls
 * server_run (server.h) with these descriptors and the sockets, in a fresh single-threaded process of
 * the unprivileged user, without capabilities and with no_new_privs. From then on the link is the
 * server's: it sends LINK_READY, reads LINK_RELOAD and LINK_STOP, and asks again for sockets when a
 * module is loaded or the configuration is read anew (link.h). An exit status other than
 * SERVER_EXIT_OK before LINK_READY ends the supervisor too at its first start; later, after a signal, and
 * with SERVER_EXIT_LATER in any case, the server is started again. */

/* What the command line asked for. */
struct supervisor_options {
    const char *config_path; /* absolute */
};
/* Runs until SIGTERM or SIGINT, or until it cannot go on; returns the exit status. What can't be
 * started is said by one line on standard error. */
int supervisor_run(const struct supervisor_options *options);

/* imprimd's main; the only thing that core/main.c calls. Returns the exit status. */
IMP_PUBLIC int imp_imprimd_main(int argc, char **argv);

#endif
