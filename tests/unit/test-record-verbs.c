/* SPDX-License-Identifier: Apache-2.0 */
/* test-record-verbs.c - the verbs of a kind of record, with many records and damaged ones. */
#include "tests/unit/module-fixture.h"

#include "core/metrics.h"
#include "core/service.h"

#include <imprimatur/index.h>
#include <imprimatur/message.h>
#include <imprimatur/record-verbs.h>
#include <jansson.h>

#include "tests/unit/thing.pb-c.h"

#define THING (&imprimatur__tests__thing__descriptor)
#define MANY 2500 /* more than two pages */

static const imp_table_spec tables[] = {
    {"thing", 1, 0}, {"name", 1, IMP_TABLE_PLAIN}, {NULL, 0, 0}};

static struct module_fixture fixture;
static imp_table *things, *names;

/* ---- a stand-in for the audit trail ---- */

static char audited[256]; /* "ACTION uid result kind", newest last */

static imp_status audit_append_tx(imp_self *provider, imp_self *caller, imp_tx *tx,
                                  const imp_audit_event *event, imp_error *error)
{
    (void)provider;
    (void)caller;
    (void)error;
    assert_true(imp_tx_is_writing(tx));
    assert_false(imp_id_is_zero(event->object));
    size_t used = strlen(audited);
    snprintf(audited + used, sizeof audited - used, "%s/%s/%u/%s ", event->action,
             event->object_kind, (unsigned)event->actor_uid, event->place_kind);
    return IMP_OK;
}

static const imp_audit_v1 audit = {.size = sizeof audit, .append_tx = audit_append_tx};

/* ---- things ---- */

struct thing_change {
    imp_record_change base;
    bool has_red, is_red;
};

static imp_table *thing_table(void *instance)
{
    (void)instance;
    return things;
}

static imp_status thing_find_tx(void *instance, imp_tx *tx, const char *name, imp_id *id)
{
    (void)instance;
    return imp_index_find(tx, things, name, names, (imp_bytes){name, strlen(name)}, id);
}

static imp_status thing_change_tx(void *instance, imp_tx *tx, imp_record_change *base,
                                  imp_error *error)
{
    (void)instance;
    struct thing_change *change = (struct thing_change *)base;
    const imp_bytes key = imp_id_bytes(&base->id), name = fixture_text(base->name);
    Imprimatur__Tests__Thing fresh = IMPRIMATUR__TESTS__THING__INIT, *thing = &fresh;
    imp_status status = IMP_OK;
    if (base->is_add) {
        fresh.id = imp_id_field(&base->id);
        fresh.name = base->name;
        status = imp_index_add(tx, names, name, &base->id);
        if (status == IMP_EXISTS)
            return imp_error_set(error, status, "thing %s is there already", base->name);
    } else if ((thing = imp_message_get(tx, things, key, THING, &status)) == NULL) {
        return imp_error_set(error, status, "thing %s does not read", base->name);
    }
    if (change->has_red)
        thing->is_red = change->is_red;
    if (base->is_remove) {
        status = imp_index_remove(tx, names, fixture_text(thing->name), &base->id);
        if (status == IMP_OK)
            status = imp_tx_delete(tx, things, key);
    } else if (status == IMP_OK) {
        status = imp_message_put(tx, things, key, thing);
    }
    return status == IMP_OK ? imp_record_change_audit_tx(base, tx, "x=1", error) : status;
}

static imp_status thing_row(void *instance, imp_tx *tx, imp_request *request, imp_bytes value,
                            bool is_single)
{
    (void)instance;
    const Imprimatur__Tests__Thing *thing = imp_message_decode(tx, THING, value);
    if (thing == NULL)
        return IMP_CORRUPT;
    imp_row_begin(request, is_single);
    imp_field_text(request, "name", thing->name);
    imp_field_bool(request, "red", thing->is_red);
    return IMP_OK;
}

static const imp_record_kind thing_kind = {.size = sizeof(imp_record_kind),
                                           .noun = "thing",
                                           .argument = "THING",
                                           .table = thing_table,
                                           .find_tx = thing_find_tx,
                                           .change_tx = thing_change_tx,
                                           .row = thing_row};

static void change(imp_self *self, imp_request *request, const char *action)
{
    imp_error error = {0};
    struct thing_change *thing = (struct thing_change *)imp_record_change_begin(
        self, request, &thing_kind, action, sizeof *thing);
    if (thing == NULL)
        return;
    imp_status status = imp_request_switch(request, "red", &thing->has_red, &thing->is_red, &error);
    if (status == IMP_OK)
        imp_record_change_write(&thing->base);
    else
        imp_record_change_end(&thing->base, status, &error);
}

static void verb_add(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    change(self, request, "add");
}

static void verb_set(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    change(self, request, "set");
}

static void verb_remove(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    change(self, request, "remove");
}

static void verb_show(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_show(self, request, &thing_kind);
}

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_list(self, request, &thing_kind);
}

#define VERB(words_, arguments_, options_, run_)                                                   \
    {                                                                                              \
        .size = sizeof(imp_verb_spec), .words = (words_), .arguments = (arguments_),               \
        .options = (options_), .help = "for tests", .run = (run_)                                  \
    }
static const imp_verb_spec verbs[] = {
    VERB("thing add", "THING", "red=YES|NO", verb_add),
    VERB("thing set", "THING", "red=YES|NO", verb_set),
    VERB("thing remove", "THING", "", verb_remove),
    VERB("thing show", "THING", "", verb_show),
    VERB("thing list", "", IMP_RECORD_LIST_OPTIONS, verb_list),
};

static int set_up(void **state)
{
    (void)state;
    imp_error error = {0};
    module_fixture_open(&fixture, NULL, "test", tables);
    fixture.self->instance = &fixture; /* no kind's function looks at it */
    things = imp_table_open(fixture.self, "thing");
    names = imp_table_open(fixture.self, "name");
    assert_ok(service_offer_for_test(fixture.self, "audit", 1, &audit), error);
    assert_ok(imp_record_verbs_add(fixture.self, &thing_kind, verbs, sizeof verbs / sizeof *verbs,
                                   &error),
              error);
    audited[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    module_fixture_end(&fixture);
    metrics_clear();
    return 0;
}

/* Runs a verb; its frames together: rows, sentences, and how it ended. */
struct outcome {
    json_t *rows, *said;
    int exit_status;
    char message[IMP_ERROR_MESSAGE_MAX];
};

static struct outcome outcome_of(struct module_fixture_answer answer)
{
    struct outcome outcome = {json_array(), json_array(), answer.exit_status, ""};
    json_t *frames = json_loads(answer.frames, 0, NULL), *frame;
    size_t i;
    json_array_foreach(frames, i, frame)
    {
        json_array_extend(outcome.rows, json_object_get(frame, "rows"));
        if (json_object_get(frame, "say") != NULL)
            json_array_append(outcome.said, json_object_get(frame, "say"));
        const char *message =
            json_string_value(json_object_get(json_object_get(frame, "done"), "message"));
        if (message != NULL)
            snprintf(outcome.message, sizeof outcome.message, "%s", message);
    }
    json_decref(frames);
    free(answer.frames);
    return outcome;
}
#define run(...) outcome_of(module_fixture_verb(__VA_ARGS__))

static void forget(struct outcome *outcome)
{
    json_decref(outcome->rows);
    json_decref(outcome->said);
}

static void expect(struct outcome outcome, int exit_status, const char *message)
{
    if (outcome.exit_status != exit_status || strstr(outcome.message, message) == NULL)
        fail_msg("exit status %d: %s", outcome.exit_status, outcome.message);
    forget(&outcome);
}

static void expect_said(const struct outcome *outcome, size_t index, const char *text)
{
    const char *said = json_string_value(json_array_get(outcome->said, index));
    if (said == NULL || strstr(said, text) == NULL)
        fail_msg("said: %s", said == NULL ? "nothing" : said);
}

static void test_records_are_added_shown_changed_and_removed(void **state)
{
    (void)state;
    struct outcome added = run("thing", "add", "one", "--red", "yes");
    json_t *row = json_array_get(added.rows, 0);
    assert_int_equal(added.exit_status, 0);
    assert_string_equal(json_string_value(json_object_get(row, "name")), "one");
    const char *id = json_string_value(json_object_get(row, "thing"));
    assert_int_equal(strlen(id), 32);
    struct outcome shown = run("thing", "show", id);
    assert_true(json_is_true(json_object_get(json_array_get(shown.rows, 0), "red")));
    forget(&shown);
    expect(run("thing", "set", "one", "--red=no"), 0, "");
    shown = run("thing", "show", "one");
    assert_true(json_is_false(json_object_get(json_array_get(shown.rows, 0), "red")));
    forget(&shown);
    expect(run("thing", "remove", id), 0, "");
    expect(run("thing", "show", "one"), 1, "there is no thing of that name");
    assert_string_equal(
        audited,
        "thing.add/thing/7/control thing.set/thing/7/control thing.remove/thing/7/control ");
    forget(&added);
}

static void test_what_is_wrong_is_refused_and_leaves_no_trace(void **state)
{
    (void)state;
    expect(run("thing", "add", " one"), 2, "a thing's name has 1 to 127 bytes");
    expect(run("thing", "add", ""), 2, "a thing's name has");
    expect(run("thing", "add", "one", "--red=maybe"), 2, "--red: found \"maybe\", expected yes");
    expect(run("thing", "set", "one"), 1, "no thing of that name");
    expect(run("thing", "remove", "one"), 1, "no thing of that name");
    assert_string_equal(audited, "");
    expect(run("thing", "add", "one"), 0, "");
    expect(run("thing", "add", "one"), 1, "already");
    struct outcome listed = run("thing", "list");
    assert_int_equal(json_array_size(listed.rows), 1);
    forget(&listed);
}

/* Big-endian number as id, so that the order is known. */
static imp_id numbered(uint32_t number)
{
    imp_id id = {{(uint8_t)(number >> 8), (uint8_t)number, 1}};
    return id;
}

static imp_status put_many(imp_tx *tx, void *arg, imp_error *error)
{
    (void)error;
    imp_status status = IMP_OK;
    for (uint32_t i = 0; status == IMP_OK && i < *(uint32_t *)arg; i++) {
        char name[16];
        imp_id id = numbered(i);
        Imprimatur__Tests__Thing thing = IMPRIMATUR__TESTS__THING__INIT;
        snprintf(name, sizeof name, "%u", (unsigned)i);
        thing.id = imp_id_field(&id);
        thing.name = name;
        status = imp_message_put(tx, things, imp_id_bytes(&id), &thing);
    }
    return status;
}

static void fill(uint32_t count)
{
    imp_error error = {0};
    assert_ok(imp_store_write_sync(fixture.self, put_many, &count, &error), error);
}

/* The rows are those of first, first + 1, ... */
static void expect_rows(struct outcome outcome, uint32_t first, size_t count, size_t sentences)
{
    assert_int_equal(outcome.exit_status, 0);
    assert_int_equal(json_array_size(outcome.rows), count);
    for (size_t i = 0; i < count; i++) {
        const char *name =
            json_string_value(json_object_get(json_array_get(outcome.rows, i), "name"));
        assert_int_equal(strtoul(name, NULL, 10), first + i);
    }
    assert_int_equal(json_array_size(outcome.said), sentences);
    if (sentences > 0) {
        char text[IMP_ID_TEXT_SIZE], after[64];
        snprintf(after, sizeof after, "thing list --after=%s",
                 imp_id_format(numbered(first + (uint32_t)count - 1), text));
        expect_said(&outcome, 0, after);
    }
    forget(&outcome);
}

static void test_a_long_list_comes_whole_and_by_parts(void **state)
{
    (void)state;
    char text[IMP_ID_TEXT_SIZE];
    expect_rows(run("thing", "list"), 0, 0, 0);
    fill(MANY);
    expect_rows(run("thing", "list"), 0, MANY, 0);
    expect_rows(run("thing", "list", "--limit=10"), 0, 10, 1);
    expect_rows(run("thing", "list", "--limit=1000"), 0, 1000, 1); /* just a page */
    expect_rows(run("thing", "list", "--limit=2500"), 0, MANY, 0);
    imp_id_format(numbered(9), text);
    expect_rows(run("thing", "list", "--limit", "1001", "--after", text), 10, 1001, 1);
    imp_id_format(numbered(MANY - 2), text);
    expect_rows(run("thing", "list", "--limit=5", "--after", text), MANY - 1, 1, 0);
    imp_id_format(numbered(MANY - 1), text);
    expect_rows(run("thing", "list", "--after", text), 0, 0, 0);
    expect(run("thing", "list", "--limit=0"), 2, "expected 1 to 100000");
    expect(run("thing", "list", "--limit=100001"), 2, "expected 1 to 100000");
    expect(run("thing", "list", "--limit=1e3"), 2, "--limit: found");
    expect(run("thing", "list", "--limit=99999999999999999999"), 2, "--limit: found");
    expect(run("thing", "list", "--after=x"), 2, "--after: found");
}

static imp_status put_nonsense(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    imp_id id = numbered(1500);
    imp_status status = imp_tx_put(tx, things, imp_id_bytes(&id), fixture_text("no message"));
    return status == IMP_OK ? imp_tx_put(tx, things, fixture_text("no id"), fixture_text(""))
                            : status;
}

static void test_a_record_that_does_not_read_is_left_out_said_and_counted(void **state)
{
    (void)state;
    imp_error error = {0};
    imp_id torn = numbered(0);
    fill(MANY);
    module_fixture_damage(&fixture, things, imp_id_bytes(&torn));
    assert_ok(imp_store_write_sync(fixture.self, put_nonsense, NULL, &error), error);
    struct outcome outcome = run("thing", "list");
    assert_int_equal(outcome.exit_status, 0);
    assert_int_equal(json_array_size(outcome.rows), MANY - 2);
    assert_int_equal(json_array_size(outcome.said), 1);
    expect_said(&outcome, 0, "do not read: 3 ");
    forget(&outcome);
    imp_metric *metric = imp_metric_register(fixture.self, IMP_METRIC_COUNTER,
                                             "records_unreadable_total", "kind=\"thing\"", "");
    assert_int_equal(imp_metric_value(metric), 3);
    char text[IMP_ID_TEXT_SIZE];
    expect(run("thing", "show", imp_id_format(torn, text)), 1, "does not read (corrupt)");
}

static size_t tried_base, tried_whole; /* sizes that a module was built with */
static uint8_t *tried;

static void verb_try(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_change *change =
        imp_record_change_make(self, request, &thing_kind, "set", tried_base, tried_whole);
    tried = (uint8_t *)change;
    if (change == NULL)
        return;
    assert_int_equal(change->size, tried_base);
    for (size_t i = tried_base; i < tried_whole; i++)
        assert_int_equal(tried[i], 0);
    imp_record_change_end(change, IMP_OK, NULL);
}

static void test_structs_of_other_sizes_are_filled_as_far_as_they_reach_or_refused(void **state)
{
    (void)state;
    imp_error error = {0};
    const imp_verb_spec verb = VERB("thing try", "THING", "", verb_try);
    assert_ok(imp_record_verbs_add(fixture.self, &thing_kind, &verb, 1, &error), error);
    tried_whole = 2 * sizeof(imp_record_change);
    for (tried_base = offsetof(imp_record_change, name) + IMP_NAME_MAX; tried_base <= tried_whole;
         tried_base += 8) {
        expect(run("thing", "try", "one"), 0, "");
        assert_non_null(tried);
    }
    expect(run("thing", "try", "one"), 2, "wrong size"); /* larger than what it lies in */
    tried_base = offsetof(imp_record_change, name) + IMP_NAME_MAX - 1;
    expect(run("thing", "try", "one"), 2, "wrong size");
    imp_record_kind small = thing_kind;
    small.size = offsetof(imp_record_kind, row);
    assert_int_equal(imp_record_verbs_add(fixture.self, &small, NULL, 0, &error), IMP_INVALID);
}

static void verb_number(imp_self *self, void *instance, imp_request *request)
{
    imp_error error = {0};
    int64_t number = 0;
    (void)self;
    (void)instance;
    imp_status status =
        imp_request_number(request, "number", INT64_MIN, INT64_MAX, &number, &error);
    if (status == IMP_OK) {
        imp_row_begin(request, true);
        imp_field_printf(request, "number", "%lld", (long long)number);
    }
    imp_request_finish(request, status, &error);
}

static void test_a_number_that_is_too_large_is_not_taken_for_the_largest(void **state)
{
    (void)state;
    imp_error error = {0};
    const imp_verb_spec verb = VERB("thing count", "", "number=N", verb_number);
    assert_ok(imp_record_verbs_add(fixture.self, &thing_kind, &verb, 1, &error), error);
    struct outcome outcome = run("thing", "count", "--number=9223372036854775807");
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(outcome.rows, 0), "number")),
        "9223372036854775807");
    forget(&outcome);
    expect(run("thing", "count", "--number=9223372036854775808"), 2, "--number: found");
    expect(run("thing", "count", "--number=-9223372036854775809"), 2, "--number: found");
}

static void test_a_server_that_stops_ends_a_listing(void **state)
{
    (void)state;
    struct module_fixture_answer answer = {NULL, -1};
    const char *const words[] = {"thing", "list"};
    fill(10);
    control_run_for_test(words, 2, 7, module_fixture_answered, &answer);
    self_end(fixture.self, SELF_CUT); /* before a worker takes it */
    module_fixture_settle();
    assert_non_null(answer.frames);
    expect(outcome_of(answer), 1, "stopping");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records_are_added_shown_changed_and_removed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_wrong_is_refused_and_leaves_no_trace, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_list_comes_whole_and_by_parts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_record_that_does_not_read_is_left_out_said_and_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_structs_of_other_sizes_are_filled_as_far_as_they_reach_or_refused, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_number_that_is_too_large_is_not_taken_for_the_largest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_server_that_stops_ends_a_listing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
