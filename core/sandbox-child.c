/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox-child.c - what a child of the spawner is left with.
 *
 * The minimum is bounds, the filter with no socket in it, and a user other than root. Namespaces and
 * Landlock come on top where kernel and unit allow them, and their lack is no error.
 */
#include "build-config.h"

#include "core/sandbox.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/sandbox-filter.h"

/* ---- bounds ----------------------------------------------------------------------------------- */

static int bound_set(int resource, uint64_t value)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) != 0)
        return -1;
    rlim_t wanted = (rlim_t)value;
    if (now.rlim_max != RLIM_INFINITY && wanted > now.rlim_max)
        wanted = now.rlim_max;
    struct rlimit bound = {.rlim_cur = wanted, .rlim_max = wanted};
    return setrlimit((__rlimit_resource_t)resource, &bound);
}

static imp_status bounds_set(const struct spawner_limits *limits, imp_error *error)
{
    if (bound_set(RLIMIT_CORE, 0) != 0 || bound_set(RLIMIT_CPU, limits->cpu_seconds) != 0 ||
        bound_set(RLIMIT_FSIZE, limits->output_bytes) != 0 ||
        bound_set(RLIMIT_NOFILE, limits->open_files) != 0)
        return imp_error_set(error, IMP_IO, "cannot bound a child: %s", strerror(errno));
#ifndef IMP_SANITIZED
    /* A sanitizer's shadow takes terabytes of addresses. */
    if (bound_set(RLIMIT_AS, limits->memory_bytes) != 0)
        return imp_error_set(error, IMP_IO, "cannot bound a child's memory: %s", strerror(errno));
#endif
    return IMP_OK;
}

/* ---- Landlock --------------------------------------------------------------------------------- */

#define LANDLOCK_READ                                                                              \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* All rights of ABI 1, which every kernel with Landlock knows (5.13). */
#define LANDLOCK_HANDLED                                                                           \
    (LANDLOCK_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |               \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |   \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

/* False when the folder is there but can't be allowed. */
static bool folder_allow(int rules, const char *path, bool is_file)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    struct landlock_path_beneath_attr beneath = {
        .allowed_access = is_file ? LANDLOCK_ACCESS_FS_READ_FILE : LANDLOCK_READ,
        .parent_fd = fd,
    };
    long outcome = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    close(fd);
    return outcome == 0;
}

/* The folder that `file` lies in. */
static bool folder_of_allow(int rules, char *file)
{
    char *slash = strrchr(file, '/');
    if (slash == NULL || slash == file)
        return false;
    *slash = '\0';
    return folder_allow(rules, file, false);
}

/* Programs and libraries may be read; nothing may be written but what was passed as descriptor. */
static bool landlock_enter(void)
{
    static const char *const folders[] = {
        "/usr",  "/bin", "/lib", "/lib64",
#ifdef IMP_SANITIZED
        "/proc", /* a sanitizer reads its own memory map */
#endif
    };
    bool is_entered = false;
    struct landlock_ruleset_attr handled = {.handled_access_fs = LANDLOCK_HANDLED};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
    if (rules < 0)
        return false;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (!folder_allow(rules, folders[i], false))
            goto done;
    if (!folder_allow(rules, "/etc/ld.so.cache", true))
        goto done;
    /* Our own program and library, wherever they were built or installed. */
    char program[PATH_MAX], library[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        goto done;
    program[length] = '\0';
    if (!folder_of_allow(rules, program))
        goto done;
    Dl_info info;
    if (dladdr((void *)(uintptr_t)sandbox_child_enter, &info) != 0 && info.dli_fname != NULL &&
        realpath(info.dli_fname, library) != NULL && !folder_of_allow(rules, library))
        goto done;
    is_entered = syscall(SYS_landlock_restrict_self, rules, 0) == 0;
done:
    close(rules);
    return is_entered;
}

/* ---- the filter ------------------------------------------------------------------------------- */

/* The server runs as the same user, so by the kernel's rules a child may signal it, bound it and slow it
 * down: each of these calls names whom it is for, and only the child itself may be named. */
static int filter_deny_others(scmp_filter_ctx filter)
{
    static const int by_pid[] = {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo),
                                 SCMP_SYS(rt_tgsigqueueinfo)};
    /* Here 0 is the caller. */
    static const int by_zero[] = {SCMP_SYS(prlimit64),         SCMP_SYS(sched_setscheduler),
                                  SCMP_SYS(sched_setparam),    SCMP_SYS(sched_setattr),
                                  SCMP_SYS(sched_setaffinity), SCMP_SYS(migrate_pages),
                                  SCMP_SYS(move_pages)};
    const scmp_datum_t self = (scmp_datum_t)getpid();
    int outcome = 0;
    for (size_t i = 0; outcome == 0 && i < sizeof by_pid / sizeof by_pid[0]; i++)
        outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), by_pid[i], 1,
                                   SCMP_A0(SCMP_CMP_NE, self, 0));
    for (size_t i = 0; outcome == 0 && i < sizeof by_zero / sizeof by_zero[0]; i++)
        outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), by_zero[i], 1,
                                   SCMP_A0(SCMP_CMP_NE, 0, 0));
    return outcome;
}

/* Threads yes, processes no: the spawner's deadline ends the child, not what the child would leave
 * behind. Sanitizer builds start their symbolizer. */
static int filter_deny_processes(scmp_filter_ctx filter)
{
#ifndef IMP_SANITIZED
    static const int calls[] = {SCMP_SYS(fork), SCMP_SYS(vfork)};
    int outcome = filter_deny(filter, calls, sizeof calls / sizeof calls[0]);
    return outcome != 0 ? outcome
                        : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                           SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
#else
    (void)filter;
    return 0;
#endif
}

static int filter_deny_child(scmp_filter_ctx filter)
{
    static const int calls[] = {
        SCMP_SYS(socket),      SCMP_SYS(socketpair), SCMP_SYS(connect),
        SCMP_SYS(bind),        SCMP_SYS(listen),     SCMP_SYS(accept),
        SCMP_SYS(accept4),     SCMP_SYS(shmget),     SCMP_SYS(shmat),
        SCMP_SYS(msgget),      SCMP_SYS(semget),     SCMP_SYS(mq_open),
        SCMP_SYS(personality), SCMP_SYS(tkill),      SCMP_SYS(pidfd_open),
        SCMP_SYS(setpriority), SCMP_SYS(ioprio_set), SCMP_SYS(pidfd_send_signal),
    };
    int outcome = filter_deny(filter, calls, sizeof calls / sizeof calls[0]);
    if (outcome == 0)
        outcome = filter_deny_ptrace(filter);
    if (outcome == 0)
        outcome = filter_deny_capset(filter);
    if (outcome == 0)
        outcome = filter_deny_others(filter);
    if (outcome == 0)
        outcome = filter_deny_processes(filter);
    return outcome == 0 ? filter_deny_namespaces(filter) : outcome;
}

imp_status sandbox_child_enter(const struct spawner_limits *limits, uint32_t *layers,
                               imp_error *error)
{
    *layers = 0;
    if (getuid() == 0 || geteuid() == 0)
        return imp_error_set(error, IMP_DENIED, "a child may not run as root");
    *layers |= SANDBOX_NOT_ROOT;
    imp_status status = sandbox_drop_capabilities(error);
    if (status == IMP_OK)
        status = bounds_set(limits, error);
    if (status != IMP_OK)
        return status;
    *layers |= SANDBOX_RLIMITS;
    if (landlock_enter())
        *layers |= SANDBOX_LANDLOCK;
    /* In a user namespace of its own without any mapping: no capability there is worth anything. */
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0) {
        *layers |= SANDBOX_NAMESPACES;
        status = sandbox_drop_capabilities(error);
        if (status != IMP_OK)
            return status;
    }
    status = filter_install(filter_deny_child, "a child", error);
    if (status == IMP_OK)
        *layers |= SANDBOX_SECCOMP | SANDBOX_NO_NETWORK;
    return status;
}
