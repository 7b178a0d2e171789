/* SPDX-License-Identifier: Apache-2.0 */
/* test-store-open.c - what the store refuses to open, and that a refusal changes nothing. */
#include "tests/unit/store-fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "core/store-private.h"

/* The first two pages say which commit is the newest, so equal ones mean that nothing was committed. */
struct snapshot {
    uint8_t bytes[8192];
    off_t size;
};

static struct snapshot take_snapshot(const char *folder)
{
    static struct snapshot snapshot;
    char path[256];
    struct stat about;
    snprintf(path, sizeof path, "%s/store/data.mdb", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, snapshot.bytes, sizeof snapshot.bytes), sizeof snapshot.bytes);
    assert_int_equal(fstat(fd, &about), 0);
    snapshot.size = about.st_size;
    close(fd);
    return snapshot;
}

static void assert_unchanged(const char *folder, const struct snapshot *before)
{
    const struct snapshot after = take_snapshot(folder);
    assert_memory_equal(after.bytes, before->bytes, sizeof after.bytes);
    assert_int_equal(after.size, before->size);
}

static void make_store(const char *folder)
{
    struct store *store = fixture_open(folder, STORE_INLINE);
    fixture_put(store, fixture_table(store, "t", 0), "a", "kept");
    store_close(store);
}

static void assert_whole(const char *folder)
{
    struct store *store = fixture_open(folder, STORE_INLINE);
    fixture_assert(store, fixture_table(store, "t", 0), "a", "kept");
    store_close(store);
}

static imp_status refused(const struct store_options *options, const char *says)
{
    struct store *store = NULL;
    imp_error error = {.status = IMP_OK};
    imp_status status = store_open(options, &store, &error);
    assert_null(store);
    assert_int_equal(error.status, status);
    if (strstr(error.message, says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    }
    assert_null(strchr(error.message, '\n'));
    return status;
}

static void test_wrong_master_key_is_refused_and_nothing_changes(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    static const uint8_t wrong[KEYS_MASTER_SIZE] = "not the master key of this store";
    make_store(folder);
    const struct snapshot before = take_snapshot(folder);
    struct store_options options = fixture_options(folder, STORE_THREADED);
    options.master = wrong;
    assert_int_equal(refused(&options, "master key"), IMP_DENIED);
    assert_unchanged(folder, &before);
    assert_whole(folder);
    fixture_end(folder);
}

static void test_no_key_may_be_made_beside_a_store(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    assert_false(store_exists(folder));
    make_store(folder);
    assert_true(store_exists(folder));
    fixture_end(folder);
}

static void test_second_instance_is_told(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_THREADED);
    const struct store_options options = fixture_options(folder, STORE_THREADED);
    assert_int_equal(refused(&options, folder), IMP_BUSY);
    store_close(store);
    make_store(folder);
    assert_whole(folder);
    fixture_end(folder);
}

static void test_missing_store_is_not_made_for_offline_tools(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store_options options = fixture_options(folder, STORE_INLINE);
    options.must_exist = true;
    assert_int_equal(refused(&options, "no store"), IMP_NOT_FOUND);
    assert_false(store_exists(folder));
    options.state_dir = "/nonexistent/imprimatur";
    assert_int_equal(refused(&options, "/nonexistent/imprimatur"), IMP_IO);
    fixture_end(folder);
}

static imp_status newer_format_in(imp_tx *tx, void *arg, imp_error *error)
{
    static const uint8_t format[4] = {0, 0, 0, STORE_FORMAT + 1};
    (void)arg;
    tx->changes++;
    return store_meta_put(tx->store, tx->txn, STORE_META_FORMAT, format, sizeof format, error);
}

static void test_newer_format_is_refused_naming_both(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct store *store = fixture_open(folder, STORE_INLINE);
    assert_ok(store_write_exclusive(store, NULL, newer_format_in, NULL, &error), error);
    store_close(store);
    const struct snapshot before = take_snapshot(folder);
    const struct store_options options = fixture_options(folder, STORE_INLINE);
    assert_int_equal(refused(&options, "format 2, this program knows up to 1"), IMP_UNSUPPORTED);
    assert_unchanged(folder, &before);
    fixture_end(folder);
}

static void test_a_file_that_is_no_store_is_refused_and_kept(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[256];
    char text[16384];
    snprintf(path, sizeof path, "%s/store", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/store/data.mdb", folder);
    memset(text, 'x', sizeof text);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    close(fd);
    const struct snapshot before = take_snapshot(folder);
    const struct store_options options = fixture_options(folder, STORE_INLINE);
    assert_int_equal(refused(&options, "not a store"), IMP_CORRUPT);
    assert_unchanged(folder, &before);
    fixture_end(folder);
}

static void test_making_that_was_cut_short_goes_on(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[256];
    snprintf(path, sizeof path, "%s/store", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/store/data.mdb", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* empty */
    assert_true(fd >= 0);
    close(fd);
    make_store(folder);
    assert_whole(folder);
    fixture_end(folder);
}

/* Runs `body` in a child as a user without rights; its exit status. */
static int as_nobody(const char *folder, void (*body)(const char *folder))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(99);
        }
        body(folder);
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

static void open_read_only(const char *folder)
{
    struct store *store = NULL;
    imp_error error = {.status = IMP_OK};
    const struct store_options options = fixture_options(folder, STORE_INLINE);
    imp_status status = store_open(&options, &store, &error);
    if (status != IMP_DENIED || strstr(error.message, folder) == NULL) {
        fprintf(stderr, "%s: %s\n", imp_status_name(status), error.message);
        _exit(1);
    }
}

static void test_read_only_state_folder_is_one_clear_line(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    assert_int_equal(chmod(folder, 0555), 0);
    assert_int_equal(as_nobody(folder, open_read_only), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    make_store(folder); /* belongs to somebody else now, or is writable again */
    assert_whole(folder);
    fixture_end(folder);
}

static void test_rewrapped_store_needs_the_new_master_key(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    static const uint8_t other[KEYS_MASTER_SIZE] = "another master key of 32 bytes!";
    imp_error error = {.status = IMP_OK};
    make_store(folder);
    struct store *store = fixture_open(folder, STORE_THREADED);
    assert_ok(store_rewrap(store, other, &error), error);
    fixture_assert(store, fixture_table(store, "t", 0), "a", "kept"); /* while it runs */
    store_close(store);
    struct store_options options = fixture_options(folder, STORE_INLINE);
    assert_int_equal(refused(&options, "master key"), IMP_DENIED);
    options.master = other;
    assert_ok(store_open(&options, &store, &error), error);
    fixture_assert(store, fixture_table(store, "t", 0), "a", "kept");
    store_close(store);
    fixture_end(folder);
}

/* ---- tables ---- */

static imp_status declare(struct store *store, uint32_t schema, uint32_t flags,
                          store_migrate migrate, imp_error *error)
{
    const imp_table_spec specs[] = {{.name = "t", .schema = schema, .flags = flags},
                                    {.name = NULL}};
    return store_table_declare(store, NULL, "test", specs, migrate, error);
}

static uint32_t steps_seen;
static uint32_t fails_at;

static imp_status migrate(imp_self *self, imp_tx *tx, const imp_table_spec *spec, uint32_t from,
                          imp_error *error)
{
    (void)self;
    char value[16];
    imp_table *table = store_table_handle(tx->store, "test.t", spec->flags);
    steps_seen++;
    snprintf(value, sizeof value, "schema %u", from + 1);
    imp_status status = imp_tx_put(tx, table, fixture_text("a"), fixture_text(value));
    if (status == IMP_OK && from == fails_at) {
        return imp_error_set(error, IMP_INVALID, "a record is odd");
    }
    return status;
}

static void test_older_schema_is_migrated_step_by_step_or_not_at_all(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    make_store(folder);
    struct store *store = fixture_open(folder, STORE_THREADED);
    fails_at = 2;
    steps_seen = 0;
    assert_int_equal(declare(store, 4, 0, migrate, &error), IMP_INVALID);
    assert_non_null(strstr(error.message, "schema 2 to 3 failed: a record is odd"));
    assert_null(store_table_find(store, "test.t"));
    assert_int_equal(declare(store, 2, 0, NULL, &error), IMP_UNSUPPORTED);
    assert_ok(declare(store, 1, 0, NULL, &error), error);
    fixture_assert(store, store_table_find(store, "test.t"), "a", "kept");
    fails_at = 0;
    steps_seen = 0;
    assert_ok(declare(store, 4, 0, migrate, &error), error);
    assert_int_equal(steps_seen, 3);
    fixture_assert(store, store_table_find(store, "test.t"), "a", "schema 4");
    store_close(store);

    store = fixture_open(folder, STORE_INLINE);
    assert_int_equal(declare(store, 3, 0, migrate, &error), IMP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "schema 4 in the store, this module knows up to 3"));
    assert_ok(declare(store, 4, 0, migrate, &error), error);
    assert_int_equal(declare(store, 4, IMP_TABLE_PLAIN, migrate, &error), IMP_UNSUPPORTED);
    assert_ok(declare(store, 4, IMP_TABLE_VOLATILE, migrate, &error), error);
    fixture_assert(store, store_table_find(store, "test.t"), "a", "schema 4");
    store_close(store);
    fixture_end(folder);
}

static void test_bad_table_names_are_refused(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error;
    struct store *store = fixture_open(folder, STORE_INLINE);
    const char *const names[] = {"", "A", "a.b", "1a", "a-b"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const imp_table_spec specs[] = {{.name = names[i], .schema = 1}, {.name = NULL}};
        assert_int_equal(store_table_declare(store, NULL, "test", specs, NULL, &error),
                         IMP_INVALID);
    }
    assert_int_equal(declare(store, 0, 0, NULL, &error), IMP_INVALID);
    store_close(store);
    fixture_end(folder);
}

/* ---- no space ---- */

static imp_status fill_in(imp_tx *tx, void *arg, imp_error *error)
{
    static const uint8_t zeros[64 * 1024];
    imp_table *table = arg;
    uint64_t number;
    (void)error;
    imp_status status = imp_tx_next_number(tx, table, &number);
    return status != IMP_OK ? status
                            : imp_tx_put(tx, table, (imp_bytes){&number, sizeof number},
                                         (imp_bytes){zeros, sizeof zeros});
}

static imp_status empty_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_cursor *cursor = NULL;
    imp_bytes key;
    (void)error;
    imp_status status = imp_cursor_open(tx, arg, (imp_bytes){NULL, 0}, &cursor);
    for (int i = 0; status == IMP_OK && i < 16; i++) {
        status = imp_cursor_next(cursor, &key, NULL);
        if (status == IMP_OK) {
            status = imp_tx_delete(tx, arg, key);
        }
    }
    imp_cursor_close(cursor);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

static imp_status last_status;
static void keep_status(imp_status status, const imp_error *error, void *arg)
{
    (void)arg;
    assert_int_equal(error->status, status);
    last_status = status;
}

/* Fills until it is refused, checks that deleting works, and that writing works again after it. */
static void fill_and_recover(struct store *store, imp_table *table)
{
    imp_error error = {.status = IMP_OK};
    uint64_t count = 0, before = 0;
    imp_tx *tx = NULL;
    last_status = IMP_OK;
    while (last_status == IMP_OK) {
        assert_int_equal(store_write(store, NULL, IMP_WRITE_BULK, fill_in, keep_status, table),
                         IMP_OK);
        count += last_status == IMP_OK;
    }
    assert_int_equal(last_status, IMP_NO_SPACE);
    assert_true(count > 10);
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    assert_int_equal(imp_tx_count(tx, table, &before), IMP_OK);
    imp_store_read_end(tx);
    assert_int_equal(before, count); /* what was refused left nothing */
    for (int i = 0; i < 8; i++) {
        assert_ok(store_write_sync(store, NULL, empty_in, table, &error), error);
    }
    /* Freed pages come back when the commit after next may use them. */
    store->free_counted = store->space_tried = INT64_MIN / 2;
    last_status = IMP_BUSY;
    assert_int_equal(store_write(store, NULL, IMP_WRITE_BULK, fill_in, keep_status, table), IMP_OK);
    assert_int_equal(last_status, IMP_OK);
}

static void test_full_map_refuses_bulk_and_lets_deletions_through(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = NULL;
    imp_error error = {.status = IMP_OK};
    struct store_options options = fixture_options(folder, STORE_INLINE);
    options.map_size = UINT64_C(16) << 20;
    assert_ok(store_open(&options, &store, &error), error);
    imp_table *table = fixture_table(store, "t", 0);
    fill_and_recover(store, table);
    store_close(store);
    fixture_end(folder);
}

static void test_full_disk_refuses_bulk_and_lets_deletions_through(void **state)
{
    (void)state;
    if (getuid() != 0) {
        skip(); /* a small disk needs a mount */
    }
    char *folder = fixture_folder();
    pid_t child = fork(); /* its own mount namespace goes with it */
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", folder, "tmpfs", 0, "size=16m") != 0) {
            _exit(77);
        }
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *table = fixture_table(store, "t", 0);
        fill_and_recover(store, table);
        struct store_stats stats;
        store_stats_get(store, &stats);
        assert_true(stats.is_short_of_space);
        store_close(store);
        store = fixture_open(folder, STORE_INLINE); /* a start on a full disk works */
        fixture_table(store, "t", 0);
        store_close(store);
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    fixture_end(folder);
    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == 77) {
        skip(); /* no mounts in this container */
    }
    assert_int_equal(WEXITSTATUS(how), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_master_key_is_refused_and_nothing_changes),
        cmocka_unit_test(test_no_key_may_be_made_beside_a_store),
        cmocka_unit_test(test_rewrapped_store_needs_the_new_master_key),
        cmocka_unit_test(test_second_instance_is_told),
        cmocka_unit_test(test_missing_store_is_not_made_for_offline_tools),
        cmocka_unit_test(test_newer_format_is_refused_naming_both),
        cmocka_unit_test(test_a_file_that_is_no_store_is_refused_and_kept),
        cmocka_unit_test(test_making_that_was_cut_short_goes_on),
        cmocka_unit_test(test_read_only_state_folder_is_one_clear_line),
        cmocka_unit_test(test_older_schema_is_migrated_step_by_step_or_not_at_all),
        cmocka_unit_test(test_bad_table_names_are_refused),
        cmocka_unit_test(test_full_map_refuses_bulk_and_lets_deletions_through),
        cmocka_unit_test(test_full_disk_refuses_bulk_and_lets_deletions_through),
    };
    return cmocka_run_group_tests_name("store-open", tests, NULL, NULL);
}
