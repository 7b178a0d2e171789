/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.h - the registry behind <imprimatur/hook.h>.
 *
 * Within a point, phases come first; within a phase, `before` and `after` (they say nothing of hooks
 * of other phases); what is left open goes by the modules' names and the order of registration, so
 * that the order does not depend on the order of start.
 */
#ifndef CORE_HOOK_H
#define CORE_HOOK_H

#include <imprimatur/hook.h>

#include "core/self.h"

/* Makes all hooks of this generation visible from the next snapshot on. Those of a test's self are at
 * once. Control thread. */
void hook_show(struct imp_self *self);

/* Ends the suspended runs that this generation asked (their `done` gets IMP_UNAVAILABLE) or at which one
 * of its hooks has suspended (refused with IMP_UNAVAILABLE: to go on as if the hook had agreed might
 * let pass what it would have refused). Each on its own loop. A resume that comes later is ignored.
 * Control thread. */
void hook_cut(struct imp_self *self);
/* After stop(): forgets runs of this generation that nobody will resume any more. Control thread. */
void hook_forget(struct imp_self *self);

/* Every hook in order, points by name, until `each` returns false. Control thread. */
struct hook_info {
    const char *point, *module, *before, *after;
    uint32_t generation;
    imp_hook_phase phase;
};
void hook_each(bool (*each)(const struct hook_info *info, void *arg), void *arg);
const char *hook_phase_name(imp_hook_phase phase);

#endif
