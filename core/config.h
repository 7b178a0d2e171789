/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the configuration: imprimatur.conf, modules-enabled/NAME.conf and the overlay.
 *
 * A `struct config` is one complete reading of all files: immutable, so any thread may read it as
 * long as it lives; a reload makes a new one beside it. A `struct config_block` is what one set of
 * rows (a module's options, or the core's own) makes of it: the conf struct, and for every setting
 * its value as text, where it comes from and whether it may change while running. A block owns all
 * its memory: it needs neither the config nor the module's code that it was made from.
 *
 * A setting's value is looked for in this order: overlay, file, default. Every error is one line:
 *
 *     modules-enabled/lpr.conf:12: lpr.idle_timeout: found "5 parsecs", expected a duration such as
 *     "60s" (1s to 1h)
 *
 * Files must belong to root or to the user that reads them and must not be writable by others.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <imprimatur/log.h>
#include <imprimatur/module.h>
#include <imprimatur/options.h>

#include "core/config-listen.h"

struct config;
struct config_block;
struct config_overlay;

/* ---- the core's own settings (imprimatur.conf); rows and help in config-core.c ---- */

struct config_core {
    const char *instance;      /* "" for the default instance, else its name */
    const char *state_dir;     /* absolute */
    const char *run_dir;       /* absolute */
    const char *master_key;    /* absolute path of the key file, or credential:NAME */
    const char *module_dir;    /* where NAME.so lies; absolute */
    const char *modules_dir;   /* the folder of NAME.conf links; absolute after reading */
    const char *user;          /* "" = stay who we are */
    const char *group;         /* "" = the user's own */
    const char *control_group; /* who besides root may use the control socket */
    bool developer;            /* module files of another owner than root */

    int64_t loops;   /* 0 = one a CPU */
    int64_t workers; /* 0 = two a CPU, at least 4 */
    int64_t worker_queue;
    int64_t connections_max;            /* of the server */
    int64_t connections_per_source_max; /* 0 = no bound of its own */
    int64_t accept_imbalance; /* connections that a loop may be ahead of the least loaded */
    int64_t listen_backlog;
    int64_t tls_handshake_timeout;
    int64_t proxy_timeout; /* for the PROXY header to come in */
    int64_t min_rate;      /* bytes a second from who is expected to send; 0 = none */
    int64_t min_rate_window;

    int64_t log_target;   /* LOG_TO_... of core/log.h, in the order of its choices */
    const char *log_file; /* with log_target = "file"; absolute */
    int64_t log_level;    /* index into CONFIG_LOG_LEVELS; use config_log_level() */
    int64_t
        log_buffer; /* bytes that wait for a slow target; beyond, lines are dropped and counted */

    int64_t drain_timeout;
    int64_t module_start_timeout;
    int64_t module_stop_timeout;
    int64_t upgrade_deadline;
    int64_t stall_timeout; /* no heartbeat for so long: the supervisor kills the server */
    int64_t restart_delay_max;
    int64_t quarantine_crashes;
    int64_t quarantine_window;

    int64_t map_size;
    int64_t store_control_queue; /* closures that wait, at most */
    int64_t store_bulk_queue;

    const char *tls_certificate; /* PEM files; "" = the self-signed pair made at first start */
    const char *tls_key;
};

/* ---- reading ---- */

/* Reads the main file and every *.conf of its modules folder, the core's own settings and all
 * `listen`; module settings are read by config_module_settings. `overlay` may be NULL; it is copied;
 * values in it that no longer fit are errors: a server that starts says so and loads without it.
 * IMP_NOT_FOUND when the main file is not there, IMP_DENIED when a file's owner or mode is wrong,
 * IMP_INVALID for everything that a person has to put right. The caller frees. Any thread. */
imp_status config_load_overlaid(const char *main_file, const struct config_overlay *overlay,
                                struct config **config, imp_error *error) IMP_MUST_CHECK;
imp_status config_load(const char *main_file, struct config **config, imp_error *error)
    IMP_MUST_CHECK;
void config_free(struct config *config); /* NULL is ignored */

const struct config_core *config_core(const struct config *config);
/* The core's settings as a block, to show and compare them. */
const struct config_block *config_core_block(const struct config *config);
/* core->log_level as a level of <imprimatur/log.h>. */
imp_log_level config_log_level(const struct config_core *core);
/* The main file, as it was given. */
const char *config_main_file(const struct config *config);

/* The enabled modules in name order. */
uint32_t config_module_count(const struct config *config);
const char *config_module_name(const struct config *config, uint32_t index);
bool config_module_is_enabled(const struct config *config, const char *name);
/* All listeners of all modules, or of one; never NULL. */
const struct config_listeners *config_listeners(const struct config *config);

/* Reads module `name`'s group by the rows of its descriptor into a new block; IMP_NOT_FOUND when the
 * module is not enabled (its defaults are then used with `config_default_settings`). Does not call
 * `check`. The caller frees the block. Any thread. */
imp_status config_module_settings(const struct config *config, const imp_module *module,
                                  const char *name, struct config_block **block, imp_error *error)
    IMP_MUST_CHECK;
/* The same for a module that has no file (loaded by hand): defaults and overlay only. */
imp_status config_default_settings(const struct config *config, const imp_module *module,
                                   const char *name, struct config_block **block, imp_error *error)
    IMP_MUST_CHECK;

/* ---- blocks ---- */

/* The filled conf struct (what check, start and reconfigure get). */
const void *config_block_data(const struct config_block *block);
void config_block_free(struct config_block *block); /* NULL is ignored */

struct config_entry {
    const char *path;   /* "idle_timeout", "rules[2].host" */
    const char *value;  /* as typed in the file; a secret shows its source, which is no secret */
    const char *origin; /* "default" | "FILE:LINE" | "overlay" */
    const char *help;
    const char *default_text; /* NULL: none */
    const char *expected;     /* "a duration such as \"60s\" (1s to 1h)" */
    uint32_t flags;           /* IMP_LIVE, ... */
};
uint32_t config_block_entry_count(const struct config_block *block);
const struct config_entry *config_block_entry(const struct config_block *block, uint32_t index);

enum config_change {
    CONFIG_SAME = 0,
    CONFIG_LIVE = 1,   /* only IMP_LIVE settings differ: reconfigure takes them */
    CONFIG_RESTART = 2 /* others differ: a new generation (or, for the core, a restart) */
};
/* Compares two readings of the same rows. `path` (may be NULL) gets the first setting that made the
 * answer, of `next` or, when it is gone there, of `current`; NULL for CONFIG_SAME. A changed `listen`
 * counts as live: the core rebinds by config_listener_equal. */
enum config_change config_block_compare(const struct config_block *current,
                                        const struct config_block *next, const char **path);

/* ---- reload: all or nothing ---- */

struct config_subject {
    const imp_module *module; /* in: the running generation's descriptor */
    const char *name;
    const struct config_block *current;
    /* in: calls module->check for `next`, with whatever has to be around a call into a module; NULL:
     * it is just called */
    imp_status (*check)(const struct config_subject *subject, const struct config *next,
                        imp_error *error);
    struct config_block *next; /* out: owned by the caller when config_reload says IMP_OK; NULL when
                                * the module has no file any more: it keeps what it has */
    enum config_change change; /* out */
    const char *changed;       /* out: the first setting that made it so, or NULL */
    bool is_enabled;           /* out: still has its file */
};
/* Reads everything anew, makes every subject's block, runs every subject's `check`. On any error
 * nothing is left behind and all `next` are NULL. Control thread. */
imp_status config_reload(const struct config *current, const struct config_overlay *overlay,
                         struct config_subject *subjects, uint32_t count, struct config **next,
                         imp_error *error) IMP_MUST_CHECK;

/* ---- overlay: values that API and portal set, kept in the sealed store by their owner ---- */

struct config_overlay *config_overlay_new(void); /* NULL when memory is short */
void config_overlay_free(struct config_overlay *overlay);
/* Sets one value; `module` "" is the core. `value` is written as in the file ("\"30s\"", "true",
 * "[ \"a\" ]"), on one line. IMP_INVALID when it is not one such value. That the setting exists, that
 * the value fits and that it may be overlaid (IMP_ETC_ONLY may not) is checked when a config is
 * loaded or a block is read with it. */
imp_status config_overlay_set(struct config_overlay *overlay, const char *module, const char *name,
                              const char *value, imp_error *error) IMP_MUST_CHECK;
/* Takes it back; true when it was there. */
bool config_overlay_unset(struct config_overlay *overlay, const char *module, const char *name);

/* ---- secrets ---- */

#define CONFIG_SECRET_MAX 65536u /* bytes in a secret's value; longer files are refused */

/* How `store:NAME` is fetched: fills at most `size` bytes, sets *length. */
typedef imp_status (*config_secret_store)(void *arg, const char *name, char *buffer, size_t size,
                                          size_t *length, imp_error *error);
/* Set once by the store's owner; until then store:NAME answers IMP_UNAVAILABLE. Control thread. */
void config_secret_set_store(config_secret_store fetch, void *arg);

/* Fetches the value of a secret: one trailing newline is cut, a NUL is put behind it. Files must
 * belong to root or to us and be readable by nobody else (0400 or 0600). IMP_NOT_FOUND for an empty
 * source. The caller frees with config_secret_free, which wipes. Blocks on the disk. */
imp_status config_secret_fetch(const imp_secret *secret, char **value, size_t *length,
                               imp_error *error) IMP_MUST_CHECK;
void config_secret_free(char *value, size_t length);

/* ---- the syntax of single values (used by others that read such text) ---- */

/* "50ms", "60s", "5min", "2h", "30d", "10us": microseconds. IMP_INVALID, IMP_LIMIT (overflow). */
imp_status config_parse_duration(const char *text, int64_t *microseconds);
/* "500B", "32KiB", "1MiB", "2GiB", "1TiB": bytes. */
imp_status config_parse_size(const char *text, int64_t *bytes);

#endif
