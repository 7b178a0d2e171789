/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c - see arena.h. */
#include "build-config.h"

#include "core/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena_chunk {
    struct arena_chunk *older;
    max_align_t memory[];
};

void *arena_alloc(struct arena *arena, size_t size)
{
    struct arena_chunk *chunk = NULL;
    if (size <= PTRDIFF_MAX - sizeof *chunk)
        chunk = calloc(1, sizeof *chunk + size);
    if (chunk == NULL) {
        arena->has_failed = true;
        return NULL;
    }
    chunk->older = arena->newest;
    arena->newest = chunk;
    return chunk->memory;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    char *copy = arena_alloc(arena, size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : arena_alloc(arena, (size_t)length + 1);
    if (text != NULL)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void arena_free(struct arena *arena)
{
    while (arena->newest != NULL) {
        struct arena_chunk *chunk = arena->newest;
        arena->newest = chunk->older;
        free(chunk);
    }
    arena->has_failed = false;
}
