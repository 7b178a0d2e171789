/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.h - named points at which any module may observe, change or refuse.
 *
 * A point has a name ("job.received") and an argument struct that its service header defines. Hooks
 * run in the order of phases, then of `before`/`after`. Each answers continue, done (no further hook
 * is asked), or a refusal with a reason that the person will see; or it suspends, and resumes later on
 * the same loop.
 */
#ifndef IMPRIMATUR_HOOK_H
#define IMPRIMATUR_HOOK_H

#include <imprimatur/base.h>

typedef int32_t imp_hook_phase;
#define IMP_PHASE_FIRST ((imp_hook_phase)0)
#define IMP_PHASE_AUTHN ((imp_hook_phase)1)
#define IMP_PHASE_AUTHZ ((imp_hook_phase)2)
#define IMP_PHASE_POLICY ((imp_hook_phase)3)
#define IMP_PHASE_TRANSFORM ((imp_hook_phase)4)
#define IMP_PHASE_ACCOUNT ((imp_hook_phase)5)
#define IMP_PHASE_LAST ((imp_hook_phase)6)

typedef int32_t imp_hook_answer;
#define IMP_HOOK_CONTINUE ((imp_hook_answer)0)
#define IMP_HOOK_DONE ((imp_hook_answer)1)
#define IMP_HOOK_REFUSE ((imp_hook_answer)2)  /* `error` holds status and reason */
#define IMP_HOOK_SUSPEND ((imp_hook_answer)3) /* imp_hook_resume(run, ...) comes later */

typedef struct imp_hook_run imp_hook_run;

/* `argument` is the point's struct; it stays valid until the run is done. */
typedef imp_hook_answer (*imp_hook_function)(imp_self *self, void *instance, imp_hook_run *run,
                                             void *argument, imp_error *error);

typedef struct imp_hook_spec {
    uint32_t size;
    const char *point; /* "job.received" */
    imp_hook_phase phase;
    const char *before; /* module names separated by blanks, or NULL */
    const char *after;
    imp_hook_function function;
} imp_hook_spec;

/* Registers a hook; strings are copied. IMP_INVALID for a cycle in before/after, naming it. Control
 * thread (in start). */
IMP_PUBLIC imp_status imp_hook_add(imp_self *self, const imp_hook_spec *spec, imp_error *error);

/* Asks all hooks of a point. `done` is called exactly once, on the calling loop: from within when no
 * hook suspends. `status` is IMP_OK, or what the refusing hook set, with its reason. Loop threads. */
IMP_PUBLIC void imp_hook_ask(imp_self *self, const char *point, void *argument,
                             void (*done)(imp_status status, const imp_error *error, void *arg),
                             void *arg);
/* Ends a suspension: `answer` as the hook would have given it (not SUSPEND). On the run's loop. */
IMP_PUBLIC void imp_hook_resume(imp_hook_run *run, imp_hook_answer answer, const imp_error *error);
/* The cheap form for points that can't suspend (observers, job.view): a hook that suspends counts as
 * IMP_UNSUPPORTED. Any thread. */
IMP_PUBLIC imp_status imp_hook_ask_now(imp_self *self, const char *point, void *argument,
                                       imp_error *error);
/* How many hooks a point has now; to skip building the argument. Any thread. */
IMP_PUBLIC uint32_t imp_hook_count(const char *point);

#endif
