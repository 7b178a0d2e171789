/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/spool-inline.h"

#include <stdlib.h>
#include <string.h>

/* One segment, the last; it may be a little longer than one in a file. */

uint8_t *spool_inline_seal(const struct segment_head *head, const uint8_t key[SEGMENT_KEY],
                           const uint8_t *plain, size_t length)
{
    struct segment_stream stream = {0};
    uint8_t *value = malloc(length + SPOOL_INLINE_OVERHEAD);

    if (value == NULL || segment_stream_start(&stream, true, key) != IMP_OK)
        goto failed;
    segment_head_write(head, stream.head);
    memcpy(value, stream.head, SEGMENT_HEAD);
    if (length > 0)
        memcpy(value + SEGMENT_HEAD, plain, length);
    if (segment_seal(&stream, 0, true, length, value + SEGMENT_HEAD, length,
                     value + SEGMENT_HEAD + length) != IMP_OK)
        goto failed;
    segment_stream_end(&stream);
    return value;
failed:
    segment_stream_end(&stream);
    if (value != NULL)
        imp_wipe(value, length + SPOOL_INLINE_OVERHEAD);
    free(value);
    return NULL;
}

uint8_t *spool_inline_open(const struct segment_head *head, const uint8_t key[SEGMENT_KEY],
                           imp_bytes value, uint64_t size)
{
    struct segment_stream stream = {0};
    struct segment_head found, expected = *head;
    const uint8_t *bytes = value.data;
    uint8_t *plain = NULL;
    bool is_open = false;

    if (size > SPOOL_INLINE_LIMIT || value.length != size + SPOOL_INLINE_OVERHEAD ||
        segment_head_read(bytes, &found) != IMP_OK)
        return NULL;
    memcpy(expected.prefix, found.prefix, SEGMENT_PREFIX);
    segment_head_write(&expected, stream.head);
    if (memcmp(stream.head, bytes, SEGMENT_HEAD) != 0)
        return NULL;
    plain = malloc(size == 0 ? 1 : (size_t)size);
    if (plain != NULL && segment_stream_start(&stream, false, key) == IMP_OK) {
        if (size > 0)
            memcpy(plain, bytes + SEGMENT_HEAD, (size_t)size);
        is_open = segment_open(&stream, 0, true, size, plain, (size_t)size,
                               bytes + SEGMENT_HEAD + size) == IMP_OK;
    }
    segment_stream_end(&stream);
    if (!is_open) {
        free(plain);
        plain = NULL;
    }
    return plain;
}
