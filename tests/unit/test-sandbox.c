/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/sandbox.h"

#define NOBODY 65534

/* A filter can't be taken off: each test runs in a child that answers the line of the first check
 * that failed, 0 if none did. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return __LINE__;                                                                       \
    } while (0)

static void run_in_child(int (*body)(void))
{
    int report[2], line = -1;
    assert_int_equal(pipe(report), 0);
    pid_t child = fork();
    if (child == 0) {
        line = body();
        _exit(write(report[1], &line, sizeof line) == (ssize_t)sizeof line ? 0 : 1);
    }
    close(report[1]);
    assert_int_equal(read(report[0], &line, sizeof line), sizeof line);
    close(report[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    if (line != 0)
        print_message("check in line %d of test-sandbox.c failed\n", line);
    assert_int_equal(line, 0);
}

static bool is_refused(long outcome)
{
    return outcome == -1 && errno == EPERM;
}

static void *thread_answer(void *argument)
{
    /* The filter is on this thread too. */
    *(bool *)argument = is_refused(mount("none", "/", "none", MS_REMOUNT, NULL));
    return argument;
}

static int server_body(void)
{
    static char program[] = "/bin/true";
    char *arguments[] = {program, NULL};
    bool is_filtered = false;
    pthread_t thread;
    imp_error error;
    CHECK(sandbox_server_enter(false, &error) == IMP_OK);
    CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(is_refused(mount("none", "/", "none", MS_REMOUNT, NULL)));
    CHECK(is_refused(syscall(SYS_bpf, 0, NULL, 0)));
    CHECK(is_refused(syscall(SYS_userfaultfd, 0)));
    CHECK(is_refused(syscall(SYS_io_uring_setup, 1, NULL)));
    CHECK(is_refused(syscall(SYS_keyctl, 0, 0, 0, 0, 0)));
    CHECK(is_refused(syscall(SYS_add_key, NULL, NULL, NULL, 0, 0)));
    CHECK(is_refused(syscall(SYS_request_key, NULL, NULL, NULL, 0)));
    CHECK(is_refused(syscall(SYS_kexec_load, 0, 0, NULL, 0)));
    CHECK(is_refused(syscall(SYS_init_module, NULL, 0, NULL)));
    CHECK(is_refused(syscall(SYS_finit_module, -1, NULL, 0)));
    CHECK(is_refused(setuid(getuid())));
    CHECK(is_refused(syscall(SYS_setgroups, 0, NULL)));
    CHECK(is_refused(chroot("/")));
    CHECK(is_refused(unshare(CLONE_NEWUSER)));
    CHECK(is_refused(unshare(CLONE_FILES)));
    CHECK(socket(AF_PACKET, SOCK_RAW, 0) == -1 && errno == EAFNOSUPPORT);
    CHECK(socket(AF_ALG, SOCK_SEQPACKET, 0) == -1 && errno == EAFNOSUPPORT);
#ifndef IMP_SANITIZED
    CHECK(is_refused(execve(program, arguments, NULL)));
    CHECK(is_refused(syscall(SYS_execveat, AT_FDCWD, program, arguments, NULL, 0)));
    CHECK(is_refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL)));
    CHECK(fork() == -1);
    CHECK(prctl(PR_GET_DUMPABLE) == 0);
#else
    (void)arguments;
#endif
    /* What a server lives on. */
    CHECK(pthread_create(&thread, NULL, thread_answer, &is_filtered) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_filtered);
    CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
    CHECK(socket(AF_INET6, SOCK_DGRAM, 0) >= 0 || errno == EAFNOSUPPORT);
    CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    CHECK(open("/dev/null", O_RDWR) >= 0);
    return 0;
}

static void test_the_server_can_do_its_work_and_nothing_else(void **state)
{
    (void)state;
    run_in_child(server_body);
}

static int developer_body(void)
{
    imp_error error;
    CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    CHECK(sandbox_server_enter(true, &error) == IMP_OK);
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    return 0;
}

static void test_a_developer_gets_core_files(void **state)
{
    (void)state;
    run_in_child(developer_body);
}

static const struct spawner_limits limits = {
    .memory_bytes = UINT64_C(256) << 20,
    .output_bytes = 4096,
    .cpu_seconds = 3,
    .wall_ms = 3000,
    .open_files = 20,
};

static int child_as_root_body(void)
{
    uint32_t layers;
    imp_error error;
    CHECK(sandbox_child_enter(&limits, &layers, &error) == IMP_DENIED);
    return 0;
}

static void test_no_child_runs_as_root(void **state)
{
    (void)state;
    if (getuid() != 0)
        skip();
    run_in_child(child_as_root_body);
}

static int child_body(void)
{
    uint32_t layers;
    imp_error error;
    struct rlimit bound;
    pthread_t thread;
    bool is_filtered = false;
    if (getuid() == 0)
        CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK(sandbox_child_enter(&limits, &layers, &error) == IMP_OK);
    CHECK((layers & SANDBOX_MINIMUM) == SANDBOX_MINIMUM);
    CHECK(is_refused(socket(AF_INET, SOCK_STREAM, 0)));
    CHECK(is_refused(socket(AF_UNIX, SOCK_STREAM, 0)));
    CHECK(is_refused(syscall(SYS_bpf, 0, NULL, 0)));
    CHECK(is_refused(unshare(CLONE_NEWNS)));
    /* The server is of the same user: it must not be within reach. */
    CHECK(is_refused(kill(getppid(), 0)));
    CHECK(is_refused(kill(-1, 0)));
    CHECK(is_refused(kill(0, 0)));
    CHECK(is_refused(syscall(SYS_tgkill, getppid(), getppid(), 0)));
    CHECK(is_refused(syscall(SYS_tkill, getppid(), 0)));
    CHECK(is_refused(syscall(SYS_rt_sigqueueinfo, getppid(), 0, NULL)));
    CHECK(is_refused(syscall(SYS_pidfd_open, getppid(), 0)));
    CHECK(is_refused(syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, NULL, &bound)));
    CHECK(is_refused(setpriority(PRIO_PROCESS, (id_t)getppid(), 19)));
    CHECK(is_refused(sched_setaffinity(getppid(), 0, NULL)));
    CHECK(kill(getpid(), 0) == 0);
    CHECK(syscall(SYS_tgkill, getpid(), getpid(), 0) == 0);
#ifndef IMP_SANITIZED
    CHECK(is_refused(fork()));
    /* NOLINTNEXTLINE(clang-analyzer-unix.Vfork,clang-analyzer-security.insecureAPI.vfork): refused */
    CHECK(is_refused(vfork()));
#endif
    CHECK(pthread_create(&thread, NULL, thread_answer, &is_filtered) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_filtered);
    CHECK(getrlimit(RLIMIT_CPU, &bound) == 0 && bound.rlim_max == limits.cpu_seconds);
    CHECK(getrlimit(RLIMIT_FSIZE, &bound) == 0 && bound.rlim_max == limits.output_bytes);
    CHECK(getrlimit(RLIMIT_NOFILE, &bound) == 0 && bound.rlim_max == limits.open_files);
    if ((layers & SANDBOX_LANDLOCK) != 0) {
        CHECK(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES);
        CHECK(open("/tmp", O_RDONLY | O_DIRECTORY) == -1 && errno == EACCES);
        CHECK(open("/usr", O_RDONLY | O_DIRECTORY) >= 0);
    }
    return 0;
}

static void test_a_child_has_bounds_and_no_network(void **state)
{
    (void)state;
    run_in_child(child_body);
}

static int capabilities_body(void)
{
    imp_error error;
    char line[256];
    unsigned long long permitted = 1, effective = 1, no_new_privs = 0;
    CHECK(sandbox_keep_capabilities(UINT64_C(1) << 10, &error) == IMP_OK);
    FILE *status = fopen("/proc/self/status", "re");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "CapPrm:", 7) == 0)
            permitted = strtoull(line + 7, NULL, 16);
        else if (strncmp(line, "CapEff:", 7) == 0)
            effective = strtoull(line + 7, NULL, 16);
        else if (strncmp(line, "NoNewPrivs:", 11) == 0)
            no_new_privs = strtoull(line + 11, NULL, 10);
    }
    fclose(status);
    CHECK(permitted == (getuid() == 0 ? 1u << 10 : 0));
    CHECK(effective == permitted);
    CHECK(no_new_privs == 1);
    return 0;
}

static void test_only_named_capabilities_stay(void **state)
{
    (void)state;
    run_in_child(capabilities_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_server_can_do_its_work_and_nothing_else),
        cmocka_unit_test(test_a_developer_gets_core_files),
        cmocka_unit_test(test_no_child_runs_as_root),
        cmocka_unit_test(test_a_child_has_bounds_and_no_network),
        cmocka_unit_test(test_only_named_capabilities_stay),
    };
    return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
