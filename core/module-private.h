/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-private.h - the record of a module, shared by module.c (all modules), module-life.c (the
 * table of steps), module-end.c (draining and ending) and module-verbs.c.
 */
#ifndef CORE_MODULE_PRIVATE_H
#define CORE_MODULE_PRIVATE_H

#include "core/config.h"
#include "core/module-file.h"
#include "core/module-image.h"
#include "core/module-mark.h"
#include "core/self.h"

struct module {
    char name[SELF_NAME_SIZE];
    struct imp_self *self; /* NULL before the first step and when it is unmapped */
    uint32_t generation;   /* 0 before it had one */
    enum self_state state;
    imp_error reason; /* of failed and zombie */
    uint32_t steps;   /* of module-life.c's table that were taken and not reversed */
    uint32_t loops_entered;
    bool is_in_order;     /* has a place in the order of start */
    bool is_needed;       /* another one requires a service of it */
    bool is_still_mapped; /* dlclose did not unmap it */
    bool is_ending;       /* between module_end_begin and its `done` */

    struct module_file file;
    struct module_mark mark;
    struct module_image image;
    struct config_block *block;
    char version[NOTE_VERSION_SIZE]; /* kept for `module list` when the file is closed */
    char path[256];
    int64_t started_us; /* wall clock */
};

/* What all steps need to know; module.c keeps it. */
struct module_context {
    struct module_settings settings;
    const struct config *config; /* during start and check */
    bool is_check_only;
};
extern struct module_context module_context;

/* Every record, in the order of names until start, then in the order of start. */
extern struct module **module_rows;
extern uint32_t module_row_count;

/* ---- module-life.c ---- */

/* How far to go. */
enum life_goal { LIFE_VERIFIED, LIFE_CHECKED, LIFE_STARTED };
/* Takes steps until the goal, or until one fails; its reason stands in module->reason then. */
imp_status module_life_advance(struct module *module, enum life_goal goal);
/* True when the step that failed was the one that opens its tables. */
bool module_life_failed_at_tables(const struct module *module);
/* Reverses all steps that were taken, newest first, up to one that module-end.c has to end. */
void module_life_unwind(struct module *module);
/* Where the end of a module has to begin, after a failed step or at shutdown. */
enum life_end { LIFE_END_UNWIND, LIFE_END_SWEEP, LIFE_END_WHOLE };
enum life_end module_life_end_from(const struct module *module);
/* Everything from start on was ended: the steps before it are left. */
void module_life_ended(struct module *module);
void module_set_state(struct module *module, enum self_state state);
/* Steps of the end, used by module-end.c. */
void module_life_leave_loops(struct module *module);
void module_life_drain(struct module *module);
void module_life_stop(struct module *module);

/* ---- module-end.c ---- */

/* Begins to end a module whose start has been called, from where module_life_end_from says. `done` is
 * called on the control loop when it is unmapped or a zombie. `deadline` in ticks, for drain; when it
 * has passed already nothing is drained. */
void module_end_begin(struct module *module, int64_t deadline, void (*done)(void *arg), void *arg);
/* As module_end_begin without drain, and turns the control loop until it is over; before loop_run
 * only. */
void module_end_now(struct module *module);

#endif
