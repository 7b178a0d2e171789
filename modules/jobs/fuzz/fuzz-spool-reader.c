/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-spool-reader.c - what lies on disk and in records is read as if it were hostile.
 *
 * The first byte chooses: a packed description, an inline value, a head and segments, slots of a key
 * pool. The seeds (fuzz-spool-reader --seeds FOLDER) are sound ones.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "modules/jobs/key-pool.h"
#include "modules/jobs/segment.h"
#include "modules/jobs/spool-inline.h"
#include "modules/jobs/spool.h"

static const uint8_t fuzz_key[SEGMENT_KEY] = {3};
static const struct segment_head fuzz_head = {
    .pool = 1, .generation = 2, .slot = 3, .file = SEGMENT_FILE_NONE};

static void read_description(const uint8_t *data, size_t length)
{
    struct spool_document document, again;
    struct spool_key key;
    uint8_t packed[SPOOL_DOCUMENT_PACKED_MAX];

    if (spool_document_unpack((imp_bytes){data, length}, &document) == IMP_OK) {
        size_t size = spool_document_pack(&document, packed);
        if (size > sizeof packed ||
            spool_document_unpack((imp_bytes){packed, size}, &again) != IMP_OK ||
            again.key.slot != document.key.slot || again.size != document.size)
            abort();
    }
    if (spool_key_unpack((imp_bytes){data, length}, &key) == IMP_OK &&
        spool_key_pack(&key, packed) > SPOOL_KEY_PACKED_MAX)
        abort();
}

static void read_inline(const uint8_t *data, size_t length)
{
    uint64_t sizes[2] = {length >= SPOOL_INLINE_OVERHEAD ? length - SPOOL_INLINE_OVERHEAD : 0,
                         UINT64_MAX - SPOOL_INLINE_OVERHEAD + 1 + length};
    for (int i = 0; i < 2; i++) {
        uint8_t *plain =
            spool_inline_open(&fuzz_head, fuzz_key, (imp_bytes){data, length}, sizes[i]);
        free(plain);
    }
}

static void read_segments(const uint8_t *data, size_t length)
{
    struct segment_stream stream = {0};
    struct segment_head head;
    uint8_t *copy;

    if (length < SEGMENT_HEAD + SEGMENT_TAG || segment_head_read(data, &head) != IMP_OK ||
        segment_stream_start(&stream, false, fuzz_key) != IMP_OK)
        return;
    memcpy(stream.head, data, SEGMENT_HEAD);
    size_t text = length - SEGMENT_HEAD - SEGMENT_TAG;
    copy = malloc(text + SEGMENT_TAG);
    memcpy(copy, data + SEGMENT_HEAD, text + SEGMENT_TAG);
    (void)segment_open(&stream, head.slot, head.pool % 2 != 0, head.generation, copy, text,
                       copy + text);
    segment_stream_end(&stream);
    free(copy);
}

static void read_key_pool(const uint8_t *data, size_t length)
{
    struct key_pool pool;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd == -1 || write(fd, data, length) != (ssize_t)length)
        abort();
    memset(&pool, 0, sizeof pool);
    pool.io = &spool_io_system;
    pool.fd = fd;
    if (key_pool_refresh(&pool, NULL) == IMP_OK) {
        struct key_slot slot;
        for (uint32_t i = 0; i <= pool.slot_count && i < 4; i++)
            (void)key_pool_get(&pool, i, &slot, NULL);
    }
    key_pool_close(&pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static void (*const readers[])(const uint8_t *, size_t) = {read_description, read_inline,
                                                               read_segments, read_key_pool};
    if (length > 0)
        readers[data[0] % (sizeof readers / sizeof readers[0])](data + 1, length - 1);
    return 0;
}

/* ---- seeds ---- */

static void seed_write(const char *folder, const char *name, uint8_t kind, const void *data,
                       size_t length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fputc(kind, file) == EOF || fwrite(data, 1, length, file) != length ||
        fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void seeds_write(const char *folder)
{
    struct spool_document document = {
        .format = SPOOL_FORMAT, .key = {.slot = 9, .generation = 4}, .size = 1000};
    uint8_t packed[SPOOL_DOCUMENT_PACKED_MAX] = {0}, text[200] = {'t'}, bytes[SEGMENT_HEAD + 216];
    struct segment_stream stream = {0};

    seed_write(folder, "description", 0, packed, spool_document_pack(&document, packed));
    seed_write(folder, "key", 0, packed, spool_key_pack(&document.key, packed));
    uint8_t *value = spool_inline_seal(&fuzz_head, fuzz_key, text, sizeof text);
    seed_write(folder, "inline", 1, value, sizeof text + SPOOL_INLINE_OVERHEAD);
    free(value);
    segment_head_write(&fuzz_head, stream.head);
    memcpy(bytes, stream.head, SEGMENT_HEAD);
    memcpy(bytes + SEGMENT_HEAD, text, sizeof text);
    if (segment_stream_start(&stream, true, fuzz_key) != IMP_OK ||
        segment_seal(&stream, fuzz_head.slot, true, fuzz_head.generation, bytes + SEGMENT_HEAD,
                     sizeof text, bytes + SEGMENT_HEAD + sizeof text) != IMP_OK)
        exit(1);
    segment_stream_end(&stream);
    seed_write(folder, "segment", 2, bytes, sizeof bytes);
    uint8_t pool[KEY_POOL_BLOCK + 2 * KEY_SLOT_SIZE] = {'I', 'M', 'P', 'K', 'E', 'Y', 'S'};
    seed_write(folder, "key-pool", 3, pool, sizeof pool);
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments);

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    if (*argument_count == 3 && strcmp((*arguments)[1], "--seeds") == 0) {
        seeds_write((*arguments)[2]);
        exit(0);
    }
    return 0;
}
