/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-log.h - what makes a commit durable: its changes are appended to a log, by one write and one
 * sync, while LMDB's own pages go to the disk later, in the order of their places.
 *
 * A synced commit of LMDB costs two flushes and some thirty pages that lie scattered; the same changes
 * in the log are one run of bytes and one flush. LMDB commits with MDB_NOSYNC then, and what that may
 * lose is bought back by checkpoints:
 *
 *     checkpoint N   all pages of LMDB's transaction T are synced, then T's meta page is written to
 *                    STATE/store/checkpoint, and synced. A read transaction (the keeper) holds T, so that
 *                    LMDB overwrites none of its pages before checkpoint N + 1 is on the disk.
 *     log            STATE/store/log.0 and log.1 in turn: generation G lies in file G % 2 and holds
 *                    all commits since the checkpoint that names it. Generation G + 1 is begun with the
 *                    next checkpoint, so while that is under way both count.
 *     recovery       T's meta page is put back, LMDB is as it was at T, and the log is applied.
 *
 * A store that was closed in order says so in its checkpoint ("clean"): then LMDB's own meta pages
 * count and there is nothing to apply. Until the log is on, and in stores that are open for reading
 * or being restored, every commit is synced by LMDB itself.
 *
 * The record is on the disk before LMDB commits, so what a read shows is durable. What a log can't hold
 * (making tables, keys, a closure that is too long) is committed first and followed by a checkpoint before
 * it is answered.
 *
 * A record of the log is sealed with AES-256-GCM under a key of its generation, HKDF(store root key,
 * random salt in the file's head), with its number as the nonce: a record that is torn, or left from
 * an older generation, does not open. The values in it are sealed by their tables' keys besides.
 *
 * Threads: the writer, and the checkpointer, which does nothing but sync and write checkpoints.
 */
#ifndef CORE_STORE_LOG_H
#define CORE_STORE_LOG_H

#include <pthread.h>
#include <stdatomic.h>

#include <lmdb.h>

#include "core/record.h"
#include "core/store.h"

#define STORE_LOG_FILES 2u
#define STORE_LOG_SALT_SIZE 32u
/* A file of the log is this part of what the data file grows by, and at least so long. */
#define STORE_LOG_STEP_PART 4u
#define STORE_LOG_SEGMENT_MIN (UINT64_C(256) << 10)
/* The head takes the first block of a file; records begin at whole sectors, so that writing one touches
 * no sector of another. */
#define STORE_LOG_HEAD_SIZE 4096u
#define STORE_LOG_SECTOR 512u

struct evp_cipher_ctx_st;

struct store_log {
    bool is_on;
    int files[STORE_LOG_FILES];
    uint64_t segment_bytes; /* of each */
    uint64_t generation;    /* that is written now */
    uint64_t end;           /* where its next record goes */
    uint64_t index;         /* number of its next record */
    struct evp_cipher_ctx_st *cipher;

    /* The record of the transaction that runs: head, changes, room for the tag. */
    uint8_t *buffer;
    size_t length, room;
    uint32_t changes;
    bool is_unfit;   /* something in the transaction can't be logged */
    bool is_spoiled; /* the generation takes no more */
};

/* A checkpoint as it stands in the file. */
struct store_checkpoint {
    uint64_t number;     /* 0: there is none */
    uint64_t generation; /* the log's first one to apply */
    uint64_t sequence;   /* the store's, at it */
    uint64_t transaction;
    bool is_clean;
    uint32_t page_size;
    uint8_t *meta; /* page_size bytes */
};

struct store_checkpointer {
    int file; /* STATE/store/checkpoint */
    struct store_checkpoint last;
    MDB_txn *keeper;     /* holds last's pages */
    uint64_t used_bytes; /* of the data file, at it */
    int64_t begun;       /* monotonic, us */

    /* The one under way. */
    struct store_checkpoint next;
    MDB_txn *next_keeper;

    pthread_mutex_t lock;
    pthread_cond_t wanted, done;
    pthread_t thread;
    bool has_thread, is_wanted, is_running, is_ending;
    _Atomic uint64_t count;
};

/* ---- for the store (store.c); writer thread or before it runs ---- */

bool store_checkpoint_exists(const struct store *store);
/* Before the environment is opened: reads the checkpoint and, when the store was not closed in order,
 * puts its meta page back. */
imp_status store_checkpoint_load(struct store *store, imp_error *error) IMP_MUST_CHECK;
/* With the environment and the keys open: applies the log, so that LMDB holds every durable commit. Does
 * nothing after an orderly end. */
imp_status store_log_recover(struct store *store, imp_error *error) IMP_MUST_CHECK;
/* From here on commits are made durable by the log. */
imp_status store_log_start(struct store *store, imp_error *error) IMP_MUST_CHECK;
/* Makes LMDB hold everything, and says so ("clean"). */
void store_log_stop(struct store *store);
/* Frees what there is, in any state. */
void store_log_free(struct store *store);

/* ---- for the writer (store-write.c) ---- */

/* In front of a transaction: an empty record, and a checkpoint when one is due. */
void store_log_before(struct store *store);
/* Between batches: the same for a store that has nothing to do. */
void store_log_idle(struct store *store);
/* A change; `stored` is the value as it lies in the table. */
void store_log_change(struct store *store, const char *table, imp_bytes key, bool is_delete,
                      imp_bytes stored);
/* Where the record ends now, and cutting it back to there when a closure has failed. */
struct store_log_mark {
    size_t length;
    uint32_t changes;
};
struct store_log_mark store_log_mark(const struct store *store);
void store_log_cut(struct store *store, struct store_log_mark mark);
/* The transaction changes what is no record of a table. */
void store_log_unfit(struct store *store);
/* The record may not have room for another closure. */
bool store_log_is_crowded(const struct store *store);
enum store_logged {
    STORE_LOG_OFF,     /* LMDB syncs by itself */
    STORE_LOG_DURABLE, /* LMDB may commit: what readers will see then is on the disk */
    STORE_LOG_LATER,   /* no record: a checkpoint behind LMDB's commit */
    STORE_LOG_NO_SPACE /* nothing of it will be there */
};
/* In front of LMDB's commit: returns when the record is on the disk. Another failure is fatal. */
enum store_logged store_log_append(struct store *store);
/* Behind it. What LMDB refused, though it was logged, counts no more when this returns. */
void store_log_settle(struct store *store, enum store_logged logged, bool is_committed);

/* ---- between the two files ---- */

/* Opens the files; makes them when they are missing and that is no loss, written with zeros and synced. */
imp_status store_log_open(struct store *store, bool may_make, imp_error *error) IMP_MUST_CHECK;
/* Writes all of it at `offset`, over short writes and signals. 0 or an errno. */
int store_write_all(int fd, const uint8_t *data, size_t length, uint64_t offset);
/* Asks a file system that copies on writing to overwrite this empty file in place: then the room that it
 * has is its own. Others do not know the flag. */
void store_ask_overwriting(int fd);
/* Begins a generation with a new salt and key, in its file. 0 or an errno. */
int store_log_begin(struct store *store, uint64_t generation);
/* Applies generations from `generation` on, as far as there are any; `last` is the highest one seen. */
imp_status store_log_apply(struct store *store, uint64_t generation, uint64_t *last,
                           imp_error *error) IMP_MUST_CHECK;
bool store_log_is_half_full(const struct store *store);
bool store_log_is_nearly_full(const struct store *store);

/* ---- a record's text, for the fuzzer too ---- */

struct store_log_item {
    char table[80];
    imp_bytes key, value; /* value without data: deleted */
    bool is_delete;
};
/* The next change; false at the end, or when the text is damaged (reader->is_failed). */
bool store_log_item_next(struct record_reader *reader, struct store_log_item *item);

#endif
