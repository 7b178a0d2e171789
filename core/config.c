/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - one complete reading of all files, and the change from one to the next. */
#include "build-config.h"

#include "core/config-private.h"

#include <stdlib.h>
#include <string.h>

struct module_file {
    const char *name, *label;
    config_t parsed;
    bool is_parsed;
    config_setting_t *group;
};

struct config {
    struct arena arena;
    char *main_file;
    struct config_overlay *overlay; /* NULL: none */
    struct config_block *core;
    struct module_file *modules;
    uint32_t module_count;
    struct config_listeners listeners;
};

/* ---- reading ---- */

static imp_status read_modules(struct config *config, imp_error *error)
{
    struct config_file_list files;
    const struct config_core *core = config_block_data(config->core);
    imp_status status = config_file_list(core->modules_dir, &config->arena, &files, error);
    if (status != IMP_OK)
        return status;
    config->modules = calloc(files.count + 1, sizeof *config->modules);
    struct config_listener *listeners =
        arena_alloc(&config->arena, CONFIG_LISTENERS_MAX * sizeof *listeners);
    if (config->modules == NULL || listeners == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    config->listeners.items = listeners;
    for (uint32_t i = 0; i < files.count; i++) {
        struct module_file *module = &config->modules[i];
        module->name = files.names[i];
        module->label = files.labels[i];
        config->module_count++;
        status = config_file_read(files.paths[i], module->label, &module->parsed, error);
        if (status != IMP_OK)
            return status;
        module->is_parsed = true;
        status =
            config_file_group(&module->parsed, module->name, module->label, &module->group, error);
        if (status != IMP_OK)
            return status;
        status = config_listen_parse(module->group, module->name, module->label, &config->arena,
                                     listeners, &config->listeners.count, error);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}

imp_status config_load_overlaid(const char *main_file, const struct config_overlay *overlay,
                                struct config **config, imp_error *error)
{
    imp_status status = IMP_OK;
    *config = NULL;
    struct config *made = calloc(1, sizeof *made);
    if (made == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    made->main_file = arena_strdup(&made->arena, main_file);
    if (overlay != NULL)
        made->overlay = config_overlay_copy(overlay);
    if (made->main_file == NULL || (overlay != NULL && made->overlay == NULL))
        status = imp_error_set(error, IMP_LIMIT, "out of memory");
    if (status == IMP_OK)
        status = config_core_read(main_file, made->overlay, &made->core, error);
    if (status == IMP_OK)
        status = read_modules(made, error);
    if (status != IMP_OK) {
        config_free(made);
        return status;
    }
    *config = made;
    return IMP_OK;
}

imp_status config_load(const char *main_file, struct config **config, imp_error *error)
{
    return config_load_overlaid(main_file, NULL, config, error);
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    for (uint32_t i = 0; i < config->module_count; i++)
        if (config->modules[i].is_parsed)
            config_destroy(&config->modules[i].parsed);
    free(config->modules);
    config_block_free(config->core);
    config_overlay_free(config->overlay);
    arena_free(&config->arena);
    free(config);
}

/* ---- what it says ---- */

const struct config_core *config_core(const struct config *config)
{
    return config_block_data(config->core);
}

const struct config_block *config_core_block(const struct config *config)
{
    return config->core;
}

const char *config_main_file(const struct config *config)
{
    return config->main_file;
}

uint32_t config_module_count(const struct config *config)
{
    return config->module_count;
}

const char *config_module_name(const struct config *config, uint32_t index)
{
    return index < config->module_count ? config->modules[index].name : NULL;
}

static const struct module_file *find_module(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->module_count; i++)
        if (strcmp(config->modules[i].name, name) == 0)
            return &config->modules[i];
    return NULL;
}

bool config_module_is_enabled(const struct config *config, const char *name)
{
    return find_module(config, name) != NULL;
}

const struct config_listeners *config_listeners(const struct config *config)
{
    return &config->listeners;
}

static imp_status read_settings(const struct config *config, const imp_module *module,
                                const char *name, const struct module_file *file,
                                struct config_block **block, imp_error *error)
{
    struct config_rows_source source = {.rows = module->options,
                                        .conf_size = module->conf_size,
                                        .scope = name,
                                        .overlay = config->overlay};
    if (file != NULL) {
        source.label = file->label;
        source.group = file->group;
        /* Listeners of one module lie one behind another. */
        for (uint32_t i = 0; i < config->listeners.count; i++)
            if (strcmp(config->listeners.items[i].module, name) == 0) {
                if (source.listener_count++ == 0)
                    source.listeners = &config->listeners.items[i];
            }
    }
    return config_rows_read(&source, block, error);
}

imp_status config_module_settings(const struct config *config, const imp_module *module,
                                  const char *name, struct config_block **block, imp_error *error)
{
    const struct module_file *file = find_module(config, name);
    *block = NULL;
    if (file == NULL)
        return imp_error_set(error, IMP_NOT_FOUND, "module %s is not enabled", name);
    return read_settings(config, module, name, file, block, error);
}

imp_status config_default_settings(const struct config *config, const imp_module *module,
                                   const char *name, struct config_block **block, imp_error *error)
{
    return read_settings(config, module, name, NULL, block, error);
}

/* ---- reload ---- */

static imp_status check_subject(const struct config *next, const struct config_subject *subject,
                                imp_error *error)
{
    imp_error reason = {0};
    imp_status status = IMP_OK;
    if (subject->module->check == NULL)
        return IMP_OK;
    status = subject->check != NULL
                 ? subject->check(subject, next, &reason)
                 : subject->module->check(config_block_data(subject->next), &reason);
    if (status == IMP_OK)
        return IMP_OK;
    return imp_error_set(error, status, "%s: %s", find_module(next, subject->name)->label,
                         reason.message[0] == '\0' ? imp_status_name(status) : reason.message);
}

/* A module whose file is gone keeps what it has, until it goes with the next start. */
static imp_status read_subject(const struct config *next, struct config_subject *subject,
                               imp_error *error)
{
    subject->is_enabled = config_module_is_enabled(next, subject->name);
    if (!subject->is_enabled) {
        subject->change = CONFIG_SAME;
        return IMP_OK;
    }
    imp_status status =
        config_module_settings(next, subject->module, subject->name, &subject->next, error);
    if (status == IMP_OK)
        status = check_subject(next, subject, error);
    if (status == IMP_OK && subject->current != NULL)
        subject->change = config_block_compare(subject->current, subject->next, &subject->changed);
    return status;
}

imp_status config_reload(const struct config *current, const struct config_overlay *overlay,
                         struct config_subject *subjects, uint32_t count, struct config **next,
                         imp_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        subjects[i].next = NULL;
        subjects[i].change = CONFIG_RESTART;
        subjects[i].changed = NULL;
    }
    imp_status status = config_load_overlaid(current->main_file, overlay, next, error);
    for (uint32_t i = 0; i < count && status == IMP_OK; i++)
        status = read_subject(*next, &subjects[i], error);
    if (status == IMP_OK)
        return IMP_OK;
    for (uint32_t i = 0; i < count; i++) {
        config_block_free(subjects[i].next);
        subjects[i].next = NULL;
        subjects[i].changed = NULL;
    }
    config_free(*next);
    *next = NULL;
    return status;
}
