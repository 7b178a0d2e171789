/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-store-kill.c - what was acknowledged before a kill -9 is there after it, whole; and whatever
 * closures do, the store holds what a plain model says.
 */
#include "tests/unit/store-fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "core/store-private.h"

#define KILLS 20
#define WAITING 16

/* ---- kill -9 ---- */

struct stream {
    struct store *store;
    imp_table *first, *second;
    uint64_t number;
    int ack_fd;
};

/* Two tables and a running number, so that a torn commit would show. */
static imp_status write_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct stream *stream = arg;
    (void)error;
    imp_status status = imp_tx_next_number(tx, stream->first, &stream->number);
    const imp_bytes key = {&stream->number, sizeof stream->number};
    if (status == IMP_OK) {
        status = imp_tx_insert(tx, stream->first, key, key);
    }
    return status == IMP_OK ? imp_tx_insert(tx, stream->second, key, key) : status;
}

static void acknowledge(imp_status status, const imp_error *error, void *arg)
{
    struct stream *stream = arg;
    (void)error;
    if (status != IMP_OK ||
        write(stream->ack_fd, &stream->number, sizeof stream->number) != sizeof stream->number ||
        store_write(stream->store, NULL, IMP_WRITE_BULK, write_in, acknowledge, stream) != IMP_OK) {
        _exit(1);
    }
}

static _Noreturn void write_until_killed(const char *folder, int ack_fd)
{
    struct stream streams[WAITING];
    struct store *store = fixture_open(folder, STORE_THREADED);
    imp_table *first = fixture_table(store, "first", 0);
    imp_table *second = fixture_table(store, "second", 0);
    for (int i = 0; i < WAITING; i++) {
        streams[i] = (struct stream){store, first, second, 0, ack_fd};
        if (store_write(store, NULL, IMP_WRITE_BULK, write_in, acknowledge, &streams[i]) !=
            IMP_OK) {
            _exit(1);
        }
    }
    for (;;) {
        pause();
    }
}

static void test_acknowledged_is_present_after_kills(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    uint64_t acknowledged = 0;
    uint64_t highest = 0;
    for (int kills = 0; kills < KILLS; kills++) {
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ends[0]);
            write_until_killed(folder, ends[1]);
        }
        close(ends[1]);
        /* A different number of acknowledgements each time, then the kill falls where it falls. */
        uint32_t wanted;
        imp_random(&wanted, sizeof wanted);
        wanted = 1 + wanted % 200;
        uint64_t number;
        bool is_killed = false;
        for (;;) {
            ssize_t got = read(ends[0], &number, sizeof number);
            if (got == 0) {
                break;
            }
            assert_int_equal(got, sizeof number);
            acknowledged++;
            highest = number > highest ? number : highest;
            if (--wanted == 0 && !is_killed) {
                is_killed = true;
                assert_int_equal(kill(child, SIGKILL), 0);
            }
        }
        close(ends[0]);
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));

        imp_error error = {.status = IMP_OK};
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *tables[2] = {fixture_table(store, "first", 0),
                                fixture_table(store, "second", 0)};
        imp_tx *tx = NULL;
        uint64_t counts[2];
        assert_ok(store_read_begin(store, NULL, &tx, &error), error);
        for (int i = 0; i < 2; i++) {
            /* Numbers have no gap, so all up to the highest acknowledged one are there, or none. */
            assert_int_equal(imp_tx_count(tx, tables[i], &counts[i]), IMP_OK);
            assert_true(counts[i] >= highest);
            assert_true(counts[i] >= acknowledged);
            for (uint64_t at = 1; at <= counts[i]; at++) {
                imp_bytes value;
                assert_int_equal(imp_tx_get(tx, tables[i], (imp_bytes){&at, sizeof at}, &value),
                                 IMP_OK);
                assert_memory_equal(value.data, &at, sizeof at);
            }
        }
        assert_int_equal(counts[0], counts[1]);
        imp_store_read_end(tx);
        store_close(store);
    }
    print_message("kills=%d acknowledged=%llu lost=0\n", KILLS, (unsigned long long)acknowledged);
    fixture_end(folder);
}

/* ---- a model ---- */

#define KEYS 200
#define STEPS 3000

static char model[KEYS]; /* 0 = absent, else the first byte of the value */
static uint64_t model_seed;

static uint32_t roll(uint32_t sides)
{
    /* splitmix64: repeatable, so that a failure can be looked at again */
    model_seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t value = model_seed;
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((value ^ (value >> 31)) % sides);
}

struct step {
    imp_table *table;
    uint64_t seed;
    char after[KEYS];
    bool fails;
};

/* Some puts and deletions of values from nothing to many pages; some closures fail at their end. */
static imp_status step_in(imp_tx *tx, void *arg, imp_error *error)
{
    static uint8_t value[20000];
    struct step *step = arg;
    (void)error;
    model_seed = step->seed;
    memcpy(step->after, model, sizeof model);
    uint32_t changes = roll(6);
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t which = roll(KEYS);
        char key[16];
        snprintf(key, sizeof key, "key%03u", which);
        if (roll(3) == 0) {
            imp_status status = imp_tx_delete(tx, step->table, fixture_text(key));
            assert_int_equal(status, step->after[which] != 0 ? IMP_OK : IMP_NOT_FOUND);
            step->after[which] = 0;
        } else {
            char byte = (char)(1 + roll(100));
            uint32_t length = 1 + (roll(4) == 0 ? roll(sizeof value) : roll(300));
            memset(value, byte, length);
            assert_int_equal(
                imp_tx_put(tx, step->table, fixture_text(key), (imp_bytes){value, length}), IMP_OK);
            step->after[which] = byte;
        }
    }
    return step->fails ? IMP_DENIED : IMP_OK;
}

static void step_done(imp_status status, const imp_error *error, void *arg)
{
    (void)error;
    (void)arg;
    assert_true(status == IMP_OK || status == IMP_DENIED);
}

/* The closures of a batch run one after the other: each sees what those before it have left. */
static imp_status step_and_keep(imp_tx *tx, void *arg, imp_error *error)
{
    struct step *step = arg;
    imp_status status = step_in(tx, arg, error);
    if (status == IMP_OK) {
        memcpy(model, step->after, sizeof model);
    }
    return status;
}

static void compare(struct store *store, imp_table *table)
{
    imp_tx *tx = NULL;
    imp_error error = {.status = IMP_OK};
    imp_cursor *cursor = NULL;
    imp_bytes key, value;
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    assert_int_equal(imp_cursor_open(tx, table, (imp_bytes){NULL, 0}, &cursor), IMP_OK);
    for (uint32_t i = 0; i < KEYS; i++) {
        char expected[16];
        if (model[i] == 0) {
            continue;
        }
        snprintf(expected, sizeof expected, "key%03u", i);
        assert_int_equal(imp_cursor_next(cursor, &key, &value), IMP_OK);
        assert_int_equal(key.length, strlen(expected));
        assert_memory_equal(key.data, expected, key.length);
        assert_int_equal(*(const char *)value.data, model[i]);
        assert_int_equal(((const char *)value.data)[value.length - 1], model[i]);
    }
    assert_int_equal(imp_cursor_next(cursor, &key, &value), IMP_NOT_FOUND);
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
}

static void test_random_batches_with_failing_closures_match_a_model(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    static struct step steps[STORE_BATCH_CLOSURES];
    uint64_t seed = 20240229;
    memset(model, 0, sizeof model);
    for (int round = 0; round < 4; round++) {
        struct store *store = fixture_open(folder, STORE_MANUAL);
        imp_table *table = fixture_table(store, "t", 0);
        compare(store, table);
        for (uint32_t done = 0; done < STEPS / 4;) {
            model_seed = seed++;
            uint32_t batch = 1 + roll(40);
            for (uint32_t i = 0; i < batch; i++) {
                steps[i] = (struct step){.table = table, .seed = seed, .fails = roll(4) == 0};
                seed++;
                assert_int_equal(store_write(store, NULL, (imp_write_queue)roll(2), step_and_keep,
                                             step_done, &steps[i]),
                                 IMP_OK);
            }
            while (store_run_batch(store)) {
            }
            compare(store, table);
            done += batch;
        }
        store_close(store);
    }
    fixture_end(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_batches_with_failing_closures_match_a_model),
        cmocka_unit_test(test_acknowledged_is_present_after_kills),
    };
    return cmocka_run_group_tests_name("store-kill", tests, NULL, NULL);
}
