/* SPDX-License-Identifier: Apache-2.0 */
/* Claims that go wrong: rows that can't be read, ends that the store refuses, holders that are gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/loop.h"
#include "core/time.h"
#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-record.h"
#include "modules/jobs/spool-private.h"
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

static imp_id released_at(imp_id device)
{
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, device).status, IMP_OK);
    fixture_settle(&fx);
    return job;
}

static imp_id held_and_released(void)
{
    return released_at(fx.printer);
}

static void end(uint32_t delivery, imp_delivery_outcome outcome)
{
    imp_delivery_finish(fx.deliveries[delivery], outcome, NULL);
    fixture_settle(&fx);
}

static bool delivers(uint32_t delivery, imp_id job)
{
    return fx.delivery_count == delivery + 1 &&
           imp_id_equal(imp_delivery_get(fx.deliveries[delivery])->job, job);
}

static int64_t bad_rows(void)
{
    return imp_metric_value(fx.jobs->metrics.bad_rows);
}

static void garble_job(uint64_t sequence)
{
    uint8_t key[JOBS_SEQUENCE_SIZE];
    jobs_put_u64(key, sequence);
    fixture_garble(&fx, fx.jobs->tables.job, key, sizeof key);
}

static void garble_delivery(uint64_t sequence)
{
    uint8_t key[DELIVERY_KEY_SIZE];
    delivery_key(key, sequence, 1);
    fixture_garble(&fx, fx.jobs->tables.delivery, key, sizeof key);
}

/* The key of the first row of a device's line that is not running. */
static void first_waiting(uint8_t key[LINE_KEY_SIZE])
{
    imp_tx *tx;
    imp_cursor *cursor;
    imp_bytes at, value;
    struct line_row row = {.is_running = true};
    assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
    assert_int_equal(imp_cursor_open(tx, fx.jobs->tables.line, (imp_bytes){"", 0}, &cursor),
                     IMP_OK);
    while (row.is_running) {
        assert_int_equal(imp_cursor_next(cursor, &at, &value), IMP_OK);
        assert_true(line_row_read(value, &row));
    }
    memcpy(key, at.data, LINE_KEY_SIZE);
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
}

/* ---- rows that can't be read ---- */

static void a_job_that_can_not_be_read_holds_up_no_device(void **state)
{
    (void)state;
    int64_t bad = bad_rows();
    held_and_released();
    imp_id broken = held_and_released(), next = held_and_released();
    garble_job(fixture_sequence(&fx, broken));
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_true(delivers(1, next));
    assert_int_equal(bad_rows(), bad + 1);
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(bad_rows(), bad + 1); /* it was said once */
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

static void a_job_whose_delivery_can_not_be_read_returns(void **state)
{
    (void)state;
    held_and_released();
    imp_id broken = held_and_released(), next = held_and_released();
    garble_delivery(fixture_sequence(&fx, broken));
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_true(delivers(1, next));
    assert_int_equal(fixture_situation(&fx, broken), JOB_HELD);
    assert_int_equal(fixture_release(&fx, broken, fx.alice_session, fx.other_printer).status,
                     IMP_OK);
    fixture_settle(&fx);
    assert_true(delivers(2, broken));
    end(2, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, broken), JOB_CONFIRMED);
}

static void a_place_that_can_not_be_read_is_passed_over(void **state)
{
    (void)state;
    uint8_t key[LINE_KEY_SIZE];
    int64_t bad = bad_rows();
    held_and_released();
    held_and_released();
    first_waiting(key);
    fixture_garble(&fx, fx.jobs->tables.line, key, sizeof key);
    imp_id next = held_and_released();
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_true(delivers(1, next));
    assert_int_equal(bad_rows(), bad + 1);
}

static void any_number_of_bad_rows_is_passed_over(void **state)
{
    (void)state;
    int64_t bad = bad_rows();
    imp_id jobs[2 * JOBS_BAD_MAX + 3];
    held_and_released();
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        jobs[i] = held_and_released();
    imp_id next = held_and_released();
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        garble_job(fixture_sequence(&fx, jobs[i]));
    imp_delivery_finish(fx.deliveries[0], IMP_DELIVERY_CONFIRMED, NULL);
    fixture_until(fx.delivery_count == 2);
    assert_true(delivers(1, next));
    assert_int_equal(bad_rows(), bad + INT64_C(2) * JOBS_BAD_MAX + 3);
}

static void a_start_passes_over_bad_rows(void **state)
{
    (void)state;
    int64_t bad = bad_rows();
    imp_id broken = held_and_released(), next = held_and_released();
    imp_id nameless = released_at(fx.other_printer);
    garble_job(fixture_sequence(&fx, broken));
    garble_delivery(fixture_sequence(&fx, nameless));
    fixture_restart(&fx);
    fixture_until(fx.delivery_count == 3);
    assert_true(delivers(2, next));
    assert_int_equal(fixture_situation(&fx, nameless), JOB_UNCERTAIN);
    assert_int_equal(bad_rows(), bad + 2);
    end(2, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

static void a_start_passes_over_many_bad_rows(void **state)
{
    (void)state;
    uint8_t key[LINE_KEY_SIZE] = {0};
    imp_id running = held_and_released();
    for (uint32_t i = 0; i < 2 * JOBS_BAD_MAX; i++) {
        jobs_put_u32(key, i); /* devices before and behind the printer's */
        key[0] = (uint8_t)(i << 3);
        fixture_garble(&fx, fx.jobs->tables.line, key, sizeof key);
    }
    fixture_restart(&fx);
    assert_int_equal(fixture_situation(&fx, running), JOB_UNCERTAIN);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

/* It would hold up its queue until it expires. */
static void a_document_that_does_not_open_is_given_up_by_a_direct_queue(void **state)
{
    (void)state;
    imp_tx *tx;
    imp_cursor *cursor;
    imp_bytes at;
    uint8_t key[64];
    char buffer[100];
    imp_error error = {0};
    imp_status status;
    imp_id held = held_and_released(), direct = fixture_job(&fx, "direct", "alice");
    for (uint32_t i = 0; i < 2; i++) {
        size_t length = 0;
        fixture_until(fx.delivery_count == i + 1);
        imp_table *documents = fx.jobs->spool->table_doc;
        assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
        assert_int_equal(imp_cursor_open(tx, documents, (imp_bytes){"", 0}, &cursor), IMP_OK);
        for (uint32_t j = 0; j <= i; j++) /* the first one's job keeps its document */
            assert_int_equal(imp_cursor_next(cursor, &at, NULL), IMP_OK);
        assert_true(at.length <= sizeof key);
        memcpy(key, at.data, length = at.length);
        imp_cursor_close(cursor);
        imp_store_read_end(tx);
        fixture_garble(&fx, documents, key, length);
        while ((status = imp_delivery_read(fx.deliveries[i], 0, buffer, sizeof buffer, &length,
                                           &error)) == IMP_BUSY)
            fixture_settle(&fx);
        assert_int_equal(status, IMP_CORRUPT);
        imp_delivery_finish(fx.deliveries[i], IMP_DELIVERY_NOT_STARTED, &error);
        fixture_settle(&fx);
    }
    assert_int_equal(fixture_situation(&fx, held), JOB_HELD); /* its owner sees it, and decides */
    assert_int_equal(fixture_situation(&fx, direct), JOB_ABORTED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

/* After a restore all jobs are looked at once, by a pass that is over when its row says so. */
static bool pass_is_over(void)
{
    imp_tx *tx;
    imp_status status;
    assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
    Origin *origin =
        imp_message_get(tx, fx.jobs->tables.clock, (imp_bytes){"store", 5}, ORIGIN_TYPE, &status);
    bool is_over = origin != NULL && origin->is_done;
    imp_store_read_end(tx);
    return is_over;
}

static void the_pass_after_a_restore_ends_in_spite_of_bad_rows(void **state)
{
    (void)state;
    int64_t bad = bad_rows();
    fixture_until(pass_is_over());
    for (size_t i = 0; i < JOBS_BAD_MAX + 4; i++) {
        imp_id job = fixture_job(&fx, "hold", "alice");
        if (i % 4 != 3)
            garble_job(fixture_sequence(&fx, job));
    }
    fixture_delete(&fx, fx.jobs->tables.clock, "store", 5);
    fixture_restart(&fx);
    fixture_until(pass_is_over());
    assert_int_equal(bad_rows(), bad + 15);
}

/* ---- the sweeper ---- */

static void pass(int64_t time)
{
    time_freeze_for_test(imp_now() + time, imp_ticks() + time);
    fixture_settle(&fx);
    fixture_until(!fx.jobs->is_sweeping);
}

static void a_job_that_can_not_be_swept_keeps_no_other(void **state)
{
    (void)state;
    int64_t bad = bad_rows();
    imp_id jobs[5];
    uint8_t key[JOBS_SEQUENCE_SIZE];
    time_freeze_for_test(imp_now(), imp_ticks());
    for (size_t i = 0; i < 5; i++)
        jobs[i] = fixture_job(&fx, "hold", i == 3 ? "bob" : "alice");
    uint64_t broken = fixture_sequence(&fx, jobs[1]);
    garble_job(broken);
    uint8_t counter[17] = "u"; /* bob's, which his job takes itself off */
    memcpy(counter + 1, fx.bob.bytes, 16);
    fixture_garble(&fx, fx.jobs->tables.counter, counter, sizeof counter);
    pass(3601 * IMP_SECOND);
    for (size_t i = 0; i < 5; i++) {
        if (i != 1)
            assert_int_equal(fixture_situation(&fx, jobs[i]), i == 3 ? JOB_HELD : JOB_EXPIRED);
    }
    assert_int_equal(bad_rows(), bad + 2);
    pass(3600 * IMP_SECOND);
    assert_int_equal(bad_rows(), bad + 2); /* said once a day */
    pass(IMP_SECOND * 3600 * 24);
    assert_int_equal(bad_rows(), bad + 4);
    jobs_put_u64(key, broken);
    fixture_delete(&fx, fx.jobs->tables.job, key, sizeof key);
    pass(IMP_SECOND * 3600 * 24);
    assert_int_equal(bad_rows(), bad + 6);
    pass(IMP_SECOND * 3600 * 24);
    assert_int_equal(bad_rows(), bad + 7); /* only bob's is left */
}

static void more_bad_jobs_than_a_sweep_notes_keep_no_other(void **state)
{
    (void)state;
    imp_id jobs[3 * JOBS_BAD_MAX];
    time_freeze_for_test(imp_now(), imp_ticks());
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        jobs[i] = fixture_job(&fx, "hold", "alice");
    imp_id last = fixture_job(&fx, "hold", "alice");
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        garble_job(fixture_sequence(&fx, jobs[i]));
    pass(3601 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, last), JOB_EXPIRED);
}

/* ---- ends that the store refuses ---- */

static void an_end_that_is_refused_leaves_doubt_and_a_line_that_goes_on(void **state)
{
    (void)state;
    imp_queue queue = {.size = sizeof queue};
    uint8_t counter[17] = "q";
    imp_id job = held_and_released(), next = held_and_released();
    assert_int_equal(fixture_service()->queue_find(fx.self, "hold", &queue), IMP_OK);
    memcpy(counter + 1, queue.id.bytes, 16);
    fixture_garble(&fx, fx.jobs->tables.counter, counter, sizeof counter);
    end(0, IMP_DELIVERY_CONFIRMED); /* a job that ends is counted down */
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_true(delivers(1, next));
    end(1, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, next), JOB_HELD);
}

static void the_end_of_a_job_that_can_not_be_read_frees_its_device(void **state)
{
    (void)state;
    int64_t bad = bad_rows();
    imp_id job = held_and_released(), next = held_and_released();
    garble_job(fixture_sequence(&fx, job));
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_true(delivers(1, next));
    assert_int_equal(bad_rows(), bad + 1);
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

/* ---- leases ---- */

/* When the lease of a device's first claim ends, as the store has it. */
static int64_t lease_end(uint64_t sequence)
{
    imp_tx *tx;
    imp_status status;
    assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
    Job *job = job_load_sequence(fx.jobs, tx, sequence, &status);
    assert_non_null(job);
    Delivery *record = job_load_delivery(fx.jobs, tx, job, &status);
    assert_non_null(record);
    int64_t end = record->lease_end;
    imp_store_read_end(tx);
    return end;
}

static void a_transport_that_lives_keeps_its_claim(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released();
    for (uint32_t i = 1; i <= 10; i++) {
        pass(200 * IMP_SECOND);
        imp_delivery_progress(fx.deliveries[0], i);
        assert_true(lease_end(fixture_sequence(&fx, job)) > imp_now() + 400 * IMP_SECOND);
    }
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    assert_int_equal(fx.cancels, 0);
}

static void a_device_in_trouble_is_waited_for(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released();
    imp_delivery_trouble(fx.deliveries[0], "media-empty");
    for (uint32_t i = 0; i < 20; i++)
        pass(150 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_STOPPED);
    assert_int_equal(fx.cancels, 0);
}

static void canceled(imp_status status, const imp_error *error, void *arg)
{
    struct fixture_answer *answer = arg;
    (void)error;
    answer->is_done = true;
    answer->status = status;
}

/* The lease of a device in trouble is renewed for ever; a person's word ends it. */
static void who_cancels_is_answered_though_the_transport_hangs_in_trouble(void **state)
{
    (void)state;
    static const imp_viewer administrator = {.size = sizeof administrator,
                                             .is_administrator = true};
    struct fixture_answer answer = {0};
    time_freeze_for_test(imp_now(), imp_ticks());
    fx.hangs = true;
    imp_id job = held_and_released(), next = held_and_released();
    imp_delivery_trouble(fx.deliveries[0], "media-empty");
    fixture_settle(&fx);
    fixture_service()->job_cancel(fx.self, fx.self, &job, &administrator, canceled, &answer);
    fixture_until(fx.cancels == 1);
    pass(9 * IMP_SECOND);
    assert_false(answer.is_done);
    pass(2 * IMP_SECOND);
    assert_true(answer.is_done);
    assert_int_equal(answer.status, IMP_OK);
    assert_int_equal(fixture_situation(&fx, job), JOB_CANCELED_OPERATOR);
    assert_true(delivers(1, next));
    end(0, IMP_DELIVERY_UNCERTAIN);
    end(1, IMP_DELIVERY_CONFIRMED);
}

static void a_silent_transport_is_asked_to_stop(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released(), next = held_and_released();
    imp_delivery_first_byte(fx.deliveries[0]);
    for (uint32_t i = 0; i < 5; i++)
        pass(150 * IMP_SECOND);
    assert_int_equal(fx.cancels, 1);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_true(delivers(1, next));
}

/* Nothing was sent yet, but who hangs may send any time. */
static void a_delivery_is_taken_from_a_transport_that_hangs(void **state)
{
    (void)state;
    char buffer[10];
    size_t length;
    imp_error error = {0};
    time_freeze_for_test(imp_now(), imp_ticks());
    fx.hangs = true;
    imp_id job = held_and_released(), next = held_and_released();
    for (uint32_t i = 0; i < 5; i++)
        pass(150 * IMP_SECOND);
    assert_int_equal(fx.cancels, 1);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    pass(11 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_true(delivers(1, next));
    assert_int_equal(imp_delivery_read(fx.deliveries[0], 0, buffer, sizeof buffer, &length, &error),
                     IMP_UNAVAILABLE);
    imp_delivery_first_byte(fx.deliveries[0]);
    imp_delivery_progress(fx.deliveries[0], 5);
    imp_delivery_sent(fx.deliveries[0]);
    end(0, IMP_DELIVERY_CONFIRMED); /* too late */
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, next), JOB_CONFIRMED);
}

static void a_finish_while_the_loss_is_committed_is_no_second_end(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    fx.hangs = true;
    imp_id job = held_and_released();
    for (uint32_t i = 0; i < 5; i++)
        pass(150 * IMP_SECOND);
    time_freeze_for_test(imp_now() + 11 * IMP_SECOND, imp_ticks() + 11 * IMP_SECOND);
    size_t length;
    char buffer[10];
    imp_error error = {0};
    while (imp_delivery_read(fx.deliveries[0], 0, buffer, sizeof buffer, &length, &error) !=
           IMP_UNAVAILABLE)
        loop_run_once(imp_loop_control(), false);
    imp_delivery_finish(fx.deliveries[0], IMP_DELIVERY_CONFIRMED, NULL);
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
}

static void late_evidence_does_not_wait_for_a_transport_that_hangs(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    fx.hangs = true;
    imp_id job = held_and_released();
    imp_delivery_sent(fx.deliveries[0]);
    pass(61 * IMP_SECOND);
    assert_int_equal(fx.cancels, 1);
    assert_int_equal(fixture_situation(&fx, job), JOB_PRINTING);
    pass(11 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCONFIRMED);
    end(0, IMP_DELIVERY_UNCONFIRMED);
}

static void a_process_that_was_stopped_blames_no_transport(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released();
    imp_delivery_first_byte(fx.deliveries[0]);
    pass(5000 * IMP_SECOND); /* clock and ticks went on, nobody ran */
    pass(1 * IMP_SECOND);
    assert_int_equal(fx.cancels, 0);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    for (uint32_t i = 0; i < 5; i++)
        pass(150 * IMP_SECOND); /* from here on it is silent */
    assert_int_equal(fx.cancels, 1);
}

static imp_hook_run *hanging;
static uint32_t asked;

static imp_hook_answer hang(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                            imp_error *error)
{
    const imp_job_release_argument *release = argument;
    (void)self;
    (void)instance;
    (void)error;
    assert_null(release->session);
    assert_int_equal(release->queue_release, IMP_QUEUE_DIRECT);
    assert_int_equal(release->document_bytes, 100);
    hanging = run;
    asked++;
    return IMP_HOOK_SUSPEND;
}

/* No transport has the job yet, so it is tried again, and the late answer is nobody's. */
static void a_hook_that_hangs_holds_up_no_direct_queue(void **state)
{
    (void)state;
    imp_error error = {0};
    imp_hook_spec spec = {
        .size = sizeof spec, .point = "job.release", .phase = IMP_PHASE_POLICY, .function = hang};
    time_freeze_for_test(imp_now(), imp_ticks());
    assert_int_equal(imp_hook_add(fx.stand_ins, &spec, &error), IMP_OK);
    asked = 0;
    imp_id job = fixture_job(&fx, "direct", "alice");
    fixture_until(asked == 1);
    imp_hook_run *first = hanging;
    for (uint32_t i = 0; i < 5; i++)
        pass(150 * IMP_SECOND);
    assert_int_equal(asked, 1);
    pass(11 * IMP_SECOND);
    pass(1 * IMP_SECOND);
    assert_int_equal(asked, 2);
    imp_hook_resume(first, IMP_HOOK_CONTINUE, NULL);
    fixture_settle(&fx);
    assert_int_equal(fx.delivery_count, 0);
    imp_hook_resume(hanging, IMP_HOOK_CONTINUE, NULL);
    fixture_until(fx.delivery_count == 1);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, job), JOB_CONFIRMED);
}

static imp_hook_answer refuse(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                              imp_error *error)
{
    (void)self;
    (void)instance;
    (void)run;
    (void)argument;
    imp_error_set(error, IMP_DENIED, "alice has no pages left");
    return IMP_HOOK_REFUSE;
}

static char failure_line[256];
static uint32_t lines_with_sentence;

static void keep_line(const char *line, void *arg)
{
    (void)arg;
    if (strstr(line, "jobs.delivery-failed") != NULL)
        snprintf(failure_line, sizeof failure_line, "%s", line);
    lines_with_sentence += strstr(line, "alice") != NULL ? 1 : 0;
}

static void what_a_module_says_to_a_person_is_in_no_log(void **state)
{
    (void)state;
    imp_error error = {0};
    imp_hook_spec spec = {
        .size = sizeof spec, .point = "job.release", .phase = IMP_PHASE_POLICY, .function = refuse};
    assert_int_equal(imp_hook_add(fx.stand_ins, &spec, &error), IMP_OK);
    failure_line[0] = '\0';
    lines_with_sentence = 0;
    log_capture_for_test(keep_line, NULL);
    imp_id job = fixture_job(&fx, "direct", "alice");
    fixture_until(fixture_situation(&fx, job) == JOB_ABORTED);
    fixture_settle(&fx);
    log_capture_for_test(NULL, NULL);
    assert_non_null(strstr(failure_line, "status=denied"));
    assert_int_equal(lines_with_sentence, 0);
}

static void a_claim_that_nobody_holds_lapses(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released(), next = held_and_released();
    fixture_lose_holder(&fx, fx.printer);
    pass(150 * IMP_SECOND);
    pass(150 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING); /* its lease goes on */
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.other_printer).status,
                     IMP_BUSY);
    int64_t uncertain = imp_metric_value(fx.jobs->metrics.uncertain);
    for (uint32_t i = 0; i < 4; i++)
        pass(150 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.uncertain), uncertain + 1);
    fixture_until(fx.delivery_count == 2);
    assert_true(delivers(1, next));
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

static bool is_lapse_over;

static void lapse_is_over(struct jobs *jobs)
{
    (void)jobs;
    is_lapse_over = true;
}

static imp_status end_lease_tx(imp_tx *tx, void *arg, imp_error *error)
{
    imp_status status;
    (void)error;
    Job *job = job_load_sequence(fx.jobs, tx, *(const uint64_t *)arg, &status);
    Delivery *record = job == NULL ? NULL : job_load_delivery(fx.jobs, tx, job, &status);
    if (record == NULL)
        return status;
    record->lease_end = 1;
    return delivery_save_tx(fx.jobs, tx, record);
}

/* Its renewals, as its end, may have found no room in the store. */
static void a_claim_that_is_held_here_does_not_lapse(void **state)
{
    (void)state;
    imp_error error = {0};
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released();
    uint64_t sequence = fixture_sequence(&fx, job);
    imp_delivery_first_byte(fx.deliveries[0]);
    assert_int_equal(imp_store_write_sync(fx.self, end_lease_tx, &sequence, &error), IMP_OK);
    is_lapse_over = false;
    assert_true(delivery_end_lapsed(fx.jobs, imp_now(), lapse_is_over));
    fixture_until(is_lapse_over);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, job), JOB_CONFIRMED);
}

static void a_step_of_the_clock_takes_no_claim(void **state)
{
    (void)state;
    time_freeze_for_test(imp_now(), imp_ticks());
    imp_id job = held_and_released();
    pass(150 * IMP_SECOND);
    for (uint32_t i = 0; i < 3; i++) {
        time_step_for_test(IMP_SECOND * 3600 * 24); /* the wall clock alone */
        imp_delivery_progress(fx.deliveries[0], i + 1);
        pass(150 * IMP_SECOND);
        assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    }
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, job), JOB_CONFIRMED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_that_can_not_be_read_holds_up_no_device),
        TEST(a_job_whose_delivery_can_not_be_read_returns),
        TEST(a_place_that_can_not_be_read_is_passed_over),
        TEST(any_number_of_bad_rows_is_passed_over),
        TEST(a_start_passes_over_bad_rows),
        TEST(a_start_passes_over_many_bad_rows),
        TEST(a_document_that_does_not_open_is_given_up_by_a_direct_queue),
        TEST(the_pass_after_a_restore_ends_in_spite_of_bad_rows),
        TEST(a_job_that_can_not_be_swept_keeps_no_other),
        TEST(more_bad_jobs_than_a_sweep_notes_keep_no_other),
        TEST(an_end_that_is_refused_leaves_doubt_and_a_line_that_goes_on),
        TEST(the_end_of_a_job_that_can_not_be_read_frees_its_device),
        TEST(a_transport_that_lives_keeps_its_claim),
        TEST(a_device_in_trouble_is_waited_for),
        TEST(who_cancels_is_answered_though_the_transport_hangs_in_trouble),
        TEST(a_silent_transport_is_asked_to_stop),
        TEST(a_delivery_is_taken_from_a_transport_that_hangs),
        TEST(a_finish_while_the_loss_is_committed_is_no_second_end),
        TEST(late_evidence_does_not_wait_for_a_transport_that_hangs),
        TEST(a_process_that_was_stopped_blames_no_transport),
        TEST(a_hook_that_hangs_holds_up_no_direct_queue),
        TEST(what_a_module_says_to_a_person_is_in_no_log),
        TEST(a_claim_that_nobody_holds_lapses),
        TEST(a_claim_that_is_held_here_does_not_lapse),
        TEST(a_step_of_the_clock_takes_no_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
