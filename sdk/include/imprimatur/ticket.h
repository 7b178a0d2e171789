/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticket.h - what was asked for a job, in IPP job-template names, in layers that are kept apart.
 *
 * A ticket is a flat list of values; each knows its layer and its source. Later layers win: client <
 * queue-default < rule < releaser. Values are IPP keywords or integers as text ("copies" = "2",
 * "sides" = "two-sided-long-edge"). Copies are applied in exactly one place: `copies` of the resolved
 * ticket.
 */
#ifndef IMPRIMATUR_TICKET_H
#define IMPRIMATUR_TICKET_H

#include <imprimatur/base.h>

typedef int32_t imp_ticket_layer;
#define IMP_TICKET_CLIENT ((imp_ticket_layer)0)
#define IMP_TICKET_QUEUE_DEFAULT ((imp_ticket_layer)1)
#define IMP_TICKET_RULE ((imp_ticket_layer)2)
#define IMP_TICKET_RELEASER ((imp_ticket_layer)3)

typedef struct imp_ticket_value {
    imp_ticket_layer layer;
    const char *name;   /* IPP job-template attribute: "copies", "sides", "media", ... */
    const char *value;  /* keyword, integer or string as text */
    const char *source; /* "ipp" | "lpr" | "pjl" | "stream" | "admin" | "releaser" */
} imp_ticket_value;

typedef struct imp_ticket {
    const imp_ticket_value *values;
    uint32_t count;
} imp_ticket;

#define IMP_TICKET_VALUES_MAX 64
#define IMP_COPIES_MAX 9999 /* an upper bound of ours; IPP knows none */

typedef int32_t imp_plan_kind; /* plan(job, device): how each item would be met */
#define IMP_PLAN_NATIVE ((imp_plan_kind)0)
#define IMP_PLAN_WRAPPED ((imp_plan_kind)1)   /* by PJL around the document */
#define IMP_PLAN_CONVERTED ((imp_plan_kind)2) /* by rendering the document anew */
#define IMP_PLAN_IMPOSSIBLE ((imp_plan_kind)3)

/* The value that wins for `name`: of the highest layer, and within one the last. NULL when it was not
 * asked for. Any thread. */
static inline const char *imp_ticket_get(const imp_ticket *ticket, const char *name)
{
    const char *winner = NULL;
    imp_ticket_layer layer = IMP_TICKET_CLIENT;
    for (uint32_t i = 0; i < ticket->count; i++) {
        const imp_ticket_value *value = &ticket->values[i];
        if (__builtin_strcmp(value->name, name) == 0 && value->layer >= layer) {
            winner = value->value;
            layer = value->layer;
        }
    }
    return winner;
}

#endif
