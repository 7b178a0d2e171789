/* SPDX-License-Identifier: Apache-2.0 */
/* imprimd.c - imprimd's command line, and the way of each role into its main. */
#include "build-config.h"

#include <errno.h>
#include <getopt.h>
#include <imprimatur/log.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/config-listen.h"
#include "core/link.h"
#include "core/sandbox-check.h"
#include "core/sandbox.h"
#include "core/server.h"
#include "core/spawner.h"
#include "core/supervisor.h"
#include "core/version.h"

#define EXIT_USAGE 2

static const char usage[] =
    "usage: imprimd -c FILE [--foreground] [--check] [--check-sandbox]\n"
    "       imprimd --version | --help\n"
    "\n"
    "  -c, --config FILE  the configuration, imprimatur.conf\n"
    "      --foreground   stay in the foreground (imprimd always does)\n"
    "      --check        read the configuration, say what is wrong with it, and end\n"
    "      --check-sandbox\n"
    "                     say which layers of the sandbox for children work here, and end\n"
    "      --version      print the version\n"
    "      --help         print this text\n";

/* What the command line says. */
struct arguments {
    const char *config;
    const char *role; /* hidden: what the supervisor starts */
    const char *layers;
    bool is_check, is_check_sandbox;
    bool is_developer; /* with a role */
};

enum option_code {
    OPTION_FOREGROUND = 256,
    OPTION_CHECK,
    OPTION_CHECK_SANDBOX,
    OPTION_VERSION,
    OPTION_HELP,
    OPTION_ROLE,
    OPTION_LAYERS,
    OPTION_DEVELOPER
};

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"foreground", no_argument, NULL, OPTION_FOREGROUND},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"check-sandbox", no_argument, NULL, OPTION_CHECK_SANDBOX},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {"role", required_argument, NULL, OPTION_ROLE},
    {"layers", required_argument, NULL, OPTION_LAYERS},
    {"developer", no_argument, NULL, OPTION_DEVELOPER},
    {NULL, 0, NULL, 0},
};

static int usage_error(const char *what, const char *which)
{
    fprintf(stderr, "imprimd: %s%s (see imprimd --help)\n", what, which);
    return EXIT_USAGE;
}

/* ---- roles ------------------------------------------------------------------------------------ */

/* A role is started by the supervisor only: its first descriptor is a socket pair's end. */
static bool has_link(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_SEQPACKET;
}

static int role_spawner(const struct arguments *arguments)
{
    (void)arguments;
    if (!has_link(SPAWNER_FD_SUPERVISOR))
        return usage_error("this role is for the supervisor to start: ", "spawner");
    prctl(PR_SET_NAME, "imprimd-spawner");
    return spawner_main();
}

/* Sockets as received, with the names that server_socket points to. */
struct received_sockets {
    size_t count;
    struct server_socket items[CONFIG_LISTENERS_MAX];
    char names[CONFIG_LISTENERS_MAX][2][LINK_NAME_SIZE];
};

static void socket_add(struct received_sockets *sockets, const struct link_message *message, int fd)
{
    if (sockets->count == CONFIG_LISTENERS_MAX) {
        close(fd);
        return;
    }
    size_t at = sockets->count++;
    memcpy(sockets->names[at][0], message->module, LINK_NAME_SIZE);
    memcpy(sockets->names[at][1], message->listener, LINK_NAME_SIZE);
    sockets->items[at] = (struct server_socket){sockets->names[at][0], sockets->names[at][1], fd};
}

/* Asks for all sockets; false when the supervisor wants us to stop, or is gone. */
static bool sockets_receive(struct received_sockets *sockets)
{
    struct link_message message;
    int fd;
    imp_error error;
    link_message_set(&message, LINK_LISTEN, NULL);
    message.serial = 1;
    if (link_send(SERVER_FD_LINK, &message, -1, NULL) != IMP_OK)
        return false;
    for (;;) {
        if (link_receive(SERVER_FD_LINK, &message, &fd, &error) != IMP_OK ||
            message.kind == LINK_STOP)
            return false;
        if (message.kind == LINK_LISTENER)
            socket_add(sockets, &message, fd);
        else if (fd >= 0)
            close(fd);
        if (message.kind != LINK_LISTEN_END)
            continue;
        /* What was bound before is still served. */
        if (message.status != IMP_OK)
            imp_log(NULL, IMP_LOG_ERROR, "server.listen_failed", "reason=\"%s\"", message.text);
        return true;
    }
}

/* Each connection is a descriptor: as many as the administrator allows at all. */
static void descriptors_raise(void)
{
    struct rlimit bound;
    if (getrlimit(RLIMIT_NOFILE, &bound) == 0 && bound.rlim_cur < bound.rlim_max) {
        bound.rlim_cur = bound.rlim_max;
        setrlimit(RLIMIT_NOFILE, &bound);
    }
}

static int role_server(const struct arguments *arguments)
{
    if (arguments->config == NULL || !has_link(SERVER_FD_LINK))
        return usage_error("this role is for the supervisor to start: ", "server");
    imp_error error;
    prctl(PR_SET_NAME, "imprimd-server");
    descriptors_raise();
    /* Before anything else has run: no module, no thread, no key. */
    if (sandbox_server_enter(arguments->is_developer, &error) != IMP_OK) {
        imp_log(NULL, IMP_LOG_CRITICAL, "server.refused", "reason=\"%s\"", error.message);
        return SERVER_EXIT_FAILURE;
    }
    struct received_sockets *sockets = calloc(1, sizeof *sockets);
    if (sockets == NULL)
        return SERVER_EXIT_FAILURE;
    int status = SERVER_EXIT_OK;
    if (sockets_receive(sockets)) {
        const struct server_params params = {
            .config_path = arguments->config,
            .master_key_fd = SERVER_FD_KEY,
            .link_fd = SERVER_FD_LINK,
            .spawner_fd = SERVER_FD_SPAWNER,
            .record_fd = SERVER_FD_RECORD,
            .sockets = sockets->items,
            .socket_count = sockets->count,
            .is_foreground = true,
        };
        status = server_run(&params);
    }
    free(sockets);
    return status;
}

static int role_selftest(const struct arguments *arguments)
{
    spawner_selftest_main(
        arguments->layers == NULL ? 0 : (uint32_t)strtoul(arguments->layers, NULL, 10));
}

struct role_row {
    const char *name;
    int (*run)(const struct arguments *arguments);
};

static const struct role_row role_rows[] = {
    {"spawner", role_spawner},
    {"server", role_server},
    {"selftest", role_selftest},
};

static int role_run(const struct arguments *arguments)
{
    for (size_t i = 0; i < sizeof role_rows / sizeof role_rows[0]; i++)
        if (strcmp(role_rows[i].name, arguments->role) == 0)
            return role_rows[i].run(arguments);
    return usage_error("unknown role ", arguments->role);
}

/* ---- command line ----------------------------------------------------------------------------- */

static int supervise(const struct arguments *arguments)
{
    char path[PATH_MAX];
    if (realpath(arguments->config, path) == NULL) {
        fprintf(stderr, "imprimd: cannot read %s: %s\n", arguments->config, strerror(errno));
        return 1;
    }
    const struct supervisor_options supervisor = {.config_path = path};
    return supervisor_run(&supervisor);
}

int imp_imprimd_main(int argc, char **argv)
{
    struct arguments arguments = {NULL, NULL, NULL, false, false, false};
    int code;
    opterr = 0;
    while ((code = getopt_long(argc, argv, "+:c:", options, NULL)) != -1) {
        switch (code) {
        case 'c': arguments.config = optarg; break;
        case OPTION_FOREGROUND: break;
        case OPTION_CHECK: arguments.is_check = true; break;
        case OPTION_CHECK_SANDBOX: arguments.is_check_sandbox = true; break;
        case OPTION_ROLE: arguments.role = optarg; break;
        case OPTION_DEVELOPER: arguments.is_developer = true; break;
        case OPTION_LAYERS: arguments.layers = optarg; break;
        case OPTION_VERSION: printf("imprimd %s\n", imp_version()); return 0;
        case OPTION_HELP: fputs(usage, stdout); return 0;
        case ':': return usage_error("an argument is missing after ", argv[optind - 1]);
        default: return usage_error("unknown option ", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return usage_error("unexpected argument ", argv[optind]);
    if (arguments.role != NULL)
        return role_run(&arguments);
    if (arguments.is_check_sandbox)
        return sandbox_check_main(arguments.config);
    if (arguments.config == NULL)
        return usage_error("no configuration: ", "-c FILE is needed");
    return arguments.is_check ? server_check(arguments.config) : supervise(&arguments);
}
