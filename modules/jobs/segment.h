/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - a sealed document as a stream of AES-256-GCM segments (the STREAM construction of
 * Hoang, Reyhanitabar, Rogaway and Vizar, 2015).
 *
 * In a file:
 *
 *     one block of 4,096 bytes: head, then zeros
 *     segments of 65,536 bytes: 65,520 of text and a tag of 16; the last one is padded with zeros
 *
 * Inline: head, text, tag; one segment, not padded.
 *
 * Nonce of a segment = 7 random bytes of the head || counter (4 bytes) || 1 for the last segment,
 * else 0. So a segment opens at its own place only, and an end at any other place than the end does
 * not open. Associated data = the head, and for the last segment the document's size. A document's
 * key is used for one document, written once.
 *
 * The head holds no document id: that is half of the key, and must not lie beside the text.
 */
#ifndef JOBS_SEGMENT_H
#define JOBS_SEGMENT_H

#include <imprimatur/base.h>

#define SEGMENT_BLOCK 4096u /* what direct I/O is aligned to, and the size of the head's block */
#define SEGMENT_SIZE 65536u /* on disk */
#define SEGMENT_TAG 16u
#define SEGMENT_TEXT (SEGMENT_SIZE - SEGMENT_TAG)
#define SEGMENT_KEY 32u
#define SEGMENT_PREFIX 7u
#define SEGMENT_HEAD 48u
#define SEGMENT_COUNT_MAX UINT64_C(0xffffffff)
#define SEGMENT_FILE_NONE UINT32_MAX /* `file` of an inline document */

/* What the head says. */
struct segment_head {
    uint64_t pool;
    uint64_t generation;
    uint32_t slot;
    uint32_t file;
    uint8_t prefix[SEGMENT_PREFIX];
};

void segment_head_write(const struct segment_head *head, uint8_t bytes[SEGMENT_HEAD]);
/* IMP_CORRUPT when it is no head of ours, IMP_UNSUPPORTED for a later format. */
imp_status segment_head_read(const uint8_t bytes[SEGMENT_HEAD], struct segment_head *head);

/* Segments of a document of `size` bytes; at least one. */
uint64_t segment_count(uint64_t size);
/* Bytes of its file. */
uint64_t segment_file_size(uint64_t size);
/* Bytes of text in segment `index`. */
size_t segment_text_length(uint64_t size, uint64_t index);

/* One direction over one document; one cipher context for all its segments. */
struct segment_stream {
    void *cipher; /* EVP_CIPHER_CTX */
    uint8_t head[SEGMENT_HEAD];
    bool is_sealing;
};

/* `head` may be given later, in stream->head, before the first segment. IMP_IO when the crypto
 * library refuses. */
imp_status segment_stream_start(struct segment_stream *stream, bool is_sealing,
                                const uint8_t key[SEGMENT_KEY]);
/* Seals in place. `size` is the document's, looked at for the last segment only. */
imp_status segment_seal(struct segment_stream *stream, uint64_t index, bool is_last, uint64_t size,
                        uint8_t *text, size_t length, uint8_t tag[SEGMENT_TAG]);
/* Opens in place. IMP_CORRUPT: not the segment that was sealed; the text is wiped then. */
imp_status segment_open(struct segment_stream *stream, uint64_t index, bool is_last, uint64_t size,
                        uint8_t *text, size_t length, const uint8_t tag[SEGMENT_TAG]);
/* Wipes and frees; may be called for a zeroed one. */
void segment_stream_end(struct segment_stream *stream);

#endif
