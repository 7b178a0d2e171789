/* SPDX-License-Identifier: Apache-2.0 */
/* config-file.c - finding, checking and parsing the files; nothing of their meaning. */
#include "build-config.h"

#include "core/config-private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SUFFIX ".conf"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

bool config_name_is_valid(const char *name, size_t size)
{
    size_t length = strlen(name);
    if (length == 0 || length >= size || name[0] < 'a' || name[0] > 'z')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

/* A file that somebody else can write is no configuration: what it says gets ports and rights. */
static imp_status check_owner(const char *path, const struct stat *status, imp_error *error)
{
    if (status->st_uid != 0 && status->st_uid != geteuid())
        return imp_error_set(error, IMP_DENIED,
                             "%s: found owner uid %u, expected root or our own user (uid %u)", path,
                             (unsigned)status->st_uid, (unsigned)geteuid());
    if ((status->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return imp_error_set(error, IMP_DENIED,
                             "%s: found mode %04o, expected one that only the owner may write "
                             "(such as 0644)",
                             path, (unsigned)status->st_mode & 07777u);
    return IMP_OK;
}

static imp_status parse_error(const config_t *parsed, const char *label, imp_error *error)
{
    const char *file = config_error_file(parsed);
    const char *text = config_error_text(parsed);
    bool is_syntax = text == NULL || strcmp(text, "syntax error") == 0;
    return imp_error_set(error, IMP_INVALID, "%s:%d: %s", file == NULL ? label : base_name(file),
                         config_error_line(parsed) > 0 ? config_error_line(parsed) : 1,
                         is_syntax ? "found a syntax error, expected NAME = VALUE; with a \";\" or "
                                     "a closing bracket here or at the end of the line above"
                                   : text);
}

/* libconfig keeps the names as the directives spell them and opens them below its include folder. */
static imp_status check_included(const config_t *parsed, imp_error *error)
{
    for (unsigned i = 0; i < parsed->num_filenames; i++) {
        char path[4096];
        struct stat status;
        if (parsed->filenames[i] == NULL)
            continue;
        int length = snprintf(path, sizeof path, "%s/%s", config_get_include_dir(parsed),
                              parsed->filenames[i]);
        if (length < 0 || (size_t)length >= sizeof path || stat(path, &status) != 0)
            return imp_error_set(error, IMP_IO, "%s: can't look at this included file: %s",
                                 parsed->filenames[i], strerror(errno));
        imp_status checked = check_owner(path, &status, error);
        if (checked != IMP_OK)
            return checked;
    }
    return IMP_OK;
}

imp_status config_file_read(const char *path, const char *label, config_t *parsed, imp_error *error)
{
    struct stat status;
    imp_status result;
    FILE *stream = NULL;
    config_init(parsed);
    /* Not blocking: a fifo in place of a file must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        result = imp_error_set(error, errno == ENOENT ? IMP_NOT_FOUND : IMP_DENIED,
                               "can't read %s: %s", path, strerror(errno));
        goto done;
    }
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        result = imp_error_set(error, IMP_INVALID, "%s: found no regular file, expected one", path);
        goto done;
    }
    result = check_owner(path, &status, error);
    if (result != IMP_OK)
        goto done;
    if (status.st_size > CONFIG_FILE_MAX) {
        result = imp_error_set(error, IMP_LIMIT, "%s: found %lld bytes, expected at most %d", path,
                               (long long)status.st_size, CONFIG_FILE_MAX);
        goto done;
    }
    stream = fdopen(fd, "r");
    if (stream == NULL) {
        result = imp_error_set(error, IMP_IO, "can't read %s: %s", path, strerror(errno));
        goto done;
    }
    fd = -1;
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    if (folder == NULL) {
        result = imp_error_set(error, IMP_LIMIT, "out of memory");
        goto done;
    }
    config_set_include_dir(parsed, folder);
    free(folder);
    if (config_read(parsed, stream) != CONFIG_TRUE)
        result = parse_error(parsed, label, error);
    else
        result = check_included(parsed, error);
done:
    if (stream != NULL)
        fclose(stream);
    if (fd >= 0)
        close(fd);
    if (result != IMP_OK)
        config_destroy(parsed);
    return result;
}

imp_status config_file_parse(const char *text, const char *label, config_t *parsed,
                             imp_error *error)
{
    config_init(parsed);
    if (config_read_string(parsed, text) == CONFIG_TRUE)
        return IMP_OK;
    imp_status result = parse_error(parsed, label, error);
    config_destroy(parsed);
    return result;
}

const char *config_file_where(const config_setting_t *setting, const char *label,
                              char where[CONFIG_PATH_SIZE])
{
    const char *file = config_setting_source_file(setting);
    snprintf(where, CONFIG_PATH_SIZE, "%s:%u", file == NULL ? label : base_name(file),
             config_setting_source_line(setting));
    return where;
}

/* ---- the folder ---- */

static int is_conf_file(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name), suffix = strlen(FILE_SUFFIX);
    return entry->d_name[0] != '.' && length > suffix &&
           strcmp(entry->d_name + length - suffix, FILE_SUFFIX) == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

imp_status config_file_list(const char *folder, struct arena *arena, struct config_file_list *list,
                            imp_error *error)
{
    struct dirent **entries = NULL;
    struct stat status;
    imp_status result = IMP_OK;
    int count = scandir(folder, &entries, is_conf_file, by_name);
    *list = (struct config_file_list){0};
    if (count < 0)
        return imp_error_set(error, IMP_NOT_FOUND, "can't read the folder %s (modules_dir): %s",
                             folder, strerror(errno));
    if (stat(folder, &status) == 0)
        result = check_owner(folder, &status, error);
    list->names = arena_alloc(arena, (size_t)count * sizeof *list->names + 1);
    list->paths = arena_alloc(arena, (size_t)count * sizeof *list->paths + 1);
    list->labels = arena_alloc(arena, (size_t)count * sizeof *list->labels + 1);
    if (arena->has_failed)
        result = imp_error_set(error, IMP_LIMIT, "out of memory");
    for (int i = 0; i < count && result == IMP_OK; i++) {
        const char *file = entries[i]->d_name;
        size_t length = strlen(file) - strlen(FILE_SUFFIX);
        char *name = arena_printf(arena, "%.*s", (int)length, file);
        list->names[i] = name;
        list->paths[i] = arena_printf(arena, "%s/%s", folder, file);
        list->labels[i] = arena_printf(arena, "%s/%s", base_name(folder), file);
        if (arena->has_failed)
            result = imp_error_set(error, IMP_LIMIT, "out of memory");
        else if (!config_name_is_valid(name, CONFIG_MODULE_NAME_SIZE))
            result = imp_error_set(error, IMP_INVALID,
                                   "%s: found the module name \"%s\", expected at most %d of a-z, "
                                   "0-9 and \"-\", a letter first",
                                   list->labels[i], name, CONFIG_MODULE_NAME_SIZE - 1);
        else if (stat(list->paths[i], &status) != 0 && errno == ENOENT)
            result = imp_error_set(error, IMP_INVALID,
                                   "%s: found a symlink to a file that is not there, expected "
                                   "../modules.d/%s (or run: imprimctl module disable %s)",
                                   list->labels[i], file, name);
        list->count++;
    }
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return result;
}

imp_status config_file_group(config_t *parsed, const char *name, const char *label,
                             config_setting_t **group, imp_error *error)
{
    config_setting_t *root = config_root_setting(parsed);
    char where[CONFIG_PATH_SIZE];
    *group = NULL;
    for (int i = 0; i < config_setting_length(root); i++) {
        config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        bool is_ours = strcmp(config_setting_name(setting), name) == 0;
        if (!is_ours || !config_setting_is_group(setting))
            return imp_error_set(
                error, IMP_INVALID,
                "%s: %s: found %s, expected one group %s: { ... }; and nothing else",
                config_file_where(setting, label, where), config_setting_name(setting),
                is_ours ? "no group" : "another name than the file's", name);
        *group = setting;
    }
    if (*group == NULL)
        return imp_error_set(error, IMP_INVALID,
                             "%s:1: %s: found nothing, expected one group %s: { ... };", label,
                             name, name);
    return IMP_OK;
}
