/* SPDX-License-Identifier: Apache-2.0 */
/* test-audit-address.c - addresses stand beside the chain, and can be erased without breaking it. */
#include "modules/audit/tests/audit-fixture.h"

#include "core/time.h"

#include <jansson.h>

static struct audit_fixture fixture;

static int set_up(void **state)
{
    (void)state;
    time_freeze_for_test(INT64_C(1795350896) * IMP_SECOND, 1000 * IMP_SECOND);
    audit_fixture_open(&fixture);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    audit_fixture_close(&fixture);
    time_thaw_for_test();
    return 0;
}

/* ---- events from addresses ---- */

static imp_status append_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_audit_event event = {.size = sizeof event,
                             .action = "job.receive",
                             .place_kind = "address",
                             .object_kind = "job",
                             .object = {{3}},
                             .address = arg};
    return audit_append_tx(fixture.audit, tx, &event, error);
}

static void append(const char *address)
{
    assert_int_equal(audit_fixture_write(&fixture, append_in, (void *)(uintptr_t)address), IMP_OK);
}

/* The place of the newest event that `audit list` shows; valid until the next call. */
static const char *newest_place(void)
{
    static char place[64];
    struct module_fixture_answer answer = module_fixture_verb("audit", "list", "--limit=1");
    json_t *frames = json_loads(answer.frames, 0, NULL);
    json_t *row = json_array_get(json_object_get(json_array_get(frames, 0), "rows"), 0);
    snprintf(place, sizeof place, "%s", json_string_value(json_object_get(row, "place")));
    json_decref(frames);
    free(answer.frames);
    return place;
}

/* The id in the newest event itself. */
static imp_id newest_id(void)
{
    imp_tx *tx;
    imp_error error = {0};
    struct audit_head head;
    uint8_t key[8];
    imp_bytes value;
    Imprimatur__Audit__Link *link;
    assert_ok(imp_store_read_begin(fixture.base.self, &tx, &error), error);
    assert_int_equal(audit_head_read(tx, &fixture.audit->chain, &head), IMP_OK);
    audit_key(head.sequence, key);
    assert_int_equal(imp_tx_get(tx, fixture.audit->chain.event, (imp_bytes){key, 8}, &value),
                     IMP_OK);
    const Imprimatur__Audit__Event *event = audit_event_open(tx, value, &link);
    assert_non_null(event);
    imp_id id = imp_id_of_field(event->place);
    imp_store_read_end(tx);
    return id;
}

static uint64_t rows(imp_table *table)
{
    imp_tx *tx;
    imp_error error = {0};
    uint64_t count = 0;
    assert_ok(imp_store_read_begin(fixture.base.self, &tx, &error), error);
    assert_int_equal(imp_tx_count(tx, table, &count), IMP_OK);
    imp_store_read_end(tx);
    return count;
}

static void expect_rows(uint64_t count)
{
    assert_int_equal(rows(fixture.audit->address), count);
    assert_int_equal(rows(fixture.audit->address_use), count);
}

static void expect_holds(void)
{
    struct audit_verdict verdict;
    imp_error error = {0};
    assert_ok(audit_verify(fixture.audit, &verdict, &error), error);
}

/* ---- the tests ---- */

static void test_an_event_names_an_id_and_the_list_shows_the_address(void **state)
{
    (void)state;
    append("192.0.2.7");
    imp_id first = newest_id();
    assert_false(imp_id_is_zero(first));
    assert_string_equal(newest_place(), "192.0.2.7");
    append("::ffff:192.0.2.7"); /* the same address as a v6 socket sees it */
    assert_true(imp_id_equal(newest_id(), first));
    append("2001:DB8:0::7");
    assert_false(imp_id_equal(newest_id(), first));
    assert_string_equal(newest_place(), "2001:db8::7");
    expect_rows(2);
}

static void test_what_is_no_address_leaves_the_place_unknown(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "anna", "192.0.2.0/24", "192.0.2.7 ", "1.2.3.4.5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        append(wrong[i]);
        assert_true(imp_id_is_zero(newest_id()));
        assert_string_equal(newest_place(), "");
    }
    append(NULL);
    assert_true(imp_id_is_zero(newest_id()));
    expect_rows(0);
}

static void test_an_address_is_erased_when_its_retention_is_over(void **state)
{
    (void)state;
    char id[IMP_ID_TEXT_SIZE];
    append("192.0.2.7");
    imp_id first = newest_id();
    imp_id_format(first, id);
    time_advance_for_test(99 * IMP_SECOND);
    address_sweep(fixture.audit);
    expect_rows(1);
    time_advance_for_test(1 * IMP_SECOND);
    address_sweep(fixture.audit);
    expect_rows(0);
    assert_string_equal(newest_place(), id);
    expect_holds();
    append("192.0.2.7");
    assert_false(imp_id_equal(newest_id(), first)); /* old and new can't be brought together */
}

static void test_use_keeps_an_address_and_its_id(void **state)
{
    (void)state;
    append("192.0.2.7");
    imp_id first = newest_id();
    for (int i = 0; i < 5; i++) {
        time_advance_for_test(50 * IMP_SECOND);
        append("192.0.2.7");
        address_sweep(fixture.audit);
        assert_true(imp_id_equal(newest_id(), first));
    }
    expect_rows(1);
}

static void test_what_is_over_gets_a_new_id_before_the_sweep_too(void **state)
{
    (void)state;
    append("192.0.2.7");
    imp_id first = newest_id();
    time_advance_for_test(100 * IMP_SECOND);
    append("192.0.2.7");
    assert_false(imp_id_equal(newest_id(), first));
    expect_rows(1);
}

static void test_an_address_can_be_forgotten_at_once(void **state)
{
    (void)state;
    char id[IMP_ID_TEXT_SIZE];
    append("192.0.2.7");
    append("192.0.2.8");
    append("192.0.2.7");
    imp_id_format(newest_id(), id);
    struct module_fixture_answer answer = module_fixture_verb("audit", "forget", "192.0.2.7");
    assert_int_equal(answer.exit_status, 0);
    free(answer.frames);
    expect_rows(1);
    answer = module_fixture_verb("audit", "list", "--limit=2");
    assert_non_null(strstr(answer.frames, "audit.forget"));
    assert_non_null(strstr(answer.frames, id));
    assert_null(strstr(answer.frames, "192.0.2.7"));
    free(answer.frames);
    expect_holds();
    answer = module_fixture_verb("audit", "forget", "192.0.2.7");
    assert_int_equal(answer.exit_status, 1);
    assert_non_null(strstr(answer.frames, "not on record"));
    free(answer.frames);
    answer = module_fixture_verb("audit", "forget", "anna");
    assert_int_equal(answer.exit_status, 2);
    free(answer.frames);
}

static void test_no_address_is_kept_where_the_retention_is_nothing(void **state)
{
    (void)state;
    append("192.0.2.7");
    fixture.conf.address_retention = 0;
    append("192.0.2.8");
    assert_true(imp_id_is_zero(newest_id()));
    address_sweep(fixture.audit); /* and what was there goes */
    expect_rows(0);
}

static void test_the_table_has_a_bound_and_the_longest_unused_makes_room(void **state)
{
    (void)state;
    fixture.conf.addresses_max = 2;
    append("192.0.2.1");
    imp_id first = newest_id();
    time_advance_for_test(20 * IMP_SECOND);
    append("192.0.2.2");
    imp_id second = newest_id();
    time_advance_for_test(20 * IMP_SECOND);
    append("192.0.2.1"); /* used again, so the other is older */
    append("192.0.2.3");
    assert_false(imp_id_is_zero(newest_id()));
    expect_rows(2);
    assert_int_equal(imp_metric_value(fixture.audit->addresses_dropped), 1);
    append("192.0.2.1");
    assert_true(imp_id_equal(newest_id(), first));
    append("192.0.2.2"); /* which comes back by another id */
    assert_false(imp_id_is_zero(newest_id()));
    assert_false(imp_id_equal(newest_id(), second));
    expect_rows(2);
    /* A bound that was lowered is reached. */
    fixture.conf.addresses_max = 1;
    append("192.0.2.4");
    expect_rows(1);
}

/* Many, so that the sweep has to come several times; the torn ones among them hold nothing up. */
static void test_a_sweep_erases_everything_that_is_over(void **state)
{
    (void)state;
    char address[32];
    fixture.conf.addresses_max = 100000;
    for (int i = 0; i < 600; i++) {
        snprintf(address, sizeof address, "10.0.%d.%d", i / 250, i % 250);
        append(address);
        if (i % 250 == 7) {
            imp_id id = newest_id();
            module_fixture_damage(&fixture.base, fixture.audit->address, imp_id_bytes(&id));
        }
    }
    time_advance_for_test(60 * IMP_SECOND);
    append("192.0.2.7");
    address_sweep(fixture.audit);
    assert_int_equal(rows(fixture.audit->address), 601 - 3); /* torn ones are of no use */
    time_advance_for_test(40 * IMP_SECOND);
    address_sweep(fixture.audit);
    expect_rows(1);
    assert_string_equal(newest_place(), "192.0.2.7");
    expect_holds();
}

/* Its use still leads to the row that was torn; the address is on record again when it is used. */
static void test_a_torn_address_gets_a_new_row(void **state)
{
    (void)state;
    append("192.0.2.7");
    imp_id first = newest_id();
    module_fixture_damage(&fixture.base, fixture.audit->address, imp_id_bytes(&first));
    time_advance_for_test(50 * IMP_SECOND);
    append("192.0.2.7");
    assert_false(imp_id_equal(newest_id(), first));
    assert_string_equal(newest_place(), "192.0.2.7");
    address_sweep(fixture.audit);
    expect_rows(1);
}

static void test_addresses_outlive_a_restart(void **state)
{
    (void)state;
    append("192.0.2.7");
    imp_id first = newest_id();
    audit_fixture_stop(&fixture);
    audit_fixture_start(&fixture, fixture.base.folder);
    assert_string_equal(newest_place(), "192.0.2.7");
    append("192.0.2.7");
    assert_true(imp_id_equal(newest_id(), first));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_event_names_an_id_and_the_list_shows_the_address),
        TEST(test_what_is_no_address_leaves_the_place_unknown),
        TEST(test_an_address_is_erased_when_its_retention_is_over),
        TEST(test_use_keeps_an_address_and_its_id),
        TEST(test_what_is_over_gets_a_new_id_before_the_sweep_too),
        TEST(test_an_address_can_be_forgotten_at_once),
        TEST(test_no_address_is_kept_where_the_retention_is_nothing),
        TEST(test_the_table_has_a_bound_and_the_longest_unused_makes_room),
        TEST(test_a_sweep_erases_everything_that_is_over),
        TEST(test_a_torn_address_gets_a_new_row),
        TEST(test_addresses_outlive_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
