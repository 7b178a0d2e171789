/* SPDX-License-Identifier: Apache-2.0 */
/* config-rows.c - reads a group by its rows into a block. */
#include "build-config.h"

#include "core/config-block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_DEPTH_MAX 8 /* groups in groups; rows are code, this guards against a loop in them */
#define SUGGESTION_DISTANCE 2 /* letters that a misspelt name may differ in */
#define NAME_MAX_COMPARED 48

struct reader {
    const struct config_rows_source *source;
    struct config_block *block;
    imp_error *error;
    int depth;
};

/* Where the rows of one group (the module's, or one element of a list) are read from and to. */
struct place {
    const imp_option *rows;
    const config_setting_t *group; /* NULL: defaults alone */
    char *data;
    uint64_t data_size;
    const char *prefix; /* "" or "rules[2]." */
    const char *top;    /* NULL at the top: each row is its own */
    uint32_t flags;     /* of the enclosing list */
    const char *origin; /* of the enclosing list, NULL at the top */
};

static imp_status read_group(struct reader *reader, const struct place *place);

static imp_status out_of_memory(struct reader *reader)
{
    return imp_error_set(reader->error, IMP_LIMIT, "out of memory");
}

/* "lpr.rules[2].host", as messages say it. */
static const char *full_path(const struct reader *reader, const char *path,
                             char full[CONFIG_PATH_SIZE])
{
    const char *scope = reader->source->scope;
    snprintf(full, CONFIG_PATH_SIZE, "%s%s%s", scope, *scope == '\0' ? "" : ".", path);
    return full;
}

static imp_status fail(struct reader *reader, const char *where, const char *path,
                       const char *found, const char *expected)
{
    char full[CONFIG_PATH_SIZE];
    return config_value_error(reader->error, where, full_path(reader, path, full), found, expected);
}

/* Where a setting stands, for messages and as origin. */
static const char *where_of(const struct place *place, const struct reader *reader,
                            const config_setting_t *setting, bool is_overlay,
                            char where[CONFIG_PATH_SIZE])
{
    if (is_overlay || (place->origin != NULL && strcmp(place->origin, CONFIG_ORIGIN_OVERLAY) == 0))
        return CONFIG_ORIGIN_OVERLAY;
    return config_file_where(setting, reader->source->label, where);
}

/* Adds what `config show` prints about one row. */
static struct config_entry *add_entry(struct reader *reader, const struct place *place,
                                      const imp_option *row, const char *path, const char *origin)
{
    char expected[CONFIG_EXPECTED_SIZE];
    struct arena *arena = &reader->block->arena;
    /* The row lies in the module's image, which the block outlives. */
    const char *top = place->top != NULL ? place->top : arena_strdup(arena, row->name);
    if (top == NULL)
        return NULL;
    struct config_entry *entry = config_block_add(reader->block, top, path);
    if (entry == NULL)
        return NULL;
    entry->value = "";
    entry->origin = arena_strdup(arena, origin);
    entry->help = arena_strdup(arena, row->help == NULL ? "" : row->help);
    entry->default_text = arena_strdup(arena, row->default_text);
    entry->expected = arena_strdup(arena, config_value_expected(row, expected));
    entry->flags = place->top != NULL ? place->flags : row->flags;
    return entry;
}

/* ---- lists ---- */

static imp_status read_strings(struct reader *reader, const imp_option *row,
                               const config_setting_t *setting, const char *path, const char *where,
                               imp_string_list *list, struct config_entry *entry)
{
    struct arena *arena = &reader->block->arena;
    char expected[CONFIG_EXPECTED_SIZE], found[CONFIG_FOUND_SIZE];
    uint32_t most = row->count_max == 0 ? CONFIG_COUNT_MAX_DEFAULT : row->count_max;
    *list = (imp_string_list){0};
    if (setting == NULL) {
        entry->value = "[ ]";
        return IMP_OK;
    }
    config_value_expected(row, expected);
    if (!config_setting_is_array(setting) && !config_setting_is_list(setting))
        return fail(reader, where, path, config_value_found(setting, found), expected);
    uint32_t count = (uint32_t)config_setting_length(setting);
    if (count > most) {
        snprintf(found, sizeof found, "%u elements", count);
        return fail(reader, where, path, found, expected);
    }
    const char **items = arena_alloc(arena, (size_t)count * sizeof *items + 1);
    size_t size = sizeof "[  ]";
    if (items == NULL)
        return out_of_memory(reader);
    const imp_option one = {.size = sizeof one, .type = IMP_OPTION_STRING};
    for (uint32_t i = 0; i < count; i++) {
        const config_setting_t *element = config_setting_get_elem(setting, i);
        const char *text;
        if (!config_value_from_setting(&one, element, &text))
            return fail(reader, where, path, config_value_found(element, found), expected);
        items[i] = config_value_show(arena, &one, &text); /* quoted, for the text below */
        if (items[i] == NULL)
            return out_of_memory(reader);
        size += strlen(items[i]) + 2;
    }
    char *shown = arena_alloc(arena, size);
    if (shown == NULL)
        return out_of_memory(reader);
    size_t used = (size_t)snprintf(shown, size, "[ ");
    for (uint32_t i = 0; i < count; i++) {
        used += (size_t)snprintf(shown + used, size - used, "%s%s", i == 0 ? "" : ", ", items[i]);
        items[i] =
            arena_strdup(arena, config_setting_get_string(config_setting_get_elem(setting, i)));
        if (items[i] == NULL)
            return out_of_memory(reader);
    }
    snprintf(shown + used, size - used, count == 0 ? "]" : " ]");
    entry->value = shown;
    *list = (imp_string_list){.items = items, .count = count};
    return IMP_OK;
}

static imp_status read_groups(struct reader *reader, const struct place *place,
                              const imp_option *row, const config_setting_t *setting,
                              const char *path, const char *where, imp_group_list *list,
                              struct config_entry *entry)
{
    struct arena *arena = &reader->block->arena;
    char expected[CONFIG_EXPECTED_SIZE], found[CONFIG_FOUND_SIZE];
    uint32_t most = row->count_max == 0 ? CONFIG_COUNT_MAX_DEFAULT : row->count_max;
    *list = (imp_group_list){0};
    uint32_t count = 0;
    if (setting != NULL) {
        config_value_expected(row, expected);
        /* "[ ]" and "( )" are both an empty list to a person. */
        bool is_empty_array =
            config_setting_is_array(setting) && config_setting_length(setting) == 0;
        if (!config_setting_is_list(setting) && !is_empty_array)
            return fail(reader, where, path, config_value_found(setting, found), expected);
        count = (uint32_t)config_setting_length(setting);
        if (count > most) {
            snprintf(found, sizeof found, "%u elements", count);
            return fail(reader, where, path, found, expected);
        }
    }
    entry->value = arena_printf(arena, "( %u group%s )", count, count == 1 ? "" : "s");
    const char *top = place->top != NULL ? place->top : arena_strdup(arena, row->name);
    uint32_t flags = place->top != NULL ? place->flags : row->flags;
    const char *origin = entry->origin;
    char *data = arena_alloc(arena, (size_t)count * row->element_size + 1);
    if (data == NULL || top == NULL || entry->value == NULL || origin == NULL)
        return out_of_memory(reader);
    for (uint32_t i = 0; i < count; i++) {
        const config_setting_t *element = config_setting_get_elem(setting, i);
        if (!config_setting_is_group(element))
            return fail(reader, where, path, config_value_found(element, found), expected);
        const char *prefix = arena_printf(arena, "%s[%u].", path, i);
        if (prefix == NULL)
            return out_of_memory(reader);
        struct place inner = {.rows = row->rows,
                              .group = element,
                              .data = data + (size_t)i * row->element_size,
                              .data_size = row->element_size,
                              .prefix = prefix,
                              .top = top,
                              .flags = flags,
                              .origin = origin};
        imp_status status = read_group(reader, &inner);
        if (status != IMP_OK)
            return status;
    }
    *list = (imp_group_list){.items = data, .count = count};
    return IMP_OK;
}

/* ---- one row ---- */

static imp_status read_scalar(struct reader *reader, const imp_option *row,
                              const config_setting_t *setting, const char *path, const char *where,
                              void *field, struct config_entry *entry)
{
    struct arena *arena = &reader->block->arena;
    char expected[CONFIG_EXPECTED_SIZE], found[CONFIG_FOUND_SIZE];
    bool is_good;
    if (setting != NULL)
        is_good = config_value_from_setting(row, setting, field);
    else
        is_good =
            row->default_text != NULL && config_value_from_text(row, row->default_text, field);
    if (!is_good) {
        /* A literal in place of a secret's source is a secret: it is not shown. */
        const char *what = setting == NULL ? "a default that does not fit its own row"
                           : row->type == IMP_OPTION_SECRET ? "something else (not shown)"
                                                            : config_value_found(setting, found);
        return fail(reader, where, path, what, config_value_expected(row, expected));
    }
    entry->value = config_value_show(arena, row, field);
    if (row->type == IMP_OPTION_STRING || row->type == IMP_OPTION_SECRET) {
        const char **text = row->type == IMP_OPTION_STRING ? field : &((imp_secret *)field)->source;
        *text = arena_strdup(arena, *text);
        if (*text == NULL)
            return out_of_memory(reader);
    }
    return entry->value == NULL ? out_of_memory(reader) : IMP_OK;
}

/* Opens an overlay's value; its settings live until `parsed` is destroyed. */
static imp_status open_overlay(struct reader *reader, const char *text, config_t *parsed,
                               const config_setting_t **setting)
{
    size_t size = strlen(text) + sizeof "v = ;";
    char *line = malloc(size);
    if (line == NULL)
        return out_of_memory(reader);
    snprintf(line, size, "v = %s;", text);
    imp_status status = config_file_parse(line, CONFIG_ORIGIN_OVERLAY, parsed, reader->error);
    free(line);
    if (status == IMP_OK)
        *setting = config_setting_get_elem(config_root_setting(parsed), 0);
    return status;
}

static imp_status read_row(struct reader *reader, const struct place *place, const imp_option *row)
{
    char path[CONFIG_PATH_SIZE], buffer[CONFIG_PATH_SIZE], expected[CONFIG_EXPECTED_SIZE];
    const config_setting_t *setting = NULL;
    const char *overlaid = NULL, *where = CONFIG_ORIGIN_DEFAULT;
    config_t parsed;
    imp_status status = IMP_OK;
    bool is_parsed = false;

    snprintf(path, sizeof path, "%s%s", place->prefix, row->name);
    size_t field_size = config_value_size(row->type);
    if (field_size == 0 || row->offset > place->data_size ||
        field_size > place->data_size - row->offset)
        return fail(reader, "module", path, "a row that does not fit its struct", "a rebuild");

    if (place->group != NULL)
        setting = config_setting_get_member(place->group, row->name);
    if (place->top == NULL)
        overlaid = config_overlay_get(reader->source->overlay, reader->source->scope, row->name);
    if (overlaid != NULL) {
        if ((row->flags & IMP_ETC_ONLY) != 0)
            return fail(reader, CONFIG_ORIGIN_OVERLAY, path, "a value",
                        "none: this setting is taken from the files alone");
        status = open_overlay(reader, overlaid, &parsed, &setting);
        if (status != IMP_OK)
            return status;
        is_parsed = true;
    }
    if (setting != NULL)
        where = where_of(place, reader, setting, overlaid != NULL, buffer);
    if (setting == NULL && (row->flags & IMP_REQUIRED) != 0) {
        if (place->group != NULL)
            where = where_of(place, reader, place->group, false, buffer);
        status = fail(reader, where, path, "nothing", config_value_expected(row, expected));
        goto done;
    }
    struct config_entry *entry = add_entry(reader, place, row, path, where);
    if (entry == NULL) {
        status = out_of_memory(reader);
        goto done;
    }
    /* Reading a list adds entries and may move this one: it is filled in a copy. */
    struct config_entry filled = *entry;
    uint32_t index = reader->block->count - 1;
    void *field = place->data + row->offset;
    if (row->type == IMP_OPTION_STRINGS)
        status = read_strings(reader, row, setting, path, where, field, &filled);
    else if (row->type == IMP_OPTION_GROUPS)
        status = read_groups(reader, place, row, setting, path, where, field, &filled);
    else
        status = read_scalar(reader, row, setting, path, where, field, &filled);
    reader->block->entries[index].shown = filled;
done:
    if (is_parsed)
        config_destroy(&parsed);
    return status;
}

/* ---- names that are no setting ---- */

/* Letters to insert, drop or replace (Levenshtein). */
static unsigned name_distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_COMPARED + 1];
    size_t length = strlen(b);
    if (length > NAME_MAX_COMPARED)
        return UINT32_MAX;
    for (size_t j = 0; j <= length; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= length; j++) {
            unsigned above = row[j];
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[length];
}

static const char *expected_names(const imp_option *rows, const char *name,
                                  char expected[CONFIG_EXPECTED_SIZE])
{
    unsigned best = SUGGESTION_DISTANCE + 1;
    size_t used = 0;
    for (const imp_option *row = rows; row != NULL && row->type != IMP_OPTION_END;
         row = config_row_next(row)) {
        unsigned distance = name_distance(name, row->name);
        if (distance < best) {
            best = distance;
            snprintf(expected, CONFIG_EXPECTED_SIZE, "%s", row->name);
        }
    }
    if (best <= SUGGESTION_DISTANCE)
        return expected;
    used = (size_t)snprintf(expected, CONFIG_EXPECTED_SIZE, "one of");
    for (const imp_option *row = rows; row != NULL && row->type != IMP_OPTION_END;
         row = config_row_next(row)) {
        /* Room for the ellipsis is kept; the manual has the whole list. */
        if (used + strlen(row->name) + 8 > CONFIG_EXPECTED_SIZE) {
            snprintf(expected + used, CONFIG_EXPECTED_SIZE - used, " ...");
            break;
        }
        used += (size_t)snprintf(expected + used, CONFIG_EXPECTED_SIZE - used, " %s", row->name);
    }
    return rows == NULL || rows->type == IMP_OPTION_END ? "no settings here" : expected;
}

static const imp_option *find_row(const imp_option *rows, const char *name)
{
    for (const imp_option *row = rows; row != NULL && row->type != IMP_OPTION_END;
         row = config_row_next(row))
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

static imp_status refuse_unknown(struct reader *reader, const struct place *place)
{
    char where[CONFIG_PATH_SIZE], path[CONFIG_PATH_SIZE], expected[CONFIG_EXPECTED_SIZE];
    int count = place->group == NULL ? 0 : config_setting_length(place->group);
    bool has_listen = place->top == NULL && *reader->source->scope != '\0';
    for (int i = 0; i < count; i++) {
        const config_setting_t *setting = config_setting_get_elem(place->group, (unsigned)i);
        const char *name = config_setting_name(setting);
        if (find_row(place->rows, name) != NULL || (has_listen && strcmp(name, CONFIG_LISTEN) == 0))
            continue;
        snprintf(path, sizeof path, "%s%s", place->prefix, name);
        return fail(reader, where_of(place, reader, setting, false, where), path,
                    "an unknown setting", expected_names(place->rows, name, expected));
    }
    return IMP_OK;
}

static imp_status refuse_unknown_overlay(struct reader *reader)
{
    char expected[CONFIG_EXPECTED_SIZE];
    const struct config_rows_source *source = reader->source;
    const char *name;
    for (uint32_t i = 0; (name = config_overlay_name(source->overlay, source->scope, i)) != NULL;
         i++)
        if (find_row(source->rows, name) == NULL)
            return fail(reader, CONFIG_ORIGIN_OVERLAY, name,
                        strcmp(name, CONFIG_LISTEN) == 0 ? "a setting of the files alone"
                                                         : "an unknown setting",
                        expected_names(source->rows, name, expected));
    return IMP_OK;
}

static imp_status read_group(struct reader *reader, const struct place *place)
{
    imp_status status = refuse_unknown(reader, place);
    if (status != IMP_OK)
        return status;
    if (++reader->depth > GROUP_DEPTH_MAX)
        return fail(reader, "module", place->prefix, "rows that contain themselves", "a rebuild");
    for (const imp_option *row = place->rows;
         row != NULL && row->type != IMP_OPTION_END && status == IMP_OK; row = config_row_next(row))
        status = read_row(reader, place, row);
    reader->depth--;
    return status;
}

/* ---- listeners, to be shown and compared ---- */

static void add_listener_entry(struct reader *reader, uint32_t index, const char *name,
                               const char *value, const char *origin)
{
    char path[CONFIG_PATH_SIZE];
    const imp_option text = {.type = IMP_OPTION_STRING};
    snprintf(path, sizeof path, "listen[%u].%s", index, name);
    struct config_entry *entry = config_block_add(reader->block, CONFIG_LISTEN, path);
    if (entry == NULL)
        return;
    struct arena *arena = &reader->block->arena;
    entry->value = config_value_show(arena, &text, &value);
    entry->origin = arena_strdup(arena, origin);
    entry->help = "listeners of this module";
    entry->expected = "";
    entry->flags = IMP_LIVE | IMP_ETC_ONLY;
}

static void add_listeners(struct reader *reader)
{
    static const char *const tls_names[] = {"none", "implicit", "starttls"};
    for (uint32_t i = 0; i < reader->source->listener_count; i++) {
        const struct config_listener *listener = &reader->source->listeners[i];
        add_listener_entry(reader, i, "name", listener->name, listener->origin);
        add_listener_entry(reader, i, "address", listener->address_text, listener->origin);
        add_listener_entry(reader, i, "tls", tls_names[listener->tls], listener->origin);
        for (uint32_t j = 0; j < listener->allow_count; j++)
            add_listener_entry(reader, i, "allow", listener->allow[j].text, listener->origin);
        add_listener_entry(reader, i, "proxy", listener->proxy ? "true" : "false",
                           listener->origin);
        for (uint32_t j = 0; j < listener->proxies_count; j++)
            add_listener_entry(reader, i, "proxies", listener->proxies[j].text, listener->origin);
        for (uint32_t j = 0; j < listener->settings_count; j++)
            add_listener_entry(reader, i, listener->settings[j].name, listener->settings[j].value,
                               listener->origin);
    }
}

imp_status config_rows_read(const struct config_rows_source *source, struct config_block **block,
                            imp_error *error)
{
    struct reader reader = {.source = source, .error = error};
    *block = NULL;
    reader.block = config_block_new(source->conf_size);
    if (reader.block == NULL)
        return out_of_memory(&reader);
    struct place top = {.rows = source->rows,
                        .group = source->group,
                        .data = reader.block->data,
                        .data_size = source->conf_size,
                        .prefix = ""};
    imp_status status = read_group(&reader, &top);
    if (status == IMP_OK)
        status = refuse_unknown_overlay(&reader);
    if (status == IMP_OK)
        add_listeners(&reader);
    if (status == IMP_OK && reader.block->arena.has_failed)
        status = out_of_memory(&reader);
    if (status != IMP_OK) {
        config_block_free(reader.block);
        return status;
    }
    *block = reader.block;
    return IMP_OK;
}
