/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-fixture.h - the whole module on a real store, spool and loop, with stand-ins for accounts,
 * devices, audit and a transport that does what a test says.
 */
#ifndef JOBS_TESTS_JOBS_FIXTURE_H
#define JOBS_TESTS_JOBS_FIXTURE_H

#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-module.h"

#define FIXTURE_DELIVERIES 64u

struct jobs_fixture {
    char folder[64];
    struct jobs_conf conf;
    imp_self *self, *stand_ins;
    struct store *store;
    struct jobs *jobs;

    imp_id alice, bob, printer, other_printer;
    imp_id alice_session, bob_session; /* at any device */
    bool printer_is_enabled;

    /* The transport: keeps what it was given until the test ends it. */
    imp_delivery *deliveries[FIXTURE_DELIVERIES];
    uint32_t delivery_count; /* taken so far, ended ones included */
    bool refuses;            /* takes nothing */
    bool hangs;              /* does not react when it is asked to stop */
    uint32_t cancels;        /* asked so far */
    uint32_t audit_events;
    uint32_t opened;
};

extern struct jobs_fixture *fixture_now; /* what the stand-ins serve */

void fixture_make(struct jobs_fixture *fixture);
/* Closes store and spool, whatever runs, and opens them again, as a new process would. */
void fixture_restart(struct jobs_fixture *fixture);
/* The module's drain, as at a stop. */
void fixture_drain(struct jobs_fixture *fixture);
const imp_jobs_v1 *fixture_service(void);
void fixture_remove(struct jobs_fixture *fixture);
/* The start of most test programs: with queues "hold" and "direct". */
void fixture_begin(struct jobs_fixture *fixture);
/* The end: thaws the clock too. */
void fixture_end(struct jobs_fixture *fixture);

/* Turns the loop until the condition holds; fails the test after a deadline. */
#define fixture_until(condition)                                                                   \
    do {                                                                                           \
        int64_t deadline_ = imp_ticks() + 20 * IMP_SECOND;                                         \
        while (!(condition) && imp_ticks() < deadline_)                                            \
            loop_run_once(imp_loop_control(), true);                                               \
        assert_true(condition);                                                                    \
    } while (0)
/* Turns the loop until nothing is left to do. */
void fixture_settle(struct jobs_fixture *fixture);

struct fixture_queue {
    const char *name;
    imp_queue_release release;
    imp_queue_private private_mode;
    uint32_t flags;
    int64_t keep_after;
    uint64_t jobs_max;
    bool is_closed, has_delegate_bob;
};
void fixture_queue(struct jobs_fixture *fixture, const struct fixture_queue *queue);

struct fixture_submit {
    const char *queue, *user, *title, *address, *submission, *text;
    size_t size; /* of the document when `text` is NULL */
};
struct fixture_answer {
    bool is_done;
    imp_status status;
    imp_error error;
    imp_job_result result;
    imp_id delivery;
};
/* Sends one job and waits for its answer. */
struct fixture_answer fixture_submit(struct jobs_fixture *fixture,
                                     const struct fixture_submit *submit);
/* Submits, which must succeed. */
imp_id fixture_job(struct jobs_fixture *fixture, const char *queue, const char *user);
struct fixture_answer fixture_release(struct jobs_fixture *fixture, imp_id job, imp_id session,
                                      imp_id device);
struct fixture_answer fixture_cancel(struct jobs_fixture *fixture, imp_id job,
                                     const imp_viewer *viewer);

/* The running delivery of a device is gone, and nobody has ended it. */
void fixture_lose_holder(struct jobs_fixture *fixture, imp_id device);
/* Puts bytes into a row that are no record. */
void fixture_garble(struct jobs_fixture *fixture, imp_table *table, const void *key, size_t length);
void fixture_delete(struct jobs_fixture *fixture, imp_table *table, const void *key, size_t length);

uint64_t fixture_sequence(struct jobs_fixture *fixture, imp_id job);
/* The situation of a job now; JOB_SITUATION_COUNT when it is gone. */
uint32_t fixture_situation(struct jobs_fixture *fixture, imp_id job);
/* Whether the store's record still has documents; names. */
bool fixture_has_documents(struct jobs_fixture *fixture, imp_id job);
bool fixture_has_names(struct jobs_fixture *fixture, imp_id job);
uint64_t fixture_count(struct jobs_fixture *fixture, imp_table *table);
uint64_t fixture_queue_jobs(struct jobs_fixture *fixture, const char *name);
/* Reads a delivery's documents to the end; returns their bytes. */
uint64_t fixture_read(imp_delivery *delivery);

#endif
