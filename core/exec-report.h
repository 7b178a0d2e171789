/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec-report.h - how a process that forks learns whether its child has become another program.
 *
 * A pipe whose writing end closes at execve: end of file says that the program runs, an error in it
 * says why not.
 */
#ifndef CORE_EXEC_REPORT_H
#define CORE_EXEC_REPORT_H

#include <imprimatur/base.h>

#include <sys/types.h>

/* From fork to execve, with all that is set up between; a child that takes longer is given up. */
#define EXEC_REPORT_LIMIT (30 * IMP_SECOND)

/* In the child, when execve or something before it failed: writes `error` and ends the process. */
_Noreturn void exec_report_fail(int report, const imp_error *error);

/* In the parent, which has closed its copy of the writing end: IMP_OK when the child runs its program.
 * Otherwise the child was killed and reaped, and `error` holds its reason; IMP_TIMEOUT after
 * `limit_us`, IMP_IO when it ended without a sensible word. `what` names it ("the spawner"). */
imp_status exec_report_await(int report, pid_t child, const char *what, int64_t limit_us,
                             imp_error *error);

#endif
