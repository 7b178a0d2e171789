/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the store as the core sees it; the modules' part is <imprimatur/store.h>.
 *
 * One LMDB environment in STATE/store, opened once per process (MDB_NOTLS), and the log that makes its
 * commits durable (store-log.h). Files:
 *
 *     store.c        open, close, lock, format      store-table.c   declare, migrate, find
 *     store-keys.c   key table                      store-tx.c      get, put, delete, numbers
 *     store-write.c  queues, writer, batches        store-cursor.c  walks
 *     store-read.c   read transactions              store-space.c   growing the file ahead of need
 *     store-hooks.c  the server's threads and loops   store-log.c     the commit log
 *     store-checkpoint.c  LMDB's pages behind it, recovery
 *
 * The server: store_open -> store_set_current -> (store_table_declare per module) -> store_close.
 * Offline tools open it the same way; the lock on the state folder tells them when a server runs.
 */
#ifndef CORE_STORE_H
#define CORE_STORE_H

#include <imprimatur/store.h>

#include "core/keys.h"

#define STORE_FORMAT 1u         /* of the environment and the core's own tables */
#define STORE_TABLES_MAX 256u   /* tables in one store */
#define STORE_READERS_MAX 1024u /* read transactions at one time */
#define STORE_MAP_SIZE_DEFAULT (UINT64_C(64) << 30)
#define STORE_EXTEND_STEP_DEFAULT (UINT64_C(64) << 20)
#define STORE_BATCH_CLOSURES 256u
#define STORE_BATCH_BYTES (UINT64_C(4) << 20)
#define STORE_QUEUE_DEFAULT 4096u
#define STORE_READ_AGE_MAX (10 * IMP_SECOND) /* a read transaction older than this is logged */
#define STORE_READER_CHECK_INTERVAL (60 * IMP_SECOND)

struct store;

enum store_mode {
    STORE_THREADED, /* a writer thread; the server */
    STORE_INLINE,   /* imp_store_write runs the closure and calls `done` before it returns */
    STORE_MANUAL,   /* closures wait for store_run_batch: tests of batches */
};

/* How the store reaches loops, threads and modules; NULL members do nothing, or call directly. */
struct store_hooks {
    /* The loop of the calling thread (imp_loop_current); NULL off any loop. */
    void *(*loop_current)(void);
    /* Calls fn(arg) on that loop, without fail. `node` is memory for the post until fn is called. */
    void (*post)(void *loop, void *node, void (*fn)(void *arg), void *arg);
    void (*writer_begin)(void); /* the writer thread: start, between batches, around sleep, end */
    void (*writer_beat)(void);
    void (*writer_sleep)(void);
    void (*writer_wake)(void);
    void (*writer_rest)(void); /* a long work begins (a migration): silence is no stall */
    void (*writer_end)(void);
    void (*pin)(imp_self *self); /* while a closure waits or its done is on the way */
    void (*unpin)(imp_self *self);
    void (*call_begin)(imp_self *self); /* around each call into a module */
    void (*call_end)(imp_self *self);
    /* A sync failed: must not return. Default: one line on standard error and _exit(STORE_EXIT). */
    void (*fatal)(const imp_error *error);
};
#define STORE_POST_NODE_SIZE 64u
/* The server's: loop.h, thread.h, module.h, self.h; fatal exits with SERVER_EXIT_STORE. */
extern const struct store_hooks store_hooks_server;

/* Sees every change of every table, on the writer, before the commit: the one place that a change log
 * needs. `sealed` has no data for a deletion. */
typedef void (*store_change_observer)(void *arg, uint64_t sequence, const char *table,
                                      imp_bytes key, bool is_delete, imp_bytes sealed);

struct store_options {
    const char *state_dir; /* exists; the store goes into state_dir/store, 0700 */
    const uint8_t *master; /* KEYS_MASTER_SIZE bytes; not kept */
    enum store_mode mode;
    const struct store_hooks *hooks; /* NULL: direct calls */
    bool must_exist;                 /* offline tools: IMP_NOT_FOUND instead of a new store */
    bool is_read_only;               /* makes no new sealing salt; every write is refused */
    uint64_t map_size;               /* 0 = default */
    uint64_t extend_step;            /* 0 = default; tests take a small one */
    uint32_t queue_control;          /* closures that may wait; 0 = default */
    uint32_t queue_bulk;
    store_change_observer observer; /* may be NULL */
    void *observer_arg;
};

/* True when STATE/store holds a store, even a damaged one: then no master key may be made. */
bool store_exists(const char *state_dir);

/* Locks the state folder, opens or makes the store, checks format and master key, adds a sealing
 * salt, starts the writer. One clear line in `error`: IMP_BUSY (a second instance), IMP_DENIED (master
 * key), IMP_UNSUPPORTED (newer format, unfinished restore), IMP_CORRUPT, IMP_IO, IMP_NO_SPACE. Nothing
 * of an existing store is changed by a refusal. */
imp_status store_open(const struct store_options *options, struct store **store, imp_error *error)
    IMP_MUST_CHECK;
/* Runs what waits, ends the writer, closes. Closures that come meanwhile get IMP_UNAVAILABLE. */
void store_close(struct store *store);

/* The store behind the imp_store_* functions; NULL for none. */
void store_set_current(struct store *store);
struct store *store_current(void);

/* ---- tables ---- */

typedef imp_status (*store_migrate)(imp_self *self, imp_tx *tx, const imp_table_spec *table,
                                    uint32_t from, imp_error *error);
/* Declares the tables (NULL name ends them) of `module`, in one transaction: makes those that are
 * missing, migrates older ones step by step, refuses newer ones naming both schemas (IMP_UNSUPPORTED).
 * Blocks. The loader calls it in front of a module's start(), again for each generation. */
imp_status store_table_declare(struct store *store, imp_self *self, const char *module,
                               const imp_table_spec *specs, store_migrate migrate, imp_error *error)
    IMP_MUST_CHECK;
/* By full name ("jobs.job"); NULL when nobody declared it in this process. Any thread. */
imp_table *store_table_find(struct store *store, const char *full_name);
/* Opens every table that the store knows of as it is found, without migration: for verify. */
imp_status store_table_open_all(struct store *store, imp_error *error) IMP_MUST_CHECK;

/* ---- the SDK's functions for a given store ---- */

imp_status store_write(struct store *store, imp_self *self, imp_write_queue queue,
                       imp_write_function fn, imp_write_done done, void *arg) IMP_MUST_CHECK;
void store_wait(struct store *store, imp_self *self, imp_write_queue queue,
                void (*ready)(void *arg), void *arg);
imp_status store_write_sync(struct store *store, imp_self *self, imp_write_function fn, void *arg,
                            imp_error *error);
imp_status store_read_begin(struct store *store, imp_self *self, imp_tx **tx, imp_error *error)
    IMP_MUST_CHECK;
/* STORE_MANUAL: runs one batch on this thread; false when nothing waited. */
bool store_run_batch(struct store *store);

/* ---- generations (self.h) ---- */

/* Drops the waiters of imp_store_wait; closures stay and finish, held by their pins. Any thread. */
void store_sweep(struct store *store, const imp_self *self);

/* ---- state, for `status`, metrics and tests (any thread) ---- */

struct store_stats {
    uint64_t commits, closures, closures_failed, changes, syncs_us, reads, checkpoints;
    uint64_t waiting_control, waiting_bulk;
    uint64_t sequence;   /* of the last commit */
    uint64_t used_bytes; /* up to the last page in use */
    uint64_t file_bytes; /* the file, extended ahead of need */
    uint64_t map_bytes;
    uint64_t reads_open;
    bool is_short_of_space; /* the disk refused to extend: bulk writes are refused at the door */
};
void store_stats_get(struct store *store, struct store_stats *stats);
imp_id store_id(struct store *store);
const char *store_state_dir(struct store *store);
struct keyring *store_keyring(struct store *store);
/* Registers imprimatur_store_* . Control thread. */
void store_register_metrics(struct store *store);

/* Replaces the wrapping of the root keys by another master key, in one commit. Blocks. */
imp_status store_rewrap(struct store *store, const uint8_t master[KEYS_MASTER_SIZE],
                        imp_error *error) IMP_MUST_CHECK;

#endif
