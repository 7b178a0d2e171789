/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-private.h - what the store's files share. LMDB's types stay within core/store*.c and the backup.
 */
#ifndef CORE_STORE_PRIVATE_H
#define CORE_STORE_PRIVATE_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/seal.h"
#include "core/store-arena.h"
#include "core/store-log.h"
#include "core/store.h"

#define STORE_TABLE_NAME_MAX 80u
#define STORE_FOLDER "store"
#define STORE_FILE "data.mdb"
#define STORE_PATH_MAX 4096u

/* Records of core.meta, all plain. */
#define STORE_META_FORMAT "format"       /* u32 */
#define STORE_META_ID "store-id"         /* 16 bytes */
#define STORE_META_SEQUENCE "sequence"   /* u64: commits since the store was made */
#define STORE_META_LOG "log"             /* the store is not whole without its checkpoint */
#define STORE_META_RESTORING "restoring" /* there while a restore is unfinished */

struct imp_table {
    struct imp_table *next;
    struct store *store;
    MDB_dbi dbi;
    bool is_open;    /* the dbi is valid: its opening was committed */
    bool is_pending; /* opened in the transaction that runs */
    uint32_t schema, flags;
    struct seal_scope scope; /* .name is `name` */
    char name[STORE_TABLE_NAME_MAX];
};

struct imp_tx {
    struct imp_tx *next, *previous; /* in the list of open or of idle reads */
    struct store *store;
    imp_self *self;
    MDB_txn *txn;
    struct store_arena arena;
    imp_cursor *cursors; /* open ones */
    bool is_writing;
    bool is_long_allowed; /* backup: its age is bounded otherwise */
    bool is_age_logged;
    int64_t began;      /* ticks */
    imp_status failure; /* the first error that spoils a writing transaction */
    uint64_t changes, seals, bytes;
};

struct store_sync {
    pthread_cond_t cond;
    bool is_done;
    imp_status status;
    imp_error error;
};

/* A closure that waits or runs. */
struct store_closure {
    imp_self *self;
    imp_write_function fn;
    imp_write_done done;
    void *arg;
    void *loop;
    struct store_sync *sync; /* of imp_store_write_sync; else NULL */
    imp_write_queue queue;
    bool is_exclusive;     /* its own transaction, not nested: opening tables, keys */
    bool has_seen_changes; /* ran behind changes of the same transaction, which may be taken back */
    imp_status status;
    imp_error *error; /* allocated when there is something to say */
};

struct store_waiter {
    struct store_waiter *next;
    imp_self *self;
    void (*ready)(void *arg);
    void *arg;
    void *loop;
    struct store *store;
    _Alignas(max_align_t) unsigned char node[STORE_POST_NODE_SIZE];
};

struct store_queue {
    struct store_closure *ring;
    uint32_t room, first, count;
    struct store_waiter *waiters, **waiters_end;
};

#define STORE_QUEUE_COUNT 2

struct store {
    MDB_env *env;
    char state_dir[STORE_PATH_MAX];
    char folder[STORE_PATH_MAX];
    int lock_fd;
    enum store_mode mode;
    struct store_hooks hooks;
    bool is_read_only;
    imp_id id;
    struct keyring *ring;
    store_change_observer observer;
    void *observer_arg;

    /* tables */
    pthread_mutex_t declare_lock; /* one opens tables at a time */
    pthread_mutex_t table_lock;   /* the list, is_open */
    imp_table *tables;
    uint32_t next_table_number;
    imp_table *meta, *keys, *table_list,
        *numbers; /* core.meta, core.key, core.table, core.number */

    /* writer */
    pthread_mutex_t lock; /* queues, waiters, is_closing */
    pthread_cond_t work, room;
    struct store_queue queues[STORE_QUEUE_COUNT];
    bool is_closing;
    bool has_writer;
    pthread_t writer;
    struct imp_tx write_tx;      /* handed to closures; the writer's only one */
    struct store_closure *batch; /* STORE_BATCH_CLOSURES: taken from the queues */
    uint64_t sequence;           /* of the running commit; writer only */
    uint8_t turn;                /* the queue that is asked first */
    int64_t next_check;

    /* durability */
    struct store_log log;
    struct store_checkpointer checkpointer;

    /* reads */
    pthread_mutex_t read_lock;
    struct imp_tx *reads_open, *reads_idle;
    uint32_t reads_idle_count;

    /* space */
    pthread_mutex_t space_lock;
    pthread_cond_t space_work, space_done;
    pthread_t extender;
    bool has_extender, space_ends, space_wanted, space_running;
    int data_fd; /* data.mdb, appending only */
    uint64_t extend_step, map_size;
    _Atomic uint64_t file_bytes, used_bytes;
    _Atomic bool is_short;
    int64_t space_tried, free_counted; /* monotonic, us */
    uint64_t free_bytes;
    uint32_t page_size;

    /* counts */
    _Atomic uint64_t commits, closures, closures_failed, changes, syncs_us, read_count,
        committed_sequence;
};

/* ---- status ---- */

/* What an LMDB (or errno) code means here. */
imp_status store_status(int code);
imp_status store_error(imp_error *error, int code, const char *what);

/* Monotonic microseconds of the real clock: a frozen test clock must not keep the file from growing, or
 * checkpoints from being due. */
int64_t store_clock_us(void);

/* ---- opening for a restore ---- */

/* What a restored store begins with. */
struct store_preset {
    const struct keys_record *keys;
    size_t key_count;
    uint64_t sequence;
    const struct keyring *like; /* root keys from here instead of a master key; or NULL */
};
/* As store_open; with a preset it makes a new store from it, marked as unfinished until
 * store_restore_end. The preset store takes records by store_restore_put alone. */
imp_status store_open_preset(const struct store_options *options, const struct store_preset *preset,
                             struct store **store, imp_error *error) IMP_MUST_CHECK;
imp_status store_restore_table(struct store *store, const char *name, uint32_t schema,
                               uint32_t flags, uint64_t number, imp_table **table, imp_error *error)
    IMP_MUST_CHECK;
imp_status store_restore_put(struct store *store, imp_table *table, imp_bytes key, imp_bytes sealed,
                             imp_error *error) IMP_MUST_CHECK;
/* Commits, and takes the mark away. */
imp_status store_restore_end(struct store *store, imp_error *error) IMP_MUST_CHECK;

/* ---- tables ---- */

/* A handle by name, made if there is none; not yet open. NULL when memory or room is short. */
imp_table *store_table_handle(struct store *store, const char *name, uint32_t flags);
/* The record of core.table. */
struct store_table_record {
    uint32_t schema, flags;
};
imp_status store_table_record_read(imp_bytes bytes, struct store_table_record *record);
/* Calls `visit` for every table that the store knows, in the order of their names, until it fails. */
typedef imp_status (*store_table_visit)(void *arg, const char *name,
                                        const struct store_table_record *record, imp_error *error);
imp_status store_table_each(imp_tx *tx, store_table_visit visit, void *arg, imp_error *error);

/* ---- changes ---- */

/* The one function through which every record of a table is put or deleted: `value` NULL deletes;
 * `is_raw` takes it as sealed already. Writing transactions. */
imp_status store_apply(imp_tx *tx, imp_table *table, imp_bytes key, const imp_bytes *value,
                       bool must_be_new, bool is_raw);
/* Straight to core.meta, outside of what a change log sees: it describes the store, not its data. */
imp_status store_meta_put(struct store *store, MDB_txn *txn, const char *name, const void *data,
                          size_t length, imp_error *error);
imp_status store_meta_get(struct store *store, MDB_txn *txn, const char *name, imp_bytes *value);
/* The store's sequence number, as the transaction's. */
imp_status store_sequence_put(struct store *store, MDB_txn *txn, imp_error *error);
imp_status store_sync_folder(const char *path, imp_error *error);
/* Makes a checkpoint and waits until it is on the disk. Writer; what fails is fatal. */
void store_checkpoint_now(struct store *store);

/* ---- keys (store-keys.c) ---- */

imp_status store_keys_load(struct store *store, MDB_txn *txn, const uint8_t *master,
                           imp_error *error) IMP_MUST_CHECK;
/* For keyring_make and friends. */
struct store_key_sink {
    struct store *store;
    MDB_txn *txn;
};
imp_status store_key_write(void *sink, const struct keys_record *record, imp_error *error);

/* ---- transactions ---- */

void store_tx_reset(imp_tx *tx); /* closes cursors that were left, resets the arena */
/* Opens a reading transaction that may grow old. */
imp_status store_read_begin_long(struct store *store, imp_tx **tx, imp_error *error);
/* Logs reads that are too old, frees slots of dead processes. */
void store_reads_check(struct store *store);
void store_reads_end_all(struct store *store);

/* ---- writer ---- */

imp_status store_writer_start(struct store *store, imp_error *error);
void store_writer_stop(struct store *store);
/* As store_write_sync, in a transaction of its own. */
imp_status store_write_exclusive(struct store *store, imp_self *self, imp_write_function fn,
                                 void *arg, imp_error *error);
_Noreturn void store_fatal(struct store *store, int code, const char *what);
_Noreturn void store_fatal_error(struct store *store, const imp_error *error);

/* ---- space ---- */

imp_status store_space_start(struct store *store, bool is_new, imp_error *error);
void store_space_stop(struct store *store);
/* After a commit: asks for more room when little is left. */
void store_space_after_commit(struct store *store);
/* Before a batch: waits for an extension that is under way when next to no room is left. */
void store_space_before_batch(struct store *store);
/* True when a closure of this queue may run now. */
bool store_space_permits(struct store *store, imp_write_queue queue);
/* Neither disk nor map gives more, and little is left: freed pages are wanted back. */
bool store_space_is_scarce(const struct store *store);
/* The disk said no in a commit. */
void store_space_was_refused(struct store *store);

#endif
