/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server-reload.c - taking changed settings while running: all of them, or none.
 *
 * First everything is read and checked; then it is seen whether all that changed may change while
 * running; only then anything is taken. What was refused leaves the server as it was.
 */
#include "build-config.h"

#include <imprimatur/log.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/listener.h"
#include "core/log.h"
#include "core/module.h"
#include "core/server-private.h"
#include "core/thread.h"
#include "core/tls.h"

struct sayer {
    void (*say)(const char *sentence, void *arg);
    void *arg;
};

static IMP_PRINTF(2, 3) void say(const struct sayer *sayer, const char *format, ...)
{
    char text[IMP_ERROR_MESSAGE_MAX];
    va_list arguments;
    if (sayer->say == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    sayer->say(text, sayer->arg);
}

/* ---- what may change ---- */

static imp_status check_core(const struct config *next, imp_error *error)
{
    const char *path = NULL;
    if (config_block_compare(config_core_block(server.config), config_core_block(next), &path) ==
        CONFIG_RESTART)
        return imp_error_set(error, IMP_UNSUPPORTED,
                             "nothing was changed: setting %s can't change while the server runs; "
                             "restart it",
                             path != NULL ? path : "(unknown)");
    return IMP_OK;
}

static imp_status check_subject(const struct config_subject *subject, imp_error *error)
{
    bool can_take = subject->module->reconfigure != NULL;
    if (subject->change == CONFIG_RESTART || (subject->change == CONFIG_LIVE && !can_take))
        return imp_error_set(error, IMP_UNSUPPORTED,
                             "nothing was changed: setting %s.%s can't change while the module "
                             "runs; restart the server",
                             subject->name, subject->changed != NULL ? subject->changed : "?");
    return IMP_OK;
}

/* The address that a listener of a running module has; NULL: it was not there at the start. Files that
 * were taken away and came back are no change, and what runs has its sockets from the start. */
static const char *address_now(const struct config_listener *before,
                               const struct config_listener *listener)
{
    struct imp_self *self = module_find(listener->module);
    if (before != NULL)
        return before->address_text;
    return self == NULL ? NULL : imp_listener_setting(self, listener->name, "address");
}

/* Sockets are bound at the start; what a listener's settings say beside that may change. */
static imp_status check_listeners(const struct config *next, imp_error *error)
{
    const struct config_listeners *old = config_listeners(server.config);
    const struct config_listeners *new = config_listeners(next);
    for (uint32_t i = 0; i < new->count; i++) {
        const struct config_listener *listener = &new->items[i];
        const struct config_listener *before =
            config_listener_find(old, listener->module, listener->name);
        if (module_find(listener->module) == NULL)
            continue; /* not running: at the next start */
        const char *address = address_now(before, listener);
        if (address == NULL || strcmp(address, listener->address_text) != 0)
            return imp_error_set(error, IMP_UNSUPPORTED,
                                 "nothing was changed: %s: listener %s of %s can't get another "
                                 "address while the server runs; restart it",
                                 listener->origin, listener->name, listener->module);
    }
    for (uint32_t i = 0; i < old->count; i++) {
        const struct config_listener *listener = &old->items[i];
        if (config_module_is_enabled(next, listener->module) &&
            config_listener_find(new, listener->module, listener->name) == NULL)
            return imp_error_set(error, IMP_UNSUPPORTED,
                                 "nothing was changed: listener %s of %s can't go while the server "
                                 "runs; restart it",
                                 listener->name, listener->module);
    }
    return IMP_OK;
}

/* ---- taking it ---- */

static const char *or_null(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

/* What can still fail: the log's file is opened last, since what was taken of the rest could not be
 * given back. */
static imp_status take_files(const struct config *next, imp_error *error)
{
    const struct config_core *core = config_core(next);
    struct ssl_ctx_st *tls = NULL;
    imp_status status =
        tls_prepare(or_null(core->tls_certificate), or_null(core->tls_key), &tls, error);
    if (status != IMP_OK)
        return status;
    status = log_open((enum log_target)core->log_target, core->log_file, config_log_level(core),
                      (size_t)core->log_buffer, error);
    if (status == IMP_OK)
        tls_take(tls);
    else
        tls_context_free(tls);
    return status;
}

static void take_listeners(const struct config *next, const struct sayer *sayer)
{
    const struct config_core *core = config_core(next);
    const struct config_listeners *old = config_listeners(server.config);
    const struct config_listeners *new = config_listeners(next);
    const struct listener_limits limits = listener_limits_of(core);
    listener_set_limits(&limits);
    for (uint32_t i = 0; i < new->count; i++) {
        const struct config_listener *listener = &new->items[i];
        const struct config_listener *before =
            config_listener_find(old, listener->module, listener->name);
        imp_error error = {.status = IMP_OK};
        if (before == NULL ? address_now(before, listener) == NULL
                           : config_listener_equal(before, listener))
            continue;
        if (listener_table_add(listener, -1, &error) == IMP_OK)
            say(sayer, "listener %s of %s has new settings", listener->name, listener->module);
        else
            say(sayer, "listener %s of %s keeps its settings: %s", listener->name, listener->module,
                error.message);
    }
}

static void take_module_limits(const struct config_core *core)
{
    const struct module_settings settings = {.start_timeout_us = core->module_start_timeout,
                                             .stop_timeout_us = core->module_stop_timeout,
                                             .upgrade_deadline_us = core->upgrade_deadline};
    module_take_limits(&settings);
}

static void take_modules(struct config_subject *subjects, uint32_t count, const struct sayer *sayer)
{
    for (uint32_t i = 0; i < count; i++) {
        if (subjects[i].change == CONFIG_LIVE)
            say(sayer, "module %s has new settings", subjects[i].name);
        if (!subjects[i].is_enabled)
            say(sayer, "module %s is no longer enabled; it runs on until the next start",
                subjects[i].name);
        module_take_settings(&subjects[i]);
    }
}

static void say_new_modules(const struct config *next, const struct sayer *sayer)
{
    for (uint32_t i = 0; i < config_module_count(next); i++) {
        const char *name = config_module_name(next, i);
        if (config_module_is_enabled(server.config, name))
            continue;
        if (module_find(name) != NULL)
            say(sayer, "module %s is enabled again; it runs on", name);
        else
            say(sayer, "module %s is enabled now; it starts with the next start", name);
    }
}

static void free_config(void *arg)
{
    config_free(arg);
}

imp_status server_reload(void (*say_sentence)(const char *sentence, void *arg), void *arg,
                         imp_error *error)
{
    const struct sayer sayer = {say_sentence, arg};
    struct config *next = NULL;
    struct config_subject *subjects = NULL;
    const char *changed = NULL;
    imp_status status = IMP_OK;

    if (server.is_stopping)
        return imp_error_set(error, IMP_UNAVAILABLE, "the server is stopping");
    if (!server.is_running)
        return imp_error_set(error, IMP_BUSY, "the server is starting");
    uint32_t count = module_subjects(NULL, 0);
    subjects = calloc((size_t)count + 1, sizeof(*subjects));
    if (subjects == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    module_subjects(subjects, count);
    status = config_reload(server.config, NULL, subjects, count, &next, error);
    if (status != IMP_OK)
        goto done;
    status = check_core(next, error);
    for (uint32_t i = 0; status == IMP_OK && i < count; i++)
        status = check_subject(&subjects[i], error);
    if (status == IMP_OK)
        status = check_listeners(next, error);
    if (status == IMP_OK)
        status = take_files(next, error);
    if (status != IMP_OK)
        goto done;

    if (config_block_compare(config_core_block(server.config), config_core_block(next), &changed) ==
        CONFIG_LIVE)
        say(&sayer, "the server has new settings (%s)", changed != NULL ? changed : "?");
    take_listeners(next, &sayer);
    take_module_limits(config_core(next));
    take_modules(subjects, count, &sayer);
    say_new_modules(next, &sayer);
    thread_defer(free_config, server.config);
    server.config = next;
    next = NULL;
done:
    for (uint32_t i = 0; i < count; i++)
        config_block_free(subjects[i].next);
    free(subjects);
    config_free(next);
    return status;
}

static void log_sentence(const char *sentence, void *arg)
{
    (void)arg;
    imp_log(NULL, IMP_LOG_INFO, "config.changed", "what=\"%s\"", sentence);
}

void server_reload_logged(void)
{
    imp_error error = {.status = IMP_OK};
    server_link_reloading();
    imp_status status = server_reload(log_sentence, NULL, &error);
    if (status == IMP_OK)
        imp_log(NULL, IMP_LOG_NOTICE, "config.reloaded", "result=ok");
    else
        imp_log(NULL, IMP_LOG_ERROR, "config.refused", "reason=\"%s\"", error.message);
    log_reopen();
    server_link_reloaded(status, error.message);
}
