/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server-stages.c - the order in which the server's parts begin, and end in reverse.
 */
#include "build-config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/control.h"
#include "core/keys.h"
#include "core/listener.h"
#include "core/metrics.h"
#include "core/module.h"
#include "core/server-private.h"
#include "core/thread.h"
#include "core/tls.h"
#include "core/version.h"
#include "core/worker.h"

struct stage {
    const char *name;
    imp_status (*begin)(imp_error *error); /* leaves nothing behind when it fails */
    void (*end)(void);
};

static const struct config_core *core_settings(void)
{
    return config_core(server.config);
}

/* ---- folders ---- */

static imp_status folder(const char *path, mode_t mode, imp_error *error)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return imp_error_set(error, IMP_IO, "%s can't be made: %s", path, strerror(errno));
    return IMP_OK;
}

/* Where a supervisor is they are there already. */
static imp_status folders_begin(imp_error *error)
{
    imp_status status = folder(core_settings()->state_dir, 0700, error);
    return status == IMP_OK ? folder(core_settings()->run_dir, 0755, error) : status;
}

static void nothing(void)
{
}

/* ---- loops ---- */

static imp_status loops_begin(imp_error *error)
{
    return loop_setup((uint32_t)core_settings()->loops, error);
}

/* ---- keys and store ---- */

static imp_status master_key(uint8_t master[KEYS_MASTER_SIZE], imp_error *error)
{
    if (server.params->master_key_fd >= 0)
        return keys_master_from_memfd(server.params->master_key_fd, master, error);
    return keys_master_load_or_make(core_settings()->master_key, !store_exists(server.state_dir),
                                    master, error);
}

static imp_status store_begin(imp_error *error)
{
    uint8_t master[KEYS_MASTER_SIZE];
    const struct config_core *core = core_settings();
    imp_status status = master_key(master, error);
    if (status != IMP_OK)
        return status;
    struct store_options options = {.state_dir = server.state_dir,
                                    .master = master,
                                    .mode = STORE_THREADED,
                                    .hooks = &store_hooks_server,
                                    .map_size = (uint64_t)core->map_size,
                                    .queue_control = (uint32_t)core->store_control_queue,
                                    .queue_bulk = (uint32_t)core->store_bulk_queue};
    status = store_open(&options, &server.store, error);
    imp_wipe(master, sizeof(master));
    if (status == IMP_OK)
        store_set_current(server.store);
    return status;
}

static void store_end(void)
{
    if (server.store == NULL)
        return;
    store_close(server.store);
    store_set_current(NULL);
    server.store = NULL;
}

/* ---- TLS ---- */

static const char *or_null(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

static imp_status tls_begin(imp_error *error)
{
    const struct config_core *core = core_settings();
    return tls_start(server.state_dir, or_null(core->tls_certificate), or_null(core->tls_key), NULL,
                     error);
}

/* ---- threads ---- */

static imp_status threads_begin(imp_error *error)
{
    const struct config_core *core = core_settings();
    imp_status status = loop_start(error);
    if (status != IMP_OK)
        return status;
    status = worker_start((uint32_t)core->workers, (uint32_t)core->worker_queue, error);
    if (status != IMP_OK)
        loop_stop();
    return status;
}

/* The writer's last `done`s need loops, so the store is closed between the two. */
static void threads_end(void)
{
    worker_stop();
    store_end();
    loop_stop();
}

/* ---- listeners ---- */

static int socket_of(const struct config_listener *listener)
{
    for (size_t i = 0; i < server.params->socket_count; i++) {
        const struct server_socket *item = &server.params->sockets[i];
        if (strcmp(item->module, listener->module) == 0 &&
            strcmp(item->listener, listener->name) == 0)
            return item->fd;
    }
    return -1;
}

static void add_listener(const struct config_listener *listener)
{
    imp_error error = {.status = IMP_OK};
    imp_status status = IMP_OK;
    int fd = socket_of(listener);
    if (fd < 0 && server.params->link_fd >= 0)
        status = imp_error_set(&error, IMP_UNAVAILABLE, "the supervisor could not bind %s",
                               listener->address_text);
    else if (fd < 0)
        status = listener_bind(listener, (int)core_settings()->listen_backlog, &fd, &error);
    if (status == IMP_OK)
        status = listener_table_add(listener, fd, &error);
    if (status != IMP_OK) {
        imp_log(NULL, IMP_LOG_ERROR, "server.listener-failed",
                "module=%s listener=%s reason=\"%s\"", listener->module, listener->name,
                error.message);
        if (fd >= 0)
            close(fd);
    }
}

static imp_status listeners_begin(imp_error *error)
{
    const struct config_core *core = core_settings();
    const struct config_listeners *listeners = config_listeners(server.config);
    const struct listener_limits limits = listener_limits_of(core);
    imp_status status = listener_start(&limits, error);
    if (status != IMP_OK)
        return status;
    for (uint32_t i = 0; i < listeners->count; i++)
        add_listener(&listeners->items[i]);
    return IMP_OK;
}

/* ---- metrics and control ---- */

static imp_status registry_begin(imp_error *error)
{
    (void)error;
    metrics_set_info(imp_version(), core_settings()->instance);
    return IMP_OK;
}

/* Nobody asks for them once `control` has ended: the store may go before they do. */
static imp_status metrics_begin(imp_error *error)
{
    (void)error;
    store_register_metrics(server.store);
    return IMP_OK;
}

static imp_status control_begin(imp_error *error)
{
    const struct config_core *core = core_settings();
    imp_status status = server_verbs_begin(error);
    if (status == IMP_OK)
        status = control_start(core->run_dir, core->control_group, error);
    if (status != IMP_OK)
        control_clear();
    return status;
}

static void control_end(void)
{
    control_stop();
    control_clear();
}

/* ---- modules ---- */

static imp_status modules_begin(imp_error *error)
{
    const struct config_core *core = core_settings();
    const char *keep = getenv("IMPRIMATUR_KEEP_MODULES");
    const struct module_settings settings = {.module_dir = server.module_dir,
                                             .state_dir = server.state_dir,
                                             .installed_dir = IMP_MODULE_DIR,
                                             .is_developer = core->developer,
                                             .keeps_mapped = keep != NULL && strcmp(keep, "1") == 0,
                                             .start_timeout_us = core->module_start_timeout,
                                             .stop_timeout_us = core->module_stop_timeout,
                                             .upgrade_deadline_us = core->upgrade_deadline};
    imp_status status = module_start_all(server.config, &settings, error);
    if (status != IMP_NO_SPACE && status != IMP_IO && status != IMP_UNSUPPORTED)
        return status;
    /* Some run already: the end begins with them, and the loops are needed for it. */
    server.start_failure = *error;
    server.start_failure.status = status;
    return IMP_OK;
}

/* ---- the table ---- */

static const struct stage STAGES[] = {
    /* First, so that it ends last: connections count themselves out when the loops end. */
    {"registry", registry_begin, metrics_clear},
    {"folders", folders_begin, nothing},
    {"loops", loops_begin, loop_teardown},
    {"signals", server_signals_begin, nothing},
    {"store", store_begin, store_end},
    {"tls", tls_begin, tls_stop},
    {"listeners", listeners_begin, listener_stop},
    {"threads", threads_begin, threads_end},
    {"metrics", metrics_begin, nothing},
    {"link", server_link_begin, server_link_end},
    {"control", control_begin, control_end},
    {"modules", modules_begin, module_teardown},
};
#define STAGE_COUNT (sizeof(STAGES) / sizeof(STAGES[0]))

imp_status server_stages_begin(imp_error *error)
{
    while (server.stages < STAGE_COUNT) {
        imp_status status = STAGES[server.stages].begin(error);
        if (status != IMP_OK)
            return status;
        server.stages++;
    }
    return IMP_OK;
}

void server_stages_end(void)
{
    while (server.stages > 0)
        STAGES[--server.stages].end();
    thread_quiescent(); /* what was deferred */
}
