/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stall-write.c - preloaded by tests: writing to a file whose name ends in "-stalls" never returns, as on
 * a network file system whose server is gone.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char marked[] = "-stalls";
#define MARKED_LENGTH (sizeof marked - 1)

static bool is_marked(const char *path, size_t length)
{
    return length >= MARKED_LENGTH &&
           memcmp(path + length - MARKED_LENGTH, marked, MARKED_LENGTH) == 0;
}

ssize_t write(int fd, const void *data, size_t length)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    while (size > 0 && is_marked(path, (size_t)size))
        (void)pause();
    return syscall(SYS_write, fd, data, length);
}
