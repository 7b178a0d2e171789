/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "modules/jobs/spool-private.h"

/* ---- the file systems ---- */

/* Where overwriting a slot leaves the old one lying about. */
static const struct {
    unsigned long magic;
    const char *name;
    bool obeys_nocow; /* files made with FS_NOCOW_FL are overwritten in place */
} copying_file_systems[] = {
    {BTRFS_SUPER_MAGIC, "btrfs", true}, {0x2fc12fc1UL, "ZFS", false},
    {0xca451a4eUL, "bcachefs", false},  {OVERLAYFS_SUPER_MAGIC, "overlayfs", false},
    {0x3434UL, "NILFS", false},         {F2FS_SUPER_MAGIC, "F2FS", false},
};

/* Says what the file system of the key pool can't promise. */
static void check_overwriting(struct spool *spool)
{
    struct statfs info;
    int flags = 0;

    if (fstatfs(spool->keys.fd, &info) != 0)
        return;
    for (size_t i = 0; i < sizeof copying_file_systems / sizeof copying_file_systems[0]; i++) {
        if ((unsigned long)info.f_type != copying_file_systems[i].magic)
            continue;
        if (copying_file_systems[i].obeys_nocow &&
            ioctl(spool->keys.fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) != 0) {
            snprintf(spool->warning, sizeof spool->warning,
                     "key pool on %s, made to be overwritten in place; a snapshot taken before a "
                     "deletion keeps the key",
                     copying_file_systems[i].name);
            break;
        }
        snprintf(spool->warning, sizeof spool->warning,
                 "key pool on %s, which does not overwrite in place: deleted documents may be "
                 "readable to who has the disk and the master key; put setting key_pool on another "
                 "medium",
                 copying_file_systems[i].name);
        break;
    }
    if (spool->warning[0] != '\0')
        imp_log(spool->self, IMP_LOG_WARNING, "spool.key-pool-copied", "reason=\"%s\"",
                spool->warning);
}

void spool_space(struct spool *spool, struct spool_space *space)
{
    struct statvfs info;

    *space = (struct spool_space){0};
    int64_t promised = spool->promised, reserve = spool->reserve;
    if (fstatvfs(spool->documents, &info) != 0)
        return;
    uint64_t kept = (uint64_t)(promised > 0 ? promised : 0) + (uint64_t)reserve;
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    space->free_bytes = free_bytes > kept ? free_bytes - kept : 0;
    space->promised_bytes = (uint64_t)(promised > 0 ? promised : 0);
    space->total_bytes = (uint64_t)info.f_blocks * info.f_frsize;
}

const char *spool_warning(const struct spool *spool)
{
    return spool->warning;
}

/* ---- opening ---- */

/* The timer goes with the generation, before the spool is closed. */
static void trim_due(void *arg)
{
    struct spool *spool = arg;
    spool_buffers_trim(&spool->buffers, SPOOL_BUFFER_IDLE);
}

/* A folder of ours, made when it is not there. Its file system is asked to overwrite in place. */
static imp_status folder_open(const char *path, int *fd, imp_error *error)
{
    int flags = 0;
    bool is_new = mkdir(path, 0700) == 0;

    *fd = -1;
    if (!is_new && errno != EEXIST)
        return spool_io_failed(error, errno, path);
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd == -1)
        return spool_io_failed(error, errno, path);
    if (is_new && ioctl(*fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(*fd, FS_IOC_SETFLAGS, &flags);
    }
    return IMP_OK;
}

static imp_status open_folders(struct spool *spool, const char *state, imp_error *error)
{
    char *path = NULL;
    int folder;

    if (asprintf(&spool->folder, "%s/spool", state) < 0) {
        spool->folder = NULL;
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    }
    imp_status status = folder_open(spool->folder, &folder, error);
    if (status != IMP_OK)
        return status;
    spool->lock_file = openat(folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    status = spool->lock_file == -1 ? spool_io_failed(error, errno, "spool/lock") : IMP_OK;
    if (status == IMP_OK && asprintf(&path, "%s/doc", spool->folder) < 0) {
        path = NULL;
        status = imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    }
    if (status == IMP_OK)
        status = folder_open(path, &spool->documents, error);
    if (status == IMP_OK && fsync(folder) != 0)
        status = spool_io_failed(error, errno, spool->folder);
    if (status == IMP_OK)
        status = spool_io_sync_folder(state, error);
    close(folder);
    free(path);
    return status;
}

/* A pool that is not there is made, but never while documents need the one that was: a medium that is
 * not mounted would cost them all. A restored store has no slots in use, so it gets a new one. */
static imp_status check_pool_is_there(struct spool *spool, const char *path, imp_error *error)
{
    imp_tx *tx = NULL;
    imp_cursor *cursor = NULL;
    imp_bytes key, bitmap;
    bool is_needed = false;

    if (access(path, F_OK) == 0 || errno != ENOENT)
        return IMP_OK;
    imp_status status = imp_store_read_begin(spool->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = imp_cursor_open(tx, spool->table_slot, (imp_bytes){NULL, 0}, &cursor);
    while (status == IMP_OK && !is_needed) {
        status = imp_cursor_next(cursor, &key, &bitmap);
        for (size_t i = 0; status == IMP_OK && i < bitmap.length; i++)
            is_needed = is_needed || ((const uint8_t *)bitmap.data)[i] != 0;
    }
    if (cursor != NULL)
        imp_cursor_close(cursor);
    imp_store_read_end(tx);
    if (is_needed)
        return imp_error_set(error, IMP_NOT_FOUND,
                             "the key pool %s is missing and documents need it: put it back, or "
                             "restore a backup if it is lost",
                             path);
    return status == IMP_OK || status == IMP_NOT_FOUND
               ? IMP_OK
               : imp_error_set(error, status, "spool: the numbers in use can't be read");
}

static imp_status open_keys(struct spool *spool, const char *setting, imp_error *error)
{
    static const char purpose[] = "key pool";
    uint8_t mac_key[KEY_POOL_MAC_KEY];
    char *path = NULL;

    int length = setting != NULL && setting[0] != '\0'
                     ? asprintf(&path, "%s", setting)
                     : asprintf(&path, "%s/key-pool", spool->folder);
    if (length < 0)
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    imp_status status = check_pool_is_there(spool, path, error);
    if (status != IMP_OK) {
        free(path);
        return status;
    }
    imp_derive_key(spool->self, (imp_bytes){NULL, 0}, (imp_bytes){purpose, sizeof purpose - 1},
                   mac_key, sizeof mac_key);
    status = key_pool_open(spool->io, path, imp_store_id(), mac_key, &spool->keys, error);
    imp_wipe(mac_key, sizeof mac_key);
    if (status == IMP_OK && spool->keys.was_renewed)
        imp_log(spool->self, IMP_LOG_NOTICE, "spool.key-pool-renewed",
                "slots=%u reason=\"the store was restored\"", spool->keys.slot_count);
    free(path);
    return status;
}

static imp_status open_tables(struct spool *spool, imp_error *error)
{
    spool->table_doc = imp_table_open(spool->self, "doc");
    spool->table_slot = imp_table_open(spool->self, "slot");
    spool->table_file = imp_table_open(spool->self, "file");
    spool->table_condemned = imp_table_open(spool->self, "condemned");
    if (spool->table_doc == NULL || spool->table_slot == NULL || spool->table_file == NULL ||
        spool->table_condemned == NULL)
        return imp_error_set(error, IMP_INVALID, "the module does not declare the spool's tables");
    return IMP_OK;
}

imp_status spool_open_with(imp_self *self, const struct spool_io *io,
                           const struct spool_settings *settings, struct spool **spool,
                           imp_error *error)
{
    const char *state = imp_state_dir(self);

    *spool = NULL;
    struct spool *new = calloc(1, sizeof *new);
    if (new == NULL)
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    new->self = self;
    new->io = io;
    new->documents = new->lock_file = new->keys.fd = -1;
    new->home = imp_loop_count() > 0 ? imp_loop_at(0) : imp_loop_control();
    pthread_mutex_init(&new->slots.lock, NULL);
    pthread_mutex_init(&new->files.lock, NULL);
    pthread_mutex_init(&new->files.lease, NULL);
    pthread_mutex_init(&new->shredder.lock, NULL);
    spool_reconfigure(new, settings);
    imp_status status = spool_buffers_start(&new->buffers, self, settings->spool_buffers, error);
    new->lanes = calloc((size_t)imp_loop_count() + 1, sizeof *new->lanes);
    if (status == IMP_OK && new->lanes == NULL)
        status = imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    if (status == IMP_OK)
        status = open_tables(new, error);
    if (status == IMP_OK)
        status = open_folders(new, state, error);
    if (status == IMP_OK)
        status = open_keys(new, settings->key_pool, error);
    if (status == IMP_OK)
        check_overwriting(new);
    if (status == IMP_OK)
        status = spool_slots_fill(new, error);
    if (status == IMP_OK)
        status = spool_files_start(new, error);
    if (status == IMP_OK)
        status = spool_shred_start(new, error);
    if (status != IMP_OK) {
        spool_close(new);
        return status;
    }
    spool_files_prepare(new);
    if (imp_timer_start(self, SPOOL_BUFFER_IDLE, true, trim_due, new) == NULL)
        imp_log(self, IMP_LOG_WARNING, "spool.no-timer", "reason=\"idle buffers stay\"");
    *spool = new;
    return IMP_OK;
}

imp_status spool_open(imp_self *self, const struct spool_settings *settings, struct spool **spool,
                      imp_error *error)
{
    return spool_open_with(self, &spool_io_system, settings, spool, error);
}

void spool_reconfigure(struct spool *spool, const struct spool_settings *settings)
{
    spool->inline_max = settings->inline_max;
    spool->reserve = settings->spool_reserve;
    spool->files_ahead = settings->spool_files_ahead;
    spool->file_extent = settings->spool_file_extent;
    spool->slot_step = settings->spool_slot_step;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    spool_shred_end(spool);
    spool_files_end(spool);
    spool_slots_end(spool);
    spool_buffers_end(&spool->buffers);
    if (spool->keys.fd != -1)
        key_pool_close(&spool->keys);
    if (spool->documents != -1)
        close(spool->documents);
    if (spool->lock_file != -1)
        close(spool->lock_file); /* and with it all leases */
    free(spool->lanes);
    free(spool->folder);
    free(spool);
}
