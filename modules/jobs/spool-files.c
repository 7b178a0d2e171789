/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crash-point.h"
#include "modules/jobs/spool-private.h"

enum { FILE_NAME_SIZE = 9 };
static const char what_file[] = "document file";

static void file_name(uint32_t number, char name[FILE_NAME_SIZE])
{
    snprintf(name, FILE_NAME_SIZE, "%08x", (unsigned)number);
}

static imp_status files_sync_folder(struct spool *spool, imp_error *error)
{
    return fsync(spool->documents) == 0 ? IMP_OK
                                        : spool_io_failed(error, errno, "folder of documents");
}

/* Opens past the cache where the file system can; tmpfs and some others can't. */
static int file_open_direct(struct spool *spool, const char *name, int flags)
{
    flags |= O_CLOEXEC | O_NOFOLLOW;
    int fd = openat(spool->documents, name, flags | O_DIRECT, 0600);
    if (fd == -1 && errno == EINVAL)
        fd = openat(spool->documents, name, flags, 0600);
    return fd;
}

imp_status spool_files_open(struct spool *spool, uint32_t number, bool is_writing, int *fd,
                            imp_error *error)
{
    char name[FILE_NAME_SIZE];

    file_name(number, name);
    *fd = file_open_direct(spool, name, is_writing ? O_RDWR : O_RDONLY);
    if (*fd == -1 && errno == ENOENT)
        return imp_error_set(error, IMP_CORRUPT, "document file %s is missing", name);
    return *fd == -1 ? spool_io_failed(error, errno, what_file) : IMP_OK;
}

/* Makes a file with its first extent; its entry is not yet synced. */
static imp_status file_make(struct spool *spool, uint32_t number, int *fd, imp_error *error)
{
    char name[FILE_NAME_SIZE];

    file_name(number, name);
    *fd = file_open_direct(spool, name, O_RDWR | O_CREAT);
    if (*fd == -1)
        return spool_io_failed(error, errno, what_file);
    imp_status status =
        spool_io_reserve(spool->io, *fd, 0, (uint64_t)spool->file_extent, what_file, error);
    if (status != IMP_OK) {
        close(*fd);
        *fd = -1;
        /* An empty file takes no space and will do when there is some again. */
    }
    return status;
}

/* ---- numbers at hand ---- */

static bool files_is_leased(const struct spool_files *files, uint32_t chunk)
{
    return chunk < files->leased_chunks && (files->leased[chunk / 8] & 1u << chunk % 8) != 0;
}

static bool files_note_lease(struct spool_files *files, uint32_t chunk)
{
    if (chunk >= files->leased_chunks) {
        uint32_t chunks = (chunk / 512 + 1) * 512;
        uint8_t *leased = realloc(files->leased, chunks / 8);
        if (leased == NULL)
            return false;
        memset(leased + files->leased_chunks / 8, 0, (chunks - files->leased_chunks) / 8);
        files->leased = leased;
        files->leased_chunks = chunks;
    }
    files->leased[chunk / 8] |= (uint8_t)(1u << chunk % 8);
    return true;
}

/* Takes the free numbers of the next chunk that no other generation has. Under `lease`. */
static imp_status files_load(struct spool *spool, imp_error *error)
{
    struct spool_files *files = &spool->files;
    uint8_t bitmap[SPOOL_BITMAP];
    char name[FILE_NAME_SIZE];
    bool is_kept = true;

    while (!spool_lease_take(spool, SPOOL_LEASE_FILES, files->next_chunk)) {
        if (files->next_chunk >= UINT32_MAX / SPOOL_CHUNK - 1)
            return imp_error_set(error, IMP_LIMIT, "spool: no file number is free");
        files->next_chunk++;
    }
    uint32_t chunk = files->next_chunk;
    imp_status status = spool_chunk_get(spool, spool->table_file, chunk, bitmap, error);
    if (status != IMP_OK) {
        spool_lease_give(spool, SPOOL_LEASE_FILES, chunk);
        return status;
    }
    pthread_mutex_lock(&files->lock);
    is_kept = files_note_lease(files, chunk);
    for (uint32_t i = SPOOL_CHUNK; i-- > 0 && is_kept;) {
        if ((bitmap[i / 8] & 1u << i % 8) != 0)
            continue;
        uint32_t number = chunk * SPOOL_CHUNK + i;
        file_name(number, name);
        bool is_there = faccessat(spool->documents, name, F_OK, 0) == 0;
        is_kept = spool_numbers_push(is_there ? &files->made : &files->bare, number);
    }
    pthread_mutex_unlock(&files->lock);
    files->next_chunk++;
    return is_kept ? IMP_OK : imp_error_set(error, IMP_LIMIT, "spool: out of memory");
}

static bool files_pop(struct spool_files *files, struct spool_numbers *numbers, uint32_t *number)
{
    pthread_mutex_lock(&files->lock);
    bool is_there = numbers->count > 0;
    if (is_there)
        *number = numbers->items[--numbers->count];
    pthread_mutex_unlock(&files->lock);
    return is_there;
}

static bool files_push(struct spool_files *files, struct spool_numbers *numbers, uint32_t number)
{
    pthread_mutex_lock(&files->lock);
    bool is_kept =
        files_is_leased(files, number / SPOOL_CHUNK) && spool_numbers_push(numbers, number);
    pthread_mutex_unlock(&files->lock);
    return is_kept;
}

/* A number whose file is yet to be made. Under `lease`. */
static imp_status files_pop_bare(struct spool *spool, uint32_t *number, imp_error *error)
{
    while (!files_pop(&spool->files, &spool->files.bare, number)) {
        imp_status status = files_load(spool, error);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}

imp_status spool_files_take(struct spool *spool, uint32_t *number, int *fd, imp_error *error)
{
    struct spool_files *files = &spool->files;
    imp_status status;

    *fd = -1;
    while (files_pop(files, &files->made, number)) {
        char name[FILE_NAME_SIZE];
        file_name(*number, name);
        *fd = file_open_direct(spool, name, O_RDWR);
        if (*fd != -1)
            return IMP_OK;
        int reason = errno;
        status = spool_io_failed(error, reason, what_file);
        /* Somebody removed it: it is made anew, later. */
        if (reason != ENOENT || !files_push(files, &files->bare, *number))
            return status;
    }
    /* None was made ahead of need: then it costs this document its time. */
    pthread_mutex_lock(&files->lease);
    status = files_pop_bare(spool, number, error);
    pthread_mutex_unlock(&files->lease);
    if (status != IMP_OK)
        return status;
    status = file_make(spool, *number, fd, error);
    if (status == IMP_OK)
        status = files_sync_folder(spool, error);
    if (status != IMP_OK) {
        if (*fd != -1)
            close(*fd);
        *fd = -1;
        (void)files_push(files, &files->bare, *number);
    }
    return status;
}

void spool_files_give(struct spool *spool, uint32_t number)
{
    /* When memory is short it is found again by the next start. */
    (void)files_push(&spool->files, &spool->files.made, number);
}

void spool_files_trim(struct spool *spool, uint32_t number)
{
    char name[FILE_NAME_SIZE];
    struct stat info;

    /* The key is gone already; what fails here costs space only, until the file's next document. */
    file_name(number, name);
    if (fstatat(spool->documents, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        info.st_size <= spool->file_extent)
        return;
    int fd = openat(spool->documents, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd == -1)
        return;
    if (ftruncate(fd, (off_t)spool->file_extent) != 0)
        imp_log_limited(spool->self, 10000, IMP_LOG_WARNING, "spool.trim-failed", "file=%s", name);
    close(fd);
}

/* ---- ahead of need ---- */

/* Files and slots may take what the reserve leaves, but not make a small disk full of nothing. */
static bool files_have_room(struct spool *spool)
{
    struct spool_space space;
    spool_space(spool, &space);
    return space.free_bytes / 4 > (uint64_t)spool->file_extent;
}

static imp_status files_fill(struct spool *spool, imp_error *error)
{
    struct spool_files *files = &spool->files;
    struct spool_numbers fresh = {0};
    imp_status status = IMP_OK;

    for (;;) {
        uint32_t number = 0;
        int fd = -1;
        pthread_mutex_lock(&files->lock);
        size_t count = files->made.count + fresh.count;
        pthread_mutex_unlock(&files->lock);
        if (count >= (size_t)spool->files_ahead || !files_have_room(spool))
            break;
        pthread_mutex_lock(&files->lease);
        status = files_pop_bare(spool, &number, error);
        pthread_mutex_unlock(&files->lease);
        if (status == IMP_OK)
            status = file_make(spool, number, &fd, error);
        if (fd != -1)
            close(fd);
        if (status != IMP_OK || !spool_numbers_push(&fresh, number)) {
            (void)files_push(files, &files->bare, number);
            break;
        }
    }
    IMP_CRASH_POINT("spool.files-made");
    if (fresh.count > 0) {
        imp_status synced = files_sync_folder(spool, error);
        status = status == IMP_OK ? synced : status;
        for (size_t i = fresh.count; i-- > 0;)
            (void)files_push(files, synced == IMP_OK ? &files->made : &files->bare, fresh.items[i]);
    }
    free(fresh.items);
    return status;
}

static void files_prepare_run(struct spool_task *task)
{
    imp_error error;
    if (files_fill(task->spool, &error) != IMP_OK)
        imp_log_limited(task->spool->self, 10000, IMP_LOG_WARNING, "spool.no-files",
                        "reason=\"%s\"", error.message);
}

static void files_prepare_done(struct spool_task *task, bool was_cancelled)
{
    struct spool_files *files = &task->spool->files;

    (void)was_cancelled;
    pthread_mutex_lock(&files->lock);
    files->is_preparing = false;
    pthread_mutex_unlock(&files->lock);
}

void spool_files_prepare(struct spool *spool)
{
    struct spool_files *files = &spool->files;

    pthread_mutex_lock(&files->lock);
    bool is_due = !files->is_preparing && files->made.count < (size_t)spool->files_ahead / 2 + 1;
    if (is_due)
        files->is_preparing = true;
    pthread_mutex_unlock(&files->lock);
    if (!is_due)
        return;
    files->task =
        (struct spool_task){.spool = spool, .run = files_prepare_run, .done = files_prepare_done};
    spool_task_start(&files->task);
}

imp_status spool_files_start(struct spool *spool, imp_error *error)
{
    /* Entries that a killed process made are in the cache, and not yet known to be on disk. */
    imp_status status = files_sync_folder(spool, error);
    if (status == IMP_OK)
        status = files_load(spool, error);
    return status;
}

void spool_files_end(struct spool *spool)
{
    free(spool->files.made.items);
    free(spool->files.bare.items);
    free(spool->files.leased);
    pthread_mutex_destroy(&spool->files.lock);
    pthread_mutex_destroy(&spool->files.lease);
}
