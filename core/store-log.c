/* SPDX-License-Identifier: Apache-2.0 */
/* store-log.c - the commit log: its files, appending a record, applying them. */
#define _GNU_SOURCE
#include "core/store-log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crash-point.h"
#include "core/store-private.h"

#define KEY_INFO "commit-log"
static const uint8_t head_magic[8] = {'I', 'M', 'P', 'L', 'O', 'G', '0', '1'};
#define RECORD_MAGIC UINT32_C(0x494d5052) /* "IMPR" */

enum {
    RECORD_HEAD = 32, /* magic, length of the text, index, sequence, changes, zeros */
    TAG_SIZE = 16,
    NONCE_SIZE = 12,
    DELETED = 0xff, /* stands for a value's presence; 0 otherwise */
};
/* The writer's buffer is not kept above this. */
#define BUFFER_KEEP ((size_t)1 << 20)
#define ZEROS_SIZE ((size_t)256 << 10)
/* A batch ends soon after STORE_BATCH_BYTES; in front of one there should be room for it. */
#define NEARLY_FULL (STORE_BATCH_BYTES + (UINT64_C(1) << 20))
/* What one more closure may add to a record that is nearly too long. */
#define CROWDED (UINT64_C(128) << 10)

/* ---- files ---- */

static void log_path(const struct store *store, unsigned number, const char *suffix,
                     char path[STORE_PATH_MAX + 32])
{
    snprintf(path, STORE_PATH_MAX + 32, "%s/log.%u%s", store->folder, number, suffix);
}

static imp_status file_failed(imp_error *error, const char *path)
{
    return imp_error_set(error, store_status(errno), "the store's log %s: %s", path,
                         strerror(errno));
}

void store_ask_overwriting(int fd)
{
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

/* Zeros on the disk, so that writing over them changes nothing but bytes. */
static int file_fill(int fd, uint64_t size)
{
    uint8_t *zeros = calloc(1, ZEROS_SIZE);
    uint64_t done = 0;
    if (zeros == NULL) {
        errno = ENOMEM;
        return -1;
    }
    while (done < size) {
        size_t part = size - done < ZEROS_SIZE ? (size_t)(size - done) : ZEROS_SIZE;
        ssize_t written = pwrite(fd, zeros, part, (off_t)done);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            errno = written == 0 ? ENOSPC : errno;
            break;
        }
        done += (uint64_t)written;
    }
    int reason = errno;
    free(zeros);
    errno = reason;
    return done == size ? fsync(fd) : -1;
}

static imp_status file_make(struct store *store, unsigned number, imp_error *error)
{
    char path[STORE_PATH_MAX + 32], fresh[STORE_PATH_MAX + 32];
    uint64_t size = store->extend_step / STORE_LOG_STEP_PART;
    imp_status status = IMP_OK;
    log_path(store, number, "", path);
    log_path(store, number, ".new", fresh);
    if (size < STORE_LOG_SEGMENT_MIN) {
        size = STORE_LOG_SEGMENT_MIN;
    }
    size = size / STORE_LOG_HEAD_SIZE * STORE_LOG_HEAD_SIZE;
    int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        store_ask_overwriting(fd);
    }
    if (fd < 0 || file_fill(fd, size) != 0) {
        status = file_failed(error, fresh);
    } else if (rename(fresh, path) != 0) {
        status = file_failed(error, path);
    }
    IMP_CRASH_POINT("log.made");
    if (fd >= 0) {
        close(fd);
    }
    if (status != IMP_OK) {
        (void)unlink(fresh);
    }
    return status == IMP_OK ? store_sync_folder(store->folder, error) : status;
}

imp_status store_log_open(struct store *store, bool may_make, imp_error *error)
{
    struct store_log *log = &store->log;
    for (unsigned i = 0; i < STORE_LOG_FILES; i++) {
        char path[STORE_PATH_MAX + 32];
        struct stat about;
        if (log->files[i] >= 0) {
            continue;
        }
        log_path(store, i, "", path);
        if (lstat(path, &about) != 0 && errno == ENOENT) {
            if (!may_make) {
                return imp_error_set(error, IMP_CORRUPT,
                                     "%s is missing; put it back, or restore a backup", path);
            }
            imp_status status = file_make(store, i, error);
            if (status != IMP_OK) {
                return status;
            }
        }
        log->files[i] = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (log->files[i] < 0 || fstat(log->files[i], &about) != 0) {
            return file_failed(error, path);
        }
        uint64_t size = (uint64_t)about.st_size;
        if (i == 0 || size < log->segment_bytes) {
            log->segment_bytes = size;
        }
    }
    return IMP_OK;
}

int store_write_all(int fd, const uint8_t *data, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t written = pwrite(fd, data, length, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written == 0 ? ENOSPC : errno;
        }
        data += written;
        length -= (size_t)written;
        offset += (uint64_t)written;
    }
    return 0;
}

static bool read_all(int fd, uint8_t *data, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t got = pread(fd, data, length, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = got == 0 ? EIO : errno;
            return false;
        }
        data += got;
        length -= (size_t)got;
        offset += (uint64_t)got;
    }
    return true;
}

/* ---- keys ---- */

static bool cipher_set_key(struct store *store, const uint8_t salt[STORE_LOG_SALT_SIZE],
                           bool is_sealing)
{
    struct store_log *log = &store->log;
    uint8_t key[KEYS_ROOT_SIZE];
    if (log->cipher == NULL) {
        log->cipher = EVP_CIPHER_CTX_new();
    }
    keyring_derive(store->ring, KEYS_ROOT_STORE, (imp_bytes){salt, STORE_LOG_SALT_SIZE},
                   (imp_bytes){KEY_INFO, sizeof KEY_INFO - 1}, key, sizeof key);
    bool is_set = log->cipher != NULL && EVP_CipherInit_ex(log->cipher, EVP_aes_256_gcm(), NULL,
                                                           key, NULL, is_sealing ? 1 : 0) == 1;
    imp_wipe(key, sizeof key);
    return is_set;
}

static void nonce_of(uint64_t index, uint8_t nonce[NONCE_SIZE])
{
    memset(nonce, 0, NONCE_SIZE);
    for (unsigned i = 0; i < 8; i++) {
        nonce[NONCE_SIZE - 1 - i] = (uint8_t)(index >> 8 * i);
    }
}

/* Seals or opens `text` in place; its head is the associated data. */
static bool crypt_record(struct store_log *log, bool is_sealing, uint64_t index,
                         const uint8_t *head, uint8_t *text, size_t length, uint8_t *tag)
{
    uint8_t nonce[NONCE_SIZE];
    int done = 0;
    nonce_of(index, nonce);
    return EVP_CipherInit_ex(log->cipher, NULL, NULL, NULL, nonce, is_sealing ? 1 : 0) == 1 &&
           EVP_CipherUpdate(log->cipher, NULL, &done, head, RECORD_HEAD) == 1 &&
           EVP_CipherUpdate(log->cipher, text, &done, text, (int)length) == 1 &&
           (is_sealing ||
            EVP_CIPHER_CTX_ctrl(log->cipher, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) == 1) &&
           EVP_CipherFinal_ex(log->cipher, text + length, &done) == 1 &&
           (!is_sealing ||
            EVP_CIPHER_CTX_ctrl(log->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, tag) == 1);
}

/* ---- a generation ---- */

enum { HEAD_TEXT = 8 + 8 + 16 + STORE_LOG_SALT_SIZE, HEAD_DIGEST = 32 };

/* Magic, generation, store, salt, and a digest: a head that is neither whole nor empty is damage, since one
 * sector is written whole or not at all. */
static bool head_make(const struct store *store, uint64_t generation,
                      const uint8_t salt[STORE_LOG_SALT_SIZE], uint8_t head[STORE_LOG_SECTOR])
{
    memset(head, 0, STORE_LOG_SECTOR);
    struct record_writer writer = record_writer_of(head, HEAD_TEXT);
    record_write_bytes(&writer, (imp_bytes){head_magic, sizeof head_magic});
    record_write_u64(&writer, generation);
    record_write_bytes(&writer, (imp_bytes){store->id.bytes, sizeof store->id.bytes});
    record_write_bytes(&writer, (imp_bytes){salt, STORE_LOG_SALT_SIZE});
    return EVP_Digest(head, HEAD_TEXT, head + HEAD_TEXT, NULL, EVP_sha256(), NULL) == 1;
}

int store_log_begin(struct store *store, uint64_t generation)
{
    struct store_log *log = &store->log;
    uint8_t head[STORE_LOG_SECTOR], salt[STORE_LOG_SALT_SIZE];
    imp_random(salt, sizeof salt);
    if (!head_make(store, generation, salt, head) || !cipher_set_key(store, salt, true)) {
        return ENOMEM;
    }
    log->generation = generation;
    log->end = STORE_LOG_HEAD_SIZE;
    log->index = 0;
    log->is_spoiled = false;
    /* Its sync is the one of the first record. */
    return store_write_all(log->files[generation % STORE_LOG_FILES], head, sizeof head, 0);
}

bool store_log_is_half_full(const struct store *store)
{
    return store->log.end > store->log.segment_bytes / 2;
}

bool store_log_is_nearly_full(const struct store *store)
{
    uint64_t room = store->log.segment_bytes - store->log.end;
    uint64_t half = store->log.segment_bytes / 2;
    return room < (NEARLY_FULL < half ? NEARLY_FULL : half);
}

/* ---- the record of a transaction ---- */

static bool buffer_reserve(struct store_log *log, size_t more)
{
    size_t wanted = log->length + more + TAG_SIZE + STORE_LOG_SECTOR;
    if (wanted <= log->room) {
        return true;
    }
    size_t room = log->room == 0 ? (size_t)64 << 10 : log->room;
    while (room < wanted) {
        room *= 2;
    }
    uint8_t *buffer = realloc(log->buffer, room);
    if (buffer == NULL) {
        log->is_unfit = true;
        return false;
    }
    log->buffer = buffer;
    log->room = room;
    return true;
}

/* An empty record. */
static void record_reset(struct store_log *log)
{
    if (log->room > BUFFER_KEEP) {
        free(log->buffer);
        log->buffer = NULL;
        log->room = 0;
    }
    log->length = RECORD_HEAD;
    log->changes = 0;
    log->is_unfit = false;
}

void store_log_before(struct store *store)
{
    if (store->log.is_on) {
        store_log_idle(store);
        record_reset(&store->log);
    }
}

void store_log_change(struct store *store, const char *table, imp_bytes key, bool is_delete,
                      imp_bytes stored)
{
    struct store_log *log = &store->log;
    size_t name_length = strlen(table);
    size_t needed = 1 + name_length + 2 + key.length + 1 + 4 + stored.length;
    if (!log->is_on || log->is_unfit || !buffer_reserve(log, needed)) {
        return;
    }
    struct record_writer writer = record_writer_of(log->buffer + log->length, needed);
    record_write_u8(&writer, (uint8_t)name_length);
    record_write_bytes(&writer, (imp_bytes){table, name_length});
    record_write_short(&writer, key);
    record_write_u8(&writer, is_delete ? DELETED : 0);
    if (!is_delete) {
        record_write_u32(&writer, (uint32_t)stored.length);
        record_write_bytes(&writer, stored);
    }
    log->length += record_written(&writer).length;
    log->changes++;
}

struct store_log_mark store_log_mark(const struct store *store)
{
    return (struct store_log_mark){store->log.length, store->log.changes};
}

void store_log_cut(struct store *store, struct store_log_mark mark)
{
    store->log.length = mark.length;
    store->log.changes = mark.changes;
}

void store_log_unfit(struct store *store)
{
    store->log.is_unfit = true;
}

static size_t record_size(size_t text_length)
{
    size_t size = RECORD_HEAD + text_length + TAG_SIZE;
    return (size + STORE_LOG_SECTOR - 1) / STORE_LOG_SECTOR * STORE_LOG_SECTOR;
}

/* 0 or an errno: then it is not known what is on the disk, unless the file system had no room, which files
 * that are copied on writing may meet. No other record is written in place of that one: it would take the
 * same nonce. */
static int record_append(struct store *store)
{
    struct store_log *log = &store->log;
    size_t text_length = log->length - RECORD_HEAD, size = record_size(text_length);
    struct record_writer writer = record_writer_of(log->buffer, RECORD_HEAD);
    record_write_u32(&writer, RECORD_MAGIC);
    record_write_u32(&writer, (uint32_t)text_length);
    record_write_u64(&writer, log->index);
    record_write_u64(&writer, store->sequence);
    record_write_u32(&writer, log->changes);
    record_write_u32(&writer, 0);
    if (!crypt_record(log, true, log->index, log->buffer, log->buffer + RECORD_HEAD, text_length,
                      log->buffer + log->length)) {
        return ENOMEM;
    }
    memset(log->buffer + log->length + TAG_SIZE, 0, size - log->length - TAG_SIZE);
    int fd = log->files[log->generation % STORE_LOG_FILES];
    int code = store_write_all(fd, log->buffer, size, log->end);
    log->is_spoiled = code == ENOSPC || code == EDQUOT;
    IMP_CRASH_POINT("log.written");
    if (code == 0 && fdatasync(fd) != 0) {
        code = errno;
    }
    IMP_CRASH_POINT("log.synced");
    log->end += size;
    log->index++;
    return code;
}

enum store_logged store_log_append(struct store *store)
{
    struct store_log *log = &store->log;
    if (!log->is_on) {
        return STORE_LOG_OFF;
    }
    if (log->is_unfit || log->is_spoiled ||
        log->end + record_size(log->length - RECORD_HEAD) > log->segment_bytes) {
        return STORE_LOG_LATER;
    }
    int64_t began = store_clock_us();
    int code = record_append(store);
    atomic_fetch_add(&store->syncs_us, (uint64_t)(store_clock_us() - began));
    if (code == 0) {
        return STORE_LOG_DURABLE;
    }
    if (!log->is_spoiled) {
        store_fatal(store, code, "a commit could not be synced");
    }
    return STORE_LOG_NO_SPACE;
}

void store_log_settle(struct store *store, enum store_logged logged, bool is_committed)
{
    if ((logged == STORE_LOG_LATER && is_committed) ||
        (logged == STORE_LOG_DURABLE && !is_committed)) {
        int64_t began = store_clock_us();
        store_checkpoint_now(store);
        atomic_fetch_add(&store->syncs_us, (uint64_t)(store_clock_us() - began));
    }
}

bool store_log_is_crowded(const struct store *store)
{
    const struct store_log *log = &store->log;
    /* Files too short for a full batch are for small tests, and rely on checkpoints. */
    return log->is_on && log->segment_bytes > NEARLY_FULL &&
           log->end + log->length + CROWDED > log->segment_bytes;
}

/* ---- applying ---- */

bool store_log_item_next(struct record_reader *reader, struct store_log_item *item)
{
    if (reader->at == reader->end || reader->is_failed) {
        return false;
    }
    imp_bytes name = record_read_bytes(reader, record_read_u8(reader));
    item->key = record_read_short(reader, IMP_KEY_MAX);
    uint8_t mark = record_read_u8(reader);
    item->is_delete = mark == DELETED;
    item->value =
        item->is_delete ? (imp_bytes){NULL, 0} : record_read_bytes(reader, record_read_u32(reader));
    if (name.length == 0 || name.length >= sizeof item->table ||
        memchr(name.data, 0, name.length) != NULL || item->key.length == 0 ||
        (mark != 0 && mark != DELETED)) {
        reader->is_failed = true;
    }
    if (reader->is_failed) {
        return false;
    }
    memcpy(item->table, name.data, name.length);
    item->table[name.length] = '\0';
    return true;
}

/* Tables by name, while the log is applied. */
struct applier {
    struct store *store;
    MDB_txn *txn;
    struct {
        char name[STORE_TABLE_NAME_MAX];
        MDB_dbi dbi;
    } tables[STORE_TABLES_MAX];
    uint32_t table_count;
};

static int applier_table(struct applier *applier, const char *name, MDB_dbi *dbi)
{
    for (uint32_t i = 0; i < applier->table_count; i++) {
        if (strcmp(applier->tables[i].name, name) == 0) {
            *dbi = applier->tables[i].dbi;
            return 0;
        }
    }
    if (applier->table_count == STORE_TABLES_MAX) {
        return MDB_DBS_FULL;
    }
    int code = mdb_dbi_open(applier->txn, name, 0, dbi);
    if (code == 0) {
        snprintf(applier->tables[applier->table_count].name, STORE_TABLE_NAME_MAX, "%s", name);
        applier->tables[applier->table_count++].dbi = *dbi;
    }
    return code;
}

static int apply_item(struct applier *applier, const struct store_log_item *item)
{
    union {
        const void *in;
        void *out;
    } key_cast = {.in = item->key.data}, value_cast = {.in = item->value.data};
    MDB_val key = {item->key.length, key_cast.out}, value = {item->value.length, value_cast.out};
    MDB_dbi dbi;
    int code = applier_table(applier, item->table, &dbi);
    if (code != 0) {
        return code;
    }
    return item->is_delete ? mdb_del(applier->txn, dbi, &key, NULL)
                           : mdb_put(applier->txn, dbi, &key, &value, 0);
}

static imp_status damaged(const struct store *store, const char *what, imp_error *error)
{
    return imp_error_set(error, IMP_CORRUPT,
                         "the store's log in %s is damaged: %s; restore a backup", store->folder,
                         what);
}

/* One record in one transaction, as it was. */
static imp_status apply_record(struct applier *applier, imp_bytes text, uint32_t changes,
                               uint64_t sequence, imp_error *error)
{
    struct store *store = applier->store;
    struct record_reader reader = record_reader_of(text);
    struct store_log_item item;
    uint32_t count = 0;
    if (sequence != store->sequence + 1) {
        return damaged(store, "commits are missing", error);
    }
    /* A first table that is opened is kept by the commit. */
    int code = mdb_txn_begin(store->env, NULL, 0, &applier->txn);
    if (code != 0) {
        return store_error(error, code, "applying its log");
    }
    while (code == 0 && store_log_item_next(&reader, &item)) {
        code = apply_item(applier, &item);
        count++;
    }
    if (code == MDB_NOTFOUND || reader.is_failed || (code == 0 && count != changes)) {
        mdb_txn_abort(applier->txn);
        return damaged(store, "a record does not fit the store", error);
    }
    store->sequence = sequence;
    imp_status status = code == 0 ? store_sequence_put(store, applier->txn, error)
                                  : store_error(error, code, "applying its log");
    if (status != IMP_OK) {
        mdb_txn_abort(applier->txn);
        return status;
    }
    code = mdb_txn_commit(applier->txn);
    if (code != 0) {
        return store_error(error, code, "applying its log");
    }
    atomic_store(&store->committed_sequence, sequence);
    store_space_after_commit(store);
    IMP_CRASH_POINT("recover.record-applied");
    return IMP_OK;
}

static imp_status unreadable(const struct store *store, imp_error *error)
{
    return imp_error_set(error, store_status(errno), "the store's log in %s can't be read: %s",
                         store->folder, strerror(errno));
}

/* The salt of a generation; IMP_NOT_FOUND when the file holds an older one, none, or another store's. A
 * younger one was begun when a later checkpoint was on the disk, which can't be found any more. */
static imp_status head_read(struct store *store, uint64_t generation,
                            uint8_t salt[STORE_LOG_SALT_SIZE], imp_error *error)
{
    static const uint8_t nothing[STORE_LOG_SECTOR];
    uint8_t head[STORE_LOG_SECTOR], digest[HEAD_DIGEST];
    if (!read_all(store->log.files[generation % STORE_LOG_FILES], head, sizeof head, 0)) {
        return unreadable(store, error);
    }
    if (memcmp(head, nothing, sizeof head) == 0) {
        return IMP_NOT_FOUND;
    }
    struct record_reader reader = record_reader_of((imp_bytes){head, sizeof head});
    imp_bytes magic = record_read_bytes(&reader, sizeof head_magic);
    uint64_t found = record_read_u64(&reader);
    imp_bytes id = record_read_bytes(&reader, sizeof store->id.bytes);
    imp_bytes bytes = record_read_bytes(&reader, STORE_LOG_SALT_SIZE);
    if (EVP_Digest(head, HEAD_TEXT, digest, NULL, EVP_sha256(), NULL) != 1) {
        return imp_error_set(error, IMP_LIMIT, "no memory to read the store's log");
    }
    if (memcmp(digest, head + HEAD_TEXT, sizeof digest) != 0 ||
        memcmp(magic.data, head_magic, sizeof head_magic) != 0) {
        return damaged(store, "its head does not hold", error);
    }
    if (memcmp(id.data, store->id.bytes, sizeof store->id.bytes) != 0 || found < generation) {
        return IMP_NOT_FOUND;
    }
    memcpy(salt, bytes.data, STORE_LOG_SALT_SIZE);
    return found == generation ? IMP_OK : damaged(store, "its checkpoint is missing", error);
}

struct record_head {
    uint32_t length, changes;
    uint64_t index, sequence;
};

/* Opens a record of the generation at `at`, whose number is at least `index`, into the buffer;
 * IMP_NOT_FOUND when there is none. What can't be read is another failure: it may be one that counts. */
static imp_status record_at(struct store *store, int fd, uint64_t at, uint64_t index,
                            struct record_head *head, imp_error *error)
{
    struct store_log *log = &store->log;
    uint8_t bytes[RECORD_HEAD], tag[TAG_SIZE];
    if (at + STORE_LOG_SECTOR > log->segment_bytes) {
        return IMP_NOT_FOUND;
    }
    if (!read_all(fd, bytes, sizeof bytes, at)) {
        return unreadable(store, error);
    }
    struct record_reader reader = record_reader_of((imp_bytes){bytes, sizeof bytes});
    uint32_t magic = record_read_u32(&reader);
    head->length = record_read_u32(&reader);
    head->index = record_read_u64(&reader);
    head->sequence = record_read_u64(&reader);
    head->changes = record_read_u32(&reader);
    if (magic != RECORD_MAGIC || head->index < index || head->length > log->segment_bytes ||
        at + record_size(head->length) > log->segment_bytes) {
        return IMP_NOT_FOUND;
    }
    log->length = 0;
    size_t size = record_size(head->length);
    if (!buffer_reserve(log, size)) {
        return imp_error_set(error, IMP_LIMIT, "no memory to read the store's log");
    }
    if (!read_all(fd, log->buffer, size, at)) {
        return unreadable(store, error);
    }
    memcpy(tag, log->buffer + RECORD_HEAD + head->length, TAG_SIZE);
    return crypt_record(log, false, head->index, log->buffer, log->buffer + RECORD_HEAD,
                        head->length, tag)
               ? IMP_OK
               : IMP_NOT_FOUND;
}

/* A record is written when the one before it is on the disk. So only the last can be torn, and one that
 * opens behind one that does not tells of damage. */
static imp_status check_end(struct store *store, int fd, uint64_t at, uint64_t index,
                            imp_error *error)
{
    struct record_head head;
    imp_status status = IMP_NOT_FOUND;
    while (status == IMP_NOT_FOUND && at < store->log.segment_bytes) {
        at += STORE_LOG_SECTOR;
        status = record_at(store, fd, at, index, &head, error);
    }
    if (status == IMP_OK) {
        return damaged(store, "a record in the middle does not open", error);
    }
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

static imp_status apply_generation(struct applier *applier, uint64_t generation, imp_error *error)
{
    struct store *store = applier->store;
    int fd = store->log.files[generation % STORE_LOG_FILES];
    uint64_t at = STORE_LOG_HEAD_SIZE, index = 0;
    struct record_head head = {0};
    imp_status status;
    while ((status = record_at(store, fd, at, index, &head, error)) == IMP_OK &&
           head.index == index) {
        imp_bytes text = {store->log.buffer + RECORD_HEAD, head.length};
        status = apply_record(applier, text, head.changes, head.sequence, error);
        if (status != IMP_OK) {
            return status;
        }
        at += record_size(head.length);
        index++;
    }
    if (status == IMP_OK) {
        return damaged(store, "a record is missing", error);
    }
    return status == IMP_NOT_FOUND ? check_end(store, fd, at, index, error) : status;
}

imp_status store_log_apply(struct store *store, uint64_t generation, uint64_t *last,
                           imp_error *error)
{
    struct applier *applier = calloc(1, sizeof *applier);
    uint8_t salt[STORE_LOG_SALT_SIZE];
    imp_status status = IMP_OK;
    *last = generation;
    if (applier == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory to apply the store's log");
    }
    applier->store = store;
    /* The checkpoint's own, and the one begun with a checkpoint that was cut short. */
    for (uint64_t next = generation; next < generation + STORE_LOG_FILES && status == IMP_OK;
         next++) {
        status = head_read(store, next, salt, error);
        if (status == IMP_NOT_FOUND) {
            status = IMP_OK; /* not begun; the other file is looked at all the same */
            continue;
        }
        if (status == IMP_OK && !cipher_set_key(store, salt, false)) {
            status = imp_error_set(error, IMP_LIMIT, "no memory to open the store's log");
        }
        if (status == IMP_OK) {
            status = apply_generation(applier, next, error);
            *last = next;
        }
    }
    record_reset(&store->log);
    free(applier);
    return status;
}
