/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawner.h - the process that makes every child, and its messages.
 *
 * Single-threaded, unprivileged, started before any key is read; so a child never descends from a
 * process that knew one, and the server itself needs no execve. A request names a program of a fixed
 * list and bounds; the spawner adds the sandbox (sandbox.h) and reports how the child ended. The
 * server's side is child.h.
 *
 * A SOCK_SEQPACKET pair, messages of one size; SPAWNER_START carries exactly two descriptors, the
 * child's standard input and output. Standard error of a child is the log of the instance.
 */
#ifndef CORE_SPAWNER_H
#define CORE_SPAWNER_H

#include <imprimatur/base.h>

#define SPAWNER_MAGIC 0x494d5350u /* "IMSP" */
#define SPAWNER_VERSION 1u
#define SPAWNER_CHILDREN_MAX 64u /* children at one time */

/* Descriptors that a spawner inherits. */
#define SPAWNER_FD_SUPERVISOR 3 /* end of file = end */

/* server -> spawner */
#define SPAWNER_START 1u
#define SPAWNER_KILL 2u /* SIGKILL for the child of this serial */
/* supervisor -> spawner */
#define SPAWNER_SERVER                                                                             \
    16u /* carries the spawner's end for a new server; children of the old one die */
/* spawner -> server */
#define SPAWNER_STARTED 32u /* value = pid, for logs only */
#define SPAWNER_REFUSED 33u /* status, text; no SPAWNER_ENDED follows */
#define SPAWNER_ENDED 34u   /* value = wait status as waitpid gives it */

/* The fixed list. */
#define SPAWNER_PROGRAM_SELFTEST 0u /* imprimd --role=selftest: says what it may still do */
#define SPAWNER_PROGRAMS 1u

/* The most that a request may ask for; more is refused, so that a server gone mad can't have it. */
#define SPAWNER_MEMORY_LIMIT (UINT64_C(16) << 30)
#define SPAWNER_OUTPUT_LIMIT (UINT64_C(64) << 30)
#define SPAWNER_CPU_LIMIT 3600u
#define SPAWNER_WALL_LIMIT (3600u * 1000u)
#define SPAWNER_FILES_LEAST 8u
#define SPAWNER_FILES_LIMIT 1024u

struct spawner_limits {
    uint64_t memory_bytes; /* RLIMIT_AS */
    uint64_t output_bytes; /* RLIMIT_FSIZE */
    uint32_t cpu_seconds;  /* RLIMIT_CPU */
    uint32_t wall_ms;      /* SIGKILL after this */
    uint32_t open_files;   /* RLIMIT_NOFILE */
    uint32_t reserved;
};

struct spawner_message {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint32_t serial;
    uint32_t program;
    int32_t status;
    uint32_t reserved;
    uint64_t value;
    struct spawner_limits limits;
    char text[IMP_ERROR_MESSAGE_MAX];
};

#define SPAWNER_PASSED_MAX 2

void spawner_message_set(struct spawner_message *message, uint16_t kind, uint32_t serial);
/* Checks bytes as they came: size, magic, version, kind, program, bounds within
 * the limits above. Pure. */
imp_status spawner_message_parse(const void *bytes, size_t length, struct spawner_message *message);
/* As link_send and link_receive, with up to two descriptors. */
imp_status spawner_send(int fd, const struct spawner_message *message, const int *passed,
                        size_t passed_count, imp_error *error);
imp_status spawner_receive(int fd, struct spawner_message *message, int passed[SPAWNER_PASSED_MAX],
                           size_t *passed_count, imp_error *error);

/* The spawner's main (imprimd --role=spawner); returns the exit status. */
int spawner_main(void);
/* The main of program SPAWNER_PROGRAM_SELFTEST: tries what a child may not do and prints a line
 * "LAYER yes|no" for each layer. `layers` is what sandbox_child_enter said. Exits 0 when the
 * minimum is reached, else 1. */
_Noreturn void spawner_selftest_main(uint32_t layers);

#endif
