/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-filter.h - pieces that the system call filters of server, spawner and child share. */
#ifndef CORE_SANDBOX_FILTER_H
#define CORE_SANDBOX_FILTER_H

#include <imprimatur/base.h>

#include <seccomp.h>

/* Each answers 0 or what libseccomp said. */
int filter_deny(scmp_filter_ctx filter, const int *calls, size_t count);
int filter_deny_common(scmp_filter_ctx filter);
int filter_deny_capset(scmp_filter_ctx filter); /* not for the spawner: its children drop theirs */
int filter_deny_ptrace(scmp_filter_ctx filter); /* not in sanitizer builds: the leak checker */
int filter_deny_namespaces(scmp_filter_ctx filter);

/* A filter that allows all but the common list and what `fill` adds, on all threads. */
imp_status filter_install(int (*fill)(scmp_filter_ctx filter), const char *whose, imp_error *error);

#endif
