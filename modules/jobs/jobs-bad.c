/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-bad.h"

#include "modules/jobs/jobs-change.h"

bool bad_is_of_row(imp_status status)
{
    return status == IMP_CORRUPT || status == IMP_NOT_FOUND || status == IMP_INVALID ||
           status == IMP_EXISTS;
}

bool bad_add(struct jobs_bad *bad, uint64_t sequence, imp_status status)
{
    if (bad_is_full(bad))
        return false;
    bad->rows[bad->count].sequence = sequence;
    bad->rows[bad->count++].status = status;
    return true;
}

bool bad_has(const struct jobs_bad *bad, uint64_t sequence)
{
    for (uint32_t i = 0; i < bad->count; i++) {
        if (bad->rows[i].sequence == sequence)
            return true;
    }
    return false;
}

void bad_tell(struct jobs *jobs, const char *where, struct jobs_bad *bad)
{
    for (uint32_t i = 0; i < bad->count; i++) {
        uint64_t sequence = bad->rows[i].sequence;
        imp_log(jobs->self, IMP_LOG_ERROR, "jobs.bad-row", "where=%s job-id=%u status=%s", where,
                sequence == 0 ? 0 : job_number(sequence), imp_status_name(bad->rows[i].status));
        imp_metric_add(jobs->metrics.bad_rows, 1);
    }
    bad->count = 0;
}
