/* SPDX-License-Identifier: Apache-2.0 */
/* test-exec-report.c - what a parent learns of a child that is to become a program. */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/exec-report.h"

#define SHORT_LIMIT (50 * IMP_MILLISECOND)

/* Forks a child that does `act` with the pipe's writing end; gives the parent's end. */
static pid_t child_start(void (*act)(int report), int *report)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        act(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    *report = ends[0];
    return child;
}

static imp_status outcome(void (*act)(int report), int64_t limit_us, imp_error *error)
{
    int report = -1;
    *error = (imp_error){.status = IMP_OK};
    pid_t child = child_start(act, &report);
    imp_status status = exec_report_await(report, child, "the child", limit_us, error);
    close(report);
    if (status == IMP_OK) {
        kill(child, SIGKILL); /* it may have ended already */
        assert_int_equal(waitpid(child, NULL, 0), child);
    } else { /* it was reaped already */
        assert_int_equal(waitpid(child, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
    }
    return status;
}

static void become_true(int report)
{
    (void)report;
    execl("/bin/true", "true", (char *)NULL);
}

static void say_denied(int report)
{
    imp_error error;
    imp_error_set(&error, IMP_DENIED, "not for you");
    exec_report_fail(report, &error);
}

static void write_all(int report, const void *bytes, size_t length)
{
    if (write(report, bytes, length) != (ssize_t)length)
        _exit(99);
    pause(); /* the parent does not wait for its end */
}

static void say_without_end(int report)
{
    imp_error error = {.status = IMP_LIMIT};
    memset(error.message, 'x', sizeof error.message);
    write_all(report, &error, sizeof error);
}

static void say_ok(int report)
{
    const imp_error error = {.status = IMP_OK, .message = "all is well"};
    write_all(report, &error, sizeof error);
}

static void say_half(int report)
{
    const imp_error error = {.status = IMP_DENIED, .message = "cut"};
    write_all(report, &error, sizeof error / 2);
}

static void say_nothing(int report)
{
    (void)report;
    pause();
}

static void test_a_program_that_runs_is_told_by_the_pipe_s_end(void **state)
{
    (void)state;
    imp_error error;
    assert_int_equal(outcome(become_true, EXEC_REPORT_LIMIT, &error), IMP_OK);
}

static void test_the_child_s_reason_arrives(void **state)
{
    (void)state;
    imp_error error;
    assert_int_equal(outcome(say_denied, EXEC_REPORT_LIMIT, &error), IMP_DENIED);
    assert_string_equal(error.message, "not for you");
}

static void test_a_message_without_end_is_ended(void **state)
{
    (void)state;
    imp_error error;
    assert_int_equal(outcome(say_without_end, EXEC_REPORT_LIMIT, &error), IMP_LIMIT);
    assert_int_equal(strnlen(error.message, sizeof error.message), sizeof error.message - 1);
}

static void test_a_report_of_success_is_not_believed(void **state)
{
    (void)state;
    imp_error error;
    assert_int_equal(outcome(say_ok, EXEC_REPORT_LIMIT, &error), IMP_IO);
    assert_string_equal(error.message, "the child ended before it started");
    assert_int_equal(outcome(say_half, EXEC_REPORT_LIMIT, &error), IMP_IO);
}

static void test_a_child_that_does_not_start_is_given_up(void **state)
{
    (void)state;
    imp_error error;
    assert_int_equal(outcome(say_nothing, SHORT_LIMIT, &error), IMP_TIMEOUT);
    assert_string_equal(error.message, "the child did not start within 50 ms");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_program_that_runs_is_told_by_the_pipe_s_end),
        cmocka_unit_test(test_the_child_s_reason_arrives),
        cmocka_unit_test(test_a_message_without_end_is_ended),
        cmocka_unit_test(test_a_report_of_success_is_not_believed),
        cmocka_unit_test(test_a_child_that_does_not_start_is_given_up),
    };
    return cmocka_run_group_tests_name("exec-report", tests, NULL, NULL);
}
