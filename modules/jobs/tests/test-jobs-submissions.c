/* SPDX-License-Identifier: Apache-2.0 */
/* One submission, one job: what a retry is, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/loop.h"
#include "core/time.h"
#include "modules/jobs/jobs-submission.h"
#include "modules/jobs/tests/jobs-fixture.h"

static struct jobs_fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_begin(&fx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fx);
    return 0;
}

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

#define OLD_ROWS 3000u /* more than two closures look at */

static imp_status old_rows_tx(imp_tx *tx, void *arg, imp_error *error)
{
    imp_status status = IMP_OK;
    (void)arg;
    (void)error;
    for (uint32_t i = 0; i < OLD_ROWS && status == IMP_OK; i++) {
        uint8_t hash[IMP_HASH_SIZE] = {(uint8_t)(i >> 8), (uint8_t)i};
        status = submission_put_tx(fx.jobs, tx, hash, i + 1);
    }
    return status;
}

static void one_sweep_takes_out_all_rows_that_are_too_old(void **state)
{
    (void)state;
    imp_error error = {0};
    time_freeze_for_test(imp_now(), imp_ticks());
    assert_int_equal(imp_store_write_sync(fx.self, old_rows_tx, NULL, &error), IMP_OK);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submission), OLD_ROWS);
    time_freeze_for_test(imp_now() + 301 * IMP_SECOND, imp_ticks() + 301 * IMP_SECOND);
    fixture_settle(&fx);
    fixture_until(!fx.jobs->is_sweeping);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submission), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_retry_after_a_lost_acknowledgement_is_the_same_job),
        TEST(a_submission_after_an_acknowledgement_is_a_new_job),
        TEST(acknowledged_rows_go_in_a_later_commit_and_old_ones_are_no_retry),
        TEST(what_was_acknowledged_once_is_no_retry_of_an_older_look),
        TEST(of_two_that_look_the_same_the_newer_answers_a_retry),
        TEST(an_acknowledged_job_of_an_earlier_run_is_no_retry),
        TEST(a_row_of_submissions_that_can_not_be_read_stops_no_intake),
        TEST(acknowledged_rows_are_taken_out_at_the_end),
        TEST(one_sweep_takes_out_all_rows_that_are_too_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
