/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/notify.h"
#include "core/supervisor-private.h"

#define NOBODY 65534

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test-supervisor-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        execlp("rm", "rm", "-rf", folder, (char *)NULL);
        _exit(127);
    }
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : -1;
}

/* ---- restarts ---- */

static void test_the_first_restart_is_immediate_and_the_next_wait_longer(void **state)
{
    (void)state;
    struct restart restart = {.started_us = 100};
    int64_t now = 1000, last = -1;
    restart_after_death(&restart, now, 4 * IMP_SECOND);
    assert_int_equal(restart.due_us, now);
    for (int i = 0; i < 10; i++) {
        restart.started_us = now = restart.due_us;
        restart_after_death(&restart, now, 4 * IMP_SECOND);
        assert_true(restart.due_us - now >= last && restart.due_us > now);
        last = restart.due_us - now;
    }
    assert_int_equal(last, 4 * IMP_SECOND);
    /* After a healthy time it is the first again. */
    restart.started_us = now;
    now += RESTART_HEALTHY_US;
    restart_after_death(&restart, now, 4 * IMP_SECOND);
    assert_int_equal(restart.due_us, now);
}

static void test_a_bound_of_zero_restarts_at_once_always(void **state)
{
    (void)state;
    struct restart restart = {.started_us = 1};
    for (int i = 0; i < 5; i++) {
        restart_after_death(&restart, 7, 0);
        assert_int_equal(restart.due_us, 7);
    }
}

/* ---- the state file ---- */

static void test_state_is_read_back_and_bounded(void **state)
{
    (void)state;
    struct state written, read;
    imp_error error;
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    assert_int_equal(state_load(&written, fd, &error), IMP_OK);
    assert_int_equal(written.checkpoint, 0);
    written.checkpoint = UINT64_MAX;
    for (uint32_t i = 0; i < STATE_CRASHES_MAX + 3; i++) {
        struct state_crash crash = {.time_us = i + 1, .signal = 11};
        if (i % 2 == 0)
            memcpy(crash.module, "lpr", 4);
        state_add_crash(&written, &crash);
    }
    assert_int_equal(state_save(&written, &error), IMP_OK);
    assert_int_equal(state_load(&read, fd, &error), IMP_OK);
    assert_int_equal(read.checkpoint, UINT64_MAX);
    assert_int_equal(read.crash_count, STATE_CRASHES_MAX);
    assert_int_equal(read.crashes[0].time_us, 4);
    assert_string_equal(read.crashes[0].module, "");
    assert_string_equal(read.crashes[1].module, "lpr");
    assert_int_equal(read.crashes[STATE_CRASHES_MAX - 1].time_us, STATE_CRASHES_MAX + 3);
    close(fd);
}

static void test_a_damaged_state_file_is_refused(void **state)
{
    (void)state;
    static const char *const damaged[] = {
        "",
        "imprimatur-supervisor 2\n",
        "checkpoint 1\n",
        "imprimatur-supervisor 1\ncheckpoint 99999999999999999999\n",
        "imprimatur-supervisor 1\ncheckpoint -1\n",
        "imprimatur-supervisor 1\ncheckpoint 1 \n",
        "imprimatur-supervisor 1\ncrash 1 65 lpr\n",
        "imprimatur-supervisor 1\ncrash 1 11 \n",
        "imprimatur-supervisor 1\ncrash 1 11 a-name-that-is-longer-than-any-module\n",
        "imprimatur-supervisor 1\ncheckpoint 1",
        "imprimatur-supervisor 1\nsomething else\n",
    };
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        struct state parsed = {.folder_fd = -1};
        imp_error error;
        assert_int_equal(state_parse(&parsed, damaged[i], strlen(damaged[i]), &error), IMP_CORRUPT);
    }
}

/* ---- folders ---- */

static char state_path[96], run_path[96];

static struct config_core core_in(const char *inner)
{
    snprintf(state_path, sizeof state_path, "%s%s/state", folder, inner);
    snprintf(run_path, sizeof run_path, "%s%s/run", folder, inner);
    return (struct config_core){
        .state_dir = state_path, .run_dir = run_path, .master_key = "", .user = "", .group = ""};
}

static void test_folders_are_made_for_the_servers_user(void **state)
{
    (void)state;
    bool is_root = geteuid() == 0;
    struct account account = {.is_changed = is_root,
                              .uid = is_root ? NOBODY : geteuid(),
                              .gid = is_root ? NOBODY : getegid(),
                              .control_gid = is_root ? NOBODY : getegid()};
    const struct config_core core = core_in("");
    struct stat found;
    imp_error error;
    assert_int_equal(folders_make(&core, &account, &error), IMP_OK);
    assert_int_equal(stat(run_path, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0750);
    assert_int_equal(found.st_uid, account.uid);
    assert_int_equal(stat(state_path, &found), 0);
    assert_int_equal(found.st_uid, account.uid);
    /* Again: they stay as they are. */
    assert_int_equal(chmod(state_path, 0700), 0);
    assert_int_equal(folders_make(&core, &account, &error), IMP_OK);
    assert_int_equal(stat(state_path, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0700);
}

static void test_root_makes_nothing_where_others_can_write(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    const struct account account = {.is_changed = true, .uid = NOBODY, .gid = NOBODY};
    const struct config_core core = core_in("/theirs");
    struct stat found;
    imp_error error;
    char theirs[96], victim[96], own[128];
    int own_fd = -1;
    snprintf(theirs, sizeof theirs, "%s/theirs", folder);
    assert_int_equal(mkdir(theirs, 0755), 0);
    assert_int_equal(chown(theirs, NOBODY, NOBODY), 0);
    assert_int_equal(folders_make(&core, &account, &error), IMP_DENIED);
    assert_int_equal(stat(state_path, &found), -1);
    assert_int_equal(folders_open_own(&core, &account, &own_fd, &error), IMP_DENIED);
    /* A link that leads to root's own is not followed. */
    assert_int_equal(chown(theirs, 0, 0), 0);
    snprintf(victim, sizeof victim, "%s/victim", folder);
    assert_int_equal(mkdir(victim, 0700), 0);
    assert_int_equal(symlink(victim, state_path), 0);
    assert_int_equal(folders_make(&core, &account, &error), IMP_OK);
    assert_int_equal(stat(victim, &found), 0);
    assert_int_equal(found.st_uid, 0);
    assert_int_equal(found.st_mode & 07777, 0700);
    /* Its own folder is root's and closed. */
    assert_int_equal(folders_open_own(&core, &account, &own_fd, &error), IMP_OK);
    snprintf(own, sizeof own, "%s-supervisor", state_path);
    assert_int_equal(stat(own, &found), 0);
    assert_int_equal(found.st_mode & 07777, 0700);
    close(own_fd);
}

static void test_a_second_supervisor_is_refused(void **state)
{
    (void)state;
    const struct config_core core = core_in("");
    imp_error error;
    int first = -1, second = -1;
    assert_int_equal(mkdir(run_path, 0700), 0);
    assert_int_equal(folders_lock(&core, &first, &error), IMP_OK);
    assert_int_equal(folders_lock(&core, &second, &error), IMP_BUSY);
    assert_non_null(strstr(error.message, run_path));
    close(first);
    assert_int_equal(folders_lock(&core, &second, &error), IMP_OK);
    close(second);
}

/* ---- the service manager ---- */

static void test_the_manager_is_told_and_its_variables_go(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char pid[16], text[128] = "";
    struct notify notify;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", folder);
    int manager = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&address, sizeof address), 0);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    notify_open(&notify);
    assert_int_equal(notify.watchdog_us, 3000000);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    notify_send(&notify, "READY=1\nSTATUS=%s", "running");
    assert_true(recv(manager, text, sizeof text - 1, MSG_DONTWAIT) > 0);
    assert_string_equal(text, "READY=1\nSTATUS=running");
    notify_close(&notify);
    /* A watchdog of somebody else is not ours; no manager is no error. */
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    notify_open(&notify);
    assert_int_equal(notify.watchdog_us, 0);
    notify_close(&notify);
    notify_open(&notify);
    assert_int_equal(notify.fd, -1);
    notify_send(&notify, "READY=1");
    close(manager);
}

static void test_a_stopped_process_is_seen(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    int status;
    assert_false(process_is_stopped(child));
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(process_is_stopped(child));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_restart_is_immediate_and_the_next_wait_longer),
        cmocka_unit_test(test_a_bound_of_zero_restarts_at_once_always),
        TEST(test_state_is_read_back_and_bounded),
        cmocka_unit_test(test_a_damaged_state_file_is_refused),
        TEST(test_folders_are_made_for_the_servers_user),
        TEST(test_root_makes_nothing_where_others_can_write),
        TEST(test_a_second_supervisor_is_refused),
        TEST(test_the_manager_is_told_and_its_variables_go),
        cmocka_unit_test(test_a_stopped_process_is_seen),
    };
    return cmocka_run_group_tests_name("supervisor", tests, NULL, NULL);
}
