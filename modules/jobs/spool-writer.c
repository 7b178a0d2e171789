/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-writer.c - one document's way in.
 *
 * Up to inline_max the bytes are collected. What is longer flows through buffers: plaintext is put at
 * its place in a buffer of whole segments; a worker digests and seals the buffer in place and writes
 * it. A buffer leaves only when a byte behind it has come: so the last segment is always here when
 * the end is known. One buffer is with the worker while the next one fills.
 *
 * What finds no buffer waits in `tail`. While buffers are short a writer asks for one only when it
 * has more than a segment to put in, and lets go of it when asked, so that slow senders do not hold
 * up the others.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crash-point.h"
#include "modules/jobs/spool-bytes.h"
#include "modules/jobs/spool-inline.h"
#include "modules/jobs/spool-private.h"

static const char what_write[] = "document file";

/* Disk space is reserved in steps that double up to this one when the size is not known. */
#define RESERVE_STEP_MAX (UINT64_C(16) << 20)
/* An announced size is believed up to this for reserving ahead; clients announce what they like. */
#define RESERVE_EXPECTED_MAX (UINT64_C(256) << 20)

/* Space is kept for what was announced, but only so much of what is free: a client that announces the
 * whole disk and sends nothing shall not turn the others away. */
#define PROMISED_PART 16u

struct spool_writer {
    struct spool *spool;
    void (*ready)(void *arg);
    void *ready_arg;
    void (*done)(imp_status status, const imp_error *error, void *arg);
    void *done_arg;
    struct spool_document document;
    struct key_slot slot;
    uint64_t expected; /* announced; 0 when not */
    int64_t promised;  /* of it, not yet written */
    uint64_t size;
    imp_status status; /* anything but IMP_OK: failed */
    imp_error error;
    bool is_streaming; /* too long to be inline */
    bool is_finishing, is_finished, is_closed, is_committed;
    bool is_told_busy;

    uint8_t *plain; /* all so far while not streaming; then the head */
    size_t plain_length, plain_room;
    bool has_forgotten_head;
    uint8_t *sealed; /* inline value */

    struct spool_buffer_user user;
    struct spool_buffer *buffer; /* being filled */
    size_t buffer_text;          /* bytes of text in it */
    uint64_t first_segment;      /* in it */
    bool is_waiting;             /* for a buffer */
    bool must_yield;
    uint8_t *tail; /* text that has no buffer yet */
    size_t tail_start, tail_length, tail_room;

    struct spool_task task; /* what follows belongs to the worker while is_writing */
    bool is_writing;
    struct spool_buffer *out;
    size_t out_text;
    uint64_t out_size; /* of the document, when it is the last */
    uint64_t out_first;
    bool out_is_last;
    bool has_file, is_file_bad;
    int fd;
    uint64_t reserved; /* bytes that the file has */
    struct segment_stream stream;
    EVP_MD_CTX *digest;
    imp_status out_status;
    imp_error out_error;
};

/* ---- life ---- */

static void writer_granted(struct spool_buffer_user *user, struct spool_buffer *buffer);
static void writer_yield(struct spool_buffer_user *user);
static void writer_gone(struct spool_buffer_user *user);

static struct spool_writer *writer_of(struct spool_buffer_user *user)
{
    return (struct spool_writer *)(void *)((char *)user - offsetof(struct spool_writer, user));
}

imp_status spool_writer_open(struct spool *spool, int64_t expected_size, void (*ready)(void *arg),
                             void *arg, struct spool_writer **writer, imp_error *error)
{
    struct spool_space space;

    *writer = NULL;
    spool_space(spool, &space);
    if (space.free_bytes == 0 || (expected_size > 0 && (uint64_t)expected_size > space.free_bytes))
        return imp_error_set(error, IMP_NO_SPACE, "no disk space for the document");
    struct spool_writer *new = calloc(1, sizeof *new);
    if (new == NULL)
        return imp_error_set(error, IMP_LIMIT, "spool: out of memory");
    imp_status status = spool_slots_take(spool, &new->slot, error);
    if (status != IMP_OK) {
        free(new);
        return status;
    }
    new->spool = spool;
    new->ready = ready;
    new->ready_arg = arg;
    new->fd = -1;
    new->user = (struct spool_buffer_user){.pool = &spool->buffers,
                                           .loop = imp_loop_current(),
                                           .granted = writer_granted,
                                           .yield = writer_yield,
                                           .gone = writer_gone};
    new->document.format = SPOOL_FORMAT;
    new->document.key.id = imp_id_new();
    new->document.key.pool = spool->keys.number;
    new->document.key.slot = new->slot.number;
    new->document.key.generation = new->slot.generation;
    if (expected_size > 0) {
        uint64_t part = space.free_bytes / PROMISED_PART;
        new->expected = (uint64_t)expected_size;
        new->promised = new->expected < part ? expected_size : (int64_t)part;
        spool->promised += new->promised;
    }
    *writer = new;
    return IMP_OK;
}

static void wiped_free(uint8_t *bytes, size_t length)
{
    if (bytes != NULL)
        imp_wipe(bytes, length);
    free(bytes);
}

/* When neither the worker nor a post refers to it any more. */
static void writer_free(struct spool_writer *writer)
{
    struct spool *spool = writer->spool;

    if (writer->fd != -1)
        close(writer->fd);
    if (!writer->is_committed) {
        /* The id is wiped below and was nowhere else: what the file holds can't be opened again. */
        if (writer->has_file && !writer->is_file_bad)
            spool_files_give(spool, writer->document.file);
        spool_slots_give(spool, &writer->slot);
    }
    spool->promised -= writer->promised;
    segment_stream_end(&writer->stream);
    EVP_MD_CTX_free(writer->digest);
    wiped_free(writer->plain, writer->plain_room);
    wiped_free(writer->tail, writer->tail_room);
    free(writer->sealed);
    imp_wipe(writer, sizeof *writer);
    free(writer);
}

static void writer_gone(struct spool_buffer_user *user)
{
    struct spool_writer *writer = writer_of(user);
    if (!writer->is_writing) /* else writer_written frees it */
        writer_free(writer);
}

void spool_writer_close(struct spool_writer *writer, bool is_committed)
{
    if (writer == NULL)
        return;
    writer->is_closed = true;
    writer->is_committed = is_committed;
    struct spool_buffer *buffer = writer->buffer;
    writer->buffer = NULL;
    bool is_unused = spool_buffers_leave(&writer->user);
    if (buffer != NULL) {
        imp_wipe(buffer->data, SPOOL_BUFFER_SIZE);
        spool_buffers_put(&writer->spool->buffers, buffer);
    }
    if (is_unused && !writer->is_writing)
        writer_free(writer);
}

/* ---- the worker's part ---- */

static size_t buffer_base(uint64_t first_segment)
{
    return first_segment == 0 ? SEGMENT_BLOCK : 0;
}

/* Whole segments that a buffer holds; the first one holds the head's block too. */
static size_t buffer_segments(uint64_t first_segment)
{
    return (SPOOL_BUFFER_SIZE - buffer_base(first_segment)) / SEGMENT_SIZE;
}

static size_t buffer_capacity(uint64_t first_segment)
{
    return buffer_segments(first_segment) * SEGMENT_TEXT;
}

static imp_status out_open(struct spool_writer *writer, imp_error *error)
{
    struct spool *spool = writer->spool;
    struct segment_head head;
    uint8_t key[SEGMENT_KEY];
    struct stat info;

    imp_status status = spool_files_take(spool, &writer->document.file, &writer->fd, error);
    if (status != IMP_OK)
        return status;
    writer->has_file = true;
    writer->reserved = fstat(writer->fd, &info) == 0 ? (uint64_t)info.st_size : 0;
    head = (struct segment_head){.pool = writer->document.key.pool,
                                 .generation = writer->slot.generation,
                                 .slot = writer->slot.number,
                                 .file = writer->document.file};
    imp_random(head.prefix, sizeof head.prefix);
    spool_key_derive(spool, SPOOL_PURPOSE_DOCUMENT, &writer->slot, writer->document.key.id, key);
    status = segment_stream_start(&writer->stream, true, key);
    imp_wipe(key, sizeof key);
    segment_head_write(&head, writer->stream.head);
    writer->digest = EVP_MD_CTX_new();
    if (status == IMP_OK &&
        (writer->digest == NULL || EVP_DigestInit_ex(writer->digest, EVP_sha256(), NULL) != 1))
        status = IMP_IO;
    return status == IMP_OK ? IMP_OK : imp_error_set(error, status, "the document can't be sealed");
}

/* Space for bytes up to `end`: a full disk is met here, before anything is written there. */
static imp_status out_reserve(struct spool_writer *writer, uint64_t end, imp_error *error)
{
    if (end <= writer->reserved)
        return IMP_OK;
    uint64_t step = writer->reserved < RESERVE_STEP_MAX ? writer->reserved : RESERVE_STEP_MAX;
    uint64_t target = end + (writer->out_is_last ? 0 : step);
    if (writer->expected > 0) {
        uint64_t whole = segment_file_size(writer->expected);
        if (whole <= RESERVE_EXPECTED_MAX && whole >= end)
            target = whole;
    }
    if (writer->out_is_last)
        target = end;
    imp_status status = spool_io_reserve(writer->spool->io, writer->fd, writer->reserved,
                                         target - writer->reserved, what_write, error);
    /* Where little is left there may be enough still. */
    if (status == IMP_NO_SPACE && target > end) {
        target = end;
        status = spool_io_reserve(writer->spool->io, writer->fd, writer->reserved,
                                  target - writer->reserved, what_write, error);
    }
    if (status == IMP_OK)
        writer->reserved = target;
    return status;
}

static imp_status out_seal(struct spool_writer *writer, size_t *length)
{
    uint8_t *place = writer->out->data;
    size_t text = writer->out_text;
    uint64_t index = writer->out_first;
    imp_status status = IMP_OK;

    if (index == 0) {
        memset(place, 0, SEGMENT_BLOCK);
        memcpy(place, writer->stream.head, SEGMENT_HEAD);
        place += SEGMENT_BLOCK;
    }
    for (; text > 0 && status == IMP_OK; index++) {
        size_t part = text < SEGMENT_TEXT ? text : SEGMENT_TEXT;
        text -= part;
        if (EVP_DigestUpdate(writer->digest, place, part) != 1)
            return IMP_IO;
        memset(place + part, 0, SEGMENT_TEXT - part);
        status = segment_seal(&writer->stream, index, writer->out_is_last && text == 0,
                              writer->out_size, place, SEGMENT_TEXT, place + SEGMENT_TEXT);
        place += SEGMENT_SIZE;
    }
    *length = (size_t)(place - writer->out->data);
    return status;
}

static uint64_t out_offset(uint64_t first_segment)
{
    return first_segment == 0 ? 0 : SEGMENT_BLOCK + first_segment * SEGMENT_SIZE;
}

static void writer_write_out(struct spool_task *task)
{
    struct spool_writer *writer =
        (struct spool_writer *)(void *)((char *)task - offsetof(struct spool_writer, task));
    const struct spool_io *io = writer->spool->io;
    imp_error *error = &writer->out_error;
    uint64_t offset = out_offset(writer->out_first);
    size_t length = 0;

    imp_status status = writer->fd == -1 ? out_open(writer, error) : IMP_OK;
    if (status != IMP_OK)
        goto done;
    status = out_seal(writer, &length);
    if (status != IMP_OK) {
        imp_error_set(error, status, "the document can't be sealed");
        goto done;
    }
    status = out_reserve(writer, offset + length, error);
    if (status != IMP_OK)
        goto done;
    status = spool_io_write(io, writer->fd, writer->out->data, length, offset, what_write, error);
    IMP_CRASH_POINT("spool.file-written");
    if (status == IMP_OK && writer->out_is_last) {
        status = spool_io_sync(io, writer->fd, what_write, error);
        IMP_CRASH_POINT("spool.file-synced");
        close(writer->fd);
        writer->fd = -1;
        if (EVP_DigestFinal_ex(writer->digest, writer->document.digest, NULL) != 1)
            status = imp_error_set(error, IMP_IO, "the document can't be digested");
    }
    if (status == IMP_IO)
        writer->is_file_bad = true; /* no other document is trusted to it before the next start */
done:
    writer->out_status = status;
}

/* ---- text on its way to a buffer ---- */

static bool tail_append(struct spool_writer *writer, const uint8_t *data, size_t length)
{
    if (length == 0)
        return true;
    if (writer->tail_start > 0 &&
        writer->tail_start + writer->tail_length + length > writer->tail_room) {
        memmove(writer->tail, writer->tail + writer->tail_start, writer->tail_length);
        writer->tail_start = 0;
    }
    if (writer->tail_length + length > writer->tail_room) {
        /* To the block, not doubled: at most a segment and what was read at once is ever in it. */
        size_t room = (writer->tail_length + length + SEGMENT_BLOCK - 1) / SEGMENT_BLOCK;
        room *= SEGMENT_BLOCK;
        uint8_t *tail = malloc(room); /* not realloc: what is left behind is wiped */
        if (tail == NULL)
            return false;
        if (writer->tail_length > 0)
            memcpy(tail, writer->tail, writer->tail_length);
        wiped_free(writer->tail, writer->tail_room);
        writer->tail = tail;
        writer->tail_room = room;
    }
    memcpy(writer->tail + writer->tail_start + writer->tail_length, data, length);
    writer->tail_length += length;
    return true;
}

static void tail_drop(struct spool_writer *writer, size_t length)
{
    writer->tail_start += length;
    writer->tail_length -= length;
    if (writer->tail_length > 0)
        return;
    /* Emptied: a hundred writers that once had to wait shall not keep it all. */
    wiped_free(writer->tail, writer->tail_room);
    writer->tail = NULL;
    writer->tail_start = writer->tail_room = 0;
}

/* Copies text to its place in the buffer; returns how much went in. */
static size_t buffer_fill(struct spool_writer *writer, const uint8_t *data, size_t length)
{
    uint8_t *segments = writer->buffer->data + buffer_base(writer->first_segment);
    size_t room = buffer_capacity(writer->first_segment) - writer->buffer_text, taken = 0;

    if (length > room)
        length = room;
    while (taken < length) {
        size_t segment = writer->buffer_text / SEGMENT_TEXT;
        size_t at = writer->buffer_text % SEGMENT_TEXT;
        size_t part = SEGMENT_TEXT - at < length - taken ? SEGMENT_TEXT - at : length - taken;
        memcpy(segments + segment * SEGMENT_SIZE + at, data + taken, part);
        writer->buffer_text += part;
        taken += part;
    }
    return taken;
}

static void writer_written(struct spool_task *task, bool was_cancelled);

/* Sends `text` bytes of the buffer to the worker; the caller has taken care of the others. */
static void buffer_submit(struct spool_writer *writer, size_t text, bool is_last)
{
    writer->out = writer->buffer;
    writer->out_text = text;
    writer->out_size = writer->size;
    writer->out_first = writer->first_segment;
    writer->out_is_last = is_last;
    writer->buffer = NULL;
    writer->buffer_text = 0;
    writer->first_segment += (text + SEGMENT_TEXT - 1) / SEGMENT_TEXT;
    writer->is_writing = true;
    writer->must_yield = false;
    spool_buffers_detach(&writer->user);
    writer->task = (struct spool_task){
        .spool = writer->spool, .run = writer_write_out, .done = writer_written};
    spool_task_start(&writer->task);
}

/* A buffer to fill with `available` bytes, if it is time for one. */
static bool buffer_obtain(struct spool_writer *writer, size_t available)
{
    if (writer->buffer != NULL)
        return true;
    if (writer->is_waiting)
        return false;
    if (!writer->is_finishing && available <= SEGMENT_TEXT &&
        spool_buffers_are_short(&writer->spool->buffers))
        return false;
    writer->buffer = spool_buffers_get(&writer->user);
    writer->is_waiting = writer->buffer == NULL;
    return writer->buffer != NULL;
}

/* Moves what can be moved. */
static void writer_pump(struct spool_writer *writer)
{
    while (writer->tail_length > 0 && buffer_obtain(writer, writer->tail_length)) {
        tail_drop(writer,
                  buffer_fill(writer, writer->tail + writer->tail_start, writer->tail_length));
        if (writer->tail_length == 0 || writer->is_writing)
            break;
        buffer_submit(writer, writer->buffer_text, false);
    }
    if (writer->is_finishing && writer->tail_length == 0 && writer->buffer != NULL &&
        !writer->is_writing)
        buffer_submit(writer, writer->buffer_text, true);
}

static bool writer_is_busy(const struct spool_writer *writer)
{
    return writer->tail_length > SEGMENT_TEXT || (writer->is_waiting && writer->tail_length > 0) ||
           (writer->buffer != NULL && writer->tail_length > 0);
}

static void writer_take(struct spool_writer *writer, const uint8_t *data, size_t length)
{
    while (length > 0 && writer->tail_length == 0 && buffer_obtain(writer, length)) {
        size_t taken = buffer_fill(writer, data, length);
        data += taken;
        length -= taken;
        if (length == 0 || writer->is_writing)
            break;
        buffer_submit(writer, writer->buffer_text, false);
    }
    if (!tail_append(writer, data, length)) {
        writer->status = imp_error_set(&writer->error, IMP_LIMIT, "spool: out of memory");
        return;
    }
    writer_pump(writer);
}

/* Tells the owner what it waits for; it may close the writer from within. */
static void writer_tell(struct spool_writer *writer)
{
    if (writer->is_finishing) {
        if (writer->status == IMP_OK && !writer->is_finished)
            return;
        void (*done)(imp_status, const imp_error *, void *) = writer->done;
        writer->done = NULL;
        if (done != NULL)
            done(writer->status, writer->status == IMP_OK ? NULL : &writer->error,
                 writer->done_arg);
    } else if (writer->is_told_busy && (writer->status != IMP_OK || !writer_is_busy(writer))) {
        writer->is_told_busy = false;
        writer->ready(writer->ready_arg);
    }
}

/* Lets others have the buffer: writes its whole segments, takes the rest back. At least a byte stays:
 * the last segment must be known as such when it is sealed. */
static void writer_let_go(struct spool_writer *writer)
{
    size_t whole = writer->buffer_text == 0 ? 0 : (writer->buffer_text - 1) / SEGMENT_TEXT;
    size_t rest = writer->buffer_text - whole * SEGMENT_TEXT;
    uint8_t *place =
        writer->buffer->data + buffer_base(writer->first_segment) + whole * SEGMENT_SIZE;

    /* The tail is empty here: else the buffer would be full and on its way. */
    if (writer->tail_length > 0 || !tail_append(writer, place, rest))
        return;
    imp_wipe(place, rest);
    if (whole > 0) {
        buffer_submit(writer, whole * SEGMENT_TEXT, false);
        return;
    }
    struct spool_buffer *buffer = writer->buffer;
    writer->buffer = NULL;
    writer->buffer_text = 0;
    spool_buffers_detach(&writer->user);
    spool_buffers_put(&writer->spool->buffers, buffer);
}

static void writer_yield(struct spool_buffer_user *user)
{
    struct spool_writer *writer = writer_of(user);

    if (writer->buffer == NULL || writer->is_finishing)
        return; /* the last one goes by itself */
    if (writer->is_writing)
        writer->must_yield = true;
    else
        writer_let_go(writer);
}

static void writer_granted(struct spool_buffer_user *user, struct spool_buffer *buffer)
{
    struct spool_writer *writer = writer_of(user);

    writer->is_waiting = false;
    writer->buffer = buffer;
    writer->buffer_text = 0;
    if (writer->status == IMP_OK)
        writer_pump(writer);
    writer_tell(writer);
}

/* A buffer is on disk, or not. */
static void writer_written(struct spool_task *task, bool was_cancelled)
{
    struct spool_writer *writer =
        (struct spool_writer *)(void *)((char *)task - offsetof(struct spool_writer, task));
    struct spool *spool = writer->spool;
    imp_status status = writer->out_status;

    if (was_cancelled)
        status = imp_error_set(&writer->out_error, IMP_UNAVAILABLE, "the spool is being closed");
    if (status != IMP_OK) /* it may be plaintext still */
        imp_wipe(writer->out->data, SPOOL_BUFFER_SIZE);
    spool_buffers_put(&spool->buffers, writer->out);
    writer->out = NULL;
    writer->is_writing = false;
    if (writer->is_closed) {
        if (writer->user.posts == 0)
            writer_free(writer);
        return;
    }
    int64_t kept =
        writer->promised < (int64_t)writer->out_text ? writer->promised : (int64_t)writer->out_text;
    writer->promised -= kept;
    spool->promised -= kept;
    if (status != IMP_OK) {
        writer->status = status;
        writer->error = writer->out_error;
    } else if (writer->out_is_last) {
        writer->is_finished = true;
        writer->document.size = writer->size;
    } else {
        if (writer->must_yield && writer->buffer != NULL && !writer->is_finishing &&
            writer->tail_length == 0)
            writer_let_go(writer);
        writer->must_yield = false;
        writer_pump(writer);
    }
    spool_files_prepare(spool);
    writer_tell(writer);
}

/* ---- the owner's calls ---- */

static bool plain_append(struct spool_writer *writer, const uint8_t *data, size_t length)
{
    if (writer->plain_length + length > writer->plain_room) {
        size_t room = writer->plain_room == 0 ? SEGMENT_BLOCK : writer->plain_room;
        while (room < writer->plain_length + length)
            room *= 2;
        uint8_t *plain = malloc(room); /* not realloc: what is left behind is wiped */
        if (plain == NULL)
            return false;
        if (writer->plain_length > 0)
            memcpy(plain, writer->plain, writer->plain_length);
        wiped_free(writer->plain, writer->plain_room);
        writer->plain = plain;
        writer->plain_room = room;
    }
    if (length > 0)
        memcpy(writer->plain + writer->plain_length, data, length);
    writer->plain_length += length;
    return true;
}

/* Of a streaming document only the head is kept. */
static bool head_append(struct spool_writer *writer, const uint8_t *data, size_t length)
{
    if (writer->has_forgotten_head || writer->plain_length >= IMP_DOCUMENT_HEAD_MAX)
        return true;
    size_t room = IMP_DOCUMENT_HEAD_MAX - writer->plain_length;
    return plain_append(writer, data, length < room ? length : room);
}

imp_status spool_writer_write(struct spool_writer *writer, const void *data, size_t length,
                              imp_error *error)
{
    struct spool *spool = writer->spool;
    bool is_kept = true;

    if (writer->is_finishing)
        return imp_error_set(error, IMP_INVALID, "the document has ended");
    if (writer->status != IMP_OK || length == 0)
        goto done;
    writer->size += length;
    if (!writer->is_streaming && writer->size <= (uint64_t)spool->inline_max) {
        is_kept = plain_append(writer, data, length);
    } else if (!writer->is_streaming) {
        writer->is_streaming = true;
        writer_take(writer, writer->plain, writer->plain_length);
        if (writer->plain_length > IMP_DOCUMENT_HEAD_MAX) {
            imp_wipe(writer->plain + IMP_DOCUMENT_HEAD_MAX,
                     writer->plain_length - IMP_DOCUMENT_HEAD_MAX);
            writer->plain_length = IMP_DOCUMENT_HEAD_MAX;
        }
        if (writer->has_forgotten_head)
            spool_writer_forget_head(writer);
    }
    if (writer->is_streaming && writer->status == IMP_OK) {
        is_kept = head_append(writer, data, length);
        writer_take(writer, data, length);
    }
    if (!is_kept)
        writer->status = imp_error_set(&writer->error, IMP_LIMIT, "spool: out of memory");
done:
    if (writer->status != IMP_OK) {
        if (error != NULL)
            *error = writer->error;
        return writer->status;
    }
    writer->is_told_busy = writer_is_busy(writer);
    return writer->is_told_busy ? IMP_BUSY : IMP_OK;
}

static imp_status writer_finish_inline(struct spool_writer *writer)
{
    struct spool_document *document = &writer->document;
    struct segment_head head = {.pool = document->key.pool,
                                .generation = writer->slot.generation,
                                .slot = writer->slot.number,
                                .file = SEGMENT_FILE_NONE};
    uint8_t key[SEGMENT_KEY];

    document->is_inline = true;
    document->size = writer->size;
    imp_random(head.prefix, sizeof head.prefix);
    spool_key_derive(writer->spool, SPOOL_PURPOSE_DOCUMENT, &writer->slot, document->key.id, key);
    writer->sealed = spool_inline_seal(&head, key, writer->plain, writer->plain_length);
    imp_wipe(key, sizeof key);
    if (writer->sealed == NULL ||
        EVP_Digest(writer->plain_length == 0 ? (const void *)"" : writer->plain,
                   writer->plain_length, document->digest, NULL, EVP_sha256(), NULL) != 1)
        return imp_error_set(&writer->error, IMP_LIMIT, "the document can't be sealed");
    writer->is_finished = true;
    return IMP_OK;
}

imp_status spool_writer_finish(struct spool_writer *writer,
                               void (*done)(imp_status status, const imp_error *error, void *arg),
                               void *arg, imp_error *error)
{
    if (writer->is_finishing)
        return imp_error_set(error, IMP_INVALID, "the document has ended");
    writer->is_finishing = true;
    if (writer->status == IMP_OK && !writer->is_streaming)
        writer->status = writer_finish_inline(writer);
    if (writer->status != IMP_OK) {
        if (error != NULL)
            *error = writer->error;
        return writer->status;
    }
    if (writer->is_finished)
        return IMP_OK;
    writer->done = done;
    writer->done_arg = arg;
    writer_pump(writer);
    return IMP_BUSY;
}

imp_bytes spool_writer_head(const struct spool_writer *writer)
{
    size_t length = writer->plain_length;
    return (imp_bytes){writer->plain,
                       length < IMP_DOCUMENT_HEAD_MAX ? length : IMP_DOCUMENT_HEAD_MAX};
}

void spool_writer_forget_head(struct spool_writer *writer)
{
    writer->has_forgotten_head = true;
    /* While it may become inline these bytes are the document. */
    if (!writer->is_streaming && !writer->is_finished)
        return;
    wiped_free(writer->plain, writer->plain_room);
    writer->plain = NULL;
    writer->plain_length = writer->plain_room = 0;
}

uint64_t spool_writer_size(const struct spool_writer *writer)
{
    return writer->size;
}

const struct spool_document *spool_writer_document(const struct spool_writer *writer)
{
    return &writer->document;
}

imp_status spool_writer_put_tx(const struct spool_writer *writer, imp_tx *tx, imp_error *error)
{
    struct spool *spool = writer->spool;
    uint8_t number[SPOOL_NUMBER_KEY];

    if (!writer->is_finished)
        return imp_error_set(error, IMP_INVALID, "the document has not ended");
    imp_status status = spool_chunk_mark_tx(tx, spool->table_slot, writer->slot.number, error);
    if (status != IMP_OK)
        return status;
    if (!writer->document.is_inline)
        return spool_chunk_mark_tx(tx, spool->table_file, writer->document.file, error);
    spool_put_u32(number, writer->slot.number);
    status = imp_tx_put(tx, spool->table_doc, (imp_bytes){number, sizeof number},
                        (imp_bytes){writer->sealed, (size_t)writer->size + SPOOL_INLINE_OVERHEAD});
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "spool: document can't be stored");
}
