/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key-pool.h - the file of fixed slots whose overwriting destroys documents.
 *
 *     one block of 4,096 bytes: magic, format, number of the pool, id of the store it serves, MAC
 *     slots of 64 bytes: secret (32), number (8), generation (8), MAC (16)
 *
 * A slot never straddles a sector, so a power cut leaves the old or the new one. The MACs (HMAC-SHA256
 * under a key of the spool's root key, over number, generation and secret) tell a slot that was
 * overwritten on purpose (destroyed) from one that was not written by us (damaged).
 *
 * Which slots are in use is not said here but in the store (table jobs.slot). All functions block on
 * the disk; two threads must not change the same slot at the same time.
 */
#ifndef JOBS_KEY_POOL_H
#define JOBS_KEY_POOL_H

#include <imprimatur/base.h>

#include "modules/jobs/spool-io.h"

#define KEY_POOL_BLOCK 4096u
#define KEY_SLOT_SIZE 64u
#define KEY_SLOT_SECRET 32u
#define KEY_POOL_MAC_KEY 32u
#define KEY_POOL_SLOTS_MAX UINT32_C(0x80000000)

struct key_slot {
    uint32_t number;
    uint64_t generation;
    uint8_t secret[KEY_SLOT_SECRET];
};

struct key_pool {
    const struct spool_io *io;
    int fd;
    uint64_t number;     /* of the pool */
    uint32_t slot_count; /* whole slots in the file; grows. Under the owner's lock */
    uint8_t mac_key[KEY_POOL_MAC_KEY];
    bool was_renewed; /* opened for another store than it served: every slot got a new secret */
};

/* Opens the pool, or makes it with no slots. What is in it is synced before this returns. A pool that
 * served another store (a restored one has a new id) is renewed: a restored store has no documents,
 * and nothing of what lay here before may stay readable. IMP_CORRUPT: not a key pool of this
 * instance. */
imp_status key_pool_open(const struct spool_io *io, const char *path, imp_id store,
                         const uint8_t mac_key[KEY_POOL_MAC_KEY], struct key_pool *pool,
                         imp_error *error);
void key_pool_close(struct key_pool *pool);

/* Looks at the file again: another generation may have appended. */
imp_status key_pool_refresh(struct key_pool *pool, imp_error *error);
/* Appends `count` slots with new secrets and syncs them. */
imp_status key_pool_grow(struct key_pool *pool, uint32_t count, imp_error *error);
/* Reads `count` slots from `first` on. is_sound[i] is false for a slot whose MAC does not hold. */
imp_status key_pool_read(struct key_pool *pool, uint32_t first, uint32_t count,
                         struct key_slot *slots, bool *is_sound, imp_error *error);
/* Reads one. IMP_CORRUPT: damaged. IMP_NOT_FOUND: the pool has no such slot. */
imp_status key_pool_get(struct key_pool *pool, uint32_t number, struct key_slot *slot,
                        imp_error *error);
/* Overwrites a slot with a new secret and the next generation, not yet synced. */
imp_status key_pool_renew(struct key_pool *pool, uint32_t number, struct key_slot *renewed,
                          imp_error *error);
imp_status key_pool_sync(struct key_pool *pool, imp_error *error);

#endif
