/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool.h - the document spool: sealed documents at rest, and keys that can really be destroyed.
 *
 * A document is written once, front to back, by a writer, and read by readers. Small ones
 * (`inline_max`) become values of table jobs.doc in the commit of their record; all others lie in
 * files of their own that are written and synced by workers before the commit that names them.
 *
 * A document's key is HKDF(spool root key, salt = secret of its slot in the key pool,
 * info = document id || slot generation). The secret is nowhere but in the slot; the document id is
 * nowhere but in the record. So an upload that never got a record is unreadable as soon as its writer
 * is gone, and a document whose slot was overwritten is unreadable whatever copies of record, file
 * and backup there are.
 *
 * The way of a document through its owner's commits:
 *
 *     spool_writer_open .. _write .. _finish    bytes sealed and (files) synced, nothing named yet
 *     closure: spool_writer_put_tx              record, inline value, slot and file in one commit
 *     spool_writer_close(writer, true)          after that commit; (.., false) leaves nothing behind
 *     ...
 *     closure: spool_condemn_tx                 in the commit that deletes the document
 *     spool_shred(done)                         after that commit; done = "deleted" may be said
 *
 * All of a writer's and a reader's calls are made on the loop that opened it. Functions that end in
 * _tx are called inside closures of the module's own, on the writer thread.
 */
#ifndef JOBS_SPOOL_H
#define JOBS_SPOOL_H

#include <imprimatur/base.h>
#include <imprimatur/jobs.h>
#include <imprimatur/options.h>
#include <imprimatur/store.h>

struct spool;
struct spool_writer;
struct spool_reader;

/* ---- what the module's descriptor must carry ---- */

/* Rows for the module's `tables`. None of them is in a backup: documents are not, and the others
 * describe files and slots of this machine. */
/* clang-format off */
#define SPOOL_TABLES                                                                               \
    {"doc", 1, IMP_TABLE_VOLATILE | IMP_TABLE_PLAIN},      /* slot -> sealed inline document */     \
    {"slot", 1, IMP_TABLE_VOLATILE | IMP_TABLE_PLAIN},     /* chunk -> bitmap of slots in use */    \
    {"file", 1, IMP_TABLE_VOLATILE | IMP_TABLE_PLAIN},     /* chunk -> bitmap of files in use */    \
    {"condemned", 1, IMP_TABLE_VOLATILE | IMP_TABLE_PLAIN} /* slot -> generation, file */
/* clang-format on */

#define SPOOL_INLINE_MAX_TEXT "64KiB"

/* Fields for the module's conf struct, and their option rows; struct spool_settings has the same. */
#define SPOOL_SETTINGS_FIELDS                                                                      \
    int64_t inline_max;                                                                            \
    int64_t spool_buffers;                                                                         \
    int64_t spool_reserve;                                                                         \
    int64_t spool_files_ahead;                                                                     \
    int64_t spool_file_extent;                                                                     \
    int64_t spool_slot_step;                                                                       \
    const char *key_pool;

struct spool_settings {
    SPOOL_SETTINGS_FIELDS
};

#define SPOOL_OPTIONS(conf)                                                                        \
    IMP_OPT_SIZE(conf, inline_max, "32KiB", "0B", SPOOL_INLINE_MAX_TEXT, IMP_LIVE,                 \
                 "Documents up to this size are kept in the store, in the commit of their job"),   \
        IMP_OPT_SIZE(conf, spool_buffers, "24MiB", "1MiB", "4GiB", 0,                              \
                     "Memory for reading and writing document files, for all connections"),        \
        IMP_OPT_SIZE(conf, spool_reserve, "64MiB", "0B", NULL, IMP_LIVE,                           \
                     "Free disk space below which new jobs are refused"),                          \
        IMP_OPT_INTEGER(conf, spool_files_ahead, "32", "1", "4096", IMP_LIVE,                      \
                        "Document files made ahead of need"),                                      \
        IMP_OPT_SIZE(conf, spool_file_extent, "1092KiB", "128KiB", "1GiB", IMP_LIVE,               \
                     "Disk space that an unused document file keeps for its next document"),       \
        IMP_OPT_INTEGER(conf, spool_slot_step, "16384", "1024", "1048576", IMP_LIVE,               \
                        "Slots by which the key pool grows"),                                      \
        IMP_OPT_STRING(conf, key_pool, "", IMP_ETC_ONLY,                                           \
                       "File of the key pool, maybe on a medium of its own; empty: key-pool in "   \
                       "the spool's folder")

/* The settings out of a conf struct that has SPOOL_SETTINGS_FIELDS. */
#define SPOOL_SETTINGS_OF(conf)                                                                    \
    ((struct spool_settings){(conf)->inline_max, (conf)->spool_buffers, (conf)->spool_reserve,     \
                             (conf)->spool_files_ahead, (conf)->spool_file_extent,                 \
                             (conf)->spool_slot_step, (conf)->key_pool})

/* ---- descriptions that records hold ---- */

/* A slot of the key pool with what else makes the key. Belongs into a sealed record and nowhere
 * else: the id is half of the key. */
struct spool_key {
    imp_id id;           /* document id, or id of a sealed string */
    uint64_t pool;       /* the key pool that has the slot; another one has another number */
    uint32_t slot;       /* number of the slot */
    uint64_t generation; /* of the slot */
};

#define SPOOL_FORMAT 1u
#define SPOOL_DIGEST_SIZE 32

struct spool_document {
    uint32_t format; /* SPOOL_FORMAT */
    struct spool_key key;
    bool is_inline;                    /* value of jobs.doc; else a file */
    uint32_t file;                     /* number of the file */
    uint64_t size;                     /* bytes of plaintext */
    uint8_t digest[SPOOL_DIGEST_SIZE]; /* SHA-256 of the plaintext */
};

/* Messages SpoolKey and SpoolDocument of spool.proto, packed, for a `bytes` field of a record (on the
 * wire the same as an embedded message). Returns the length. Any thread. */
#define SPOOL_KEY_PACKED_MAX 64u
#define SPOOL_DOCUMENT_PACKED_MAX 160u
size_t spool_key_pack(const struct spool_key *key, uint8_t packed[SPOOL_KEY_PACKED_MAX]);
imp_status spool_key_unpack(imp_bytes packed, struct spool_key *key);
size_t spool_document_pack(const struct spool_document *document,
                           uint8_t packed[SPOOL_DOCUMENT_PACKED_MAX]);
/* IMP_CORRUPT when it is no such message, IMP_UNSUPPORTED when its format is a newer one. */
imp_status spool_document_unpack(imp_bytes packed, struct spool_document *document);

/* ---- life ---- */

/* Opens the spool below imp_state_dir(self): makes folders, key pool and first files as needed,
 * checks the file systems, and starts to shred what is condemned (in the background, so that start
 * stays short). `settings` is copied. Control thread, in start. */
imp_status spool_open(imp_self *self, const struct spool_settings *settings, struct spool **spool,
                      imp_error *error);
/* Takes live settings. Control thread. */
void spool_reconfigure(struct spool *spool, const struct spool_settings *settings);
/* Frees it; no writer and reader may be open, and the generation's timers and works are gone (they
 * are, in stop). NULL is ignored. Control thread. */
void spool_close(struct spool *spool);

struct spool_space {
    uint64_t free_bytes; /* what documents may still take: reserve and promised bytes taken off */
    uint64_t promised_bytes; /* announced by open writers and not yet written */
    uint64_t total_bytes;    /* of the file system */
};
/* Space now. Any thread. */
void spool_space(struct spool *spool, struct spool_space *space);
/* One line on what the file systems can promise ("" when they overwrite in place), for `key status`;
 * valid as long as the spool. Any thread. */
const char *spool_warning(const struct spool *spool);

/* ---- writing ---- */

/* Opens a document of unknown content. `expected_size` -1: unknown; else it is refused here with
 * IMP_NO_SPACE when it can't fit. IMP_BUSY: no key slot is ready (they are made ahead of need, so
 * this means a flood): try again later. `ready(arg)` is called on this loop when writing may go on
 * after IMP_BUSY; never from within a call. Loop threads. */
imp_status spool_writer_open(struct spool *spool, int64_t expected_size, void (*ready)(void *arg),
                             void *arg, struct spool_writer **writer, imp_error *error);
/* IMP_OK and IMP_BUSY: all bytes were taken; after IMP_BUSY write no more before `ready` (what comes
 * all the same is kept in memory). Anything else: the document has failed (IMP_NO_SPACE, IMP_IO),
 * close the writer. Write in pieces of at most 64 KiB to keep memory low. */
imp_status spool_writer_write(struct spool_writer *writer, const void *data, size_t length,
                              imp_error *error);
/* Ends the document. IMP_OK: it is ready for its commit now, and `done` is not called. IMP_BUSY: a
 * worker writes and syncs; `done` follows on this loop, never from within, unless the writer is
 * closed before. Anything else: failed. */
imp_status spool_writer_finish(struct spool_writer *writer,
                               void (*done)(imp_status status, const imp_error *error, void *arg),
                               void *arg, imp_error *error);
/* The first bytes of the plaintext, at most IMP_DOCUMENT_HEAD_MAX, valid until the next call on the
 * writer; they stay until spool_writer_forget_head or close, which wipe them. */
imp_bytes spool_writer_head(const struct spool_writer *writer);
void spool_writer_forget_head(struct spool_writer *writer);
/* Bytes taken so far. */
uint64_t spool_writer_size(const struct spool_writer *writer);
/* What to keep in the record; after the document has been finished. Valid until close. */
const struct spool_document *spool_writer_document(const struct spool_writer *writer);
/* Inside the job's commit: stores the inline value, marks slot and file as taken. May run again.
 * Writer thread. */
imp_status spool_writer_put_tx(const struct spool_writer *writer, imp_tx *tx, imp_error *error);
/* Frees the writer. `is_committed` false: nothing stays behind, whatever state it is in; true: the
 * commit with spool_writer_put_tx has succeeded. `ready` and `done` are not called after this. NULL
 * is ignored. */
void spool_writer_close(struct spool_writer *writer, bool is_committed);

/* ---- reading ---- */

/* Opens a document. The first read answers IMP_BUSY as a rule. `readable(arg)` is called on this loop
 * after a read answered IMP_BUSY; never from within a call. Loop threads. */
imp_status spool_reader_open(struct spool *spool, const struct spool_document *document,
                             void (*readable)(void *arg), void *arg, struct spool_reader **reader,
                             imp_error *error);
/* The next bytes; *length 0 with IMP_OK: the end, and everything up to here was the document as it was
 * written. IMP_BUSY: none yet. IMP_NOT_FOUND: destroyed, its key was overwritten. IMP_CORRUPT:
 * damaged, truncated, reordered or spliced; no byte of a bad segment is ever given. IMP_IO: the disk
 * refused. */
imp_status spool_reader_read(struct spool_reader *reader, void *buffer, size_t size, size_t *length,
                             imp_error *error);
/* Frees the reader at any time; `readable` is not called after this. NULL is ignored. */
void spool_reader_close(struct spool_reader *reader);

/* ---- deleting ---- */

/* In the commit that deletes a document: condemns its slot and file, removes its inline value. The
 * same commit takes the description out of the record, so that it is done once: later the slot may
 * belong to another document. A document of another key pool is let be. Writer thread. */
imp_status spool_condemn_tx(struct spool *spool, imp_tx *tx, const struct spool_document *document,
                            imp_error *error);
/* To be called after a commit with spool_condemn_tx: overwrites the slots of everything condemned so
 * far, together with what others ask for, and frees them in a later commit. `done` (may be NULL) is
 * called once on the calling loop as soon as the overwriting is synced, that is, when "deleted" may
 * be said; with another status than IMP_OK it stays condemned and is tried again by itself. Loop and
 * control threads. */
void spool_shred(struct spool *spool, void (*done)(imp_status status, void *arg), void *arg);

/* Whether the key pool that a key was made in is the one that is here: false after a restore on other
 * ground, where everything that was sealed under it is lost. Any thread. */
bool spool_has_key(const struct spool *spool, const struct spool_key *key);

/* ---- strings of a job ---- */

#define SPOOL_STRINGS_OVERHEAD 28u /* nonce and tag */

/* Seals a job's personal strings (any bytes) under a slot of their own. `sealed` has room for
 * plain.length + SPOOL_STRINGS_OVERHEAD bytes. IMP_BUSY as in spool_writer_open. The key is to be
 * taken by spool_key_put_tx in a commit, or given back by spool_key_release. Loop threads. */
imp_status spool_strings_seal(struct spool *spool, imp_bytes plain, struct spool_key *key,
                              uint8_t *sealed, imp_error *error);
/* Seals changed strings under the key that they have. Any thread but the writer. */
imp_status spool_strings_reseal(struct spool *spool, imp_bytes plain, const struct spool_key *key,
                                uint8_t *sealed, imp_error *error);
/* Opens them; `plain` has room for sealed.length - SPOOL_STRINGS_OVERHEAD bytes, *length is set.
 * IMP_NOT_FOUND: destroyed; IMP_CORRUPT: damaged. Any thread but the writer. */
imp_status spool_strings_open(struct spool *spool, const struct spool_key *key, imp_bytes sealed,
                              uint8_t *plain, size_t *length, imp_error *error);
/* Marks the slot as taken, in the commit of the record that holds the key. Writer thread. */
imp_status spool_key_put_tx(struct spool *spool, imp_tx *tx, const struct spool_key *key,
                            imp_error *error);
/* Gives back a slot that never was in a commit. Any thread. */
void spool_key_release(struct spool *spool, const struct spool_key *key);
/* As spool_condemn_tx, for strings. Writer thread. */
imp_status spool_key_condemn_tx(struct spool *spool, imp_tx *tx, const struct spool_key *key,
                                imp_error *error);

#endif
