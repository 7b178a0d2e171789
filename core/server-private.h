/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server-private.h - the server process as its parts share it: server.c (life), server-stages.c (what is
 * started in which order), server-link.c (supervisor), server-reload.c (settings), server-status.c.
 */
#ifndef CORE_SERVER_PRIVATE_H
#define CORE_SERVER_PRIVATE_H

#include "core/config.h"
#include "core/loop.h"
#include "core/server.h"
#include "core/store.h"

struct server {
    const struct server_params *params;
    struct config *config; /* in force */
    struct store *store;
    char *state_dir, *module_dir; /* outlive a reload's old configuration */
    loop_watch *link_watch;
    uint32_t stages;         /* that were begun */
    imp_error start_failure; /* of the modules, as a whole: it ends at once, in order */
    bool is_running;         /* all modules were started; before that a stop is only noted */
    const char *stop_noted;  /* why */
    bool is_stopping;
    imp_timer *works_look; /* while works are waited for, the last of all */
    int64_t works_deadline;
    int exit_status;
};

extern struct server server;

/* ---- server.c ---- */
/* Begins to end the server; the second time does nothing. Control thread. */
void server_stop(const char *why);
imp_status server_signals_begin(imp_error *error);

/* ---- server-stages.c ---- */
/* Begins all stages, or ends those that were begun and says in `error` what went wrong. */
imp_status server_stages_begin(imp_error *error);
void server_stages_end(void);

/* ---- server-link.c ---- */
imp_status server_link_begin(imp_error *error);
void server_link_end(void);
/* Messages to the supervisor; without one they go nowhere. */
void server_link_ready(void);
void server_link_refused(const imp_error *error);
void server_link_reloading(void);
void server_link_reloaded(imp_status status, const char *text);

/* ---- server-reload.c ---- */
/* All or nothing. `say` (may be NULL) gets a sentence for everything that changed or waits for a
 * restart. */
imp_status server_reload(void (*say)(const char *sentence, void *arg), void *arg, imp_error *error);
/* The same, for SIGHUP and LINK_RELOAD: logs, tells the supervisor, opens the log's file anew. */
void server_reload_logged(void);

/* ---- server-status.c ---- */
/* Registers status, config and module verbs. */
imp_status server_verbs_begin(imp_error *error);

#endif
