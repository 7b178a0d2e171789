/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/supervisor-private.h"

#define BACKLOG 16

static char folder[64], main_file[96];
static struct listen_set set;

static int make_folder(void **state)
{
    (void)state;
    char path[128];
    snprintf(folder, sizeof folder, "/tmp/test-listen-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(main_file, sizeof main_file, "%s/imprimatur.conf", folder);
    snprintf(path, sizeof path, "%s/modules-enabled", folder);
    FILE *file = fopen(main_file, "we");
    memset(&set, 0, sizeof set);
    return file != NULL && fclose(file) == 0 && mkdir(path, 0755) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    listen_drop(&set, "");
    assert_int_equal(set.count, 0);
    pid_t child = fork();
    if (child == 0) {
        execlp("rm", "rm", "-rf", folder, (char *)NULL);
        _exit(127);
    }
    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : -1;
}

/* Writes the whole `listen` of a module; "" takes the module away. */
static void write_module(const char *module, const char *listeners)
{
    char path[160];
    snprintf(path, sizeof path, "%s/modules-enabled/%s.conf", folder, module);
    if (*listeners == '\0') {
        assert_int_equal(unlink(path), 0);
        return;
    }
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0644), 0);
    fprintf(file, "%s = { listen = ( %s ); };\n", module, listeners);
    assert_int_equal(fclose(file), 0);
}

/* A port that was free a moment ago. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static const char *listener(char text[128], const char *name, unsigned port)
{
    snprintf(text, 128, "{ name = \"%s\"; address = \"127.0.0.1:%u\"; }", name, port);
    return text;
}

static const struct listen_socket *find(const char *module, const char *name)
{
    for (uint32_t i = 0; i < set.count; i++)
        if (!set.items[i].is_stale && strcmp(set.items[i].module, module) == 0 &&
            strcmp(set.items[i].name, name) == 0)
            return &set.items[i];
    return NULL;
}

static imp_status refresh(const char *module, imp_error *error)
{
    return listen_refresh(&set, main_file, module, BACKLOG, error);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_a_socket_is_kept_as_long_as_the_files_name_its_address(void **state)
{
    (void)state;
    char text[128];
    imp_error error;
    unsigned port = free_port();
    write_module("lpr", listener(text, "lpd", port));
    assert_int_equal(refresh(NULL, &error), IMP_OK);
    assert_int_equal(set.count, 1);
    int fd = find("lpr", "lpd")->fd;
    assert_int_equal(refresh(NULL, &error), IMP_OK);
    assert_int_equal(set.count, 1);
    assert_int_equal(find("lpr", "lpd")->fd, fd);
    /* A listener's name is no reason to lose who waits in the backlog. */
    write_module("lpr", listener(text, "renamed", port));
    assert_int_equal(refresh("lpr", &error), IMP_OK);
    assert_int_equal(find("lpr", "renamed")->fd, fd);
    assert_null(find("lpr", "lpd"));
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

static void test_what_is_gone_stays_open_until_the_server_has_the_rest(void **state)
{
    (void)state;
    char text[128];
    imp_error error;
    write_module("lpr", listener(text, "lpd", free_port()));
    write_module("raw", listener(text, "main", free_port()));
    assert_int_equal(refresh(NULL, &error), IMP_OK);
    int old = find("lpr", "lpd")->fd, other = find("raw", "main")->fd;
    write_module("lpr", listener(text, "lpd", free_port()));
    assert_int_equal(refresh("lpr", &error), IMP_OK);
    assert_int_not_equal(find("lpr", "lpd")->fd, old);
    assert_true(is_open(old));
    listen_prune(&set, "raw"); /* another module's word does not count */
    assert_true(is_open(old));
    listen_prune(&set, "lpr");
    assert_false(is_open(old));
    assert_int_equal(find("raw", "main")->fd, other);
    listen_drop(&set, "lpr");
    assert_null(find("lpr", "lpd"));
    assert_int_equal(find("raw", "main")->fd, other);
}

static void test_a_port_in_use_changes_nothing_and_is_named(void **state)
{
    (void)state;
    char first[128], second[128], both[300], expected[64];
    imp_error error;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int taken = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(taken, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(taken, 1), 0);
    assert_int_equal(getsockname(taken, (struct sockaddr *)&address, &length), 0);
    unsigned port = free_port();
    write_module("lpr", listener(first, "lpd", port));
    assert_int_equal(refresh(NULL, &error), IMP_OK);
    int fd = find("lpr", "lpd")->fd;

    listener(first, "new", free_port());
    listener(second, "taken", ntohs(address.sin_port));
    snprintf(both, sizeof both, "%s, %s", first, second);
    write_module("lpr", both);
    assert_int_equal(refresh(NULL, &error), IMP_IO);
    assert_int_equal(set.count, 1);
    assert_int_equal(find("lpr", "lpd")->fd, fd);
    assert_false(find("lpr", "lpd")->is_stale);
    assert_true(is_open(fd));
    assert_non_null(strstr(error.message, "lpr.conf:1"));
    assert_non_null(strstr(error.message, "taken"));
    snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(address.sin_port));
    assert_non_null(strstr(error.message, expected));
    close(taken);
}

static void test_a_module_that_is_not_enabled_is_said_to_be_so(void **state)
{
    (void)state;
    char text[128];
    imp_error error;
    write_module("lpr", listener(text, "lpd", free_port()));
    assert_int_equal(refresh(NULL, &error), IMP_OK);
    int fd = find("lpr", "lpd")->fd;
    assert_int_equal(refresh("raw", &error), IMP_NOT_FOUND);
    assert_int_equal(set.count, 1);
    write_module("lpr", "");
    assert_int_equal(refresh(NULL, &error), IMP_OK);
    assert_null(find("lpr", "lpd"));
    assert_true(is_open(fd));
    listen_prune(&set, "");
    assert_false(is_open(fd));
}

static void test_a_star_is_both_families_or_ipv4_on_a_kernel_without_ipv6(void **state)
{
    (void)state;
    char text[128];
    snprintf(text, sizeof text, "{ name = \"any\"; address = \"*:%u\"; }", free_port());
    write_module("lpr", text);
    pid_t child = fork();
    if (child == 0) {
        imp_error error;
        struct sockaddr_storage bound = {0};
        socklen_t length = sizeof bound;
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        if (filter == NULL ||
            seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, AF_INET6, 0)) != 0 ||
            seccomp_load(filter) != 0)
            _exit(2);
        if (refresh(NULL, &error) != IMP_OK || set.count != 1 ||
            getsockname(set.items[0].fd, (struct sockaddr *)&bound, &length) != 0 ||
            bound.ss_family != AF_INET)
            _exit(1);
        /* And it is found again. */
        int fd = set.items[0].fd;
        _exit(refresh(NULL, &error) == IMP_OK && set.items[0].fd == fd ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_socket_is_kept_as_long_as_the_files_name_its_address),
        TEST(test_what_is_gone_stays_open_until_the_server_has_the_rest),
        TEST(test_a_port_in_use_changes_nothing_and_is_named),
        TEST(test_a_module_that_is_not_enabled_is_said_to_be_so),
        TEST(test_a_star_is_both_families_or_ipv4_on_a_kernel_without_ipv6),
    };
    return cmocka_run_group_tests_name("supervisor-listen", tests, NULL, NULL);
}
