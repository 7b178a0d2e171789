/* SPDX-License-Identifier: Apache-2.0 */
/* test-keys.c - the master key's file and the key ring. */
#include "tests/unit/store-fixture.h"

#include "core/keys.h"

#include <errno.h>

/* ---- the file ---- */

static void test_key_file_is_made_once_and_read_again(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[256];
    uint8_t first[KEYS_MASTER_SIZE], second[KEYS_MASTER_SIZE];
    struct stat about;
    imp_error error = {.status = IMP_OK};
    snprintf(path, sizeof path, "%s/keys/master.key", folder);
    assert_ok(keys_master_load_or_make(path, true, first, &error), error);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0400);
    assert_int_equal(about.st_size, KEYS_MASTER_SIZE);
    assert_ok(keys_master_load_or_make(path, true, second, &error), error);
    assert_memory_equal(first, second, sizeof first);
    fixture_end(folder);
}

static void test_missing_key_is_not_made_when_a_store_needs_it(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[256];
    uint8_t master[KEYS_MASTER_SIZE];
    imp_error error;
    snprintf(path, sizeof path, "%s/master.key", folder);
    assert_int_equal(keys_master_load_or_make(path, false, master, &error), IMP_NOT_FOUND);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(access(path, F_OK), -1);
    fixture_end(folder);
}

static void write_file(const char *path, size_t length, mode_t mode)
{
    static const uint8_t zeros[64];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, zeros, length), (ssize_t)length);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void test_bad_key_files_are_refused(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[256], link[256];
    uint8_t master[KEYS_MASTER_SIZE];
    imp_error error;
    snprintf(path, sizeof path, "%s/master.key", folder);
    snprintf(link, sizeof link, "%s/link.key", folder);
    write_file(path, KEYS_MASTER_SIZE, 0440);
    assert_int_equal(keys_master_load_or_make(path, true, master, &error), IMP_DENIED);
    write_file(path, KEYS_MASTER_SIZE - 1, 0400);
    assert_int_equal(keys_master_load_or_make(path, true, master, &error), IMP_CORRUPT);
    write_file(path, KEYS_MASTER_SIZE, 0400);
    assert_int_equal(symlink(path, link), 0);
    assert_int_not_equal(keys_master_load_or_make(link, true, master, &error), IMP_OK);
    assert_int_equal(keys_master_load_or_make(folder, true, master, &error), IMP_INVALID);
    assert_int_equal(keys_master_load_or_make("master.key", true, master, &error), IMP_INVALID);
    fixture_end(folder);
}

static void test_key_travels_in_a_sealed_memfd(void **state)
{
    (void)state;
    uint8_t master[KEYS_MASTER_SIZE];
    imp_error error = {.status = IMP_OK};
    int fd = keys_master_to_memfd(fixture_master);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_ok(keys_master_from_memfd(fd, master, &error), error);
    assert_memory_equal(master, fixture_master, sizeof master);
    assert_int_equal(fcntl(fd, F_GETFD), -1);

    int other = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(keys_master_from_memfd(other, master, &error), IMP_INVALID);
}

/* ---- the ring ---- */

#define RECORDS_MAX 16
struct table {
    struct keys_record records[RECORDS_MAX];
    size_t count;
};

static imp_status keep(void *arg, const struct keys_record *record, imp_error *error)
{
    struct table *table = arg;
    (void)error;
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->records[i].name, record->name) == 0) {
            table->records[i] = *record;
            return IMP_OK;
        }
    }
    assert_true(table->count < RECORDS_MAX);
    table->records[table->count++] = *record;
    return IMP_OK;
}

static struct keyring *make_ring(struct table *table)
{
    struct keyring *ring = NULL;
    imp_error error = {.status = IMP_OK};
    assert_ok(keyring_make(fixture_master, keep, table, &ring, &error), error);
    assert_ok(keyring_salt_new(ring, &error), error);
    assert_ok(keyring_salt_write(ring, keep, table, &error), error);
    return ring;
}

static imp_status open_ring(const struct table *table, const uint8_t *master, struct keyring **ring,
                            imp_error *error)
{
    imp_status status = keyring_open_begin(ring, error);
    for (size_t i = table->count; status == IMP_OK && i > 0; i--) { /* any order */
        const struct keys_record *record = &table->records[i - 1];
        status = keyring_open_add(*ring, record->name, (imp_bytes){record->value, record->length},
                                  error);
    }
    return status == IMP_OK ? keyring_open_end(*ring, master, error) : status;
}

static void test_ring_opens_with_its_master_key(void **state)
{
    (void)state;
    struct table table = {.count = 0};
    struct keyring *ring = make_ring(&table);
    struct keyring *again = NULL;
    uint8_t first[32], second[32];
    imp_error error = {.status = IMP_OK};
    assert_ok(open_ring(&table, fixture_master, &again, &error), error);
    assert_int_equal(keyring_current_id(again), 1);
    assert_ok(keyring_table_key(ring, "test.a", 1, first), error);
    assert_ok(keyring_table_key(again, "test.a", 1, second), error);
    assert_memory_equal(first, second, sizeof first);
    keyring_keyed_hash(ring, "accounts", "card", fixture_text("1234"), first);
    keyring_keyed_hash(again, "accounts", "card", fixture_text("1234"), second);
    assert_memory_equal(first, second, sizeof first);
    keyring_close(ring);
    keyring_close(again);
}

static void test_wrong_master_key_is_refused(void **state)
{
    (void)state;
    struct table table = {.count = 0};
    keyring_close(make_ring(&table));
    uint8_t wrong[KEYS_MASTER_SIZE];
    struct keyring *ring = NULL;
    imp_error error;
    memcpy(wrong, fixture_master, sizeof wrong);
    wrong[5] ^= 1;
    assert_int_equal(open_ring(&table, wrong, &ring, &error), IMP_DENIED);
    keyring_close(ring);
}

static void test_damaged_key_records_are_noticed(void **state)
{
    (void)state;
    struct table table = {.count = 0};
    keyring_close(make_ring(&table));
    for (size_t i = 0; i < table.count; i++) {
        if (strncmp(table.records[i].name, "salt", 4) == 0) {
            continue; /* any salt is a salt; the seals under it tell */
        }
        for (uint32_t at = 0; at < table.records[i].length; at++) {
            struct table damaged = table;
            struct keyring *ring = NULL;
            imp_error error;
            damaged.records[i].value[at] ^= 0x40;
            assert_int_not_equal(open_ring(&damaged, fixture_master, &ring, &error), IMP_OK);
            keyring_close(ring);
        }
        struct table cut = table;
        struct keyring *ring = NULL;
        imp_error error;
        cut.records[i] = cut.records[--cut.count];
        assert_int_equal(open_ring(&cut, fixture_master, &ring, &error), IMP_CORRUPT);
        keyring_close(ring);
    }
}

static void test_rewrapping_changes_the_master_key_and_nothing_else(void **state)
{
    (void)state;
    struct table table = {.count = 0};
    struct keyring *ring = make_ring(&table);
    const struct table before = table;
    static const uint8_t other[KEYS_MASTER_SIZE] = "another master key of 32 bytes!";
    imp_error error = {.status = IMP_OK};
    uint8_t first[32], second[32];
    struct keyring *again = NULL;
    char names[3][KEYS_MASTER_NAME_SIZE];
    assert_ok(keyring_table_key(ring, "test.a", 1, first), error);
    keyring_master_name(ring, names[0]);
    assert_ok(keyring_rewrap(ring, other, keep, &table, &error), error);
    assert_int_equal(table.count, before.count);
    /* The records may still be lost with their commit. */
    assert_string_equal(keyring_master_name(ring, names[1]), names[0]);
    keyring_rewrapped(ring, other);
    assert_string_not_equal(keyring_master_name(ring, names[1]), names[0]);
    keyring_close(ring);
    assert_int_equal(open_ring(&table, fixture_master, &again, &error), IMP_DENIED);
    keyring_close(again);
    assert_ok(open_ring(&table, other, &again, &error), error);
    assert_string_equal(keyring_master_name(again, names[2]), names[1]);
    assert_ok(keyring_table_key(again, "test.a", 1, second), error);
    assert_memory_equal(first, second, sizeof first);
    keyring_close(again);
}

static void test_keys_differ_by_table_salt_module_and_purpose(void **state)
{
    (void)state;
    struct table table = {.count = 0};
    struct keyring *ring = make_ring(&table);
    imp_error error = {.status = IMP_OK};
    assert_ok(keyring_salt_new(ring, &error), error);
    uint8_t keys[6][32];
    assert_ok(keyring_table_key(ring, "test.a", 1, keys[0]), error);
    assert_ok(keyring_table_key(ring, "test.a", 2, keys[1]), error);
    assert_ok(keyring_table_key(ring, "test.b", 1, keys[2]), error);
    keyring_keyed_hash(ring, "accounts", "card", fixture_text("1234"), keys[3]);
    keyring_keyed_hash(ring, "accounts", "pin", fixture_text("1234"), keys[4]);
    keyring_keyed_hash(ring, "account", "scard", fixture_text("1234"), keys[5]);
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = i + 1; j < 6; j++) {
            assert_memory_not_equal(keys[i], keys[j], 32);
        }
    }
    assert_int_equal(keyring_table_key(ring, "test.a", 3, keys[0]), IMP_NOT_FOUND);
    keyring_close(ring);
}

static void test_a_new_salt_is_due_after_so_many_seals(void **state)
{
    (void)state;
    struct table table = {.count = 0};
    struct keyring *ring = make_ring(&table);
    assert_false(keyring_count_seals(ring, KEYS_SEALS_MAX - 1));
    assert_true(keyring_count_seals(ring, 1));
    keyring_close(ring);
}

/* RFC 5869 appendix A.1 and A.3, RFC 4231 section 4.3 (test case 2). */
static void test_derivation_gives_the_published_values(void **state)
{
    (void)state;
    uint8_t secret[22], salt[13], info[10], key[42], mac[32];
    memset(secret, 0x0b, sizeof secret);
    for (size_t i = 0; i < sizeof salt; i++) {
        salt[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < sizeof info; i++) {
        info[i] = (uint8_t)(0xf0 + i);
    }
    static const uint8_t first[] = {0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a};
    static const uint8_t third[] = {0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f};
    static const uint8_t hmac[] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e};
    keys_hkdf((imp_bytes){secret, sizeof secret}, (imp_bytes){salt, sizeof salt},
              (imp_bytes){info, sizeof info}, key, sizeof key);
    assert_memory_equal(key, first, sizeof first);
    keys_hkdf((imp_bytes){secret, sizeof secret}, (imp_bytes){NULL, 0}, (imp_bytes){NULL, 0}, key,
              sizeof key);
    assert_memory_equal(key, third, sizeof third);
    const imp_bytes parts[] = {fixture_text("what do ya want "), fixture_text("for nothing?")};
    keys_hmac(fixture_text("Jefe"), parts, 2, mac);
    assert_memory_equal(mac, hmac, sizeof hmac);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_file_is_made_once_and_read_again),
        cmocka_unit_test(test_missing_key_is_not_made_when_a_store_needs_it),
        cmocka_unit_test(test_bad_key_files_are_refused),
        cmocka_unit_test(test_key_travels_in_a_sealed_memfd),
        cmocka_unit_test(test_ring_opens_with_its_master_key),
        cmocka_unit_test(test_wrong_master_key_is_refused),
        cmocka_unit_test(test_damaged_key_records_are_noticed),
        cmocka_unit_test(test_rewrapping_changes_the_master_key_and_nothing_else),
        cmocka_unit_test(test_keys_differ_by_table_salt_module_and_purpose),
        cmocka_unit_test(test_a_new_salt_is_due_after_so_many_seals),
        cmocka_unit_test(test_derivation_gives_the_published_values),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
