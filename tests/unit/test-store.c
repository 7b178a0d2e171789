/* SPDX-License-Identifier: Apache-2.0 */
/* test-store.c - records, walks, closures and batches. */
#include "tests/unit/store-fixture.h"

#include <pthread.h>
#include <semaphore.h>

#include "core/store-private.h"

/* ---- records ---- */

static void test_what_was_put_is_there_after_opening_again(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    for (int round = 0; round < 2; round++) {
        struct store *store = fixture_open(folder, round == 0 ? STORE_THREADED : STORE_INLINE);
        imp_table *sealed = fixture_table(store, "sealed", 0);
        imp_table *plain = fixture_table(store, "plain", IMP_TABLE_PLAIN);
        if (round == 0) {
            fixture_put(store, sealed, "a", "secret words");
            fixture_put(store, sealed, "empty", "");
            fixture_put(store, plain, "a", "an id");
            fixture_put(store, sealed, "gone", "x");
            fixture_put(store, sealed, "gone", NULL);
        }
        fixture_assert(store, sealed, "a", "secret words");
        fixture_assert(store, sealed, "empty", "");
        fixture_assert(store, plain, "a", "an id");
        fixture_assert(store, sealed, "gone", NULL);
        store_close(store);
    }
    fixture_end(folder);
}

static void test_no_value_is_readable_in_the_file(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    char path[256];
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "sealed", 0);
    fixture_put(store, table, "a", "Gerontius 4711 Salary List");
    store_close(store);
    snprintf(path, sizeof path, "%s/store/data.mdb", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    assert_int_equal(fstat(fd, &about), 0);
    char *bytes = malloc((size_t)about.st_size);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)about.st_size), about.st_size);
    assert_null(memmem(bytes, (size_t)about.st_size, "Gerontius", 9));
    assert_null(memmem(bytes, (size_t)about.st_size, fixture_master, KEYS_MASTER_SIZE));
    free(bytes);
    close(fd);
    fixture_end(folder);
}

static imp_status bounds_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_table *table = arg;
    static char key[IMP_KEY_MAX + 1];
    static char value[IMP_VALUE_MAX + 1];
    imp_bytes got;
    (void)error;
    memset(key, 'k', sizeof key);
    assert_true(imp_tx_is_writing(tx));
    assert_int_equal(imp_tx_put(tx, table, (imp_bytes){key, 0}, fixture_text("v")), IMP_INVALID);
    assert_int_equal(imp_tx_put(tx, table, (imp_bytes){key, sizeof key}, fixture_text("v")),
                     IMP_INVALID);
    assert_int_equal(imp_tx_put(tx, table, (imp_bytes){key, IMP_KEY_MAX}, fixture_text("v")),
                     IMP_OK);
    assert_int_equal(imp_tx_put(tx, table, fixture_text("v"), (imp_bytes){value, sizeof value}),
                     IMP_INVALID);
    assert_int_equal(imp_tx_put(tx, table, fixture_text("v"), (imp_bytes){value, IMP_VALUE_MAX}),
                     IMP_OK);
    assert_int_equal(imp_tx_get(tx, table, fixture_text("v"), &got), IMP_OK);
    assert_int_equal(got.length, IMP_VALUE_MAX);
    assert_int_equal(imp_tx_insert(tx, table, fixture_text("v"), fixture_text("w")), IMP_EXISTS);
    assert_int_equal(imp_tx_insert(tx, table, fixture_text("w"), fixture_text("w")), IMP_OK);
    assert_int_equal(imp_tx_delete(tx, table, fixture_text("none")), IMP_NOT_FOUND);
    assert_int_equal(imp_tx_get(tx, table, fixture_text("none"), &got), IMP_NOT_FOUND);
    uint64_t count = 0;
    assert_int_equal(imp_tx_count(tx, table, &count), IMP_OK);
    assert_int_equal(count, 3);
    return IMP_OK;
}

static void test_bounds_and_answers_of_single_changes(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    assert_ok(store_write_sync(store, NULL, bounds_in, table, &error), error);
    imp_tx *tx = NULL;
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    assert_false(imp_tx_is_writing(tx));
    assert_int_equal(imp_tx_put(tx, table, fixture_text("r"), fixture_text("r")), IMP_INVALID);
    uint64_t number;
    assert_int_equal(imp_tx_next_number(tx, table, &number), IMP_INVALID);
    imp_store_read_end(tx);
    store_close(store);
    fixture_end(folder);
}

/* Swaps the stored bytes of two records behind the store's back. */
static imp_status swap_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_table *table = arg;
    uint8_t first[200], second[200];
    MDB_val a = {1, (char[]){'a'}}, b = {1, (char[]){'b'}}, value;
    (void)error;
    assert_int_equal(mdb_get(tx->txn, table->dbi, &a, &value), 0);
    size_t first_length = value.mv_size;
    memcpy(first, value.mv_data, first_length);
    assert_int_equal(mdb_get(tx->txn, table->dbi, &b, &value), 0);
    size_t second_length = value.mv_size;
    memcpy(second, value.mv_data, second_length);
    assert_int_equal(
        store_apply(tx, table, fixture_text("a"), &(imp_bytes){second, second_length}, false, true),
        IMP_OK);
    assert_int_equal(
        store_apply(tx, table, fixture_text("b"), &(imp_bytes){first, first_length}, false, true),
        IMP_OK);
    assert_int_equal(store_apply(tx, table, fixture_text("c"), &(imp_bytes){first, 5}, false, true),
                     IMP_OK);
    return IMP_OK;
}

static void test_swapped_and_cut_records_are_noticed(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    fixture_put(store, table, "a", "of a");
    fixture_put(store, table, "b", "of b");
    assert_ok(store_write_sync(store, NULL, swap_in, table, &error), error);
    imp_tx *tx = NULL;
    imp_bytes value;
    imp_cursor *cursor = NULL;
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    assert_int_equal(imp_tx_get(tx, table, fixture_text("a"), &value), IMP_CORRUPT);
    assert_int_equal(imp_tx_get(tx, table, fixture_text("b"), &value), IMP_CORRUPT);
    assert_int_equal(imp_tx_get(tx, table, fixture_text("c"), &value), IMP_CORRUPT);
    assert_int_equal(imp_cursor_open(tx, table, (imp_bytes){NULL, 0}, &cursor), IMP_OK);
    assert_int_equal(imp_cursor_next(cursor, NULL, &value), IMP_CORRUPT);
    imp_store_read_end(tx); /* closes the cursor that was left */
    store_close(store);
    fixture_end(folder);
}

/* ---- walks ---- */

static imp_status walk_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_table *table = arg;
    imp_cursor *cursor = NULL;
    imp_bytes key, value;
    char seen[64] = "";
    (void)error;
    assert_int_equal(imp_cursor_open(tx, table, fixture_text("b"), &cursor), IMP_OK);
    while (imp_cursor_next(cursor, &key, &value) == IMP_OK) {
        assert_int_equal(value.length, 1);
        strncat(seen, key.data, key.length);
        if (tx->is_writing) {
            assert_int_equal(imp_tx_delete(tx, table, key), IMP_OK);
        }
    }
    imp_cursor_close(cursor);
    assert_string_equal(seen, "bdf");
    return tx->is_writing ? IMP_INVALID : IMP_OK; /* taken back */
}

static imp_status walk_back_in(imp_tx *tx, void *arg, imp_error *error)
{
    imp_table *table = arg;
    const char *const froms[] = {"", "e", "d", "a", "z"};
    const char *const expected[] = {"fdba", "dba", "ba", "", "fdba"};
    (void)error;
    for (size_t i = 0; i < 5; i++) {
        imp_cursor *cursor = NULL;
        imp_bytes key;
        char seen[64] = "";
        assert_int_equal(imp_cursor_open(tx, table, fixture_text(froms[i]), &cursor), IMP_OK);
        while (imp_cursor_previous(cursor, &key, NULL) == IMP_OK) {
            strncat(seen, key.data, key.length);
        }
        imp_cursor_close(cursor);
        assert_string_equal(seen, expected[i]);
    }
    return IMP_OK;
}

static void test_walks_go_both_ways_and_bear_deletions(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error = {.status = IMP_OK};
    struct store *store = fixture_open(folder, STORE_INLINE);
    for (uint32_t flags = 0; flags <= IMP_TABLE_PLAIN; flags += IMP_TABLE_PLAIN) {
        imp_table *table = fixture_table(store, flags == 0 ? "sealed" : "plain", flags);
        for (const char *key = "f\0d\0b\0a\0"; *key != '\0'; key += 2) {
            fixture_put(store, table, key, "v");
        }
        imp_tx *tx = NULL;
        assert_ok(store_read_begin(store, NULL, &tx, &error), error);
        assert_int_equal(walk_in(tx, table, NULL), IMP_OK);
        assert_int_equal(walk_back_in(tx, table, NULL), IMP_OK);
        imp_store_read_end(tx);
        assert_int_equal(store_write_sync(store, NULL, walk_in, table, &error), IMP_INVALID);
        assert_ok(store_write_sync(store, NULL, walk_back_in, table, &error), error);
    }
    store_close(store);
    fixture_end(folder);
}

/* ---- closures and batches ---- */

struct counted {
    imp_table *table;
    char key[16];
    imp_status ends_with;
    int done_count, order;
    imp_status status;
    char message[IMP_ERROR_MESSAGE_MAX];
    uint64_t number;
};
static int done_order;

static imp_status counted_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct counted *counted = arg;
    imp_status status = imp_tx_next_number(tx, counted->table, &counted->number);
    if (status == IMP_OK) {
        status = imp_tx_put(tx, counted->table, fixture_text(counted->key), fixture_text("v"));
    }
    if (status == IMP_OK && counted->ends_with != IMP_OK) {
        return imp_error_set(error, counted->ends_with, "it is refused");
    }
    return status;
}

static void counted_done(imp_status status, const imp_error *error, void *arg)
{
    struct counted *counted = arg;
    counted->done_count++;
    counted->order = ++done_order;
    counted->status = status;
    snprintf(counted->message, sizeof counted->message, "%s", error->message);
}

static void test_a_batch_is_one_commit_and_a_failing_closure_leaves_nothing(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_MANUAL);
    imp_table *table = fixture_table(store, "t", 0);
    struct counted closures[20] = {{.table = NULL}};
    struct store_stats before, after;
    store_stats_get(store, &before);
    done_order = 0;
    for (int i = 0; i < 20; i++) {
        closures[i].table = table;
        snprintf(closures[i].key, sizeof closures[i].key, "key%02d", i);
        closures[i].ends_with = i % 5 == 3 ? IMP_DENIED : IMP_OK;
        assert_int_equal(
            store_write(store, NULL, IMP_WRITE_BULK, counted_in, counted_done, &closures[i]),
            IMP_OK);
    }
    assert_int_equal(closures[0].done_count, 0);
    assert_true(store_run_batch(store));
    assert_false(store_run_batch(store));
    store_stats_get(store, &after);
    assert_int_equal(after.commits - before.commits, 1);
    assert_int_equal(after.sequence - before.sequence, 1);
    assert_int_equal(after.closures_failed - before.closures_failed, 4);
    uint64_t number = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(closures[i].done_count, 1);
        assert_int_equal(closures[i].order, i + 1);
        if (i % 5 == 3) {
            assert_int_equal(closures[i].status, IMP_DENIED);
            assert_string_equal(closures[i].message, "it is refused");
            fixture_assert(store, table, closures[i].key, NULL);
        } else {
            assert_int_equal(closures[i].status, IMP_OK);
            assert_int_equal(closures[i].number, ++number); /* no gap where one failed */
            fixture_assert(store, table, closures[i].key, "v");
        }
    }
    store_close(store);
    fixture_end(folder);
}

static void test_both_queues_share_a_batch_in_turn(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_MANUAL);
    imp_table *table = fixture_table(store, "t", 0);
    static struct counted bulk[300], control[10];
    done_order = 0;
    for (int i = 0; i < 300; i++) {
        bulk[i] = (struct counted){.table = table, .key = "b"};
        assert_int_equal(
            store_write(store, NULL, IMP_WRITE_BULK, counted_in, counted_done, &bulk[i]), IMP_OK);
    }
    for (int i = 0; i < 10; i++) {
        control[i] = (struct counted){.table = table, .key = "c"};
        assert_int_equal(
            store_write(store, NULL, IMP_WRITE_CONTROL, counted_in, counted_done, &control[i]),
            IMP_OK);
    }
    assert_true(store_run_batch(store));
    assert_int_equal(done_order, (int)STORE_BATCH_CLOSURES);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(control[i].done_count, 1);
        assert_in_range(control[i].order, 1, 20);
    }
    assert_true(store_run_batch(store));
    assert_int_equal(done_order, 310);
    assert_false(store_run_batch(store));
    store_close(store);
    fixture_end(folder);
}

static imp_status large_in(imp_tx *tx, void *arg, imp_error *error)
{
    static const uint8_t zeros[IMP_VALUE_MAX];
    struct counted *counted = arg;
    (void)error;
    return imp_tx_put(tx, counted->table, fixture_text(counted->key),
                      (imp_bytes){zeros, sizeof zeros});
}

static void test_a_batch_ends_at_its_bytes(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_MANUAL);
    imp_table *table = fixture_table(store, "t", 0);
    struct counted closures[10] = {{.table = NULL}};
    struct store_stats before, after;
    store_stats_get(store, &before);
    for (int i = 0; i < 10; i++) {
        closures[i].table = table;
        snprintf(closures[i].key, sizeof closures[i].key, "key%02d", i);
        assert_int_equal(
            store_write(store, NULL, IMP_WRITE_BULK, large_in, counted_done, &closures[i]), IMP_OK);
    }
    assert_true(store_run_batch(store));
    store_stats_get(store, &after);
    assert_int_equal(after.commits - before.commits, 3); /* 4, 4 and 2 MiB */
    for (int i = 0; i < 10; i++) {
        assert_int_equal(closures[i].status, IMP_OK);
    }
    store_close(store);
    fixture_end(folder);
}

static imp_status stubborn_in(imp_tx *tx, void *arg, imp_error *error)
{
    (void)error;
    imp_tx_put(tx, arg, fixture_text("before"), fixture_text("v"));
    /* Fails inside of LMDB; the closure goes on as if it had not. */
    tx->failure = IMP_NO_SPACE;
    assert_int_equal(imp_tx_put(tx, arg, fixture_text("after"), fixture_text("v")), IMP_NO_SPACE);
    return IMP_OK;
}

static void test_a_closure_cannot_ignore_a_failed_change(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    imp_error error;
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    assert_int_equal(store_write_sync(store, NULL, stubborn_in, table, &error), IMP_NO_SPACE);
    fixture_assert(store, table, "before", NULL);
    store_close(store);
    fixture_end(folder);
}

/* ---- back-pressure ---- */

static int ready_count;
static void count_ready(void *arg)
{
    (void)arg;
    ready_count++;
}

static void test_a_full_queue_says_busy_and_then_when_to_come_again(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = NULL;
    imp_error error = {.status = IMP_OK};
    struct store_options options = fixture_options(folder, STORE_MANUAL);
    options.queue_bulk = 2;
    assert_ok(store_open(&options, &store, &error), error);
    imp_table *table = fixture_table(store, "t", 0);
    struct counted closures[3] = {
        {.table = table, .key = "0"}, {.table = table, .key = "1"}, {.table = table, .key = "2"}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            store_write(store, NULL, IMP_WRITE_BULK, counted_in, counted_done, &closures[i]),
            i < 2 ? IMP_OK : IMP_BUSY);
    }
    ready_count = 0;
    imp_self *gone = (imp_self *)(void *)folder; /* only compared */
    store_wait(store, NULL, IMP_WRITE_BULK, count_ready, NULL);
    store_wait(store, gone, IMP_WRITE_BULK, count_ready, NULL);
    store_sweep(store, gone);
    store_wait(store, NULL, IMP_WRITE_BULK, count_ready, NULL);
    assert_int_equal(ready_count, 0);
    assert_true(store_run_batch(store));
    assert_int_equal(ready_count, 2);
    store_wait(store, NULL, IMP_WRITE_BULK, count_ready, NULL); /* there is room */
    assert_int_equal(ready_count, 3);
    assert_int_equal(closures[2].done_count, 0);
    assert_int_equal(
        store_write(store, NULL, IMP_WRITE_BULK, counted_in, counted_done, &closures[2]), IMP_OK);
    assert_true(store_run_batch(store));
    store_close(store);
    fixture_end(folder);
}

/* ---- threads ---- */

#define PRODUCERS 8
#define EACH 50

struct producer {
    struct store *store;
    imp_table *table;
    int number;
    sem_t answered;
    int failed;
    char key[16];
};

static imp_status produce_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct producer *producer = arg;
    (void)error;
    return imp_tx_insert(tx, producer->table, fixture_text(producer->key), fixture_text("v"));
}

static void produced(imp_status status, const imp_error *error, void *arg)
{
    struct producer *producer = arg;
    (void)error;
    producer->failed += status != IMP_OK;
    sem_post(&producer->answered);
}

static void *produce(void *arg)
{
    struct producer *producer = arg;
    for (int i = 0; i < EACH; i++) {
        snprintf(producer->key, sizeof producer->key, "%02d.%03d", producer->number, i);
        if (i % 10 == 9) {
            producer->failed +=
                store_write_sync(producer->store, NULL, produce_in, producer, NULL) != IMP_OK;
            continue;
        }
        if (store_write(producer->store, NULL, i % 2 == 0 ? IMP_WRITE_BULK : IMP_WRITE_CONTROL,
                        produce_in, produced, producer) != IMP_OK) {
            producer->failed++;
            continue;
        }
        sem_wait(&producer->answered);
        /* Answered is readable. */
        imp_tx *tx = NULL;
        imp_bytes value;
        if (store_read_begin(producer->store, NULL, &tx, NULL) != IMP_OK) {
            producer->failed++;
            continue;
        }
        producer->failed +=
            imp_tx_get(tx, producer->table, fixture_text(producer->key), &value) != IMP_OK;
        imp_store_read_end(tx);
    }
    return NULL;
}

static void test_many_threads_write_and_read_what_was_answered(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_THREADED);
    imp_table *table = fixture_table(store, "t", 0);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.store = store, .table = table, .number = i};
        sem_init(&producers[i].answered, 0, 0);
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(producers[i].failed, 0);
        sem_destroy(&producers[i].answered);
    }
    imp_tx *tx = NULL;
    uint64_t count = 0;
    imp_error error = {.status = IMP_OK};
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    assert_int_equal(imp_tx_count(tx, table, &count), IMP_OK);
    imp_store_read_end(tx);
    assert_int_equal(count, PRODUCERS * EACH);
    struct store_stats stats;
    store_stats_get(store, &stats);
    assert_true(stats.commits <= stats.closures);
    assert_int_equal(stats.reads_open, 0);
    store_close(store);
    fixture_end(folder);
}

static void test_closing_runs_what_waits_and_refuses_the_rest(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_MANUAL);
    imp_table *table = fixture_table(store, "t", 0);
    struct counted closure = {.table = table, .key = "late"};
    assert_int_equal(store_write(store, NULL, IMP_WRITE_BULK, counted_in, counted_done, &closure),
                     IMP_OK);
    store_close(store);
    assert_int_equal(closure.done_count, 1);
    assert_int_equal(closure.status, IMP_OK);
    struct counted refused = {.table = NULL};
    assert_int_equal(imp_store_write(NULL, IMP_WRITE_BULK, counted_in, counted_done, &refused),
                     IMP_UNAVAILABLE); /* there is no current store */
    fixture_end(folder);
}

/* ---- the change log's place ---- */

struct observed {
    int puts, deletes;
    uint64_t last_sequence;
    bool saw_text;
};

static void observe(void *arg, uint64_t sequence, const char *table, imp_bytes key, bool is_delete,
                    imp_bytes sealed)
{
    struct observed *observed = arg;
    if (strncmp(table, "test.", 5) != 0) {
        return;
    }
    assert_true(sequence >= observed->last_sequence);
    assert_true(key.length > 0);
    observed->last_sequence = sequence;
    observed->puts += !is_delete;
    observed->deletes += is_delete;
    observed->saw_text |= sealed.length > 0 && memmem(sealed.data, sealed.length, "text", 4);
}

static void test_every_change_passes_one_place(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = NULL;
    struct observed observed = {.puts = 0};
    imp_error error = {.status = IMP_OK};
    struct store_options options = fixture_options(folder, STORE_INLINE);
    options.observer = observe;
    options.observer_arg = &observed;
    assert_ok(store_open(&options, &store, &error), error);
    imp_table *table = fixture_table(store, "t", 0);
    fixture_put(store, table, "a", "text");
    fixture_put(store, table, "b", "text");
    fixture_put(store, table, "a", NULL);
    assert_int_equal(observed.puts, 2);
    assert_int_equal(observed.deletes, 1);
    assert_false(observed.saw_text);
    struct store_stats stats;
    store_stats_get(store, &stats);
    assert_int_equal(observed.last_sequence, stats.sequence);
    store_close(store);
    fixture_end(folder);
}

/* ---- sealing keys ---- */

static void test_each_start_seals_under_a_key_of_its_own(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    for (uint32_t start = 1; start <= 3; start++) {
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *table = fixture_table(store, "t", 0);
        assert_int_equal(keyring_current_id(store_keyring(store)), start);
        assert_int_equal(keyring_salt_count(store_keyring(store)), start);
        char key[8];
        snprintf(key, sizeof key, "k%u", start);
        fixture_put(store, table, key, "v");
        fixture_assert(store, table, "k1", "v");
        store_close(store);
    }
    fixture_end(folder);
}

static void test_a_new_salt_after_many_seals_is_durable_before_its_use(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_INLINE);
    imp_table *table = fixture_table(store, "t", 0);
    (void)keyring_count_seals(store_keyring(store), KEYS_SEALS_MAX - 1);
    fixture_put(store, table, "a", "under the first");
    assert_int_equal(keyring_current_id(store_keyring(store)), 2);
    assert_true(keyring_salt_is_new(store_keyring(store)));
    fixture_put(store, table, "b", "under the second");
    assert_false(keyring_salt_is_new(store_keyring(store)));
    store_close(store);
    store = fixture_open(folder, STORE_INLINE);
    table = fixture_table(store, "t", 0);
    fixture_assert(store, table, "a", "under the first");
    fixture_assert(store, table, "b", "under the second");
    store_close(store);
    fixture_end(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_put_is_there_after_opening_again),
        cmocka_unit_test(test_no_value_is_readable_in_the_file),
        cmocka_unit_test(test_bounds_and_answers_of_single_changes),
        cmocka_unit_test(test_swapped_and_cut_records_are_noticed),
        cmocka_unit_test(test_walks_go_both_ways_and_bear_deletions),
        cmocka_unit_test(test_a_batch_is_one_commit_and_a_failing_closure_leaves_nothing),
        cmocka_unit_test(test_both_queues_share_a_batch_in_turn),
        cmocka_unit_test(test_a_batch_ends_at_its_bytes),
        cmocka_unit_test(test_a_closure_cannot_ignore_a_failed_change),
        cmocka_unit_test(test_a_full_queue_says_busy_and_then_when_to_come_again),
        cmocka_unit_test(test_many_threads_write_and_read_what_was_answered),
        cmocka_unit_test(test_closing_runs_what_waits_and_refuses_the_rest),
        cmocka_unit_test(test_every_change_passes_one_place),
        cmocka_unit_test(test_each_start_seals_under_a_key_of_its_own),
        cmocka_unit_test(test_a_new_salt_after_many_seals_is_durable_before_its_use),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
