/* SPDX-License-Identifier: Apache-2.0 */
/* store-arena.c - memory of one transaction. */
#include "core/store-arena.h"

#include <stdalign.h>
#include <stdlib.h>

#define CHUNK_SIZE ((size_t)16 * 1024)

#if defined(__SANITIZE_ADDRESS__)
#define EACH_ALONE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EACH_ALONE 1
#endif
#endif
#ifndef EACH_ALONE
#define EACH_ALONE 0
#endif

struct store_arena_chunk {
    struct store_arena_chunk *next;
    size_t size, used;
    alignas(max_align_t) uint8_t bytes[];
};

void *store_arena_alloc(struct store_arena *arena, size_t length)
{
    const size_t align = alignof(max_align_t);
    if (length > SIZE_MAX / 2) {
        return NULL;
    }
    struct store_arena_chunk *chunk = arena->chunks;
    size_t rounded = EACH_ALONE ? length : (length + align - 1) / align * align;
    if (chunk == NULL || chunk->size - chunk->used < rounded || EACH_ALONE) {
        size_t size = rounded > CHUNK_SIZE || EACH_ALONE ? rounded : CHUNK_SIZE;
        chunk = malloc(sizeof *chunk + size);
        if (chunk == NULL) {
            return NULL;
        }
        chunk->size = size;
        chunk->used = 0;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    void *result = chunk->bytes + chunk->used;
    chunk->used += rounded;
    return result;
}

static void end_chunks(struct store_arena *arena, bool keeps_one)
{
    struct store_arena_chunk *kept = NULL;
    while (arena->chunks != NULL) {
        struct store_arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        imp_wipe(chunk->bytes, chunk->used); /* opened values */
        if (keeps_one && kept == NULL && !EACH_ALONE && chunk->size == CHUNK_SIZE) {
            kept = chunk;
        } else {
            free(chunk);
        }
    }
    if (kept != NULL) {
        kept->used = 0;
        kept->next = NULL;
    }
    arena->chunks = kept;
}

void store_arena_reset(struct store_arena *arena)
{
    end_chunks(arena, true);
}

void store_arena_free(struct store_arena *arena)
{
    end_chunks(arena, false);
}
