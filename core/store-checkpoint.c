/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-checkpoint.c - checkpoints: making LMDB's pages durable behind the log, and going back to the
 * last one after an end that was none. store-log.h says how both fit together.
 *
 * The file has two slots, written in turn: a checkpoint that is torn leaves the one before it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <imprimatur/log.h>

#include "core/crash-point.h"
#include "core/store-private.h"

static const uint8_t slot_magic[8] = {'I', 'M', 'P', 'C', 'H', 'K', '0', '1'};

#define SLOTS ((size_t)2)
#define SLOT_HEAD ((size_t)4096)
#define PAGE_MAX ((size_t)65536)
#define SLOT_SIZE (SLOT_HEAD + PAGE_MAX)

enum {
    DIGEST_SIZE = 32,
    META_PAGES = 2, /* LMDB's pages 0 and 1: transaction T's is page T % 2 */
    PAGE_NUMBER_SIZE = 8,
};

/* LMDB takes no page of the checkpoint while it is the last one, so the file grows meanwhile. */
#define GROWTH_MAX (UINT64_C(16) << 20)
/* A quiet store is brought up to date after this. */
#define AGE_MAX (5 * IMP_SECOND)
#define CHECKPOINTER_STACK_SIZE ((size_t)128 * 1024)

/* ---- the file ---- */

static void checkpoint_path(const struct store *store, const char *suffix,
                            char path[STORE_PATH_MAX + 32])
{
    snprintf(path, STORE_PATH_MAX + 32, "%s/checkpoint%s", store->folder, suffix);
}

static imp_status file_failed(imp_error *error, const char *path)
{
    return imp_error_set(error, store_status(errno), "the store's checkpoint %s: %s", path,
                         strerror(errno));
}

/* Head with the digest's place empty, then the page. 0 when it can't be done. */
static size_t slot_write(const struct store_checkpoint *checkpoint, uint8_t *slot)
{
    if (checkpoint->meta == NULL) {
        return 0;
    }
    size_t length = SLOT_HEAD + checkpoint->page_size;
    memset(slot, 0, SLOT_HEAD);
    memcpy(slot + SLOT_HEAD, checkpoint->meta, checkpoint->page_size);
    struct record_writer writer = record_writer_of(slot, SLOT_HEAD);
    record_write_bytes(&writer, (imp_bytes){slot_magic, sizeof slot_magic});
    record_write_u64(&writer, checkpoint->number);
    record_write_u64(&writer, checkpoint->generation);
    record_write_u64(&writer, checkpoint->sequence);
    record_write_u64(&writer, checkpoint->transaction);
    record_write_u32(&writer, checkpoint->page_size);
    record_write_u8(&writer, checkpoint->is_clean ? 1 : 0);
    uint8_t *place = slot + record_written(&writer).length;
    uint8_t digest[DIGEST_SIZE];
    if (EVP_Digest(slot, length, digest, NULL, EVP_sha256(), NULL) != 1) {
        return 0;
    }
    memcpy(place, digest, sizeof digest);
    return length;
}

/* False when the slot holds no whole checkpoint. `checkpoint->meta` points into the slot. */
static bool slot_read(uint8_t *slot, size_t length, struct store_checkpoint *checkpoint)
{
    struct record_reader reader = record_reader_of((imp_bytes){slot, length});
    imp_bytes magic = record_read_bytes(&reader, sizeof slot_magic);
    checkpoint->number = record_read_u64(&reader);
    checkpoint->generation = record_read_u64(&reader);
    checkpoint->sequence = record_read_u64(&reader);
    checkpoint->transaction = record_read_u64(&reader);
    checkpoint->page_size = record_read_u32(&reader);
    checkpoint->is_clean = record_read_u8(&reader) != 0;
    size_t place = (size_t)(reader.at - slot);
    imp_bytes said = record_read_bytes(&reader, DIGEST_SIZE);
    uint8_t digest[DIGEST_SIZE], expected[DIGEST_SIZE];
    if (reader.is_failed || memcmp(magic.data, slot_magic, sizeof slot_magic) != 0 ||
        checkpoint->page_size == 0 || checkpoint->page_size > PAGE_MAX ||
        length < SLOT_HEAD + checkpoint->page_size) {
        return false;
    }
    memcpy(expected, said.data, sizeof expected);
    memset(slot + place, 0, DIGEST_SIZE);
    checkpoint->meta = slot + SLOT_HEAD;
    return EVP_Digest(slot, SLOT_HEAD + checkpoint->page_size, digest, NULL, EVP_sha256(), NULL) ==
               1 &&
           memcmp(digest, expected, sizeof digest) == 0;
}

/* Writes one into its slot, and syncs. 0 or an errno. */
static int checkpoint_write(int fd, const struct store_checkpoint *checkpoint)
{
    uint8_t *slot = malloc(SLOT_SIZE);
    int code = ENOMEM;
    size_t length = slot == NULL ? 0 : slot_write(checkpoint, slot);
    if (length > 0) {
        code = store_write_all(fd, slot, length, checkpoint->number % SLOTS * SLOT_SIZE);
    }
    IMP_CRASH_POINT("checkpoint.written");
    if (code == 0 && fdatasync(fd) != 0) {
        code = errno;
    }
    free(slot);
    return code;
}

/* The file with its first checkpoint, under its name when that is on the disk. */
static imp_status file_make(struct store *store, const struct store_checkpoint *checkpoint,
                            imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    char path[STORE_PATH_MAX + 32], fresh[STORE_PATH_MAX + 32];
    uint8_t *zeros = calloc(1, SLOTS * SLOT_SIZE);
    imp_status status = IMP_OK;
    checkpoint_path(store, "", path);
    checkpoint_path(store, ".new", fresh);
    int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int code = zeros == NULL ? ENOMEM : fd < 0 ? errno : 0;
    if (code == 0) {
        store_ask_overwriting(fd);
        code = store_write_all(fd, zeros, SLOTS * SLOT_SIZE, 0);
    }
    if (code == 0) {
        code = checkpoint_write(fd, checkpoint);
    }
    if (code == 0 && (fsync(fd) != 0 || rename(fresh, path) != 0)) {
        code = errno;
    }
    free(zeros);
    if (code != 0) {
        errno = code;
        status = file_failed(error, path);
        if (fd >= 0) {
            close(fd);
        }
        (void)unlink(fresh);
        return status;
    }
    pointer->file = fd;
    IMP_CRASH_POINT("checkpoint.made");
    return store_sync_folder(store->folder, error);
}

/* ---- after a start ---- */

bool store_checkpoint_exists(const struct store *store)
{
    char path[STORE_PATH_MAX + 32];
    struct stat about;
    checkpoint_path(store, "", path);
    return lstat(path, &about) == 0;
}

/* The last whole checkpoint, with memory of its own. */
static imp_status file_read(struct store *store, const char *path, imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    uint8_t *slot = malloc(SLOT_SIZE);
    imp_status status = IMP_OK;
    if (slot == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory to read %s", path);
    }
    for (unsigned i = 0; i < SLOTS && status == IMP_OK; i++) {
        struct store_checkpoint found;
        ssize_t got = pread(pointer->file, slot, SLOT_SIZE, (off_t)(i * SLOT_SIZE));
        if (got < 0) {
            status = file_failed(error, path);
        } else if (slot_read(slot, (size_t)got, &found) && found.number > pointer->last.number) {
            uint8_t *meta = malloc(found.page_size);
            if (meta == NULL) {
                status = imp_error_set(error, IMP_LIMIT, "no memory to read %s", path);
                break;
            }
            memcpy(meta, found.meta, found.page_size);
            free(pointer->last.meta);
            pointer->last = found;
            pointer->last.meta = meta;
        }
    }
    free(slot);
    if (status == IMP_OK && pointer->last.number == 0) {
        status = imp_error_set(error, IMP_CORRUPT, "%s is damaged; restore a backup", path);
    }
    return status;
}

/* Both meta pages are the checkpoint's, so that none tells of a later transaction whose pages may be
 * missing. */
static imp_status meta_restore(struct store *store, imp_error *error)
{
    const struct store_checkpoint *last = &store->checkpointer.last;
    char path[STORE_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/" STORE_FILE, store->folder);
    uint8_t *page = malloc(last->page_size);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    int code = page == NULL ? ENOMEM : fd < 0 ? errno : 0;
    for (uint64_t number = 0; number < META_PAGES && code == 0; number++) {
        memcpy(page, last->meta, last->page_size);
        memcpy(page, &number, PAGE_NUMBER_SIZE); /* a page begins with its own number */
        code = store_write_all(fd, page, last->page_size, number * last->page_size);
        IMP_CRASH_POINT("recover.meta-restored");
    }
    if (code == 0 && fdatasync(fd) != 0) {
        code = errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    free(page);
    errno = code;
    return code == 0 ? IMP_OK : file_failed(error, path);
}

imp_status store_checkpoint_load(struct store *store, imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    char path[STORE_PATH_MAX + 32];
    checkpoint_path(store, "", path);
    pointer->file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (pointer->file < 0 && errno == ENOENT) {
        return IMP_OK; /* a store without a log yet; store_log_recover makes sure of that */
    }
    if (pointer->file < 0) {
        return file_failed(error, path);
    }
    imp_status status = file_read(store, path, error);
    /* It may be in the cache alone: written by a process that died before its sync, or whose sync failed.
     * Written again, not only synced, since after such a failure the cache counts as clean. */
    if (status == IMP_OK) {
        int code = checkpoint_write(pointer->file, &pointer->last);
        errno = code;
        status = code == 0 ? IMP_OK : file_failed(error, path);
    }
    if (status == IMP_OK && !pointer->last.is_clean) {
        status = meta_restore(store, error);
    }
    return status;
}

/* ---- what a checkpoint holds ---- */

/* Describes LMDB's last transaction; no other may be open for writing. */
static imp_status checkpoint_take(struct store *store, struct store_checkpoint *checkpoint,
                                  imp_error *error)
{
    const struct store_checkpointer *pointer = &store->checkpointer;
    MDB_envinfo info;
    mdb_filehandle_t fd;
    int code = mdb_env_info(store->env, &info);
    if (code == 0) {
        code = mdb_env_get_fd(store->env, &fd);
    }
    if (code != 0) {
        return store_error(error, code, "a checkpoint");
    }
    *checkpoint = (struct store_checkpoint){
        .number = pointer->last.number + 1,
        .generation = store->log.generation,
        .sequence = atomic_load(&store->committed_sequence),
        .transaction = info.me_last_txnid,
        .page_size = store->page_size,
        .meta = malloc(store->page_size),
    };
    if (checkpoint->meta == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory for a checkpoint");
    }
    off_t place = (off_t)(info.me_last_txnid % META_PAGES * store->page_size);
    if (pread(fd, checkpoint->meta, store->page_size, place) != (ssize_t)store->page_size) {
        free(checkpoint->meta);
        checkpoint->meta = NULL;
        return imp_error_set(error, IMP_IO, "the store's first pages can't be read");
    }
    return IMP_OK;
}

/* Syncs LMDB's pages, then writes the checkpoint. 0 or an errno. */
static int checkpoint_carry_out(struct store *store, const struct store_checkpoint *checkpoint)
{
    mdb_filehandle_t fd;
    int code = mdb_env_get_fd(store->env, &fd);
    if (code == 0 && fdatasync(fd) != 0) {
        code = errno;
    }
    IMP_CRASH_POINT("checkpoint.data-synced");
    if (code == 0) {
        code = checkpoint_write(store->checkpointer.file, checkpoint);
    }
    IMP_CRASH_POINT("checkpoint.synced");
    return code;
}

static void keeper_end(MDB_txn **keeper)
{
    if (*keeper != NULL) {
        mdb_txn_abort(*keeper);
        *keeper = NULL;
    }
}

/* The checkpoint that was carried out is the last one now. */
static void checkpoint_adopt(struct store *store, struct store_checkpoint *next, MDB_txn *keeper)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    keeper_end(&pointer->keeper);
    free(pointer->last.meta);
    pointer->last = *next;
    pointer->keeper = keeper;
    *next = (struct store_checkpoint){0};
    atomic_fetch_add(&pointer->count, 1);
}

/* Makes one here and now; the first also makes the file. */
static imp_status checkpoint_make(struct store *store, bool is_clean, MDB_txn *keeper,
                                  imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    struct store_checkpoint next = {0};
    imp_status status = checkpoint_take(store, &next, error);
    if (status != IMP_OK) {
        return status;
    }
    next.is_clean = is_clean;
    if (pointer->file < 0) {
        int code = mdb_env_sync(store->env, 1);
        status = code == 0 ? file_make(store, &next, error)
                           : store_error(error, code, "syncing its pages");
    } else {
        int code = checkpoint_carry_out(store, &next);
        status = code == 0 ? IMP_OK : store_error(error, code, "a checkpoint");
    }
    if (status != IMP_OK) {
        free(next.meta);
        return status;
    }
    checkpoint_adopt(store, &next, keeper);
    return IMP_OK;
}

/* ---- recovery ---- */

static imp_status set_synced(struct store *store, bool is_synced, imp_error *error)
{
    int code = mdb_env_set_flags(store->env, MDB_NOSYNC, is_synced ? 0 : 1);
    return code == 0 ? IMP_OK : store_error(error, code, "its mode");
}

/* A store that has used its log must not be opened without the checkpoint. */
static imp_status check_mark(struct store *store, imp_error *error)
{
    MDB_txn *txn = NULL;
    imp_bytes value;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (code != 0) {
        return store_error(error, code, "reading");
    }
    imp_status status = store_meta_get(store, txn, STORE_META_LOG, &value);
    mdb_txn_abort(txn);
    if (status == IMP_NOT_FOUND) {
        return IMP_OK;
    }
    return imp_error_set(error, IMP_CORRUPT,
                         "%s/checkpoint is missing; put it back, or restore a backup",
                         store->folder);
}

/* After an orderly end LMDB's own meta pages count, but not those of an older file put in its place. */
static imp_status check_age(struct store *store, imp_error *error)
{
    const struct store_checkpoint *last = &store->checkpointer.last;
    MDB_envinfo info;
    int code = mdb_env_info(store->env, &info);
    if (code != 0) {
        return store_error(error, code, "reading");
    }
    if (store->sequence >= last->sequence && info.me_last_txnid >= last->transaction) {
        return IMP_OK;
    }
    return imp_error_set(error, IMP_CORRUPT,
                         "%s/" STORE_FILE " is older than its checkpoint; put back all of the "
                         "folder, or restore a backup",
                         store->folder);
}

imp_status store_log_recover(struct store *store, imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    uint64_t before = store->sequence, last = 0;
    if (pointer->last.number == 0) {
        return check_mark(store, error);
    }
    store->log.generation = pointer->last.generation;
    if (pointer->last.is_clean) {
        return check_age(store, error);
    }
    if (store->sequence != pointer->last.sequence) {
        return imp_error_set(error, IMP_CORRUPT,
                             "%s/checkpoint does not belong to this store; restore a backup",
                             store->folder);
    }
    imp_status status = store_log_open(store, false, error);
    if (status != IMP_OK) {
        return status;
    }
    /* Until the next checkpoint a second recovery must find this one's pages. */
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &pointer->keeper);
    if (code != 0) {
        return store_error(error, code, "recovering");
    }
    status = set_synced(store, false, error);
    if (status == IMP_OK) {
        status = store_log_apply(store, pointer->last.generation, &last, error);
    }
    if (status == IMP_OK) {
        status = set_synced(store, true, error);
    }
    if (status == IMP_OK) {
        store->log.generation = last + 1;
        status = checkpoint_make(store, true, NULL, error);
    }
    if (status == IMP_OK) {
        imp_log(NULL, IMP_LOG_NOTICE, "store.recovered", "commits=%llu",
                (unsigned long long)(store->sequence - before));
    }
    return status;
}

/* ---- the checkpointer ---- */

static void finish(struct store *store)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    int code = checkpoint_carry_out(store, &pointer->next);
    if (code != 0) {
        store_fatal(store, code, "a checkpoint could not be synced");
    }
    MDB_txn *keeper = pointer->next_keeper;
    pointer->next_keeper = NULL;
    checkpoint_adopt(store, &pointer->next, keeper);
}

static void *checkpointer_main(void *arg)
{
    struct store *store = arg;
    struct store_checkpointer *pointer = &store->checkpointer;
    pthread_mutex_lock(&pointer->lock);
    while (!pointer->is_ending || pointer->is_wanted) {
        if (!pointer->is_wanted) {
            pthread_cond_wait(&pointer->wanted, &pointer->lock);
            continue;
        }
        pointer->is_wanted = false;
        pthread_mutex_unlock(&pointer->lock);
        finish(store);
        pthread_mutex_lock(&pointer->lock);
        pointer->is_running = false;
        pthread_cond_broadcast(&pointer->done);
    }
    pthread_mutex_unlock(&pointer->lock);
    return NULL;
}

static bool is_running(struct store *store)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    pthread_mutex_lock(&pointer->lock);
    bool is = pointer->is_running;
    pthread_mutex_unlock(&pointer->lock);
    return is;
}

static void wait_done(struct store *store)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    pthread_mutex_lock(&pointer->lock);
    while (pointer->is_running) {
        pthread_cond_wait(&pointer->done, &pointer->lock);
    }
    pthread_mutex_unlock(&pointer->lock);
}

/* Begins one with what is committed so far, and a new generation of the log. None may be under way. */
static void begin(struct store *store)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    imp_error error;
    int code = store_log_begin(store, store->log.generation + 1);
    if (code != 0) {
        store_fatal(store, code, "the log could not be written");
    }
    if (checkpoint_take(store, &pointer->next, &error) != IMP_OK) {
        store_fatal_error(store, &error);
    }
    code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &pointer->next_keeper);
    if (code != 0) {
        store_fatal(store, code, "a checkpoint could not be held");
    }
    pointer->used_bytes = atomic_load(&store->used_bytes);
    pointer->begun = store_clock_us();
    IMP_CRASH_POINT("checkpoint.begun");
    if (!pointer->has_thread) {
        finish(store);
        return;
    }
    pthread_mutex_lock(&pointer->lock);
    pointer->is_wanted = pointer->is_running = true;
    pthread_cond_signal(&pointer->wanted);
    pthread_mutex_unlock(&pointer->lock);
}

static bool is_due(struct store *store)
{
    const struct store_checkpointer *pointer = &store->checkpointer;
    if (store->log.is_spoiled) {
        return true;
    }
    if (store->log.index == 0) {
        return false; /* nothing since the last one */
    }
    return store_log_is_half_full(store) || store_space_is_scarce(store) ||
           atomic_load(&store->used_bytes) > pointer->used_bytes + GROWTH_MAX ||
           store_clock_us() - pointer->begun > AGE_MAX;
}

void store_log_idle(struct store *store)
{
    if (!store->log.is_on || !is_due(store)) {
        return;
    }
    if (store_log_is_nearly_full(store)) {
        wait_done(store);
    }
    if (!is_running(store)) {
        begin(store);
    }
}

void store_checkpoint_now(struct store *store)
{
    wait_done(store);
    begin(store);
    wait_done(store);
}

/* ---- on and off ---- */

static imp_status thread_start(struct store *store, imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, CHECKPOINTER_STACK_SIZE);
    int code = pthread_create(&pointer->thread, &attributes, checkpointer_main, store);
    pthread_attr_destroy(&attributes);
    pointer->has_thread = code == 0;
    return code == 0 ? IMP_OK
                     : imp_error_set(error, IMP_LIMIT, "the store's thread can't be started");
}

static void thread_stop(struct store *store)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    if (!pointer->has_thread) {
        return;
    }
    pthread_mutex_lock(&pointer->lock);
    pointer->is_ending = true;
    pthread_cond_signal(&pointer->wanted);
    pthread_mutex_unlock(&pointer->lock);
    pthread_join(pointer->thread, NULL);
    pointer->has_thread = false;
}

/* From the first checkpoint on the store is not whole without it. */
static imp_status put_mark(struct store *store, imp_error *error)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (code != 0) {
        return store_error(error, code, "writing");
    }
    imp_status status = store_meta_put(store, txn, STORE_META_LOG, "1", 1, error);
    if (status != IMP_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    code = mdb_txn_commit(txn);
    return code == 0 ? IMP_OK : store_error(error, code, "writing");
}

imp_status store_log_start(struct store *store, imp_error *error)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    MDB_txn *keeper = NULL;
    imp_status status = store_log_open(store, true, error);
    if (status != IMP_OK) {
        return status;
    }
    int code = store_log_begin(store, store->log.generation + 1);
    if (code == 0) {
        code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &keeper);
    }
    if (code != 0) {
        return store_error(error, code, "its log");
    }
    bool is_first = pointer->file < 0;
    status = checkpoint_make(store, false, keeper, error);
    if (status != IMP_OK) {
        mdb_txn_abort(keeper);
        return status;
    }
    status = is_first ? put_mark(store, error) : IMP_OK;
    if (status != IMP_OK) {
        return status;
    }
    pointer->used_bytes = atomic_load(&store->used_bytes);
    pointer->begun = store_clock_us();
    status = set_synced(store, false, error);
    if (status == IMP_OK && store->mode == STORE_THREADED) {
        status = thread_start(store, error);
    }
    store->log.is_on = status == IMP_OK;
    return status;
}

void store_log_stop(struct store *store)
{
    imp_error error;
    thread_stop(store);
    if (!store->log.is_on) {
        return;
    }
    store->log.is_on = false;
    store->log.generation++; /* what is in the log now is in LMDB, and not to be applied again */
    imp_status status = set_synced(store, true, &error);
    if (status == IMP_OK) {
        status = checkpoint_make(store, true, NULL, &error);
    }
    if (status != IMP_OK) { /* the last checkpoint and the log are good as they are */
        store_fatal_error(store, &error);
    }
}

void store_log_free(struct store *store)
{
    struct store_checkpointer *pointer = &store->checkpointer;
    struct store_log *log = &store->log;
    keeper_end(&pointer->keeper);
    keeper_end(&pointer->next_keeper);
    free(pointer->last.meta);
    free(pointer->next.meta);
    if (pointer->file >= 0) {
        close(pointer->file);
    }
    pthread_mutex_destroy(&pointer->lock);
    pthread_cond_destroy(&pointer->wanted);
    pthread_cond_destroy(&pointer->done);
    for (unsigned i = 0; i < STORE_LOG_FILES; i++) {
        if (log->files[i] >= 0) {
            close(log->files[i]);
        }
    }
    EVP_CIPHER_CTX_free(log->cipher);
    free(log->buffer);
}
