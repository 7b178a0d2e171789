/* SPDX-License-Identifier: Apache-2.0 */
/* keys-master.c - the master key's file, and its way to the server. */
#include "build-config.h"

#include "core/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crash-point.h"

#define KEYS_PATH_MAX 4096u
#define CREDENTIAL "credential:"
#define KEYS_MEMFD_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static bool write_all(int fd, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        data += written;
        length -= (size_t)written;
    }
    return true;
}

/* Reads exactly `length` bytes; false at an error or an early end. */
static bool read_all(int fd, uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t got = read(fd, data, length);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        data += got;
        length -= (size_t)got;
    }
    return true;
}

/* Splits "/a/b/name" into folder "/a/b" and name. */
static imp_status split_path(const char *path, char folder[KEYS_PATH_MAX], const char **name,
                             imp_error *error)
{
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || slash[1] == '\0' || strlen(path) >= KEYS_PATH_MAX) {
        return imp_error_set(error, IMP_INVALID,
                             "master key: \"%s\" is not the absolute path of a file", path);
    }
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    memcpy(folder, path, length);
    folder[length] = '\0';
    *name = slash + 1;
    return IMP_OK;
}

static imp_status check_and_read(int fd, const char *path, bool is_credential, uint8_t *master,
                                 imp_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return imp_error_set(error, IMP_IO, "master key %s: %s", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return imp_error_set(error, IMP_INVALID, "master key %s is not a regular file", path);
    }
    /* An access list that systemd gives a credential shows as rights of the group. */
    if (!is_credential && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return imp_error_set(error, IMP_DENIED,
                             "master key %s can be reached by others than its owner; chmod 0400 it",
                             path);
    }
    if (status.st_size != KEYS_MASTER_SIZE) {
        return imp_error_set(error, IMP_CORRUPT,
                             "master key %s has %lld bytes, not %d; put the right file back", path,
                             (long long)status.st_size, KEYS_MASTER_SIZE);
    }
    if (!read_all(fd, master, KEYS_MASTER_SIZE)) {
        imp_wipe(master, KEYS_MASTER_SIZE);
        return imp_error_set(error, IMP_IO, "master key %s can't be read", path);
    }
    return IMP_OK;
}

static imp_status make_file(const char *path, uint8_t *master, imp_error *error)
{
    static const char temporary[] = ".master.key.new";
    char folder[KEYS_PATH_MAX];
    const char *name = NULL;
    int folder_fd = -1;
    int fd = -1;
    imp_status status = split_path(path, folder, &name, error);
    if (status != IMP_OK) {
        return status;
    }
    imp_random(master, KEYS_MASTER_SIZE);
    if (mkdir(folder, 0700) == 0) {
        /* The folder's own entry must last as well. */
        char above[KEYS_PATH_MAX + 4];
        snprintf(above, sizeof above, "%s/..", folder);
        int above_fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (above_fd < 0 || fsync(above_fd) != 0) {
            status =
                imp_error_set(error, IMP_IO, "master key folder %s: %s", folder, strerror(errno));
        }
        if (above_fd >= 0) {
            close(above_fd);
        }
    } else if (errno != EEXIST) {
        status = imp_error_set(error, IMP_IO, "master key folder %s can't be made: %s", folder,
                               strerror(errno));
    }
    if (status != IMP_OK) {
        goto done;
    }
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        status = imp_error_set(error, IMP_IO, "master key folder %s: %s", folder, strerror(errno));
        goto done;
    }
    /* What a crash left behind was never in use. */
    (void)unlinkat(folder_fd, temporary, 0);
    fd = openat(folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    if (fd < 0 || !write_all(fd, master, KEYS_MASTER_SIZE) || fsync(fd) != 0) {
        status = imp_error_set(error, errno == ENOSPC ? IMP_NO_SPACE : IMP_IO,
                               "master key %s can't be written: %s", path, strerror(errno));
        goto done;
    }
    IMP_CRASH_POINT("keys.before-rename");
    if (renameat2(folder_fd, temporary, folder_fd, name, RENAME_NOREPLACE) != 0) {
        status = imp_error_set(error, errno == EEXIST ? IMP_EXISTS : IMP_IO,
                               "master key %s can't be put in place: %s", path, strerror(errno));
        goto done;
    }
    IMP_CRASH_POINT("keys.after-rename");
    if (fsync(folder_fd) != 0) {
        status = imp_error_set(error, IMP_IO, "master key folder %s can't be synced: %s", folder,
                               strerror(errno));
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    if (folder_fd >= 0) {
        if (status != IMP_OK) {
            (void)unlinkat(folder_fd, temporary, 0);
        }
        close(folder_fd);
    }
    if (status != IMP_OK) {
        imp_wipe(master, KEYS_MASTER_SIZE);
    }
    return status;
}

/* Where systemd has put the credential that "credential:NAME" names; it is never made here. */
static imp_status credential_path(const char *name, char path[KEYS_PATH_MAX], imp_error *error)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (*name == '\0' || *name == '.' || strchr(name, '/') != NULL) {
        return imp_error_set(error, IMP_INVALID,
                             "master key: \"credential:%s\" names no credential", name);
    }
    if (folder == NULL || *folder == '\0') {
        return imp_error_set(
            error, IMP_NOT_FOUND,
            "master key credential:%s: there are no credentials (LoadCredential= in the unit)",
            name);
    }
    int length = snprintf(path, KEYS_PATH_MAX, "%s/%s", folder, name);
    return length > 0 && length < (int)KEYS_PATH_MAX
               ? IMP_OK
               : imp_error_set(error, IMP_INVALID, "master key credential:%s: the path is too long",
                               name);
}

imp_status keys_master_load_or_make(const char *path, bool may_make,
                                    uint8_t master[KEYS_MASTER_SIZE], imp_error *error)
{
    char credential[KEYS_PATH_MAX];
    bool is_credential = strncmp(path, CREDENTIAL, strlen(CREDENTIAL)) == 0;
    if (is_credential) {
        imp_status status = credential_path(path + strlen(CREDENTIAL), credential, error);
        if (status != IMP_OK) {
            return status;
        }
        path = credential;
    }
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        imp_status status = check_and_read(fd, path, is_credential, master, error);
        close(fd);
        return status;
    }
    if (errno != ENOENT) {
        return imp_error_set(error, errno == EACCES ? IMP_DENIED : IMP_IO,
                             "master key %s can't be opened: %s", path, strerror(errno));
    }
    if (is_credential) {
        return imp_error_set(error, IMP_NOT_FOUND,
                             "master key %s is missing (LoadCredential= in the unit)", path);
    }
    if (!may_make) {
        return imp_error_set(error, IMP_NOT_FOUND,
                             "master key %s is missing, but a store exists that needs it; put the "
                             "key file back (nothing was changed)",
                             path);
    }
    return make_file(path, master, error);
}

int keys_master_to_memfd(const uint8_t master[KEYS_MASTER_SIZE])
{
    int fd = memfd_create("imprimatur-master-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    if (!write_all(fd, master, KEYS_MASTER_SIZE) || lseek(fd, 0, SEEK_SET) != 0 ||
        fcntl(fd, F_ADD_SEALS, KEYS_MEMFD_SEALS) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

imp_status keys_master_from_memfd(int fd, uint8_t master[KEYS_MASTER_SIZE], imp_error *error)
{
    imp_status status = IMP_OK;
    struct stat about;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & KEYS_MEMFD_SEALS) != KEYS_MEMFD_SEALS) {
        status = imp_error_set(error, IMP_INVALID, "the master key's descriptor is not sealed");
    } else if (fstat(fd, &about) != 0 || about.st_size != KEYS_MASTER_SIZE ||
               pread(fd, master, KEYS_MASTER_SIZE, 0) != KEYS_MASTER_SIZE) {
        imp_wipe(master, KEYS_MASTER_SIZE);
        status = imp_error_set(error, IMP_CORRUPT, "the master key's descriptor holds no key");
    }
    close(fd);
    return status;
}
