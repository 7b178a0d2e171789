/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync-shim.c - preloaded into the server by the benches: counts what it makes durable, and can make
 * that as slow as on a disk that really writes.
 *
 * Unlike strace it costs next to nothing, so the server collects as many jobs a commit as without it.
 *
 * Environment: IMPRIMATUR_SYNC_COUNTS names a file of two 64-bit numbers, mapped by all processes: sync calls,
 * and writes that are synced by themselves (O_DSYNC; LMDB writes its meta page so).
 * IMPRIMATUR_SYNC_MS: how long each of both takes at least, in milliseconds.
 */
#define _GNU_SOURCE
/* The names below are those of the C library, for 64-bit offsets and without: as they are. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct counts {
    _Atomic uint64_t calls, durable_writes;
};

static struct counts own_counts, *counts = &own_counts;
static int64_t least_ns;

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_syncfs)(int);
static int (*real_msync)(void *, size_t, int);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static ssize_t (*real_pwritev64)(int, const struct iovec *, int, off64_t);
static ssize_t (*real_pwritev64v2)(int, const struct iovec *, int, off64_t, int);

/* POSIX lets a function pointer come out of dlsym, ISO C has no words for it. */
__extension__ static void *find(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

static void resolve(void)
{
    real_fsync = find("fsync");
    real_fdatasync = find("fdatasync");
    real_syncfs = find("syncfs");
    real_msync = find("msync");
    real_pwrite64 = find("pwrite64");
    real_pwritev64 = find("pwritev64");
    real_pwritev64v2 = find("pwritev64v2");
}

/* Other libraries' constructors may come before ours. */
#define REAL(name) (real_pwritev64v2 == NULL ? resolve() : (void)0, real_##name)

__attribute__((constructor)) static void shim_begin(void)
{
    const char *file = getenv("IMPRIMATUR_SYNC_COUNTS"), *least = getenv("IMPRIMATUR_SYNC_MS");
    if (least != NULL)
        least_ns = strtol(least, NULL, 10) * INT64_C(1000000);
    int fd = file == NULL ? -1 : open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        counts = mapped;
}

static struct timespec begin(void)
{
    struct timespec now = {0};
    if (least_ns > 0)
        clock_gettime(CLOCK_MONOTONIC, &now);
    return now;
}

/* Sleeps until the call that began then has taken its least time; errno stays. */
static void end(struct timespec began)
{
    int saved = errno;
    if (least_ns > 0) {
        int64_t at = began.tv_nsec + least_ns;
        struct timespec until = {.tv_sec = began.tv_sec + (time_t)(at / 1000000000),
                                 .tv_nsec = (long)(at % 1000000000)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
            continue;
    }
    errno = saved;
}

/* ---- syncs ---- */

#define SYNC(call)                                                                                 \
    struct timespec began = begin();                                                               \
    atomic_fetch_add(&counts->calls, 1);                                                           \
    int result = (call);                                                                           \
    end(began);                                                                                    \
    return result

int fsync(int fd)
{
    SYNC(REAL(fsync)(fd));
}

int fdatasync(int fd)
{
    SYNC(REAL(fdatasync)(fd));
}

int syncfs(int fd)
{
    SYNC(REAL(syncfs)(fd));
}

int msync(void *start, size_t length, int flags)
{
    SYNC(REAL(msync)(start, length, flags));
}

/* ---- writes that are synced by themselves: all are to places in files, none appends ---- */

static bool is_durable(int fd, int write_flags)
{
    if ((write_flags & (RWF_DSYNC | RWF_SYNC)) != 0)
        return true;
    int saved = errno, flags = fcntl(fd, F_GETFL);
    errno = saved;
    return flags >= 0 && (flags & O_DSYNC) != 0;
}

#define WRITE(fd, flags, call)                                                                     \
    if (!is_durable(fd, flags))                                                                    \
        return (call);                                                                             \
    struct timespec began = begin();                                                               \
    atomic_fetch_add(&counts->durable_writes, 1);                                                  \
    ssize_t written = (call);                                                                      \
    end(began);                                                                                    \
    return written

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    WRITE(fd, 0, REAL(pwrite64)(fd, data, length, offset));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    WRITE(fd, 0, REAL(pwrite64)(fd, data, length, offset));
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    WRITE(fd, 0, REAL(pwritev64)(fd, parts, count, offset));
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    WRITE(fd, 0, REAL(pwritev64)(fd, parts, count, offset));
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    WRITE(fd, flags, REAL(pwritev64v2)(fd, parts, count, offset, flags));
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    WRITE(fd, flags, REAL(pwritev64v2)(fd, parts, count, offset, flags));
}
