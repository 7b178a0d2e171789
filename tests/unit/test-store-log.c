/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-store-log.c - the commit log: what LMDB's pages lost comes back from it, a torn end is left out,
 * and damage is refused rather than gone on from.
 *
 * A child writes and dies. "Nothing of LMDB's reached the disk" is made by putting the data file back
 * as it was when the store had just been opened: that is what its checkpoint holds.
 */
#include "tests/unit/store-fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "core/store-private.h"

#define COMMITS 12

static void path_of(char path[512], const char *folder, const char *name)
{
    snprintf(path, 512, "%s/" STORE_FOLDER "/%s", folder, name);
}

static void copy_file(const char *from, const char *to)
{
    static uint8_t bytes[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t got;
    assert_true(in >= 0 && out >= 0);
    while ((got = read(in, bytes, sizeof bytes)) > 0) {
        assert_int_equal(write(out, bytes, (size_t)got), got);
    }
    assert_int_equal(got, 0);
    close(in);
    close(out);
}

static const char *key_of(int number)
{
    static char key[16];
    snprintf(key, sizeof key, "k%d", number);
    return key;
}

/* One commit: a record, and the one before the last deleted. */
static void commit(struct store *store, imp_table *table, int number)
{
    fixture_put(store, table, key_of(number), "v");
    if (number >= 2) {
        fixture_put(store, table, key_of(number - 2), NULL);
    }
}

static struct store *open_any(const char *folder, imp_status *status, imp_error *error)
{
    struct store *store = NULL;
    const struct store_options options = fixture_options(folder, STORE_INLINE);
    *status = store_open(&options, &store, error);
    return store;
}

/* Writes COMMITS times and dies. The data file is then as it was before the first of them. */
static void write_and_die(const char *folder)
{
    char data[512], before[512];
    int how = 0;
    path_of(data, folder, STORE_FILE);
    path_of(before, folder, "before");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *table = fixture_table(store, "t", 0);
        copy_file(data, before);
        for (int i = 0; i < COMMITS; i++) {
            commit(store, table, i);
        }
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    copy_file(before, data);
}

static void assert_commits(struct store *store, imp_table *table, int count)
{
    for (int i = 0; i < COMMITS; i++) {
        bool is_there = i < count && i >= count - 2;
        fixture_assert(store, table, key_of(i), is_there ? "v" : NULL);
    }
}

/* The file of the log that is written now. */
static void log_path(char path[512], const char *folder)
{
    struct stat about[2];
    char other[512];
    path_of(path, folder, "log.0");
    path_of(other, folder, "log.1");
    assert_int_equal(stat(path, &about[0]), 0);
    assert_int_equal(stat(other, &about[1]), 0);
    bool is_other = about[1].st_mtim.tv_sec > about[0].st_mtim.tv_sec ||
                    (about[1].st_mtim.tv_sec == about[0].st_mtim.tv_sec &&
                     about[1].st_mtim.tv_nsec > about[0].st_mtim.tv_nsec);
    if (is_other) {
        snprintf(path, 512, "%s", other);
    }
}

static void flip(const char *path, off_t at)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_commits_come_back_from_the_log(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    write_and_die(folder);
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    assert_commits(store, table, COMMITS);
    assert_true(store->sequence >= COMMITS);
    fixture_put(store, table, "after", "v");
    store_close(store);
    store = fixture_open(folder, STORE_INLINE);
    fixture_assert(store, fixture_table(store, "t", 0), "after", "v");
    store_close(store);
    fixture_end(folder);
}

/* Half of the commits' pages and the newest meta pages reached the disk, the rest did not. */
static void test_pages_that_came_in_part_do_no_harm(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char data[512];
    uint8_t page[4096];
    write_and_die(folder);
    path_of(data, folder, STORE_FILE);
    struct store *store = fixture_open(folder, STORE_INLINE);
    off_t used = (off_t)store->used_bytes;
    store_close(store);
    fixture_end(folder);

    folder = fixture_folder();
    write_and_die(folder);
    path_of(data, folder, STORE_FILE);
    int fd = open(data, O_RDWR | O_CLOEXEC);
    memset(page, 0xa5, sizeof page);
    for (off_t at = used; at < used + (off_t)64 * 4096; at += 4096) {
        assert_int_equal(pwrite(fd, page, sizeof page, at), sizeof page);
    }
    for (off_t at = 0; at < (off_t)2 * 4096; at += 4096) { /* a meta page of rubbish */
        assert_int_equal(pwrite(fd, page, 200, at + 16), 200);
    }
    close(fd);
    store = fixture_open(folder, STORE_INLINE);
    assert_commits(store, fixture_table(store, "t", 0), COMMITS);
    store_close(store);
    fixture_end(folder);
}

static void test_a_torn_last_record_is_left_out(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[512];
    write_and_die(folder);
    log_path(path, folder);
    /* One record a call: a put, and from the third on a deletion after it. */
    off_t last = STORE_LOG_HEAD_SIZE + (2 * COMMITS - 3) * (off_t)STORE_LOG_SECTOR;
    flip(path, last + 40);
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    fixture_assert(store, table, key_of(COMMITS - 1), "v");
    fixture_assert(store, table, key_of(COMMITS - 3), "v"); /* its deletion was the last record */
    store_close(store);
    fixture_end(folder);
}

static void test_damage_in_the_middle_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[512];
    imp_error error = {.status = IMP_OK};
    imp_status status;
    write_and_die(folder);
    log_path(path, folder);
    flip(path, STORE_LOG_HEAD_SIZE + 3 * (off_t)STORE_LOG_SECTOR + 40);
    assert_null(open_any(folder, &status, &error));
    assert_int_equal(status, IMP_CORRUPT);
    assert_non_null(strstr(error.message, "damaged"));
    flip(path, STORE_LOG_HEAD_SIZE + 3 * (off_t)STORE_LOG_SECTOR + 40);
    struct store *store = fixture_open(folder, STORE_INLINE);
    assert_commits(store, fixture_table(store, "t", 0), COMMITS);
    store_close(store);
    fixture_end(folder);
}

static void test_a_torn_checkpoint_leaves_the_one_before_it(void **state)
{
    (void)state;
    const off_t slot = 4096 + 65536;
    for (int torn = 0; torn < 2; torn++) {
        char *folder = fixture_folder();
        char path[512];
        imp_error error = {.status = IMP_OK};
        imp_status status;
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *table = fixture_table(store, "t", 0);
        commit(store, table, 0);
        uint64_t number = store->checkpointer.last.number;
        store_close(store);
        path_of(path, folder, "checkpoint");
        /* The clean one is the last: without it the log is applied to the one before. */
        flip(path, (off_t)((number + 1) % 2) * slot + 20);
        if (torn == 1) {
            flip(path, (off_t)(number % 2) * slot + 20);
        }
        store = open_any(folder, &status, &error);
        assert_int_equal(status, torn == 1 ? IMP_CORRUPT : IMP_OK);
        if (store != NULL) {
            fixture_assert(store, fixture_table(store, "t", 0), key_of(0), "v");
            store_close(store);
        }
        fixture_end(folder);
    }
}

/* A missing file of the log, and one bit of its head: never made anew, never passed over. */
static void test_a_log_that_is_missing_or_has_no_head_is_refused(void **state)
{
    (void)state;
    static const off_t bits[] = {-1, 0, 8, 20, 40, 70};
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
        char *folder = fixture_folder();
        char path[512], away[600];
        imp_error error = {.status = IMP_OK};
        imp_status status;
        write_and_die(folder);
        log_path(path, folder);
        snprintf(away, sizeof away, "%s.away", path);
        if (bits[i] < 0) {
            assert_int_equal(rename(path, away), 0);
        } else {
            flip(path, bits[i]);
        }
        assert_null(open_any(folder, &status, &error));
        assert_int_equal(status, IMP_CORRUPT);
        if (bits[i] < 0) {
            assert_int_equal(rename(away, path), 0);
        } else {
            flip(path, bits[i]);
        }
        struct store *store = fixture_open(folder, STORE_INLINE);
        assert_commits(store, fixture_table(store, "t", 0), COMMITS);
        store_close(store);
        fixture_end(folder);
    }
}

static void test_an_older_data_file_in_place_is_refused(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char data[512], before[512];
    imp_error error = {.status = IMP_OK};
    imp_status status;
    path_of(data, folder, STORE_FILE);
    path_of(before, folder, "before");
    store_close(fixture_open(folder, STORE_INLINE));
    copy_file(data, before);
    struct store *store = fixture_open(folder, STORE_INLINE);
    commit(store, fixture_table(store, "t", 0), 0);
    store_close(store);
    copy_file(before, data);
    assert_null(open_any(folder, &status, &error));
    assert_int_equal(status, IMP_CORRUPT);
    assert_non_null(strstr(error.message, "older"));
    fixture_end(folder);
}

static void test_a_store_without_its_checkpoint_or_data_is_refused(void **state)
{
    (void)state;
    static const char *const files[] = {"checkpoint", STORE_FILE};
    for (size_t i = 0; i < 2; i++) {
        char *folder = fixture_folder();
        char path[512];
        imp_error error = {.status = IMP_OK};
        imp_status status;
        store_close(fixture_open(folder, STORE_INLINE)); /* its first life */
        path_of(path, folder, files[i]);
        assert_int_equal(unlink(path), 0);
        assert_null(open_any(folder, &status, &error));
        assert_int_equal(status, IMP_CORRUPT);
        assert_non_null(strstr(error.message, "missing"));
        fixture_end(folder);
    }
}

static imp_status put_large_in(imp_tx *tx, void *arg, imp_error *error)
{
    static const uint8_t large[300000];
    (void)error;
    return imp_tx_put(tx, arg, fixture_text("large"), (imp_bytes){large, sizeof large});
}

/* Many checkpoints, both files of the log in turn, and records too long for the log. */
static void test_checkpoints_under_way_lose_nothing(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    int how = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store *store = fixture_open(folder, STORE_THREADED);
        imp_table *table = fixture_table(store, "t", 0);
        for (int i = 0; i < 400; i++) {
            struct fixture_put put = {table, key_of(i), "v"};
            imp_error error;
            if (store_write_sync(store, NULL, fixture_put_in, &put, &error) != IMP_OK) {
                _exit(1);
            }
            if (i % 40 == 0 &&
                store_write_sync(store, NULL, put_large_in, table, &error) != IMP_OK) {
                _exit(1);
            }
        }
        if (atomic_load(&store->checkpointer.count) < 10) {
            _exit(2);
        }
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    for (int i = 0; i < 400; i++) {
        fixture_assert(store, table, key_of(i), "v");
    }
    store_close(store);
    fixture_end(folder);
}

static void test_an_orderly_end_leaves_nothing_to_apply(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_THREADED);
    commit(store, fixture_table(store, "t", 0), 0);
    store_close(store);
    imp_error error = {.status = IMP_OK};
    struct store_options options = fixture_options(folder, STORE_INLINE);
    options.is_read_only = true;
    assert_ok(store_open(&options, &store, &error), error);
    assert_true(store->checkpointer.last.is_clean);
    assert_false(store->log.is_on);
    store_close(store);
    fixture_end(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commits_come_back_from_the_log),
        cmocka_unit_test(test_pages_that_came_in_part_do_no_harm),
        cmocka_unit_test(test_a_torn_last_record_is_left_out),
        cmocka_unit_test(test_damage_in_the_middle_is_refused_and_changes_nothing),
        cmocka_unit_test(test_a_torn_checkpoint_leaves_the_one_before_it),
        cmocka_unit_test(test_a_log_that_is_missing_or_has_no_head_is_refused),
        cmocka_unit_test(test_an_older_data_file_in_place_is_refused),
        cmocka_unit_test(test_a_store_without_its_checkpoint_or_data_is_refused),
        cmocka_unit_test(test_checkpoints_under_way_lose_nothing),
        cmocka_unit_test(test_an_orderly_end_leaves_nothing_to_apply),
    };
    return cmocka_run_group_tests_name("store-log", tests, NULL, NULL);
}
