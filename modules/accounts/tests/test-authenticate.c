/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-authenticate.c - many log-ins at one time: what waits is bounded, and guessing beside each other
 * is no way around the locks.
 *
 * Nothing moves but when the loop is turned, so that all attempts stand at the same point.
 */
#include "tests/unit/module-fixture.h"

#include "core/metrics.h"
#include "core/service.h"
#include "core/time.h"
#include "modules/accounts/accounts.h"

#include <imprimatur/module.h>

#define ATTEMPTS_MAX 64

extern const imp_module imp_module_descriptor __asm__("imp_module");

static struct module_fixture fixture;
static struct accounts_conf conf;
static struct accounts *accounts;

/* ---- a stand-in for the audit trail ---- */

static uint32_t audited[IMP_UNAVAILABLE + 1]; /* log-ins by result */
static char last_address[64];

static imp_status audit_append_tx(imp_self *provider, imp_self *caller, imp_tx *tx,
                                  const imp_audit_event *event, imp_error *error)
{
    (void)provider;
    (void)caller;
    (void)tx;
    (void)error;
    assert_string_equal(event->action, "user.login");
    assert_string_equal(event->place_kind, "address");
    snprintf(last_address, sizeof last_address, "%s", event->address);
    audited[event->result]++;
    return IMP_OK;
}

static const imp_audit_v1 audit = {.size = sizeof audit, .append_tx = audit_append_tx};

/* ---- attempts ---- */

static uint32_t answered[IMP_UNAVAILABLE + 1]; /* by status */

static void authenticated(imp_status status, const imp_session *session, const imp_error *error,
                          void *arg)
{
    (void)arg;
    assert_true(status >= 0 && status <= IMP_UNAVAILABLE);
    assert_int_equal(session != NULL, status == IMP_OK);
    if (status == IMP_BUSY)
        assert_non_null(strstr(error->message, "too many log-ins at once"));
    answered[status]++;
}

static void try_password(const char *user, const char *password, const char *address)
{
    const imp_credentials credentials = {
        .size = sizeof credentials, .user_name = user, .password = password, .address = address};
    accounts_authenticate(accounts, &credentials, authenticated, NULL);
}

static void try_card(const char *card, const char *address)
{
    const imp_credentials credentials = {
        .size = sizeof credentials, .card = card, .pin = "0000", .address = address};
    accounts_authenticate(accounts, &credentials, authenticated, NULL);
}

static void expect_answered(imp_status status, uint32_t count)
{
    if (answered[status] != count)
        fail_msg("%u answers are %s, expected %u", answered[status], imp_status_name(status),
                 count);
}

/* ---- life ---- */

static imp_status put_user(imp_tx *tx, void *arg, imp_error *error)
{
    Imprimatur__Accounts__User user = IMPRIMATUR__ACCOUNTS__USER__INIT;
    const imp_id id = {{7}};
    user.id = imp_id_field(&id);
    user.name = (char *)(uintptr_t) "anna";
    user.password = arg;
    return user_put_tx(accounts, tx, NULL, &user, error);
}

static int set_up(void **state)
{
    (void)state;
    imp_error error = {0};
    void *instance = NULL;
    char encoded[ACCOUNTS_PHC_SIZE];
    memset(answered, 0, sizeof answered);
    memset(audited, 0, sizeof audited);
    conf = (struct accounts_conf){.failures_max = 5,
                                  .failures_max_place = 1000,
                                  .lock_time = 60 * IMP_SECOND,
                                  .session_idle = 60 * IMP_SECOND,
                                  .session_max = 600 * IMP_SECOND,
                                  .hash_memory = (int64_t)64 * 1024,
                                  .hash_passes = 1,
                                  .hash_parallel = 1,
                                  .hash_queue = ATTEMPTS_MAX};
    time_freeze_for_test(INT64_C(1795350896) * IMP_SECOND, 1000 * IMP_SECOND);
    module_fixture_open(&fixture, NULL, "accounts", imp_module_descriptor.tables);
    assert_ok(service_offer_for_test(fixture.self, "audit", 1, &audit), error);
    assert_ok(imp_module_descriptor.start(fixture.self, &conf, &instance, &error), error);
    fixture.self->instance = accounts = instance;
    assert_int_equal(secret_hash(&conf, "correct horse", encoded), IMP_OK);
    assert_ok(imp_store_write_sync(fixture.self, put_user, encoded, &error), error);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    imp_module_descriptor.drain(fixture.self, accounts);
    self_end(fixture.self, SELF_CUT);
    module_fixture_settle();
    assert_int_equal(self_pins(fixture.self), 0);
    imp_module_descriptor.stop(fixture.self, accounts);
    module_fixture_end(&fixture);
    metrics_clear();
    time_thaw_for_test();
    return 0;
}

/* ---- the tests ---- */

static void test_a_flood_is_turned_away_at_once_and_counted(void **state)
{
    (void)state;
    conf.hash_queue = 3;
    for (int i = 0; i < 10; i++)
        try_password("anna", "correct horse", "192.0.2.7");
    expect_answered(IMP_BUSY, 6); /* one runs, three wait; nobody else does */
    assert_int_equal(accounts->waiting, 3);
    assert_int_equal(imp_metric_value(accounts->turned_away), 6);
    module_fixture_settle();
    expect_answered(IMP_OK, 4);
    expect_answered(IMP_BUSY, 6);
    assert_int_equal(accounts->waiting + accounts->running, 0);
    try_password("anna", "correct horse", "192.0.2.7"); /* the queue is free again */
    module_fixture_settle();
    expect_answered(IMP_OK, 5);
    assert_int_equal(audited[IMP_OK], 5);
    assert_int_equal(audited[IMP_BUSY], 0); /* the trail can't be flooded */
}

static void test_being_turned_away_is_no_failure_of_the_user(void **state)
{
    (void)state;
    conf.hash_queue = 0;
    for (int i = 0; i < 20; i++)
        try_password("anna", "wrong", "192.0.2.7");
    module_fixture_settle();
    expect_answered(IMP_BUSY, 19);
    expect_answered(IMP_DENIED, 1);
    try_password("anna", "correct horse", "192.0.2.7");
    module_fixture_settle();
    expect_answered(IMP_OK, 1);
}

static void test_no_more_verifications_run_than_may(void **state)
{
    (void)state;
    conf.hash_parallel = 4;
    for (int i = 0; i < 10; i++)
        try_password("anna", "correct horse", "192.0.2.7");
    assert_int_equal(accounts->running, 4);
    assert_int_equal(accounts->waiting, 6);
    module_fixture_settle();
    expect_answered(IMP_OK, 10);
}

static void test_guesses_beside_each_other_do_not_pass_the_lock(void **state)
{
    (void)state;
    conf.hash_parallel = 8;
    for (int i = 0; i < 20; i++)
        try_password("anna", "wrong", "192.0.2.7");
    try_password("anna", "correct horse", "192.0.2.8"); /* right, and too late */
    module_fixture_settle();
    expect_answered(IMP_DENIED, 5);
    expect_answered(IMP_LIMIT, 16);
    assert_int_equal(imp_metric_value(accounts->lockouts), 1);
    assert_int_equal(audited[IMP_DENIED] + audited[IMP_LIMIT], 21);
    time_advance_for_test(61 * IMP_SECOND);
    try_password("anna", "correct horse", "192.0.2.8");
    module_fixture_settle();
    expect_answered(IMP_OK, 1);
    assert_string_equal(last_address, "192.0.2.8");
}

static void test_many_cards_from_one_place_lock_the_place_alone(void **state)
{
    (void)state;
    char card[16];
    conf.hash_parallel = 8;
    conf.failures_max_place = 7;
    for (int i = 0; i < 20; i++) {
        snprintf(card, sizeof card, "%08x", i);
        try_card(card, "192.0.2.7");
    }
    module_fixture_settle();
    expect_answered(IMP_DENIED, 7);
    expect_answered(IMP_LIMIT, 13);
    try_password("anna", "correct horse", "192.0.2.7");
    module_fixture_settle();
    expect_answered(IMP_LIMIT, 14);
    try_password("anna", "correct horse", "192.0.2.8");
    module_fixture_settle();
    expect_answered(IMP_OK, 1);
}

static void test_what_waits_at_the_end_is_answered(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        try_password("anna", "correct horse", "192.0.2.7");
    imp_module_descriptor.drain(fixture.self, accounts);
    time_advance_for_test(IMP_SECOND); /* and no worker has come by */
    module_fixture_settle();
    /* The one that ran goes to its end; tear_down sees that nothing is held any more. */
    expect_answered(IMP_UNAVAILABLE, 9);
    expect_answered(IMP_OK, 1);
    assert_int_equal(accounts->waiting + accounts->running, 0);
}

static uint64_t rows(imp_table *table)
{
    imp_tx *tx;
    imp_error error = {0};
    uint64_t count = 0;
    assert_ok(imp_store_read_begin(fixture.self, &tx, &error), error);
    assert_int_equal(imp_tx_count(tx, table, &count), IMP_OK);
    imp_store_read_end(tx);
    return count;
}

/* The key of a table's first row. */
static void damage_first(imp_table *table)
{
    imp_tx *tx;
    imp_cursor *cursor;
    imp_bytes key;
    uint8_t copy[IMP_KEY_MAX];
    imp_error error = {0};
    assert_ok(imp_store_read_begin(fixture.self, &tx, &error), error);
    assert_int_equal(imp_cursor_open(tx, table, (imp_bytes){NULL, 0}, &cursor), IMP_OK);
    assert_int_equal(imp_cursor_next(cursor, &key, NULL), IMP_OK);
    memcpy(copy, key.data, key.length);
    size_t length = key.length;
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
    module_fixture_damage(&fixture, table, (imp_bytes){copy, length});
}

static void test_sessions_and_failures_go_when_their_time_is_over(void **state)
{
    (void)state;
    char card[16];
    for (int i = 0; i < 20; i++) {
        snprintf(card, sizeof card, "%08x", i);
        try_card(card, "192.0.2.7");
        try_password("anna", "correct horse", "192.0.2.8");
    }
    module_fixture_settle();
    assert_int_equal(rows(accounts->session), 20);
    assert_int_equal(rows(accounts->failures), 21); /* and the place */
    accounts_sweep(accounts);
    module_fixture_settle();
    assert_int_equal(rows(accounts->session), 20);
    damage_first(accounts->session); /* one that does not read holds up no other */
    damage_first(accounts->failures);
    time_advance_for_test(61 * IMP_SECOND);
    try_password("anna", "correct horse", "192.0.2.8");
    module_fixture_settle();
    accounts_sweep(accounts);
    module_fixture_settle();
    assert_int_equal(rows(accounts->session), 1);
    assert_int_equal(rows(accounts->failures), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_flood_is_turned_away_at_once_and_counted),
        TEST(test_being_turned_away_is_no_failure_of_the_user),
        TEST(test_no_more_verifications_run_than_may),
        TEST(test_guesses_beside_each_other_do_not_pass_the_lock),
        TEST(test_many_cards_from_one_place_lock_the_place_alone),
        TEST(test_what_waits_at_the_end_is_answered),
        TEST(test_sessions_and_failures_go_when_their_time_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
