/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what a process gives up before it goes on: capabilities, system calls, network.
 *
 * Three filters: the server's (all threads, before modules load, the same whatever is loaded), the
 * spawner's, and a child's. All calls are made while the process has one thread, but for the server's
 * filter, which is put on every thread (TSYNC).
 */
#ifndef CORE_SANDBOX_H
#define CORE_SANDBOX_H

#include <imprimatur/base.h>

#include "core/spawner.h"

/* The server's filter: no execve, ptrace, mount, bpf, userfaultfd, io_uring, keyctl, module loading,
 * namespaces, change of user. In sanitizer builds execve and ptrace stay (symbolizer, leak checker).
 * Without `is_developer` the process is made undumpable too, so that no key reaches a core file. */
imp_status sandbox_server_enter(bool is_developer, imp_error *error) IMP_MUST_CHECK;

/* The spawner's: as the server's, but for execve and namespaces. */
imp_status sandbox_spawner_enter(imp_error *error) IMP_MUST_CHECK;

/* No core file of this process, and no tracing by its user: it holds keys. Nothing in sanitizer
 * builds, whose leak checker traces. */
imp_status sandbox_forbid_dumps(imp_error *error) IMP_MUST_CHECK;

/* What a child got; bits of `layers`. */
#define SANDBOX_SECCOMP 0x01u
#define SANDBOX_RLIMITS 0x02u
#define SANDBOX_NO_NETWORK 0x04u /* by the filter, by a namespace, or both */
#define SANDBOX_NOT_ROOT 0x08u
#define SANDBOX_MINIMUM 0x0fu
#define SANDBOX_LANDLOCK 0x10u
#define SANDBOX_NAMESPACES 0x20u

/* In a fresh child, before execve: bounds, namespaces and Landlock where there are any, the filter
 * last. Returns an error if the minimum is not reached. Writes what there is into *layers. */
imp_status sandbox_child_enter(const struct spawner_limits *limits, uint32_t *layers,
                               imp_error *error) IMP_MUST_CHECK;

/* Drops every capability of this process, also from the bounding set where allowed, and sets
 * no_new_privs. */
imp_status sandbox_drop_capabilities(imp_error *error) IMP_MUST_CHECK;
/* Keeps the capabilities of `mask` (bit = CAP_...) in permitted and effective and drops the rest. */
imp_status sandbox_keep_capabilities(uint64_t mask, imp_error *error) IMP_MUST_CHECK;

#endif
