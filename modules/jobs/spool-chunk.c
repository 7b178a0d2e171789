/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/spool-bytes.h"
#include "modules/jobs/spool-private.h"

/* ---- leases ---- */

/* Where in the lock file each kind has its bytes. Nothing is ever written there. */
static const off_t lease_places[] = {
    [SPOOL_LEASE_SLOTS] = 0,
    [SPOOL_LEASE_FILES] = (off_t)1 << 32,
    [SPOOL_LEASE_GROW] = (off_t)2 << 32,
    [SPOOL_LEASE_SHRED] = (off_t)3 << 32,
};

static bool lease_set(struct spool *spool, enum spool_lease lease, uint32_t chunk, short type)
{
    struct flock lock = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = lease_places[lease] + (off_t)chunk,
        .l_len = 1,
    };
    /* Locks of the open file description: two generations in one process exclude each other. */
    return fcntl(spool->lock_file, F_OFD_SETLK, &lock) == 0;
}

bool spool_lease_take(struct spool *spool, enum spool_lease lease, uint32_t chunk)
{
    return lease_set(spool, lease, chunk, F_WRLCK);
}

void spool_lease_give(struct spool *spool, enum spool_lease lease, uint32_t chunk)
{
    (void)lease_set(spool, lease, chunk, F_UNLCK);
}

/* ---- bitmaps ---- */

static imp_bytes chunk_key(uint32_t chunk, uint8_t key[SPOOL_NUMBER_KEY])
{
    spool_put_u32(key, chunk);
    return (imp_bytes){key, SPOOL_NUMBER_KEY};
}

static imp_status chunk_get_tx(imp_tx *tx, imp_table *table, uint32_t chunk,
                               uint8_t bitmap[SPOOL_BITMAP])
{
    uint8_t key[SPOOL_NUMBER_KEY];
    imp_bytes value;

    memset(bitmap, 0, SPOOL_BITMAP);
    imp_status status = imp_tx_get(tx, table, chunk_key(chunk, key), &value);
    if (status == IMP_NOT_FOUND)
        return IMP_OK;
    if (status == IMP_OK && value.length != SPOOL_BITMAP)
        status = IMP_CORRUPT;
    if (status == IMP_OK)
        memcpy(bitmap, value.data, SPOOL_BITMAP);
    return status;
}

imp_status spool_chunk_get(struct spool *spool, imp_table *table, uint32_t chunk,
                           uint8_t bitmap[SPOOL_BITMAP], imp_error *error)
{
    imp_tx *tx = NULL;
    imp_status status = imp_store_read_begin(spool->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = chunk_get_tx(tx, table, chunk, bitmap);
    if (status != IMP_OK)
        imp_error_set(error, status, "spool: row %u of the numbers in use can't be read", chunk);
    imp_store_read_end(tx);
    return status;
}

imp_status spool_chunk_mark_tx(imp_tx *tx, imp_table *table, uint32_t number, imp_error *error)
{
    uint8_t bitmap[SPOOL_BITMAP], key[SPOOL_NUMBER_KEY];
    uint32_t chunk = number / SPOOL_CHUNK, bit = number % SPOOL_CHUNK;

    imp_status status = chunk_get_tx(tx, table, chunk, bitmap);
    if (status == IMP_OK && (bitmap[bit / 8] & 1u << bit % 8) != 0)
        status = imp_error_set(error, IMP_EXISTS, "spool: number %u is in use already", number);
    if (status != IMP_OK)
        return status;
    bitmap[bit / 8] |= (uint8_t)(1u << bit % 8);
    return imp_tx_put(tx, table, chunk_key(chunk, key), (imp_bytes){bitmap, sizeof bitmap});
}

imp_status spool_chunk_clear_tx(imp_tx *tx, imp_table *table, uint32_t number)
{
    uint8_t bitmap[SPOOL_BITMAP], key[SPOOL_NUMBER_KEY];
    uint32_t chunk = number / SPOOL_CHUNK, bit = number % SPOOL_CHUNK;

    imp_status status = chunk_get_tx(tx, table, chunk, bitmap);
    if (status != IMP_OK)
        return status;
    bitmap[bit / 8] &= (uint8_t) ~(1u << bit % 8);
    return imp_tx_put(tx, table, chunk_key(chunk, key), (imp_bytes){bitmap, sizeof bitmap});
}

bool spool_numbers_push(struct spool_numbers *numbers, uint32_t number)
{
    if (numbers->count == numbers->room) {
        size_t room = numbers->room == 0 ? SPOOL_CHUNK : 2 * numbers->room;
        uint32_t *items = realloc(numbers->items, room * sizeof *items);
        if (items == NULL)
            return false;
        numbers->items = items;
        numbers->room = room;
    }
    numbers->items[numbers->count++] = number;
    return true;
}
