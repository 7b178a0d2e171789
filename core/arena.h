/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory that is freed as a whole.
 *
 * Each allocation is one of malloc's, so that the sanitizers see its edges; not for hot paths.
 */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <imprimatur/base.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *newest;
    bool has_failed; /* some allocation gave NULL since the arena was made */
};

/* Zeroed memory, aligned for any type; NULL when memory is short. */
void *arena_alloc(struct arena *arena, size_t size);
/* A copy; NULL for NULL. */
char *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) IMP_PRINTF(2, 3);
/* Frees everything; the arena can be used again. */
void arena_free(struct arena *arena);

#endif
