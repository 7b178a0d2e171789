/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server-status.c - what `imprimctl status`, `config` and `module` verbs need of the server.
 */
#include "build-config.h"

#include "core/backup.h"
#include "core/control.h"
#include "core/listener.h"
#include "core/module.h"
#include "core/server-private.h"
#include "core/worker.h"

static const struct config *get_config(void *arg)
{
    (void)arg;
    return server.config;
}

static const struct config_block *get_block(void *arg, const char *module)
{
    (void)arg;
    return module_block(module);
}

static void say_to_request(const char *sentence, void *arg)
{
    imp_request_say(arg, "%s", sentence);
}

static imp_status reload(void *arg, imp_request *request, imp_error *error)
{
    (void)arg;
    server_link_reloading();
    imp_status status = server_reload(say_to_request, request, error);
    server_link_reloaded(status, status == IMP_OK || error == NULL ? "" : error->message);
    return status;
}

static void count_unserved(const struct listener_info *info, void *arg)
{
    uint32_t *counts = arg;
    counts[0]++;
    counts[1] += !info->is_served;
}

static void show_status(void *arg, imp_request *request)
{
    struct module_counts counts;
    uint32_t listeners[2] = {0, 0};
    (void)arg;
    module_count(&counts);
    listener_each(count_unserved, listeners);
    imp_field_integer(request, "modules_started", counts.started);
    imp_field_integer(request, "modules_failed", counts.failed);
    imp_field_integer(request, "modules_zombie", counts.zombies);
    imp_field_text(request, "failed", module_failed_names());
    imp_field_integer(request, "listeners", listeners[0]);
    imp_field_integer(request, "listeners_unserved", listeners[1]);
    imp_field_integer(request, "connections", listener_connections());
    imp_field_integer(request, "works_waiting", worker_waiting());
    imp_field_integer(request, "works_running", worker_running());
    imp_field_bool(request, "stopping", server.is_stopping);
}

imp_status server_verbs_begin(imp_error *error)
{
    const struct control_core core = {
        .config = get_config, .block = get_block, .reload = reload, .status = show_status};
    imp_status status = control_add_core_verbs(&core, error);
    if (status == IMP_OK)
        status = backup_verbs_register(error);
    return status == IMP_OK ? module_verbs_register(error) : status;
}
