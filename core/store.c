/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - opening and closing the store: lock, environment, format, keys. */
#include "core/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/crash-point.h"
#include "core/record.h"

static struct store *current;

/* ---- errors ---- */

imp_status store_status(int code)
{
    switch (code) {
    case MDB_SUCCESS: return IMP_OK;
    case MDB_NOTFOUND: return IMP_NOT_FOUND;
    case MDB_KEYEXIST: return IMP_EXISTS;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT: return IMP_NO_SPACE;
    case MDB_TXN_FULL:
    case MDB_DBS_FULL:
    case MDB_READERS_FULL:
    case ENOMEM: return IMP_LIMIT;
    case MDB_BAD_VALSIZE: return IMP_INVALID;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE: return IMP_CORRUPT;
    case EACCES:
    case EPERM: return IMP_DENIED;
    default: return IMP_IO;
    }
}

imp_status store_error(imp_error *error, int code, const char *what)
{
    return imp_error_set(error, store_status(code), "store: %s: %s", what, mdb_strerror(code));
}

int64_t store_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * IMP_SECOND + now.tv_nsec / 1000;
}

/* ---- paths and lock ---- */

static void file_path(char path[STORE_PATH_MAX + 16], const char *folder)
{
    snprintf(path, STORE_PATH_MAX + 16, "%s/" STORE_FILE, folder);
}

bool store_exists(const char *state_dir)
{
    char path[STORE_PATH_MAX + 32];
    struct stat about;
    snprintf(path, sizeof path, "%s/" STORE_FOLDER "/" STORE_FILE, state_dir);
    if (lstat(path, &about) == 0) {
        return true;
    }
    /* What can't be seen may be there: a key must not be made then. */
    return errno != ENOENT;
}

static imp_status lock_state(struct store *store, imp_error *error)
{
    store->lock_fd = open(store->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->lock_fd < 0) {
        return imp_error_set(error, store_status(errno), "state folder %s: %s", store->state_dir,
                             strerror(errno));
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return imp_error_set(error, IMP_BUSY,
                                 "state folder %s is in use by another running instance",
                                 store->state_dir);
        }
        return imp_error_set(error, IMP_IO, "state folder %s can't be locked: %s", store->state_dir,
                             strerror(errno));
    }
    return IMP_OK;
}

imp_status store_sync_folder(const char *path, imp_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    imp_status status = IMP_OK;
    if (fd < 0 || fsync(fd) != 0) {
        status =
            imp_error_set(error, IMP_IO, "folder %s can't be synced: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

/* Makes an empty environment beside and renames it into place, so that a power cut never leaves half a
 * file, which nobody could tell from a damaged store. */
static imp_status make_file(struct store *store, const char *path, imp_error *error)
{
    char fresh[STORE_PATH_MAX + 32];
    MDB_env *env = NULL;
    int fd = -1;
    imp_status status = IMP_OK;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    (void)unlink(fresh); /* of a start that was cut */
    int code = mdb_env_create(&env);
    if (code == 0) {
        code = mdb_env_set_mapsize(env, store->map_size);
    }
    if (code == 0) {
        code = mdb_env_open(env, fresh, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0600);
    }
    if (code != 0) {
        status = imp_error_set(error, store_status(code), "store file %s can't be made: %s", fresh,
                               mdb_strerror(code));
    }
    mdb_env_close(env);
    if (status == IMP_OK) {
        fd = open(fresh, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fsync(fd) != 0 || rename(fresh, path) != 0) {
            status = imp_error_set(error, store_status(errno), "store file %s can't be made: %s",
                                   path, strerror(errno));
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (status != IMP_OK) {
        (void)unlink(fresh);
        return status;
    }
    status = store_sync_folder(store->folder, error);
    return status == IMP_OK ? store_sync_folder(store->state_dir, error) : status;
}

/* Makes folder and file if they are missing; `is_new` when the store has to be made. */
static imp_status prepare_folder(struct store *store, bool must_exist, bool *is_new,
                                 imp_error *error)
{
    char path[STORE_PATH_MAX + 16];
    struct stat about = {.st_size = -1}; /* what it stays when it can't be asked */
    file_path(path, store->folder);
    bool is_there = stat(path, &about) == 0 || errno != ENOENT;
    if (!is_there && must_exist) {
        return imp_error_set(error, IMP_NOT_FOUND, "there is no store in %s", store->state_dir);
    }
    if (!is_there && mkdir(store->folder, 0700) != 0 && errno != EEXIST) {
        return imp_error_set(error, store_status(errno), "store folder %s can't be made: %s",
                             store->folder, strerror(errno));
    }
    *is_new = !is_there || about.st_size == 0;
    imp_status status = IMP_OK;
    if (*is_new && store_checkpoint_exists(store)) {
        return imp_error_set(error, IMP_CORRUPT,
                             "%s is missing, of which there are log and checkpoint; restore a "
                             "backup, or remove %s to begin anew",
                             path, store->folder);
    }
    if (*is_new) {
        status = make_file(store, path, error);
    }
    if (status != IMP_OK) {
        return status;
    }
    store->data_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (store->data_fd < 0) {
        return imp_error_set(error, store_status(errno), "store file %s can't be written: %s", path,
                             strerror(errno));
    }
    return IMP_OK;
}

static imp_status open_environment(struct store *store, imp_error *error)
{
    int code = mdb_env_create(&store->env);
    if (code == 0) {
        code = mdb_env_set_mapsize(store->env, store->map_size);
    }
    if (code == 0) {
        code = mdb_env_set_maxdbs(store->env, STORE_TABLES_MAX);
    }
    if (code == 0) {
        code = mdb_env_set_maxreaders(store->env, STORE_READERS_MAX);
    }
    if (code == 0) {
        /* Every commit is synced until the log takes over; no WRITEMAP, which nesting forbids. */
        code = mdb_env_open(store->env, store->folder, MDB_NOTLS, 0600);
    }
    if (code == MDB_INVALID || code == MDB_VERSION_MISMATCH) {
        return imp_error_set(error, IMP_CORRUPT, "%s/" STORE_FILE " is not a store of this program",
                             store->folder);
    }
    if (code != 0) {
        return imp_error_set(error, store_status(code), "store %s can't be opened: %s",
                             store->folder, mdb_strerror(code));
    }
    MDB_stat stat;
    code = mdb_env_stat(store->env, &stat);
    store->page_size = stat.ms_psize;
    return code == 0 ? IMP_OK : store_error(error, code, "reading the environment");
}

/* ---- core.meta ---- */

imp_status store_meta_put(struct store *store, MDB_txn *txn, const char *name, const void *data,
                          size_t length, imp_error *error)
{
    union {
        const void *in;
        void *out;
    } from_name = {.in = name}, from_data = {.in = data};
    MDB_val key = {strlen(name), from_name.out};
    MDB_val value = {length, from_data.out};
    int code = mdb_put(txn, store->meta->dbi, &key, &value, 0);
    return code == 0 ? IMP_OK : store_error(error, code, "writing its description");
}

imp_status store_meta_get(struct store *store, MDB_txn *txn, const char *name, imp_bytes *value)
{
    union {
        const void *in;
        void *out;
    } from_name = {.in = name};
    MDB_val key = {strlen(name), from_name.out};
    MDB_val data = {0, NULL};
    int code = mdb_get(txn, store->meta->dbi, &key, &data);
    *value = (imp_bytes){data.mv_data, data.mv_size};
    return store_status(code);
}

/* ---- format ---- */

struct core_table {
    const char *name;
    size_t offset; /* of the imp_table * in struct store */
};
static const struct core_table core_tables[] = {
    {"core.meta", offsetof(struct store, meta)},
    {"core.key", offsetof(struct store, keys)},
    {"core.table", offsetof(struct store, table_list)},
    {"core.number", offsetof(struct store, numbers)},
};
#define CORE_TABLE_COUNT (sizeof core_tables / sizeof core_tables[0])

/* Opens the core's own tables in `txn`; they count as open when it is committed. */
static int open_core_tables(struct store *store, MDB_txn *txn, unsigned flags)
{
    for (size_t i = 0; i < CORE_TABLE_COUNT; i++) {
        imp_table **place = (imp_table **)(void *)((char *)store + core_tables[i].offset);
        if (*place == NULL) {
            *place = store_table_handle(store, core_tables[i].name, IMP_TABLE_PLAIN);
        }
        if (*place == NULL) {
            return ENOMEM;
        }
        int code = mdb_dbi_open(txn, core_tables[i].name, flags, &(*place)->dbi);
        if (code != 0) {
            return code;
        }
        (*place)->is_open = true;
    }
    return 0;
}

/* Looks at an existing environment without writing: `is_made` false when its making was cut short
 * before the first commit. */
static imp_status check_format(struct store *store, bool *is_made, imp_error *error)
{
    MDB_txn *txn = NULL;
    MDB_stat stat;
    imp_bytes value;
    *is_made = true;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (code != 0) {
        return store_error(error, code, "reading");
    }
    imp_status status = IMP_OK;
    MDB_dbi main_table = 0;
    code = mdb_dbi_open(txn, NULL, 0, &main_table);
    if (code == 0) {
        code = mdb_stat(txn, main_table, &stat);
    }
    if (code == 0 && stat.ms_entries == 0) {
        *is_made = false;
        goto done;
    }
    if (code == 0) {
        code = open_core_tables(store, txn, 0);
    }
    if (code != 0) {
        status = imp_error_set(error, IMP_CORRUPT, "%s/" STORE_FILE " is not a store of ours: %s",
                               store->folder, mdb_strerror(code));
        goto done;
    }
    status = store_meta_get(store, txn, STORE_META_FORMAT, &value);
    struct record_reader reader = record_reader_of(value);
    uint32_t format = record_read_u32(&reader);
    if (status != IMP_OK || reader.is_failed || format == 0) {
        status = imp_error_set(error, IMP_CORRUPT, "the store in %s does not say its format",
                               store->state_dir);
        goto done;
    }
    if (format > STORE_FORMAT) {
        status = imp_error_set(error, IMP_UNSUPPORTED,
                               "the store in %s has format %u, this program knows up to %u; use a "
                               "newer version (nothing was changed)",
                               store->state_dir, format, STORE_FORMAT);
        goto done;
    }
    if (store_meta_get(store, txn, STORE_META_RESTORING, &value) == IMP_OK) {
        status = imp_error_set(error, IMP_UNSUPPORTED,
                               "a restore into %s was cut short; remove %s and restore again",
                               store->state_dir, store->folder);
        goto done;
    }
    status = store_meta_get(store, txn, STORE_META_ID, &value);
    if (status != IMP_OK || value.length != sizeof store->id) {
        status = imp_error_set(error, IMP_CORRUPT, "the store in %s has no id", store->state_dir);
        goto done;
    }
    memcpy(&store->id, value.data, sizeof store->id);
    if (store_meta_get(store, txn, STORE_META_SEQUENCE, &value) == IMP_OK) {
        reader = record_reader_of(value);
        store->sequence = record_read_u64(&reader);
        atomic_store(&store->committed_sequence, store->sequence);
    }
done:
    if (status == IMP_OK && *is_made && code == 0) {
        code = mdb_txn_commit(txn); /* keeps the handles */
        return code == 0 ? IMP_OK : store_error(error, code, "reading");
    }
    mdb_txn_abort(txn);
    if (status == IMP_OK && code != 0) {
        status = store_error(error, code, "reading");
    }
    return status;
}

static imp_status load_keys(struct store *store, const uint8_t *master, imp_error *error)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (code != 0) {
        return store_error(error, code, "reading the key table");
    }
    imp_status status = store_keys_load(store, txn, master, error);
    mdb_txn_abort(txn);
    return status;
}

/* The first commit of a new store: format, id, keys. */
static imp_status make_store(struct store *store, const struct store_options *options,
                             const struct store_preset *preset, MDB_txn *txn, imp_error *error)
{
    uint8_t format[4];
    struct record_writer writer = record_writer_of(format, sizeof format);
    record_write_u32(&writer, STORE_FORMAT);
    struct store_key_sink sink = {store, txn};
    int code = open_core_tables(store, txn, MDB_CREATE);
    if (code != 0) {
        return store_error(error, code, "making its tables");
    }
    store->id = imp_id_new();
    imp_status status = store_meta_put(store, txn, STORE_META_FORMAT, format, sizeof format, error);
    if (status == IMP_OK) {
        status = store_meta_put(store, txn, STORE_META_ID, &store->id, sizeof store->id, error);
    }
    if (status != IMP_OK || preset == NULL) {
        return status != IMP_OK
                   ? status
                   : keyring_make(options->master, store_key_write, &sink, &store->ring, error);
    }
    store->sequence = preset->sequence;
    for (size_t i = 0; status == IMP_OK && i < preset->key_count; i++) {
        status = store_key_write(&sink, &preset->keys[i], error);
    }
    if (status == IMP_OK) {
        status = store_meta_put(store, txn, STORE_META_RESTORING, "1", 1, error);
    }
    if (status == IMP_OK && preset->like == NULL) {
        status = store_keys_load(store, txn, options->master, error);
    } else if (status == IMP_OK) {
        status = keyring_open_begin(&store->ring, error);
        for (size_t i = 0; status == IMP_OK && i < preset->key_count; i++) {
            status =
                keyring_open_add(store->ring, preset->keys[i].name,
                                 (imp_bytes){preset->keys[i].value, preset->keys[i].length}, error);
        }
        if (status == IMP_OK) {
            status = keyring_open_like(store->ring, preset->like, error);
        }
    }
    return status;
}

/* Makes what a new store needs and adds this start's sealing salt, in one commit. */
static imp_status first_commit(struct store *store, bool is_made,
                               const struct store_options *options,
                               const struct store_preset *preset, imp_error *error)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (code != 0) {
        return store_error(error, code, "writing");
    }
    struct store_key_sink sink = {store, txn};
    imp_status status = is_made ? IMP_OK : make_store(store, options, preset, txn, error);
    if (status == IMP_OK) {
        status = keyring_salt_new(store->ring, error);
    }
    if (status == IMP_OK) {
        status = keyring_salt_write(store->ring, store_key_write, &sink, error);
    }
    /* Not before the first checkpoint is there. */
    if (status == IMP_OK && store->checkpointer.last.number > 0) {
        status = store_meta_put(store, txn, STORE_META_LOG, "1", 1, error);
    }
    if (status != IMP_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    IMP_CRASH_POINT("store.before-first-commit");
    code = mdb_txn_commit(txn);
    if (code != 0) {
        return store_error(error, code, "writing");
    }
    keyring_salt_is_durable(store->ring);
    IMP_CRASH_POINT("store.after-first-commit");
    return IMP_OK;
}

/* ---- life ---- */

static void free_store(struct store *store)
{
    if (store->env != NULL) {
        store_tx_reset(&store->write_tx);
        if (store->write_tx.txn != NULL) { /* a restore that was given up */
            mdb_txn_abort(store->write_tx.txn);
        }
        store_reads_end_all(store);
    }
    store_log_free(store);
    mdb_env_close(store->env);
    while (store->tables != NULL) {
        imp_table *table = store->tables;
        store->tables = table->next;
        free(table);
    }
    keyring_close(store->ring);
    seal_forget();
    if (store->data_fd >= 0) {
        close(store->data_fd);
    }
    if (store->lock_fd >= 0) {
        close(store->lock_fd); /* the lock goes last */
    }
    store_arena_free(&store->write_tx.arena);
    for (size_t i = 0; i < STORE_QUEUE_COUNT; i++) {
        free(store->queues[i].ring);
    }
    free(store->batch);
    pthread_mutex_destroy(&store->declare_lock);
    pthread_mutex_destroy(&store->table_lock);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->read_lock);
    pthread_mutex_destroy(&store->space_lock);
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->room);
    pthread_cond_destroy(&store->space_work);
    pthread_cond_destroy(&store->space_done);
    free(store);
}

static struct store *new_store(const struct store_options *options)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&store->declare_lock, NULL);
    pthread_mutex_init(&store->table_lock, NULL);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->read_lock, NULL);
    pthread_mutex_init(&store->space_lock, NULL);
    pthread_cond_init(&store->work, &monotonic);
    pthread_cond_init(&store->room, &monotonic);
    pthread_cond_init(&store->space_work, &monotonic);
    pthread_cond_init(&store->space_done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    store->lock_fd = store->data_fd = store->checkpointer.file = -1;
    for (size_t i = 0; i < STORE_LOG_FILES; i++) {
        store->log.files[i] = -1;
    }
    pthread_mutex_init(&store->checkpointer.lock, NULL);
    pthread_cond_init(&store->checkpointer.wanted, NULL);
    pthread_cond_init(&store->checkpointer.done, NULL);
    store->mode = options->mode;
    store->is_read_only = options->is_read_only;
    store->observer = options->observer;
    store->observer_arg = options->observer_arg;
    if (options->hooks != NULL) {
        store->hooks = *options->hooks;
    }
    store->map_size = options->map_size != 0 ? options->map_size : STORE_MAP_SIZE_DEFAULT;
    store->extend_step =
        options->extend_step != 0 ? options->extend_step : STORE_EXTEND_STEP_DEFAULT;
    const uint32_t rooms[STORE_QUEUE_COUNT] = {options->queue_control, options->queue_bulk};
    store->batch = calloc(STORE_BATCH_CLOSURES, sizeof *store->batch);
    bool is_complete = store->batch != NULL;
    for (size_t i = 0; i < STORE_QUEUE_COUNT; i++) {
        struct store_queue *queue = &store->queues[i];
        queue->room = rooms[i] != 0 ? rooms[i] : STORE_QUEUE_DEFAULT;
        queue->ring = calloc(queue->room, sizeof *queue->ring);
        queue->waiters_end = &queue->waiters;
        is_complete = is_complete && queue->ring != NULL;
    }
    if (!is_complete) {
        free_store(store);
        return NULL;
    }
    return store;
}

imp_status store_open_preset(const struct store_options *options, const struct store_preset *preset,
                             struct store **out, imp_error *error)
{
    if (strlen(options->state_dir) + sizeof "/" STORE_FOLDER >= STORE_PATH_MAX) {
        return imp_error_set(error, IMP_INVALID, "the state folder's path is too long");
    }
    struct store *store = new_store(options);
    if (store == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory for the store");
    }
    snprintf(store->state_dir, sizeof store->state_dir, "%s", options->state_dir);
    /* Its length was checked above. */
    snprintf(store->folder, sizeof store->folder, "%.*s/" STORE_FOLDER,
             (int)(STORE_PATH_MAX - sizeof "/" STORE_FOLDER), options->state_dir);
    bool is_new = false;
    bool is_made = false;
    imp_status status = lock_state(store, error);
    if (status == IMP_OK) {
        status = prepare_folder(store, options->must_exist, &is_new, error);
    }
    if (status == IMP_OK && preset != NULL && !is_new) {
        status =
            imp_error_set(error, IMP_EXISTS, "there is a store in %s already", store->state_dir);
    }
    /* The names may be in the cache alone, made by a process that died before it synced them. */
    if (status == IMP_OK && !store->is_read_only) {
        status = store_sync_folder(store->folder, error);
    }
    if (status == IMP_OK && !store->is_read_only) {
        status = store_sync_folder(store->state_dir, error);
    }
    if (status == IMP_OK && !is_new) {
        status = store_checkpoint_load(store, error);
    }
    if (status == IMP_OK) {
        status = open_environment(store, error);
    }
    if (status == IMP_OK) {
        status = check_format(store, &is_made, error);
    }
    if (status == IMP_OK && !is_made && options->must_exist) {
        status = imp_error_set(error, IMP_NOT_FOUND, "there is no store in %s", store->state_dir);
    }
    if (status == IMP_OK && is_made) {
        status = load_keys(store, options->master, error);
    }
    if (status == IMP_OK) {
        status = store_space_start(store, !is_made, error);
    }
    if (status == IMP_OK && is_made) {
        status = store_log_recover(store, error);
    }
    if (status == IMP_OK && !store->is_read_only) {
        status = first_commit(store, is_made, options, preset, error);
    }
    if (status == IMP_OK && !store->is_read_only && preset == NULL) {
        status = store_log_start(store, error);
    }
    if (status == IMP_OK) {
        status = store_writer_start(store, error);
    }
    if (status != IMP_OK) {
        store_log_stop(store);
        store_space_stop(store);
        free_store(store);
        return status;
    }
    *out = store;
    return IMP_OK;
}

imp_status store_open(const struct store_options *options, struct store **store, imp_error *error)
{
    return store_open_preset(options, NULL, store, error);
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    store_writer_stop(store);
    store_log_stop(store);
    store_space_stop(store);
    if (current == store) {
        current = NULL;
    }
    free_store(store);
}

void store_set_current(struct store *store)
{
    current = store;
}

struct store *store_current(void)
{
    return current;
}

/* ---- what it says of itself ---- */

imp_id store_id(struct store *store)
{
    return store->id;
}

const char *store_state_dir(struct store *store)
{
    return store->state_dir;
}

struct keyring *store_keyring(struct store *store)
{
    return store->ring;
}

void store_stats_get(struct store *store, struct store_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->commits = atomic_load(&store->commits);
    stats->closures = atomic_load(&store->closures);
    stats->closures_failed = atomic_load(&store->closures_failed);
    stats->changes = atomic_load(&store->changes);
    stats->syncs_us = atomic_load(&store->syncs_us);
    stats->reads = atomic_load(&store->read_count);
    stats->checkpoints = atomic_load(&store->checkpointer.count);
    stats->sequence = atomic_load(&store->committed_sequence);
    stats->used_bytes = atomic_load(&store->used_bytes);
    stats->file_bytes = atomic_load(&store->file_bytes);
    stats->map_bytes = store->map_size;
    stats->is_short_of_space = atomic_load(&store->is_short);
    pthread_mutex_lock(&store->lock);
    stats->waiting_control = store->queues[IMP_WRITE_CONTROL].count;
    stats->waiting_bulk = store->queues[IMP_WRITE_BULK].count;
    pthread_mutex_unlock(&store->lock);
    pthread_mutex_lock(&store->read_lock);
    for (const imp_tx *tx = store->reads_open; tx != NULL; tx = tx->next) {
        stats->reads_open++;
    }
    pthread_mutex_unlock(&store->read_lock);
}
