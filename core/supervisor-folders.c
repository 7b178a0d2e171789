/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor-folders.c - the few folders that the supervisor makes, and its lock.
 *
 * As root it must not be led anywhere: it makes a folder only in a parent that none but root can
 * write, through descriptors and without following links, and gives it away last.
 */
#include "build-config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/supervisor-private.h"

#define OPEN_FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* Splits PATH into its parent and last name; false when there is none. */
static bool path_split(const char *path, char parent[PATH_MAX], const char **last)
{
    size_t length = strlen(path);
    if (path[0] != '/' || length >= PATH_MAX)
        return false;
    memcpy(parent, path, length + 1);
    while (length > 1 && parent[length - 1] == '/')
        parent[--length] = '\0';
    char *slash = strrchr(parent, '/');
    *last = path + (slash - parent) + 1;
    if (strchr(*last, '/') != NULL || **last == '\0')
        return false; /* "/" or "NAME/": the caller's paths have neither */
    *(slash == parent ? slash + 1 : slash) = '\0';
    return true;
}

/* Can nobody but us change what names in this folder mean? */
static bool folder_is_safe(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_uid == geteuid() && (status.st_mode & 022) == 0;
}

/* Opens PATH's parent; it must be there. */
static imp_status parent_open(const char *path, int *parent_fd, const char **last, imp_error *error)
{
    char parent[PATH_MAX];
    if (!path_split(path, parent, last))
        return imp_error_set(error, IMP_INVALID, "%s is not the absolute path of a folder", path);
    *parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*parent_fd < 0)
        return imp_error_set(error, IMP_NOT_FOUND, "cannot open %s: %s", parent, strerror(errno));
    return IMP_OK;
}

static bool folder_is_empty(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (folder == NULL) {
        if (copy >= 0)
            close(copy);
        return false;
    }
    bool is_empty = true;
    const struct dirent *entry;
    while (is_empty && (entry = readdir(folder)) != NULL)
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    return is_empty;
}

/* Makes PATH with `mode` and gives it to (uid, gid). One that is there stays as it is, unless it is
 * ours, empty and in a safe place: then the service manager has made it for us. */
static imp_status folder_make(const char *path, mode_t mode, const struct account *account,
                              gid_t gid, imp_error *error)
{
    int parent_fd = -1, fd = -1;
    const char *last = NULL;
    imp_status status = parent_open(path, &parent_fd, &last, error);
    if (status != IMP_OK)
        return status;
    struct stat found;
    bool is_there = fstatat(parent_fd, last, &found, AT_SYMLINK_NOFOLLOW) == 0;
    if (is_there && !S_ISDIR(found.st_mode) && !S_ISLNK(found.st_mode)) {
        status = imp_error_set(error, IMP_INVALID, "%s is not a folder", path);
        goto done;
    }
    if (account->is_changed && !folder_is_safe(parent_fd)) {
        if (!is_there)
            status =
                imp_error_set(error, IMP_DENIED,
                              "%s does not exist, and its parent can be written by others than "
                              "root: make it yourself",
                              path);
        goto done;
    }
    if (!is_there && mkdirat(parent_fd, last, 0700) != 0) {
        status = imp_error_set(error, IMP_IO, "cannot make %s: %s", path, strerror(errno));
        goto done;
    }
    /* A link was put there by whoever rules the parent, on purpose. */
    fd = openat(parent_fd, last, OPEN_FOLDER);
    if (fd < 0 || fstat(fd, &found) != 0 || found.st_uid != geteuid() ||
        (is_there && (!account->is_changed || !folder_is_empty(fd))))
        goto done;
    if (fchmod(fd, mode) != 0 || (account->is_changed && fchown(fd, account->uid, gid) != 0))
        status = imp_error_set(error, IMP_IO, "cannot set up %s: %s", path, strerror(errno));
done:
    if (fd >= 0)
        close(fd);
    close(parent_fd);
    return status;
}

imp_status folders_make(const struct config_core *core, const struct account *account,
                        imp_error *error)
{
    imp_status status = folder_make(core->state_dir, 0750, account, account->gid, error);
    if (status == IMP_OK)
        status = folder_make(core->run_dir, 0750, account, account->control_gid, error);
    return status;
}

imp_status folders_lock(const struct config_core *core, int *lock_fd, imp_error *error)
{
    /* The folder itself: a lock file in it would be the server's user's to replace. */
    int fd = open(core->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return imp_error_set(error, IMP_IO, "cannot open %s: %s", core->run_dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int lock_error = errno;
        close(fd);
        if (lock_error == EWOULDBLOCK)
            return imp_error_set(error, IMP_BUSY, "another instance runs with run_dir %s",
                                 core->run_dir);
        return imp_error_set(error, IMP_IO, "cannot lock %s: %s", core->run_dir,
                             strerror(lock_error));
    }
    *lock_fd = fd;
    return IMP_OK;
}

/* Where the supervisor's own folder is. */
static bool own_path(const struct config_core *core, const struct account *account,
                     char path[PATH_MAX])
{
    const char *last;
    if (!account->is_changed && core->master_key[0] == '/')
        return path_split(core->master_key, path, &last);
    int length = snprintf(path, PATH_MAX, "%s-supervisor", core->state_dir);
    return length > 0 && length < PATH_MAX;
}

imp_status folders_open_own(const struct config_core *core, const struct account *account,
                            int *folder_fd, imp_error *error)
{
    char path[PATH_MAX];
    const char *last = NULL;
    int parent_fd = -1;
    if (!own_path(core, account, path))
        return imp_error_set(error, IMP_INVALID, "state_dir is too long");
    imp_status status = parent_open(path, &parent_fd, &last, error);
    if (status != IMP_OK)
        return status;
    if (account->is_changed && !folder_is_safe(parent_fd)) {
        status = imp_error_set(error, IMP_DENIED,
                               "the folder above %s can be written by others than root", path);
        goto done;
    }
    if (mkdirat(parent_fd, last, 0700) != 0 && errno != EEXIST) {
        status = imp_error_set(error, IMP_IO, "cannot make %s: %s", path, strerror(errno));
        goto done;
    }
    int fd = openat(parent_fd, last, OPEN_FOLDER);
    if (fd < 0) {
        status = imp_error_set(error, IMP_IO, "cannot open %s: %s", path, strerror(errno));
    } else if (account->is_changed && !folder_is_safe(fd)) {
        close(fd);
        status = imp_error_set(error, IMP_DENIED, "%s can be written by others than root", path);
    } else {
        *folder_fd = fd;
    }
done:
    close(parent_fd);
    return status;
}
