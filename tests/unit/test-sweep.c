/* SPDX-License-Identifier: Apache-2.0 */
/* test-sweep.c - everything that is over goes, nothing else does, and a torn row holds nothing up. */
#include "tests/unit/module-fixture.h"

#include <imprimatur/loop.h>
#include <imprimatur/sweep.h>

#define ROWS 5000

static const imp_table_spec tables[] = {{"row", 1, 0}, {"more", 1, 0}, {NULL, 0, 0}};

static struct module_fixture fixture;
static imp_table *rows, *more;
static uint32_t asked;          /* by is_over_tx */
static int spares = -1;         /* a row that is not over any more when the closure asks */
static imp_status answers;      /* of is_over_tx */
static imp_work_token *cancels; /* by is_over_tx */

static int set_up(void **state)
{
    (void)state;
    module_fixture_open(&fixture, NULL, "test", tables);
    rows = imp_table_open(fixture.self, "row");
    more = imp_table_open(fixture.self, "more");
    asked = 0;
    spares = -1;
    answers = IMP_OK;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    module_fixture_end(&fixture);
    return 0;
}

/* Every third row is over, and has a partner in `more`. */
static imp_status fill_in(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    imp_status status = IMP_OK;
    for (int i = 0; status == IMP_OK && i < ROWS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%05d", i);
        status = imp_tx_put(tx, rows, fixture_text(key), fixture_text(i % 3 == 0 ? "over" : "on"));
        if (status == IMP_OK && i % 3 == 0)
            status = imp_tx_put(tx, more, fixture_text(key), fixture_text("x"));
    }
    return status;
}

static void fill(void)
{
    imp_error error = {0};
    assert_ok(imp_store_write_sync(fixture.self, fill_in, NULL, &error), error);
}

static uint64_t count(imp_table *table)
{
    imp_tx *tx;
    imp_error error = {0};
    uint64_t found = 0;
    assert_ok(imp_store_read_begin(fixture.self, &tx, &error), error);
    assert_int_equal(imp_tx_count(tx, table, &found), IMP_OK);
    imp_store_read_end(tx);
    return found;
}

static imp_status is_over_tx(imp_tx *tx, imp_bytes key, imp_bytes value, bool *is_over, void *arg)
{
    assert_ptr_equal(arg, &fixture);
    asked++;
    if (cancels != NULL)
        imp_work_cancel(cancels);
    *is_over = value.data == NULL || value.length == 4;
    if (imp_tx_is_writing(tx) && spares >= 0 && strtol(key.data, NULL, 10) == spares)
        *is_over = false;
    return answers;
}

static imp_status erase_more_tx(imp_tx *tx, imp_bytes key, imp_bytes value, void *arg)
{
    (void)arg;
    (void)value;
    return imp_tx_delete(tx, more, key);
}

static imp_status sweep(uint64_t *erased)
{
    const imp_sweep_rule rule = {.size = sizeof rule,
                                 .table = rows,
                                 .is_over_tx = is_over_tx,
                                 .erase_more_tx = erase_more_tx,
                                 .arg = &fixture};
    imp_error error = {0};
    return imp_sweep(fixture.self, &rule, erased, &error);
}

static void test_all_that_is_over_goes_and_nothing_else(void **state)
{
    (void)state;
    uint64_t erased = 1; /* it is added to */
    assert_int_equal(sweep(&erased), IMP_OK);
    assert_int_equal(erased, 1);
    fill();
    assert_int_equal(sweep(&erased), IMP_OK);
    assert_int_equal(erased, 1 + (ROWS + 2) / 3);
    assert_int_equal(count(rows), ROWS - (ROWS + 2) / 3);
    assert_int_equal(count(more), 0);
    assert_int_equal(asked, ROWS + (ROWS + 2) / 3); /* those that go are asked twice */
    assert_int_equal(sweep(NULL), IMP_OK);
}

static void test_what_is_in_use_again_stays(void **state)
{
    (void)state;
    uint64_t erased = 0;
    fill();
    spares = 3000;
    assert_int_equal(sweep(&erased), IMP_OK);
    assert_int_equal(erased, (ROWS + 2) / 3 - 1);
    assert_int_equal(count(more), 1);
}

static void test_a_torn_row_is_asked_about_and_holds_nothing_up(void **state)
{
    (void)state;
    uint64_t erased = 0;
    fill();
    module_fixture_damage(&fixture, rows, fixture_text("00003"));
    assert_int_equal(sweep(&erased), IMP_OK);
    assert_int_equal(erased, (ROWS + 2) / 3);
    assert_int_equal(count(more), 0);
}

static void test_a_rule_that_fails_ends_the_sweep(void **state)
{
    (void)state;
    uint64_t erased = 0;
    fill();
    answers = IMP_IO;
    assert_int_equal(sweep(&erased), IMP_IO);
    answers = IMP_NOT_FOUND; /* which is not the end of the table */
    assert_int_equal(sweep(&erased), IMP_NOT_FOUND);
    assert_int_equal(erased, 0);
    assert_int_equal(count(rows), ROWS);
}

static imp_status swept;

static void sweep_run(void *arg)
{
    swept = sweep(arg);
}

static void sweep_over(void *arg, bool was_cancelled)
{
    (void)arg;
    assert_false(was_cancelled); /* it ran */
    cancels = NULL;
}

static void test_a_cancelled_work_sweeps_no_further(void **state)
{
    (void)state;
    uint64_t erased = 0;
    fill();
    cancels = imp_work(fixture.self, sweep_run, sweep_over, &erased);
    assert_non_null(cancels);
    module_fixture_settle();
    assert_null(cancels);
    assert_int_equal(swept, IMP_UNAVAILABLE);
    assert_true(erased > 0 && erased < 1000); /* the step in which it was cancelled */
}

static void test_a_rule_of_the_wrong_size_is_refused(void **state)
{
    (void)state;
    const imp_sweep_rule rule = {
        .size = offsetof(imp_sweep_rule, arg), .table = rows, .is_over_tx = is_over_tx};
    imp_error error = {0};
    fill();
    assert_int_equal(imp_sweep(fixture.self, &rule, NULL, &error), IMP_INVALID);
    assert_int_equal(count(rows), ROWS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_that_is_over_goes_and_nothing_else, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_in_use_again_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_torn_row_is_asked_about_and_holds_nothing_up, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_rule_that_fails_ends_the_sweep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_cancelled_work_sweeps_no_further, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_rule_of_the_wrong_size_is_refused, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
