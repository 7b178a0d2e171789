/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include "core/module-file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITABLE_BY_OTHERS (S_IWGRP | S_IWOTH)

/* True when `path` is `folder` or lies below it. */
static bool is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    return strncmp(path, folder, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

imp_status module_file_check_developer(const struct module_settings *settings, imp_error *error)
{
    if (!settings->is_developer)
        return IMP_OK;
    if (geteuid() == 0)
        return imp_error_set(error, IMP_DENIED,
                             "developer = true is refused while the server runs as root");
    if (settings->installed_dir != NULL && is_below(settings->module_dir, settings->installed_dir))
        return imp_error_set(error, IMP_DENIED,
                             "developer = true is refused for modules in the installed place, %s",
                             settings->installed_dir);
    return IMP_OK;
}

imp_status module_file_check_abi(uint16_t major, uint16_t minor, imp_error *error)
{
    if (major != IMP_ABI_MAJOR)
        return imp_error_set(error, IMP_INVALID,
                             "built for ABI %u.%u, this server has %u.%u: rebuild the module with "
                             "this version's SDK",
                             major, minor, IMP_ABI_MAJOR, IMP_ABI_MINOR);
    if (minor > IMP_ABI_MINOR)
        return imp_error_set(
            error, IMP_INVALID,
            "built for the newer ABI %u.%u, this server has %u.%u: install a newer "
            "server, or rebuild the module with this version's SDK",
            major, minor, IMP_ABI_MAJOR, IMP_ABI_MINOR);
    return IMP_OK;
}

/* `what` is the path so far. */
static imp_status check_owner(const struct module_settings *settings, const struct stat *status,
                              const char *what, imp_error *error)
{
    bool is_ours = status->st_uid == 0 || (settings->is_developer && status->st_uid == geteuid());
    if (!is_ours)
        return imp_error_set(error, IMP_DENIED, "%s belongs to uid %u instead of root", what,
                             (unsigned)status->st_uid);
    bool is_sticky_folder = S_ISDIR(status->st_mode) && (status->st_mode & S_ISVTX) != 0;
    if ((status->st_mode & WRITABLE_BY_OTHERS) != 0 && !is_sticky_folder)
        return imp_error_set(error, IMP_DENIED, "%s may be written by others (mode %04o)", what,
                             (unsigned)(status->st_mode & 07777));
    return IMP_OK;
}

/* Walks down from the root, so that what was checked is what is opened. */
static imp_status open_folder(const struct module_settings *settings, const char *folder, int *fd,
                              imp_error *error)
{
    imp_status status = IMP_OK;
    struct stat info;
    char path[PATH_MAX];
    size_t length = 0;
    int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    path[0] = '\0';
    if (at < 0)
        return imp_error_set(error, IMP_IO, "/ can't be opened: %s", strerror(errno));
    for (const char *part = folder; status == IMP_OK;) {
        if (fstat(at, &info) != 0)
            status = imp_error_set(error, IMP_IO, "%s: %s", path, strerror(errno));
        else
            status = check_owner(settings, &info, length == 0 ? "/" : path, error);
        part += strspn(part, "/");
        size_t part_length = strcspn(part, "/");
        if (status != IMP_OK || part_length == 0)
            break;
        if (length + 1 + part_length >= sizeof(path)) {
            status = imp_error_set(error, IMP_INVALID, "the path is too long");
            break;
        }
        path[length++] = '/';
        memcpy(path + length, part, part_length);
        path[length + part_length] = '\0';
        int next = openat(at, path + length, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            status = imp_error_set(error, IMP_IO, "%s can't be opened: %s", path, strerror(errno));
        close(at);
        at = next;
        length += part_length;
        part += part_length;
    }
    if (status != IMP_OK && at >= 0)
        close(at);
    *fd = status == IMP_OK ? at : -1;
    return status;
}

static imp_status open_file(const struct module_settings *settings, int folder_fd,
                            const char *file_name, struct module_file *file, imp_error *error)
{
    struct stat info;
    /* Not blocking: a FIFO or device under that name must not hold us up. */
    file->fd = openat(folder_fd, file_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0 && errno == ENOENT)
        return imp_error_set(error, IMP_NOT_FOUND, "there is no file %s", file->path);
    if (file->fd < 0 && errno == ELOOP)
        return imp_error_set(error, IMP_DENIED, "%s is a symbolic link", file->path);
    if (file->fd < 0 || fstat(file->fd, &info) != 0)
        return imp_error_set(error, IMP_IO, "%s can't be opened: %s", file->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return imp_error_set(error, IMP_INVALID, "%s is not a regular file", file->path);
    file->device = info.st_dev;
    file->inode = info.st_ino;
    file->size = info.st_size;
    file->modified_us = (int64_t)info.st_mtim.tv_sec * IMP_SECOND + info.st_mtim.tv_nsec / 1000;
    return check_owner(settings, &info, file->path, error);
}

static imp_status check_note(const char *name, const struct module_file *file, imp_error *error)
{
    const struct note *note = &file->note;
    imp_error reason;
    if (module_file_check_abi(note->abi_major, note->abi_minor, &reason) != IMP_OK)
        return imp_error_set(error, reason.status, "%s: %s", file->path, reason.message);
    if (strcmp(note->name, name) != 0)
        return imp_error_set(error, IMP_INVALID, "%s is module \"%s\", not \"%s\"", file->path,
                             note->name, name);
    return IMP_OK;
}

imp_status module_file_open(const struct module_settings *settings, const char *name,
                            struct module_file *file, imp_error *error)
{
    char file_name[NOTE_NAME_SIZE + sizeof(".so")];
    char folder[PATH_MAX];
    imp_error reason;
    int folder_fd = -1;

    *file = (struct module_file){.fd = -1};
    if (!note_name_is_valid(name))
        return imp_error_set(error, IMP_INVALID, "\"%s\" is no name of a module", name);
    snprintf(file_name, sizeof(file_name), "%s.so", name);
    if (realpath(settings->module_dir, folder) == NULL)
        return imp_error_set(error, IMP_NOT_FOUND, "%s: %s", settings->module_dir, strerror(errno));
    size_t size = strlen(folder) + 1 + strlen(file_name) + 1;
    file->path = malloc(size);
    if (file->path == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    snprintf(file->path, size, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, file_name);

    imp_status status = open_folder(settings, folder, &folder_fd, error);
    if (status != IMP_OK)
        goto done;
    status = open_file(settings, folder_fd, file_name, file, error);
    if (status != IMP_OK)
        goto done;
    if (note_read_file(file->fd, &file->note, &reason) != IMP_OK) {
        status = imp_error_set(error, reason.status, "%s: %s", file->path, reason.message);
        goto done;
    }
    status = check_note(name, file, error);
done:
    if (folder_fd >= 0)
        close(folder_fd);
    if (status != IMP_OK)
        module_file_close(file);
    return status;
}

void module_file_close(struct module_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    *file = (struct module_file){.fd = -1};
}
