/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h - the master key and the keys below it.
 *
 *     master key (a file outside the state folder; in the server only while the store opens)
 *       wraps  root keys store, index, spool (random, made with the store)
 *                store -> HKDF(table name) -> HKDF(salt of key id N) = sealing key N of the table
 *                index -> keyed hashes
 *                spool -> keys of documents and strings
 *
 * A salt is made at each start, at each restore and after KEYS_SEALS_MAX seals, so that nothing which
 * a restore can rewind decides about a key and a nonce. The records of all this (struct keys_record)
 * are kept by the store in its table core.key; nothing in them is secret without the master key.
 *
 * Root keys lie in pages of their own that are locked in memory, left out of core dumps and wiped.
 */
#ifndef CORE_KEYS_H
#define CORE_KEYS_H

#include <imprimatur/base.h>
#include <imprimatur/store.h>

#define KEYS_MASTER_SIZE 32
#define KEYS_ROOT_SIZE 32
#define KEYS_SALT_SIZE 32
/* Random 96-bit nonces under one key: after 2^28 seals two are equal with probability 2^-41. */
#define KEYS_SEALS_MAX (UINT64_C(1) << 28)

/* ---- the master key's file ---- */

/* Reads the master key from `path`: a regular file of exactly KEYS_MASTER_SIZE bytes that only its
 * owner may read. When there is none and `may_make` (only if no store exists: store_exists), makes
 * it: mode 0400, complete or not at all, never over an existing one; the last folder of the path is
 * made, 0700, if it is missing. The caller wipes `master`. Errors name the path and what to do. */
imp_status keys_master_load_or_make(const char *path, bool may_make,
                                    uint8_t master[KEYS_MASTER_SIZE], imp_error *error)
    IMP_MUST_CHECK;
/* A sealed memfd that holds the key, close-on-exec, to be passed to the server; -1 with errno. */
int keys_master_to_memfd(const uint8_t master[KEYS_MASTER_SIZE]);
/* Reads it back, and closes `fd` in every case. */
imp_status keys_master_from_memfd(int fd, uint8_t master[KEYS_MASTER_SIZE], imp_error *error)
    IMP_MUST_CHECK;

/* ---- the key ring ---- */

struct keyring;

enum keys_root { KEYS_ROOT_STORE, KEYS_ROOT_INDEX, KEYS_ROOT_SPOOL, KEYS_ROOT_COUNT };

/* One record of the key table: a name and bytes. Names are "check", "root.store", "root.index",
 * "root.spool" and "salt.00000001" (the key id in hexadecimal digits). */
#define KEYS_RECORD_NAME_MAX 16
#define KEYS_RECORD_VALUE_MAX 96
struct keys_record {
    char name[KEYS_RECORD_NAME_MAX];
    uint32_t length;
    uint8_t value[KEYS_RECORD_VALUE_MAX];
};
typedef imp_status (*keys_record_write)(void *arg, const struct keys_record *record,
                                        imp_error *error);

/* New random root keys, wrapped under `master`; gives its records to `write`. Keeps no copy of the
 * master key. */
imp_status keyring_make(const uint8_t master[KEYS_MASTER_SIZE], keys_record_write write, void *arg,
                        struct keyring **ring, imp_error *error) IMP_MUST_CHECK;

/* Opening one that exists: begin, one add for every record in any order, end. IMP_DENIED when the
 * master key is not the one that wrapped the records, IMP_CORRUPT when a record is damaged or
 * missing. */
imp_status keyring_open_begin(struct keyring **ring, imp_error *error) IMP_MUST_CHECK;
imp_status keyring_open_add(struct keyring *ring, const char *name, imp_bytes value,
                            imp_error *error) IMP_MUST_CHECK;
imp_status keyring_open_end(struct keyring *ring, const uint8_t master[KEYS_MASTER_SIZE],
                            imp_error *error) IMP_MUST_CHECK;
/* Ends opening without a master key: the root keys are those of `source`, an open ring of the same store
 * (or of an ancestor it was restored from; a MAC has to tell). */
imp_status keyring_open_like(struct keyring *ring, const struct keyring *source, imp_error *error)
    IMP_MUST_CHECK;
/* Wipes and frees; NULL is ignored. No other thread may use the ring any more. */
void keyring_close(struct keyring *ring);

/* Makes a new sealing salt, with the next key id, the current one for sealing. The record goes into
 * the same commit as (or one before) the first value sealed under it; if that fails the caller calls
 * keyring_salt_write again for the next. Writer thread, or while opening. */
imp_status keyring_salt_new(struct keyring *ring, imp_error *error) IMP_MUST_CHECK;
imp_status keyring_salt_write(struct keyring *ring, keys_record_write write, void *arg,
                              imp_error *error) IMP_MUST_CHECK;

/* Wraps all root keys under another master key: the records to replace go to `write`. The ring works
 * on as before, and stands for the old master key until keyring_rewrapped() says that those records are
 * durable. */
imp_status keyring_rewrap(struct keyring *ring, const uint8_t master[KEYS_MASTER_SIZE],
                          keys_record_write write, void *arg, imp_error *error) IMP_MUST_CHECK;
void keyring_rewrapped(struct keyring *ring, const uint8_t master[KEYS_MASTER_SIZE]);

/* ---- using it (any thread) ---- */

/* The sealing sub-key `key_id` of a table. IMP_NOT_FOUND when no salt has that id. The caller wipes. */
imp_status keyring_table_key(struct keyring *ring, const char *table, uint32_t key_id,
                             uint8_t key[KEYS_ROOT_SIZE]) IMP_MUST_CHECK;
/* HMAC-SHA256 under the index root key over MODULE 0 PURPOSE 0 data. */
void keyring_keyed_hash(struct keyring *ring, const char *module, const char *purpose,
                        imp_bytes data, uint8_t hash[IMP_HASH_SIZE]);
/* HKDF-SHA256(root key, salt, info); `length` at most 64. */
void keyring_derive(struct keyring *ring, enum keys_root root, imp_bytes salt, imp_bytes info,
                    void *key, size_t length);

uint32_t keyring_current_id(const struct keyring *ring);
uint32_t keyring_salt_count(struct keyring *ring);
/* True when the salt in use has no durable record yet; false once the commit with it is done. */
bool keyring_salt_is_new(const struct keyring *ring);
void keyring_salt_is_durable(struct keyring *ring);
/* Counts `seals` more; true when a new salt is due. Writer thread. */
bool keyring_count_seals(struct keyring *ring, uint64_t seals);
uint64_t keyring_seals(const struct keyring *ring);
/* Unique in this process: caches of derived keys compare it. */
uint64_t keyring_serial(const struct keyring *ring);
/* Eight hexadecimal digits that tell master keys apart and tell nothing else; returns `name`. */
#define KEYS_MASTER_NAME_SIZE 9u
const char *keyring_master_name(struct keyring *ring, char name[KEYS_MASTER_NAME_SIZE]);
/* False when the system refused to lock the pages (RLIMIT_MEMLOCK). */
bool keyring_is_locked(const struct keyring *ring);

/* HKDF-SHA256 (RFC 5869) on its own. */
void keys_hkdf(imp_bytes secret, imp_bytes salt, imp_bytes info, void *key, size_t length);
/* HMAC-SHA256 over several parts (RFC 2104). */
void keys_hmac(imp_bytes key, const imp_bytes *parts, size_t count, uint8_t mac[32]);

#endif
