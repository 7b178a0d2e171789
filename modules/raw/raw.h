/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - private to module raw: a port that takes print data and nothing else (AppSocket, 9100).
 *
 * A connection is one job; it ends when the client closes, or after `job_idle` without a byte. There
 * is no acknowledgement in this protocol: the one thing a client can see is that we close, and we close
 * only after the commit.
 */
#ifndef IMPRIMATUR_MODULES_RAW_H
#define IMPRIMATUR_MODULES_RAW_H

#include <imprimatur/jobs.h>
#include <imprimatur/metrics.h>
#include <imprimatur/network.h>
#include <imprimatur/options.h>
#include <imprimatur/stream.h>

#define RAW_HEAD_MAX 8192 /* bytes that are looked at for owner and title */
#define RAW_HOST_RULES_MAX 1000

struct raw_host_rule {
    const char *network; /* "192.0.2.7" or "192.0.2.0/24" */
    const char *user;
};

struct raw_conf {
    const char *queue;
    int64_t job_idle, job_timeout, door_wait;
    imp_group_list hosts; /* struct raw_host_rule */
};

struct raw {
    imp_self *self;
    _Atomic(const struct raw_conf *) conf; /* replaced by reconfigure */
    imp_metric *jobs, *refused, *aborted, *queries, *waits;
};

/* ---- raw-pjl.c: pure, bounded ---- */

#define RAW_PJL_LINE_MAX 512
#define RAW_PJL_ANSWER_MAX 768

/* Follows the PJL in a stream of bytes: from a UEL on, lines that start with @PJL, up to ENTER LANGUAGE
 * or the first line that is something else. */
struct raw_pjl {
    uint32_t uel_matched; /* bytes of a UEL seen so far */
    bool is_in_pjl;
    bool is_line_too_long;
    bool has_payload; /* something to print was seen: not PJL, not white space */
    uint32_t length;
    char line[RAW_PJL_LINE_MAX + 1];
};

/* Takes bytes until an answer is due (or all are taken); returns how many. `answer` is filled and
 * *answer_length is not 0 when something must be said to the client (PJL INFO, ECHO, USTATUS). */
size_t raw_pjl_feed(struct raw_pjl *pjl, const uint8_t *bytes, size_t length,
                    char answer[RAW_PJL_ANSWER_MAX], size_t *answer_length);

/* ---- raw-session.c ---- */

imp_status raw_accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream);

#endif
