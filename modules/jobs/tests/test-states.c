/* SPDX-License-Identifier: Apache-2.0 */
/* The table of states: what is promised of every row, and the ways that a job really goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "modules/jobs/jobs-states.h"

static uint32_t go(uint32_t from, enum job_event event)
{
    uint32_t next = JOB_SITUATION_COUNT;
    assert_int_equal(job_situation_next(from, event, &next), IMP_OK);
    return next;
}

static void refuse(uint32_t from, enum job_event event)
{
    uint32_t next = 77;
    assert_int_equal(job_situation_next(from, event, &next), IMP_INVALID);
    assert_int_equal(next, 77);
}

static void every_situation_has_a_state_reasons_and_a_name(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < JOB_SITUATION_COUNT; i++) {
        assert_in_range(job_situation_state(i), IMP_JOB_PENDING, IMP_JOB_COMPLETED);
        assert_true(strlen(job_situation_reasons(i)) > 3);
        assert_true(strlen(job_situation_name(i)) > 3);
        for (uint32_t j = 0; j < i; j++)
            assert_string_not_equal(job_situation_name(i), job_situation_name(j));
    }
    for (int event = 0; event < JOB_EVENT_COUNT; event++)
        assert_true(strlen(job_event_name((enum job_event)event)) > 3);
}

static void situations_show_the_ipp_words_of_the_design(void **state)
{
    static const struct {
        uint32_t situation;
        imp_job_state state;
        const char *reasons;
    } rows[] = {
        {JOB_RECEIVING, IMP_JOB_PENDING, "job-incoming"},
        {JOB_INCOMPLETE, IMP_JOB_PENDING, "job-data-insufficient"},
        {JOB_HELD, IMP_JOB_PENDING_HELD, "job-held-for-release"},
        {JOB_HELD_PASSWORD, IMP_JOB_PENDING_HELD, "job-password-wait"},
        {JOB_HELD_ACCOUNT, IMP_JOB_PENDING_HELD, "account-info-needed"},
        {JOB_REVIEW, IMP_JOB_PENDING_HELD, "job-held-for-review"},
        {JOB_UNCERTAIN, IMP_JOB_PENDING_HELD, "job-held-for-review"},
        {JOB_CONVERTING, IMP_JOB_PROCESSING, "job-transforming"},
        {JOB_SENDING, IMP_JOB_PROCESSING, "job-outgoing"},
        {JOB_PRINTING, IMP_JOB_PROCESSING, "job-printing"},
        {JOB_STOPPED, IMP_JOB_PROCESSING_STOPPED, "printer-stopped"},
        {JOB_CONFIRMED, IMP_JOB_COMPLETED, "job-completed-successfully"},
        {JOB_UNCONFIRMED, IMP_JOB_COMPLETED, "queued-in-device"},
        {JOB_EXPIRED, IMP_JOB_ABORTED, "job-canceled-after-timeout"},
        {JOB_CANCELED_USER, IMP_JOB_CANCELED, "job-canceled-by-user"},
        {JOB_CANCELED_OPERATOR, IMP_JOB_CANCELED, "job-canceled-by-operator"},
        {JOB_CANCELED_DEVICE, IMP_JOB_CANCELED, "job-canceled-at-device"},
        {JOB_DOCUMENT_LOST, IMP_JOB_ABORTED, "document-access-error"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(job_situation_state(rows[i].situation), rows[i].state);
        assert_string_equal(job_situation_reasons(rows[i].situation), rows[i].reasons);
    }
}

static void nothing_follows_a_final_situation(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < JOB_SITUATION_COUNT; i++) {
        for (int event = 0; job_situation_is_final(i) && event < JOB_EVENT_COUNT; event++)
            refuse(i, (enum job_event)event);
    }
}

static void every_situation_that_is_not_final_can_be_canceled(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < JOB_SITUATION_COUNT; i++) {
        if (job_situation_is_final(i))
            continue;
        assert_int_equal(go(i, JOB_CANCEL_USER), JOB_CANCELED_USER);
        assert_int_equal(go(i, JOB_CANCEL_OPERATOR), JOB_CANCELED_OPERATOR);
    }
}

static void a_job_that_has_been_sent_never_goes_back_into_a_line(void **state)
{
    static const uint32_t sent[] = {JOB_PRINTING, JOB_STOPPED_PRINTING};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        refuse(sent[i], JOB_RETURN);
        refuse(sent[i], JOB_RETURN_DOUBTED);
        refuse(sent[i], JOB_RETRY);
        refuse(sent[i], JOB_GIVE_UP);
        refuse(sent[i], JOB_EXPIRE);
        assert_int_equal(go(sent[i], JOB_DOUBT), JOB_UNCERTAIN);
        assert_int_equal(go(sent[i], JOB_NO_EVIDENCE), JOB_UNCONFIRMED);
    }
}

static void a_held_job_goes_to_paper(void **state)
{
    (void)state;
    uint32_t at = go(JOB_RECEIVING, JOB_COMMIT_HOLD);
    assert_int_equal(at, JOB_HELD);
    assert_true(job_situation_is_releasable(at));
    at = go(at, JOB_RELEASE);
    assert_true(job_situation_is_claimed(at));
    refuse(at, JOB_RELEASE);
    at = go(at, JOB_START);
    refuse(at, JOB_RELEASE);
    refuse(at, JOB_EXPIRE);
    at = go(go(at, JOB_TROUBLE), JOB_TROUBLE_OVER);
    assert_int_equal(at, JOB_SENDING);
    at = go(go(at, JOB_SENT), JOB_EVIDENCE);
    assert_int_equal(at, JOB_CONFIRMED);
    assert_true(job_situation_is_final(at));
}

static void a_failed_delivery_returns_a_held_job_and_retries_a_direct_one(void **state)
{
    (void)state;
    assert_int_equal(go(JOB_SENDING, JOB_RETURN), JOB_HELD);
    assert_int_equal(go(JOB_SENDING, JOB_RETRY), JOB_QUEUED);
    assert_int_equal(go(JOB_SENDING, JOB_GIVE_UP), JOB_ABORTED);
    assert_int_equal(go(JOB_UNCERTAIN, JOB_RELEASE), JOB_QUEUED);
    assert_int_equal(go(JOB_QUEUED, JOB_RETURN_DOUBTED), JOB_UNCERTAIN);
    assert_int_equal(go(JOB_SENDING, JOB_RETURN_DOUBTED), JOB_UNCERTAIN);
}

static void a_quarantined_job_waits_for_its_owner(void **state)
{
    (void)state;
    refuse(JOB_REVIEW, JOB_RELEASE);
    assert_false(job_situation_is_releasable(JOB_REVIEW));
    assert_int_equal(go(JOB_REVIEW, JOB_CLAIMED), JOB_HELD);
}

static void numbers_of_a_newer_version_are_held_for_review(void **state)
{
    (void)state;
    assert_int_equal(job_situation_state(1000), IMP_JOB_PENDING_HELD);
    assert_false(job_situation_is_final(1000));
    refuse(1000, JOB_CANCEL_USER);
    refuse(JOB_HELD, JOB_EVENT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_situation_has_a_state_reasons_and_a_name),
        cmocka_unit_test(situations_show_the_ipp_words_of_the_design),
        cmocka_unit_test(nothing_follows_a_final_situation),
        cmocka_unit_test(every_situation_that_is_not_final_can_be_canceled),
        cmocka_unit_test(a_job_that_has_been_sent_never_goes_back_into_a_line),
        cmocka_unit_test(a_held_job_goes_to_paper),
        cmocka_unit_test(a_failed_delivery_returns_a_held_job_and_retries_a_direct_one),
        cmocka_unit_test(a_quarantined_job_waits_for_its_owner),
        cmocka_unit_test(numbers_of_a_newer_version_are_held_for_review),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
