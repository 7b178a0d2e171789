/* SPDX-License-Identifier: Apache-2.0 */
/* test-log.c - the lines' form, limits, targets, and that nobody waits for a slow reader. */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log-target.h"
#include "core/log.h"
#include "core/time.h"

static char captured[LOG_LINE_MAX + 1];
static int captured_count;

static void capture(const char *line, void *arg)
{
    (void)arg;
    snprintf(captured, sizeof captured, "%s", line);
    captured_count++;
}

static int start_capture(void **state)
{
    (void)state;
    captured_count = 0;
    captured[0] = '\0';
    log_set_level(IMP_LOG_INFO);
    log_capture_for_test(capture, NULL);
    time_freeze_for_test(INT64_C(1795350896789012), 0);
    return 0;
}

static int stop_capture(void **state)
{
    (void)state;
    log_capture_for_test(NULL, NULL);
    time_thaw_for_test();
    return 0;
}

static void test_line_has_time_level_module_event_and_pairs(void **state)
{
    (void)state;
    imp_log(NULL, IMP_LOG_WARNING, "store.full", "bytes=%d path=\"%s\"", 5, "/x y");
    assert_string_equal(
        captured, "2026-11-22T12:34:56.789012Z warning core store.full bytes=5 path=\"/x y\"");
    imp_log(NULL, IMP_LOG_INFO, "ready", "%s", "");
    assert_string_equal(captured, "2026-11-22T12:34:56.789012Z info core ready");
}

static void test_level_decides(void **state)
{
    (void)state;
    imp_log(NULL, IMP_LOG_DEBUG, "a", "x=1");
    assert_int_equal(captured_count, 0);
    assert_false(log_is_on(IMP_LOG_DEBUG));
    log_set_level(IMP_LOG_DEBUG);
    imp_log(NULL, IMP_LOG_DEBUG, "a", "x=1");
    assert_int_equal(captured_count, 1);
}

static void test_line_breaks_and_escapes_cannot_be_injected(void **state)
{
    (void)state;
    imp_log(NULL, IMP_LOG_INFO, "a", "x=%s", "1\n2026 info core b \x1b[31m");
    assert_null(strchr(captured, '\n'));
    assert_null(strchr(captured, '\x1b'));
}

/* Behind time, level, module and event. */
static const char *pairs(void)
{
    const char *found = strstr(captured, " core a ");
    return found != NULL ? found + strlen(" core a ") : "(no such line)";
}

static void test_values_can_be_read_back(void **state)
{
    (void)state;
    imp_log(NULL, IMP_LOG_INFO, "a", "reason=\"%s\" n=%d", "no \"x\" in C:\\y\nz\x1b=1", 5);
    assert_string_equal(pairs(), "reason=\"no \\\"x\\\" in C:\\\\y\\nz\\x1b=1\" n=5");
    imp_log(NULL, IMP_LOG_INFO, "a", "x=%s y=%s z=%s", "plain/word=1", "two words", "q\"");
    assert_string_equal(pairs(), "x=plain/word=1 y=\"two words\" z=\"q\\\"\"");
    /* Text that was formatted before is not touched, nor is what stands in the format itself. */
    imp_log(NULL, IMP_LOG_INFO, "a", "%s hint=\"100%% sure\" last=%s", "a=\"b c\" d=1", "");
    assert_string_equal(pairs(), "a=\"b c\" d=1 hint=\"100% sure\" last=");
    imp_log(NULL, IMP_LOG_INFO, "a", "r=\"\xc3\xa4%s\"", "\xc3\xb6\t\r");
    assert_string_equal(pairs(), "r=\"\xc3\xa4\xc3\xb6\\t\\r\"");
}

static void test_every_conversion_is_as_in_printf(void **state)
{
    (void)state;
    char expected[512];
#define CONVERSIONS                                                                                \
    "%d|%5d|%-5u|%05u|%+d|%x|%#X|%o|%hhd|%hu|%ld|%lu|%lld|%llx|%jd|%zu|%td|%.3f|%Lg|%e|%c|%.2s|"   \
    "%.*s|%.*s|%.*d|%.f|%*d|%p|%%"
#define ARGUMENTS                                                                                  \
    -1, 42, 43u, 44u, 45, 0xbeefu, 0xbeefu, 8u, (signed char)-3, (unsigned short)65535,            \
        (long)-5000000000, 6000000000UL, -7000000000LL, 0xabcdef0123ULL, (intmax_t)-8, (size_t)9,  \
        (ptrdiff_t)-10, 3.14159, (long double)2.5, 1e300, 'c', "cut", 3, "cut here", -1,           \
        "not cut", -1, 0, 2.5, 6, 7, (void *)captured
    snprintf(expected, sizeof expected, CONVERSIONS, ARGUMENTS);
    imp_log(NULL, IMP_LOG_INFO, "a", CONVERSIONS, ARGUMENTS);
    assert_string_equal(pairs(), expected);
}

static void test_a_line_that_is_cut_can_be_read_back(void **state)
{
    (void)state;
    char text[2 * LOG_LINE_MAX];
    for (size_t shift = 0; shift < 8; shift++) {
        /* Escapes of four bytes, cut at each place. */
        memset(text, 'y', shift);
        memset(text + shift, 1, sizeof text - shift - 1);
        text[sizeof text - 1] = '\0';
        imp_log(NULL, IMP_LOG_INFO, "a", "v=\"%s\" n=%d", text, 1);
        const char *end = captured + strlen(captured);
        assert_true(strlen(captured) < LOG_LINE_MAX);
        assert_string_equal(end - 8, "\\x01...\"");
        imp_log(NULL, IMP_LOG_INFO, "a", "v=%s n=%d", text, 1);
        end = captured + strlen(captured);
        assert_string_equal(end - 8, "\\x01...\"");
    }
}

static void test_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    char text[3 * LOG_LINE_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    imp_log(NULL, IMP_LOG_INFO, "a", "v=%s", text);
    assert_true(strlen(captured) < LOG_LINE_MAX);
    assert_true(strlen(captured) > LOG_LINE_MAX - 16);
    assert_string_equal(captured + strlen(captured) - 4, "x...");
}

static void limited(int number)
{
    imp_log_limited(NULL, 1000, IMP_LOG_WARNING, "test.limited", "n=%d", number);
}

static void test_limited_event_is_counted_and_said_later(void **state)
{
    (void)state;
    limited(1);
    assert_int_equal(captured_count, 1);
    limited(2);
    limited(3);
    assert_int_equal(captured_count, 1);
    imp_log_limited(NULL, 1000, IMP_LOG_WARNING, "test.other", "n=%d", 1);
    assert_int_equal(captured_count, 2);
    time_advance_for_test(IMP_SECOND);
    limited(4);
    assert_int_equal(captured_count, 3);
    assert_non_null(strstr(captured, " n=4 suppressed=2"));
    time_advance_for_test(IMP_SECOND);
    limited(5);
    assert_null(strstr(captured, "suppressed"));
}

/* ---- targets ---- */

static size_t read_file(const char *path, char *text, size_t size)
{
    FILE *stream = fopen(path, "r");
    if (stream == NULL)
        return 0;
    size_t length = fread(text, 1, size - 1, stream);
    text[length] = '\0';
    fclose(stream);
    return length;
}

static void test_file_is_private_and_reopened_after_rotation(void **state)
{
    (void)state;
    char folder[] = "/tmp/imprimatur-test-log-XXXXXX", path[64], old[64], text[4096];
    struct stat status;
    imp_error error;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.log", folder);
    snprintf(old, sizeof old, "%s/a.log.1", folder);
    assert_int_equal(log_open(LOG_TO_FILE, path, IMP_LOG_INFO, 0, &error), IMP_OK);
    imp_log(NULL, IMP_LOG_INFO, "one", "n=1");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07137, 0);
    assert_int_equal(rename(path, old), 0);
    imp_log(NULL, IMP_LOG_INFO, "two", "n=2");
    log_reopen();
    imp_log(NULL, IMP_LOG_INFO, "three", "n=3");
    read_file(old, text, sizeof text);
    assert_non_null(strstr(text, " one n=1\n"));
    assert_non_null(strstr(text, " two n=2\n"));
    read_file(path, text, sizeof text);
    assert_null(strstr(text, "two"));
    assert_non_null(strstr(text, " three n=3\n"));

    /* A target that can't be opened leaves the one there is. */
    assert_int_equal(log_open(LOG_TO_FILE, "/nowhere/at/all", IMP_LOG_INFO, 0, &error), IMP_IO);
    assert_string_equal(error.message,
                        "can't open the log file /nowhere/at/all: No such file or directory");
    imp_log(NULL, IMP_LOG_INFO, "four", "n=4");
    read_file(path, text, sizeof text);
    assert_non_null(strstr(text, " four n=4\n"));
    log_stop();
    unlink(path);
    unlink(old);
    rmdir(folder);
}

static void test_thread_writes_all_lines_before_stop(void **state)
{
    (void)state;
    char path[] = "/tmp/imprimatur-test-log-XXXXXX";
    imp_error error;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(log_open(LOG_TO_FILE, path, IMP_LOG_INFO, 1 << 20, &error), IMP_OK);
    assert_int_equal(log_start(&error), IMP_OK);
    for (int i = 0; i < 500; i++)
        imp_log(NULL, IMP_LOG_INFO, "n", "i=%d", i);
    log_stop();
    FILE *stream = fopen(path, "r");
    char line[256], tail[32];
    int count = 0;
    while (fgets(line, sizeof line, stream) != NULL) {
        snprintf(tail, sizeof tail, " i=%d\n", count++);
        assert_non_null(strstr(line, tail));
    }
    fclose(stream);
    assert_int_equal(count, 500);
    unlink(path);
}

static void test_flush_waits_for_what_was_logged(void **state)
{
    (void)state;
    char path[] = "/tmp/imprimatur-test-log-XXXXXX", text[4096];
    imp_error error;
    int fd = mkstemp(path);
    close(fd);
    assert_int_equal(log_open(LOG_TO_FILE, path, IMP_LOG_INFO, 0, &error), IMP_OK);
    assert_int_equal(log_start(&error), IMP_OK);
    imp_log(NULL, IMP_LOG_INFO, "flushed", "n=1");
    log_flush(10 * IMP_SECOND);
    read_file(path, text, sizeof text);
    assert_non_null(strstr(text, " flushed n=1\n"));
    log_stop();
    unlink(path);
}

/* Logs one line in a child whose standard error is a pipe; the journal's variable names that pipe, or
 * another one. First of all tests, because the log looks at the variable once. */
static void line_under_journal(bool is_ours, char *text, size_t size)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct stat status;
        char stream[64];
        if (fstat(ends[1], &status) != 0)
            _exit(1);
        snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)status.st_dev,
                 (unsigned long long)status.st_ino + (is_ours ? 0 : 1));
        setenv("JOURNAL_STREAM", stream, 1);
        dup2(ends[1], STDERR_FILENO);
        imp_log(NULL, IMP_LOG_WARNING, "a", "n=%d", 1);
        _exit(0);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], text, size - 1);
    text[length < 0 ? 0 : length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_lines_have_a_priority_under_the_journal_alone(void **state)
{
    (void)state;
    char text[512];
    line_under_journal(true, text, sizeof text);
    assert_memory_equal(text, "<4>2", 4);
    assert_non_null(strstr(text, " warning core a n=1\n"));
    line_under_journal(false, text, sizeof text);
    assert_int_equal(text[0], '2');
}

static int bind_syslog(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void test_syslog_gets_one_datagram_a_line_and_may_restart(void **state)
{
    (void)state;
    char folder[] = "/tmp/imprimatur-test-log-XXXXXX", path[64], text[512], head[64];
    imp_error error;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log", folder);
    log_syslog_path_for_test(path);
    assert_int_equal(log_open(LOG_TO_SYSLOG, NULL, IMP_LOG_INFO, 0, &error), IMP_IO);
    assert_non_null(strstr(error.message, "can't reach syslog at "));
    int fd = bind_syslog(path);
    assert_int_equal(log_open(LOG_TO_SYSLOG, NULL, IMP_LOG_INFO, 0, &error), IMP_OK);
    imp_log(NULL, IMP_LOG_ERROR, "one", "n=1");
    ssize_t length = recv(fd, text, sizeof text - 1, 0);
    assert_true(length > 0);
    text[length] = '\0';
    snprintf(head, sizeof head, "<27>imprimd[%d]: 2", (int)getpid());
    assert_memory_equal(text, head, strlen(head));
    assert_non_null(strstr(text, " error core one n=1"));
    assert_null(strchr(text, '\n'));
    /* The daemon goes: the line is lost and counted. It comes back: the next line finds it. */
    close(fd);
    unlink(path);
    uint64_t dropped = log_dropped();
    imp_log(NULL, IMP_LOG_ERROR, "two", "n=2");
    assert_int_equal(log_dropped(), dropped + 1);
    fd = bind_syslog(path);
    imp_log(NULL, IMP_LOG_ERROR, "three", "n=3");
    length = recv(fd, text, sizeof text - 1, 0);
    assert_true(length > 0);
    text[length] = '\0';
    assert_non_null(strstr(text, " error core three n=3"));
    close(fd);
    log_stop();
    log_syslog_path_for_test(NULL);
    unlink(path);
    rmdir(folder);
}

/* A reader that stopped: the pipe is full, lines are dropped and counted, and no logger waits. */
static void test_full_pipe_drops_counts_and_never_blocks(void **state)
{
    (void)state;
    int ends[2];
    imp_error error;
    char text[65536];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    assert_int_equal(log_open(LOG_TO_STDERR, NULL, IMP_LOG_INFO, 16384, &error), IMP_OK);
    assert_int_equal(log_start(&error), IMP_OK);
    uint64_t before = log_dropped();
    /* More than the pipe and both buffers hold: would hang here for ever if logging blocked. */
    for (int i = 0; i < 4000; i++)
        imp_log(NULL, IMP_LOG_INFO, "flood", "padding=\"%0100d\"", i);
    assert_true(log_dropped() > before);
    /* The reader is back: once there is room, the next line is preceded by the count. */
    bool is_said = false;
    for (int i = 0; i < 1000 && !is_said; i++) {
        struct pollfd wait = {.fd = ends[0], .events = POLLIN};
        imp_log(NULL, IMP_LOG_INFO, "after", "n=%d", i);
        assert_int_equal(poll(&wait, 1, 10000), 1);
        ssize_t length = read(ends[0], text, sizeof text - 1);
        assert_true(length > 0);
        text[length] = '\0';
        is_said = strstr(text, "core log.dropped lines=") != NULL;
    }
    close(ends[1]);
    dup2(saved, STDERR_FILENO);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    close(saved);
    log_stop();
    close(ends[0]);
    assert_true(is_said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_have_a_priority_under_the_journal_alone),
        cmocka_unit_test_setup_teardown(test_line_has_time_level_module_event_and_pairs,
                                        start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_level_decides, start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_line_breaks_and_escapes_cannot_be_injected,
                                        start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_values_can_be_read_back, start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_every_conversion_is_as_in_printf, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_a_line_that_is_cut_can_be_read_back, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_long_line_is_cut_and_says_so, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_limited_event_is_counted_and_said_later, start_capture,
                                        stop_capture),
        cmocka_unit_test(test_file_is_private_and_reopened_after_rotation),
        cmocka_unit_test(test_thread_writes_all_lines_before_stop),
        cmocka_unit_test(test_flush_waits_for_what_was_logged),
        cmocka_unit_test(test_syslog_gets_one_datagram_a_line_and_may_restart),
        cmocka_unit_test(test_full_pipe_drops_counts_and_never_blocks),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
