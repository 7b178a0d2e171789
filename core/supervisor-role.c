/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor-role.c - executing our own file again as spawner or server.
 *
 * The new process has a clean image: nothing of the supervisor's memory, only the descriptors that
 * its role is given, and an environment of a few known variables.
 */
#include "build-config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/exec-report.h"
#include "core/supervisor-private.h"

/* Variables that a role inherits: what the dynamic linker, the sanitizers, the journal and the tests
 * need. All were set by whoever started us, with the rights that we had. */
static const char *const kept_variables[] = {
    "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM",    "LD_LIBRARY_PATH", "LD_PRELOAD",    "PATH",
    "ASAN_OPTIONS",          "LSAN_OPTIONS",      "TSAN_OPTIONS",    "UBSAN_OPTIONS", "GCOV_PREFIX",
    "GCOV_PREFIX_STRIP",     "LLVM_PROFILE_FILE",
};
#define KEPT_COUNT (sizeof kept_variables / sizeof kept_variables[0])
#define KEPT_PREFIX "IMPRIMATUR_"
#define ENVIRONMENT_MAX 64

static bool variable_is_kept(const char *variable)
{
    if (strncmp(variable, KEPT_PREFIX, strlen(KEPT_PREFIX)) == 0)
        return true;
    for (size_t i = 0; i < KEPT_COUNT; i++) {
        size_t length = strlen(kept_variables[i]);
        if (strncmp(variable, kept_variables[i], length) == 0 && variable[length] == '=')
            return true;
    }
    return false;
}

static void environment_make(char *kept[ENVIRONMENT_MAX])
{
    size_t count = 0;
    for (char **variable = environ; *variable != NULL && count < ENVIRONMENT_MAX - 1; variable++)
        if (variable_is_kept(*variable))
            kept[count++] = *variable;
    kept[count] = NULL;
}

/* Puts the role's descriptors at ROLE_FD_FIRST and behind; everything else closes at execve. */
static imp_status descriptors_place(const struct role *role, imp_error *error)
{
    int high[ROLE_FDS_MAX];
    /* Out of the way first, so that none is overwritten by another. */
    for (size_t i = 0; i < role->fd_count; i++) {
        high[i] = fcntl(role->fds[i], F_DUPFD_CLOEXEC, ROLE_FD_FIRST + ROLE_FDS_MAX + 1);
        if (high[i] < 0)
            return imp_error_set(error, IMP_IO, "cannot pass descriptors: %s", strerror(errno));
    }
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0)
        return imp_error_set(error, IMP_IO, "cannot open /dev/null: %s", strerror(errno));
    if (close_range(ROLE_FD_FIRST, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
        return imp_error_set(error, IMP_IO, "cannot mark descriptors: %s", strerror(errno));
    for (size_t i = 0; i < role->fd_count; i++)
        if (dup2(high[i], ROLE_FD_FIRST + (int)i) < 0)
            return imp_error_set(error, IMP_IO, "cannot pass descriptors: %s", strerror(errno));
    return IMP_OK;
}

static _Noreturn void role_run(const struct role *role, const struct account *account, int report)
{
    imp_error error;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A terminal's ^C is for the supervisor, which stops us in order. */
    setpgid(0, 0);
    imp_status status = descriptors_place(role, &error);
    if (status == IMP_OK)
        status = account_enter(account, &error);
    if (status == IMP_OK) {
        char option[32];
        char *kept[ENVIRONMENT_MAX];
        char *path = (char *)(uintptr_t)role->config_path;
        snprintf(option, sizeof option, "--role=%s", role->name);
        char *arguments[] = {"imprimd", option, NULL, NULL, NULL, NULL};
        size_t count = 2;
        if (role->is_developer)
            arguments[count++] = "--developer";
        if (path != NULL) {
            arguments[count++] = "-c";
            arguments[count++] = path;
        }
        environment_make(kept);
        execve("/proc/self/exe", arguments, kept);
        imp_error_set(&error, IMP_IO, "cannot execute imprimd: %s", strerror(errno));
    }
    exec_report_fail(report, &error);
}

imp_status role_start(const struct role *role, const struct account *account, pid_t *pid,
                      imp_error *error)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0)
        return imp_error_set(error, IMP_IO, "cannot make a pipe: %s", strerror(errno));
    /* Above the places of the role's own descriptors. */
    int writing = fcntl(report[1], F_DUPFD_CLOEXEC, ROLE_FD_FIRST + 2 * ROLE_FDS_MAX + 2);
    close(report[1]);
    pid_t child = writing < 0 ? -1 : fork();
    if (child == 0) {
        prctl(PR_SET_NAME, role->name);
        role_run(role, account, writing);
    }
    imp_status status;
    if (child < 0) {
        status =
            imp_error_set(error, IMP_IO, "cannot start the %s: %s", role->name, strerror(errno));
    } else {
        close(writing);
        writing = -1;
        status = exec_report_await(report[0], child, role->name, EXEC_REPORT_LIMIT, error);
        if (status == IMP_OK)
            *pid = child;
    }
    if (writing >= 0)
        close(writing);
    close(report[0]);
    return status;
}

bool role_await_end(pid_t pid, int64_t limit_us)
{
    int64_t deadline = imp_ticks() + limit_us;
    int process = pidfd_open(pid, 0);
    struct pollfd watch = {.fd = process, .events = POLLIN};
    bool has_ended = false;
    for (int64_t left = limit_us; process >= 0 && !has_ended && left > 0;
         left = deadline - imp_ticks()) {
        int ready = poll(&watch, 1, (int)((left + IMP_MILLISECOND - 1) / IMP_MILLISECOND));
        if (ready < 0 && errno != EINTR)
            break;
        has_ended = ready > 0;
    }
    if (process >= 0)
        close(process);
    if (!has_ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return has_ended;
}
