/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/crash-record.h"

/* The supervisor's mapping and descriptor; the server's side is attached to the same memory. */
static int record_fd = -1;
static struct crash_record *record;

static int make_record(void **state)
{
    (void)state;
    imp_error error;
    return crash_record_create(&record_fd, &record, &error) == IMP_OK &&
                   crash_record_attach(record_fd, &error) == IMP_OK
               ? 0
               : -1;
}

static int free_record(void **state)
{
    (void)state;
    crash_thread_end();
    crash_record_detach();
    crash_record_free(record_fd, record);
    record = NULL;
    return 0;
}

static struct crash_module module_of(const char *name, uint32_t generation)
{
    struct crash_module module;
    crash_module_set(&module, name, generation);
    return module;
}

static void test_the_object_at_hand_is_read_back(void **state)
{
    (void)state;
    const struct crash_module lpr = module_of("lpr", 3), jobs = module_of("jobs", 1);
    imp_id id = {{1, 2, 3}};
    struct crash_report report;
    assert_int_equal(crash_thread_begin(CRASH_THREAD_LOOP, 2, NULL), IMP_OK);
    crash_push(&lpr);
    imp_at_hand(IMP_AT_HAND_JOB, id);
    crash_push(&jobs);
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_false(report.has_fault);
    assert_true(report.has_thread);
    assert_string_equal(report.thread.name, "loop-2");
    assert_string_equal(report.thread.top.module, "jobs");
    assert_int_equal(report.thread.depth, 2);
    /* The inner call names no object: the outer one's is the one at hand. */
    assert_string_equal(report.thread.object.module, "lpr");
    assert_int_equal(report.thread.object.generation, 3);
    assert_int_equal(report.thread.object.kind, IMP_AT_HAND_JOB);
    assert_true(imp_id_equal(report.thread.object.id, id));
    crash_pop();
    crash_pop();
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_false(report.has_thread);
    assert_int_equal(report.busy_threads, 0);
}

static void test_an_object_is_forgotten_with_its_call(void **state)
{
    (void)state;
    const struct crash_module lpr = module_of("lpr", 1);
    struct crash_report report;
    assert_int_equal(crash_thread_begin(CRASH_THREAD_WORKER, 0, NULL), IMP_OK);
    crash_push(&lpr);
    imp_at_hand(IMP_AT_HAND_DEVICE, (imp_id){{9}});
    crash_pop();
    crash_push(&lpr);
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_int_equal(report.thread.object.kind, IMP_AT_HAND_NOTHING);
    crash_pop();
}

static void test_calls_deeper_than_the_stack_are_counted_only(void **state)
{
    (void)state;
    struct crash_module module = module_of("deep", 0);
    struct crash_report report;
    assert_int_equal(crash_thread_begin(CRASH_THREAD_CONTROL, 0, NULL), IMP_OK);
    for (uint32_t i = 0; i < CRASH_DEPTH_MAX + 5; i++) {
        module.generation = i;
        crash_push(&module);
        imp_at_hand(IMP_AT_HAND_JOB, (imp_id){{(uint8_t)i}});
    }
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_int_equal(report.thread.depth, CRASH_DEPTH_MAX);
    assert_int_equal(report.thread.top.generation, CRASH_DEPTH_MAX - 1);
    for (uint32_t i = 0; i < CRASH_DEPTH_MAX + 5; i++)
        crash_pop();
    crash_pop(); /* one too many does no harm */
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_int_equal(report.busy_threads, 0);
}

static void test_a_record_full_of_rubbish_is_read_within_bounds(void **state)
{
    (void)state;
    struct crash_report report;
    uint64_t seed = 88172645463325252u;
    for (int round = 0; round < 50; round++) {
        unsigned char *bytes = (unsigned char *)record;
        for (size_t i = 0; i < sizeof *record; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes[i] = (unsigned char)seed;
        }
        atomic_store(&record->fault.is_set, 2);
        record->fault.thread = (uint32_t)round; /* a place that is there */
        atomic_store(&record->threads[round].is_used, 1);
        crash_record_read(record, CRASH_NO_THREAD, &report);
        assert_true(report.has_fault && report.has_thread);
        assert_in_range(report.signal, 0, 64);
        assert_in_range(report.thread.depth, 0, CRASH_DEPTH_MAX);
        assert_in_range(report.thread.object.kind, 0, IMP_AT_HAND_KINDS - 1);
        assert_true(memchr(report.thread.name, 0, sizeof report.thread.name) != NULL);
        const char *names[] = {report.image, report.thread.top.module, report.thread.object.module};
        for (size_t i = 0; i < 3; i++) {
            size_t length = strnlen(names[i], CRASH_MODULE_SIZE);
            assert_true(length < CRASH_MODULE_SIZE);
            assert_int_equal(strspn(names[i], "abcdefghijklmnopqrstuvwxyz0123456789-.?"), length);
        }
    }
    record->fault.thread = CRASH_THREADS_MAX; /* and one that is not */
    crash_record_read(record, CRASH_THREADS_MAX + 7, &report);
    assert_false(report.has_thread);
}

static void test_a_late_heart_is_found_and_an_excused_one_is_not(void **state)
{
    (void)state;
    const int64_t now = 1000 * IMP_SECOND, stall = 30 * IMP_SECOND, cap = 600 * IMP_SECOND;
    struct crash_thread *thread = &record->threads[0];
    assert_int_equal(crash_record_stalled(record, now, 0, stall, cap), CRASH_NO_THREAD);
    assert_int_equal(crash_thread_begin(CRASH_THREAD_WRITER, 0, NULL), IMP_OK);
    /* Not watched before its first beat. */
    assert_int_equal(crash_record_stalled(record, now, 0, stall, cap), CRASH_NO_THREAD);
    atomic_store(&thread->beat_us, now - stall);
    assert_int_equal(crash_record_stalled(record, now, 0, stall, cap), CRASH_NO_THREAD);
    assert_int_equal(crash_record_stalled(record, now + 1, 0, stall, cap), 0);
    /* The process could not beat before `since`. */
    assert_int_equal(crash_record_stalled(record, now + 1, now, stall, cap), CRASH_NO_THREAD);
    /* An excuse holds, but not for ever. */
    atomic_store(&thread->limit_us, INT64_MAX);
    assert_int_equal(crash_record_stalled(record, now + stall, 0, stall, cap), CRASH_NO_THREAD);
    assert_int_equal(crash_record_stalled(record, now + cap, 0, stall, cap), 0);
    /* A thread that beats all the time has beaten since `now` was read: it lives, however long ago
     * the server started. */
    atomic_store(&record->threads[0].beat_us, now + 1);
    assert_int_equal(crash_record_stalled(record, now, 0, stall, cap), CRASH_NO_THREAD);
    assert_int_equal(crash_record_stalled(record, now, now - stall - 1, stall, cap),
                     CRASH_NO_THREAD);
    /* A beat in the future is no way to be never late. */
    atomic_store(&thread->limit_us, 0);
    atomic_store(&thread->beat_us, INT64_MAX);
    assert_int_equal(crash_record_stalled(record, now, now - stall - 1, stall, cap), 0);
    crash_beat_rest();
    assert_int_equal(crash_record_stalled(record, now, 0, stall, cap), CRASH_NO_THREAD);
    crash_beat();
    assert_true(atomic_load(&thread->beat_us) > 0);
}

static void test_words_outlive_the_server_and_threads_do_not(void **state)
{
    (void)state;
    imp_id sent_id = {{5}}, unsent_id = {{6}}, ended_id = {{7}};
    imp_sent_slot slot;
    uint64_t bytes;
    assert_int_equal(crash_thread_begin(CRASH_THREAD_LOOP, 0, NULL), IMP_OK);
    imp_sent_slot sent = imp_sent_begin(sent_id), unsent = imp_sent_begin(unsent_id);
    imp_sent_slot ended = imp_sent_begin(ended_id);
    assert_true(sent != unsent && unsent != ended);
    imp_sent_add(sent, 100);
    imp_sent_add(sent, 11);
    imp_sent_end(ended);
    atomic_store(&record->sent[(sent + 1000) % CRASH_SENT_SLOTS].state, 1); /* died while filling */
    crash_checkpoint_set(42);
    crash_thread_end();
    crash_record_detach();

    crash_record_clear(record);
    assert_int_equal(atomic_load(&record->threads[0].is_used), 0);
    assert_int_equal(crash_record_attach(record_fd, NULL), IMP_OK);
    assert_true(imp_sent_find(sent_id, &slot, &bytes));
    assert_int_equal(slot, sent);
    assert_int_equal(bytes, 111);
    assert_true(imp_sent_find(unsent_id, &slot, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(imp_sent_find(ended_id, &slot, &bytes));
    assert_int_equal(atomic_load(&record->sent[(sent + 1000) % CRASH_SENT_SLOTS].state), 0);
    assert_int_equal(atomic_load(&record->checkpoint), 42);
    imp_sent_add(IMP_SENT_NONE, 1);
    imp_sent_end(IMP_SENT_NONE);
}

static void end_of_a_run(void)
{
    crash_record_detach();
    crash_record_clear(record);
    assert_int_equal(crash_record_attach(record_fd, NULL), IMP_OK);
}

static void test_of_several_words_the_largest_counts(void **state)
{
    (void)state;
    imp_id id = {{0, 1}};
    imp_sent_slot slot, largest = IMP_SENT_NONE;
    uint64_t bytes = 0;
    for (uint64_t run = 0; run < 3; run++) {
        imp_sent_slot word = imp_sent_begin(id);
        imp_sent_add(word, run == 1 ? 5000 : run);
        largest = run == 1 ? word : largest;
        end_of_a_run();
    }
    assert_true(imp_sent_find(id, &slot, &bytes));
    assert_int_equal(bytes, 5000);
    assert_int_equal(slot, largest);
}

static void test_old_words_end_together_and_new_ones_stay(void **state)
{
    (void)state;
    imp_id id = {{0, 1}}, new_id = {{0, 2}}, again = {{0, 1, 0, 0, 3}};
    imp_sent_slot slot;
    uint64_t bytes;
    imp_sent_begin(id);
    imp_sent_slot ended = imp_sent_begin(id);
    end_of_a_run();
    imp_sent_end(ended);
    assert_int_equal(imp_sent_begin(again), ended); /* the place of an old one, and no old one */
    imp_sent_begin(new_id);
    imp_sent_end_old();
    assert_false(imp_sent_find(id, &slot, &bytes));
    assert_true(imp_sent_find(again, &slot, &bytes));
    assert_true(imp_sent_find(new_id, &slot, &bytes));
    end_of_a_run();
    imp_sent_end_old();
    assert_false(imp_sent_find(new_id, &slot, &bytes));
}

static void test_words_run_out_without_harm(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < CRASH_SENT_SLOTS; i++)
        assert_int_not_equal(imp_sent_begin((imp_id){{1, 2, 3, 4}}), IMP_SENT_NONE);
    assert_int_equal(imp_sent_begin((imp_id){{5}}), IMP_SENT_NONE);
    imp_sent_end(17);
    assert_int_equal(imp_sent_begin((imp_id){{5}}), 17);
}

static void test_the_server_cannot_cut_the_record(void **state)
{
    (void)state;
    assert_int_equal(ftruncate(record_fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(record_fd, (off_t)(2 * sizeof *record)), -1);
    record->version++;
    assert_int_equal(crash_record_attach(record_fd, NULL), IMP_CORRUPT);
    record->version--;
}

static void test_a_thread_that_has_not_begun_costs_nothing(void **state)
{
    (void)state;
    const struct crash_module module = module_of("lpr", 1);
    crash_push(&module);
    imp_at_hand(IMP_AT_HAND_JOB, (imp_id){{1}});
    crash_beat();
    crash_pop();
    assert_int_equal(crash_thread_place(), CRASH_NO_THREAD);
    for (uint32_t i = 0; i < CRASH_THREADS_MAX; i++)
        assert_int_equal(atomic_load(&record->threads[i].is_used), 0);
}

#ifndef IMP_SANITIZED
/* Volatile and never inlined: the fault's address is inside this function. */
static __attribute__((noinline)) void write_to_nowhere(void)
{
    volatile int *volatile nowhere = (volatile int *)8;
    *nowhere = 1;
}

static volatile int depth_wanted = INT_MAX;

static __attribute__((noinline)) int overflow_the_stack(int depth)
{
    volatile char here[4096];
    here[0] = (char)depth;
    return depth == depth_wanted ? 0 : overflow_the_stack(depth + 1) + here[0];
}

/* Runs `fall` in a child that has a module on its stack; returns its wait status. */
static int fall_in_child(void (*fall)(void))
{
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        const struct crash_module lpr = module_of("lpr", 7);
        crash_fault_install();
        /* As the loops do, which leave signals to the control thread. */
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        if (crash_thread_begin(CRASH_THREAD_LOOP, 1, NULL) != IMP_OK)
            _exit(99);
        uintptr_t code = (uintptr_t)write_to_nowhere;
        crash_image_add(&lpr, code, code + 4096);
        crash_push(&lpr);
        imp_at_hand(IMP_AT_HAND_JOB, (imp_id){{0xab}});
        fall();
        _exit(98);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void fall_by_segv(void)
{
    write_to_nowhere();
}

static void fall_by_overflow(void)
{
    overflow_the_stack(0);
}

static void fall_by_abort(void)
{
    raise(SIGABRT);
}

static void test_a_fault_names_module_object_and_place(void **state)
{
    (void)state;
    struct crash_report report;
    int status = fall_in_child(fall_by_segv);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_true(report.has_fault && report.has_thread);
    assert_int_equal(report.signal, SIGSEGV);
    assert_int_equal(report.address, 8);
    assert_string_equal(report.image, "lpr");
    assert_int_equal(report.image_generation, 7);
    assert_in_range(report.image_offset, 0, 4095);
    assert_string_equal(report.thread.name, "loop-1");
    assert_string_equal(report.thread.top.module, "lpr");
    assert_int_equal(report.thread.object.id.bytes[0], 0xab);
}

static void test_an_overflown_stack_is_noted_too(void **state)
{
    (void)state;
    struct crash_report report;
    int status = fall_in_child(fall_by_overflow);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_true(report.has_fault);
    assert_string_equal(report.thread.top.module, "lpr");
}

static void test_a_sent_signal_still_ends_the_process(void **state)
{
    (void)state;
    struct crash_report report;
    int status = fall_in_child(fall_by_abort);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    crash_record_read(record, CRASH_NO_THREAD, &report);
    assert_int_equal(report.signal, SIGABRT);
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_record, free_record)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_object_at_hand_is_read_back),
        TEST(test_an_object_is_forgotten_with_its_call),
        TEST(test_calls_deeper_than_the_stack_are_counted_only),
        TEST(test_a_record_full_of_rubbish_is_read_within_bounds),
        TEST(test_a_late_heart_is_found_and_an_excused_one_is_not),
        TEST(test_words_outlive_the_server_and_threads_do_not),
        TEST(test_of_several_words_the_largest_counts),
        TEST(test_old_words_end_together_and_new_ones_stay),
        TEST(test_words_run_out_without_harm),
        TEST(test_the_server_cannot_cut_the_record),
        TEST(test_a_thread_that_has_not_begun_costs_nothing),
#ifndef IMP_SANITIZED
        TEST(test_a_fault_names_module_object_and_place),
        TEST(test_an_overflown_stack_is_noted_too),
        TEST(test_a_sent_signal_still_ends_the_process),
#endif
    };
    return cmocka_run_group_tests_name("crash-record", tests, NULL, NULL);
}
