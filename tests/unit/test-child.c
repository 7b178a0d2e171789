/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/child.h"
#include "core/packet.h"
#include "core/sandbox-check.h"
#include "core/supervisor-private.h"

#define NOBODY 65534
#define DEADLINE_MS 60000

static const struct spawner_limits limits = {
    .memory_bytes = UINT64_C(256) << 20,
    .output_bytes = 1 << 20,
    .cpu_seconds = 20,
    .wall_ms = 20000,
    .open_files = 32,
};

/* The client, and the spawner's end in the test's hands. */
static struct child_client *client;
static int spawner_end = -1;
static struct child_end last_end;
static int ends_seen;

static void on_done(const struct child_end *end, void *arg)
{
    assert_ptr_equal(arg, &last_end);
    last_end = *end;
    ends_seen++;
}

static int make_client(void **state)
{
    (void)state;
    int ends[2];
    ends_seen = 0;
    if (packet_pair(ends, NULL) != IMP_OK || (client = child_client_new(ends[0])) == NULL)
        return -1;
    spawner_end = ends[1];
    return 0;
}

static int free_client(void **state)
{
    (void)state;
    child_client_free(client);
    client = NULL;
    if (spawner_end >= 0)
        close(spawner_end);
    spawner_end = -1;
    return 0;
}

static imp_status spawn(uint32_t *serial, imp_error *error)
{
    return child_spawn(client, SPAWNER_PROGRAM_SELFTEST, &limits, STDIN_FILENO, STDERR_FILENO,
                       on_done, &last_end, serial, error);
}

static void say(uint16_t kind, uint32_t serial, imp_status status, uint64_t value)
{
    struct spawner_message message;
    spawner_message_set(&message, kind, serial);
    message.status = status;
    message.value = value;
    assert_int_equal(spawner_send(spawner_end, &message, NULL, 0, NULL), IMP_OK);
}

static void test_each_end_is_reported_once_to_its_own_caller(void **state)
{
    (void)state;
    struct spawner_message message;
    int passed[SPAWNER_PASSED_MAX];
    uint32_t first = 0, second = 0;
    size_t count;
    assert_int_equal(spawn(&first, NULL), IMP_OK);
    assert_int_equal(spawn(&second, NULL), IMP_OK);
    assert_int_not_equal(first, second);
    assert_int_equal(spawner_receive(spawner_end, &message, passed, &count, NULL), IMP_OK);
    assert_int_equal(message.kind, SPAWNER_START);
    assert_int_equal(message.serial, first);
    assert_int_equal(message.limits.wall_ms, limits.wall_ms);
    assert_int_equal(count, 2);
    packet_close(passed, count);

    say(SPAWNER_STARTED, second, IMP_OK, 77);
    say(SPAWNER_ENDED, second, IMP_OK, 3 << 8); /* exit status 3, as waitpid has it */
    say(SPAWNER_ENDED, second, IMP_OK, 0);
    assert_true(child_dispatch(client));
    assert_int_equal(ends_seen, 1);
    assert_true(last_end.was_started && !last_end.was_signalled);
    assert_int_equal(last_end.code, 3);

    say(SPAWNER_ENDED, first, IMP_OK, SIGKILL);
    assert_true(child_dispatch(client));
    assert_int_equal(ends_seen, 2);
    assert_true(last_end.was_signalled);
    assert_int_equal(last_end.code, SIGKILL);
}

static void test_a_refusal_and_a_lost_spawner_end_the_call(void **state)
{
    (void)state;
    uint32_t serial;
    assert_int_equal(spawn(&serial, NULL), IMP_OK);
    say(SPAWNER_REFUSED, serial, IMP_BUSY, 0);
    assert_true(child_dispatch(client));
    assert_int_equal(ends_seen, 1);
    assert_false(last_end.was_started);
    assert_int_equal(last_end.error.status, IMP_BUSY);

    assert_int_equal(spawn(&serial, NULL), IMP_OK);
    close(spawner_end);
    spawner_end = -1;
    assert_false(child_dispatch(client));
    assert_int_equal(ends_seen, 2);
    assert_int_equal(last_end.error.status, IMP_UNAVAILABLE);
    assert_int_equal(spawn(&serial, NULL), IMP_UNAVAILABLE);
    assert_int_equal(ends_seen, 2);
}

static void test_bounds_and_numbers_are_kept(void **state)
{
    (void)state;
    struct spawner_limits wide = limits;
    uint32_t serial = 0;
    imp_error error;
    wide.memory_bytes = SPAWNER_MEMORY_LIMIT + 1;
    assert_int_equal(child_spawn(client, SPAWNER_PROGRAM_SELFTEST, &wide, 0, 1, on_done, &last_end,
                                 &serial, &error),
                     IMP_INVALID);
    assert_int_equal(
        child_spawn(client, SPAWNER_PROGRAMS, &limits, 0, 1, on_done, &last_end, &serial, &error),
        IMP_INVALID);
    for (uint32_t i = 0; i < SPAWNER_CHILDREN_MAX; i++)
        assert_int_equal(spawn(&serial, &error), IMP_OK);
    assert_int_equal(spawn(&serial, &error), IMP_BUSY);
    assert_int_equal(ends_seen, 0);
}

/* ---- with a real spawner, which is this program again ---- */

/* Can the user that a role becomes execute this program? */
static bool program_is_reachable(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return false;
    path[length] = '\0';
    for (char *slash = strrchr(path, '/'); slash != NULL && slash != path;
         slash = strrchr(path, '/')) {
        struct stat found;
        *slash = '\0';
        if (stat(path, &found) != 0 || (geteuid() == 0 && (found.st_mode & S_IXOTH) == 0))
            return false;
    }
    return true;
}

static void test_the_sandbox_check_finds_the_minimum(void **state)
{
    (void)state;
    if (!program_is_reachable())
        skip();
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), nothing = open("/dev/null", O_WRONLY);
    assert_true(kept >= 0 && nothing >= 0);
    dup2(nothing, STDOUT_FILENO);
    int outcome = sandbox_check_main(NULL);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    close(nothing);
    assert_int_equal(outcome, 0);
}

static struct account unprivileged(void)
{
    struct account account = {.uid = getuid(), .gid = getgid()};
    if (geteuid() == 0)
        account = (struct account){
            .is_changed = true, .uid = NOBODY, .gid = NOBODY, .groups = {NOBODY}, .group_count = 1};
    return account;
}

static bool wait_for_end(void)
{
    struct pollfd watch = {.fd = child_client_fd(client), .events = POLLIN};
    bool is_there = true;
    for (int before = ends_seen; is_there && before == ends_seen;) {
        assert_int_equal(poll(&watch, 1, DEADLINE_MS), 1);
        is_there = child_dispatch(client);
    }
    return is_there;
}

static void test_a_spawner_serves_kills_and_ends(void **state)
{
    (void)state;
    if (!program_is_reachable())
        skip();
    const struct account account = unprivileged();
    struct spawner_message message;
    struct spawner_limits brief = limits;
    char text[1024];
    int links[2], servers[2], output[2], input[2];
    uint32_t serial = 0;
    imp_error error;
    pid_t spawner = -1;
    assert_int_equal(packet_pair(links, &error), IMP_OK);
    const struct role role = {.name = "spawner", .fds = {links[1]}, .fd_count = 1};
    assert_int_equal(role_start(&role, &account, &spawner, &error), IMP_OK);
    close(links[1]);
    assert_int_equal(packet_pair(servers, &error), IMP_OK);
    spawner_message_set(&message, SPAWNER_SERVER, 0);
    assert_int_equal(spawner_send(links[0], &message, &servers[0], 1, &error), IMP_OK);
    close(servers[0]);
    child_client_free(client);
    client = child_client_new(servers[1]);

    /* A child that ends by itself: what it wrote is there, and its standard input was passed. */
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(child_spawn(client, SPAWNER_PROGRAM_SELFTEST, &limits, input[0], output[1],
                                 on_done, &last_end, &serial, &error),
                     IMP_OK);
    close(output[1]);
    assert_true(wait_for_end());
    assert_true(last_end.was_started && !last_end.was_signalled);
    assert_int_equal(last_end.code, 0);
    ssize_t length = read(output[0], text, sizeof text - 1);
    assert_true(length > 0);
    text[length] = '\0';
    assert_non_null(strstr(text, "no-network  yes"));
    close(output[0]);

    /* One that waits (its output is full) ends at its deadline, another when it is told to. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe2(output, O_CLOEXEC), 0);
        while (fcntl(output[1], F_SETFL, O_NONBLOCK) == 0 && write(output[1], text, 1) == 1)
            continue;
        assert_int_equal(fcntl(output[1], F_SETFL, 0), 0);
        brief.wall_ms = i == 0 ? 50 : 20000;
        assert_int_equal(child_spawn(client, SPAWNER_PROGRAM_SELFTEST, &brief, input[0], output[1],
                                     on_done, &last_end, &serial, &error),
                         IMP_OK);
        if (i == 1)
            child_kill(client, serial);
        assert_true(wait_for_end());
        assert_true(last_end.was_signalled);
        assert_int_equal(last_end.code, SIGKILL);
        close(output[0]);
        close(output[1]);
    }
    close(input[0]);
    close(input[1]);

    /* Rubbish is ignored; the supervisor's end is the spawner's. */
    assert_int_equal(packet_send(servers[1], text, 100, NULL, 0, &error), IMP_OK);
    assert_int_equal(spawn(&serial, &error), IMP_OK);
    assert_true(wait_for_end());
    close(links[0]);
    int status;
    assert_int_equal(waitpid(spawner, &status, 0), spawner);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_false(child_dispatch(client));
}

static void test_a_role_that_can_not_start_says_why(void **state)
{
    (void)state;
    const struct account root = {.is_changed = false, .uid = 0, .gid = 0};
    const struct role role = {.name = "spawner", .fds = {0}, .fd_count = 1};
    pid_t pid = -1;
    imp_error error;
    if (getuid() != 0)
        skip();
    assert_int_equal(role_start(&role, &root, &pid, &error), IMP_DENIED);
    assert_non_null(strstr(error.message, "root"));
    assert_int_equal(pid, -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left behind */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_client, free_client)

int main(int argc, char **argv)
{
    /* What spawner and supervisor execute is /proc/self/exe: this program. */
    if (argc > 1 && strcmp(argv[1], "--role=spawner") == 0)
        return spawner_main();
    if (argc > 2 && strcmp(argv[1], "--role=selftest") == 0)
        spawner_selftest_main((uint32_t)strtoul(argv[2] + strlen("--layers="), NULL, 10));
    const struct CMUnitTest tests[] = {
        TEST(test_each_end_is_reported_once_to_its_own_caller),
        TEST(test_a_refusal_and_a_lost_spawner_end_the_call),
        TEST(test_bounds_and_numbers_are_kept),
        cmocka_unit_test(test_the_sandbox_check_finds_the_minimum),
        TEST(test_a_spawner_serves_kills_and_ends),
        cmocka_unit_test(test_a_role_that_can_not_start_says_why),
    };
    return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
