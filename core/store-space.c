/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-space.c - the data file grows ahead of need, by written zeros, and a full disk is met at the
 * door.
 *
 * A commit that grows the file, or fills a hole, makes the file system write metadata with it; one into
 * zeros that lie on the disk does not. So a thread of its own appends zeros, a step at a time, as soon
 * as less than half a step is left. It only ever appends (O_APPEND): should a commit overtake it, then
 * what the commit wrote is in front of the end of file and can't be overwritten.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <imprimatur/log.h>

#include "core/crash-point.h"
#include "core/store-private.h"

#define CHUNK_SIZE ((size_t)1 << 20)
/* A new store needs this much at least to be of use. */
#define SMALLEST_START (UINT64_C(1) << 20)
#define RETRY_INTERVAL IMP_SECOND
#define EXTENDER_STACK_SIZE ((size_t)128 * 1024)

/* What is kept free for writes that must go through (deletions need pages, too). */
static uint64_t reserve_of(const struct store *store)
{
    uint64_t smaller = store->extend_step / 4;
    uint64_t file = atomic_load(&store->file_bytes) / 4;
    return smaller < file ? smaller : file;
}

static void count_pages(struct store *store)
{
    MDB_envinfo info;
    struct stat about;
    if (mdb_env_info(store->env, &info) == 0) {
        atomic_store(&store->used_bytes, (info.me_last_pgno + 1) * (uint64_t)store->page_size);
    }
    if (fstat(store->data_fd, &about) == 0) {
        atomic_store(&store->file_bytes, (uint64_t)about.st_size);
    }
}

static uint64_t room_of(const struct store *store)
{
    uint64_t file = atomic_load(&store->file_bytes);
    uint64_t used = atomic_load(&store->used_bytes);
    return file > used ? file - used : 0;
}

/* How much the disk can give for the file: a step, or less when others need the rest. */
static uint64_t affordable(const struct store *store)
{
    struct statvfs about;
    uint64_t wanted = store->extend_step;
    uint64_t file = atomic_load(&store->file_bytes);
    if (file + wanted > store->map_size) {
        wanted = store->map_size > file ? store->map_size - file : 0;
    }
    if (fstatvfs(store->data_fd, &about) == 0) {
        uint64_t available = (uint64_t)about.f_bavail * about.f_frsize;
        uint64_t margin = store->extend_step / 4;
        uint64_t usable = available > margin ? available - margin : 0;
        if (wanted > usable) {
            wanted = usable;
        }
    }
    return wanted / store->page_size * store->page_size;
}

/* Appends zeros and syncs them. False with errno when nothing could be added. */
static bool extend(struct store *store, int *sync_error)
{
    uint64_t wanted = affordable(store);
    uint64_t added = 0;
    int reason = ENOSPC;
    uint8_t *zeros = wanted > 0 ? calloc(1, CHUNK_SIZE) : NULL;
    while (zeros != NULL && added < wanted) {
        size_t length = wanted - added < CHUNK_SIZE ? (size_t)(wanted - added) : CHUNK_SIZE;
        ssize_t written = write(store->data_fd, zeros, length);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            reason = written < 0 ? errno : EIO;
            break;
        }
        added += (uint64_t)written;
        IMP_CRASH_POINT("store.extending");
    }
    free(zeros);
    /* A commit may lie among what this sync was for, so it is as fatal as a commit's own. */
    if (added > 0 && fdatasync(store->data_fd) != 0 && errno != ENOSPC && errno != EDQUOT) {
        *sync_error = errno;
    }
    errno = reason;
    return added > 0;
}

/* 0, or the error of a sync that failed. */
static int extend_and_judge(struct store *store)
{
    int sync_error = 0;
    bool is_extended = extend(store, &sync_error);
    int reason = errno;
    count_pages(store);
    bool was_short = atomic_exchange(&store->is_short, !is_extended);
    if (!is_extended && !was_short) {
        imp_log(NULL, IMP_LOG_ERROR, "store.short-of-space",
                "errno=%d left_bytes=%llu text=\"the disk has no room for the store to grow\"",
                reason, (unsigned long long)room_of(store));
    } else if (is_extended && was_short) {
        imp_log(NULL, IMP_LOG_NOTICE, "store.space-again", "file_bytes=%llu",
                (unsigned long long)atomic_load(&store->file_bytes));
    }
    return sync_error;
}

static void extend_or_end(struct store *store)
{
    int code = extend_and_judge(store);
    if (code != 0) {
        store_fatal(store, code, "the store's file could not be synced");
    }
}

static bool is_extension_due(struct store *store)
{
    return room_of(store) < store->extend_step / 2 &&
           atomic_load(&store->file_bytes) < store->map_size;
}

static void *extender_main(void *arg)
{
    struct store *store = arg;
    pthread_mutex_lock(&store->space_lock);
    while (!store->space_ends) {
        if (!store->space_wanted) {
            pthread_cond_wait(&store->space_work, &store->space_lock);
            continue;
        }
        store->space_wanted = false;
        store->space_running = true;
        pthread_mutex_unlock(&store->space_lock);
        extend_or_end(store);
        pthread_mutex_lock(&store->space_lock);
        store->space_running = false;
        pthread_cond_broadcast(&store->space_done);
    }
    pthread_mutex_unlock(&store->space_lock);
    return NULL;
}

imp_status store_space_start(struct store *store, bool is_new, imp_error *error)
{
    count_pages(store);
    if (is_extension_due(store) && !store->is_read_only) {
        int code = extend_and_judge(store);
        if (code != 0) {
            return store_error(error, code, "its file can't be synced");
        }
        if (is_new && room_of(store) < SMALLEST_START && room_of(store) < store->extend_step / 2) {
            return imp_error_set(error, IMP_NO_SPACE, "the disk has no room for a store in %s",
                                 store->folder);
        }
    }
    if (store->mode != STORE_THREADED || store->is_read_only) {
        return IMP_OK;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, EXTENDER_STACK_SIZE);
    int code = pthread_create(&store->extender, &attributes, extender_main, store);
    pthread_attr_destroy(&attributes);
    if (code != 0) {
        return imp_error_set(error, IMP_LIMIT, "the store's thread can't be started");
    }
    store->has_extender = true;
    return IMP_OK;
}

void store_space_stop(struct store *store)
{
    if (!store->has_extender) {
        return;
    }
    pthread_mutex_lock(&store->space_lock);
    store->space_ends = true;
    pthread_cond_signal(&store->space_work);
    pthread_mutex_unlock(&store->space_lock);
    pthread_join(store->extender, NULL);
    store->has_extender = false;
}

static void ask_for_more(struct store *store)
{
    if (!store->has_extender) {
        extend_or_end(store);
        return;
    }
    pthread_mutex_lock(&store->space_lock);
    store->space_wanted = true;
    pthread_cond_signal(&store->space_work);
    pthread_mutex_unlock(&store->space_lock);
}

void store_space_after_commit(struct store *store)
{
    count_pages(store);
    if (!is_extension_due(store)) {
        return;
    }
    if (atomic_load(&store->is_short)) {
        int64_t now = store_clock_us();
        if (now - store->space_tried < RETRY_INTERVAL) {
            return;
        }
        store->space_tried = now;
    }
    ask_for_more(store);
}

void store_space_before_batch(struct store *store)
{
    if (!store->has_extender || room_of(store) >= 2 * STORE_BATCH_BYTES ||
        room_of(store) >= store->extend_step / 2) {
        return;
    }
    pthread_mutex_lock(&store->space_lock);
    while (store->space_running || store->space_wanted) {
        pthread_cond_wait(&store->space_done, &store->space_lock);
    }
    pthread_mutex_unlock(&store->space_lock);
}

/* Pages inside the file that earlier commits have freed. Walks LMDB's list of them. */
static uint64_t count_free(struct store *store)
{
    const MDB_dbi free_list = 0;
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    uint64_t pages = 0;
    if (mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn) != 0) {
        return 0;
    }
    if (mdb_cursor_open(txn, free_list, &cursor) == 0) {
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            if (value.mv_size >= sizeof(size_t)) {
                size_t length; /* an IDL begins with it */
                memcpy(&length, value.mv_data, sizeof length);
                pages += length;
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return pages * store->page_size;
}

bool store_space_permits(struct store *store, imp_write_queue queue)
{
    bool is_full = atomic_load(&store->file_bytes) >= store->map_size; /* map_size is reached */
    if (queue == IMP_WRITE_CONTROL || (!atomic_load(&store->is_short) && !is_full) ||
        room_of(store) >= reserve_of(store)) {
        return true;
    }
    int64_t now = store_clock_us();
    if (now - store->space_tried >= RETRY_INTERVAL && !is_full) {
        store->space_tried = now;
        ask_for_more(store); /* the answer counts for the next batch */
    }
    if (now - store->free_counted >= RETRY_INTERVAL) {
        store->free_counted = now;
        store->free_bytes = count_free(store);
    }
    /* Half of it: the newest are not usable while anybody reads, and values want neighbours. */
    return room_of(store) + store->free_bytes / 2 >= 2 * reserve_of(store);
}

bool store_space_is_scarce(const struct store *store)
{
    bool is_all =
        atomic_load(&store->is_short) || atomic_load(&store->file_bytes) >= store->map_size;
    return is_all && room_of(store) < store->extend_step / 2;
}

void store_space_was_refused(struct store *store)
{
    count_pages(store);
    store->free_counted = 0;
    if (!atomic_exchange(&store->is_short, true)) {
        imp_log(NULL, IMP_LOG_ERROR, "store.short-of-space",
                "left_bytes=%llu text=\"a commit found no room and was taken back\"",
                (unsigned long long)room_of(store));
    }
}
