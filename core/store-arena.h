/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-arena.h - memory of one transaction: opened values and scratch copies, wiped and given back
 * together at its end. The first chunk is kept for the next transaction.
 *
 * Under AddressSanitizer each allocation is a chunk of its own, so that a use after the end or beyond
 * the bounds is seen.
 */
#ifndef CORE_STORE_ARENA_H
#define CORE_STORE_ARENA_H

#include <imprimatur/base.h>

struct store_arena_chunk;

struct store_arena {
    struct store_arena_chunk *chunks; /* the newest first */
};

/* `length` bytes, aligned for any type; NULL when memory is short. */
void *store_arena_alloc(struct store_arena *arena, size_t length);
/* Wipes what was used and keeps one small chunk. */
void store_arena_reset(struct store_arena *arena);
void store_arena_free(struct store_arena *arena);

#endif
