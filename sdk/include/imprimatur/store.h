/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the one durable store: tables of sealed values, one writer, group commit.
 *
 * A table belongs to the module that declares it (its full name is MODULE.TABLE); no other module
 * can open it. Values are sealed (AES-256-GCM, table name and record key as associated data); keys
 * are not, so no personal data and no secret may stand in a key: use ids or imp_keyed_hash().
 *
 * Writing: imp_store_write() queues a closure. The writer runs all that wait in one transaction,
 * each nested (one that fails leaves no trace), syncs once, then calls every `done` on the loop
 * that asked. When `done` says IMP_OK the closure's changes are durable. A closure only reads and
 * writes tables: no hook, no I/O, no lock, no service call but those marked _tx; it may run again
 * after a failed attempt, so it must compute its result anew each time.
 *
 * Reading: imp_store_read_begin() anywhere; keep it short, never across a callback.
 */
#ifndef IMPRIMATUR_STORE_H
#define IMPRIMATUR_STORE_H

#include <imprimatur/base.h>

typedef struct imp_tx imp_tx;         /* a transaction, reading or writing */
typedef struct imp_table imp_table;   /* an open table of this module */
typedef struct imp_cursor imp_cursor; /* a walk over one table, in key order */

/* A row of a module's `tables`; a NULL name ends them. */
typedef struct imp_table_spec {
    const char *name; /* [a-z][a-z0-9_]*; "job" of module jobs is jobs.job */
    uint32_t schema;  /* version of its records, from 1; a store with a higher one is refused */
    uint32_t flags;
} imp_table_spec;

#define IMP_TABLE_VOLATILE 0x1u /* not in backups: documents */
#define IMP_TABLE_PLAIN 0x2u    /* values are not sealed: index entries that hold ids only */

#define IMP_KEY_MAX 500u                    /* bytes in a record key */
#define IMP_VALUE_MAX ((size_t)1024 * 1024) /* bytes in a value */

/* The table's handle, for imp_tx_get and the others; valid until the generation ends. NULL when the
 * module declares no such table. Control thread (in start). */
IMP_PUBLIC imp_table *imp_table_open(imp_self *self, const char *name);

typedef imp_status (*imp_write_function)(imp_tx *tx, void *arg, imp_error *error);
/* `status` is what the closure returned, or why the commit failed (IMP_NO_SPACE, IMP_UNAVAILABLE at
 * shutdown). Called exactly once, on the loop that called imp_store_write. */
typedef void (*imp_write_done)(imp_status status, const imp_error *error, void *arg);

typedef int32_t imp_write_queue;
#define IMP_WRITE_CONTROL ((imp_write_queue)0) /* release, delete, audit, sessions */
#define IMP_WRITE_BULK ((imp_write_queue)1)    /* intake */

/* Queues a closure. IMP_BUSY when the queue is full: pause the connection and try again when
 * imp_store_wait's callback comes; then neither fn nor done is called for this attempt. `arg` must
 * live until `done`. `done` may be NULL. Loop and control threads. */
IMP_PUBLIC imp_status imp_store_write(imp_self *self, imp_write_queue queue, imp_write_function fn,
                                      imp_write_done done, void *arg) IMP_MUST_CHECK;
/* Calls `ready` once on this loop as soon as the queue has room again. */
IMP_PUBLIC void imp_store_wait(imp_self *self, imp_write_queue queue, void (*ready)(void *arg),
                               void *arg);
/* Runs a closure and waits for its commit. Only in start, migrate and on worker threads: it
 * blocks. */
IMP_PUBLIC imp_status imp_store_write_sync(imp_self *self, imp_write_function fn, void *arg,
                                           imp_error *error);

/* A read transaction of this thread; every begin needs its end. Any thread but the writer. */
IMP_PUBLIC imp_status imp_store_read_begin(imp_self *self, imp_tx **tx, imp_error *error);
/* Ends it; what was read in it is gone. On the thread that began it. */
IMP_PUBLIC void imp_store_read_end(imp_tx *tx);

/* The opened value of a key. `value->data` lives in the transaction's arena until it ends (read) or
 * the closure returns (write). IMP_NOT_FOUND, or IMP_CORRUPT when the seal does not hold. */
IMP_PUBLIC imp_status imp_tx_get(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes *value);
/* Writing transactions only; replaces what is there. */
IMP_PUBLIC imp_status imp_tx_put(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes value);
/* As imp_tx_put, but IMP_EXISTS when the key is there. */
IMP_PUBLIC imp_status imp_tx_insert(imp_tx *tx, imp_table *table, imp_bytes key, imp_bytes value);
/* IMP_NOT_FOUND when it was not there. */
IMP_PUBLIC imp_status imp_tx_delete(imp_tx *tx, imp_table *table, imp_bytes key);
/* Records in the table. */
IMP_PUBLIC imp_status imp_tx_count(imp_tx *tx, imp_table *table, uint64_t *count);
/* The next number of this table's own durable sequence, from 1, gap-free over committed
 * transactions. Writing transactions only. */
IMP_PUBLIC imp_status imp_tx_next_number(imp_tx *tx, imp_table *table, uint64_t *number);
/* True inside a closure (writing), false in a read transaction. */
IMP_PUBLIC bool imp_tx_is_writing(const imp_tx *tx);

/* A walk in key order, starting at the first key >= `from` (an empty key: the first of all). The
 * cursor must be closed before the transaction ends. Deleting the record it stands on is allowed. */
IMP_PUBLIC imp_status imp_cursor_open(imp_tx *tx, imp_table *table, imp_bytes from,
                                      imp_cursor **cursor);
/* IMP_NOT_FOUND at the end. `value` may be NULL: then nothing is opened (cheap). The value of one
 * step is valid until the next step. */
IMP_PUBLIC imp_status imp_cursor_next(imp_cursor *cursor, imp_bytes *key, imp_bytes *value);
/* The same walk backwards; the first call gives the last key < `from`, or the last of all when
 * `from` was empty. A cursor goes in one direction only. */
IMP_PUBLIC imp_status imp_cursor_previous(imp_cursor *cursor, imp_bytes *key, imp_bytes *value);
/* Ends the walk. */
IMP_PUBLIC void imp_cursor_close(imp_cursor *cursor);

/* A scratch copy in the transaction's arena. NULL when memory is short. */
IMP_PUBLIC void *imp_tx_alloc(imp_tx *tx, size_t length);

#define IMP_HASH_SIZE 32

/* HMAC-SHA256 under the index root key, separated by module and `purpose` ("card", "user"): the only
 * form in which a secret or a personal name may stand in a key. Any thread. */
IMP_PUBLIC void imp_keyed_hash(imp_self *self, const char *purpose, imp_bytes data,
                               uint8_t hash[IMP_HASH_SIZE]);
/* HKDF-SHA256(spool root key, salt, MODULE 0 info): a document's or string's key. `length` at most
 * 64. The caller wipes it. Any thread. */
IMP_PUBLIC void imp_derive_key(imp_self *self, imp_bytes salt, imp_bytes info, void *key,
                               size_t length);
/* Random, made with the store and anew at each restore; with the sequence of commits it names a
 * state of the store. Any thread. */
IMP_PUBLIC imp_id imp_store_id(void);
/* The folder of the instance's state ("/var/lib/imprimatur"); a module's own files go into a folder
 * below it that it makes itself. Any thread. */
IMP_PUBLIC const char *imp_state_dir(imp_self *self);

/* A table of this module inside `tx`, whatever store `tx` belongs to: the running one, or a backup's that
 * is being verified. NULL when that store has no such table. */
IMP_PUBLIC imp_table *imp_tx_table(imp_tx *tx, imp_self *self, const char *name);
/* Adds a check that `backup verify` runs on the restored tables, in a read transaction, on a worker
 * thread ("the chain has no gap"). Open its tables with imp_tx_table. Control thread (in start). */
IMP_PUBLIC imp_status imp_backup_check_add(imp_self *self,
                                           imp_status (*check)(imp_self *self, void *instance,
                                                               imp_tx *tx, imp_error *error),
                                           imp_error *error);

/* The number of the newest point of the store that is also known outside of it (module audit's
 * checkpoints): the supervisor keeps it, so that a store that was put back as a whole is noticed. Only
 * grows; a smaller number is ignored. Loop threads. */
IMP_PUBLIC void imp_checkpoint_tell(imp_self *self, uint64_t number);
/* What the supervisor knew when this server started; 0 = nothing. Any thread. */
IMP_PUBLIC uint64_t imp_checkpoint_remembered(imp_self *self);

#endif
