/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-plan.h - in which order modules start, and which can't.
 *
 * Pure: names and services in, order and reasons out. A module starts behind the modules that offer
 * what it requires; among equals the name decides. It is refused, with those that need it, when a
 * service is missing, offered twice, or needed in a circle.
 */
#ifndef CORE_MODULE_PLAN_H
#define CORE_MODULE_PLAN_H

#include <imprimatur/base.h>

struct module_plan_row {
    const char *name;
    const char *requires, *provides; /* as in a note: "jobs/1 devices/1" */
    bool is_refused;                 /* in: failed before; out: also what the plan refuses */
    imp_error reason;                /* out, for what the plan refuses */
};

/* Writes the indexes of the modules that can start into `order`, in their order, and returns their
 * number. Rows must stand in name order. */
uint32_t module_plan(struct module_plan_row *rows, uint32_t count, uint32_t *order);

/* True when a row requires what row `index` provides. */
bool module_plan_is_needed(const struct module_plan_row *rows, uint32_t count, uint32_t index);

#endif
