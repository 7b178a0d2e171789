/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* The key pool: slots come synced, an overwritten secret is gone, damage is told from destruction. */
#include "modules/jobs/key-pool.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t mac_key[KEY_POOL_MAC_KEY] = {42};
static const imp_id store_a = {{1}}, store_b = {{2}};
static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test-key-pool-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/key-pool", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char temporary[112];
    snprintf(temporary, sizeof temporary, "%s.new", path);
    unlink(temporary);
    unlink(path);
    return rmdir(folder);
}

static void open_pool(struct key_pool *pool, imp_id store)
{
    imp_error error;
    imp_status status = key_pool_open(&spool_io_system, path, store, mac_key, pool, &error);
    if (status != IMP_OK)
        fail_msg("%s", error.message);
}

static void change_byte(off_t place)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, place), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, place), 1);
    close(fd);
}

static void slots_come_back_after_reopening(void **state)
{
    struct key_pool pool;
    struct key_slot before[4], after;

    (void)state;
    open_pool(&pool, store_a);
    uint64_t number = pool.number;
    assert_int_equal(pool.slot_count, 0);
    assert_int_equal(key_pool_grow(&pool, 1500, NULL), IMP_OK);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(key_pool_get(&pool, i * 499, &before[i], NULL), IMP_OK);
    assert_memory_not_equal(before[0].secret, before[1].secret, KEY_SLOT_SECRET);
    key_pool_close(&pool);
    open_pool(&pool, store_a);
    assert_int_equal(pool.number, number);
    assert_int_equal(pool.slot_count, 1500);
    assert_false(pool.was_renewed);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(key_pool_get(&pool, i * 499, &after, NULL), IMP_OK);
        assert_memory_equal(after.secret, before[i].secret, KEY_SLOT_SECRET);
        assert_int_equal(after.generation, 1);
    }
    assert_int_equal(key_pool_get(&pool, 1500, &after, NULL), IMP_NOT_FOUND);
    key_pool_close(&pool);
}

static bool file_holds(const uint8_t *secret)
{
    static uint8_t bytes[1 << 20];
    int fd = open(path, O_RDONLY);
    ssize_t length = read(fd, bytes, sizeof bytes);
    close(fd);
    return length > 0 && memmem(bytes, (size_t)length, secret, KEY_SLOT_SECRET) != NULL;
}

static void a_renewed_slot_has_lost_its_secret(void **state)
{
    struct key_pool pool;
    struct key_slot before, renewed, after;

    (void)state;
    open_pool(&pool, store_a);
    assert_int_equal(key_pool_grow(&pool, 64, NULL), IMP_OK);
    assert_int_equal(key_pool_get(&pool, 7, &before, NULL), IMP_OK);
    assert_true(file_holds(before.secret));
    assert_int_equal(key_pool_renew(&pool, 7, &renewed, NULL), IMP_OK);
    assert_int_equal(key_pool_sync(&pool, NULL), IMP_OK);
    assert_int_equal(key_pool_get(&pool, 7, &after, NULL), IMP_OK);
    assert_int_equal(after.generation, before.generation + 1);
    assert_memory_equal(after.secret, renewed.secret, KEY_SLOT_SECRET);
    assert_false(file_holds(before.secret));
    key_pool_close(&pool);
}

static void every_damaged_byte_of_a_slot_is_seen(void **state)
{
    struct key_pool pool;
    struct key_slot slot;

    (void)state;
    open_pool(&pool, store_a);
    assert_int_equal(key_pool_grow(&pool, 8, NULL), IMP_OK);
    for (off_t at = 0; at < KEY_SLOT_SIZE; at++) {
        off_t place = KEY_POOL_BLOCK + 3 * KEY_SLOT_SIZE + at;
        change_byte(place);
        assert_int_equal(key_pool_get(&pool, 3, &slot, NULL), IMP_CORRUPT);
        assert_int_equal(key_pool_get(&pool, 2, &slot, NULL), IMP_OK);
        change_byte(place);
        assert_int_equal(key_pool_get(&pool, 3, &slot, NULL), IMP_OK);
    }
    key_pool_close(&pool);
}

static void a_slot_does_not_open_at_another_place(void **state)
{
    struct key_pool pool;
    struct key_slot slot;
    uint8_t bytes[KEY_SLOT_SIZE];

    (void)state;
    open_pool(&pool, store_a);
    assert_int_equal(key_pool_grow(&pool, 8, NULL), IMP_OK);
    assert_int_equal(pread(pool.fd, bytes, sizeof bytes, KEY_POOL_BLOCK), (ssize_t)sizeof bytes);
    assert_int_equal(pwrite(pool.fd, bytes, sizeof bytes, KEY_POOL_BLOCK + KEY_SLOT_SIZE),
                     (ssize_t)sizeof bytes);
    assert_int_equal(key_pool_get(&pool, 1, &slot, NULL), IMP_CORRUPT);
    key_pool_close(&pool);
}

static void a_damaged_slot_is_renewed_beyond_all_generations(void **state)
{
    struct key_pool pool;
    struct key_slot slot;

    (void)state;
    open_pool(&pool, store_a);
    assert_int_equal(key_pool_grow(&pool, 8, NULL), IMP_OK);
    change_byte(KEY_POOL_BLOCK + 40); /* its generation */
    assert_int_equal(key_pool_renew(&pool, 0, &slot, NULL), IMP_OK);
    assert_true(slot.generation > UINT64_C(1) << 40);
    assert_int_equal(key_pool_get(&pool, 0, &slot, NULL), IMP_OK);
    key_pool_close(&pool);
}

static void another_store_gets_new_secrets(void **state)
{
    struct key_pool pool;
    struct key_slot before, after;

    (void)state;
    open_pool(&pool, store_a);
    assert_int_equal(key_pool_grow(&pool, 70, NULL), IMP_OK);
    assert_int_equal(key_pool_get(&pool, 69, &before, NULL), IMP_OK);
    key_pool_close(&pool);
    open_pool(&pool, store_b);
    assert_true(pool.was_renewed);
    assert_int_equal(key_pool_get(&pool, 69, &after, NULL), IMP_OK);
    assert_int_equal(after.generation, 2);
    assert_false(file_holds(before.secret));
    key_pool_close(&pool);
    open_pool(&pool, store_b);
    assert_false(pool.was_renewed);
    key_pool_close(&pool);
}

static void foreign_files_are_refused_and_kept(void **state)
{
    struct key_pool pool;
    static const uint8_t other_key[KEY_POOL_MAC_KEY] = {43};

    (void)state;
    open_pool(&pool, store_a);
    key_pool_close(&pool);
    assert_int_equal(key_pool_open(&spool_io_system, path, store_a, other_key, &pool, NULL),
                     IMP_CORRUPT);
    change_byte(0);
    assert_int_equal(key_pool_open(&spool_io_system, path, store_a, mac_key, &pool, NULL),
                     IMP_CORRUPT);
    change_byte(0);
    change_byte(30); /* the store's id */
    assert_int_equal(key_pool_open(&spool_io_system, path, store_a, mac_key, &pool, NULL),
                     IMP_CORRUPT);
    change_byte(30);
    open_pool(&pool, store_a);
    key_pool_close(&pool);
}

/* ---- the disk refuses ---- */

static int failures_left, failure;

static ssize_t failing_pwrite(int fd, const void *data, size_t length, off_t offset)
{
    if (failures_left > 0 && --failures_left == 0) {
        errno = failure;
        return -1;
    }
    return pwrite(fd, data, length > 1000 ? length / 2 : length, offset); /* short ones too */
}

static int failing_sync(int fd)
{
    if (failures_left > 0 && --failures_left == 0) {
        errno = failure;
        return -1;
    }
    return fdatasync(fd);
}

static const struct spool_io failing_io = {
    .pwrite = failing_pwrite, .pread = pread, .fdatasync = failing_sync, .fallocate = fallocate};

static void a_disk_that_refuses_gives_out_no_slot(void **state)
{
    static const int errors[] = {EIO, ENOSPC};
    static const imp_status statuses[] = {IMP_IO, IMP_NO_SPACE};
    struct key_pool pool;
    struct key_slot slot;
    int calls = 0;

    (void)state;
    for (size_t e = 0; e < 2; e++) {
        bool has_grown = false;
        for (int nth = 1; !has_grown; nth++) {
            unlink(path);
            failures_left = 0;
            assert_int_equal(key_pool_open(&failing_io, path, store_a, mac_key, &pool, NULL),
                             IMP_OK);
            failures_left = nth;
            failure = errors[e];
            imp_status status = key_pool_grow(&pool, 64, NULL);
            has_grown = status == IMP_OK;
            assert_int_equal(status, has_grown ? IMP_OK : statuses[e]);
            assert_int_equal(pool.slot_count, has_grown ? 64 : 0);
            calls += has_grown ? 0 : 1;
            failures_left = 0;
            if (has_grown) {
                failures_left = 1;
                assert_int_equal(key_pool_renew(&pool, 1, &slot, NULL), statuses[e]);
                assert_int_equal(key_pool_get(&pool, 1, &slot, NULL), IMP_OK);
                assert_int_equal(slot.generation, 1);
            }
            key_pool_close(&pool);
        }
    }
    assert_true(calls > 4);
}

static void a_wrong_path_is_no_failing_disk(void **state)
{
    struct key_pool pool;
    char wrong[600];
    (void)state;
    snprintf(wrong, sizeof wrong, "%s/missing/pool", folder);
    assert_int_equal(key_pool_open(&spool_io_system, wrong, store_a, mac_key, &pool, NULL),
                     IMP_INVALID);
    assert_int_equal(key_pool_open(&spool_io_system, folder, store_a, mac_key, &pool, NULL),
                     IMP_INVALID);
    snprintf(wrong, sizeof wrong, "%s/%0500d", folder, 0);
    assert_int_equal(key_pool_open(&spool_io_system, wrong, store_a, mac_key, &pool, NULL),
                     IMP_INVALID);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(key_pool_open(&spool_io_system, path, store_a, mac_key, &pool, NULL),
                     IMP_INVALID);
    const struct {
        int number;
        imp_status status;
    } errors[] = {{EACCES, IMP_DENIED}, {EPERM, IMP_DENIED},    {EROFS, IMP_DENIED},
                  {EIO, IMP_IO},        {ENOSPC, IMP_NO_SPACE}, {EMFILE, IMP_IO}};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        assert_int_equal(spool_io_failed(NULL, errors[i].number, path), errors[i].status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
        IN_FOLDER(slots_come_back_after_reopening),
        IN_FOLDER(a_renewed_slot_has_lost_its_secret),
        IN_FOLDER(every_damaged_byte_of_a_slot_is_seen),
        IN_FOLDER(a_slot_does_not_open_at_another_place),
        IN_FOLDER(a_damaged_slot_is_renewed_beyond_all_generations),
        IN_FOLDER(another_store_gets_new_secrets),
        IN_FOLDER(foreign_files_are_refused_and_kept),
        IN_FOLDER(a_disk_that_refuses_gives_out_no_slot),
        IN_FOLDER(a_wrong_path_is_no_failing_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
