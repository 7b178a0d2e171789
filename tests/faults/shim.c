/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.c - preloaded into the server by the fault tests: records what is written and synced below
 * one folder, in order and with content, and makes one call fail.
 *
 * A record is made when its call has ended, and says by two numbers of one sequence when it began and
 * when it ended: a sync covers what had ended before it began, and what has begun and not ended at a
 * power cut may be on the disk in part.
 */
#define _GNU_SOURCE
/* The names below are those of the C library, for 64-bit offsets and without: as they are. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "shim-log.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SAY_MAX 16u /* bytes to a socket that are recorded: answers, not documents */
#define PATH_SIZE 1024u

static struct shim_control *control;
static bool is_recording, is_server, syncs_nothing;
static char root[PATH_SIZE];
static size_t root_length;

/* ---- the functions behind ---- */

/* POSIX lets a function pointer come out of dlsym, ISO C has no words for it. */
__extension__ static void *find(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev64)(int, const struct iovec *, int, off64_t);
static ssize_t (*real_send)(int, const void *, size_t, int);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_syncfs)(int);
static int (*real_ftruncate64)(int, off64_t);
static int (*real_fallocate64)(int, int, off64_t, off64_t);
static int (*real_openat64)(int, const char *, int, ...);
static int (*real_renameat2)(int, const char *, int, const char *, unsigned);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_mkdirat)(int, const char *, mode_t);

static void resolve(void)
{
    real_writev = find("writev");
    real_pwritev64 = find("pwritev64");
    real_send = find("send");
    real_sendmsg = find("sendmsg");
    real_fsync = find("fsync");
    real_fdatasync = find("fdatasync");
    real_syncfs = find("syncfs");
    real_ftruncate64 = find("ftruncate64");
    real_fallocate64 = find("fallocate64");
    real_openat64 = find("openat64");
    real_renameat2 = find("renameat2");
    real_unlinkat = find("unlinkat");
    real_mkdirat = find("mkdirat");
}

/* Other libraries' constructors may come before ours. */
#define REAL(name) (real_mkdirat == NULL ? resolve() : (void)0, real_##name)

__attribute__((constructor)) static void shim_begin(void)
{
    const char *file = getenv("IMPRIMATUR_SHIM_FILE");
    const char *folder = getenv("IMPRIMATUR_SHIM_ROOT");
    const char *record = getenv("IMPRIMATUR_SHIM_RECORD");
    char words[4096];
    if (file == NULL || folder == NULL || strlen(folder) >= sizeof root)
        return;
    int fd = REAL(openat64)(AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mapped =
        mmap(NULL, SHIM_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED)
        return;
    root_length = strlen(folder);
    memcpy(root, folder, root_length);
    is_recording = record != NULL && record[0] == '1';
    syncs_nothing = getenv("IMPRIMATUR_SHIM_NO_SYNC") != NULL;
    fd = REAL(openat64)(AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, words, sizeof words);
    close(fd);
    is_server = length > 0 && memmem(words, (size_t)length, "--role=server", 13) != NULL;
    control = mapped;
}

/* ---- records ---- */

static uint64_t tick(void)
{
    return atomic_fetch_add(&control->sequence, 1);
}

static bool is_below_root(const char *path)
{
    return strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == '\0');
}

static void path_of(int fd, char path[PATH_SIZE])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_SIZE - 1);
    path[length < 0 ? 0 : length] = '\0';
}

static void path_at(int folder, const char *name, char path[PATH_SIZE])
{
    char above[PATH_SIZE] = "";
    if (name[0] == '/' || folder == AT_FDCWD) {
        snprintf(path, PATH_SIZE, "%s", name);
        return;
    }
    path_of(folder, above);
    if (strlen(above) + strlen(name) + 2 > PATH_SIZE)
        abort();
    memcpy(path, above, strlen(above));
    path[strlen(above)] = '/';
    memcpy(path + strlen(above) + 1, name, strlen(name) + 1);
}

/* What a descriptor is, when it is a file or folder below the root. */
struct target {
    uint64_t inode;
    bool is_durable;
    char path[PATH_SIZE];
};

static bool target_of(int fd, struct target *target)
{
    struct stat64 about;
    int saved = errno;
    bool is_ours = control != NULL && fstat64(fd, &about) == 0 &&
                   (S_ISREG(about.st_mode) || S_ISDIR(about.st_mode));
    if (is_ours) {
        path_of(fd, target->path);
        is_ours = is_below_root(target->path);
    }
    if (is_ours) {
        int flags = fcntl(fd, F_GETFL);
        target->inode = about.st_ino;
        target->is_durable = flags >= 0 && (flags & O_DSYNC) != 0 && !syncs_nothing;
    }
    errno = saved;
    return is_ours;
}

static bool is_zero(const struct iovec *parts, int count)
{
    for (int i = 0; i < count; i++) {
        const unsigned char *bytes = parts[i].iov_base;
        size_t length = parts[i].iov_len;
        if (length > 0 && (bytes[0] != 0 || memcmp(bytes, bytes + 1, length - 1) != 0))
            return false;
    }
    return true;
}

/* Writes a record; `limit` bytes of the parts count. */
static void note(struct shim_record record, const char *path, const struct iovec *parts, int count,
                 size_t limit)
{
    if (!is_recording)
        return;
    record.end = tick();
    record.path_length = (uint32_t)strlen(path);
    record.data_length = (uint32_t)limit;
    record.length =
        (uint32_t)((sizeof record + record.path_length + record.data_length + 7) & ~(size_t)7);
    uint64_t at = atomic_fetch_add(&control->used, record.length);
    if (SHIM_CONTROL_SIZE + at + record.length > SHIM_FILE_SIZE)
        abort();
    char *to = (char *)control + SHIM_CONTROL_SIZE + at;
    memcpy(to, &record, sizeof record);
    to += sizeof record;
    memcpy(to, path, record.path_length);
    to += record.path_length;
    for (int i = 0; i < count && limit > 0; i++) {
        size_t length = parts[i].iov_len < limit ? parts[i].iov_len : limit;
        memcpy(to, parts[i].iov_base, length);
        to += length;
        limit -= length;
    }
}

/* ---- failing ---- */

static bool is_to_fail(uint32_t kind)
{
    if (control == NULL || !is_server || (atomic_load(&control->kinds) & kind) == 0)
        return false;
    int64_t left = atomic_load(&control->countdown);
    while (left > 0)
        if (atomic_compare_exchange_weak(&control->countdown, &left, left - 1))
            break;
    if (left != 1)
        return false;
    atomic_fetch_add(&control->hits, 1);
    errno = atomic_load(&control->error);
    return true;
}

/* ---- writing ---- */

static size_t total_of(const struct iovec *parts, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    return total;
}

/* Half of it, in whole sectors where there are any: direct I/O takes nothing else. */
static size_t half_of(size_t length)
{
    size_t half = length / 2;
    return half >= 4096 ? half & ~(size_t)4095 : half >= 512 ? half & ~(size_t)511 : half;
}

/* offset -1: at the descriptor's own. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return offset < 0 ? REAL(writev)(fd, parts, count) : REAL(pwritev64)(fd, parts, count, offset);
}

static ssize_t write_file(int fd, const struct target *target, const struct iovec *parts, int count,
                          off64_t offset)
{
    struct shim_record record = {.kind = SHIM_WRITE,
                                 .flags = target->is_durable ? SHIM_DURABLE : 0,
                                 .begin = tick(),
                                 .inode = target->inode};
    ssize_t written;
    if (is_to_fail(SHIM_FAIL_WRITE)) {
        if (errno != SHIM_ERRNO_SHORT)
            return -1;
        struct iovec first = {parts[0].iov_base, half_of(parts[0].iov_len)};
        if (first.iov_len == 0) {
            errno = ENOSPC;
            return -1;
        }
        written = write_parts(fd, &first, 1, offset);
    } else {
        written = write_parts(fd, parts, count, offset);
    }
    if (written <= 0)
        return written;
    int saved = errno;
    off64_t end = offset < 0 ? lseek64(fd, 0, SEEK_CUR) : offset + written;
    record.offset = (uint64_t)(end - written);
    record.size = (uint64_t)written;
    bool is_whole = (size_t)written == total_of(parts, count);
    note(record, target->path, parts, count,
         is_whole && is_zero(parts, count) ? 0 : (size_t)written);
    errno = saved;
    return written;
}

/* Few bytes to a TCP peer are an answer: noted before they go out. */
static void say(int fd, const struct iovec *parts, int count)
{
    size_t total = total_of(parts, count);
    struct sockaddr_in6 peer = {0};
    socklen_t length = sizeof peer;
    int saved = errno;
    if (control != NULL && is_recording && is_server && total > 0 && total <= SAY_MAX &&
        getpeername(fd, (struct sockaddr *)&peer, &length) == 0 &&
        (peer.sin6_family == AF_INET || peer.sin6_family == AF_INET6)) {
        /* the port lies at the same place in both families */
        struct shim_record record = {
            .kind = SHIM_SAY, .begin = tick(), .inode = ntohs(peer.sin6_port)};
        note(record, "", parts, count, total);
    }
    errno = saved;
}

static ssize_t write_any(int fd, const struct iovec *parts, int count, off64_t offset)
{
    struct target target;
    if (target_of(fd, &target))
        return write_file(fd, &target, parts, count, offset);
    if (offset < 0)
        say(fd, parts, count);
    return write_parts(fd, parts, count, offset);
}

static struct iovec one(const void *data, size_t length)
{
    return (struct iovec){(void *)(uintptr_t)data, length};
}

ssize_t write(int fd, const void *data, size_t length)
{
    struct iovec part = one(data, length);
    return write_any(fd, &part, 1, -1);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    struct iovec part = one(data, length);
    return write_any(fd, &part, 1, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return pwrite64(fd, data, length, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_any(fd, parts, count, -1);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return write_any(fd, parts, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_any(fd, parts, count, offset);
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
    struct iovec part = one(data, length);
    say(fd, &part, 1);
    return REAL(send)(fd, data, length, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    say(fd, message->msg_iov, (int)message->msg_iovlen);
    return REAL(sendmsg)(fd, message, flags);
}

/* ---- syncing ---- */

static int sync_any(int fd, int (*real)(int))
{
    struct target target;
    if (!target_of(fd, &target))
        return real(fd);
    if (syncs_nothing)
        return 0;
    struct shim_record record = {.kind = SHIM_SYNC, .begin = tick(), .inode = target.inode};
    if (is_to_fail(SHIM_FAIL_SYNC)) {
        if (errno == SHIM_ERRNO_SHORT)
            errno = EIO;
        return -1;
    }
    int result = real(fd);
    if (result == 0)
        note(record, target.path, NULL, 0, 0);
    return result;
}

int fsync(int fd)
{
    return sync_any(fd, REAL(fsync));
}

int fdatasync(int fd)
{
    return sync_any(fd, REAL(fdatasync));
}

int syncfs(int fd)
{
    if (control == NULL)
        return REAL(syncfs)(fd);
    struct shim_record record = {.kind = SHIM_SYNC_ALL, .begin = tick()};
    int result = REAL(syncfs)(fd);
    if (result == 0)
        note(record, "", NULL, 0, 0);
    return result;
}

/* ---- sizes ---- */

int ftruncate64(int fd, off64_t size)
{
    struct target target;
    if (!target_of(fd, &target))
        return REAL(ftruncate64)(fd, size);
    struct shim_record record = {
        .kind = SHIM_TRUNCATE, .begin = tick(), .inode = target.inode, .offset = (uint64_t)size};
    if (is_to_fail(SHIM_FAIL_SPACE)) {
        if (errno == SHIM_ERRNO_SHORT)
            errno = ENOSPC;
        return -1;
    }
    int result = REAL(ftruncate64)(fd, size);
    if (result == 0)
        note(record, target.path, NULL, 0, 0);
    return result;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    struct target target;
    if (!target_of(fd, &target))
        return REAL(fallocate64)(fd, mode, offset, length);
    struct shim_record record = {.kind = SHIM_ALLOCATE,
                                 .begin = tick(),
                                 .inode = target.inode,
                                 .offset = (uint64_t)offset,
                                 .size = (uint64_t)length};
    if (is_to_fail(SHIM_FAIL_SPACE)) {
        if (errno == SHIM_ERRNO_SHORT)
            errno = ENOSPC;
        return -1;
    }
    int result = REAL(fallocate64)(fd, mode, offset, length);
    if (result == 0 && mode == 0)
        note(record, target.path, NULL, 0, 0);
    return result;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return fallocate64(fd, mode, offset, length);
}

/* ---- names ---- */

static int open_any(int folder, const char *name, int flags, mode_t mode)
{
    char path[PATH_SIZE] = "";
    bool is_ours = false, was_there = true;
    int saved = errno;
    if (control != NULL) {
        path_at(folder, name, path);
        is_ours = is_below_root(path);
        was_there = is_ours && faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    }
    errno = saved;
    if (!is_ours)
        return REAL(openat64)(folder, name, flags, mode);
    struct shim_record record = {.begin = tick()};
    if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) != 0 && is_to_fail(SHIM_FAIL_OPEN)) {
        if (errno == SHIM_ERRNO_SHORT)
            errno = EMFILE;
        return -1;
    }
    int fd = REAL(openat64)(folder, name, flags, mode);
    struct stat64 about;
    saved = errno;
    if (fd >= 0 && fstat64(fd, &about) == 0) {
        record.inode = about.st_ino;
        if (!was_there && (flags & O_CREAT) != 0) {
            record.kind = SHIM_CREATE;
            note(record, path, NULL, 0, 0);
        } else if ((flags & O_TRUNC) != 0) {
            record.kind = SHIM_TRUNCATE;
            note(record, path, NULL, 0, 0);
        }
    }
    errno = saved;
    return fd;
}

#define MODE_OF(flags, last)                                                                       \
    mode_t mode = 0;                                                                               \
    if (((flags)&O_CREAT) != 0 || ((flags)&O_TMPFILE) == O_TMPFILE) {                              \
        va_list more;                                                                              \
        va_start(more, last);                                                                      \
        mode = va_arg(more, mode_t);                                                               \
        va_end(more);                                                                              \
    }

int open(const char *name, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_any(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_any(AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char *name, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_any(folder, name, flags, mode);
}

int openat64(int folder, const char *name, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_any(folder, name, flags, mode);
}

/* What fortified programs call when no mode is given. */
int __open_2(const char *name, int flags);
int __open64_2(const char *name, int flags);
int __openat_2(int folder, const char *name, int flags);
int __openat64_2(int folder, const char *name, int flags);

int __open_2(const char *name, int flags)
{
    return open_any(AT_FDCWD, name, flags, 0);
}

int __open64_2(const char *name, int flags)
{
    return open_any(AT_FDCWD, name, flags, 0);
}

int __openat_2(int folder, const char *name, int flags)
{
    return open_any(folder, name, flags, 0);
}

int __openat64_2(int folder, const char *name, int flags)
{
    return open_any(folder, name, flags, 0);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    char from_path[PATH_SIZE] = "", to_path[PATH_SIZE] = "";
    if (control == NULL)
        return REAL(renameat2)(from_folder, from, to_folder, to, flags);
    path_at(from_folder, from, from_path);
    path_at(to_folder, to, to_path);
    if (!is_below_root(from_path) && !is_below_root(to_path))
        return REAL(renameat2)(from_folder, from, to_folder, to, flags);
    struct shim_record record = {.kind = SHIM_RENAME, .begin = tick()};
    struct iovec part = one(to_path, strlen(to_path));
    if (is_to_fail(SHIM_FAIL_RENAME)) {
        if (errno == SHIM_ERRNO_SHORT)
            errno = EIO;
        return -1;
    }
    int result = REAL(renameat2)(from_folder, from, to_folder, to, flags);
    if (result == 0)
        note(record, from_path, &part, 1, part.iov_len);
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
    char path[PATH_SIZE] = "";
    if (control == NULL)
        return REAL(unlinkat)(folder, name, flags);
    path_at(folder, name, path);
    struct shim_record record = {.kind = SHIM_UNLINK, .begin = tick()};
    int result = REAL(unlinkat)(folder, name, flags);
    if (result == 0 && is_below_root(path))
        note(record, path, NULL, 0, 0);
    return result;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    char path[PATH_SIZE] = "";
    if (control == NULL)
        return REAL(mkdirat)(folder, name, mode);
    path_at(folder, name, path);
    struct shim_record record = {.kind = SHIM_MKDIR, .begin = tick()};
    int result = REAL(mkdirat)(folder, name, mode);
    if (result == 0 && is_below_root(path))
        note(record, path, NULL, 0, 0);
    return result;
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}
