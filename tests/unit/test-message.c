/* SPDX-License-Identifier: Apache-2.0 */
/* test-message.c - records as Protocol Buffers, and index rows that lead to them. */
#include "tests/unit/module-fixture.h"

#include <imprimatur/index.h>
#include <imprimatur/message.h>

#include "tests/unit/thing.pb-c.h"

#define THING (&imprimatur__tests__thing__descriptor)
#define NEWER (&imprimatur__tests__newer_thing__descriptor)

static const imp_table_spec tables[] = {
    {"thing", 1, 0}, {"name", 1, IMP_TABLE_PLAIN}, {NULL, 0, 0}};

static struct module_fixture fixture;
static imp_table *things, *names;
static const imp_id first = {{1}}, second = {{2}};

static int set_up(void **state)
{
    (void)state;
    module_fixture_open(&fixture, NULL, "test", tables);
    things = imp_table_open(fixture.self, "thing");
    names = imp_table_open(fixture.self, "name");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    module_fixture_end(&fixture);
    return 0;
}

/* Runs `closure` in a writing transaction. */
static void write_with(imp_write_function closure, imp_status expected)
{
    imp_error error = {0};
    assert_int_equal(imp_store_write_sync(fixture.self, closure, NULL, &error), expected);
}

static imp_tx *reading(void)
{
    imp_tx *tx;
    imp_error error = {0};
    assert_ok(imp_store_read_begin(fixture.self, &tx, &error), error);
    return tx;
}

static imp_status put_newer(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    Imprimatur__Tests__NewerThing thing = IMPRIMATUR__TESTS__NEWER_THING__INIT;
    Imprimatur__Tests__Part part = IMPRIMATUR__TESTS__PART__INIT, *parts[] = {&part};
    thing.id = imp_id_field(&first);
    thing.name = (char *)(uintptr_t) "one";
    thing.n_parts = 1;
    thing.parts = parts;
    thing.colour = (char *)(uintptr_t) "blue";
    return imp_message_put(tx, things, imp_id_bytes(&first), &thing);
}

static imp_status redden(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    imp_status status;
    Imprimatur__Tests__Thing *thing =
        imp_message_get(tx, things, imp_id_bytes(&first), THING, &status);
    if (thing == NULL)
        return status;
    thing->is_red = true;
    return imp_message_put(tx, things, imp_id_bytes(&first), thing);
}

static void test_a_change_keeps_what_it_does_not_know(void **state)
{
    (void)state;
    imp_status status;
    write_with(put_newer, IMP_OK);
    write_with(redden, IMP_OK);
    imp_tx *tx = reading();
    const Imprimatur__Tests__NewerThing *thing =
        imp_message_get(tx, things, imp_id_bytes(&first), NEWER, &status);
    assert_non_null(thing);
    assert_int_equal(status, IMP_OK);
    assert_true(thing->is_red);
    assert_string_equal(thing->colour, "blue");
    assert_int_equal(thing->n_parts, 1);
    assert_true(imp_id_equal(imp_id_of_field(thing->id), first));
    assert_null(imp_message_get(tx, things, imp_id_bytes(&second), NEWER, &status));
    assert_int_equal(status, IMP_NOT_FOUND);
    imp_store_read_end(tx);
}

static void test_bytes_that_are_no_message_are_corrupt(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } wrong[] = {
        {"\x0a\x05x", 3},        /* a string that is longer than the record */
        {"\x02\x00", 2},         /* field number 0 */
        {"\x22\x02\x02\x00", 4}, /* the same in a part */
        {"\x2a\x02\x02\x00", 4}, /* the same in the first part */
        {"\xff\xff\xff\xff", 4},
    };
    imp_tx *tx = reading();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_null(imp_message_decode(tx, THING, (imp_bytes){wrong[i].bytes, wrong[i].length}));
    assert_non_null(imp_message_decode(tx, THING, (imp_bytes){"", 0}));
    imp_store_read_end(tx);

    imp_status status;
    write_with(put_newer, IMP_OK);
    module_fixture_damage(&fixture, things, imp_id_bytes(&first));
    tx = reading();
    assert_null(imp_message_get(tx, things, imp_id_bytes(&first), THING, &status));
    assert_int_equal(status, IMP_CORRUPT);
    imp_store_read_end(tx);
}

static imp_status put_too_much(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    static uint8_t bytes[IMP_VALUE_MAX];
    Imprimatur__Tests__Thing thing = IMPRIMATUR__TESTS__THING__INIT;
    thing.id = (ProtobufCBinaryData){sizeof bytes, bytes};
    return imp_message_put(tx, things, imp_id_bytes(&first), &thing);
}

static void test_a_record_has_a_bound(void **state)
{
    (void)state;
    write_with(put_too_much, IMP_LIMIT);
}

/* ---- index rows ---- */

static imp_status index_rows(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    const imp_bytes a = {"a", 1}, b = {"b", 1};
    imp_id id;
    assert_int_equal(imp_index_get(tx, names, a, &id), IMP_NOT_FOUND);
    assert_int_equal(imp_index_add(tx, names, a, &first), IMP_OK);
    assert_int_equal(imp_index_add(tx, names, a, &first), IMP_OK);
    assert_int_equal(imp_index_add(tx, names, a, &second), IMP_EXISTS);
    assert_int_equal(imp_index_get(tx, names, a, &id), IMP_OK);
    assert_true(imp_id_equal(id, first));
    assert_int_equal(imp_index_remove(tx, names, a, &second), IMP_OK); /* not its own */
    assert_int_equal(imp_index_get(tx, names, a, &id), IMP_OK);
    assert_int_equal(imp_index_remove(tx, names, a, &first), IMP_OK);
    assert_int_equal(imp_index_get(tx, names, a, &id), IMP_NOT_FOUND);
    assert_int_equal(imp_index_remove(tx, names, a, &first), IMP_OK);
    assert_int_equal(imp_tx_put(tx, names, b, (imp_bytes){"short", 5}), IMP_OK);
    assert_int_equal(imp_index_get(tx, names, b, &id), IMP_CORRUPT);
    assert_int_equal(imp_index_add(tx, names, b, &first), IMP_CORRUPT);
    return IMP_OK;
}

static void test_an_index_row_belongs_to_one_record(void **state)
{
    (void)state;
    write_with(index_rows, IMP_OK);
}

static imp_status find_rows(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    const imp_bytes none = {NULL, 0}, name = {"hash of a name", 14};
    char text[IMP_ID_TEXT_SIZE];
    imp_id id;
    imp_status status = imp_index_add(tx, names, name, &first);
    assert_int_equal(status, IMP_OK);
    assert_int_equal(imp_index_find(tx, things, "a name", names, name, &id), IMP_OK);
    assert_true(imp_id_equal(id, first));
    assert_int_equal(imp_index_find(tx, things, "a name", names, none, &id), IMP_NOT_FOUND);
    /* An id counts when its record is there; else it is a name like others. */
    imp_id_format(second, text);
    assert_int_equal(imp_index_find(tx, things, text, names, none, &id), IMP_NOT_FOUND);
    assert_int_equal(imp_index_find(tx, things, text, names, name, &id), IMP_OK);
    assert_true(imp_id_equal(id, first));
    assert_int_equal(imp_tx_put(tx, things, imp_id_bytes(&second), (imp_bytes){"", 0}), IMP_OK);
    assert_int_equal(imp_index_find(tx, things, text, names, name, &id), IMP_OK);
    assert_true(imp_id_equal(id, second));
    return IMP_OK;
}

static void test_a_record_is_found_by_id_and_by_name(void **state)
{
    (void)state;
    write_with(find_rows, IMP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_change_keeps_what_it_does_not_know, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_that_are_no_message_are_corrupt, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_has_a_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_index_row_belongs_to_one_record, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_is_found_by_id_and_by_name, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
