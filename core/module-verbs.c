/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-verbs.c - `module list`, `module info`, `hook list`.
 */
#include "build-config.h"

#include <imprimatur/control.h>
#include <stdio.h>
#include <string.h>

#include "core/hook.h"
#include "core/module-private.h"

/* ---- module list ---- */

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    for (uint32_t i = 0; i < module_row_count; i++) {
        const struct module *module = module_rows[i];
        imp_row_begin(request, false);
        imp_field_text(request, "name", module->name);
        imp_field_text(request, "version", module->version[0] != '\0' ? module->version : "-");
        imp_field_text(request, "state", self_state_name(module->state));
        imp_field_integer(request, "generation", module->generation);
        imp_field_text(request, "reason",
                       module->reason.status != IMP_OK ? module->reason.message : "");
    }
    imp_request_finish(request, IMP_OK, NULL);
}

/* ---- module info ---- */

static struct module *find_row(const char *name)
{
    for (uint32_t i = 0; i < module_row_count; i++)
        if (strcmp(module_rows[i]->name, name) == 0)
            return module_rows[i];
    return NULL;
}

struct text {
    char text[1024];
    size_t length;
};

static void text_add(struct text *text, const char *word)
{
    int length = snprintf(text->text + text->length, sizeof(text->text) - text->length, "%s%s",
                          text->length > 0 ? " " : "", word);
    if (length > 0 && (size_t)length < sizeof(text->text) - text->length)
        text->length += (size_t)length;
}

static void text_add_count(const char *name, uint32_t count, void *arg)
{
    char word[64];
    snprintf(word, sizeof(word), "%s=%u", name, count);
    text_add(arg, word);
}

static bool text_add_entry(struct self_entry *entry, void *arg)
{
    char word[128];
    const char *what = entry->kind->describe != NULL ? entry->kind->describe(entry) : "";
    snprintf(word, sizeof(word), "%s:%s", entry->kind->name, what);
    text_add(arg, word);
    return true;
}

static void describe_needs(const imp_service_need *needs, struct text *text)
{
    char word[64];
    for (; needs != NULL && needs->name != NULL; needs++) {
        snprintf(word, sizeof(word), "%s/%u", needs->name, needs->major);
        text_add(text, word);
    }
}

static void describe_offers(const imp_service_offer *offers, struct text *text)
{
    char word[64];
    for (; offers != NULL && offers->name != NULL; offers++) {
        snprintf(word, sizeof(word), "%s/%u", offers->name, offers->major);
        text_add(text, word);
    }
}

/* What is known of the code that is mapped. */
static void show_descriptor(const struct module *module, imp_request *request)
{
    const imp_module *descriptor = &module->image.descriptor;
    struct text requires = {.length = 0}, wants = {.length = 0}, provides = {.length = 0};
    imp_field_text(request, "summary", descriptor->summary != NULL ? descriptor->summary : "");
    imp_field_printf(request, "abi", "%u.%u", descriptor->abi_major, descriptor->abi_minor);
    describe_needs(descriptor->requires, &requires);
    describe_needs(descriptor->wants, &wants);
    describe_offers(descriptor->provides, &provides);
    imp_field_text(request, "requires", requires.text);
    imp_field_text(request, "wants", wants.text);
    imp_field_text(request, "provides", provides.text);
    imp_field_text(request, "mapped_as", module->image.spelling);
}

static void show_generation(struct imp_self *self, imp_request *request)
{
    struct text entries = {.length = 0}, objects = {.length = 0}, holders = {.length = 0};
    self_entries(self, text_add_entry, &entries);
    self_left(self, text_add_count, &objects);
    for (uint32_t i = 0; i < self->holder_count; i++) {
        int64_t count = __atomic_load_n(&self->holders[i].count, __ATOMIC_RELAXED);
        if (count > 0)
            text_add_count(self->holders[i].name, (uint32_t)count, &holders);
    }
    imp_field_integer(request, "pins", self_pins(self));
    imp_field_text(request, "held_by", holders.text);
    imp_field_text(request, "registered", entries.text);
    imp_field_text(request, "objects", objects.text);
}

static void verb_info(imp_self *self, void *instance, imp_request *request)
{
    imp_error error;
    const char *name = imp_request_value(request, "NAME", 0);
    const struct module *module = name != NULL ? find_row(name) : NULL;
    (void)self;
    (void)instance;
    if (module == NULL) {
        imp_error_set(&error, IMP_NOT_FOUND, "module %s is not enabled", name != NULL ? name : "");
        imp_request_finish(request, error.status, &error);
        return;
    }
    imp_row_begin(request, true);
    imp_field_text(request, "name", module->name);
    imp_field_text(request, "version", module->version);
    imp_field_text(request, "state", self_state_name(module->state));
    imp_field_text(request, "reason",
                   module->reason.status != IMP_OK ? module->reason.message : "");
    imp_field_integer(request, "generation", module->generation);
    imp_field_text(request, "file", module->path);
    imp_field_time(request, "started", module->started_us);
    if (module->self != NULL && module->image.handle != NULL)
        show_descriptor(module, request);
    if (module->self != NULL)
        show_generation(module->self, request);
    imp_request_finish(request, IMP_OK, NULL);
}

/* ---- hook list ---- */

static bool show_hook(const struct hook_info *info, void *arg)
{
    imp_request *request = arg;
    imp_row_begin(request, false);
    imp_field_text(request, "point", info->point);
    imp_field_text(request, "phase", hook_phase_name(info->phase));
    imp_field_text(request, "module", info->module);
    imp_field_integer(request, "generation", info->generation);
    imp_field_text(request, "before", info->before);
    imp_field_text(request, "after", info->after);
    return true;
}

static void verb_hooks(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    hook_each(show_hook, request);
    imp_request_finish(request, IMP_OK, NULL);
}

static const imp_verb_spec VERBS[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "module list",
     .arguments = "",
     .options = "",
     .help = "show all enabled modules, in the order of their start",
     .run = verb_list},
    {.size = sizeof(imp_verb_spec),
     .words = "module info",
     .arguments = "NAME",
     .options = "",
     .help = "show one module: file, state, services, and what it holds and is held by",
     .run = verb_info},
    {.size = sizeof(imp_verb_spec),
     .words = "hook list",
     .arguments = "",
     .options = "",
     .help = "show all hooks, in the order in which they are asked",
     .run = verb_hooks},
};

imp_status module_verbs_register(imp_error *error)
{
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof(VERBS) / sizeof(VERBS[0]); i++)
        status = imp_verb_add(NULL, &VERBS[i], error);
    return status;
}
