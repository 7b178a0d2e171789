/* SPDX-License-Identifier: Apache-2.0 */
/* test-backup.c - backups restore to what was there, and to nothing that was not. */
#include "tests/unit/store-fixture.h"

#include "core/backup-private.h"
#include "core/backup.h"
#include "core/loop.h"
#include "core/store-private.h"

#define RECORDS 300

static imp_status fill_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct store *store = arg;
    imp_table *sealed = store_table_find(store, "test.sealed");
    imp_table *plain = store_table_find(store, "test.plain");
    imp_table *documents = store_table_find(store, "test.documents");
    imp_status status = IMP_OK;
    (void)error;
    for (int i = 0; i < RECORDS && status == IMP_OK; i++) {
        char key[16], value[64];
        uint64_t number;
        snprintf(key, sizeof key, "k%04d", i);
        snprintf(value, sizeof value, "value number %d", i);
        status = imp_tx_put(tx, sealed, fixture_text(key), fixture_text(value));
        if (status == IMP_OK) {
            status = imp_tx_put(tx, plain, fixture_text(key), fixture_text(key));
        }
        if (status == IMP_OK) {
            status = imp_tx_put(tx, documents, fixture_text(key), fixture_text("a document"));
        }
        if (status == IMP_OK) {
            status = imp_tx_next_number(tx, sealed, &number);
        }
    }
    return status;
}

static struct store *open_filled(const char *folder)
{
    imp_error error = {.status = IMP_OK};
    struct store *store = fixture_open(folder, STORE_THREADED);
    fixture_table(store, "sealed", 0);
    fixture_table(store, "plain", IMP_TABLE_PLAIN);
    fixture_table(store, "documents", IMP_TABLE_VOLATILE);
    assert_ok(store_write_sync(store, NULL, fill_in, store, &error), error);
    return store;
}

static int backup_file(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/backup", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static char *sub_folder(const char *folder, const char *name)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    assert_int_equal(mkdir(path, 0700), 0);
    return path;
}

static imp_status number_in(imp_tx *tx, void *arg, imp_error *error)
{
    (void)error;
    return imp_tx_next_number(tx, store_table_find(tx->store, "test.sealed"), arg);
}

static void test_backup_restores_all_but_documents(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *first = sub_folder(folder, "first");
    char *second = sub_folder(folder, "second");
    imp_error error = {.status = IMP_OK};
    struct backup_report made, restored;
    struct store *store = open_filled(first);
    int fd = backup_file(folder);
    const imp_id id = store_id(store);
    assert_ok(backup_create(store, fd, 0, &made, &error), error);
    assert_int_equal(made.tables, 3);
    assert_int_equal(made.records, 2 * RECORDS);
    assert_int_equal(made.attempts, 1);
    assert_true(imp_id_equal(made.store_id, id));
    store_close(store);

    assert_ok(backup_restore(fd, second, fixture_master, &restored, &error), error);
    assert_int_equal(restored.records, made.records);
    assert_int_equal(restored.bytes, made.bytes);
    store = fixture_open(second, STORE_INLINE);
    assert_false(imp_id_equal(store_id(store), id));
    imp_table *sealed = fixture_table(store, "sealed", 0);
    imp_table *plain = fixture_table(store, "plain", IMP_TABLE_PLAIN);
    imp_table *documents = fixture_table(store, "documents", IMP_TABLE_VOLATILE);
    for (int i = 0; i < RECORDS; i++) {
        char key[16], value[64];
        snprintf(key, sizeof key, "k%04d", i);
        snprintf(value, sizeof value, "value number %d", i);
        fixture_assert(store, sealed, key, value);
        fixture_assert(store, plain, key, key);
        fixture_assert(store, documents, key, NULL);
    }
    uint64_t number = 0;
    struct store_stats stats;
    store_stats_get(store, &stats);
    assert_true(stats.sequence >= made.sequence);
    assert_ok(store_write_sync(store, NULL, number_in, &number, &error), error);
    assert_int_equal(number, RECORDS + 1);
    store_close(store);

    assert_int_equal(backup_restore(fd, second, fixture_master, &restored, &error), IMP_EXISTS);
    close(fd);
    free(first);
    free(second);
    fixture_end(folder);
}

static void test_backup_holds_nothing_readable_and_no_master_key(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct backup_report made;
    struct store *store = open_filled(folder);
    int fd = backup_file(folder);
    assert_ok(backup_create(store, fd, 0, &made, &error), error);
    store_close(store);
    char *bytes = malloc(made.bytes);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, made.bytes, 0), made.bytes);
    assert_null(memmem(bytes, made.bytes, "value number", 12));
    assert_null(memmem(bytes, made.bytes, "a document", 10));
    assert_null(memmem(bytes, made.bytes, fixture_master, KEYS_MASTER_SIZE));
    free(bytes);
    close(fd);
    fixture_end(folder);
}

static void assert_empty(const char *folder)
{
    DIR *open_folder = opendir(folder);
    assert_non_null(open_folder);
    for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;) {
        assert_true(strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
    }
    closedir(open_folder);
}

static void test_wrong_key_and_other_stores_backup_make_nothing(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *first = sub_folder(folder, "first");
    char *other = sub_folder(folder, "other");
    char *target = sub_folder(folder, "target");
    static const uint8_t wrong[KEYS_MASTER_SIZE] = "not the master key of this store";
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store *store = open_filled(first);
    int fd = backup_file(folder);
    assert_ok(backup_create(store, fd, 0, &report, &error), error);
    store_close(store);
    assert_int_equal(backup_restore(fd, target, wrong, &report, &error), IMP_DENIED);
    assert_non_null(strstr(error.message, "master key"));
    assert_empty(target);
    struct store *second = fixture_open(other, STORE_INLINE); /* the same master, other roots */
    assert_int_equal(backup_verify_with(fd, target, second, &report, &error), IMP_DENIED);
    assert_empty(target);
    store_close(second);
    close(fd);
    free(first);
    free(other);
    free(target);
    fixture_end(folder);
}

static imp_status passing_check(imp_self *self, void *instance, imp_tx *tx, imp_error *error)
{
    uint64_t count = 0;
    (void)self;
    (void)instance;
    (void)error;
    imp_table *table = store_table_find(tx->store, "test.sealed");
    return table != NULL && imp_tx_count(tx, table, &count) == IMP_OK && count == RECORDS
               ? IMP_OK
               : IMP_CORRUPT;
}

static bool check_refuses;
static imp_status second_check(imp_self *self, void *instance, imp_tx *tx, imp_error *error)
{
    (void)self;
    (void)instance;
    (void)tx;
    return check_refuses ? imp_error_set(error, IMP_CORRUPT, "the chain has a gap") : IMP_OK;
}

static void test_verify_opens_every_seal_and_asks_the_modules(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *scratch = sub_folder(folder, "scratch");
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store *store = open_filled(folder);
    int fd = backup_file(folder);
    assert_ok(backup_create(store, fd, 0, &report, &error), error);
    assert_ok(imp_backup_check_add(NULL, passing_check, &error), error);
    assert_ok(imp_backup_check_add(NULL, second_check, &error), error);
    check_refuses = false;
    assert_ok(backup_verify_with(fd, scratch, store, &report, &error), error); /* while it runs */
    assert_int_equal(report.seals, RECORDS);
    assert_int_equal(report.checks, 2);
    assert_empty(scratch);
    check_refuses = true;
    assert_int_equal(backup_verify_with(fd, scratch, store, &report, &error), IMP_CORRUPT);
    assert_string_equal(error.message, "the chain has a gap");
    check_refuses = false;
    store_close(store);
    assert_ok(backup_verify(fd, scratch, fixture_master, &report, &error), error);
    assert_empty(scratch);
    close(fd);
    free(scratch);
    fixture_end(folder);
}

static void test_every_damage_and_cut_is_noticed_before_anything_is_made(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *target = sub_folder(folder, "target");
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store *store = fixture_open(folder, STORE_INLINE);
    fixture_put(store, fixture_table(store, "t", 0), "a", "b");
    int fd = backup_file(folder);
    assert_ok(backup_create(store, fd, 0, &report, &error), error);
    store_close(store);
    const uint64_t length = report.bytes;
    for (uint64_t at = 0; at < length; at++) {
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        assert_int_not_equal(backup_restore(fd, target, fixture_master, &report, &error), IMP_OK);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    for (uint64_t cut = length; cut-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        assert_int_equal(backup_restore(fd, target, fixture_master, &report, &error), IMP_CORRUPT);
    }
    assert_empty(target);
    close(fd);
    free(target);
    fixture_end(folder);
}

static void test_checksums_made_right_again_do_not_fool_the_seal(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *target = sub_folder(folder, "target");
    char forged_path[256];
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store *store = open_filled(folder);
    int fd = backup_file(folder);
    assert_ok(backup_create(store, fd, 0, &report, &error), error);
    store_close(store);
    /* Writes it anew without one plain record, totals and checksums adjusted. */
    snprintf(forged_path, sizeof forged_path, "%s/forged", folder);
    int forged = open(forged_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct backup_reader *reader = NULL;
    struct backup_writer *writer = backup_writer_new(forged);
    enum backup_frame type;
    imp_bytes payload;
    bool has_dropped = false;
    assert_ok(backup_reader_new(fd, &reader, &error), error);
    while (backup_read_frame(reader, &type, &payload, &error) == IMP_OK) {
        uint8_t adjusted[16];
        if (type == BACKUP_RECORD && !has_dropped) {
            has_dropped = true;
            continue;
        }
        if ((type == BACKUP_TABLE_END && payload.length == 8 && has_dropped &&
             ((const uint8_t *)payload.data)[7] == (RECORDS & 0xff)) ||
            type == BACKUP_TOTALS) {
            static bool is_first = true;
            if (type == BACKUP_TOTALS || is_first) {
                is_first = false;
                memcpy(adjusted, payload.data, payload.length);
                adjusted[payload.length - 1]--;
                payload.data = adjusted;
            }
        }
        assert_ok(backup_write_frame(writer, type, &payload, 1, &error), error);
    }
    assert_ok(backup_writer_flush(writer, &error), error);
    backup_writer_free(writer);
    backup_reader_free(reader);
    assert_int_equal(backup_restore(forged, target, fixture_master, &report, &error), IMP_CORRUPT);
    assert_non_null(strstr(error.message, "seal"));
    assert_empty(target);
    close(forged);
    close(fd);
    free(target);
    fixture_end(folder);
}

static void test_a_restore_that_was_cut_short_is_not_taken_for_a_store(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *target = sub_folder(folder, "target");
    imp_error error = {.status = IMP_OK};
    struct store *store = NULL;
    struct keys_record records[8];
    size_t count = 0;
    /* Key records of another store, as a backup has them. */
    store = fixture_open(folder, STORE_INLINE);
    imp_tx *tx = NULL;
    imp_cursor *cursor = NULL;
    imp_bytes key, value;
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    assert_int_equal(imp_cursor_open(tx, store->keys, (imp_bytes){NULL, 0}, &cursor), IMP_OK);
    while (imp_cursor_next(cursor, &key, &value) == IMP_OK) {
        records[count] = (struct keys_record){.length = (uint32_t)value.length};
        memcpy(records[count].name, key.data, key.length);
        memcpy(records[count].value, value.data, value.length);
        count++;
    }
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
    store_close(store);
    const struct store_preset preset = {.keys = records, .key_count = count};
    const struct store_options options = fixture_options(target, STORE_INLINE);
    assert_ok(store_open_preset(&options, &preset, &store, &error), error);
    store_close(store); /* without store_restore_end */
    assert_int_equal(store_open(&options, &store, &error), IMP_UNSUPPORTED);
    assert_non_null(strstr(error.message, "cut short"));
    free(target);
    fixture_end(folder);
}

/* ---- no key and nonce pair twice ---- */

struct pair {
    uint8_t key[KEYS_ROOT_SIZE]; /* the sealing key itself, not its id */
    uint8_t nonce[SEAL_NONCE_SIZE];
};
struct pairs {
    struct store *store;
    struct pair *items;
    size_t count, room;
};

/* Every seal that is made, by the key that really made it. */
static void collect(void *arg, uint64_t sequence, const char *table, imp_bytes key, bool is_delete,
                    imp_bytes sealed)
{
    struct pairs *pairs = arg;
    (void)sequence;
    (void)key;
    if (is_delete || strcmp(table, "test.sealed") != 0) {
        return;
    }
    assert_true(pairs->count < pairs->room);
    struct pair *pair = &pairs->items[pairs->count++];
    assert_int_equal(
        keyring_table_key(store_keyring(pairs->store), table, seal_key_id(sealed), pair->key),
        IMP_OK);
    memcpy(pair->nonce, (const uint8_t *)sealed.data + SEAL_KEY_ID_SIZE, SEAL_NONCE_SIZE);
}

static int compare_pairs(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct pair));
}

static void open_and_fill(const char *folder, struct pairs *pairs, int fd)
{
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store_options options = fixture_options(folder, STORE_INLINE);
    options.observer = collect;
    options.observer_arg = pairs;
    assert_ok(store_open(&options, &pairs->store, &error), error);
    fixture_table(pairs->store, "sealed", 0);
    fixture_table(pairs->store, "plain", IMP_TABLE_PLAIN);
    fixture_table(pairs->store, "documents", IMP_TABLE_VOLATILE);
    assert_ok(store_write_sync(pairs->store, NULL, fill_in, pairs->store, &error), error);
    if (fd >= 0) {
        assert_ok(backup_create(pairs->store, fd, 0, &report, &error), error);
    }
    assert_ok(store_write_sync(pairs->store, NULL, fill_in, pairs->store, &error), error);
    store_close(pairs->store);
}

static void test_old_backup_restored_twice_and_written_to_repeats_no_key_and_nonce(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char *first = sub_folder(folder, "first");
    char *second = sub_folder(folder, "second");
    char *third = sub_folder(folder, "third");
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    static struct pair items[12 * RECORDS];
    struct pairs pairs = {.items = items, .room = sizeof items / sizeof items[0]};
    int fd = backup_file(folder);
    open_and_fill(first, &pairs, fd);
    assert_ok(backup_restore(fd, second, fixture_master, &report, &error), error);
    assert_ok(backup_restore(fd, third, fixture_master, &report, &error), error);
    open_and_fill(second, &pairs, -1);
    open_and_fill(third, &pairs, -1);
    open_and_fill(first, &pairs, -1);
    assert_int_equal(pairs.count, 8 * RECORDS);
    /* Not even a key is shared between the histories: nonces need no luck. */
    qsort(items, pairs.count, sizeof *items, compare_pairs);
    size_t keys = 1;
    for (size_t i = 1; i < pairs.count; i++) {
        assert_memory_not_equal(&items[i - 1], &items[i], sizeof *items);
        keys += memcmp(items[i - 1].key, items[i].key, KEYS_ROOT_SIZE) != 0;
    }
    assert_int_equal(keys, 4);
    close(fd);
    free(first);
    free(second);
    free(third);
    fixture_end(folder);
}

/* ---- growth meanwhile ---- */

static void test_backup_of_a_store_that_grows_too_fast_is_given_up(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store *store = open_filled(folder);
    imp_table *table = fixture_table(store, "many", IMP_TABLE_PLAIN);
    for (int i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        struct fixture_put put = {table, key, "v"};
        assert_ok(store_write_sync(store, NULL, fixture_put_in, &put, &error), error);
    }
    int fd = backup_file(folder);
    /* The bound wraps around below what is in use already: each attempt ends at its first look. */
    assert_int_equal(backup_create(store, fd, UINT64_MAX, &report, &error), IMP_BUSY);
    assert_int_equal(report.attempts, BACKUP_ATTEMPTS);
    assert_ok(backup_create(store, fd, 0, &report, &error), error);
    int pipe_ends[2];
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
    assert_int_equal(backup_create(store, pipe_ends[1], 0, &report, &error), IMP_INVALID);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    store_close(store);
    close(fd);
    fixture_end(folder);
}

/* ---- giving up ---- */

struct cancelled {
    imp_work_token *token;
    struct store *store;
    const char *folder;
    int fd;
    imp_status created, verified;
    bool is_done;
};

static void run_cancelled(void *arg)
{
    struct cancelled *cancelled = arg;
    struct backup_report report;
    imp_work_cancel(cancelled->token); /* as another thread does while it runs */
    cancelled->verified =
        backup_verify_with(cancelled->fd, cancelled->folder, cancelled->store, &report, NULL);
    cancelled->created = backup_create(cancelled->store, cancelled->fd, 0, &report, NULL);
}

static void note_done(void *arg, bool was_cancelled)
{
    struct cancelled *cancelled = arg;
    assert_false(was_cancelled);
    cancelled->is_done = true;
}

static void test_a_cancelled_work_gives_its_backup_up(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct backup_report report;
    struct store *store = open_filled(folder);
    struct cancelled cancelled = {.store = store, .folder = folder, .fd = backup_file(folder)};
    assert_ok(backup_create(store, cancelled.fd, 0, &report, &error), error);
    assert_ok(loop_setup_for_test(&error), error);
    cancelled.token = imp_work(NULL, run_cancelled, note_done, &cancelled);
    assert_non_null(cancelled.token);
    while (!cancelled.is_done)
        loop_run_once(imp_loop_control(), false);
    assert_int_equal(cancelled.verified, IMP_UNAVAILABLE);
    assert_int_equal(cancelled.created, IMP_UNAVAILABLE);
    loop_stop();
    loop_teardown();
    store_close(store);
    close(cancelled.fd);
    fixture_end(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backup_restores_all_but_documents),
        cmocka_unit_test(test_backup_holds_nothing_readable_and_no_master_key),
        cmocka_unit_test(test_wrong_key_and_other_stores_backup_make_nothing),
        cmocka_unit_test(test_verify_opens_every_seal_and_asks_the_modules),
        cmocka_unit_test(test_every_damage_and_cut_is_noticed_before_anything_is_made),
        cmocka_unit_test(test_checksums_made_right_again_do_not_fool_the_seal),
        cmocka_unit_test(test_a_restore_that_was_cut_short_is_not_taken_for_a_store),
        cmocka_unit_test(test_old_backup_restored_twice_and_written_to_repeats_no_key_and_nonce),
        cmocka_unit_test(test_backup_of_a_store_that_grows_too_fast_is_given_up),
        cmocka_unit_test(test_a_cancelled_work_gives_its_backup_up),
    };
    return cmocka_run_group_tests_name("backup", tests, NULL, NULL);
}
