/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the parts of imprimctl: connection, printing, secrets.
 *
 * imprimctl knows no command: it sends its words, opens the files the server names (if they stand in
 * its own words), asks for secrets, and prints what comes.
 */
#ifndef CORE_CTL_H
#define CORE_CTL_H

#include "core/control-frame.h"

#define CTL_EXIT_OK 0
#define CTL_EXIT_REFUSED 1
#define CTL_EXIT_USAGE 2

/* ---- ctl-connect.c ---- */

struct ctl_connection {
    int fd;
    const char *path;
    struct control_buffer input;
};
imp_status ctl_connect(struct ctl_connection *connection, const char *path, imp_error *error);
void ctl_disconnect(struct ctl_connection *connection);
/* The next JSON frame; the caller releases it. NULL when the server has gone or talks nonsense. */
json_t *ctl_receive(struct ctl_connection *connection, imp_error *error);
imp_status ctl_send_command(struct ctl_connection *connection, char *const *words, int count,
                            bool is_json, imp_error *error);
/* Opens what the server asks for, as far as it stands in the words, and sends the descriptors. */
imp_status ctl_send_files(struct ctl_connection *connection, const json_t *files,
                          char *const *words, int count, imp_error *error);
/* Asks the person or standard input and sends the answers. */
imp_status ctl_send_secrets(struct ctl_connection *connection, const json_t *names,
                            imp_error *error);

/* ---- ctl-secret.c ---- */

#define CTL_SECRET_MAX 4096u
/* One line into `secret`, without echo and with a prompt on a terminal. */
imp_status ctl_secret_read(const char *name, char secret[CTL_SECRET_MAX], size_t *length,
                           imp_error *error);

/* ---- ctl-offline.c ---- */

/* True for the commands that work without a server; *is_only_offline for those that need that none
 * runs. */
bool ctl_offline_knows(char *const *words, int count, bool *is_only_offline);
/* Runs one on the instance that a configuration file names, which must not run, and prints its
 * report. */
imp_status ctl_offline_run(const char *config, char *const *words, int count, bool is_json,
                           imp_error *error);

/* ---- ctl-print.c ---- */

struct ctl_printer {
    bool is_json;
    json_t *rows; /* what waits for the end: a table's columns are as wide as their widest value */
    json_t *said; /* JSON only */
    bool is_single;
};
/* Takes a frame with say, rows or text; false when it is none of them. */
bool ctl_print(struct ctl_printer *printer, const json_t *frame);
/* Prints what waits. False when standard output did not take it. */
bool ctl_print_end(struct ctl_printer *printer);

/* Columns that a terminal takes for UTF-8 text. */
size_t ctl_text_width(const char *text);

#endif
