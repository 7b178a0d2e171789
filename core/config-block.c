/* SPDX-License-Identifier: Apache-2.0 */
/* config-block.c - what a reading of rows leaves: the conf struct and its entries. */
#include "build-config.h"

#include "core/config-block.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES_FIRST 32u

struct config_block *config_block_new(uint64_t conf_size)
{
    struct config_block *block = calloc(1, sizeof *block);
    if (block == NULL)
        return NULL;
    if (conf_size <= SIZE_MAX - 1)
        block->data = arena_alloc(&block->arena, (size_t)conf_size + 1);
    if (block->data == NULL) {
        config_block_free(block);
        return NULL;
    }
    return block;
}

void config_block_free(struct config_block *block)
{
    if (block == NULL)
        return;
    arena_free(&block->arena);
    free(block->entries);
    free(block);
}

struct config_entry *config_block_add(struct config_block *block, const char *top, const char *path)
{
    if (block->count == block->capacity) {
        uint32_t capacity = block->capacity == 0 ? ENTRIES_FIRST : 2 * block->capacity;
        struct block_entry *entries = realloc(block->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            block->arena.has_failed = true;
            return NULL;
        }
        block->entries = entries;
        block->capacity = capacity;
    }
    struct block_entry *entry = &block->entries[block->count];
    *entry = (struct block_entry){.top = top};
    entry->shown.path = arena_strdup(&block->arena, path);
    if (entry->shown.path == NULL)
        return NULL;
    block->count++;
    return &entry->shown;
}

const void *config_block_data(const struct config_block *block)
{
    return block->data;
}

void *config_block_data_mutable(struct config_block *block)
{
    return block->data;
}

struct arena *config_block_arena(struct config_block *block)
{
    return &block->arena;
}

uint32_t config_block_entry_count(const struct config_block *block)
{
    return block->count;
}

const struct config_entry *config_block_entry(const struct config_block *block, uint32_t index)
{
    return index < block->count ? &block->entries[index].shown : NULL;
}

static struct config_entry *find(const struct config_block *block, const char *path)
{
    for (uint32_t i = 0; i < block->count; i++)
        if (strcmp(block->entries[i].shown.path, path) == 0)
            return &block->entries[i].shown;
    return NULL;
}

const struct config_entry *config_block_find(const struct config_block *block, const char *path)
{
    return find(block, path);
}

void config_block_set_default(struct config_block *block, const char *path, const char **field,
                              char *value)
{
    struct config_entry *entry = find(block, path);
    if (entry == NULL || strcmp(entry->origin, CONFIG_ORIGIN_DEFAULT) != 0 || value == NULL)
        return;
    *field = value;
    entry->value = arena_printf(&block->arena, "\"%s\"", value);
}

/* ---- comparing ---- */

/* The end of the run of entries that come from one top-level setting. */
static uint32_t run_end(const struct config_block *block, uint32_t start)
{
    uint32_t end = start;
    while (end < block->count && strcmp(block->entries[end].top, block->entries[start].top) == 0)
        end++;
    return end;
}

/* The first entry that differs in two runs of the same setting, or NULL. */
static const struct config_entry *run_difference(const struct config_block *current, uint32_t i,
                                                 uint32_t i_end, const struct config_block *next,
                                                 uint32_t j, uint32_t j_end)
{
    for (; i < i_end && j < j_end; i++, j++) {
        const struct config_entry *a = &current->entries[i].shown, *b = &next->entries[j].shown;
        if (strcmp(a->path, b->path) != 0 || strcmp(a->value, b->value) != 0)
            return b;
    }
    if (j < j_end)
        return &next->entries[j].shown;
    return i < i_end ? &current->entries[i].shown : NULL;
}

enum config_change config_block_compare(const struct config_block *current,
                                        const struct config_block *next, const char **path)
{
    enum config_change change = CONFIG_SAME;
    const char *first = NULL;
    uint32_t i = 0, j = 0;
    while (i < current->count && j < next->count) {
        if (strcmp(current->entries[i].top, next->entries[j].top) != 0)
            break; /* other rows: another version of the module */
        uint32_t i_end = run_end(current, i), j_end = run_end(next, j);
        const struct config_entry *entry = run_difference(current, i, i_end, next, j, j_end);
        if (entry != NULL) {
            bool is_live = (entry->flags & IMP_LIVE) != 0;
            enum config_change this_change = is_live ? CONFIG_LIVE : CONFIG_RESTART;
            if (this_change > change) {
                change = this_change;
                first = entry->path;
            }
        }
        i = i_end;
        j = j_end;
    }
    /* What is left on one side alone: `listen`, whose entries come last and only when there are any,
     * or other rows. */
    const struct block_entry *rest = j < next->count      ? &next->entries[j]
                                     : i < current->count ? &current->entries[i]
                                                          : NULL;
    if (rest != NULL) {
        bool is_listen =
            (i == current->count || j == next->count) && strcmp(rest->top, CONFIG_LISTEN) == 0;
        enum config_change this_change = is_listen ? CONFIG_LIVE : CONFIG_RESTART;
        if (this_change > change) {
            change = this_change;
            first = rest->shown.path;
        }
    }
    if (path != NULL)
        *path = first;
    return change;
}
