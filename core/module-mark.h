/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-mark.h - which modules did not survive their start.
 *
 * While a module is being mapped and started, STATE/module-starts/NAME exists. A fault (SIGSEGV and its
 * kin) or the watchdog's time limit writes one letter into it before the process ends; a good or
 * cleanly refused start removes it. So the next start of the server knows:
 *
 *   - the module hung: it is left out;
 *   - it crashed once: it is tried again; it crashed again: it is left out;
 *   - the process was ended from outside meanwhile (SIGKILL, power): nothing is counted.
 *
 * Another build of the module's file makes the mark void, and removing the mark tries it again.
 */
#ifndef CORE_MODULE_MARK_H
#define CORE_MODULE_MARK_H

#include "core/module-file.h"

/* So many crashes in start are forgiven to one build of a module. */
#define MODULE_MARK_CRASHES_FORGIVEN 1u

struct module_mark {
    int fd; /* -1 = none */
    char *path;
};

/* IMP_DENIED with the reason when the module is to be left out; IMP_NO_SPACE when there is no room for a
 * mark, and then none was made. Otherwise the mark is made, and from
 * here to module_mark_end a fault of this process is counted against the module. Only one at a
 * time. Control thread. */
imp_status module_mark_begin(const char *state_dir, const struct module_file *file,
                             struct module_mark *mark, imp_error *error);
void module_mark_end(struct module_mark *mark);
/* Faults of any thread count from here on, not only those of the thread that began: the module is
 * being entered into the loops. */
void module_mark_all_threads(void);
/* The module hangs and the process is about to end; async-signal-safe. Any thread. */
void module_mark_hung(void);

#endif
