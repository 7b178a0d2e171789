/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor-private.h - the parts of the supervisor: account, folders, listening sockets, roles,
 * remembered state. supervisor.c puts them together in one poll loop. Single-threaded throughout.
 */
#ifndef CORE_SUPERVISOR_PRIVATE_H
#define CORE_SUPERVISOR_PRIVATE_H

#include <imprimatur/base.h>

#include <netinet/in.h>
#include <sys/types.h>

#include "core/config.h"
#include "core/crash-record.h"

/* ---- account: who spawner and server run as (supervisor-account.c) ---- */

#define ACCOUNT_USER "imprimatur" /* when started as root and the setting `user` is empty */
#define ACCOUNT_GROUPS_MAX 64

struct account {
    bool is_changed; /* we are root and children become somebody else */
    uid_t uid;
    gid_t gid;
    gid_t control_gid; /* group of the run-time folder */
    gid_t groups[ACCOUNT_GROUPS_MAX];
    int group_count;
};

/* Looks up user, group and control group. As root: never user 0. Else: ourselves. */
imp_status account_find(const struct config_core *core, struct account *account, imp_error *error)
    IMP_MUST_CHECK;
/* In a child: becomes that user, without capabilities, with no_new_privs. */
imp_status account_enter(const struct account *account, imp_error *error) IMP_MUST_CHECK;

/* ---- folders (supervisor-folders.c) ---- */

/* Makes the state folder if it is missing, and the run-time folder (0750), both the server's user's,
 * through descriptors, and only in folders that nobody but root (or we) can write. Nothing below
 * them is touched. */
imp_status folders_make(const struct config_core *core, const struct account *account,
                        imp_error *error) IMP_MUST_CHECK;
/* Locks the run-time folder; -1 and IMP_BUSY when another supervisor holds it. */
imp_status folders_lock(const struct config_core *core, int *lock_fd, imp_error *error)
    IMP_MUST_CHECK;
/* Opens (or makes, 0700) the supervisor's own folder, which the server's user can't write:
 * STATE_DIR-supervisor as root, else the one of the master key. */
imp_status folders_open_own(const struct config_core *core, const struct account *account,
                            int *folder_fd, imp_error *error) IMP_MUST_CHECK;

/* ---- what is remembered over restarts (supervisor-state.c) ---- */

#define STATE_CRASHES_MAX 32u

struct state_crash {
    int64_t time_us;
    int32_t signal; /* 0: an exit status */
    char module[CRASH_MODULE_SIZE];
};

struct state {
    int folder_fd;
    uint64_t checkpoint;
    uint32_t crash_count; /* of those kept, oldest first */
    struct state_crash crashes[STATE_CRASHES_MAX];
};

/* Reads the file in `folder_fd` (taken over); a missing one is an empty state, a damaged one an error. */
imp_status state_load(struct state *state, int folder_fd, imp_error *error) IMP_MUST_CHECK;
/* Writes it: new file, synced, renamed. */
imp_status state_save(const struct state *state, imp_error *error);
void state_add_crash(struct state *state, const struct state_crash *crash);
/* The file's text, for tests and fuzzing. */
imp_status state_parse(struct state *state, const char *text, size_t length, imp_error *error);

/* ---- listening sockets (supervisor-listen.c) ---- */

struct listen_socket {
    char module[CONFIG_MODULE_NAME_SIZE];
    char name[CONFIG_LISTENER_NAME_SIZE];
    struct sockaddr_storage address;
    socklen_t address_length;
    bool is_any;
    bool is_stale; /* the files no longer name it */
    int fd;
};

struct listen_set {
    uint32_t count;
    struct listen_socket items[2 * CONFIG_LISTENERS_MAX]; /* a whole set and a whole stale one */
};

/* Reads the files again and binds what they say of `module` (NULL = all): all or nothing. What they
 * no longer say becomes stale. The error names file, line, listener and address. */
imp_status listen_refresh(struct listen_set *set, const char *config_path, const char *module,
                          int64_t backlog, imp_error *error) IMP_MUST_CHECK;
/* Closes stale sockets of a module, or all its sockets ("" = of all modules). */
void listen_prune(struct listen_set *set, const char *module);
void listen_drop(struct listen_set *set, const char *module);

/* ---- roles (supervisor-role.c) ---- */

/* First descriptor that a role inherits; the others follow (supervisor.h, spawner.h). */
#define ROLE_FD_FIRST 3
#define ROLE_FDS_MAX 4

struct role {
    const char *name;        /* "server": --role=server */
    const char *config_path; /* NULL: no -c */
    bool is_developer;       /* --developer: may be traced and leave core files */
    int fds[ROLE_FDS_MAX];   /* become ROLE_FD_FIRST, ... */
    size_t fd_count;
};

/* Executes our own file again in a new process of the account. Returns when it runs, or why not. */
imp_status role_start(const struct role *role, const struct account *account, pid_t *pid,
                      imp_error *error) IMP_MUST_CHECK;

/* Waits until a child of ours has ended, and reaps it; one that has not by then is killed. True when it
 * ended by itself. */
bool role_await_end(pid_t pid, int64_t limit_us);

/* ---- restarting (supervisor-restart.c) ---- */

#define RESTART_HEALTHY_US (30 * IMP_SECOND) /* ran so long: the next death is the first again */
#define RESTART_DELAY_US (200 * IMP_MILLISECOND) /* of the second death in a row; then doubled */

struct restart {
    uint32_t deaths; /* in a row */
    int64_t started_us;
    int64_t due_us; /* 0: it runs, or shall not run */
};

/* Notes a death and says when the next start is due: at once, then growing to `delay_max_us`. */
void restart_after_death(struct restart *restart, int64_t now_us, int64_t delay_max_us);

/* ---- what is said about a death (supervisor-crash.c) ---- */

/* Logs the death of the server by wait status `wait_status`, with what the record tells. */
void crash_log(const struct crash_record *record, uint32_t stalled, pid_t pid, int wait_status,
               struct state_crash *crash);
/* True when the process is stopped or traced: a debugger's doing, no stall. */
bool process_is_stopped(pid_t pid);

#endif
