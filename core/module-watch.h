/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-watch.h - the time limit of calls that run on the control thread: start, check, stop.
 *
 * A function that does not return can't be taken off its thread. So a thread of its own watches, and
 * when the limit has passed it logs the module's name and ends the process with
 * SERVER_EXIT_MODULE_STUCK. The server is started again; a module that hung in start is left out then
 * (module-mark.h). The supervisor's own watch over the control thread's heart is told to wait longer.
 */
#ifndef CORE_MODULE_WATCH_H
#define CORE_MODULE_WATCH_H

#include <imprimatur/base.h>

/* Starts and ends the thread. Control thread. */
imp_status module_watch_start(imp_error *error);
void module_watch_stop(void);

/* From here on `module` is in `what` ("start"), for at most `limit_us`. Does nothing while the thread does
 * not run. Control thread. */
void module_watch_begin(const char *module, const char *what, int64_t limit_us);
void module_watch_end(void);

/* Tests: called instead of ending the process, on the watching thread; NULL for the real thing. */
void module_watch_set_end_for_test(void (*end)(const char *module, const char *what));

#endif
