/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-intake-private.h - an open intake, shared by the door and documents (jobs-intake.c) and the
 * commit (jobs-intake-commit.c).
 */
#ifndef JOBS_INTAKE_PRIVATE_H
#define JOBS_INTAKE_PRIVATE_H

#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-intake.h"
#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-submission.h"

struct intake;

struct intake_document {
    struct intake *intake;
    struct spool_writer *writer;
    char *name, *format;
    char detected[64];
    bool is_head_read;
    bool is_ended;  /* document_end was called */
    bool is_sealed; /* the spool has finished it */
};

/* Memory of an intake's strings, freed with it. */
struct intake_text {
    struct intake_text *next;
    char bytes[];
};

struct intake {
    imp_intake base;
    struct jobs *jobs;
    imp_loop *loop;
    struct intake_text *texts;

    /* What the queue says, as it was at the door. */
    imp_queue queue;
    struct counter_limits {
        uint64_t jobs, bytes, user_jobs, user_bytes;
    } limits;
    imp_id *allowed_principals; /* NULL: anybody */
    size_t allowed_count;
    imp_ticket_value defaults[IMP_TICKET_VALUES_MAX];
    uint32_t default_count;

    char *protocol, *address;
    void (*ready)(void *arg);
    void *ready_arg;

    struct intake_document **documents;
    uint32_t document_count, document_room;
    uint32_t unsealed; /* ended documents that the spool still works on */
    uint64_t bytes;
    imp_status failed; /* the first failure; nothing goes on after it */
    imp_error failure;
    char head_user[256], head_title[256]; /* of the first document that says so */

    /* The commit. */
    bool is_committing, is_abandoned, is_quarantined, has_lpd_number;
    void (*done)(imp_status status, const imp_job_result *result, const imp_error *error,
                 void *arg);
    void *done_arg;
    char *user_name, *job_name, *host_name;
    uint32_t lpd_number;
    imp_ticket_value ticket[IMP_TICKET_VALUES_MAX];
    uint32_t ticket_count;
    imp_bytes submission;
    bool has_submission, counts_own_run;
    uint8_t submission_hash[IMP_HASH_SIZE];
    imp_id job, owner, delivery;
    imp_job_received_argument argument;
    struct spool_key personal_key;
    bool has_personal;
    uint8_t *personal;
    size_t personal_length;
    uint32_t seal_tries;
    int64_t received;
    struct submission_batch batch;
    struct jobs_write write;
    imp_job_result result;
    uint64_t sequence; /* of the job that answers */
};

char *intake_copy(struct intake *intake, const char *text);
/* Notes the first failure. */
imp_status intake_fail(struct intake *intake, imp_status status, const imp_error *error);
/* All ended documents are sealed, or the intake has failed: the commit goes on. */
void intake_commit_continue(struct intake *intake);
void intake_commit(imp_intake *base, const imp_job_attributes *attributes,
                   void (*done)(imp_status status, const imp_job_result *result,
                                const imp_error *error, void *arg),
                   void *arg);
/* Closes the writers and frees everything. */
void intake_free(struct intake *intake, bool is_committed);

#endif
