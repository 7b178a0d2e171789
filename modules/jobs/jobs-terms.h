/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-terms.h - what hook `job.release` is given and what it makes of it: questions and their answers,
 * changes of the ticket.
 */
#ifndef JOBS_TERMS_H
#define JOBS_TERMS_H

#include "modules/jobs/jobs-module.h"
#include "modules/jobs/jobs-record.h"

struct terms_text;

struct release_terms {
    imp_job_release_argument argument;                /* first: hooks call with its address */
    struct terms_text *texts;                         /* memory of all strings */
    imp_ticket_value base[2 * IMP_TICKET_VALUES_MAX]; /* the job's */
    uint32_t base_count;
    imp_ticket_value change[IMP_TICKET_VALUES_MAX]; /* the releaser's and the hooks' */
    uint32_t change_count;
    imp_ticket_value resolved[3 * IMP_TICKET_VALUES_MAX];
    imp_release_answer answers[IMP_RELEASE_ANSWERS_MAX];
    uint32_t answer_count;
    bool is_asked; /* a question is open */
    imp_release_question question;
    const char *choices[IMP_RELEASE_CHOICES_MAX];
};

/* Takes over (copies) what the releaser says; `request` NULL: a direct queue. IMP_INVALID for values that
 * are none, IMP_LIMIT for too many. */
imp_status terms_init(struct release_terms *terms, const imp_release_request *request,
                      imp_error *error);
/* What job and device say; copied. */
imp_status terms_describe(struct release_terms *terms, const Job *job, const imp_device *device,
                          imp_error *error);
void terms_free(struct release_terms *terms);

#endif
