/* SPDX-License-Identifier: Apache-2.0 */
/* config-overlay.c - values that stand above the files'. */
#include "build-config.h"

#include "core/config-private.h"

#include <stdlib.h>
#include <string.h>

struct value {
    struct value *next;
    char *module, *name, *text;
};

struct config_overlay {
    struct value *first; /* in order of module and name */
};

static void value_free(struct value *value)
{
    if (value == NULL)
        return;
    free(value->module);
    free(value->name);
    free(value->text);
    free(value);
}

static struct value *value_new(const char *module, const char *name, const char *text)
{
    struct value *value = calloc(1, sizeof *value);
    if (value == NULL)
        return NULL;
    value->module = strdup(module);
    value->name = strdup(name);
    value->text = strdup(text);
    if (value->module == NULL || value->name == NULL || value->text == NULL) {
        value_free(value);
        return NULL;
    }
    return value;
}

struct config_overlay *config_overlay_new(void)
{
    return calloc(1, sizeof(struct config_overlay));
}

void config_overlay_free(struct config_overlay *overlay)
{
    if (overlay == NULL)
        return;
    while (overlay->first != NULL) {
        struct value *value = overlay->first;
        overlay->first = value->next;
        value_free(value);
    }
    free(overlay);
}

/* Where a value stands or would stand. */
static struct value **place_of(struct config_overlay *overlay, const char *module, const char *name,
                               bool *is_there)
{
    struct value **place = &overlay->first;
    for (; *place != NULL; place = &(*place)->next) {
        int order = strcmp((*place)->module, module);
        if (order == 0)
            order = strcmp((*place)->name, name);
        if (order >= 0) {
            *is_there = order == 0;
            return place;
        }
    }
    *is_there = false;
    return place;
}

static imp_status check_value(const char *module, const char *name, const char *text,
                              imp_error *error)
{
    config_t parsed;
    /* On one line libconfig's @include, which must start one, can't stand in a value. */
    if (strpbrk(text, "\r\n") != NULL)
        return imp_error_set(error, IMP_INVALID,
                             "overlay: %s%s%s: found several lines, expected a value on one line",
                             module, *module == '\0' ? "" : ".", name);
    size_t size = strlen(text) + sizeof "v = ;";
    char *line = malloc(size);
    if (line == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    memcpy(line, "v = ", 4);
    memcpy(line + 4, text, strlen(text));
    memcpy(line + 4 + strlen(text), ";", 2);
    imp_status status = config_file_parse(line, "overlay", &parsed, NULL);
    free(line);
    bool is_one = status == IMP_OK && config_setting_length(config_root_setting(&parsed)) == 1;
    if (status == IMP_OK)
        config_destroy(&parsed);
    /* The text itself is not shown: it may be a secret that somebody typed. */
    if (!is_one)
        return imp_error_set(error, IMP_INVALID,
                             "overlay: %s%s%s: found no single value, expected one as in the file, "
                             "such as \"60s\" in quotes, 12, true or [ \"a\" ]",
                             module, *module == '\0' ? "" : ".", name);
    return IMP_OK;
}

imp_status config_overlay_set(struct config_overlay *overlay, const char *module, const char *name,
                              const char *value, imp_error *error)
{
    bool is_there;
    imp_status status = check_value(module, name, value, error);
    if (status != IMP_OK)
        return status;
    struct value *made = value_new(module, name, value);
    if (made == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    struct value **place = place_of(overlay, module, name, &is_there);
    if (is_there) {
        struct value *old = *place;
        made->next = old->next;
        value_free(old);
    } else {
        made->next = *place;
    }
    *place = made;
    return IMP_OK;
}

bool config_overlay_unset(struct config_overlay *overlay, const char *module, const char *name)
{
    bool is_there;
    struct value **place = place_of(overlay, module, name, &is_there);
    if (is_there) {
        struct value *old = *place;
        *place = old->next;
        value_free(old);
    }
    return is_there;
}

struct config_overlay *config_overlay_copy(const struct config_overlay *overlay)
{
    struct config_overlay *copy = config_overlay_new();
    if (copy == NULL)
        return NULL;
    struct value **end = &copy->first;
    for (const struct value *value = overlay->first; value != NULL; value = value->next) {
        *end = value_new(value->module, value->name, value->text);
        if (*end == NULL) {
            config_overlay_free(copy);
            return NULL;
        }
        end = &(*end)->next;
    }
    return copy;
}

const char *config_overlay_get(const struct config_overlay *overlay, const char *module,
                               const char *name)
{
    if (overlay == NULL)
        return NULL;
    for (const struct value *value = overlay->first; value != NULL; value = value->next)
        if (strcmp(value->module, module) == 0 && strcmp(value->name, name) == 0)
            return value->text;
    return NULL;
}

const char *config_overlay_name(const struct config_overlay *overlay, const char *module,
                                uint32_t index)
{
    if (overlay == NULL)
        return NULL;
    for (const struct value *value = overlay->first; value != NULL; value = value->next)
        if (strcmp(value->module, module) == 0 && index-- == 0)
            return value->name;
    return NULL;
}
