/* SPDX-License-Identifier: Apache-2.0 */
/* config-block.h - the inside of struct config_block. */
#ifndef CORE_CONFIG_BLOCK_H
#define CORE_CONFIG_BLOCK_H

#include "core/config-private.h"

#define CONFIG_ORIGIN_DEFAULT "default"
#define CONFIG_ORIGIN_OVERLAY "overlay"
#define CONFIG_LISTEN "listen" /* the setting that the core owns in every module */

struct block_entry {
    struct config_entry shown;
    const char *top; /* the setting of the module that this is a part of */
};

struct config_block {
    struct arena arena; /* all strings, lists and the conf struct */
    void *data;
    struct block_entry *entries;
    uint32_t count, capacity;
};

/* NULL when memory is short. */
struct config_block *config_block_new(uint64_t conf_size);
/* A new entry with its path set, valid until the next is added; NULL when memory is short. `top` must
 * live as long as the block. */
struct config_entry *config_block_add(struct config_block *block, const char *top,
                                      const char *path);

#endif
