/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "modules/jobs/key-pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crash-point.h"
#include "modules/jobs/spool-bytes.h"

#define KEY_POOL_FORMAT 1u
#define KEY_MAC 16u
static const uint8_t key_pool_magic[8] = {'I', 'M', 'P', 'K', 'E', 'Y', 'S', 0};
static const char what_pool[] = "key pool";

/* Slots that are written or read by one call: 64 KiB. */
#define KEY_POOL_STRIDE 1024u

enum pool_offset { /* of the fields in the first block */
                   POOL_MAGIC = 0,
                   POOL_FORMAT = 8,
                   POOL_NUMBER = 16,
                   POOL_STORE = 24,
                   POOL_MAC = 40,
                   POOL_END = 56,
};

enum slot_offset { /* of the fields in a slot */
                   SLOT_SECRET = 0,
                   SLOT_NUMBER = 32,
                   SLOT_GENERATION = 40,
                   SLOT_MAC = 48,
};

static void pool_mac(const struct key_pool *pool, const uint8_t *data, size_t length,
                     uint8_t mac[KEY_MAC])
{
    uint8_t full[EVP_MAX_MD_SIZE];
    unsigned int full_length = 0;

    /* It fails when memory is out only; a MAC of zeros then is one that does not hold. */
    memset(full, 0, sizeof full);
    HMAC(EVP_sha256(), pool->mac_key, (int)KEY_POOL_MAC_KEY, data, length, full, &full_length);
    memcpy(mac, full, KEY_MAC);
}

static uint64_t slot_place(uint32_t number)
{
    return KEY_POOL_BLOCK + (uint64_t)number * KEY_SLOT_SIZE;
}

static void slot_make(const struct key_pool *pool, uint32_t number, uint64_t generation,
                      uint8_t bytes[KEY_SLOT_SIZE])
{
    imp_random(bytes + SLOT_SECRET, KEY_SLOT_SECRET);
    spool_put_u64(bytes + SLOT_NUMBER, number);
    spool_put_u64(bytes + SLOT_GENERATION, generation);
    pool_mac(pool, bytes, SLOT_MAC, bytes + SLOT_MAC);
}

static bool slot_take(const struct key_pool *pool, uint32_t number,
                      const uint8_t bytes[KEY_SLOT_SIZE], struct key_slot *slot)
{
    uint8_t mac[KEY_MAC];

    slot->number = number;
    slot->generation = spool_get_u64(bytes + SLOT_GENERATION);
    memcpy(slot->secret, bytes + SLOT_SECRET, KEY_SLOT_SECRET);
    pool_mac(pool, bytes, SLOT_MAC, mac);
    return imp_equal_constant_time(mac, bytes + SLOT_MAC, KEY_MAC) &&
           spool_get_u64(bytes + SLOT_NUMBER) == number;
}

/* ---- opening ---- */

static imp_status pool_write_head(struct key_pool *pool, imp_id store, imp_error *error)
{
    uint8_t block[KEY_POOL_BLOCK] = {0};

    memcpy(block + POOL_MAGIC, key_pool_magic, sizeof key_pool_magic);
    spool_put_u32(block + POOL_FORMAT, KEY_POOL_FORMAT);
    spool_put_u64(block + POOL_NUMBER, pool->number);
    memcpy(block + POOL_STORE, store.bytes, sizeof store.bytes);
    pool_mac(pool, block, POOL_MAC, block + POOL_MAC);
    return spool_io_write(pool->io, pool->fd, block, sizeof block, 0, what_pool, error);
}

/* Copy-on-write file systems are asked to overwrite this file in place; that works for a file without
 * content only. Others do not know the flag. */
static void pool_ask_overwriting(int fd)
{
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) == 0) {
        flags |= FS_NOCOW_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
}

/* A new pool under its final name only when its first block is on disk. */
static imp_status pool_make(struct key_pool *pool, const char *path, imp_id store, imp_error *error)
{
    imp_status status = IMP_OK;
    char *temporary = NULL, *folder = NULL;

    if (asprintf(&temporary, "%s.new", path) < 0) {
        temporary = NULL;
        status = imp_error_set(error, IMP_LIMIT, "%s: out of memory", what_pool);
        goto done;
    }
    pool->fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (pool->fd == -1) {
        status = spool_io_failed(error, errno, temporary);
        goto done;
    }
    pool_ask_overwriting(pool->fd);
    imp_random(&pool->number, sizeof pool->number);
    status = pool_write_head(pool, store, error);
    if (status == IMP_OK)
        status = spool_io_sync(pool->io, pool->fd, what_pool, error);
    IMP_CRASH_POINT("spool.key-pool-made");
    if (status == IMP_OK && rename(temporary, path) != 0)
        status = spool_io_failed(error, errno, path);
    if (status == IMP_OK) {
        folder = strdup(path);
        char *slash = folder == NULL ? NULL : strrchr(folder, '/');
        if (slash != NULL && slash != folder)
            *slash = '\0';
        status = slash == NULL ? imp_error_set(error, IMP_INVALID, "%s: not a full path", path)
                               : spool_io_sync_folder(slash == folder ? "/" : folder, error);
    }
done:
    free(temporary);
    free(folder);
    return status;
}

/* Gives every slot a new secret. */
static imp_status pool_renew_all(struct key_pool *pool, imp_error *error)
{
    imp_status status = IMP_OK;
    for (uint32_t number = 0; number < pool->slot_count && status == IMP_OK; number++) {
        struct key_slot slot;
        status = key_pool_renew(pool, number, &slot, error);
        imp_wipe(&slot, sizeof slot);
    }
    if (status == IMP_OK)
        status = key_pool_sync(pool, error);
    return status;
}

static imp_status pool_check_head(struct key_pool *pool, const char *path, imp_id store,
                                  imp_error *error)
{
    uint8_t block[KEY_POOL_BLOCK], mac[KEY_MAC];
    size_t got = 0;

    imp_status status =
        spool_io_read(pool->io, pool->fd, block, sizeof block, 0, &got, what_pool, error);
    if (status != IMP_OK)
        return status;
    if (got != sizeof block || memcmp(block, key_pool_magic, sizeof key_pool_magic) != 0)
        return imp_error_set(error, IMP_CORRUPT, "%s is not a key pool", path);
    if (spool_get_u32(block + POOL_FORMAT) != KEY_POOL_FORMAT)
        return imp_error_set(error, IMP_UNSUPPORTED, "%s is of a later format", path);
    pool_mac(pool, block, POOL_MAC, mac);
    if (!imp_equal_constant_time(mac, block + POOL_MAC, KEY_MAC))
        return imp_error_set(error, IMP_CORRUPT,
                             "%s belongs to another instance (its seal does not fit our root key); "
                             "move it away to start with a new one, without its documents",
                             path);
    pool->number = spool_get_u64(block + POOL_NUMBER);
    if (memcmp(block + POOL_STORE, store.bytes, sizeof store.bytes) == 0)
        return IMP_OK;
    pool->was_renewed = true;
    status = pool_renew_all(pool, error);
    /* The store's id comes last: a start that is cut off renews again. */
    if (status == IMP_OK)
        status = pool_write_head(pool, store, error);
    return status;
}

imp_status key_pool_open(const struct spool_io *io, const char *path, imp_id store,
                         const uint8_t mac_key[KEY_POOL_MAC_KEY], struct key_pool *pool,
                         imp_error *error)
{
    imp_status status;

    memset(pool, 0, sizeof *pool);
    pool->io = io;
    memcpy(pool->mac_key, mac_key, KEY_POOL_MAC_KEY);
    pool->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (pool->fd == -1 && errno != ENOENT) {
        status = spool_io_failed(error, errno, path);
    } else if (pool->fd == -1) {
        status = pool_make(pool, path, store, error);
    } else {
        status = key_pool_refresh(pool, error);
        if (status == IMP_OK)
            status = pool_check_head(pool, path, store, error);
    }
    /* What a killed process wrote is in the cache, and not yet known to be on disk. */
    if (status == IMP_OK)
        status = key_pool_sync(pool, error);
    if (status != IMP_OK)
        key_pool_close(pool);
    return status;
}

void key_pool_close(struct key_pool *pool)
{
    if (pool->fd != -1)
        close(pool->fd);
    imp_wipe(pool, sizeof *pool);
    pool->fd = -1;
}

/* ---- slots ---- */

imp_status key_pool_refresh(struct key_pool *pool, imp_error *error)
{
    struct stat info;

    if (fstat(pool->fd, &info) != 0)
        return spool_io_failed(error, errno, what_pool);
    uint64_t size = (uint64_t)info.st_size;
    uint64_t slots = size < KEY_POOL_BLOCK ? 0 : (size - KEY_POOL_BLOCK) / KEY_SLOT_SIZE;
    pool->slot_count = (uint32_t)(slots < KEY_POOL_SLOTS_MAX ? slots : KEY_POOL_SLOTS_MAX);
    return IMP_OK;
}

imp_status key_pool_grow(struct key_pool *pool, uint32_t count, imp_error *error)
{
    imp_status status = IMP_OK;
    uint32_t first = pool->slot_count;
    uint8_t *bytes = NULL;

    if (count > KEY_POOL_SLOTS_MAX - first)
        return imp_error_set(error, IMP_LIMIT, "the key pool has reached its %u slots",
                             KEY_POOL_SLOTS_MAX);
    bytes = malloc((size_t)KEY_POOL_STRIDE * KEY_SLOT_SIZE);
    if (bytes == NULL)
        return imp_error_set(error, IMP_LIMIT, "%s: out of memory", what_pool);
    status = spool_io_reserve(pool->io, pool->fd, slot_place(first),
                              (uint64_t)count * KEY_SLOT_SIZE, what_pool, error);
    for (uint32_t made = 0; made < count && status == IMP_OK;) {
        uint32_t stride = count - made < KEY_POOL_STRIDE ? count - made : KEY_POOL_STRIDE;
        for (uint32_t i = 0; i < stride; i++)
            slot_make(pool, first + made + i, 1, bytes + (size_t)i * KEY_SLOT_SIZE);
        status = spool_io_write(pool->io, pool->fd, bytes, (size_t)stride * KEY_SLOT_SIZE,
                                slot_place(first + made), what_pool, error);
        made += stride;
    }
    IMP_CRASH_POINT("spool.key-pool-grown");
    if (status == IMP_OK)
        status = key_pool_sync(pool, error);
    if (status == IMP_OK)
        pool->slot_count = first + count;
    imp_wipe(bytes, (size_t)KEY_POOL_STRIDE * KEY_SLOT_SIZE);
    free(bytes);
    return status;
}

imp_status key_pool_read(struct key_pool *pool, uint32_t first, uint32_t count,
                         struct key_slot *slots, bool *is_sound, imp_error *error)
{
    imp_status status = IMP_OK;
    size_t length = (size_t)count * KEY_SLOT_SIZE, got = 0;
    uint8_t *bytes = malloc(length);

    if (bytes == NULL)
        return imp_error_set(error, IMP_LIMIT, "%s: out of memory", what_pool);
    status =
        spool_io_read(pool->io, pool->fd, bytes, length, slot_place(first), &got, what_pool, error);
    if (status == IMP_OK && got != length)
        status = imp_error_set(error, IMP_CORRUPT, "the key pool is shorter than it was");
    for (uint32_t i = 0; i < count && status == IMP_OK; i++)
        is_sound[i] = slot_take(pool, first + i, bytes + (size_t)i * KEY_SLOT_SIZE, &slots[i]);
    imp_wipe(bytes, length);
    free(bytes);
    return status;
}

imp_status key_pool_get(struct key_pool *pool, uint32_t number, struct key_slot *slot,
                        imp_error *error)
{
    uint8_t bytes[KEY_SLOT_SIZE];
    size_t got = 0;

    imp_status status = spool_io_read(pool->io, pool->fd, bytes, sizeof bytes, slot_place(number),
                                      &got, what_pool, error);
    if (status == IMP_OK && got != sizeof bytes)
        status = imp_error_set(error, IMP_NOT_FOUND, "the key pool has no slot %u", number);
    if (status == IMP_OK && !slot_take(pool, number, bytes, slot))
        status = imp_error_set(error, IMP_CORRUPT, "slot %u of the key pool is damaged", number);
    imp_wipe(bytes, sizeof bytes);
    return status;
}

imp_status key_pool_renew(struct key_pool *pool, uint32_t number, struct key_slot *renewed,
                          imp_error *error)
{
    uint8_t bytes[KEY_SLOT_SIZE];
    struct key_slot old;
    /* After damage the old generation is not known: the clock is far beyond what counting reaches. */
    uint64_t generation = (uint64_t)imp_now();

    imp_status status = key_pool_get(pool, number, &old, error);
    if (status == IMP_OK)
        generation = old.generation + 1;
    imp_wipe(&old, sizeof old);
    if (status != IMP_OK && status != IMP_CORRUPT)
        return status;
    slot_make(pool, number, generation, bytes);
    status = spool_io_write(pool->io, pool->fd, bytes, sizeof bytes, slot_place(number), what_pool,
                            error);
    if (status == IMP_OK)
        (void)slot_take(pool, number, bytes, renewed);
    imp_wipe(bytes, sizeof bytes);
    return status;
}

imp_status key_pool_sync(struct key_pool *pool, imp_error *error)
{
    return spool_io_sync(pool->io, pool->fd, what_pool, error);
}
