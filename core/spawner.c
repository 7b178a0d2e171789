/* SPDX-License-Identifier: Apache-2.0 */
/* spawner.c - the process that makes every child: one poll loop, a table of children. */
#include "build-config.h"

#include "core/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <imprimatur/log.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/exec-report.h"
#include "core/packet.h"
#include "core/sandbox.h"

struct spawner_child {
    pid_t pid; /* 0 = a free place */
    uint32_t serial;
    int64_t deadline_us;
};

struct spawner {
    int supervisor_fd;
    int server_fd; /* -1: no server */
    int signal_fd;
    struct spawner_child children[SPAWNER_CHILDREN_MAX];
};

/* The fixed list. What runs is never named by a message. */
struct spawner_program {
    const char *name;
    const char *path;
    const char *role; /* argv[1] */
};

static const struct spawner_program programs[SPAWNER_PROGRAMS] = {
    [SPAWNER_PROGRAM_SELFTEST] = {"selftest", "/proc/self/exe", "--role=selftest"},
};

static void answer(const struct spawner *spawner, const struct spawner_message *message)
{
    imp_error error;
    /* A server that does not read gets no answers: its queue holds more than it may have children. */
    if (spawner->server_fd >= 0 &&
        spawner_send(spawner->server_fd, message, NULL, 0, &error) == IMP_BUSY)
        imp_log(NULL, IMP_LOG_WARNING, "spawner.lost_answer", "serial=%u", message->serial);
}

static void refuse(const struct spawner *spawner, uint32_t serial, const imp_error *error)
{
    struct spawner_message message;
    spawner_message_set(&message, SPAWNER_REFUSED, serial);
    message.status = error->status;
    imp_text_clean(message.text, sizeof message.text, error->message, strlen(error->message));
    answer(spawner, &message);
}

/* ---- starting --------------------------------------------------------------------------------- */

/* Our standard error is the log: what a document makes a child say does not belong there. A sanitizer's
 * report does. */
static int error_output_open(void)
{
#ifndef IMP_SANITIZED
    return open("/dev/null", O_WRONLY | O_CLOEXEC);
#else
    return STDERR_FILENO;
#endif
}

/* In the child: everything up to execve; what fails is written to `report` whole. */
static _Noreturn void child_run(const struct spawner_program *program,
                                const struct spawner_limits *limits, const int passed[2],
                                int report)
{
    imp_error error;
    uint32_t layers = 0;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    imp_status status = IMP_OK;
    int error_output = error_output_open();
    if (dup2(passed[0], STDIN_FILENO) < 0 || dup2(passed[1], STDOUT_FILENO) < 0 ||
        dup2(error_output, STDERR_FILENO) < 0)
        status = imp_error_set(&error, IMP_IO, "cannot pass descriptors: %s", strerror(errno));
    /* Nothing else of ours goes along, the spawner's own links least of all. */
    if (status == IMP_OK && close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
        status = imp_error_set(&error, IMP_IO, "cannot mark descriptors: %s", strerror(errno));
    if (status == IMP_OK)
        status = sandbox_child_enter(limits, &layers, &error);
    if (status == IMP_OK) {
        char name[32], role[32], said[32];
        snprintf(name, sizeof name, "%s", program->name);
        snprintf(role, sizeof role, "%s", program->role);
        snprintf(said, sizeof said, "--layers=%u", layers);
        char *arguments[] = {name, role, said, NULL};
        execve(program->path, arguments, environ);
        imp_error_set(&error, IMP_IO, "cannot start %s: %s", program->name, strerror(errno));
    }
    exec_report_fail(report, &error);
}

static imp_status child_start(struct spawner *spawner, const struct spawner_message *request,
                              const int passed[2], pid_t *pid, imp_error *error)
{
    struct spawner_child *place = NULL;
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX && place == NULL; i++)
        if (spawner->children[i].pid == 0)
            place = &spawner->children[i];
    if (place == NULL)
        return imp_error_set(error, IMP_BUSY, "%u children run already", SPAWNER_CHILDREN_MAX);
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0)
        return imp_error_set(error, IMP_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(report[0]);
        child_run(&programs[request->program], &request->limits, passed, report[1]);
    }
    int fork_error = errno;
    close(report[1]);
    imp_status status;
    if (child < 0) {
        status = imp_error_set(error, IMP_IO, "cannot fork: %s", strerror(fork_error));
    } else {
        status = exec_report_await(report[0], child, "a child", EXEC_REPORT_LIMIT, error);
    }
    close(report[0]);
    if (status != IMP_OK)
        return status;
    place->pid = *pid = child;
    place->serial = request->serial;
    place->deadline_us = imp_ticks() + (int64_t)request->limits.wall_ms * IMP_MILLISECOND;
    return IMP_OK;
}

/* ---- ending ----------------------------------------------------------------------------------- */

static void children_reap(struct spawner *spawner)
{
    int wait_status;
    pid_t pid;
    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
            struct spawner_child *child = &spawner->children[i];
            if (child->pid != pid)
                continue;
            child->pid = 0;
            struct spawner_message message;
            spawner_message_set(&message, SPAWNER_ENDED, child->serial);
            message.value = (uint64_t)(unsigned)wait_status;
            answer(spawner, &message);
        }
    }
}

static void children_kill(struct spawner *spawner)
{
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++)
        if (spawner->children[i].pid > 0)
            kill(spawner->children[i].pid, SIGKILL);
}

/* Kills who is past its time; returns milliseconds to the next deadline, or -1. */
static int children_expire(struct spawner *spawner)
{
    int64_t now = imp_ticks(), next = -1;
    for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++) {
        struct spawner_child *child = &spawner->children[i];
        if (child->pid <= 0)
            continue;
        if (child->deadline_us <= now) {
            kill(child->pid, SIGKILL);
            child->deadline_us = now + IMP_SECOND;
        }
        if (next < 0 || child->deadline_us - now < next)
            next = child->deadline_us - now;
    }
    return next < 0 ? -1 : (int)(next / IMP_MILLISECOND) + 1;
}

static void server_forget(struct spawner *spawner)
{
    if (spawner->server_fd >= 0)
        close(spawner->server_fd);
    spawner->server_fd = -1;
    /* Nobody waits for them any more. */
    children_kill(spawner);
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void server_serve(struct spawner *spawner)
{
    struct spawner_message request;
    int passed[SPAWNER_PASSED_MAX];
    size_t passed_count;
    imp_error error;
    pid_t pid = 0;
    imp_status status =
        spawner_receive(spawner->server_fd, &request, passed, &passed_count, &error);
    if (status == IMP_BUSY)
        return;
    if (status == IMP_CORRUPT) {
        imp_log(NULL, IMP_LOG_ERROR, "spawner.bad_message", "reason=\"%s\"", error.message);
        return;
    }
    if (status != IMP_OK) {
        server_forget(spawner);
        return;
    }
    if (request.kind == SPAWNER_START) {
        status = child_start(spawner, &request, passed, &pid, &error);
        if (status != IMP_OK) {
            refuse(spawner, request.serial, &error);
        } else {
            struct spawner_message message;
            spawner_message_set(&message, SPAWNER_STARTED, request.serial);
            message.value = (uint64_t)pid;
            answer(spawner, &message);
        }
    } else if (request.kind == SPAWNER_KILL) {
        for (size_t i = 0; i < SPAWNER_CHILDREN_MAX; i++)
            if (spawner->children[i].pid > 0 && spawner->children[i].serial == request.serial)
                kill(spawner->children[i].pid, SIGKILL);
    }
    packet_close(passed, passed_count);
}

/* False at the supervisor's end. */
static bool supervisor_serve(struct spawner *spawner)
{
    struct spawner_message message;
    int passed[SPAWNER_PASSED_MAX];
    size_t passed_count;
    imp_error error;
    imp_status status =
        spawner_receive(spawner->supervisor_fd, &message, passed, &passed_count, &error);
    if (status == IMP_BUSY)
        return true;
    if (status != IMP_OK)
        return false;
    if (message.kind == SPAWNER_SERVER) {
        server_forget(spawner);
        spawner->server_fd = passed[0];
    } else {
        packet_close(passed, passed_count);
    }
    return spawner->server_fd < 0 || packet_set_nonblocking(spawner->server_fd, NULL) == IMP_OK;
}

int spawner_main(void)
{
    struct spawner spawner = {.supervisor_fd = SPAWNER_FD_SUPERVISOR, .server_fd = -1};
    imp_error error;
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    /* The supervisor ends us by closing its end; signals of a terminal are not for us. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &watched, NULL) != 0 ||
        (spawner.signal_fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) {
        imp_log(NULL, IMP_LOG_CRITICAL, "spawner.failed", "reason=\"no signalfd: %s\"",
                strerror(errno));
        return 1;
    }
    if (sandbox_spawner_enter(&error) != IMP_OK ||
        packet_set_nonblocking(spawner.supervisor_fd, &error) != IMP_OK) {
        imp_log(NULL, IMP_LOG_CRITICAL, "spawner.failed", "reason=\"%s\"", error.message);
        return 1;
    }
    for (;;) {
        struct pollfd watch[] = {
            {.fd = spawner.supervisor_fd, .events = POLLIN},
            {.fd = spawner.signal_fd, .events = POLLIN},
            {.fd = spawner.server_fd, .events = POLLIN},
        };
        if (poll(watch, 3, children_expire(&spawner)) < 0 && errno != EINTR)
            break;
        struct signalfd_siginfo ignored;
        while (read(spawner.signal_fd, &ignored, sizeof ignored) == (ssize_t)sizeof ignored)
            continue;
        children_reap(&spawner);
        if (watch[2].revents != 0)
            server_serve(&spawner);
        if (watch[0].revents != 0 && !supervisor_serve(&spawner))
            break;
    }
    children_kill(&spawner);
    return 0;
}
