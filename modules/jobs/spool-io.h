/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-io.h - the system calls that move the spool's bytes, behind one table so that tests can make
 * the Nth of them fail.
 */
#ifndef JOBS_SPOOL_IO_H
#define JOBS_SPOOL_IO_H

#include <imprimatur/base.h>
#include <sys/types.h>

struct spool_io {
    ssize_t (*pwrite)(int fd, const void *data, size_t length, off_t offset);
    ssize_t (*pread)(int fd, void *data, size_t length, off_t offset);
    int (*fdatasync)(int fd);
    int (*fallocate)(int fd, int mode, off_t offset, off_t length);
};

extern const struct spool_io spool_io_system;

/* What a file that can't be opened, made or renamed means, with a sentence: IMP_NO_SPACE; IMP_DENIED or
 * IMP_INVALID where the path or its rights are wrong, which no new try mends; else IMP_IO. */
imp_status spool_io_failed(imp_error *error, int error_number, const char *what);
/* Writes all of it, over short writes and signals. A file system that refuses direct I/O at this
 * alignment gets the rest through its cache. */
imp_status spool_io_write(const struct spool_io *io, int fd, const void *data, size_t length,
                          uint64_t offset, const char *what, imp_error *error);
/* Reads up to `length`; *got is less at the end of the file only. */
imp_status spool_io_read(const struct spool_io *io, int fd, void *data, size_t length,
                         uint64_t offset, size_t *got, const char *what, imp_error *error);
imp_status spool_io_sync(const struct spool_io *io, int fd, const char *what, imp_error *error);
/* Reserves disk space; the file grows. Where the file system can't, the space comes with the
 * writes. */
imp_status spool_io_reserve(const struct spool_io *io, int fd, uint64_t offset, uint64_t length,
                            const char *what, imp_error *error);
/* Makes the entries of a folder durable. */
imp_status spool_io_sync_folder(const char *path, imp_error *error);

#endif
