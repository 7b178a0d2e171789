/* SPDX-License-Identifier: Apache-2.0 */
/* Records and tickets: what goes in comes out, and what a newer version wrote is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-expiry.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-rate.h"
#include "modules/jobs/jobs-record.h"
#include "modules/jobs/jobs-submission.h"

static void a_job_comes_out_as_it_went_in(void **state)
{
    (void)state;
    imp_id id = imp_id_new(), owner = imp_id_new();
    Document document = DOCUMENT_INIT, *documents[] = {&document};
    Job job = JOB_INIT;
    size_t length;
    document.size = 12345;
    document.detected_format = (char *)(uintptr_t) "application/pdf";
    job.schema = JOBS_SCHEMA;
    job.sequence = UINT64_C(0x1122334455667788);
    job.id = imp_id_field(&id);
    job.owner = imp_id_field(&owner);
    job.n_documents = 1;
    job.documents = documents;
    job.received = INT64_C(1790000000000000);
    uint8_t *packed = record_encode(&job, &length);
    assert_non_null(packed);
    Job *read = imp_message_decode(NULL, JOB_TYPE, (imp_bytes){packed, length});
    assert_non_null(read);
    assert_true(read->sequence == job.sequence && read->received == job.received);
    assert_true(record_id_is(read->id, id) && record_id_is(read->owner, owner));
    assert_true(imp_id_equal(imp_id_of_field(read->id), id));
    assert_true(imp_id_is_zero(imp_id_of_field(read->queue)));
    assert_int_equal(read->documents[0]->size, 12345);
    imp_message_free(read);
    free(packed);
}

static void fields_of_a_newer_version_are_kept(void **state)
{
    static const uint8_t unknown[] = {0xba, 0x3e, 0x03, 'n', 'e', 'w'}; /* field 999, "new" */
    (void)state;
    Job job = JOB_INIT;
    size_t length, again_length;
    job.sequence = 7;
    uint8_t *packed = record_encode(&job, &length);
    uint8_t *newer = malloc(length + sizeof unknown);
    assert_non_null(packed);
    assert_non_null(newer);
    memcpy(newer, packed, length);
    memcpy(newer + length, unknown, sizeof unknown);
    Job *read = imp_message_decode(NULL, JOB_TYPE, (imp_bytes){newer, length + sizeof unknown});
    assert_non_null(read);
    read->situation = 2; /* changed by this version */
    uint8_t *again = record_encode(read, &again_length);
    assert_non_null(again);
    assert_int_equal(again_length, length + sizeof unknown + 2);
    assert_memory_equal(again + again_length - sizeof unknown, unknown, sizeof unknown);
    imp_message_free(read);
    free(packed);
    free(newer);
    free(again);
}

static void broken_records_are_refused(void **state)
{
    static const uint8_t broken[][6] = {
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x1a, 0x10, 1, 2, 3, 4}, {0x0a}};
    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_null(imp_message_decode(NULL, JOB_TYPE, (imp_bytes){broken[i], i == 2 ? 1 : 6}));
    static const uint8_t field_zero[] = {0x80, 0x00, 0x28},
                         nested_zero[] = {0x4a, 0x02, 0x00, 0x28};
    assert_null(imp_message_decode(NULL, QUEUE_TYPE, (imp_bytes){field_zero, sizeof field_zero}));
    assert_null(imp_message_decode(NULL, JOB_TYPE, (imp_bytes){nested_zero, sizeof nested_zero}));
    ProtobufCBinaryData short_id = record_bytes("abc", 3);
    assert_true(imp_id_is_zero(imp_id_of_field(short_id)));
}

static void the_highest_layer_of_a_ticket_wins(void **state)
{
    imp_ticket_value values[] = {
        {IMP_TICKET_CLIENT, "copies", "2", "lpr"},
        {IMP_TICKET_QUEUE_DEFAULT, "sides", "two-sided-long-edge", "admin"},
        {IMP_TICKET_RELEASER, "copies", "5", "releaser"},
        {IMP_TICKET_CLIENT, "sides", "one-sided", "lpr"},
        {IMP_TICKET_CLIENT, "media", "iso_a4_210x297mm", "lpr"},
        {IMP_TICKET_CLIENT, "media", "iso_a3_297x420mm", "lpr"},
    };
    (void)state;
    uint32_t count = ticket_resolve(values, 6);
    assert_int_equal(count, 3);
    imp_ticket ticket = {values, count};
    assert_string_equal(imp_ticket_get(&ticket, "copies"), "5");
    assert_string_equal(imp_ticket_get(&ticket, "sides"), "two-sided-long-edge");
    assert_string_equal(imp_ticket_get(&ticket, "media"), "iso_a3_297x420mm");
    assert_null(imp_ticket_get(&ticket, "finishings"));
}

static void a_ticket_goes_through_a_record(void **state)
{
    const imp_ticket_value values[] = {{IMP_TICKET_CLIENT, "copies", "2", "lpr"},
                                       {IMP_TICKET_RULE, "sides", "one-sided", NULL}};
    TicketValue rows[2], *pointers[2];
    imp_ticket_value read[2];
    (void)state;
    imp_ticket ticket = {values, 2};
    assert_int_equal(record_ticket(&ticket, rows, pointers, 2), 2);
    assert_int_equal(record_ticket_add(pointers, 2, read, 0, 2), 2);
    assert_int_equal(read[1].layer, IMP_TICKET_RULE);
    assert_string_equal(read[0].value, "2");
    assert_string_equal(read[1].source, "");
    assert_int_equal(record_ticket_add(pointers, 2, read, 1, 2), 2); /* bounded */
}

static void queue_names_are_found_as_clients_write_them(void **state)
{
    char folded[IMP_NAME_MAX];
    (void)state;
    assert_true(queue_name_fold("Hold", folded));
    assert_string_equal(folded, "hold");
    assert_true(queue_name_fold("/printers/Hold", folded));
    assert_string_equal(folded, "hold");
    assert_true(queue_name_fold("PRINTERS/a.b_c-1", folded));
    assert_string_equal(folded, "a.b_c-1");
    static const char *const bad[] = {"",        "printers/", "a/b",  "../x", "-o",
                                      ".hidden", "a b",       "a\nb", "a%s",  "\xc3\xbc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(queue_name_fold(bad[i], folded));
    char longest[IMP_NAME_MAX + 1];
    memset(longest, 'q', sizeof longest);
    longest[IMP_NAME_MAX] = '\0';
    assert_false(queue_name_fold(longest, folded));
    longest[IMP_NAME_MAX - 1] = '\0';
    assert_true(queue_name_fold(longest, folded));
}

static void a_source_gets_its_rate_and_no_more(void **state)
{
    (void)state;
    struct jobs_rates *rates = rates_new(64);
    int64_t now = 1000 * IMP_SECOND;
    assert_non_null(rates);
    for (int i = 0; i < 3; i++)
        assert_true(rates_allow(rates, "192.0.2.1", 3, now));
    assert_false(rates_allow(rates, "192.0.2.1", 3, now));
    assert_true(rates_allow(rates, "192.0.2.2", 3, now));
    assert_true(rates_allow(rates, "192.0.2.1", 3, now + 60 * IMP_SECOND));
    rates_free(rates);
}

static void steps_of_the_clock_stop_the_sweeper(void **state)
{
    const int64_t s = IMP_SECOND, tolerance = 300 * s;
    (void)state;
    assert_int_equal(clock_judge(0, 0, 0, 1000 * s, 5 * s, tolerance), CLOCK_FINE);
    assert_int_equal(clock_judge(1000 * s, 1000 * s, 0, 1060 * s, 60 * s, tolerance), CLOCK_FINE);
    assert_int_equal(clock_judge(1000 * s, 1000 * s, 0, 699 * s, 60 * s, tolerance),
                     CLOCK_STEPPED_BACK);
    assert_int_equal(clock_judge(1000 * s, 0, 0, 699 * s, 60 * s, tolerance), CLOCK_STEPPED_BACK);
    assert_int_equal(clock_judge(1000 * s, 1000 * s, 0, 1361 * s, 60 * s, tolerance),
                     CLOCK_JUMPED_AHEAD);
    /* A server that slept for a month: the first look after start has nothing to compare with. */
    assert_int_equal(clock_judge(1000 * s, 0, 0, 9000000 * s, 60 * s, tolerance), CLOCK_FINE);
}

static void open_submissions_are_told_from_acknowledged_ones(void **state)
{
    (void)state;
    struct jobs_submissions *submissions = submissions_new();
    struct submission_batch batch;
    uint8_t hash[IMP_HASH_SIZE] = {1, 2, 3};
    imp_id first = imp_id_new(), second = imp_id_new();
    assert_non_null(submissions);
    submissions_committed(submissions, &first, hash, 1);
    submissions_committed(submissions, &second, hash, 2); /* its row is the second's now */
    submissions_committed(submissions, &first, hash, 1);
    assert_true(submissions_is_open(submissions, hash, 0));
    assert_false(submissions_is_open(submissions, hash, 3600 * IMP_SECOND));
    submissions_acknowledged(submissions, &first);
    submissions_acknowledged(submissions, &first); /* twice is once */
    assert_true(submissions_is_open(submissions, hash, 0));
    submissions_acknowledged(submissions, &second);
    assert_false(submissions_is_open(submissions, hash, 0));
    assert_int_equal(submissions_waiting(submissions), 1);
    submissions_take(submissions, &batch);
    assert_int_equal(batch.count, 1);
    assert_int_equal(batch.sequences[0], 2);
    assert_int_equal(submissions_waiting(submissions), 0);
    submissions_give_back(submissions, &batch);
    assert_int_equal(submissions_waiting(submissions), 1);
    submissions_free(submissions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_comes_out_as_it_went_in),
        cmocka_unit_test(fields_of_a_newer_version_are_kept),
        cmocka_unit_test(broken_records_are_refused),
        cmocka_unit_test(the_highest_layer_of_a_ticket_wins),
        cmocka_unit_test(a_ticket_goes_through_a_record),
        cmocka_unit_test(queue_names_are_found_as_clients_write_them),
        cmocka_unit_test(a_source_gets_its_rate_and_no_more),
        cmocka_unit_test(steps_of_the_clock_stop_the_sweeper),
        cmocka_unit_test(open_submissions_are_told_from_acknowledged_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
