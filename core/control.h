/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the control socket: verbs, their registry, and the core's own.
 *
 * A unix stream socket at RUN_DIR/control.sock, mode 0660, open to root, to the server's own user and
 * to members of `control_group` (by the kernel's credentials of the peer). Everything here runs on
 * the control loop. The frames are in control-frame.h, imprimctl in core/ctl/.
 */
#ifndef CORE_CONTROL_H
#define CORE_CONTROL_H

#include <imprimatur/control.h>

#include "core/config.h"

#define CONTROL_SOCKET_NAME "control.sock"

/* Makes the socket and serves it on the control loop. A live server at that path is an error
 * (IMP_EXISTS), a dead one's socket is replaced. An unknown group is logged: then only root and our
 * own user may. Control thread, on which the control loop must already be current. */
imp_status control_start(const char *run_dir, const char *group, imp_error *error) IMP_MUST_CHECK;
/* Closes the socket and all connections; requests that still run end without an answer when they
 * finish. Removes the socket's file. */
void control_stop(void);

/* Removes the verbs of a generation. While two generations of a module have the same verb the older
 * one's is called: sweep the old generation when the new one takes over (or the new one when its
 * start failed). A running request holds a pin ("request") on its generation. */
void control_sweep(const imp_self *self);

/* What the core's own verbs need of the server: status, metrics, config show, config reload, help. */
struct control_core {
    /* The configuration in force. */
    const struct config *(*config)(void *arg);
    /* The block of a running module, NULL when it does not run. */
    const struct config_block *(*block)(void *arg, const char *module);
    /* Reload: all or nothing. Adds sentences with imp_request_say(request, ...) about what changed;
     * `request` is not finished by it. */
    imp_status (*reload)(void *arg, imp_request *request, imp_error *error);
    /* Adds fields to the single row of `status` (modules, listeners, ...). May be NULL. */
    void (*status)(void *arg, imp_request *request);
    void *arg;
};
/* Registers them; `core` is copied. */
imp_status control_add_core_verbs(const struct control_core *core, imp_error *error) IMP_MUST_CHECK;

/* Verbs whose answer modules may add to (imp_fields_add); each calls control_fields_fill with its words
 * when its own fields are in the row. Control thread. */
#define CONTROL_FIELDS_STATUS "status"
#define CONTROL_FIELDS_KEY_STATUS "key status"
void control_fields_fill(const char *words, imp_request *request);

/* Forgets all verbs (tests, end of process). */
void control_clear(void);

/* Tests and fuzzing: runs one command line as if it came from a client with this uid; `done` gets
 * all answer frames as one JSON array text, and the exit status. */
void control_run_for_test(const char *const *argv, uint32_t argc, uint32_t uid,
                          void (*done)(const char *frames_json, int exit_status, void *arg),
                          void *arg);

#endif
