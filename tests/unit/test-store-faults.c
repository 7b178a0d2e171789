/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-store-faults.c - every call with which the store writes fails once, in each way: what was
 * acknowledged stays, what was refused is gone, and a sync that failed ends the process unanswered.
 *
 * The calls are this program's own, which LMDB's reach as well. Children die at named crash points in
 * builds that have them.
 */
#include "tests/unit/store-fixture.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "core/backup.h"
#include "core/crash-point.h"
#include "core/server.h"
#include "core/store-private.h"

/* ---- the calls ---- */

enum fault_call { CALL_NONE, CALL_SYNC, CALL_WRITE };

static enum fault_call fails_in;
static int fails_with; /* an errno; 0 = a short write */
static uint32_t fails_after, calls_seen;

static bool fails_now(enum fault_call call)
{
    return fails_in == call && ++calls_seen == fails_after;
}

/* A sync that stands still until it is let go. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_shut, is_reached;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void gate_pass(void)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.is_shut) {
        gate.is_reached = true;
        pthread_cond_broadcast(&gate.changed);
        pthread_cond_wait(&gate.changed, &gate.lock);
    }
    pthread_mutex_unlock(&gate.lock);
}

static void gate_set(bool is_shut)
{
    pthread_mutex_lock(&gate.lock);
    gate.is_shut = is_shut;
    gate.is_reached = false;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void gate_wait_reached(void)
{
    pthread_mutex_lock(&gate.lock);
    while (!gate.is_reached)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

IMP_PUBLIC int fdatasync(int fd);
int fdatasync(int fd)
{
    gate_pass();
    if (fails_now(CALL_SYNC)) {
        errno = fails_with;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static ssize_t failed_write(void)
{
    if (fails_with == 0)
        return 7;
    errno = fails_with;
    return -1;
}

IMP_PUBLIC ssize_t pwrite(int fd, const void *data, size_t length, off_t offset);
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return fails_now(CALL_WRITE) ? failed_write()
                                 : (ssize_t)syscall(SYS_pwrite64, fd, data, length, offset);
}

IMP_PUBLIC ssize_t writev(int fd, const struct iovec *parts, int count);
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return fails_now(CALL_WRITE) ? failed_write() : (ssize_t)syscall(SYS_writev, fd, parts, count);
}

/* ---- one fault at one call ---- */

#define WRITES 3

/* What a child says of each write. */
#define SAYS_OK 'o'
#define SAYS_NO_SPACE 'n'

static int say_fd;

static imp_status wide_in(imp_tx *tx, void *arg, imp_error *error)
{
    static const uint8_t large[40000];
    const struct fixture_put *put = arg;
    char key[16];
    imp_status status = fixture_put_in(tx, arg, error);
    for (int i = 0; i < 20 && status == IMP_OK; i++) {
        snprintf(key, sizeof key, "%s.%d", put->key, i);
        status = imp_tx_put(tx, put->table, fixture_text(key),
                            (imp_bytes){large, i % 5 == 0 ? sizeof large : 200});
    }
    return status;
}

static void say(imp_status status, const imp_error *error, void *arg)
{
    (void)error;
    (void)arg;
    char word = status == IMP_OK ? SAYS_OK : status == IMP_NO_SPACE ? SAYS_NO_SPACE : '?';
    if (syscall(SYS_write, say_fd, &word, 1) != 1)
        _exit(1);
}

/* Writes with the fault set; tells the answers. Returns the exit status. */
static int write_with_fault(const char *folder, char answers[WRITES + 1])
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        say_fd = ends[1];
        enum fault_call armed = fails_in;
        fails_in = CALL_NONE;
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *table = fixture_table(store, "t", 0);
        fails_in = armed;
        for (int i = 0; i < WRITES; i++) {
            char key[16];
            snprintf(key, sizeof key, "k%d", i);
            struct fixture_put put = {table, key, "v"};
            if (store_write(store, NULL, IMP_WRITE_CONTROL, wide_in, say, &put) != IMP_OK)
                _exit(1);
        }
        store_close(store);
        _exit(calls_seen >= fails_after ? 0 : 100); /* 100: there are fewer calls than that */
    }
    close(ends[1]);
    ssize_t got = read(ends[0], answers, 1);
    ssize_t count = 0;
    while (got == 1 && ++count < WRITES)
        got = read(ends[0], answers + count, 1);
    answers[count] = '\0';
    close(ends[0]);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

static uint32_t try_all(enum fault_call call, int code, bool may_be_clean)
{
    for (uint32_t nth = 1;; nth++) {
        char *folder = fixture_folder();
        char answers[WRITES + 1];
        fails_in = call;
        fails_with = code;
        fails_after = nth;
        calls_seen = 0;
        int status = write_with_fault(folder, answers);
        fails_in = CALL_NONE;
        if (status == 0)
            assert_true(may_be_clean);
        else if (status != 100)
            assert_int_equal(status, SERVER_EXIT_STORE);
        struct store *store = fixture_open(folder, STORE_INLINE);
        imp_table *table = fixture_table(store, "t", 0);
        for (size_t i = 0; i < strlen(answers); i++) {
            char key[16];
            snprintf(key, sizeof key, "k%zu", i);
            assert_true(answers[i] == SAYS_OK || (answers[i] == SAYS_NO_SPACE && code == ENOSPC));
            fixture_assert(store, table, key, answers[i] == SAYS_OK ? "v" : NULL);
        }
        fixture_put(store, table, "after", "v");
        store_close(store);
        fixture_end(folder);
        if (status == 100)
            return nth - 1;
    }
}

static void test_a_failed_sync_ends_the_process_unanswered(void **state)
{
    (void)state;
    /* One a commit, and those of the zeros that the file grows by. */
    assert_true(try_all(CALL_SYNC, EIO, false) >= WRITES);
}

static void test_a_failed_write_ends_the_process_unanswered(void **state)
{
    (void)state;
    assert_true(try_all(CALL_WRITE, EIO, false) > 2 * WRITES);
}

static void test_a_short_write_is_gone_on_with_or_ends_the_process_unanswered(void **state)
{
    (void)state;
    assert_true(try_all(CALL_WRITE, 0, true) > 2 * WRITES); /* ours go on, LMDB's end */
}

static void test_no_space_in_a_commit_is_taken_back_whole(void **state)
{
    (void)state;
    assert_true(try_all(CALL_WRITE, ENOSPC, true) > 2 * WRITES);
}

/* Refuses in any case, and says whether the record of its key is there. */
static imp_status refuse_in(imp_tx *tx, void *arg, imp_error *error)
{
    const struct fixture_put *put = arg;
    imp_bytes value;
    if (imp_tx_get(tx, put->table, fixture_text(put->key), &value) == IMP_OK)
        return imp_error_set(error, IMP_EXISTS, "%s is there", put->key);
    return imp_error_set(error, IMP_DENIED, "%s is not there", put->key);
}

struct asked {
    imp_write_function fn;
    struct fixture_put put;
    imp_status status;
};

static void answered(imp_status status, const imp_error *error, void *arg)
{
    struct asked *asked = (struct asked *)(void *)((char *)arg - offsetof(struct asked, put));
    (void)error;
    asked->status = status;
}

static void test_a_refusal_keeps_its_reason_when_the_batch_finds_no_space(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_MANUAL);
    imp_table *table = fixture_table(store, "t", 0);
    struct asked asked[] = {
        {refuse_in, {table, "a", ""}, IMP_OK}, /* nothing was changed before it */
        {fixture_put_in, {table, "a", "v"}, IMP_OK},
        {refuse_in, {table, "a", ""}, IMP_OK}, /* for a record that will not be there */
    };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(
            store_write(store, NULL, IMP_WRITE_CONTROL, asked[i].fn, answered, &asked[i].put),
            IMP_OK);
    fails_in = CALL_WRITE;
    fails_with = ENOSPC;
    fails_after = 1;
    calls_seen = 0;
    assert_true(store_run_batch(store));
    fails_in = CALL_NONE;
    assert_int_equal(asked[0].status, IMP_DENIED);
    assert_int_equal(asked[1].status, IMP_NO_SPACE);
    assert_int_equal(asked[2].status, IMP_NO_SPACE);
    fixture_assert(store, table, "a", NULL);
    store_close(store);
    fixture_end(folder);
}

static void test_a_rewrapping_that_finds_no_space_leaves_the_old_master_key(void **state)
{
    (void)state;
    static const uint8_t other[KEYS_MASTER_SIZE] = "another master key of 32 bytes!";
    char *folder = fixture_folder();
    char before[KEYS_MASTER_NAME_SIZE], after[KEYS_MASTER_NAME_SIZE];
    imp_error error = {.status = IMP_OK};
    struct store *store = fixture_open(folder, STORE_INLINE);
    keyring_master_name(store_keyring(store), before);
    fails_in = CALL_WRITE;
    fails_with = ENOSPC;
    fails_after = 1;
    calls_seen = 0;
    imp_status status = store_rewrap(store, other, &error);
    fails_in = CALL_NONE;
    assert_int_equal(status, IMP_NO_SPACE);
    assert_string_equal(keyring_master_name(store_keyring(store), after), before);
    store_close(store);
    store = fixture_open(folder, STORE_INLINE);
    store_close(store);
    fixture_end(folder);
}

/* ---- before the disk has it ---- */

static void test_nothing_is_seen_before_it_is_durable(void **state)
{
    (void)state;
    char *folder = fixture_folder();
    struct store *store = fixture_open(folder, STORE_THREADED);
    imp_table *table = fixture_table(store, "t", 0);
    struct fixture_put put = {table, "k", "v"};
    gate_set(true);
    assert_int_equal(store_write(store, NULL, IMP_WRITE_CONTROL, fixture_put_in, NULL, &put),
                     IMP_OK);
    gate_wait_reached();
    fixture_assert(store, table, "k", NULL);
    gate_set(false);
    fixture_put(store, table, "after", "v");
    fixture_assert(store, table, "k", "v");
    store_close(store);
    fixture_end(folder);
}

/* ---- crash points ---- */

static void run_scenario(const char *folder)
{
    char path[256], restored[256];
    imp_error error = {.status = IMP_OK};
    uint8_t master[KEYS_MASTER_SIZE];
    struct backup_report report;
    snprintf(path, sizeof path, "%s/keys/master.key", folder);
    assert_ok(keys_master_load_or_make(path, !store_exists(folder), master, &error), error);
    struct store_options options = fixture_options(folder, STORE_INLINE);
    struct store *store = NULL;
    options.master = master;
    assert_ok(store_open(&options, &store, &error), error);
    imp_table *table = fixture_table(store, "t", 0);
    fixture_put(store, table, "a", "v");
    snprintf(path, sizeof path, "%s/backup", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_ok(backup_create(store, fd, 0, &report, &error), error);
    fixture_assert(store, table, "a", "v");
    store_close(store);
    snprintf(restored, sizeof restored, "%s/restored", folder);
    fixture_remove_tree(restored); /* what the refusal of a cut restore asks for */
    assert_int_equal(mkdir(restored, 0700), 0);
    assert_ok(backup_restore(fd, restored, master, &report, &error), error);
    options.state_dir = restored;
    assert_ok(store_open(&options, &store, &error), error);
    fixture_assert(store, fixture_table(store, "t", 0), "a", "v");
    store_close(store);
    close(fd);
}

static const char *point_names[64];
static size_t point_count;
static void keep_name(const char *name, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < point_count; i++)
        if (strcmp(point_names[i], name) == 0)
            return;
    assert_true(point_count < 64);
    point_names[point_count++] = name;
}

static bool is_ours(const char *name)
{
    return strncmp(name, "store.", 6) == 0 || strncmp(name, "log.", 4) == 0 ||
           strncmp(name, "checkpoint.", 11) == 0 || strncmp(name, "recover.", 8) == 0 ||
           strncmp(name, "keys.", 5) == 0 || strncmp(name, "backup.", 7) == 0 ||
           strncmp(name, "restore.", 8) == 0;
}

static void die_at(const char *point, const char *folder)
{
    int how = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv(CRASH_POINT_ENVIRONMENT, point, 1);
        run_scenario(folder);
        _exit(1); /* the point was not met */
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGKILL)
        fail_msg("%s was not hit", point);
}

static void test_a_kill_at_each_crash_point_can_be_gone_on_from(void **state)
{
    (void)state;
    crash_point_list(keep_name, NULL);
    if (point_count == 0)
        skip(); /* not in this build */
    size_t hit = 0;
    for (size_t i = 0; i < point_count; i++) {
        if (!is_ours(point_names[i]))
            continue;
        char *folder = fixture_folder();
        if (strncmp(point_names[i], "recover.", 8) == 0)
            die_at("log.synced", folder); /* there is something to recover */
        die_at(point_names[i], folder);
        run_scenario(folder);
        hit++;
        fixture_end(folder);
    }
    print_message("crash points hit: %zu\n", hit);
    assert_true(hit >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failed_sync_ends_the_process_unanswered),
        cmocka_unit_test(test_a_failed_write_ends_the_process_unanswered),
        cmocka_unit_test(test_a_short_write_is_gone_on_with_or_ends_the_process_unanswered),
        cmocka_unit_test(test_no_space_in_a_commit_is_taken_back_whole),
        cmocka_unit_test(test_a_refusal_keeps_its_reason_when_the_batch_finds_no_space),
        cmocka_unit_test(test_a_rewrapping_that_finds_no_space_leaves_the_old_master_key),
        cmocka_unit_test(test_nothing_is_seen_before_it_is_durable),
        cmocka_unit_test(test_a_kill_at_each_crash_point_can_be_gone_on_from),
    };
    return cmocka_run_group_tests_name("store-faults", tests, NULL, NULL);
}
