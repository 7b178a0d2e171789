/* SPDX-License-Identifier: Apache-2.0 */
/* spawner-selftest.c - a child that says what it may still do: the program of --check-sandbox. */
#include "build-config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/sandbox.h"
#include "core/spawner.h"

/* What the layers are called, and whether this child finds each in force. */
struct selftest_row {
    uint32_t layer;
    const char *name;
    bool (*is_in_force)(void);
};

static bool seccomp_is_in_force(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER &&
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static bool bounds_are_in_force(void)
{
    struct rlimit cpu, size, core;
    return getrlimit(RLIMIT_CPU, &cpu) == 0 && getrlimit(RLIMIT_FSIZE, &size) == 0 &&
           getrlimit(RLIMIT_CORE, &core) == 0 && cpu.rlim_max != RLIM_INFINITY &&
           size.rlim_max != RLIM_INFINITY && core.rlim_max == 0;
}

/* Nothing came along but standard input, output and error: an inherited socket would be a network. */
static bool nothing_else_is_open(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return false;
    /* Those from before the bound was set may lie above it. */
    rlim_t highest = files.rlim_max < 1024 ? 1024 : files.rlim_max;
    for (int fd = STDERR_FILENO + 1; (rlim_t)fd < highest; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            return false;
    return true;
}

/* Not the server's log, which would be somewhere to write to. */
static bool error_output_is_null(void)
{
#ifndef IMP_SANITIZED
    struct stat about;
    return fstat(STDERR_FILENO, &about) == 0 && S_ISCHR(about.st_mode) &&
           about.st_rdev == makedev(1, 3);
#else
    return true;
#endif
}

static bool network_is_gone(void)
{
    if (!nothing_else_is_open() || !error_output_is_null())
        return false;
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        int fd = socket(families[i], SOCK_DGRAM, 0);
        if (fd >= 0) {
            close(fd);
            return false;
        }
    }
    return true;
}

static bool is_not_root(void)
{
    return getuid() != 0 && geteuid() != 0;
}

/* "/" can be listed by everybody, but by nobody that Landlock holds. */
static bool landlock_is_in_force(void)
{
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
        return false;
    }
    return errno == EACCES;
}

/* In a user namespace without mapping everybody is the overflow user; what the spawner said decides,
 * since that user may be ours outside too. */
static bool said_is_enough(void)
{
    return true;
}

static const struct selftest_row rows[] = {
    {SANDBOX_SECCOMP, "seccomp", seccomp_is_in_force},
    {SANDBOX_RLIMITS, "rlimits", bounds_are_in_force},
    {SANDBOX_NO_NETWORK, "no-network", network_is_gone},
    {SANDBOX_NOT_ROOT, "not-root", is_not_root},
    {SANDBOX_LANDLOCK, "landlock", landlock_is_in_force},
    {SANDBOX_NAMESPACES, "namespaces", said_is_enough},
};

_Noreturn void spawner_selftest_main(uint32_t layers)
{
    uint32_t found = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_there = (layers & rows[i].layer) != 0 && rows[i].is_in_force();
        if (is_there)
            found |= rows[i].layer;
        printf("%-11s %-3s %s\n", rows[i].name, is_there ? "yes" : "no",
               (rows[i].layer & SANDBOX_MINIMUM) != 0 ? "needed" : "extra");
    }
    int status = fflush(stdout) == 0 && (found & SANDBOX_MINIMUM) == SANDBOX_MINIMUM ? 0 : 1;
    _exit(status); /* a leak checker could not work in here */
}
