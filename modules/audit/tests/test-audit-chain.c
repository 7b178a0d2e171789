/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-audit-chain.c - whatever is changed in the trail is found, and named by its first event.
 *
 * The changes are made with the store's keys, as by an intruder who has them: every seal holds, and only
 * the chain can tell.
 */
#include "modules/audit/tests/audit-fixture.h"

#define EVENTS 35 /* with 10 events a checkpoint: 3 checkpoints, and 5 events behind them */

static struct audit_fixture fixture;

/* ---- making a trail ---- */

static imp_status append_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_status status = IMP_OK;
    for (uint64_t i = 0; status == IMP_OK && i < *(uint64_t *)arg; i++) {
        imp_audit_event event = {.size = sizeof event,
                                 .action = "job.release",
                                 .principal = {{1}},
                                 .place_kind = "device",
                                 .place = {{2}},
                                 .object_kind = "job",
                                 .object = {{3, (uint8_t)i}},
                                 .detail = "delegate=yes"};
        status = audit_append_tx(fixture.audit, tx, &event, error);
    }
    return status;
}

static void append(uint64_t count)
{
    assert_int_equal(audit_fixture_write(&fixture, append_in, &count), IMP_OK);
}

static int set_up(void **state)
{
    (void)state;
    audit_fixture_open(&fixture);
    append(EVENTS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    audit_fixture_close(&fixture);
    return 0;
}

static struct audit_verdict expect_holds(void)
{
    struct audit_verdict verdict;
    imp_error error = {0};
    assert_ok(audit_verify(fixture.audit, &verdict, &error), error);
    assert_int_equal(verdict.bad_sequence, 0);
    return verdict;
}

static void expect_breaks(uint64_t event, const char *reason)
{
    struct audit_verdict verdict;
    imp_error error = {0};
    char sentence[64];
    snprintf(sentence, sizeof sentence,
             "the audit trail breaks at event %llu: ", (unsigned long long)event);
    assert_int_equal(audit_verify(fixture.audit, &verdict, &error), IMP_CORRUPT);
    if (verdict.bad_sequence != event || strstr(error.message, sentence) != error.message ||
        strstr(error.message, reason) == NULL)
        fail_msg("expected %s%s, found %s", sentence, reason, error.message);
}

/* ---- changing it ---- */

enum change_kind { FLIP, DROP, SWAP };

struct change {
    enum change_kind kind;
    imp_table *table;
    uint64_t number; /* SWAP: with the next one */
    size_t offset;   /* FLIP */
    size_t length;   /* FLIP: filled in */
};

static imp_bytes copy_of(imp_tx *tx, imp_table *table, uint64_t number, uint8_t key[8])
{
    imp_bytes value;
    audit_key(number, key);
    assert_int_equal(imp_tx_get(tx, table, (imp_bytes){key, 8}, &value), IMP_OK);
    void *copy = imp_tx_alloc(tx, value.length);
    assert_non_null(copy);
    memcpy(copy, value.data, value.length);
    return (imp_bytes){copy, value.length};
}

static imp_status change_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct change *change = arg;
    uint8_t key[8], next_key[8];
    imp_bytes value = copy_of(tx, change->table, change->number, key);
    (void)error;
    change->length = value.length;
    switch (change->kind) {
    case DROP: return imp_tx_delete(tx, change->table, (imp_bytes){key, 8});
    case FLIP:
        ((uint8_t *)(uintptr_t)value.data)[change->offset] ^= 0x20;
        return imp_tx_put(tx, change->table, (imp_bytes){key, 8}, value);
    case SWAP: break;
    }
    imp_bytes next = copy_of(tx, change->table, change->number + 1, next_key);
    imp_status status = imp_tx_put(tx, change->table, (imp_bytes){key, 8}, next);
    return status == IMP_OK ? imp_tx_put(tx, change->table, (imp_bytes){next_key, 8}, value)
                            : status;
}

static size_t change(enum change_kind kind, imp_table *table, uint64_t number, size_t offset)
{
    struct change change = {kind, table, number, offset, 0};
    assert_int_equal(audit_fixture_write(&fixture, change_in, &change), IMP_OK);
    return change.length;
}

/* ---- the tests ---- */

static void test_an_untouched_trail_holds(void **state)
{
    (void)state;
    struct audit_verdict verdict = expect_holds();
    assert_int_equal(verdict.events, EVENTS);
    assert_int_equal(verdict.checkpoints, 3);
    append(5);
    assert_int_equal(expect_holds().checkpoints, 4);
}

static void test_an_empty_trail_holds(void **state)
{
    (void)state;
    struct audit_fixture other;
    struct audit_verdict verdict;
    imp_error error = {0};
    audit_fixture_close(&fixture);
    audit_fixture_open(&other);
    assert_ok(audit_verify(other.audit, &verdict, &error), error);
    assert_int_equal(verdict.events, 0);
    audit_fixture_close(&other);
    audit_fixture_open(&fixture);
}

static void test_every_flipped_byte_is_found(void **state)
{
    (void)state;
    imp_table *events = fixture.audit->chain.event;
    size_t length = change(FLIP, events, 17, 0);
    for (size_t offset = 0; offset < length; offset++) {
        expect_breaks(17, "");
        change(FLIP, events, 17, offset); /* as it was */
        if (offset + 1 < length)
            change(FLIP, events, 17, offset + 1);
    }
    expect_holds();
}

static void test_a_torn_row_is_found(void **state)
{
    (void)state;
    uint8_t key[8];
    audit_key(17, key);
    module_fixture_damage(&fixture.base, fixture.audit->chain.event, (imp_bytes){key, 8});
    expect_breaks(17, "the row's seal does not hold");
}

static void test_a_dropped_event_is_found(void **state)
{
    (void)state;
    change(DROP, fixture.audit->chain.event, 17, 0);
    expect_breaks(17, "the event is missing");
}

static void test_the_first_event_can_not_be_dropped_either(void **state)
{
    (void)state;
    change(DROP, fixture.audit->chain.event, 1, 0);
    expect_breaks(1, "the event is missing");
}

static void test_events_that_changed_places_are_found(void **state)
{
    (void)state;
    change(SWAP, fixture.audit->chain.event, 17, 0);
    expect_breaks(17, "its hash does not follow from the one before");
}

static void test_a_cut_tail_is_found(void **state)
{
    (void)state;
    change(DROP, fixture.audit->chain.event, 35, 0);
    expect_breaks(35, "the end of the trail is cut off");
    change(DROP, fixture.audit->chain.event, 34, 0);
    expect_breaks(34, "the end of the trail is cut off");
}

/* Cuts the tail behind `sequence`, and makes the head fit. */
static imp_status cut_well(imp_tx *tx, void *arg, imp_error *error)
{
    (void)error;
    uint64_t last = *(uint64_t *)arg;
    uint8_t key[8];
    Imprimatur__Audit__Link *link;
    Imprimatur__Audit__Head head = IMPRIMATUR__AUDIT__HEAD__INIT;
    imp_bytes value = copy_of(tx, fixture.audit->chain.event, last, key);
    assert_non_null(audit_event_open(tx, value, &link));
    for (uint64_t i = last + 1; i <= EVENTS; i++) {
        audit_key(i, key);
        assert_int_equal(imp_tx_delete(tx, fixture.audit->chain.event, (imp_bytes){key, 8}),
                         IMP_OK);
    }
    head.sequence = last;
    head.hash = link->hash;
    head.checkpoint = last / 10;
    head.next_checkpoint_sequence = (last / 10 + 1) * 10;
    return imp_message_put(tx, fixture.audit->chain.head, (imp_bytes){"head", 4}, &head);
}

static void test_a_tail_that_was_cut_with_its_head_leaves_a_checkpoint_behind(void **state)
{
    (void)state;
    uint64_t last = 25;
    assert_int_equal(audit_fixture_write(&fixture, cut_well, &last), IMP_OK);
    expect_breaks(30, "the checkpoint behind checkpoint 2 does not match its event");
}

static void test_changed_and_missing_checkpoints_are_found(void **state)
{
    (void)state;
    imp_table *checkpoints = fixture.audit->chain.checkpoint;
    size_t length = change(FLIP, checkpoints, 2, 6); /* in its hash */
    assert_true(length > 6);
    expect_breaks(20, "the checkpoint behind checkpoint 1 does not match its event");
    change(FLIP, checkpoints, 2, 6);
    expect_holds();
    uint8_t key[8];
    audit_key(2, key);
    module_fixture_damage(&fixture.base, checkpoints, (imp_bytes){key, 8});
    expect_breaks(11, "the seal of the checkpoint behind checkpoint 1 does not hold");
    change(DROP, checkpoints, 3, 0);
    expect_breaks(11, "");
}

static void test_missing_checkpoints_are_found(void **state)
{
    (void)state;
    change(DROP, fixture.audit->chain.checkpoint, 3, 0);
    expect_breaks(21, "checkpoints are missing at the end");
    change(DROP, fixture.audit->chain.checkpoint, 1, 0);
    expect_breaks(20, "the checkpoint behind checkpoint 0 does not match");
}

static void test_a_long_trail_is_walked_in_steps(void **state)
{
    (void)state;
    append(UINT64_C(2) * AUDIT_STEP_ROWS);
    assert_int_equal(expect_holds().events, EVENTS + UINT64_C(2) * AUDIT_STEP_ROWS);
    change(DROP, fixture.audit->chain.event, AUDIT_STEP_ROWS + 1, 0);
    expect_breaks(AUDIT_STEP_ROWS + 1, "the event is missing");
}

static void test_many_checkpoints_are_walked_in_steps(void **state)
{
    (void)state;
    fixture.conf.checkpoint_events = 1;
    append(2 * AUDIT_STEP_ROWS); /* one each from event 40 on */
    assert_int_equal(expect_holds().checkpoints, 3 + EVENTS + 2 * AUDIT_STEP_ROWS - 39);
    change(DROP, fixture.audit->chain.checkpoint, AUDIT_STEP_ROWS + 1, 0);
    expect_breaks(AUDIT_STEP_ROWS + 38, "the checkpoint behind checkpoint 2000 does not match");
}

/* ---- a store that was put back as a whole ---- */

static imp_status note_in(imp_tx *tx, void *arg, imp_error *error)
{
    return audit_note_rollback_tx(fixture.audit, tx, *(uint64_t *)arg, error);
}

static void note_rollback(uint64_t remembered)
{
    assert_int_equal(audit_fixture_write(&fixture, note_in, &remembered), IMP_OK);
}

static uint64_t newest_checkpoint(void)
{
    imp_tx *tx;
    imp_error error = {0};
    struct audit_head head;
    assert_ok(imp_store_read_begin(fixture.base.self, &tx, &error), error);
    assert_int_equal(audit_head_read(tx, &fixture.audit->chain, &head), IMP_OK);
    imp_store_read_end(tx);
    return head.checkpoint;
}

static int run(const char *const *words)
{
    struct module_fixture_answer answer = module_fixture_run(words);
    free(answer.frames);
    return answer.exit_status;
}

static void test_a_store_that_was_put_back_fails_until_that_is_accepted(void **state)
{
    (void)state;
    const char *const accept[] = {"audit", "accept", NULL};
    note_rollback(9);
    expect_breaks(EVENTS + 1, "the store was put back as a whole");
    /* What is put back to before this is older than a number that the supervisor will know. */
    assert_int_equal(newest_checkpoint(), 10);
    append(100);
    expect_breaks(EVENTS + 1, "the store was put back as a whole");
    assert_int_equal(run(accept), 0);
    expect_holds();
    uint64_t next = EVENTS + 1 + 100 + 1 + 1;
    note_rollback(newest_checkpoint() + 5);
    note_rollback(newest_checkpoint() + 5);
    expect_breaks(next, "the store was put back as a whole");
    assert_int_equal(run(accept), 0);
    expect_holds();
}

static void test_a_gap_of_checkpoints_is_only_for_a_roll_back(void **state)
{
    (void)state;
    note_rollback(9);
    append(20);
    change(DROP, fixture.audit->chain.checkpoint, 10, 0); /* the roll-back's own */
    expect_breaks(EVENTS + 11, "the checkpoint behind checkpoint 3 does not match its event");
}

static imp_status check_as_backup(imp_error *error)
{
    imp_tx *tx;
    assert_ok(imp_store_read_begin(fixture.base.self, &tx, error), *error);
    imp_status status = audit_check_backup(fixture.base.self, fixture.audit, tx, error);
    imp_store_read_end(tx);
    return status;
}

static void test_a_backup_is_checked_alike_but_a_known_roll_back_is_no_fault_of_it(void **state)
{
    (void)state;
    imp_error error = {0};
    note_rollback(9);
    append(UINT64_C(2) * AUDIT_STEP_ROWS);
    assert_int_equal(check_as_backup(&error), IMP_OK);
    change(DROP, fixture.audit->chain.event, AUDIT_STEP_ROWS + 1, 0);
    assert_int_equal(check_as_backup(&error), IMP_CORRUPT);
    assert_non_null(strstr(error.message, "breaks at event 2001: the event is missing"));
}

static imp_work_token *token;

static void walk_cancelled(void *arg)
{
    struct audit_verdict verdict;
    imp_status *statuses = arg;
    imp_work_cancel(token);
    statuses[0] = audit_verify(fixture.audit, &verdict, NULL);
    statuses[1] = check_as_backup(NULL);
}

static void walk_over(void *arg, bool was_cancelled)
{
    (void)arg;
    assert_false(was_cancelled); /* it ran */
    token = NULL;
}

static void test_a_cancelled_work_walks_no_further(void **state)
{
    (void)state;
    imp_status statuses[2] = {IMP_OK, IMP_OK};
    token = imp_work(fixture.base.self, walk_cancelled, walk_over, statuses);
    assert_non_null(token);
    module_fixture_settle();
    assert_null(token);
    assert_int_equal(statuses[0], IMP_UNAVAILABLE);
    assert_int_equal(statuses[1], IMP_UNAVAILABLE);
}

static void test_an_event_of_words_that_are_none_is_refused(void **state)
{
    (void)state;
    imp_error error = {0};
    imp_tx *tx;
    assert_ok(imp_store_read_begin(fixture.base.self, &tx, &error), error);
    char longest[AUDIT_DETAIL_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const imp_audit_event wrong[] = {
        {.size = sizeof wrong[0], .action = NULL},
        {.size = sizeof wrong[0], .action = ""},
        {.size = sizeof wrong[0], .action = "Job release"},
        {.size = sizeof wrong[0], .action = "job.release", .place_kind = "192.0.2.7"},
        {.size = sizeof wrong[0], .action = "job.release", .object_kind = "j\n"},
        {.size = sizeof wrong[0], .action = "job.release", .detail = "\xff"},
        {.size = sizeof wrong[0], .action = "job.release", .detail = longest},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(audit_append_tx(fixture.audit, tx, &wrong[i], &error), IMP_INVALID);
    imp_store_read_end(tx);
    expect_holds();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_untouched_trail_holds),
        TEST(test_an_empty_trail_holds),
        TEST(test_every_flipped_byte_is_found),
        TEST(test_a_torn_row_is_found),
        TEST(test_a_dropped_event_is_found),
        TEST(test_the_first_event_can_not_be_dropped_either),
        TEST(test_events_that_changed_places_are_found),
        TEST(test_a_cut_tail_is_found),
        TEST(test_a_tail_that_was_cut_with_its_head_leaves_a_checkpoint_behind),
        TEST(test_changed_and_missing_checkpoints_are_found),
        TEST(test_missing_checkpoints_are_found),
        TEST(test_a_long_trail_is_walked_in_steps),
        TEST(test_many_checkpoints_are_walked_in_steps),
        TEST(test_a_cancelled_work_walks_no_further),
        TEST(test_a_store_that_was_put_back_fails_until_that_is_accepted),
        TEST(test_a_gap_of_checkpoints_is_only_for_a_roll_back),
        TEST(test_a_backup_is_checked_alike_but_a_known_roll_back_is_no_fault_of_it),
        TEST(test_an_event_of_words_that_are_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
