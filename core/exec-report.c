/* SPDX-License-Identifier: Apache-2.0 */
/* exec-report.c - see exec-report.h. */
#include "build-config.h"

#include "core/exec-report.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void exec_report_fail(int report, const imp_error *error)
{
    ssize_t written = write(report, error, sizeof *error);
    _exit(written == (ssize_t)sizeof *error ? 126 : 127);
}

/* False at the deadline. */
static bool wait_readable(int report, int64_t limit_us)
{
    int64_t deadline = imp_ticks() + limit_us;
    struct pollfd watch = {.fd = report, .events = POLLIN};
    for (;;) {
        int64_t left = deadline - imp_ticks();
        int ready =
            left <= 0 ? 0 : poll(&watch, 1, (int)((left + IMP_MILLISECOND - 1) / IMP_MILLISECOND));
        if (ready >= 0 || errno != EINTR)
            return ready != 0; /* what poll can't watch, read tells */
    }
}

static imp_status read_report(int report, const char *what, imp_error *error)
{
    imp_error said;
    ssize_t length;
    do
        length = read(report, &said, sizeof said);
    while (length < 0 && errno == EINTR);
    if (length == 0)
        return IMP_OK;
    if (length != (ssize_t)sizeof said || said.status == IMP_OK)
        return imp_error_set(error, IMP_IO, "%s ended before it started", what);
    said.message[sizeof said.message - 1] = '\0';
    *error = said;
    return said.status;
}

imp_status exec_report_await(int report, pid_t child, const char *what, int64_t limit_us,
                             imp_error *error)
{
    imp_status status = wait_readable(report, limit_us)
                            ? read_report(report, what, error)
                            : imp_error_set(error, IMP_TIMEOUT, "%s did not start within %lld ms",
                                            what, (long long)(limit_us / IMP_MILLISECOND));
    if (status == IMP_OK)
        return status;
    /* It may still be on its way; after this it is not. */
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return status;
}
