/* SPDX-License-Identifier: Apache-2.0 */
/* control-core.c - the core's own verbs: status, metrics, config show, config reload, help. */
#include "build-config.h"

#include "core/control-request.h"
#include "core/control.h"
#include "core/metrics.h"
#include "core/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    struct control_core core;
    int64_t started_now, started_ticks;
} server;

/* ---- status ---- */

static void verb_status(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    const struct config *config = server.core.config(server.core.arg);
    const struct config_core *core = config_core(config);
    imp_row_begin(request, true);
    imp_field_text(request, "version", imp_version());
    imp_field_text(request, "instance", *core->instance == '\0' ? NULL : core->instance);
    imp_field_integer(request, "pid", getpid());
    imp_field_time(request, "started", server.started_now);
    imp_field_integer(request, "uptime_seconds", (imp_ticks() - server.started_ticks) / IMP_SECOND);
    imp_field_text(request, "config", config_main_file(config));
    imp_field_integer(request, "modules_enabled", config_module_count(config));
    imp_field_integer(request, "listeners", config_listeners(config)->count);
    if (server.core.status != NULL)
        server.core.status(server.core.arg, request);
    control_fields_fill(CONTROL_FIELDS_STATUS, request);
    imp_request_finish(request, IMP_OK, NULL);
}

/* ---- metrics ---- */

static void verb_metrics(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    size_t length;
    imp_error error;
    char *text = metrics_text(&length);
    if (text == NULL) {
        imp_error_set(&error, IMP_LIMIT, "out of memory");
        imp_request_finish(request, IMP_LIMIT, &error);
        return;
    }
    control_request_text(request, text, length);
    free(text);
    imp_request_finish(request, IMP_OK, NULL);
}

/* ---- config show ---- */

static void show_block(imp_request *request, const char *scope, const struct config_block *block)
{
    bool with_origin = imp_request_value(request, "origin", 0) != NULL;
    bool with_help = imp_request_value(request, "help", 0) != NULL;
    for (uint32_t i = 0; i < config_block_entry_count(block); i++) {
        const struct config_entry *entry = config_block_entry(block, i);
        imp_row_begin(request, false);
        imp_field_printf(request, "setting", "%s%s%s", scope, *scope == '\0' ? "" : ".",
                         entry->path);
        imp_field_text(request, "value", entry->value);
        if (with_origin)
            imp_field_text(request, "origin", entry->origin);
        if (with_help) {
            imp_field_text(request, "default", entry->default_text);
            imp_field_text(request, "expected", entry->expected);
            imp_field_text(request, "changes",
                           (entry->flags & IMP_LIVE) != 0 ? "while running" : "at the next start");
            imp_field_text(request, "help", entry->help);
        }
    }
}

static void verb_config_show(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    const struct config *config = server.core.config(server.core.arg);
    const char *name = imp_request_value(request, "MODULE", 0);
    imp_error error;
    if (name == NULL) {
        show_block(request, "", config_core_block(config));
        for (uint32_t i = 0; i < config_module_count(config); i++) {
            const char *module = config_module_name(config, i);
            const struct config_block *block = server.core.block(server.core.arg, module);
            if (block != NULL)
                show_block(request, module, block);
        }
    } else {
        const struct config_block *block = strcmp(name, "core") == 0
                                               ? config_core_block(config)
                                               : server.core.block(server.core.arg, name);
        if (block == NULL) {
            imp_error_set(&error, IMP_NOT_FOUND,
                          config_module_is_enabled(config, name)
                              ? "module %s is enabled but does not run: its settings are not read"
                              : "module %s is not enabled",
                          name);
            imp_request_finish(request, IMP_NOT_FOUND, &error);
            return;
        }
        show_block(request, strcmp(name, "core") == 0 ? "" : name, block);
    }
    imp_request_finish(request, IMP_OK, NULL);
}

/* ---- config reload ---- */

static void verb_config_reload(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_error error = {0};
    imp_status status = server.core.reload(server.core.arg, request, &error);
    if (status == IMP_OK)
        imp_request_say(request, "configuration reloaded");
    /* A mistake in a file is a refusal, not a wrong use of imprimctl. */
    imp_request_finish(request, status == IMP_INVALID ? IMP_DENIED : status, &error);
}

/* ---- help ---- */

static void verb_help(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    const char *words[8];
    uint32_t count = 0, found = 0;
    imp_error error;
    while (count < 8 && (words[count] = imp_request_value(request, "VERB", count)) != NULL)
        count++;
    const struct control_verb *before = NULL;
    for (const struct control_verb *verb = control_verbs(); verb != NULL; verb = verb->next) {
        bool is_twice = before != NULL && strcmp(before->words, verb->words) == 0;
        before = verb;
        if (is_twice || !control_verb_matches(verb, words, count))
            continue;
        char *usage = control_verb_usage(verb);
        imp_row_begin(request, false);
        imp_field_text(request, "command", usage == NULL ? verb->words : usage);
        imp_field_text(request, "help", verb->help);
        free(usage);
        found++;
    }
    if (found == 0) {
        control_unknown_verb(words, count, &error);
        imp_request_finish(request, IMP_INVALID, &error);
        return;
    }
    imp_request_finish(request, IMP_OK, NULL);
}

static const imp_verb_spec core_verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "status",
     .help = "show how the server is",
     .run = verb_status},
    {.size = sizeof(imp_verb_spec),
     .words = "metrics",
     .help = "print all metrics in Prometheus text format",
     .run = verb_metrics},
    {.size = sizeof(imp_verb_spec),
     .words = "config show",
     .arguments = "[MODULE]",
     .options = "origin help",
     .help = "show the settings in force, of all, of one module or of \"core\"",
     .run = verb_config_show},
    {.size = sizeof(imp_verb_spec),
     .words = "config reload",
     .help = "read all files anew and take them over, all or nothing",
     .run = verb_config_reload},
    {.size = sizeof(imp_verb_spec),
     .words = "help",
     .arguments = "[VERB...]",
     .help = "list the commands, or those that begin with VERB",
     .run = verb_help},
};

imp_status control_add_core_verbs(const struct control_core *core, imp_error *error)
{
    server.core = *core;
    server.started_now = imp_now();
    server.started_ticks = imp_ticks();
    for (size_t i = 0; i < sizeof core_verbs / sizeof core_verbs[0]; i++) {
        imp_status status = imp_verb_add(NULL, &core_verbs[i], error);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}
