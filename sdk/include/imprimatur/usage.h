/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.h - what was used: one function of one device, by somebody or nobody known, in a span of time.
 *
 * A delivery makes one usage; a session at a panel makes one for each function. Postings (costs) are
 * keyed by usage, so that nothing is charged twice. Evidence from several sources stands side by side,
 * each with its confidence; none overwrites another.
 *
 * The noun is fixed here so that deliveries, devices and accounting agree on it. No module offers
 * service `usages` in this version: there is nothing to call yet.
 */
#ifndef IMPRIMATUR_USAGE_H
#define IMPRIMATUR_USAGE_H

#include <imprimatur/base.h>

#define IMP_USAGES_V1                                                                              \
    {                                                                                              \
        "usages", 1                                                                                \
    }

typedef int32_t imp_usage_function;
#define IMP_USAGE_PRINT ((imp_usage_function)1)
#define IMP_USAGE_COPY ((imp_usage_function)2)
#define IMP_USAGE_SCAN ((imp_usage_function)3)
#define IMP_USAGE_FAX_SEND ((imp_usage_function)4)
#define IMP_USAGE_FAX_RECEIVE ((imp_usage_function)5)

typedef int32_t imp_usage_evidence;                  /* where a count comes from */
#define IMP_EVIDENCE_PARSED ((imp_usage_evidence)1)  /* pages of the document */
#define IMP_EVIDENCE_IPP_JOB ((imp_usage_evidence)2) /* the device's IPP job counters */
#define IMP_EVIDENCE_PJL ((imp_usage_evidence)3)     /* PJL page status */
#define IMP_EVIDENCE_JOB_LOG ((imp_usage_evidence)4) /* the device's own accounting */
#define IMP_EVIDENCE_SNMP_DIFFERENCE ((imp_usage_evidence)5)
#define IMP_EVIDENCE_TERMINAL ((imp_usage_evidence)6)

#define IMP_USAGE_COLOR 0x1u  /* of a count: sheets with color */
#define IMP_USAGE_DUPLEX 0x2u /* of a count: printed on both sides */

/* Impressions (sides) and sheets of one media size. */
typedef struct imp_usage_count {
    uint32_t size;
    uint32_t flags;    /* IMP_USAGE_COLOR, IMP_USAGE_DUPLEX */
    const char *media; /* PWG 5101.1 self-describing name: "iso_a4_210x297mm" */
    uint64_t impressions, sheets;
    imp_usage_evidence evidence;
    uint32_t confidence; /* percent */
} imp_usage_count;

typedef struct imp_usage {
    uint32_t size;
    imp_id id;
    imp_id device;
    imp_usage_function function;
    imp_id principal;       /* zero: unknown */
    imp_id session;         /* zero: none */
    imp_id delivery;        /* zero: not from a delivery */
    int64_t started, ended; /* imp_now() */
    const imp_usage_count *counts;
    uint32_t count;
} imp_usage;

#endif
