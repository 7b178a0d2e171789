/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-check.c - which layers of the sandbox work here, found by a child that tries. */
#include "build-config.h"

#include "core/sandbox-check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/child.h"
#include "core/packet.h"
#include "core/supervisor-private.h"

#define CHECK_LIMIT_MS 10000

static const struct spawner_limits check_limits = {
    .memory_bytes = UINT64_C(512) << 20,
    .output_bytes = UINT64_C(1) << 20,
    .cpu_seconds = 5,
    .wall_ms = CHECK_LIMIT_MS,
    .open_files = 32,
};

/* As whom: what the configuration says, else the project's user, else nobody, else ourselves. */
static imp_status check_account(const char *config_path, struct account *account, imp_error *error)
{
    if (config_path != NULL) {
        struct config *config = NULL;
        imp_status status = config_load(config_path, &config, error);
        if (status == IMP_OK)
            status = account_find(config_core(config), account, error);
        config_free(config);
        return status;
    }
    memset(account, 0, sizeof *account);
    account->uid = getuid();
    account->gid = getgid();
    if (geteuid() != 0)
        return IMP_OK;
    const struct passwd *user = getpwnam(ACCOUNT_USER);
    if (user == NULL)
        user = getpwnam("nobody");
    if (user == NULL || user->pw_uid == 0)
        return imp_error_set(error, IMP_NOT_FOUND, "there is no user to run a child as");
    account->is_changed = true;
    account->uid = user->pw_uid;
    account->gid = user->pw_gid;
    account->groups[0] = user->pw_gid;
    account->group_count = 1;
    return IMP_OK;
}

struct check_end {
    bool is_over;
    struct child_end end;
};

static void check_done(const struct child_end *end, void *arg)
{
    struct check_end *check = arg;
    check->is_over = true;
    check->end = *end;
}

static imp_status check_run(int supervisor_fd, struct check_end *check, imp_error *error)
{
    struct spawner_message message;
    struct child_client *client = NULL;
    int ends[2] = {-1, -1};
    int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uint32_t serial = 0;
    imp_status status = packet_pair(ends, error);
    if (status != IMP_OK)
        goto done;
    spawner_message_set(&message, SPAWNER_SERVER, 0);
    status = spawner_send(supervisor_fd, &message, &ends[0], 1, error);
    if (status != IMP_OK)
        goto done;
    close(ends[0]);
    ends[0] = -1;
    client = child_client_new(ends[1]);
    if (client == NULL) {
        status = imp_error_set(error, IMP_LIMIT, "not enough memory");
        goto done;
    }
    ends[1] = -1;
    status = child_spawn(client, SPAWNER_PROGRAM_SELFTEST, &check_limits, input, STDOUT_FILENO,
                         check_done, check, &serial, error);
    struct pollfd watch = {.fd = child_client_fd(client), .events = POLLIN};
    while (status == IMP_OK && !check->is_over) {
        int outcome = poll(&watch, 1, 2 * CHECK_LIMIT_MS);
        if (outcome == 0 || (outcome < 0 && errno != EINTR))
            status = imp_error_set(error, IMP_TIMEOUT, "the spawner does not answer");
        else if (outcome > 0)
            child_dispatch(client);
    }
    if (status == IMP_OK && !check->end.was_started)
        status = imp_error_set(error, check->end.error.status, "%s", check->end.error.message);
done:
    child_client_free(client);
    packet_close(ends, 2);
    if (input >= 0)
        close(input);
    return status;
}

int sandbox_check_main(const char *config_path)
{
    imp_error error;
    struct account account;
    struct check_end check;
    int ends[2] = {-1, -1};
    pid_t spawner = -1;
    memset(&check, 0, sizeof check);
    imp_status status = check_account(config_path, &account, &error);
    if (status == IMP_OK)
        status = packet_pair(ends, &error);
    if (status == IMP_OK) {
        const struct role role = {.name = "spawner", .fds = {ends[1]}, .fd_count = 1};
        status = role_start(&role, &account, &spawner, &error);
    }
    if (status == IMP_OK)
        status = check_run(ends[0], &check, &error);
    packet_close(ends, 2);
    if (spawner > 0)
        while (waitpid(spawner, NULL, 0) < 0 && errno == EINTR)
            continue;
    if (status != IMP_OK) {
        fprintf(stderr, "imprimd: %s\n", error.message);
        return 1;
    }
    bool is_enough = !check.end.was_signalled && check.end.code == 0;
    printf("%s\n", is_enough ? "documents can be analysed"
                             : "below the minimum: documents cannot be analysed");
    return is_enough ? 0 : 1;
}
