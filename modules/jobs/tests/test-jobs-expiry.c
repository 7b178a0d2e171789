/* SPDX-License-Identifier: Apache-2.0 */
/* What time does to jobs in every place where they may be: held, in doubt, in a line, on a device, ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/loop.h"
#include "core/time.h"
#include "modules/jobs/tests/jobs-fixture.h"

static struct jobs_fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_begin(&fx);
    time_freeze_for_test(imp_now(), imp_ticks());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fx);
    return 0;
}

/* Sweeps come by the hour. */
static void pass(int64_t time)
{
    time_freeze_for_test(imp_now() + time, imp_ticks() + time);
    fixture_settle(&fx);
    fixture_until(!fx.jobs->is_sweeping);
}

static void pass_an_hour(void)
{
    pass(3601 * IMP_SECOND);
}

static imp_id released(void)
{
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    return job;
}

static void end(uint32_t delivery, imp_delivery_outcome outcome)
{
    imp_delivery_finish(fx.deliveries[delivery], outcome, NULL);
    fixture_settle(&fx);
}

static void a_job_without_expiry_is_kept(void **state)
{
    (void)state;
    atomic_store(&fx.jobs->settings.hold_expiry, 0);
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.due), 0);
    for (int i = 0; i < 30; i++)
        pass_an_hour();
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
}

static void an_uncertain_job_and_a_quarantined_one_expire_as_others_do(void **state)
{
    (void)state;
    imp_id doubted = released(), nobodys = fixture_job(&fx, "hold", "stranger");
    imp_delivery_first_byte(fx.deliveries[0]);
    end(0, IMP_DELIVERY_UNCERTAIN);
    assert_int_equal(fixture_situation(&fx, doubted), JOB_UNCERTAIN);
    assert_int_equal(fixture_situation(&fx, nobodys), JOB_REVIEW);
    pass_an_hour();
    assert_int_equal(fixture_situation(&fx, doubted), JOB_EXPIRED);
    assert_int_equal(fixture_situation(&fx, nobodys), JOB_EXPIRED);
    assert_false(fixture_has_documents(&fx, doubted));
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 0);
}

static void a_job_that_expires_in_a_line_leaves_it(void **state)
{
    (void)state;
    imp_id running = released(), waiting = released();
    imp_delivery_trouble(fx.deliveries[0], "media-empty");
    pass_an_hour();
    assert_int_equal(fixture_situation(&fx, waiting), JOB_EXPIRED);
    assert_int_equal(fixture_situation(&fx, running), JOB_STOPPED); /* it has begun */
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 1);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, running), JOB_CONFIRMED);
    assert_int_equal(fx.delivery_count, 1);
}

static void a_job_that_was_due_on_a_device_expires_when_it_comes_back(void **state)
{
    (void)state;
    imp_id job = released();
    imp_delivery_trouble(fx.deliveries[0], "media-empty");
    pass_an_hour();
    assert_int_equal(fixture_situation(&fx, job), JOB_STOPPED);
    imp_delivery_trouble(fx.deliveries[0], NULL);
    fixture_settle(&fx);
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    pass_an_hour();
    assert_int_equal(fixture_situation(&fx, job), JOB_EXPIRED);
}

static void a_direct_job_that_no_device_takes_expires(void **state)
{
    (void)state;
    atomic_store(&fx.jobs->settings.retry_limit, 0);
    atomic_store(&fx.jobs->settings.retry_first, 600 * IMP_SECOND);
    atomic_store(&fx.jobs->settings.retry_longest, 7200 * IMP_SECOND);
    fx.refuses = true;
    imp_id job = fixture_job(&fx, "direct", "alice");
    fixture_settle(&fx);
    pass(10 * IMP_SECOND); /* a transport might have come late */
    assert_int_equal(fixture_situation(&fx, job), JOB_QUEUED);
    pass_an_hour();
    assert_int_equal(fixture_situation(&fx, job), JOB_EXPIRED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
    fx.refuses = false;
    pass(7200 * IMP_SECOND); /* the try that was planned finds nobody */
    assert_int_equal(fx.delivery_count, 0);
}

static void a_forgotten_job_leaves_no_row(void **state)
{
    (void)state;
    imp_id job = released();
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.delivery), 2);
    for (int i = 0; i < 3; i++)
        pass_an_hour();
    imp_table *const tables[] = {
        fx.jobs->tables.job,       fx.jobs->tables.job_id,   fx.jobs->tables.queued,
        fx.jobs->tables.submitted, fx.jobs->tables.owned,    fx.jobs->tables.due,
        fx.jobs->tables.personal,  fx.jobs->tables.delivery, fx.jobs->tables.line,
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        assert_int_equal(fixture_count(&fx, tables[i]), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_without_expiry_is_kept),
        TEST(an_uncertain_job_and_a_quarantined_one_expire_as_others_do),
        TEST(a_job_that_expires_in_a_line_leaves_it),
        TEST(a_job_that_was_due_on_a_device_expires_when_it_comes_back),
        TEST(a_direct_job_that_no_device_takes_expires),
        TEST(a_forgotten_job_leaves_no_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
