/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.h - finding, checking, starting and ending modules, and calling into them.
 *
 * Every call from the core into a module stands between module_call_begin and module_call_end. The pair
 * pins the generation, pushes it on the thread's at-hand stack (so that a crash names it) and, when no
 * other module is on the stack, takes the newest snapshot of services and hooks:
 *
 *     module_call_begin(self);
 *     fn(arg);
 *     module_call_end(self);
 *
 * It costs some nanoseconds, no lock and no atomic read-modify-write. self == NULL (a callback of the
 * core itself) costs a test.
 */
#ifndef CORE_MODULE_H
#define CORE_MODULE_H

#include "self.h"

void module_call_begin(struct imp_self *self);
void module_call_end(struct imp_self *self);

/* Where modules come from and how long they may take; copied from the core's settings. Strings must
 * live as long as modules do. */
struct module_settings {
    const char *module_dir;    /* "/usr/lib/.../imprimatur/modules" */
    const char *state_dir;     /* remembers which modules did not survive their start */
    const char *installed_dir; /* developer files are refused below this path */
    bool is_developer; /* `developer = true`: files of our own user are taken beside root's */
    bool keeps_mapped; /* IMPRIMATUR_KEEP_MODULES=1: images stay for leak reports */
    int64_t start_timeout_us;    /* module_start_timeout: map, check, tables and start together */
    int64_t stop_timeout_us;     /* module_stop_timeout */
    int64_t upgrade_deadline_us; /* upgrade_deadline, for all modules together */
};

struct config;
struct config_block;
struct config_subject;

/* Finds, verifies, maps, checks and starts every module that `config` enables, in the order of their
 * services. A module that fails is logged with its reason and left out together with those that need
 * it; the others go on. IMP_DENIED when `developer` is refused: then nothing was loaded.
 *
 * IMP_NO_SPACE and IMP_IO: a module that others need, or that clients wait for, has failed for a reason
 * that may pass; IMP_UNSUPPORTED: the store has a newer schema than a module knows. The start was given
 * up there, with the module's name in the error and nothing logged; what runs by then is ended by
 * module_stop_all. Control thread, before loop_run. */
imp_status module_start_all(const struct config *config, const struct module_settings *settings,
                            imp_error *error);
/* Maps every enabled module and checks its settings without starting any; one line per error goes to
 * `say`. Returns the number of errors. In a process that runs nothing else. */
uint32_t module_check_all(const struct config *config, const struct module_settings *settings,
                          void (*say)(const char *line, void *arg), void *arg);
/* Ends all modules, in reverse order of start: drain, cut, stop, sweep, unmap. `done` is called on the
 * control loop when every module is unmapped or a zombie. Control thread. */
void module_stop_all(void (*done)(void *arg), void *arg);
/* Frees what is left of the records, after module_stop_all. Zombies stay mapped. */
void module_teardown(void);

/* The living generation of that name, or NULL. Control thread. */
struct imp_self *module_find(const char *name);
/* Its settings in force, or NULL. Control thread. */
const struct config_block *module_block(const char *name);

/* Reload of settings: rows for config_reload, at most `room`; returns how many modules run. */
uint32_t module_subjects(struct config_subject *subjects, uint32_t room);
/* The time limits of `settings`; what is under way keeps its own. Control thread. */
void module_take_limits(const struct module_settings *settings);
/* Gives a module its new block (subject->next, taken over) and calls reconfigure. Control thread. */
void module_take_settings(struct config_subject *subject);

struct module_counts {
    uint32_t started, failed, zombies;
};
void module_count(struct module_counts *counts);
/* "raw (reason), lpr (reason)", for status; valid until the next call. Control thread. */
const char *module_failed_names(void);

/* Registers `module list`, `module info`, `hook list`. Control thread. */
imp_status module_verbs_register(imp_error *error);

#endif
