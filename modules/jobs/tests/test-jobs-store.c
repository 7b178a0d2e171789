/* SPDX-License-Identifier: Apache-2.0 */
/* The way of jobs through the store: intake, views, release, deliveries, cancel, expiry, restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/crash-record.h"
#include "core/loop.h"
#include "core/time.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-submission.h"
#include "modules/jobs/spool-private.h"
#include "modules/jobs/tests/jobs-fixture.h"

static struct jobs_fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_make(&fx);
    fixture_queue(&fx, &(struct fixture_queue){.name = "hold"});
    fixture_queue(&fx, &(struct fixture_queue){.name = "direct", .release = IMP_QUEUE_DIRECT});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    time_thaw_for_test();
    fixture_remove(&fx);
    return 0;
}

static void end(uint32_t delivery, imp_delivery_outcome outcome)
{
    imp_delivery_finish(fx.deliveries[delivery], outcome, NULL);
    fixture_settle(&fx);
}

static imp_id held_and_released(void)
{
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    return job;
}

/* ---- intake ---- */

static void a_job_is_held_for_its_owner(void **state)
{
    (void)state;
    int64_t received = imp_metric_value(fx.jobs->metrics.received);
    imp_id job = fixture_job(&fx, "printers/HOLD", "alice"), found;
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 1);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.owned), 1);
    assert_int_equal(fx.audit_events, 1);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.received), received + 1);
    assert_int_equal(fixture_service()->job_find(fx.self, "1", &found), IMP_OK);
    assert_true(imp_id_equal(job, found));
    assert_int_equal(fixture_service()->job_find(fx.self, "2", &found), IMP_NOT_FOUND);
    assert_int_equal(fixture_service()->job_find(fx.self, "1x", &found), IMP_NOT_FOUND);
    assert_int_equal(fx.delivery_count, 0);
}

static void jobs_are_there_after_a_restart(void **state)
{
    (void)state;
    imp_id small = fixture_job(&fx, "hold", "alice");
    struct fixture_answer large = fixture_submit(
        &fx, &(struct fixture_submit){"hold", "bob", "Big", NULL, NULL, NULL, 300000});
    assert_int_equal(large.status, IMP_OK);
    fixture_restart(&fx);
    assert_int_equal(fixture_situation(&fx, small), JOB_HELD);
    assert_int_equal(fixture_situation(&fx, large.result.id), JOB_HELD);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 2);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.held), 2);
    assert_int_equal(fixture_release(&fx, large.result.id, fx.bob_session, fx.printer).status,
                     IMP_OK);
    fixture_until(fx.delivery_count == 1);
    assert_int_equal(fixture_read(fx.deliveries[0]), 300000);
    assert_string_equal(imp_delivery_get(fx.deliveries[0])->job_name, "Big");
    end(0, IMP_DELIVERY_UNCONFIRMED);
    assert_int_equal(fixture_situation(&fx, large.result.id), JOB_UNCONFIRMED);
}

static void an_unknown_owner_is_kept_for_review(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "hold", "nobody-we-know");
    assert_int_equal(fixture_situation(&fx, job), JOB_REVIEW);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_DENIED);
    imp_id unnamed = fixture_job(&fx, "hold", NULL);
    assert_int_equal(fixture_situation(&fx, unnamed), JOB_REVIEW);
    imp_id direct = fixture_job(&fx, "direct", NULL);
    fixture_until(fx.delivery_count == 1);
    assert_int_equal(fixture_situation(&fx, direct), JOB_SENDING);
    end(0, IMP_DELIVERY_CONFIRMED);
}

static void the_door_refuses_before_the_document(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "nowhere", .user = "alice", .size = 10};
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_NOT_FOUND);
    fixture_queue(&fx, &(struct fixture_queue){.name = "closed", .is_closed = true});
    submit.queue = "closed";
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_DENIED);
    fixture_queue(&fx, &(struct fixture_queue){.name = "small", .jobs_max = 1});
    submit.queue = "small";
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_LIMIT);
    atomic_store(&fx.jobs->settings.source_rate, 2);
    submit.queue = "hold";
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_LIMIT);
    atomic_store(&fx.jobs->settings.source_rate, 0);
    atomic_store(&fx.jobs->settings.user_jobs_max, 3);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_LIMIT);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 2);
}

static void an_abandoned_or_unfinished_intake_leaves_nothing(void **state)
{
    (void)state;
    imp_intake *intake = NULL;
    imp_error error = {0};
    imp_intake_options options = {.size = sizeof options, .queue = "hold", .expected_size = -1};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    for (int round = 0; round < 3; round++) {
        assert_int_equal(
            fixture_service()->intake_begin(fx.self, fx.self, &options, &intake, &error), IMP_OK);
        if (round > 0) {
            assert_int_equal(imp_intake_document(intake, &document, &error), IMP_OK);
            assert_int_equal(imp_intake_write(intake, "secret", 6, &error), IMP_OK);
        }
        if (round > 1)
            assert_int_equal(imp_intake_document_end(intake, &error), IMP_OK);
        imp_intake_abandon(intake);
        fixture_settle(&fx);
    }
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.personal), 0);
}

static void owner_and_title_come_from_pjl_where_the_queue_says_so(void **state)
{
    static const char text[] =
        "\033%-12345X@PJL SET USERNAME=\"bob\"\n@PJL SET JOBNAME=\"Inside\"\n"
        "@PJL ENTER LANGUAGE=PDF\n%PDF-1.7\n";
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "pjl", .flags = IMP_QUEUE_OWNER_FROM_PJL});
    struct fixture_submit submit = {
        .queue = "pjl", .user = "anonymous", .title = "x", .text = text};
    struct fixture_answer answer = fixture_submit(&fx, &submit);
    assert_int_equal(fixture_situation(&fx, answer.result.id), JOB_HELD);
    assert_int_equal(fixture_release(&fx, answer.result.id, fx.bob_session, fx.printer).status,
                     IMP_OK);
    fixture_until(fx.delivery_count == 1);
    assert_string_equal(imp_delivery_get(fx.deliveries[0])->job_name, "Inside");
    assert_string_equal(imp_delivery_get(fx.deliveries[0])->user_name, "bob");
    end(0, IMP_DELIVERY_CONFIRMED);
    submit.queue = "hold";
    answer = fixture_submit(&fx, &submit);
    assert_int_equal(fixture_situation(&fx, answer.result.id), JOB_REVIEW);
}

/* An intake with one ended document of nine bytes. */
static imp_intake *open_intake(const char *queue)
{
    imp_intake *intake = NULL;
    imp_error error = {0};
    imp_intake_options options = {.size = sizeof options, .queue = queue, .expected_size = -1};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    assert_int_equal(fixture_service()->intake_begin(fx.self, fx.self, &options, &intake, &error),
                     IMP_OK);
    assert_int_equal(imp_intake_document(intake, &document, &error), IMP_OK);
    assert_int_equal(imp_intake_write(intake, "nine byte", 9, &error), IMP_OK);
    assert_int_equal(imp_intake_document_end(intake, &error), IMP_OK);
    return intake;
}

static void committed(imp_status status, const imp_job_result *result, const imp_error *error,
                      void *arg)
{
    struct fixture_answer *answer = arg;
    (void)result;
    (void)error;
    assert_false(answer->is_done);
    answer->is_done = true;
    answer->status = status;
}

static imp_status nothing_tx(imp_tx *tx, void *arg, imp_error *error)
{
    (void)tx;
    (void)arg;
    (void)error;
    return IMP_OK;
}

static void written(imp_status status, const imp_error *error, void *arg)
{
    committed(status, NULL, error, arg);
}

static void a_write_that_the_store_refuses_is_answered_later(void **state)
{
    (void)state;
    struct fixture_answer answer = {0};
    struct jobs_write write = {
        .jobs = fx.jobs,
        .queue = IMP_WRITE_BULK + 1, /* there is none */
        .fn = nothing_tx,
        .done = written,
        .arg = &answer,
    };
    jobs_write_submit(&write);
    assert_false(answer.is_done); /* who submits may still look at the action */
    fixture_until(answer.is_done);
    assert_int_equal(answer.status, IMP_INVALID);
}

static imp_status remove_queue_tx(imp_tx *tx, void *arg, imp_error *error)
{
    imp_status status;
    Queue *queue = queue_load_by_name(fx.jobs, tx, arg, &status);
    return queue == NULL ? status : queue_remove_tx(fx.jobs, tx, queue, error);
}

static void a_queue_that_is_removed_during_an_upload_takes_no_job(void **state)
{
    (void)state;
    struct fixture_answer answer = {0};
    char name[] = "hold";
    imp_error error = {0};
    imp_job_attributes attributes = {.size = sizeof attributes, .user_name = "alice"};
    imp_intake *intake = open_intake(name);
    assert_int_equal(imp_store_write_sync(fx.self, remove_queue_tx, name, &error), IMP_OK);
    imp_intake_commit(intake, &attributes, committed, &answer);
    fixture_until(answer.is_done);
    assert_int_equal(answer.status, IMP_NOT_FOUND);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job), 0);
}

static void a_job_of_unknown_size_ends_at_the_bound_of_its_queue(void **state)
{
    (void)state;
    imp_intake *intake = NULL;
    imp_error error = {0};
    static const char block[600];
    imp_intake_options options = {.size = sizeof options, .queue = "hold", .expected_size = -1};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    atomic_store(&fx.jobs->settings.queue_bytes_max, 1000);
    assert_int_equal(fixture_service()->intake_begin(fx.self, fx.self, &options, &intake, &error),
                     IMP_OK);
    assert_int_equal(imp_intake_document(intake, &document, &error), IMP_OK);
    assert_int_equal(imp_intake_write(intake, block, sizeof block, &error), IMP_OK);
    assert_int_equal(imp_intake_write(intake, block, sizeof block, &error), IMP_LIMIT);
    imp_intake_abandon(intake);
}

/* ---- one submission, one job ---- */

static void a_retry_after_a_lost_acknowledgement_is_the_same_job(void **state)
{
    (void)state;
    struct fixture_submit submit = {
        .queue = "hold", .user = "alice", .submission = "cfA1", .size = 9};
    struct fixture_answer first = fixture_submit(&fx, &submit);
    assert_int_equal(first.status, IMP_OK);
    fixture_restart(&fx); /* the acknowledgement was never written */
    struct fixture_answer again = fixture_submit(&fx, &submit);
    assert_true(again.result.is_retry);
    assert_true(imp_id_equal(first.result.id, again.result.id));
    assert_int_equal(first.result.job_id, again.result.job_id);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 1);
    submit.size = 10; /* another document is another job */
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 2);
}

static void a_submission_after_an_acknowledgement_is_a_new_job(void **state)
{
    (void)state;
    struct fixture_submit submit = {
        .queue = "hold", .user = "alice", .submission = "cfA1", .size = 9};
    struct fixture_answer first = fixture_submit(&fx, &submit);
    assert_false(fixture_submit(&fx, &submit).result.is_retry); /* not yet acknowledged, same run */
    fixture_service()->acknowledged(fx.self, &first.result.id);
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 3);
    atomic_store(&fx.jobs->settings.acknowledge_grace, 0); /* written long ago, or never */
    assert_true(fixture_submit(&fx, &submit).result.is_retry);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 3);
}

static void acknowledged_rows_go_in_a_later_commit_and_old_ones_are_no_retry(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "hold", .user = "alice", .submission = "s", .size = 9};
    struct fixture_answer first = fixture_submit(&fx, &submit);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submission), 1);
    fixture_service()->acknowledged(fx.self, &first.result.id);
    fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submission), 0);
    fixture_submit(&fx, &submit);
    time_freeze_for_test(imp_now() + 301 * IMP_SECOND, imp_ticks() + 301 * IMP_SECOND);
    fixture_restart(&fx);
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
}

static void what_was_acknowledged_once_is_no_retry_of_an_older_look(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "hold", .user = "alice", .submission = "s", .size = 9};
    time_freeze_for_test(imp_now(), imp_ticks());
    atomic_store(&fx.jobs->settings.acknowledge_grace, 2 * IMP_SECOND);
    struct fixture_answer first = fixture_submit(&fx, &submit); /* its acknowledgement is lost */
    time_freeze_for_test(imp_now() + 3 * IMP_SECOND, imp_ticks() + 3 * IMP_SECOND);
    struct fixture_answer again = fixture_submit(&fx, &submit);
    assert_true(again.result.is_retry);
    fixture_service()->acknowledged(fx.self, &first.result.id);
    /* From here on the person prints the same thing anew, twice and quickly. */
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 3);
}

#define OTHERS (2 * SUBMISSION_BATCH) /* more rows than one commit takes out */

static void submit_others(imp_id others[OTHERS])
{
    for (uint32_t i = 0; i < OTHERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "o%u", i);
        struct fixture_submit submit = {
            .queue = "hold", .user = "alice", .submission = name, .size = 9};
        others[i] = fixture_submit(&fx, &submit).result.id;
    }
}

static void acknowledge_all(const imp_id others[OTHERS])
{
    for (uint32_t i = 0; i < OTHERS; i++)
        fixture_service()->acknowledged(fx.self, &others[i]);
}

static void of_two_that_look_the_same_the_newer_answers_a_retry(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "hold", .user = "alice", .submission = "s", .size = 9};
    imp_id others[OTHERS];
    time_freeze_for_test(imp_now(), imp_ticks());
    atomic_store(&fx.jobs->settings.acknowledge_grace, 2 * IMP_SECOND);
    submit_others(others);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    time_freeze_for_test(imp_now() + 1 * IMP_SECOND, imp_ticks() + 1 * IMP_SECOND);
    struct fixture_answer second = fixture_submit(&fx, &submit);
    assert_false(second.result.is_retry);
    time_freeze_for_test(imp_now() + 1 * IMP_SECOND, imp_ticks() + 1 * IMP_SECOND);
    fixture_service()->acknowledged(fx.self, &second.result.id);
    acknowledge_all(others);
    /* The first one's acknowledgement is late by now, but the client has got the second's. */
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), OTHERS + 3);
}

static void an_acknowledged_job_of_an_earlier_run_is_no_retry(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "hold", .user = "alice", .submission = "s", .size = 9};
    struct fixture_answer first = fixture_submit(&fx, &submit);
    imp_id others[OTHERS];
    fixture_restart(&fx);
    assert_true(fixture_submit(&fx, &submit).result.is_retry);
    submit_others(others);
    fixture_service()->acknowledged(fx.self, &first.result.id);
    acknowledge_all(others);
    assert_false(fixture_submit(&fx, &submit).result.is_retry);
}

static void a_row_of_submissions_that_can_not_be_read_stops_no_intake(void **state)
{
    (void)state;
    uint8_t hash[IMP_HASH_SIZE];
    struct fixture_submit submit = {.queue = "hold", .user = "alice", .submission = "s", .size = 9};
    for (int is_acknowledged = 0; is_acknowledged < 2; is_acknowledged++) {
        struct fixture_answer first = fixture_submit(&fx, &submit);
        imp_tx *tx;
        imp_status status;
        assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
        Job *job = job_load(fx.jobs, tx, &first.result.id, &status);
        assert_int_equal(job->submission.len, sizeof hash);
        memcpy(hash, job->submission.data, sizeof hash);
        imp_store_read_end(tx);
        fixture_garble(&fx, fx.jobs->tables.submission, hash, sizeof hash);
        if (is_acknowledged)
            fixture_service()->acknowledged(fx.self, &first.result.id);
        assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
        fixture_job(&fx, "hold", "alice");
    }
}

static void acknowledged_rows_are_taken_out_at_the_end(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "hold", .user = "alice", .submission = "s", .size = 9};
    imp_id others[OTHERS];
    submit_others(others);
    fixture_submit(&fx, &submit); /* this one never is */
    acknowledge_all(others);
    fixture_drain(&fx);
    fixture_settle(&fx);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submission), 1);
}

/* ---- release ---- */

static void a_released_job_is_printed_once_and_shredded(void **state)
{
    (void)state;
    int64_t delivered = imp_metric_value(fx.jobs->metrics.delivered);
    imp_id job = held_and_released();
    assert_int_equal(fx.delivery_count, 1);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    struct fixture_answer second = fixture_release(&fx, job, fx.alice_session, fx.other_printer);
    assert_int_equal(second.status, IMP_BUSY);
    assert_string_equal(second.error.message, "already printing at hall");
    const imp_delivery_info *info = imp_delivery_get(fx.deliveries[0]);
    assert_string_equal(info->uri, "socket://127.0.0.1:9");
    assert_int_equal(info->document_bytes, 100);
    assert_int_equal(fixture_read(fx.deliveries[0]), 100);
    imp_delivery_first_byte(fx.deliveries[0]);
    imp_delivery_progress(fx.deliveries[0], 100);
    end(0, IMP_DELIVERY_UNCONFIRMED);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCONFIRMED);
    assert_false(fixture_has_documents(&fx, job));
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.queued), 0);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_INVALID);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.delivered), delivered + 1);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.held), 0);
}

static void only_owner_and_delegate_may_release(void **state)
{
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "office", .has_delegate_bob = true});
    imp_id mine = fixture_job(&fx, "hold", "alice"), shared = fixture_job(&fx, "office", "alice");
    imp_id nobody = imp_id_new();
    assert_int_equal(fixture_release(&fx, mine, fx.bob_session, fx.printer).status, IMP_DENIED);
    assert_int_equal(fixture_release(&fx, mine, nobody, fx.printer).status, IMP_DENIED);
    assert_int_equal(fixture_release(&fx, mine, fx.alice_session, nobody).status, IMP_NOT_FOUND);
    fx.printer_is_enabled = false;
    assert_int_equal(fixture_release(&fx, mine, fx.alice_session, fx.printer).status,
                     IMP_UNAVAILABLE);
    fx.printer_is_enabled = true;
    assert_int_equal(fixture_release(&fx, shared, fx.bob_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, shared), JOB_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, mine), JOB_HELD);
}

static void a_device_prints_one_job_at_a_time_in_order(void **state)
{
    (void)state;
    imp_id jobs[3];
    for (int i = 0; i < 3; i++)
        jobs[i] = held_and_released();
    assert_int_equal(fx.delivery_count, 1);
    assert_int_equal(fixture_situation(&fx, jobs[1]), JOB_QUEUED);
    /* Another device does not wait for this one. */
    imp_id elsewhere = fixture_job(&fx, "hold", "bob");
    assert_int_equal(fixture_release(&fx, elsewhere, fx.bob_session, fx.other_printer).status,
                     IMP_OK);
    fixture_settle(&fx);
    assert_int_equal(fx.delivery_count, 2);
    end(1, IMP_DELIVERY_CONFIRMED);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t at = i == 0 ? 0 : i + 1;
        assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[at])->job, jobs[i]));
        end(at, IMP_DELIVERY_CONFIRMED);
        assert_int_equal(fixture_situation(&fx, jobs[i]), JOB_CONFIRMED);
    }
    assert_int_equal(fx.delivery_count, 4);
}

static void a_failed_delivery_returns_a_held_job(void **state)
{
    (void)state;
    imp_id job = held_and_released();
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_true(fixture_has_documents(&fx, job));
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.other_printer).status, IMP_OK);
    fixture_settle(&fx);
    imp_delivery_first_byte(fx.deliveries[1]);
    end(1, IMP_DELIVERY_NOT_STARTED); /* it may have begun, whatever the transport says */
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(2, IMP_DELIVERY_CANCELED);
    assert_int_equal(fixture_situation(&fx, job), JOB_CANCELED_DEVICE);
    assert_false(fixture_has_documents(&fx, job));
}

/* What a person decided is that it be tried; whether pages lie somewhere, nobody has answered. */
static void an_uncertain_job_that_no_device_takes_stays_uncertain(void **state)
{
    (void)state;
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    imp_id job = held_and_released();
    imp_delivery_first_byte(fx.deliveries[0]);
    end(0, IMP_DELIVERY_UNCERTAIN);
    for (uint32_t i = 1; i <= 2; i++) {
        assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
        assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
        fixture_settle(&fx);
        end(i, IMP_DELIVERY_NOT_STARTED);
    }
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    fixture_restart(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(fixture_cancel(&fx, job, &administrator).status, IMP_OK);
}

static void a_private_job_is_shredded_when_its_queue_says(void **state)
{
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "sent",
                                               .private_mode = IMP_PRIVATE_SENT,
                                               .keep_after = 3600 * IMP_SECOND});
    fixture_queue(&fx, &(struct fixture_queue){.name = "confirmed",
                                               .private_mode = IMP_PRIVATE_CONFIRMED,
                                               .keep_after = 3600 * IMP_SECOND});
    static const char *const queues[] = {"sent", "confirmed"};
    for (uint32_t i = 0; i < 2; i++) {
        imp_id job = fixture_job(&fx, queues[i], "alice");
        assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
        fixture_settle(&fx);
        imp_delivery_sent(fx.deliveries[i]);
        fixture_settle(&fx);
        assert_int_equal(fixture_situation(&fx, job), JOB_PRINTING);
        assert_int_equal(fixture_has_documents(&fx, job), i == 1);
        end(i, IMP_DELIVERY_CONFIRMED);
        assert_int_equal(fixture_situation(&fx, job), JOB_CONFIRMED);
        assert_false(fixture_has_documents(&fx, job));
    }
}

static void trouble_and_late_evidence_are_shown(void **state)
{
    (void)state;
    imp_id job = held_and_released();
    imp_delivery_trouble(fx.deliveries[0], "media-empty");
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_STOPPED);
    imp_delivery_trouble(fx.deliveries[0], NULL);
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    atomic_store(&fx.jobs->settings.evidence_timeout, IMP_MILLISECOND);
    imp_delivery_sent(fx.deliveries[0]);
    fixture_until(fx.cancels == 1); /* no evidence came; the transport said "not started" */
    fixture_until(fixture_situation(&fx, job) == JOB_UNCONFIRMED);
}

static void bytes_that_were_sent_are_a_beginning_whatever_else_is_said(void **state)
{
    (void)state;
    imp_id job = held_and_released();
    imp_delivery_progress(fx.deliveries[0], 1);
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
}

/* The first document of a job, as its record names it. */
static struct spool_document document_of(imp_id id)
{
    imp_tx *tx;
    imp_status status;
    struct spool_document document;
    assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
    Job *job = job_load(fx.jobs, tx, &id, &status);
    assert_non_null(job);
    const ProtobufCBinaryData *reference = &job->documents[0]->reference;
    assert_int_equal(spool_document_unpack((imp_bytes){reference->data, reference->len}, &document),
                     IMP_OK);
    imp_store_read_end(tx);
    return document;
}

static bool key_is_there(const struct spool_document *document)
{
    uint8_t key[SEGMENT_KEY];
    return spool_key_open(fx.jobs->spool, SPOOL_PURPOSE_DOCUMENT, &document->key, key, NULL) ==
           IMP_OK;
}

static imp_status condemn_tx(imp_tx *tx, void *arg, imp_error *error)
{
    return spool_condemn_tx(fx.jobs->spool, tx, arg, error);
}

/* Reads until it is not "none yet". */
static imp_status read_first(uint32_t delivery, imp_error *error)
{
    char buffer[100];
    size_t length;
    imp_status status;
    while ((status = imp_delivery_read(fx.deliveries[delivery], 0, buffer, sizeof buffer, &length,
                                       error)) == IMP_BUSY)
        fixture_settle(&fx);
    return status;
}

static void a_job_whose_key_pool_is_missing_waits_for_it(void **state)
{
    (void)state;
    imp_error error = {0};
    imp_id job = held_and_released();
    fx.jobs->spool->keys.number++; /* another medium is in its place */
    assert_int_equal(read_first(0, &error), IMP_NOT_FOUND);
    imp_delivery_finish(fx.deliveries[0], IMP_DELIVERY_NOT_STARTED, &error);
    fixture_settle(&fx);
    fx.jobs->spool->keys.number--;
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_true(fixture_has_documents(&fx, job));
}

static void a_job_that_lost_its_document_ends(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "direct", "alice");
    fixture_until(fx.delivery_count == 1);
    struct spool_document document = document_of(job);
    imp_error error = {0};
    assert_int_equal(imp_store_write_sync(fx.self, condemn_tx, &document, &error), IMP_OK);
    spool_shred(fx.jobs->spool, NULL, NULL);
    fixture_until(!key_is_there(&document));
    assert_int_equal(read_first(0, &error), IMP_NOT_FOUND);
    imp_delivery_finish(fx.deliveries[0], IMP_DELIVERY_NOT_STARTED, &error);
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_DOCUMENT_LOST);
}

/* ---- direct queues ---- */

static void a_direct_queue_prints_in_order_and_retries(void **state)
{
    (void)state;
    /* Tries come when the clock is moved on, however slow the machine is. */
    time_freeze_for_test(imp_now(), imp_ticks());
    atomic_store(&fx.jobs->settings.retry_first, 100 * IMP_SECOND);
    atomic_store(&fx.jobs->settings.retry_longest, 100 * IMP_SECOND);
    imp_id first = fixture_job(&fx, "direct", "alice"), second = fixture_job(&fx, "direct", "bob");
    fixture_until(fx.delivery_count == 1);
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, first), JOB_QUEUED);
    /* A person at the device does not wait for the next try. */
    imp_id held = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_release(&fx, held, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_until(fx.delivery_count == 2);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[1])->job, held));
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fx.delivery_count, 2);
    time_freeze_for_test(imp_now() + 101 * IMP_SECOND, imp_ticks() + 101 * IMP_SECOND);
    fixture_until(fx.delivery_count == 3);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[2])->job, first));
    end(2, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fx.delivery_count, 3);
    time_freeze_for_test(imp_now() + 101 * IMP_SECOND, imp_ticks() + 101 * IMP_SECOND);
    fixture_until(fx.delivery_count == 4);
    end(3, IMP_DELIVERY_NOT_STARTED); /* the third try was the last */
    assert_int_equal(fixture_situation(&fx, first), JOB_ABORTED);
    fixture_until(fx.delivery_count == 5);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[4])->job, second));
    end(4, IMP_DELIVERY_UNCONFIRMED);
    assert_int_equal(fixture_situation(&fx, second), JOB_UNCONFIRMED);
}

/* ---- cancel ---- */

static void only_proof_of_ownership_cancels(void **state)
{
    (void)state;
    imp_viewer viewer = {.size = sizeof viewer, .user_name = "alice", .address = "192.0.2.9"};
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_DENIED);
    viewer.host_is_proof = true;
    viewer.address = "192.0.2.10";
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_DENIED);
    viewer.address = "192.0.2.9";
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_OK);
    assert_int_equal(fixture_situation(&fx, job), JOB_CANCELED_USER);
    assert_false(fixture_has_documents(&fx, job));
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_INVALID);
}

static void jobs_in_a_line_and_on_a_device_can_be_canceled(void **state)
{
    (void)state;
    imp_viewer viewer = {.size = sizeof viewer, .is_administrator = true};
    imp_id running = held_and_released(), waiting = held_and_released(), last = held_and_released();
    assert_int_equal(fixture_cancel(&fx, waiting, &viewer).status, IMP_OK);
    assert_int_equal(fixture_situation(&fx, waiting), JOB_CANCELED_OPERATOR);
    assert_int_equal(fixture_cancel(&fx, running, &viewer).status, IMP_OK);
    assert_int_equal(fx.cancels, 1);
    assert_int_equal(fixture_situation(&fx, running), JOB_CANCELED_OPERATOR);
    fixture_until(fx.delivery_count == 2);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[1])->job, last));
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

struct canceled {
    struct spool_document document;
    bool is_done, had_key;
};

static void canceled(imp_status status, const imp_error *error, void *arg)
{
    struct canceled *canceled = arg;
    (void)error;
    assert_int_equal(status, IMP_OK);
    canceled->is_done = true;
    canceled->had_key = key_is_there(&canceled->document);
}

static void a_cancel_is_answered_when_the_document_is_shredded(void **state)
{
    (void)state;
    imp_viewer viewer = {.size = sizeof viewer, .is_administrator = true};
    imp_id jobs[2] = {fixture_job(&fx, "hold", "alice"), held_and_released()};
    for (int i = 0; i < 2; i++) { /* one that is held, one that is being delivered */
        struct canceled answer = {.document = document_of(jobs[i])};
        uint32_t events = fx.audit_events;
        assert_true(key_is_there(&answer.document));
        fixture_service()->job_cancel(fx.self, fx.self, &jobs[i], &viewer, canceled, &answer);
        fixture_until(answer.is_done);
        assert_false(answer.had_key);
        assert_int_equal(fx.audit_events - events, i == 0 ? 1 : 2); /* who did it, and its end */
    }
}

/* ---- views ---- */

struct seen {
    uint32_t count, named, owned, last_position;
    bool in_order;
};

static bool see(const imp_job_view *view, void *arg)
{
    struct seen *seen = arg;
    seen->in_order = seen->in_order && view->position == seen->last_position + 1;
    seen->last_position = view->position;
    seen->count++;
    seen->named += view->job_name[0] != '\0' ? 1 : 0;
    seen->owned += imp_id_is_zero(view->owner_id) ? 0 : 1;
    return true;
}

static struct seen list(const imp_viewer *viewer, const imp_job_filter *filter)
{
    struct seen seen = {.in_order = true};
    imp_error error;
    assert_int_equal(
        fixture_service()->job_list(fx.self, fx.self, viewer, filter, see, &seen, &error), IMP_OK);
    return seen;
}

static void a_view_shows_what_its_viewer_may_see(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        fixture_job(&fx, "hold", "alice");
        fixture_job(&fx, "hold", "bob");
    }
    imp_job_filter filter = {.size = sizeof filter, .queue = "hold"};
    imp_viewer nobody = {.size = sizeof nobody, .user_name = "alice", .address = "192.0.2.9"};
    imp_viewer proved = nobody, alice = {.size = sizeof alice, .principal = fx.alice};
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    proved.host_is_proof = true;
    struct seen seen = list(&nobody, &filter);
    assert_true(seen.count == 6 && seen.named == 0 && seen.owned == 0 && seen.in_order);
    seen = list(&proved, &filter);
    assert_true(seen.count == 6 && seen.named == 3 && seen.owned == 3);
    seen = list(&alice, &filter);
    assert_true(seen.count == 6 && seen.named == 3 && seen.owned == 3);
    seen = list(&administrator, &filter);
    assert_true(seen.count == 6 && seen.named == 0 && seen.owned == 6);
    filter.only_mine = true;
    seen = list(&alice, &filter);
    assert_true(seen.count == 3 && seen.last_position == 5);
    filter = (imp_job_filter){.size = sizeof filter, .limit = 4};
    assert_int_equal(list(&administrator, &filter).count, 4);
}

static void ended_jobs_are_listed_when_asked_for(void **state)
{
    (void)state;
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    imp_job_filter filter = {.size = sizeof filter, .queue = "hold"};
    imp_id job = fixture_job(&fx, "hold", "alice");
    fixture_job(&fx, "direct", "alice");
    assert_int_equal(fixture_cancel(&fx, job, &administrator).status, IMP_OK);
    assert_int_equal(list(&administrator, &filter).count, 0);
    filter.include_final = true;
    assert_int_equal(list(&administrator, &filter).count, 1);
    filter.queue = NULL;
    assert_int_equal(list(&administrator, &filter).count, 2);
}

struct page {
    uint32_t count;
    uint64_t sequences[16];
    uint32_t positions[16];
};

static bool see_page(const imp_job_view *view, void *arg)
{
    struct page *page = arg;
    assert_true(page->count < 16);
    page->sequences[page->count] = view->sequence;
    page->positions[page->count++] = view->position;
    return true;
}

static int64_t rows_read; /* for the page before */

static struct page list_page(const imp_viewer *viewer, const imp_job_filter *filter)
{
    struct page page = {0};
    imp_error error;
    rows_read = -imp_metric_value(fx.jobs->metrics.view_rows);
    assert_int_equal(
        fixture_service()->job_list(fx.self, fx.self, viewer, filter, see_page, &page, &error),
        IMP_OK);
    rows_read += imp_metric_value(fx.jobs->metrics.view_rows);
    for (uint32_t i = 1; i < page.count; i++)
        assert_true(page.sequences[i] > page.sequences[i - 1]);
    return page;
}

/* A listing that takes several transactions, or that its caller cuts, is the same listing. */
static void a_listing_goes_on_where_it_ended(void **state)
{
    (void)state;
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    fixture_queue(&fx, &(struct fixture_queue){.name = "other"});
    for (int i = 0; i < 4; i++) {
        fixture_job(&fx, "hold", "alice");
        fixture_job(&fx, "other", "bob");
    }
    for (uint32_t looks = 1; looks <= 9; looks++) {
        imp_job_filter filter = {.size = sizeof filter};
        fx.jobs->view_looks = looks;
        for (int final = 0; final < 2; final++) {
            filter.include_final = final == 1;
            filter.after = 0;
            struct page page = list_page(&administrator, &filter);
            assert_int_equal(page.count, 8);
            for (uint32_t i = 0; i < 8; i++)
                assert_int_equal(page.positions[i], i / 2 + 1); /* each in its own queue */
            filter.after = page.sequences[4];
            struct page rest = list_page(&administrator, &filter);
            assert_int_equal(rest.count, 3);
            assert_int_equal(rest.sequences[0], page.sequences[5]);
            assert_int_equal(rest.positions[0], 3);
        }
        filter.queue = "other";
        filter.after = UINT64_MAX;
        assert_int_equal(list_page(&administrator, &filter).count, 0);
    }
}

/* Who sends ten jobs to a queue of 100,000 looks at ten. */
static void ones_own_jobs_are_found_by_an_index(void **state)
{
    (void)state;
    imp_viewer proved = {.size = sizeof proved,
                         .user_name = "stranger",
                         .address = "192.0.2.9",
                         .host_is_proof = true};
    imp_viewer alice = {.size = sizeof alice, .principal = fx.alice};
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    imp_job_filter filter = {.size = sizeof filter, .queue = "hold", .only_mine = true};
    imp_id jobs[9];
    for (int i = 0; i < 9; i++)
        jobs[i] = fixture_job(&fx, "hold", i % 3 == 0 ? "alice" : i % 3 == 1 ? "bob" : "stranger");
    struct page page = list_page(&proved, &filter);
    assert_int_equal(page.count, 3);
    assert_int_equal(rows_read, 3);
    assert_int_equal(page.positions[2], 9);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submitted), 9);
    page = list_page(&alice, &filter);
    assert_int_equal(page.count, 3);
    assert_int_equal(rows_read, 3);
    assert_int_equal(page.positions[1], 4);
    proved.principal = fx.alice; /* by both proofs, each job once */
    proved.user_name = "alice";
    assert_int_equal(list_page(&proved, &filter).count, 3);
    proved.user_name = "stranger";
    assert_int_equal(list_page(&proved, &filter).count, 6);
    assert_int_equal(fixture_cancel(&fx, jobs[0], &administrator).status, IMP_OK);
    assert_int_equal(list_page(&proved, &filter).count, 5);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submitted), 8);
    filter.include_final = true;
    assert_int_equal(list_page(&proved, &filter).count, 6);
    assert_int_equal(list_page(&alice, &filter).count, 3);
}

/* ---- time ---- */

static void sweep(int64_t ahead)
{
    time_freeze_for_test(imp_now() + ahead, imp_ticks() + ahead);
    fixture_settle(&fx);
    /* The sweeper's own timer is due after any of these steps. */
    fixture_until(!fx.jobs->is_sweeping);
}

static void held_jobs_expire_and_their_traces_go_in_time(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "hold", "alice");
    sweep(3601 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_EXPIRED);
    assert_false(fixture_has_documents(&fx, job));
    assert_true(fixture_has_names(&fx, job));
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 0);
    sweep(3601 * IMP_SECOND);
    assert_false(fixture_has_names(&fx, job));
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.personal), 0);
    sweep(3601 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_SITUATION_COUNT);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job_id), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.owned), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.due), 0);
}

static void kept_documents_go_when_their_time_is_over(void **state)
{
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "keep", .keep_after = 600 * IMP_SECOND});
    imp_id job = fixture_job(&fx, "keep", "alice");
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_true(fixture_has_documents(&fx, job));
    sweep(3601 * IMP_SECOND);
    assert_false(fixture_has_documents(&fx, job));
}

static void a_clock_that_jumps_expires_nothing_until_confirmed(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "hold", "alice");
    sweep(1800 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    time_step_for_test(24 * 3600 * IMP_SECOND); /* the wall clock alone */
    sweep(3600 * IMP_SECOND);
    assert_true(fx.jobs->is_clock_doubtful);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    sweep(3600 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    time_step_for_test(-24 * 3600 * IMP_SECOND); /* set right again */
    sweep(3600 * IMP_SECOND);
    assert_false(fx.jobs->is_clock_doubtful);
    assert_int_equal(fixture_situation(&fx, job), JOB_EXPIRED);
}

/* ---- crash ---- */

static void a_delivery_that_a_crash_cut_off_is_uncertain(void **state)
{
    (void)state;
    imp_id running = held_and_released(), waiting = held_and_released();
    fixture_restart(&fx); /* no word of "bytes sent" is there */
    assert_int_equal(fixture_situation(&fx, running), JOB_UNCERTAIN);
    assert_true(fixture_has_documents(&fx, running));
    fixture_until(fx.delivery_count == 2);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[1])->job, waiting));
    assert_int_equal(fixture_situation(&fx, waiting), JOB_SENDING);
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_release(&fx, running, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(2, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, running), JOB_CONFIRMED);
}

static void a_crash_before_the_first_byte_resumes(void **state)
{
    (void)state;
    int fd = -1;
    struct crash_record *record = NULL;
    imp_error error;
    assert_int_equal(crash_record_create(&fd, &record, &error), IMP_OK);
    assert_int_equal(crash_record_attach(fd, &error), IMP_OK);
    imp_id job = held_and_released();
    fixture_restart(&fx);
    fixture_until(fx.delivery_count == 2);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    imp_delivery_first_byte(fx.deliveries[1]);
    fixture_restart(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(fx.delivery_count, 2);
    crash_record_detach();
    crash_record_free(fd, record);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_is_held_for_its_owner),
        TEST(jobs_are_there_after_a_restart),
        TEST(an_unknown_owner_is_kept_for_review),
        TEST(the_door_refuses_before_the_document),
        TEST(an_abandoned_or_unfinished_intake_leaves_nothing),
        TEST(owner_and_title_come_from_pjl_where_the_queue_says_so),
        TEST(a_write_that_the_store_refuses_is_answered_later),
        TEST(a_queue_that_is_removed_during_an_upload_takes_no_job),
        TEST(a_job_of_unknown_size_ends_at_the_bound_of_its_queue),
        TEST(a_retry_after_a_lost_acknowledgement_is_the_same_job),
        TEST(a_submission_after_an_acknowledgement_is_a_new_job),
        TEST(acknowledged_rows_go_in_a_later_commit_and_old_ones_are_no_retry),
        TEST(what_was_acknowledged_once_is_no_retry_of_an_older_look),
        TEST(of_two_that_look_the_same_the_newer_answers_a_retry),
        TEST(an_acknowledged_job_of_an_earlier_run_is_no_retry),
        TEST(a_row_of_submissions_that_can_not_be_read_stops_no_intake),
        TEST(acknowledged_rows_are_taken_out_at_the_end),
        TEST(a_released_job_is_printed_once_and_shredded),
        TEST(only_owner_and_delegate_may_release),
        TEST(a_device_prints_one_job_at_a_time_in_order),
        TEST(a_failed_delivery_returns_a_held_job),
        TEST(an_uncertain_job_that_no_device_takes_stays_uncertain),
        TEST(a_private_job_is_shredded_when_its_queue_says),
        TEST(trouble_and_late_evidence_are_shown),
        TEST(bytes_that_were_sent_are_a_beginning_whatever_else_is_said),
        TEST(a_job_whose_key_pool_is_missing_waits_for_it),
        TEST(a_job_that_lost_its_document_ends),
        TEST(a_direct_queue_prints_in_order_and_retries),
        TEST(only_proof_of_ownership_cancels),
        TEST(jobs_in_a_line_and_on_a_device_can_be_canceled),
        TEST(a_cancel_is_answered_when_the_document_is_shredded),
        TEST(a_view_shows_what_its_viewer_may_see),
        TEST(ended_jobs_are_listed_when_asked_for),
        TEST(a_listing_goes_on_where_it_ended),
        TEST(ones_own_jobs_are_found_by_an_index),
        TEST(held_jobs_expire_and_their_traces_go_in_time),
        TEST(kept_documents_go_when_their_time_is_over),
        TEST(a_clock_that_jumps_expires_nothing_until_confirmed),
        TEST(a_delivery_that_a_crash_cut_off_is_uncertain),
        TEST(a_crash_before_the_first_byte_resumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
