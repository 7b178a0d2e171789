/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-reader.c - one document's way out.
 *
 * A worker reads up to four segments into a buffer and opens them in place; the owner takes them from
 * there. When a buffer is used up the next read starts at once. A reader that is asked to let its
 * buffer go forgets what it has read ahead, and reads it again later: a device that does not take its
 * job keeps no memory.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "modules/jobs/spool-bytes.h"
#include "modules/jobs/spool-inline.h"
#include "modules/jobs/spool-private.h"

struct spool_reader {
    struct spool *spool;
    void (*readable)(void *arg);
    void *readable_arg;
    struct spool_document document;
    uint64_t position; /* bytes given so far */
    imp_status status; /* anything but IMP_OK: failed */
    imp_error error;
    bool is_told_busy, is_closed, is_waiting, must_yield;
    bool was_told;  /* of this buffer: the owner waits for it */
    bool has_given; /* something of this buffer */

    uint8_t *plain; /* an inline document */

    struct spool_buffer_user user;
    struct spool_buffer *buffer;
    uint64_t first_segment; /* in it */
    uint64_t text_end;      /* position up to which it has text */

    struct spool_task task; /* what follows belongs to the worker while is_fetching */
    bool is_fetching, is_open;
    int fd;
    struct segment_stream stream;
    imp_status fetch_status;
    imp_error fetch_error;
};

/* ---- life ---- */

static struct spool_reader *reader_of(struct spool_buffer_user *user)
{
    return (struct spool_reader *)(void *)((char *)user - offsetof(struct spool_reader, user));
}

static void reader_granted(struct spool_buffer_user *user, struct spool_buffer *buffer);
static void reader_yield(struct spool_buffer_user *user);
static void reader_gone(struct spool_buffer_user *user);

imp_status spool_reader_open(struct spool *spool, const struct spool_document *document,
                             void (*readable)(void *arg), void *arg, struct spool_reader **reader,
                             imp_error *error)
{
    *reader = NULL;
    if (document->format != SPOOL_FORMAT)
        return imp_error_set(error, IMP_UNSUPPORTED, "the document is of another format");
    struct spool_reader *new = calloc(1, sizeof *new);
    if (new == NULL)
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    new->spool = spool;
    new->readable = readable;
    new->readable_arg = arg;
    new->document = *document;
    new->fd = -1;
    new->user = (struct spool_buffer_user){.pool = &spool->buffers,
                                           .loop = imp_loop_current(),
                                           .granted = reader_granted,
                                           .yield = reader_yield,
                                           .gone = reader_gone};
    *reader = new;
    return IMP_OK;
}

static void reader_free(struct spool_reader *reader)
{
    if (reader->fd != -1)
        close(reader->fd);
    segment_stream_end(&reader->stream);
    if (reader->plain != NULL)
        imp_wipe(reader->plain, (size_t)reader->document.size);
    free(reader->plain);
    imp_wipe(reader, sizeof *reader);
    free(reader);
}

static void reader_gone(struct spool_buffer_user *user)
{
    struct spool_reader *reader = reader_of(user);
    if (!reader->is_fetching) /* else reader_fetched frees it */
        reader_free(reader);
}

static void buffer_return(struct spool_reader *reader, struct spool_buffer *buffer)
{
    imp_wipe(buffer->data, SPOOL_BUFFER_SIZE);
    spool_buffers_put(&reader->spool->buffers, buffer);
}

/* Forgets what was read ahead. */
static void reader_let_go(struct spool_reader *reader)
{
    struct spool_buffer *buffer = reader->buffer;

    reader->buffer = NULL;
    reader->must_yield = false;
    spool_buffers_detach(&reader->user);
    buffer_return(reader, buffer);
}

void spool_reader_close(struct spool_reader *reader)
{
    if (reader == NULL)
        return;
    reader->is_closed = true;
    struct spool_buffer *buffer = reader->is_fetching ? NULL : reader->buffer;
    if (buffer != NULL)
        reader->buffer = NULL;
    bool is_unused = spool_buffers_leave(&reader->user);
    if (buffer != NULL)
        buffer_return(reader, buffer);
    if (is_unused && !reader->is_fetching)
        reader_free(reader);
}

/* ---- the worker's part ---- */

static size_t buffer_base(uint64_t first_segment)
{
    return first_segment == 0 ? SEGMENT_BLOCK : 0;
}

/* The head that this document's file or value must carry. */
static struct segment_head expected_head(const struct spool_document *document)
{
    return (struct segment_head){.pool = document->key.pool,
                                 .generation = document->key.generation,
                                 .slot = document->key.slot,
                                 .file = document->is_inline ? SEGMENT_FILE_NONE : document->file};
}

static imp_status fetch_inline(struct spool_reader *reader, imp_error *error)
{
    struct spool *spool = reader->spool;
    struct segment_head head = expected_head(&reader->document);
    uint8_t number[SPOOL_NUMBER_KEY], key[SEGMENT_KEY];
    imp_tx *tx = NULL;
    imp_bytes value;

    imp_status status =
        spool_key_open(spool, SPOOL_PURPOSE_DOCUMENT, &reader->document.key, key, error);
    if (status != IMP_OK)
        return status;
    spool_put_u32(number, reader->document.key.slot);
    status = imp_store_read_begin(spool->self, &tx, error);
    if (status == IMP_OK) {
        status = imp_tx_get(tx, spool->table_doc, (imp_bytes){number, sizeof number}, &value);
        if (status == IMP_OK)
            reader->plain = spool_inline_open(&head, key, value, reader->document.size);
        imp_store_read_end(tx);
        if (reader->plain == NULL)
            status = imp_error_set(error, IMP_CORRUPT, "the document is %s",
                                   status == IMP_NOT_FOUND ? "missing" : "damaged");
    }
    imp_wipe(key, sizeof key);
    return status;
}

/* Compares the first block with what it must be, but for the nonce's random part. */
static bool head_fits(struct spool_reader *reader, const uint8_t block[SEGMENT_BLOCK])
{
    static const uint8_t zeros[SEGMENT_BLOCK - SEGMENT_HEAD];
    struct segment_head expected = expected_head(&reader->document), found;

    if (segment_head_read(block, &found) != IMP_OK)
        return false;
    memcpy(expected.prefix, found.prefix, sizeof expected.prefix);
    segment_head_write(&expected, reader->stream.head);
    return memcmp(reader->stream.head, block, SEGMENT_HEAD) == 0 &&
           memcmp(block + SEGMENT_HEAD, zeros, sizeof zeros) == 0;
}

static imp_status fetch_open(struct spool_reader *reader, imp_error *error)
{
    uint8_t key[SEGMENT_KEY];

    imp_status status =
        spool_key_open(reader->spool, SPOOL_PURPOSE_DOCUMENT, &reader->document.key, key, error);
    if (status == IMP_OK)
        status = spool_files_open(reader->spool, reader->document.file, false, &reader->fd, error);
    if (status == IMP_OK && segment_stream_start(&reader->stream, false, key) != IMP_OK)
        status = imp_error_set(error, IMP_IO, "the document can't be opened");
    imp_wipe(key, sizeof key);
    return status;
}

/* Reads and opens the segments of one buffer. */
static imp_status fetch_segments(struct spool_reader *reader, imp_error *error)
{
    uint64_t first = reader->first_segment, size = reader->document.size;
    uint64_t count = segment_count(size), left = count - first;
    size_t base = buffer_base(first);
    uint64_t room = (SPOOL_BUFFER_SIZE - base) / SEGMENT_SIZE;
    uint64_t segments = left < room ? left : room;
    size_t length = base + (size_t)segments * SEGMENT_SIZE, got = 0;
    uint64_t offset = first == 0 ? 0 : SEGMENT_BLOCK + first * SEGMENT_SIZE;
    uint8_t *place = reader->buffer->data;

    imp_status status = spool_io_read(reader->spool->io, reader->fd, place, length, offset, &got,
                                      "document file", error);
    if (status != IMP_OK)
        return status;
    if (got != length)
        return imp_error_set(error, IMP_CORRUPT, "the document is cut short");
    if (first == 0 && !head_fits(reader, place))
        return imp_error_set(error, IMP_CORRUPT, "the document's file is another one's");
    place += base;
    for (uint64_t index = first; index < first + segments; index++) {
        status = segment_open(&reader->stream, index, index == count - 1, size, place, SEGMENT_TEXT,
                              place + SEGMENT_TEXT);
        if (status != IMP_OK)
            return imp_error_set(error, status, "the document is damaged in segment %llu",
                                 (unsigned long long)index);
        place += SEGMENT_SIZE;
    }
    reader->text_end = first + segments == count ? size : (first + segments) * SEGMENT_TEXT;
    return IMP_OK;
}

static void reader_fetch(struct spool_task *task)
{
    struct spool_reader *reader =
        (struct spool_reader *)(void *)((char *)task - offsetof(struct spool_reader, task));
    imp_error *error = &reader->fetch_error;
    imp_status status = IMP_OK;

    if (reader->document.is_inline) {
        status = fetch_inline(reader, error);
    } else {
        if (!reader->is_open)
            status = fetch_open(reader, error);
        if (status == IMP_OK) {
            reader->is_open = true;
            status = fetch_segments(reader, error);
        }
        if (status == IMP_CORRUPT) {
            /* Overwritten because it was deleted while it was read? */
            uint8_t key[SEGMENT_KEY];
            imp_error now;
            if (spool_key_open(reader->spool, SPOOL_PURPOSE_DOCUMENT, &reader->document.key, key,
                               &now) == IMP_NOT_FOUND) {
                status = IMP_NOT_FOUND;
                *error = now;
            }
            imp_wipe(key, sizeof key);
        }
        if (status != IMP_OK)
            imp_wipe(reader->buffer->data, SPOOL_BUFFER_SIZE);
    }
    reader->fetch_status = status;
}

/* ---- the owner's part ---- */

static void reader_fetched(struct spool_task *task, bool was_cancelled);

/* Starts to read what comes at the position; the buffer, if one is needed, is at hand. */
static void reader_start(struct spool_reader *reader)
{
    if (reader->buffer != NULL)
        spool_buffers_detach(&reader->user);
    reader->first_segment = reader->position / SEGMENT_TEXT;
    reader->must_yield = false;
    reader->has_given = reader->was_told = false;
    reader->is_fetching = true;
    reader->task =
        (struct spool_task){.spool = reader->spool, .run = reader_fetch, .done = reader_fetched};
    spool_task_start(&reader->task);
}

static void reader_tell(struct spool_reader *reader)
{
    if (!reader->is_told_busy)
        return;
    reader->is_told_busy = false;
    reader->was_told = true;
    reader->readable(reader->readable_arg);
}

static void reader_fetched(struct spool_task *task, bool was_cancelled)
{
    struct spool_reader *reader =
        (struct spool_reader *)(void *)((char *)task - offsetof(struct spool_reader, task));
    struct spool_buffer *buffer = reader->buffer;

    reader->is_fetching = false;
    if (was_cancelled)
        reader->fetch_status =
            imp_error_set(&reader->fetch_error, IMP_UNAVAILABLE, "the spool is being closed");
    if (reader->is_closed || reader->fetch_status != IMP_OK) {
        reader->buffer = NULL;
        if (buffer != NULL)
            buffer_return(reader, buffer);
    } else if (buffer != NULL) {
        spool_buffers_attach(&reader->user);
    }
    if (reader->is_closed) {
        if (reader->user.posts == 0)
            reader_free(reader);
        return;
    }
    if (reader->fetch_status != IMP_OK) {
        reader->status = reader->fetch_status;
        reader->error = reader->fetch_error;
    }
    reader_tell(reader);
}

static void reader_granted(struct spool_buffer_user *user, struct spool_buffer *buffer)
{
    struct spool_reader *reader = reader_of(user);

    reader->is_waiting = false;
    reader->buffer = buffer;
    reader_start(reader);
}

static void reader_yield(struct spool_buffer_user *user)
{
    struct spool_reader *reader = reader_of(user);

    if (reader->buffer == NULL || reader->is_fetching)
        return;
    /* What its owner waits for would have been read in vain, again and again: he has just been told
     * and comes at once. What was read ahead of a device that stalls goes without ado. */
    if (reader->was_told && !reader->has_given)
        reader->must_yield = true;
    else
        reader_let_go(reader);
}

/* Copies what is at hand from the position on. */
static size_t reader_copy(struct spool_reader *reader, uint8_t *to, size_t size)
{
    size_t given = 0;

    if (reader->plain != NULL) {
        uint64_t left = reader->document.size - reader->position;
        given = left < size ? (size_t)left : size;
        if (given > 0)
            memcpy(to, reader->plain + reader->position, given);
        reader->position += given;
        return given;
    }
    while (given < size && reader->position < reader->text_end) {
        uint64_t segment = reader->position / SEGMENT_TEXT - reader->first_segment;
        size_t at = (size_t)(reader->position % SEGMENT_TEXT);
        uint64_t end = (reader->position / SEGMENT_TEXT + 1) * SEGMENT_TEXT;
        uint64_t part = (end < reader->text_end ? end : reader->text_end) - reader->position;
        if (part > size - given)
            part = size - given;
        memcpy(to + given,
               reader->buffer->data + buffer_base(reader->first_segment) + segment * SEGMENT_SIZE +
                   at,
               (size_t)part);
        given += (size_t)part;
        reader->position += part;
    }
    return given;
}

imp_status spool_reader_read(struct spool_reader *reader, void *buffer, size_t size, size_t *length,
                             imp_error *error)
{
    *length = 0;
    if (reader->status != IMP_OK) {
        if (error != NULL)
            *error = reader->error;
        return reader->status;
    }
    bool is_at_hand = !reader->is_fetching && (reader->plain != NULL || reader->buffer != NULL);
    bool has_opened = reader->document.is_inline ? reader->plain != NULL : reader->position > 0;
    if (reader->position == reader->document.size && has_opened)
        return IMP_OK;
    if (is_at_hand) {
        *length = reader_copy(reader, buffer, size);
        reader->has_given = true;
        if (reader->buffer == NULL)
            return IMP_OK;
        bool is_used_up = reader->position == reader->text_end;
        if (reader->position == reader->document.size || reader->must_yield ||
            (is_used_up && spool_buffers_are_short(&reader->spool->buffers)))
            reader_let_go(reader);
        else if (is_used_up)
            reader_start(reader);
        return IMP_OK;
    }
    reader->is_told_busy = true;
    if (reader->is_fetching || reader->is_waiting)
        return IMP_BUSY;
    if (!reader->document.is_inline) {
        reader->buffer = spool_buffers_get(&reader->user);
        reader->is_waiting = reader->buffer == NULL;
    }
    if (!reader->is_waiting)
        reader_start(reader);
    return IMP_BUSY;
}
