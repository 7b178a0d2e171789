/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "modules/jobs/spool-io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const struct spool_io spool_io_system = {
    .pwrite = pwrite,
    .pread = pread,
    .fdatasync = fdatasync,
    .fallocate = fallocate,
};

/* What the administrator has to mend stays until then, where an error of the disk may pass: the server
 * starts again and again for the one, and says the other once. */
static imp_status status_of(int error_number)
{
    switch (error_number) {
    case ENOSPC:
    case EDQUOT: return IMP_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS: return IMP_DENIED;
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG: return IMP_INVALID;
    default: return IMP_IO;
    }
}

static imp_status fail_with(imp_error *error, imp_status status, int error_number, const char *what)
{
    char text[128];
    return imp_error_set(error, status, "%s: %s", what,
                         strerror_r(error_number, text, sizeof text));
}

imp_status spool_io_failed(imp_error *error, int error_number, const char *what)
{
    return fail_with(error, status_of(error_number), error_number, what);
}

/* The same for a descriptor that was opened well: no setting is wrong, even where a file system that
 * met an error became read-only. */
static imp_status open_file_failed(imp_error *error, int error_number, const char *what)
{
    imp_status status = status_of(error_number) == IMP_NO_SPACE ? IMP_NO_SPACE : IMP_IO;
    return fail_with(error, status, error_number, what);
}

/* True when the descriptor was one for direct I/O and is none any more. */
static bool io_leave_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags != -1 && (flags & O_DIRECT) != 0 && fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

imp_status spool_io_write(const struct spool_io *io, int fd, const void *data, size_t length,
                          uint64_t offset, const char *what, imp_error *error)
{
    const uint8_t *from = data;

    while (length > 0) {
        ssize_t written = io->pwrite(fd, from, length, (off_t)offset);
        if (written < 0 && (errno == EINTR || (errno == EINVAL && io_leave_direct(fd))))
            continue;
        if (written <= 0)
            return open_file_failed(error, written == 0 ? ENOSPC : errno, what);
        from += written;
        length -= (size_t)written;
        offset += (uint64_t)written;
    }
    return IMP_OK;
}

imp_status spool_io_read(const struct spool_io *io, int fd, void *data, size_t length,
                         uint64_t offset, size_t *got, const char *what, imp_error *error)
{
    uint8_t *to = data;

    *got = 0;
    while (*got < length) {
        ssize_t count = io->pread(fd, to + *got, length - *got, (off_t)(offset + *got));
        if (count < 0 && (errno == EINTR || (errno == EINVAL && io_leave_direct(fd))))
            continue;
        if (count < 0)
            return open_file_failed(error, errno, what);
        if (count == 0)
            break;
        *got += (size_t)count;
    }
    return IMP_OK;
}

imp_status spool_io_sync(const struct spool_io *io, int fd, const char *what, imp_error *error)
{
    while (io->fdatasync(fd) != 0)
        if (errno != EINTR)
            return open_file_failed(error, errno, what);
    return IMP_OK;
}

imp_status spool_io_reserve(const struct spool_io *io, int fd, uint64_t offset, uint64_t length,
                            const char *what, imp_error *error)
{
    while (io->fallocate(fd, 0, (off_t)offset, (off_t)length) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            return IMP_OK;
        if (errno != EINTR)
            return open_file_failed(error, errno, what);
    }
    return IMP_OK;
}

imp_status spool_io_sync_folder(const char *path, imp_error *error)
{
    imp_status status = IMP_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        return spool_io_failed(error, errno, path);
    if (fsync(fd) != 0)
        status = open_file_failed(error, errno, path);
    close(fd);
    return status;
}
