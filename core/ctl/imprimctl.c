/* SPDX-License-Identifier: Apache-2.0 */
/* imprimctl.c - imprimctl [--socket PATH] [--config FILE] [--json] COMMAND... */
#include "build-config.h"

#include "core/config-private.h"
#include "core/ctl/ctl.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCKET_DEFAULT "/run/imprimatur/control.sock"
#define SOCKET_VARIABLE "IMPRIMATUR_SOCKET"

struct arguments {
    const char *socket, *config;
    bool is_json;
    char **words;
    int count;
};

static int usage(FILE *out)
{
    fprintf(out, "usage: imprimctl [--socket PATH] [--config FILE] [--json] COMMAND [ARGUMENT...]\n"
                 "       imprimctl help [COMMAND]   lists the commands that the server knows\n"
                 "       imprimctl --config FILE backup restore|verify FILE   without a server\n");
    return out == stdout ? CTL_EXIT_OK : CTL_EXIT_USAGE;
}

static int complain(imp_status status, const char *message)
{
    fprintf(stderr, "imprimctl: %s\n", message);
    return status == IMP_INVALID ? CTL_EXIT_USAGE : CTL_EXIT_REFUSED;
}

/* Is "--NAME VALUE" or "--NAME=VALUE" at words[*i]? Then *value is its value. */
static bool is_option(char **words, int count, int *i, const char *name, const char **value)
{
    size_t length = strlen(name);
    if (strncmp(words[*i], name, length) != 0)
        return false;
    if (words[*i][length] == '=') {
        *value = words[*i] + length + 1;
        return true;
    }
    if (words[*i][length] != '\0' || *i + 1 >= count)
        return false;
    *value = words[++*i];
    return true;
}

/* Our own options stand in front of the command; -1 when all is well, else the exit status. */
static int parse(struct arguments *arguments, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--json") == 0)
            arguments->is_json = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return usage(stdout);
        else if (strcmp(argv[i], "--version") == 0) {
            printf("imprimctl %s\n", PACKAGE_VERSION);
            return CTL_EXIT_OK;
        } else if (!is_option(argv, argc, &i, "--socket", &arguments->socket) &&
                   !is_option(argv, argc, &i, "--config", &arguments->config))
            return usage(stderr);
    }
    arguments->words = argv + i;
    arguments->count = argc - i;
    return arguments->count == 0 ? usage(stderr) : -1;
}

/* --socket, then --config's run_dir, then the variable, then where a packaged server has it. The
 * caller frees. */
static char *find_socket(const struct arguments *arguments, imp_error *error)
{
    const char *variable = getenv(SOCKET_VARIABLE);
    char *path = NULL;
    if (arguments->socket != NULL) {
        path = strdup(arguments->socket);
    } else if (arguments->config != NULL) {
        struct config_block *block;
        if (config_core_read(arguments->config, NULL, &block, error) != IMP_OK)
            return NULL;
        const struct config_core *core = config_block_data(block);
        size_t size = strlen(core->run_dir) + sizeof "/control.sock";
        path = malloc(size);
        if (path != NULL)
            snprintf(path, size, "%s/control.sock", core->run_dir);
        config_block_free(block);
    } else {
        path = strdup(variable != NULL && *variable != '\0' ? variable : SOCKET_DEFAULT);
    }
    if (path == NULL)
        imp_error_set(error, IMP_LIMIT, "out of memory");
    return path;
}

/* Follows the server until it is done; returns the exit status. */
static int converse(struct ctl_connection *connection, const struct arguments *arguments,
                    struct ctl_printer *printer)
{
    imp_error error = {0};
    imp_status status = ctl_send_command(connection, arguments->words, arguments->count,
                                         arguments->is_json, &error);
    while (status == IMP_OK) {
        json_t *frame = ctl_receive(connection, &error);
        if (frame == NULL)
            return complain(IMP_UNAVAILABLE, error.message);
        const json_t *done = json_object_get(frame, "done");
        const json_t *asked = json_object_get(frame, "ask");
        const json_t *files = json_object_get(frame, "files");
        if (done != NULL) {
            int exit_status = (int)json_integer_value(json_object_get(done, "exit"));
            const char *message = json_string_value(json_object_get(done, "message"));
            bool is_printed = ctl_print_end(printer);
            if (exit_status != CTL_EXIT_OK)
                fprintf(stderr, "imprimctl: %s\n", message == NULL ? "refused" : message);
            json_decref(frame);
            if (exit_status == CTL_EXIT_OK && !is_printed)
                return complain(IMP_IO, "standard output did not take the answer");
            return exit_status == CTL_EXIT_OK || exit_status == CTL_EXIT_USAGE ? exit_status
                                                                               : CTL_EXIT_REFUSED;
        }
        if (json_is_array(asked))
            status = ctl_send_secrets(connection, asked, &error);
        else if (json_is_array(files))
            status = ctl_send_files(connection, files, arguments->words, arguments->count, &error);
        else if (!ctl_print(printer, frame))
            status = imp_error_set(&error, IMP_CORRUPT,
                                   "the server says something that this imprimctl does not know");
        json_decref(frame);
    }
    return complain(status, error.message);
}

static int run_offline(const struct arguments *arguments)
{
    imp_error error = {0};
    imp_status status = ctl_offline_run(arguments->config, arguments->words, arguments->count,
                                        arguments->is_json, &error);
    return status == IMP_OK ? CTL_EXIT_OK : complain(status, error.message);
}

int main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct ctl_connection connection;
    struct ctl_printer printer = {0};
    imp_error error = {0};
    signal(SIGPIPE, SIG_IGN);
    int exit_status = parse(&arguments, argc, argv);
    if (exit_status >= 0)
        return exit_status;
    bool is_only_offline;
    bool is_offline = ctl_offline_knows(arguments.words, arguments.count, &is_only_offline);
    if (is_only_offline)
        return run_offline(&arguments);
    char *path = find_socket(&arguments, &error);
    if (path == NULL)
        return complain(IMP_UNAVAILABLE, error.message);
    printer.is_json = arguments.is_json;
    imp_status status = ctl_connect(&connection, path, &error);
    if (status != IMP_OK && is_offline && arguments.config != NULL) {
        exit_status = run_offline(&arguments);
    } else if (status == IMP_OK) {
        exit_status = converse(&connection, &arguments, &printer);
        ctl_disconnect(&connection);
    } else {
        complain(status, error.message);
        exit_status = CTL_EXIT_REFUSED;
    }
    json_decref(printer.rows);
    json_decref(printer.said);
    free(path);
    return exit_status;
}
