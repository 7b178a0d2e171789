/* SPDX-License-Identifier: Apache-2.0 */
/* config-private.h - what the config-*.c files share; libconfig's types stay behind it. */
#ifndef CORE_CONFIG_PRIVATE_H
#define CORE_CONFIG_PRIVATE_H

#include "core/arena.h"
#include "core/config.h"

#include <libconfig.h>
#include <stdarg.h>

#define CONFIG_FILE_MAX 1048576 /* bytes; real ones are a few KiB */
#define CONFIG_PATH_SIZE 256    /* "lpr.rules[12].host" in messages and entries */
#define CONFIG_FOUND_SIZE 72    /* what was found, as far as a message shows it */
#define CONFIG_EXPECTED_SIZE 160
#define CONFIG_COUNT_MAX_DEFAULT 1000u /* elements of STRINGS and GROUPS without count_max */

/* ---- config-file.c: from a file to settings ---- */

/* Reads and parses one file after checking owner, mode and size; `label` is how messages name it.
 * @include takes paths relative to its folder alone (libconfig puts that folder in front of all). On error *parsed is destroyed already. */
imp_status config_file_read(const char *path, const char *label, config_t *parsed,
                            imp_error *error);
/* The same from memory (overlay values, tests). */
imp_status config_file_parse(const char *text, const char *label, config_t *parsed,
                             imp_error *error);
/* "FILE:LINE" of a setting; `label` for what the file itself says, else the included file's name. */
const char *config_file_where(const config_setting_t *setting, const char *label,
                              char where[CONFIG_PATH_SIZE]);
/* The enabled module files of a folder, in name order. */
struct config_file_list {
    uint32_t count;
    char **names; /* module names, in the arena */
    char **paths;
    char **labels; /* "modules-enabled/lpr.conf" */
};
imp_status config_file_list(const char *folder, struct arena *arena, struct config_file_list *list,
                            imp_error *error);
/* The one group that a module's file must hold. */
imp_status config_file_group(config_t *parsed, const char *name, const char *label,
                             config_setting_t **group, imp_error *error);
/* True for [a-z][a-z0-9-]*, at most `size` - 1 letters. */
bool config_name_is_valid(const char *name, size_t size);

/* ---- config-value.c: single values and their words in messages ---- */

/* The value as a person would type it, shortened: "\"5 parsecs\"", "12", "a group". */
const char *config_value_found(const config_setting_t *setting, char found[CONFIG_FOUND_SIZE]);
/* What a row wants: "a duration such as \"60s\" (1s to 1h)". */
const char *config_value_expected(const imp_option *row, char expected[CONFIG_EXPECTED_SIZE]);
/* "WHERE: PATH: found FOUND, expected EXPECTED"; returns IMP_INVALID. */
imp_status config_value_error(imp_error *error, const char *where, const char *path,
                              const char *found, const char *expected);
/* Converts and checks one scalar of a row (BOOL, INTEGER, SIZE, DURATION, STRING, ENUM, SECRET) from
 * text without quotes. `field` gets bool, int64_t, const char * (into `text`) or imp_secret. */
bool config_value_from_text(const imp_option *row, const char *text, void *field);
/* The same from a parsed setting, whose libconfig type must fit; strings point into it. */
bool config_value_from_setting(const imp_option *row, const config_setting_t *setting, void *field);
/* The scalar's value as it would be typed. */
char *config_value_show(struct arena *arena, const imp_option *row, const void *field);
/* Bytes that a row's field takes in the conf struct; 0 for an unknown type. */
size_t config_value_size(imp_option_type type);
const imp_option *config_row_next(const imp_option *row);

/* ---- config-rows.c: from a group to a block ---- */

struct config_rows_source {
    const imp_option *rows; /* may be NULL: no settings */
    uint64_t conf_size;
    const char *scope;                       /* "lpr"; "" for the core */
    const char *label;                       /* of the file; NULL when there is none */
    const config_setting_t *group;           /* NULL when there is no file */
    const struct config_overlay *overlay;    /* may be NULL */
    const struct config_listener *listeners; /* of this module, to be shown */
    uint32_t listener_count;
};
imp_status config_rows_read(const struct config_rows_source *source, struct config_block **block,
                            imp_error *error);
/* Replaces a string that no one has set by a computed default (paths of instances). */
void config_block_set_default(struct config_block *block, const char *path, const char **field,
                              char *value);
struct arena *config_block_arena(struct config_block *block);
void *config_block_data_mutable(struct config_block *block);
const struct config_entry *config_block_find(const struct config_block *block, const char *path);

/* ---- config-core.c ---- */

extern const imp_option config_core_rows[];
/* Reads the main file and checks what single rows can't say. */
imp_status config_core_read(const char *main_file, const struct config_overlay *overlay,
                            struct config_block **block, imp_error *error);

/* ---- config-listen.c ---- */

/* Appends the listeners of one module's group to `list`; `capacity` is CONFIG_LISTENERS_MAX. */
imp_status config_listen_parse(const config_setting_t *group, const char *module, const char *label,
                               struct arena *arena, struct config_listener *items, uint32_t *count,
                               imp_error *error);

/* ---- config-overlay.c ---- */

struct config_overlay *config_overlay_copy(const struct config_overlay *overlay);
/* The value's text, or NULL. */
const char *config_overlay_get(const struct config_overlay *overlay, const char *module,
                               const char *name);
/* Walks one module's names: the index-th, or NULL. */
const char *config_overlay_name(const struct config_overlay *overlay, const char *module,
                                uint32_t index);

#endif
