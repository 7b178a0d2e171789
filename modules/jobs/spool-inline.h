/* SPDX-License-Identifier: Apache-2.0 */
/* spool-inline.h - small documents as values of table jobs.doc: head, text, tag. */
#ifndef JOBS_SPOOL_INLINE_H
#define JOBS_SPOOL_INLINE_H

#include "modules/jobs/segment.h"

#define SPOOL_INLINE_OVERHEAD (SEGMENT_HEAD + SEGMENT_TAG)
#define SPOOL_INLINE_LIMIT ((size_t)64 * 1024) /* text */

/* Seals `length` bytes into a new value of length + SPOOL_INLINE_OVERHEAD bytes; NULL when memory is
 * short. The caller frees it. */
uint8_t *spool_inline_seal(const struct segment_head *head, const uint8_t key[SEGMENT_KEY],
                           const uint8_t *plain, size_t length);
/* Opens into a new buffer of `size` bytes (at least one). NULL: the value is not that of `head`'s
 * document. The caller wipes and frees it. `head->prefix` is taken from the value. */
uint8_t *spool_inline_open(const struct segment_head *head, const uint8_t key[SEGMENT_KEY],
                           imp_bytes value, uint64_t size);

#endif
