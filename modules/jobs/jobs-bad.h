/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-bad.h - rows that can't be used: corrupt, or naming what is not there.
 *
 * One bad row must not stop the others. A closure that meets one sets it aside (out of the line, later
 * for the sweeper) and notes it; when its commit is done, each is said once in the log, by the job's
 * number, and counted. Nothing of it is deleted but the row that led to it: the record stays for
 * `imprimctl backup verify` and for whoever looks into it.
 */
#ifndef JOBS_BAD_H
#define JOBS_BAD_H

#include "modules/jobs/jobs-module.h"

/* Whether a status speaks of one record, so that the next one may be fine; the store's own troubles (no
 * space, I/O, shutdown) are everybody's. */
bool bad_is_of_row(imp_status status);
/* Notes a row; `sequence` 0: it does not even say of which job. False when the list is full: commit what
 * was done, and go on in another closure. */
bool bad_add(struct jobs_bad *bad, uint64_t sequence, imp_status status);
bool bad_has(const struct jobs_bad *bad, uint64_t sequence);
static inline bool bad_is_full(const struct jobs_bad *bad)
{
    return bad->count == JOBS_BAD_MAX;
}
/* Logs and counts the rows, and empties the list. `where` names who met them: "line", "sweep". After
 * the commit, on a loop. */
void bad_tell(struct jobs *jobs, const char *where, struct jobs_bad *bad);

#endif
