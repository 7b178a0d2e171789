/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/segment.h"

#include <openssl/evp.h>
#include <string.h>

#include "modules/jobs/spool-bytes.h"

#define SEGMENT_FORMAT 1u
static const uint8_t segment_magic[8] = {'I', 'M', 'P', 'S', 'P', 'O', 'O', 'L'};

enum { NONCE_SIZE = 12, SIZE_BYTES = 8 };

/* ---- the head ---- */

enum head_offset { /* of the fields in a head */
                   HEAD_MAGIC = 0,
                   HEAD_FORMAT = 8,
                   HEAD_FILE = 12,
                   HEAD_SLOT = 16,
                   HEAD_PREFIX = 20,
                   HEAD_RESERVED = 27, /* zeros */
                   HEAD_POOL = 32,
                   HEAD_GENERATION = 40,
};

void segment_head_write(const struct segment_head *head, uint8_t bytes[SEGMENT_HEAD])
{
    memset(bytes, 0, SEGMENT_HEAD);
    memcpy(bytes + HEAD_MAGIC, segment_magic, sizeof segment_magic);
    spool_put_u32(bytes + HEAD_FORMAT, SEGMENT_FORMAT);
    spool_put_u32(bytes + HEAD_FILE, head->file);
    spool_put_u32(bytes + HEAD_SLOT, head->slot);
    memcpy(bytes + HEAD_PREFIX, head->prefix, SEGMENT_PREFIX);
    spool_put_u64(bytes + HEAD_POOL, head->pool);
    spool_put_u64(bytes + HEAD_GENERATION, head->generation);
}

imp_status segment_head_read(const uint8_t bytes[SEGMENT_HEAD], struct segment_head *head)
{
    static const uint8_t zeros[HEAD_POOL - HEAD_RESERVED];

    memset(head, 0, sizeof *head);
    if (memcmp(bytes + HEAD_MAGIC, segment_magic, sizeof segment_magic) != 0)
        return IMP_CORRUPT;
    if (spool_get_u32(bytes + HEAD_FORMAT) != SEGMENT_FORMAT)
        return IMP_UNSUPPORTED;
    if (memcmp(bytes + HEAD_RESERVED, zeros, sizeof zeros) != 0)
        return IMP_CORRUPT;
    head->file = spool_get_u32(bytes + HEAD_FILE);
    head->slot = spool_get_u32(bytes + HEAD_SLOT);
    memcpy(head->prefix, bytes + HEAD_PREFIX, SEGMENT_PREFIX);
    head->pool = spool_get_u64(bytes + HEAD_POOL);
    head->generation = spool_get_u64(bytes + HEAD_GENERATION);
    return IMP_OK;
}

/* ---- sizes ---- */

uint64_t segment_count(uint64_t size)
{
    return size == 0 ? 1 : (size - 1) / SEGMENT_TEXT + 1;
}

uint64_t segment_file_size(uint64_t size)
{
    return SEGMENT_BLOCK + segment_count(size) * SEGMENT_SIZE;
}

size_t segment_text_length(uint64_t size, uint64_t index)
{
    uint64_t before = index * SEGMENT_TEXT;
    if (before >= size)
        return 0;
    return (size_t)(size - before < SEGMENT_TEXT ? size - before : SEGMENT_TEXT);
}

/* ---- sealing and opening ---- */

imp_status segment_stream_start(struct segment_stream *stream, bool is_sealing,
                                const uint8_t key[SEGMENT_KEY])
{
    stream->is_sealing = is_sealing;
    stream->cipher = EVP_CIPHER_CTX_new();
    /* The key schedule is made once; the segments set their nonces only. */
    if (stream->cipher == NULL || EVP_CipherInit_ex(stream->cipher, EVP_aes_256_gcm(), NULL, key,
                                                    NULL, is_sealing ? 1 : 0) != 1) {
        segment_stream_end(stream);
        return IMP_IO;
    }
    return IMP_OK;
}

/* Sets nonce and associated data of a segment. */
static bool segment_begin(struct segment_stream *stream, uint64_t index, bool is_last,
                          uint64_t size)
{
    uint8_t nonce[NONCE_SIZE];
    uint8_t associated[SEGMENT_HEAD + SIZE_BYTES];
    int length = 0;

    memcpy(nonce, stream->head + HEAD_PREFIX, SEGMENT_PREFIX);
    spool_put_u32(nonce + SEGMENT_PREFIX, (uint32_t)index);
    nonce[NONCE_SIZE - 1] = is_last ? 1 : 0;
    memcpy(associated, stream->head, SEGMENT_HEAD);
    spool_put_u64(associated + SEGMENT_HEAD, is_last ? size : 0);
    return EVP_CipherInit_ex(stream->cipher, NULL, NULL, NULL, nonce, stream->is_sealing ? 1 : 0) ==
               1 &&
           EVP_CipherUpdate(stream->cipher, NULL, &length, associated, (int)sizeof associated) == 1;
}

imp_status segment_seal(struct segment_stream *stream, uint64_t index, bool is_last, uint64_t size,
                        uint8_t *text, size_t length, uint8_t tag[SEGMENT_TAG])
{
    int out = 0, rest = 0;

    if (index > SEGMENT_COUNT_MAX)
        return IMP_LIMIT;
    if (!segment_begin(stream, index, is_last, size) ||
        (length > 0 && EVP_CipherUpdate(stream->cipher, text, &out, text, (int)length) != 1) ||
        EVP_CipherFinal_ex(stream->cipher, tag, &rest) != 1 ||
        EVP_CIPHER_CTX_ctrl(stream->cipher, EVP_CTRL_AEAD_GET_TAG, (int)SEGMENT_TAG, tag) != 1)
        return IMP_IO;
    return IMP_OK;
}

imp_status segment_open(struct segment_stream *stream, uint64_t index, bool is_last, uint64_t size,
                        uint8_t *text, size_t length, const uint8_t tag[SEGMENT_TAG])
{
    uint8_t expected[SEGMENT_TAG], nothing[SEGMENT_TAG];
    int out = 0, rest = 0;

    memcpy(expected, tag, sizeof expected);
    if (index > SEGMENT_COUNT_MAX || !segment_begin(stream, index, is_last, size) ||
        (length > 0 && EVP_CipherUpdate(stream->cipher, text, &out, text, (int)length) != 1) ||
        EVP_CIPHER_CTX_ctrl(stream->cipher, EVP_CTRL_AEAD_SET_TAG, (int)SEGMENT_TAG, expected) !=
            1 ||
        EVP_CipherFinal_ex(stream->cipher, nothing, &rest) != 1) {
        imp_wipe(text, length);
        return IMP_CORRUPT;
    }
    return IMP_OK;
}

void segment_stream_end(struct segment_stream *stream)
{
    EVP_CIPHER_CTX_free(stream->cipher); /* cleanses the key schedule */
    stream->cipher = NULL;
}
