/* SPDX-License-Identifier: Apache-2.0 */
/* spool-bytes.h - numbers on disk and in table keys are big-endian. */
#ifndef JOBS_SPOOL_BYTES_H
#define JOBS_SPOOL_BYTES_H

#include <stdint.h>

static inline void spool_put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static inline void spool_put_u64(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> (56 - 8 * i));
}

static inline uint32_t spool_get_u32(const uint8_t *from)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 8 | from[i];
    return value;
}

static inline uint64_t spool_get_u64(const uint8_t *from)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | from[i];
    return value;
}

#endif
