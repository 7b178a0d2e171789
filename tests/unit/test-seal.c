/* SPDX-License-Identifier: Apache-2.0 */
/* test-seal.c - a sealed value opens where it was sealed, whole and unchanged, and nowhere else. */
#include "tests/unit/store-fixture.h"

#include <pthread.h>
#include <sys/wait.h>

#include "core/seal.h"

#define TEXT "the quick brown fox jumps over the lazy dog"
#define SEALED_SIZE (sizeof TEXT + SEAL_OVERHEAD)

static struct keyring *ring;
static const imp_bytes plain = {TEXT, sizeof TEXT};

static imp_status forget_record(void *arg, const struct keys_record *record, imp_error *error)
{
    (void)arg;
    (void)record;
    (void)error;
    return IMP_OK;
}

static int set_up(void **state)
{
    (void)state;
    imp_error error;
    return keyring_make(fixture_master, forget_record, NULL, &ring, &error) == IMP_OK &&
                   keyring_salt_new(ring, &error) == IMP_OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    keyring_close(ring);
    seal_forget();
    return 0;
}

static struct seal_scope scope(const char *name, uint32_t number)
{
    return (struct seal_scope){ring, name, number};
}

static void test_sealed_value_opens(void **state)
{
    (void)state;
    const struct seal_scope table = scope("test.a", 1);
    uint8_t sealed[SEALED_SIZE], opened[sizeof TEXT];
    assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed), IMP_OK);
    assert_null(memmem(sealed, sizeof sealed, "quick", 5));
    assert_int_equal(seal_key_id((imp_bytes){sealed, sizeof sealed}), 1);
    assert_int_equal(
        seal_open(&table, fixture_text("key"), (imp_bytes){sealed, sizeof sealed}, opened), IMP_OK);
    assert_memory_equal(opened, TEXT, sizeof TEXT);
    /* An empty value has a seal, too. */
    assert_int_equal(seal_value(&table, fixture_text("key"), (imp_bytes){NULL, 0}, sealed), IMP_OK);
    assert_int_equal(
        seal_open(&table, fixture_text("key"), (imp_bytes){sealed, SEAL_OVERHEAD}, opened), IMP_OK);
}

static void test_moved_value_does_not_open(void **state)
{
    (void)state;
    const struct seal_scope table = scope("test.a", 1);
    const struct seal_scope other = scope("test.b", 2);
    uint8_t sealed[SEALED_SIZE], opened[sizeof TEXT];
    const imp_bytes all = {sealed, sizeof sealed};
    assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed), IMP_OK);
    assert_int_equal(seal_open(&table, fixture_text("kez"), all, opened), IMP_CORRUPT);
    assert_int_equal(seal_open(&table, fixture_text("ke"), all, opened), IMP_CORRUPT);
    assert_int_equal(seal_open(&other, fixture_text("key"), all, opened), IMP_CORRUPT);
    static const uint8_t zeros[sizeof TEXT];
    assert_memory_equal(opened, zeros, sizeof zeros);
}

static void test_every_changed_bit_and_every_cut_is_noticed(void **state)
{
    (void)state;
    const struct seal_scope table = scope("test.a", 1);
    uint8_t sealed[SEALED_SIZE], opened[sizeof TEXT];
    assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed), IMP_OK);
    for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(
            seal_open(&table, fixture_text("key"), (imp_bytes){sealed, sizeof sealed}, opened),
            IMP_CORRUPT);
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t length = 0; length < sizeof sealed; length++) {
        assert_int_equal(
            seal_open(&table, fixture_text("key"), (imp_bytes){sealed, length}, opened),
            IMP_CORRUPT);
    }
    assert_int_equal(
        seal_open(&table, fixture_text("key"), (imp_bytes){sealed, sizeof sealed}, opened), IMP_OK);
}

static void test_values_under_older_keys_still_open(void **state)
{
    (void)state;
    const struct seal_scope table = scope("test.a", 1);
    uint8_t sealed[4][SEALED_SIZE], opened[sizeof TEXT];
    imp_error error = {.status = IMP_OK};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed[i]), IMP_OK);
        assert_ok(keyring_salt_new(ring, &error), error);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(
            seal_open(&table, fixture_text("key"), (imp_bytes){sealed[i], SEALED_SIZE}, opened),
            IMP_OK);
        assert_int_equal(seal_key_id((imp_bytes){sealed[i], SEALED_SIZE}),
                         seal_key_id((imp_bytes){sealed[0], SEALED_SIZE}) + i);
    }
}

static void test_tables_that_share_a_slot_do_not_mix(void **state)
{
    (void)state;
    /* More tables than a thread keeps contexts for. */
    enum { TABLES = 300 };
    static uint8_t sealed[TABLES][SEALED_SIZE];
    uint8_t opened[sizeof TEXT];
    char name[32];
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < TABLES; i++) {
            snprintf(name, sizeof name, "test.t%u", i);
            const struct seal_scope table = scope(name, i);
            assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed[i]), IMP_OK);
        }
        for (uint32_t i = 0; i < TABLES; i++) {
            snprintf(name, sizeof name, "test.t%u", i);
            const struct seal_scope table = scope(name, i);
            assert_int_equal(
                seal_open(&table, fixture_text("key"), (imp_bytes){sealed[i], SEALED_SIZE}, opened),
                IMP_OK);
        }
    }
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, SEAL_NONCE_SIZE);
}

static void test_no_nonce_comes_twice_and_a_child_draws_its_own(void **state)
{
    (void)state;
    enum { EACH = 2000, ALL = 2 * EACH };
    static uint8_t nonces[ALL][SEAL_NONCE_SIZE];
    const struct seal_scope table = scope("test.a", 1);
    uint8_t sealed[SEALED_SIZE];
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed), IMP_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    for (size_t i = 0; i < EACH; i++) {
        if (seal_value(&table, fixture_text("key"), plain, sealed) != IMP_OK) {
            _exit(1);
        }
        memcpy(nonces[i], sealed + SEAL_KEY_ID_SIZE, SEAL_NONCE_SIZE);
        if (child == 0 && write(ends[1], nonces[i], SEAL_NONCE_SIZE) != (ssize_t)SEAL_NONCE_SIZE) {
            _exit(1);
        }
    }
    if (child == 0) {
        _exit(0);
    }
    close(ends[1]);
    for (size_t i = EACH; i < ALL; i++) {
        assert_int_equal(read(ends[0], nonces[i], SEAL_NONCE_SIZE), SEAL_NONCE_SIZE);
    }
    close(ends[0]);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    qsort(nonces, ALL, SEAL_NONCE_SIZE, compare_nonces);
    for (size_t i = 1; i < ALL; i++) {
        assert_memory_not_equal(nonces[i - 1], nonces[i], SEAL_NONCE_SIZE);
    }
}

static void *open_often(void *arg)
{
    const struct seal_scope table = scope("test.a", 1);
    uint8_t opened[sizeof TEXT];
    for (int i = 0; i < 1000; i++) {
        if (seal_open(&table, fixture_text("key"), (imp_bytes){arg, SEALED_SIZE}, opened) !=
            IMP_OK) {
            return arg;
        }
    }
    return NULL;
}

static void test_threads_open_side_by_side(void **state)
{
    (void)state;
    const struct seal_scope table = scope("test.a", 1);
    uint8_t sealed[SEALED_SIZE];
    pthread_t threads[4];
    assert_int_equal(seal_value(&table, fixture_text("key"), plain, sealed), IMP_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, open_often, sealed), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *result = sealed;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sealed_value_opens),
        cmocka_unit_test(test_moved_value_does_not_open),
        cmocka_unit_test(test_every_changed_bit_and_every_cut_is_noticed),
        cmocka_unit_test(test_values_under_older_keys_still_open),
        cmocka_unit_test(test_tables_that_share_a_slot_do_not_mix),
        cmocka_unit_test(test_no_nonce_comes_twice_and_a_child_draws_its_own),
        cmocka_unit_test(test_threads_open_side_by_side),
    };
    return cmocka_run_group_tests_name("seal", tests, set_up, tear_down);
}
