/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-private.h - what the spool's own files share.
 *
 *     spool.c           opening, space, checks of the file systems
 *     spool-task.c      blocking work, bounded per loop
 *     spool-buffers.c   the pool of buffers for direct I/O, shared fairly
 *     spool-chunk.c     numbers in use, as bitmaps in the store; leases between generations
 *     spool-slots.c     key slots at hand; keys of documents and strings
 *     spool-files.c     files at hand
 *     spool-writer.c    one document's way to the disk        spool-inline.c  into the store
 *     spool-reader.c    and back
 *     spool-shred.c     condemn, overwrite, free
 *     spool-strings.c   a job's personal strings
 *
 * Lock order: none is taken inside another.
 */
#ifndef JOBS_SPOOL_PRIVATE_H
#define JOBS_SPOOL_PRIVATE_H

#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <pthread.h>
#include <stdatomic.h>

#include "modules/jobs/key-pool.h"
#include "modules/jobs/segment.h"
#include "modules/jobs/spool-buffers.h"
#include "modules/jobs/spool-io.h"
#include "modules/jobs/spool.h"

/* ---- blocking work ---- */

struct spool_task {
    struct spool *spool;
    struct spool_task *next;
    void (*run)(struct spool_task *task); /* on a worker */
    /* On the loop that started it; `was_cancelled`: run was not called. */
    void (*done)(struct spool_task *task, bool was_cancelled);
};

/* Works of one loop that wait or run in the core's pool; more wait here. */
#define SPOOL_LANE_DEPTH 32u
/* Until a full queue of the core's pool is tried again when none of our works will report. */
#define SPOOL_LANE_PAUSE (5 * IMP_MILLISECOND)

struct spool_lane { /* of one loop, touched on it alone */
    uint32_t running;
    bool is_pausing;
    struct spool_task *first, **last;
};

/* Starts a task whose spool, run and done are set. Loop and control threads. */
void spool_task_start(struct spool_task *task);

/* ---- numbers in use ---- */

#define SPOOL_CHUNK 1024u /* numbers in a row of jobs.slot or jobs.file */
#define SPOOL_BITMAP (SPOOL_CHUNK / 8)

/* What is leased by a lock on a byte of spool/lock; held by one generation of the module at a time,
 * gone with it. */
enum spool_lease {
    SPOOL_LEASE_SLOTS, /* a chunk of slots */
    SPOOL_LEASE_FILES, /* a chunk of files */
    SPOOL_LEASE_GROW,  /* the right to append to the key pool */
    SPOOL_LEASE_SHRED, /* the right to overwrite and free what is condemned */
};

bool spool_lease_take(struct spool *spool, enum spool_lease lease, uint32_t chunk);
void spool_lease_give(struct spool *spool, enum spool_lease lease, uint32_t chunk);
/* The bitmap of a chunk as last committed; zeros when there is none. */
imp_status spool_chunk_get(struct spool *spool, imp_table *table, uint32_t chunk,
                           uint8_t bitmap[SPOOL_BITMAP], imp_error *error);
/* Writer thread. IMP_EXISTS when the number is in use already. */
imp_status spool_chunk_mark_tx(imp_tx *tx, imp_table *table, uint32_t number, imp_error *error);
imp_status spool_chunk_clear_tx(imp_tx *tx, imp_table *table, uint32_t number);

/* A stack of numbers, grown as needed. */
struct spool_numbers {
    uint32_t *items;
    size_t count, room;
};
bool spool_numbers_push(struct spool_numbers *numbers, uint32_t number);

/* ---- key slots at hand ---- */

/* Taken from the pool ahead of need: more are fetched below the low mark, up to the high one. At
 * 30,000 jobs a second with two slots each the low mark lasts for 70 ms. */
#define SPOOL_SLOTS_LOW 4096u
#define SPOOL_SLOTS_HIGH 8192u

struct spool_slots {
    pthread_mutex_t lock; /* for items, and the pool's slot_count */
    struct key_slot *items;
    size_t count, room;
    uint32_t next_chunk;    /* where the search for a lease goes on */
    uint8_t *leased;        /* bitmap by chunk */
    uint32_t leased_chunks; /* bits of it */
    bool is_filling;
    struct spool_task task;
    _Atomic imp_status fill_status;
};

/* Fills up to the high mark; blocks. */
imp_status spool_slots_fill(struct spool *spool, imp_error *error);
/* A slot from a synced pool; IMP_BUSY when none is at hand. Starts filling when they run low. */
imp_status spool_slots_take(struct spool *spool, struct key_slot *slot, imp_error *error);
/* Gives one back: never committed, or freed by a commit. Ignored for chunks of other generations. */
void spool_slots_give(struct spool *spool, const struct key_slot *slot);
void spool_slots_end(struct spool *spool);

/* The key of a document or string out of its slot. */
void spool_key_derive(struct spool *spool, const char *purpose, const struct key_slot *slot,
                      imp_id id, uint8_t key[SEGMENT_KEY]);
/* Reads the slot of a key that a record names, and derives. IMP_NOT_FOUND: destroyed; IMP_CORRUPT:
 * damaged. Blocks on the disk when the pool is not cached. */
imp_status spool_key_open(struct spool *spool, const char *purpose, const struct spool_key *from,
                          uint8_t key[SEGMENT_KEY], imp_error *error);
#define SPOOL_PURPOSE_DOCUMENT ""
#define SPOOL_PURPOSE_STRINGS "strings"

/* ---- files at hand ---- */

struct spool_files {
    pthread_mutex_t lease; /* workers only: one leases or makes at a time */
    pthread_mutex_t lock;
    struct spool_numbers made; /* free and there */
    struct spool_numbers bare; /* free and not there yet */
    uint32_t next_chunk;
    uint8_t *leased;
    uint32_t leased_chunks;
    bool is_preparing;
    struct spool_task task;
};

/* Takes a free file and opens it for direct I/O. Blocks. */
imp_status spool_files_take(struct spool *spool, uint32_t *number, int *fd, imp_error *error);
imp_status spool_files_open(struct spool *spool, uint32_t number, bool is_writing, int *fd,
                            imp_error *error);
void spool_files_give(struct spool *spool, uint32_t number);
/* Shortens a free file to what free files keep. Blocks. */
void spool_files_trim(struct spool *spool, uint32_t number);
/* Starts to make files when few are at hand. Loop threads. */
void spool_files_prepare(struct spool *spool);
imp_status spool_files_start(struct spool *spool, imp_error *error);
void spool_files_end(struct spool *spool);

/* ---- shredding ---- */

struct spool_shred_request {
    struct spool_shred_request *next;
    struct spool *spool;
    imp_loop *loop;
    void (*done)(imp_status status, void *arg);
    void *arg;
    imp_status status;
};

/* Slots that are overwritten for one sync. */
#define SPOOL_SHRED_BATCH 1024u
/* Until shredding is tried again after the disk refused. */
#define SPOOL_SHRED_PAUSE IMP_SECOND

struct spool_shredded {
    struct key_slot slot; /* as renewed */
    uint64_t condemned_generation;
    uint32_t file;
    bool has_file;
};

struct spool_shredder {
    pthread_mutex_t lock; /* for `asked` and `is_kicked` */
    struct spool_shred_request *asked;
    bool is_kicked;
    /* on the home loop alone */
    bool is_running;
    imp_timer *pause;                   /* runs until the next try after a failure */
    struct spool_shred_request *served; /* by the batches under way */
    struct spool_task task;
    imp_status status;
    imp_error error;
    struct spool_shredded *batch;
    uint32_t batch_count;
    bool has_more;
    bool has_lease;
};

imp_status spool_shred_start(struct spool *spool, imp_error *error);
void spool_shred_end(struct spool *spool);

/* ---- the spool ---- */

struct spool {
    imp_self *self;
    const struct spool_io *io;
    _Atomic int64_t inline_max, reserve, files_ahead, file_extent, slot_step;
    char *folder;  /* STATE/spool */
    int documents; /* STATE/spool/doc */
    int lock_file; /* STATE/spool/lock */
    imp_table *table_doc, *table_slot, *table_file, *table_condemned;
    struct key_pool keys;
    struct spool_slots slots;
    struct spool_files files;
    struct spool_buffers buffers;
    struct spool_shredder shredder;
    struct spool_lane *lanes;
    imp_loop *home; /* where the shredder's callbacks run */
    _Atomic int64_t promised;
    char warning[256];
};

/* As spool_open, with system calls of the caller's. */
imp_status spool_open_with(imp_self *self, const struct spool_io *io,
                           const struct spool_settings *settings, struct spool **spool,
                           imp_error *error);

/* Table jobs.doc is keyed by slot: rows that are made together lie together. */
#define SPOOL_NUMBER_KEY 4u
/* Row of jobs.condemned: generation, 1 when there is a file, file. */
#define SPOOL_CONDEMNED_ROW 13u

#endif
