/* SPDX-License-Identifier: Apache-2.0 */
/* config-core.c - the core's own settings: imprimatur.conf. */
#include "build-config.h"

#include "core/config-private.h"
#include "core/log.h"

#include <stdio.h>
#include <string.h>

#ifndef IMP_MODULE_DIR
#define IMP_MODULE_DIR "/usr/lib/imprimatur/modules"
#endif
#ifndef IMP_LOCALSTATE_DIR
#define IMP_LOCALSTATE_DIR "/var"
#endif
#define RUN_DIR "/run/imprimatur"
#define STATE_DIR IMP_LOCALSTATE_DIR "/lib/imprimatur"
#define MASTER_KEY IMP_LOCALSTATE_DIR "/lib/imprimatur-keys/master.key"
#define LOG_FILE IMP_LOCALSTATE_DIR "/log/imprimatur/imprimd.log"
#define INSTANCE_SIZE 24 /* so that socket paths stay within sun_path */

#define C struct config_core
#define ETC IMP_ETC_ONLY
#define LIVE_ETC (IMP_LIVE | IMP_ETC_ONLY)

/* Settings without IMP_LIVE are taken at the next start; a reload says so. */
const imp_option config_core_rows[] = {
    /* who and where */
    IMP_OPT_STRING(C, instance, "", ETC,
                   "name of this instance; paths then say imprimatur-NAME by default"),
    IMP_OPT_STRING(C, state_dir, STATE_DIR, ETC, "folder of store and spool"),
    IMP_OPT_STRING(C, run_dir, RUN_DIR, ETC, "folder of the control socket"),
    IMP_OPT_STRING(C, master_key, MASTER_KEY, ETC,
                   "file of the master key (0400), or credential:NAME"),
    IMP_OPT_STRING(C, module_dir, IMP_MODULE_DIR, ETC, "folder of the modules' files (NAME.so)"),
    IMP_OPT_STRING(C, modules_dir, "modules-enabled", ETC,
                   "folder of the enabled modules' settings; relative to this file"),
    IMP_OPT_STRING(C, user, "imprimatur", ETC, "user that the server runs as when root starts it"),
    IMP_OPT_STRING(C, group, "", ETC, "group that the server runs as; empty: the user's own"),
    IMP_OPT_STRING(C, control_group, "imprimatur", ETC,
                   "group whose members may use imprimctl, besides root"),
    IMP_OPT_BOOL(C, developer, "false", ETC,
                 "load module files that do not belong to root; never as root or when installed"),

    /* threads and connections */
    IMP_OPT_INTEGER(C, loops, "0", "0", "64", ETC, "event loops; 0: one a CPU"),
    IMP_OPT_INTEGER(C, workers, "0", "0", "48", ETC, "worker threads; 0: two a CPU, at least 4"),
    IMP_OPT_INTEGER(C, worker_queue, "4096", "16", "1048576", 0,
                    "pieces of blocking work that wait, at most"),
    IMP_OPT_INTEGER(C, connections_max, "4096", "1", "1000000", IMP_LIVE,
                    "connections of the whole server, at most"),
    IMP_OPT_INTEGER(C, connections_per_source_max, "0", "0", "1000000", IMP_LIVE,
                    "connections of one address, at most; 0: no bound of its own"),
    IMP_OPT_INTEGER(C, accept_imbalance, "16", "1", "10000", IMP_LIVE,
                    "connections that a loop may be ahead of the least loaded before it gives one "
                    "away"),
    IMP_OPT_INTEGER(C, listen_backlog, "4096", "1", "65535", ETC,
                    "connections that the system queues for a listener"),
    IMP_OPT_DURATION(C, tls_handshake_timeout, "30s", "1s", "10min", IMP_LIVE,
                     "time for a client's TLS handshake"),
    IMP_OPT_DURATION(C, proxy_timeout, "5s", "100ms", "1min", IMP_LIVE,
                     "time for the PROXY protocol header to come in"),
    IMP_OPT_SIZE(C, min_rate, "128B", "0B", "1MiB", IMP_LIVE,
                 "least that a client has to send a second while it is expected to; 0B: none"),
    IMP_OPT_DURATION(C, min_rate_window, "60s", "1s", "1h", IMP_LIVE,
                     "time over which min_rate is averaged"),

    /* log */
    IMP_OPT_ENUM(C, log_target, LOG_TARGETS, "stderr", LIVE_ETC,
                 "where the log goes; under systemd stderr is the journal"),
    IMP_OPT_STRING(C, log_file, LOG_FILE, LIVE_ETC, "the log's file, with log_target = \"file\""),
    IMP_OPT_ENUM(C, log_level, LOG_LEVELS, "info", IMP_LIVE, "least important level to be logged"),
    IMP_OPT_SIZE(C, log_buffer, "256KiB", "16KiB", "64MiB", ETC,
                 "log lines that wait for a slow target; what exceeds it is dropped and counted"),

    /* modules and processes */
    IMP_OPT_DURATION(C, drain_timeout, "10min", "0s", "24h", IMP_LIVE,
                     "time a module has to finish what it has when it is replaced or unloaded"),
    IMP_OPT_DURATION(C, module_start_timeout, "30s", "100ms", "1h", IMP_LIVE,
                     "time a module has to start"),
    IMP_OPT_DURATION(C, module_stop_timeout, "10s", "100ms", "1h", IMP_LIVE,
                     "time a module has to stop"),
    IMP_OPT_DURATION(C, upgrade_deadline, "10s", "0s", "10min", IMP_LIVE,
                     "time the server has to finish connections when it ends or is replaced"),
    IMP_OPT_DURATION(C, stall_timeout, "30s", "1s", "1h", ETC,
                     "a server whose loops or writer give no sign for so long is restarted"),
    IMP_OPT_DURATION(C, restart_delay_max, "30s", "100ms", "1h", ETC,
                     "longest pause before a server that keeps ending is started again"),
    IMP_OPT_INTEGER(C, quarantine_crashes, "3", "1", "100", ETC,
                    "crashes with the same object or module before it is set aside"),
    IMP_OPT_DURATION(C, quarantine_window, "10min", "1s", "24h", ETC,
                     "time within which those crashes count together"),

    /* store */
    IMP_OPT_SIZE(C, map_size, "64GiB", "64MiB", "16TiB", ETC,
                 "most that the store can hold; address space, not memory"),
    IMP_OPT_INTEGER(C, store_control_queue, "1024", "16", "1048576", ETC,
                    "changes by people and releases that wait for the writer, at most"),
    IMP_OPT_INTEGER(C, store_bulk_queue, "4096", "16", "1048576", ETC,
                    "changes by intake that wait for the writer, at most"),

    /* TLS */
    IMP_OPT_STRING(C, tls_certificate, "", LIVE_ETC,
                   "PEM file with the certificate and its chain; empty: a self-signed one"),
    IMP_OPT_STRING(C, tls_key, "", LIVE_ETC, "PEM file with the certificate's key"),
    IMP_OPT_END,
};

imp_log_level config_log_level(const struct config_core *core)
{
    /* LOG_LEVELS begins with critical, and syslog's numbers have no holes. */
    return IMP_LOG_CRITICAL + (imp_log_level)core->log_level;
}

/* "/var/lib/imprimatur/x" of instance "b" is "/var/lib/imprimatur-b/x". The last place counts: the
 * project may be installed below a folder that is named after it. */
static void set_instance_path(struct config_block *block, const char *name, const char **field,
                              const char *instance)
{
    static const char project[] = "/imprimatur";
    const char *place = NULL;
    for (const char *next = strstr(*field, project); next != NULL; next = strstr(next + 1, project))
        place = next;
    if (place == NULL)
        return;
    const char *rest = place + sizeof project - 1;
    config_block_set_default(block, name, field,
                             arena_printf(config_block_arena(block), "%.*s-%s%s",
                                          (int)(rest - *field), *field, instance, rest));
}

static imp_status fail(const struct config_block *block, const char *label, const char *name,
                       const char *found, const char *expected, imp_error *error)
{
    const struct config_entry *entry = config_block_find(block, name);
    bool is_default = entry == NULL || strcmp(entry->origin, "default") == 0;
    return config_value_error(error, is_default ? label : entry->origin, name, found, expected);
}

static imp_status check_absolute(const struct config_block *block, const char *label,
                                 const char *name, const char *path, imp_error *error)
{
    if (path[0] == '/')
        return IMP_OK;
    return fail(block, label, name, config_block_find(block, name)->value,
                "an absolute path such as \"/var/lib/imprimatur\"", error);
}

static imp_status check(struct config_block *block, const char *main_file, const char *label,
                        imp_error *error)
{
    struct config_core *core = config_block_data_mutable(block);
    struct arena *arena = config_block_arena(block);
    if (*core->instance != '\0') {
        if (!config_name_is_valid(core->instance, INSTANCE_SIZE))
            return fail(block, label, "instance", config_block_find(block, "instance")->value,
                        "at most 23 of a-z, 0-9 and \"-\", a letter first", error);
        set_instance_path(block, "state_dir", &core->state_dir, core->instance);
        set_instance_path(block, "run_dir", &core->run_dir, core->instance);
        set_instance_path(block, "master_key", &core->master_key, core->instance);
        set_instance_path(block, "log_file", &core->log_file, core->instance);
    }
    const struct {
        const char *name, *value;
    } paths[] = {{"state_dir", core->state_dir},
                 {"run_dir", core->run_dir},
                 {"module_dir", core->module_dir},
                 {"log_file", core->log_file}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        imp_status status = check_absolute(block, label, paths[i].name, paths[i].value, error);
        if (status != IMP_OK)
            return status;
    }
    if (core->master_key[0] != '/' && strncmp(core->master_key, "credential:", 11) != 0)
        return fail(block, label, "master_key", config_block_find(block, "master_key")->value,
                    "an absolute path or \"credential:NAME\"", error);
    if ((*core->tls_certificate == '\0') != (*core->tls_key == '\0')) {
        const char *missing = *core->tls_key == '\0' ? "tls_key" : "tls_certificate";
        return fail(block, label, missing, "nothing",
                    "a PEM file: tls_certificate and tls_key go together", error);
    }
    if (core->modules_dir[0] != '/') {
        const char *slash = strrchr(main_file, '/');
        core->modules_dir = slash == NULL
                                ? core->modules_dir
                                : arena_printf(arena, "%.*s%s", (int)(slash + 1 - main_file),
                                               main_file, core->modules_dir);
    }
    if (arena->has_failed)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    return IMP_OK;
}

imp_status config_core_read(const char *main_file, const struct config_overlay *overlay,
                            struct config_block **block, imp_error *error)
{
    config_t parsed;
    const char *slash = strrchr(main_file, '/');
    const char *label = slash == NULL ? main_file : slash + 1;
    *block = NULL;
    imp_status status = config_file_read(main_file, label, &parsed, error);
    if (status == IMP_OK) {
        const struct config_rows_source source = {.rows = config_core_rows,
                                                  .conf_size = sizeof(struct config_core),
                                                  .scope = "",
                                                  .label = label,
                                                  .group = config_root_setting(&parsed),
                                                  .overlay = overlay};
        status = config_rows_read(&source, block, error);
        config_destroy(&parsed);
    }
    if (status == IMP_OK)
        status = check(*block, main_file, label, error);
    if (status != IMP_OK) {
        config_block_free(*block);
        *block = NULL;
    }
    return status;
}
