/* SPDX-License-Identifier: Apache-2.0 */
/* The spool on a real store: what is written comes back, what is deleted does not. */
#define _GNU_SOURCE
#include "modules/jobs/tests/spool-fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/loop.h"

static struct spool_fixture fixture;

static int make(void **state)
{
    (void)state;
    return fixture_make(&fixture, false) ? 0 : -1;
}

static int make_with_workers(void **state)
{
    (void)state;
    return fixture_make(&fixture, true) ? 0 : -1;
}

static int clean(void **state)
{
    (void)state;
    fixture_remove(&fixture);
    return 0;
}

static struct spool_document written(uint32_t seed, uint64_t size)
{
    struct spool_document document;
    imp_error error = {0};
    imp_status status = fixture_write(&fixture, seed, size, 60000, &document, &error);
    if (status != IMP_OK)
        fail_msg("%llu bytes: %s", (unsigned long long)size, error.message);
    return document;
}

static void assert_reads(const struct spool_document *document, uint32_t seed, imp_status expected)
{
    imp_error error = {0};
    imp_status status = fixture_read(&fixture, document, seed, &error);
    if (status != expected)
        fail_msg("%llu bytes: %s instead of %s (%s)", (unsigned long long)document->size,
                 imp_status_name(status), imp_status_name(expected), error.message);
}

static void file_path(const struct spool_document *document, char path[128])
{
    snprintf(path, 128, "%s/spool/doc/%08x", fixture.folder, document->file);
}

static void change_file(const struct spool_document *document, off_t place, size_t length,
                        uint8_t *bytes, bool is_writing)
{
    char path[128];
    file_path(document, path);
    int fd = open(path, O_RDWR);
    assert_true(fd != -1);
    ssize_t done = is_writing ? pwrite(fd, bytes, length, place) : pread(fd, bytes, length, place);
    assert_int_equal(done, (ssize_t)length);
    close(fd);
}

static void flip(const struct spool_document *document, off_t place)
{
    uint8_t byte;
    change_file(document, place, 1, &byte, false);
    byte ^= 0x20;
    change_file(document, place, 1, &byte, true);
}

/* ---- what is written comes back ---- */

static const uint64_t sizes[] = {0,      1,      100,    32767,  32768,  32769,
                                 65519,  65520,  65521,  131039, 131040, 131041,
                                 196560, 196561, 458640, 458641, 1048576};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void documents_of_every_size_come_back(void **state)
{
    struct spool_document documents[SIZES];

    (void)state;
    for (uint32_t i = 0; i < SIZES; i++) {
        documents[i] = written(i, sizes[i]);
        assert_int_equal(documents[i].size, sizes[i]);
        assert_int_equal(documents[i].is_inline, sizes[i] <= 32768);
    }
    for (uint32_t i = 0; i < SIZES; i++)
        assert_reads(&documents[i], i, IMP_OK);
    fixture_close(&fixture);
    assert_true(fixture_open(&fixture));
    for (uint32_t i = 0; i < SIZES; i++)
        assert_reads(&documents[i], i, IMP_OK);
}

static void a_hundred_mebibytes_come_back(void **state)
{
    (void)state;
    struct spool_document document = written(5, UINT64_C(100) << 20);
    assert_reads(&document, 5, IMP_OK);
}

static void pieces_of_any_length_make_the_same_document(void **state)
{
    static const size_t pieces[] = {1000, 4096, 65520, 65536, 300000, 1000000};
    struct spool_document document, first = written(9, 600000);

    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        assert_int_equal(fixture_write(&fixture, 9, 600000, pieces[i], &document, NULL), IMP_OK);
        assert_memory_equal(document.digest, first.digest, SPOOL_DIGEST_SIZE);
        assert_reads(&document, 9, IMP_OK);
    }
}

static void descriptions_come_back_from_records(void **state)
{
    uint8_t packed[SPOOL_DOCUMENT_PACKED_MAX];
    struct spool_document document = written(1, 40000), unpacked;
    struct spool_key key;

    (void)state;
    document.key.generation = UINT64_MAX;
    document.key.slot = UINT32_MAX;
    document.size = UINT64_MAX;
    document.file = UINT32_MAX;
    size_t length = spool_document_pack(&document, packed);
    assert_true(length <= sizeof packed);
    assert_int_equal(spool_document_unpack((imp_bytes){packed, length}, &unpacked), IMP_OK);
    assert_true(imp_id_equal(unpacked.key.id, document.key.id));
    assert_int_equal(unpacked.key.pool, document.key.pool);
    assert_int_equal(unpacked.key.slot, document.key.slot);
    assert_int_equal(unpacked.key.generation, document.key.generation);
    assert_int_equal(unpacked.file, document.file);
    assert_int_equal(unpacked.size, document.size);
    assert_memory_equal(unpacked.digest, document.digest, SPOOL_DIGEST_SIZE);
    assert_int_equal(spool_document_unpack((imp_bytes){packed, length - 1}, &unpacked),
                     IMP_CORRUPT);
    length = spool_key_pack(&document.key, packed);
    assert_true(length <= SPOOL_KEY_PACKED_MAX);
    assert_int_equal(spool_key_unpack((imp_bytes){packed, length}, &key), IMP_OK);
    assert_true(imp_id_equal(key.id, document.key.id));
    document.format = SPOOL_FORMAT + 1;
    length = spool_document_pack(&document, packed);
    assert_int_equal(spool_document_unpack((imp_bytes){packed, length}, &unpacked),
                     IMP_UNSUPPORTED);
}

static void nothing_ready(void *arg)
{
    bool *flag = arg;
    *flag = true;
}

static void the_head_is_there_until_it_is_forgotten(void **state)
{
    static const size_t lengths[] = {10, 32768, 50000, 200000};
    uint8_t *bytes = calloc(1, 200000);
    bool flag = false;

    (void)state;
    memset(bytes, 'h', 200000);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct spool_writer *writer;
        size_t half = lengths[i] / 2;
        assert_int_equal(spool_writer_open(fixture.spool, -1, nothing_ready, &flag, &writer, NULL),
                         IMP_OK);
        (void)spool_writer_write(writer, bytes, half, NULL);
        (void)spool_writer_write(writer, bytes, lengths[i] - half, NULL);
        imp_bytes head = spool_writer_head(writer);
        size_t expected = lengths[i] < IMP_DOCUMENT_HEAD_MAX ? lengths[i] : IMP_DOCUMENT_HEAD_MAX;
        assert_int_equal(head.length, expected);
        assert_memory_equal(head.data, bytes, expected);
        assert_int_equal(spool_writer_size(writer), lengths[i]);
        spool_writer_close(writer, false);
    }
    free(bytes);
}

/* ---- what is changed is seen ---- */

static void every_changed_byte_of_a_file_is_seen(void **state)
{
    (void)state;
    struct spool_document document = written(2, 70000);
    for (off_t at = 0; at < (off_t)segment_file_size(70000); at += at < 64 ? 1 : 641) {
        flip(&document, at);
        assert_reads(&document, 2, IMP_CORRUPT);
        flip(&document, at);
    }
    assert_reads(&document, 2, IMP_OK);
}

static void truncated_reordered_and_spliced_files_are_seen(void **state)
{
    struct spool_document document = written(3, 300000), other = written(4, 300000);
    uint8_t *a = malloc(SEGMENT_SIZE), *b = malloc(SEGMENT_SIZE);
    char path[128];

    (void)state;
    change_file(&document, SEGMENT_BLOCK, SEGMENT_SIZE, a, false);
    change_file(&document, SEGMENT_BLOCK + SEGMENT_SIZE, SEGMENT_SIZE, b, false);
    change_file(&document, SEGMENT_BLOCK, SEGMENT_SIZE, b, true);
    change_file(&document, SEGMENT_BLOCK + SEGMENT_SIZE, SEGMENT_SIZE, a, true);
    assert_reads(&document, 3, IMP_CORRUPT);
    change_file(&document, SEGMENT_BLOCK, SEGMENT_SIZE, a, true);
    change_file(&document, SEGMENT_BLOCK + SEGMENT_SIZE, SEGMENT_SIZE, b, true);
    assert_reads(&document, 3, IMP_OK);
    change_file(&other, SEGMENT_BLOCK, SEGMENT_SIZE, b, false);
    change_file(&document, SEGMENT_BLOCK, SEGMENT_SIZE, b, true);
    assert_reads(&document, 3, IMP_CORRUPT);
    change_file(&document, SEGMENT_BLOCK, SEGMENT_SIZE, a, true);
    file_path(&document, path);
    assert_int_equal(truncate(path, (off_t)segment_file_size(300000) - SEGMENT_SIZE), 0);
    assert_reads(&document, 3, IMP_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_reads(&document, 3, IMP_CORRUPT);
    assert_reads(&other, 4, IMP_OK);
    /* A record that claims another size. */
    other.size -= 1;
    assert_reads(&other, 4, IMP_CORRUPT);
    other.size -= 70000;
    assert_reads(&other, 4, IMP_CORRUPT);
    free(a);
    free(b);
}

/* ---- what is deleted does not come back ---- */

static imp_status put_row_tx(imp_tx *tx, void *arg, imp_error *error)
{
    const imp_bytes *row = arg;
    (void)error;
    return imp_tx_put(tx, imp_table_open(fixture.self, "doc"), row[0], row[1]);
}

static void a_deleted_document_is_gone_even_if_its_bytes_come_back(void **state)
{
    struct spool_document file = written(6, 100000), small = written(7, 1000);
    uint8_t *copy = malloc(segment_file_size(100000)), value[4096], key[4];
    size_t value_length;
    imp_tx *tx;
    imp_bytes found;

    (void)state;
    change_file(&file, 0, segment_file_size(100000), copy, false);
    key[0] = (uint8_t)(small.key.slot >> 24);
    key[1] = (uint8_t)(small.key.slot >> 16);
    key[2] = (uint8_t)(small.key.slot >> 8);
    key[3] = (uint8_t)small.key.slot;
    imp_table *table = imp_table_open(fixture.self, "doc");
    assert_int_equal(imp_store_read_begin(fixture.self, &tx, NULL), IMP_OK);
    assert_int_equal(imp_tx_get(tx, table, (imp_bytes){key, 4}, &found), IMP_OK);
    value_length = found.length;
    memcpy(value, found.data, value_length);
    imp_store_read_end(tx);
    assert_int_equal(fixture_condemn(&fixture, &file), IMP_OK);
    assert_int_equal(fixture_condemn(&fixture, &small), IMP_OK);
    assert_int_equal(fixture_shred(&fixture), IMP_OK);
    assert_reads(&file, 6, IMP_NOT_FOUND);
    assert_reads(&small, 7, IMP_NOT_FOUND);

    /* Everything of before but the key pool, with records that claim the generation of now. */
    imp_bytes row[2] = {{key, 4}, {value, value_length}};
    assert_int_equal(imp_store_write_sync(fixture.self, put_row_tx, row, NULL), IMP_OK);
    change_file(&file, 0, segment_file_size(100000), copy, true);
    assert_reads(&file, 6, IMP_NOT_FOUND);
    assert_reads(&small, 7, IMP_NOT_FOUND);
    file.key.generation++;
    small.key.generation++;
    assert_reads(&file, 6, IMP_CORRUPT);
    assert_reads(&small, 7, IMP_CORRUPT);
    free(copy);
}

static void destroyed_and_damaged_are_told_apart(void **state)
{
    struct spool_document document = written(8, 50000);
    char path[128];
    uint8_t byte;

    (void)state;
    snprintf(path, sizeof path, "%s/spool/key-pool", fixture.folder);
    int fd = open(path, O_RDWR);
    off_t place = KEY_POOL_BLOCK + (off_t)document.key.slot * KEY_SLOT_SIZE;
    assert_int_equal(pread(fd, &byte, 1, place), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, place), 1);
    assert_reads(&document, 8, IMP_CORRUPT);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, place), 1);
    close(fd);
    assert_reads(&document, 8, IMP_OK);
    document.key.generation++; /* a key pool from before the record */
    assert_reads(&document, 8, IMP_CORRUPT);
    document.key.generation--;
    document.key.pool++; /* a record of another machine */
    assert_reads(&document, 8, IMP_NOT_FOUND);
}

static void what_was_condemned_is_shredded_at_the_next_start(void **state)
{
    struct spool_document gone = written(1, 40000), kept = written(2, 40000);

    (void)state;
    fixture_settle(&fixture);
    assert_int_equal(fixture_condemn(&fixture, &gone), IMP_OK);
    assert_reads(&gone, 1, IMP_OK); /* condemned is not destroyed */
    fixture_close(&fixture);
    assert_true(fixture_open(&fixture));
    fixture_settle(&fixture);
    assert_reads(&gone, 1, IMP_NOT_FOUND);
    assert_reads(&kept, 2, IMP_OK);
}

static void files_and_slots_are_used_again_but_never_twice(void **state)
{
    enum { DOCUMENTS = 40 };
    struct spool_document documents[DOCUMENTS];
    uint32_t files_max = 0;

    (void)state;
    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < DOCUMENTS; i++) {
            documents[i] = written(i, 33000 + i);
            for (uint32_t j = 0; j < i; j++) {
                assert_int_not_equal(documents[i].file, documents[j].file);
                assert_int_not_equal(documents[i].key.slot, documents[j].key.slot);
            }
            if (documents[i].file > files_max)
                files_max = documents[i].file;
        }
        if (round == 2) {
            fixture_close(&fixture);
            assert_true(fixture_open(&fixture));
        }
        for (uint32_t i = 0; i < DOCUMENTS; i++) {
            assert_reads(&documents[i], i, IMP_OK);
            assert_int_equal(fixture_condemn(&fixture, &documents[i]), IMP_OK);
        }
        assert_int_equal(fixture_shred(&fixture), IMP_OK);
        fixture_settle(&fixture);
    }
    assert_true(files_max < 2 * DOCUMENTS);
}

static void a_long_file_is_shortened_when_it_is_freed(void **state)
{
    struct spool_document document = written(1, 5000000);
    struct stat info;
    char path[128];

    (void)state;
    file_path(&document, path);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size >= 5000000);
    assert_int_equal(fixture_condemn(&fixture, &document), IMP_OK);
    assert_int_equal(fixture_shred(&fixture), IMP_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, fixture.settings.spool_file_extent);
}

static void an_upload_that_ends_early_leaves_nothing(void **state)
{
    uint8_t bytes[50000] = {0};
    struct spool_document document;
    bool flag = false;

    (void)state;
    fixture_settle(&fixture);
    size_t slots = fixture.spool->slots.count, files = fixture.spool->files.made.count;
    for (size_t length = 0; length <= 40; length += 4) {
        struct spool_writer *writer;
        assert_int_equal(spool_writer_open(fixture.spool, -1, nothing_ready, &flag, &writer, NULL),
                         IMP_OK);
        for (size_t i = 0; i < length; i++)
            (void)spool_writer_write(writer, bytes, sizeof bytes, NULL);
        spool_writer_close(writer, false);
        fixture_settle(&fixture);
    }
    assert_int_equal(fixture.spool->slots.count, slots);
    assert_true(fixture.spool->files.made.count >= files);
    assert_int_equal(fixture.spool->promised, 0);
    document = written(3, 50000);
    assert_reads(&document, 3, IMP_OK);
}

static void announcing_the_whole_disk_leaves_room_for_others(void **state)
{
    enum { WRITERS = 8 };
    struct spool_writer *writers[WRITERS];
    struct spool_space space;
    bool flag = false;

    (void)state;
    spool_space(fixture.spool, &space);
    uint64_t free_before = space.free_bytes;
    for (size_t i = 0; i < WRITERS; i++) {
        spool_space(fixture.spool, &space);
        assert_int_equal(spool_writer_open(fixture.spool, (int64_t)(space.free_bytes / 4 * 3),
                                           nothing_ready, &flag, &writers[i], NULL),
                         IMP_OK);
    }
    spool_space(fixture.spool, &space);
    assert_true(space.free_bytes > free_before / 3);
    for (size_t i = 0; i < WRITERS; i++)
        spool_writer_close(writers[i], false);
    assert_int_equal(fixture.spool->promised, 0);
}

/* ---- strings ---- */

static imp_status put_key_tx(imp_tx *tx, void *arg, imp_error *error)
{
    return spool_key_put_tx(fixture.spool, tx, arg, error);
}

static imp_status condemn_key_tx(imp_tx *tx, void *arg, imp_error *error)
{
    return spool_key_condemn_tx(fixture.spool, tx, arg, error);
}

static void strings_open_until_they_are_shredded(void **state)
{
    static const char text[] = "a title and a name";
    uint8_t sealed[64], plain[64];
    struct spool_key key;
    size_t length;

    (void)state;
    imp_bytes source = {text, sizeof text};
    imp_bytes value = {sealed, sizeof text + SPOOL_STRINGS_OVERHEAD};
    assert_int_equal(spool_strings_seal(fixture.spool, source, &key, sealed, NULL), IMP_OK);
    assert_null(memmem(sealed, sizeof sealed, "title", 5));
    assert_int_equal(imp_store_write_sync(fixture.self, put_key_tx, &key, NULL), IMP_OK);
    assert_int_equal(imp_store_write_sync(fixture.self, put_key_tx, &key, NULL), IMP_EXISTS);
    assert_int_equal(spool_strings_open(fixture.spool, &key, value, plain, &length, NULL), IMP_OK);
    assert_int_equal(length, sizeof text);
    assert_memory_equal(plain, text, sizeof text);
    assert_int_equal(spool_strings_reseal(fixture.spool, source, &key, sealed, NULL), IMP_OK);
    assert_int_equal(spool_strings_open(fixture.spool, &key, value, plain, &length, NULL), IMP_OK);
    for (size_t i = 0; i < value.length; i++) {
        sealed[i] ^= 1;
        assert_int_equal(spool_strings_open(fixture.spool, &key, value, plain, &length, NULL),
                         IMP_CORRUPT);
        sealed[i] ^= 1;
    }
    assert_int_equal(imp_store_write_sync(fixture.self, condemn_key_tx, &key, NULL), IMP_OK);
    assert_int_equal(fixture_shred(&fixture), IMP_OK);
    assert_int_equal(spool_strings_open(fixture.spool, &key, value, plain, &length, NULL),
                     IMP_NOT_FOUND);
}

/* ---- many at once ---- */

struct upload {
    struct spool_writer *writer;
    bool is_ready, is_finished, is_done;
    imp_status status;
    uint64_t at, size;
    uint32_t seed;
};

static void upload_ready(void *arg)
{
    struct upload *upload = arg;
    upload->is_ready = true;
}

static void upload_done(imp_status status, const imp_error *error, void *arg)
{
    struct upload *upload = arg;
    (void)error;
    upload->status = status;
    upload->is_done = true;
}

static imp_status upload_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct upload *upload = arg;
    return spool_writer_put_tx(upload->writer, tx, error);
}

/* Stalled uploads and readings hold all that they can get; the others pass by. */
static void uploads_and_readings_share_four_buffers(void **state)
{
    /* A part of a buffer, and all of it, after which the next one is read ahead. */
    enum { UPLOADS = 24, STALLED = 12, FIRST_BUFFER = 3 * SEGMENT_TEXT };
    static const size_t starts[2] = {100, FIRST_BUFFER};
    struct upload uploads[UPLOADS] = {0};
    struct spool_document documents[UPLOADS];
    struct spool_reader *stalled_readers[STALLED];
    uint8_t bytes[30000];
    bool flag = false, are_all_done = false;

    (void)state;
    fixture_close(&fixture);
    fixture.settings.spool_buffers = 1 << 20;
    assert_true(fixture_open(&fixture));
    struct spool_document read_slowly = written(99, 900000);
    uint8_t *first_buffer = malloc(FIRST_BUFFER);
    for (int i = 0; i < STALLED; i++) {
        size_t length, wanted = starts[i % 2];
        assert_int_equal(spool_reader_open(fixture.spool, &read_slowly, nothing_ready, &flag,
                                           &stalled_readers[i], NULL),
                         IMP_OK);
        flag = false;
        if (spool_reader_read(stalled_readers[i], first_buffer, wanted, &length, NULL) ==
            IMP_BUSY) {
            assert_true(fixture_wait(&flag));
            assert_int_equal(
                spool_reader_read(stalled_readers[i], first_buffer, wanted, &length, NULL), IMP_OK);
        }
        assert_int_equal(length, wanted);
    }
    free(first_buffer);
    for (uint32_t i = 0; i < UPLOADS; i++) {
        uploads[i] = (struct upload){.is_ready = true, .size = 1500000 + i, .seed = i};
        assert_int_equal(spool_writer_open(fixture.spool, -1, upload_ready, &uploads[i],
                                           &uploads[i].writer, NULL),
                         IMP_OK);
    }
    int64_t deadline = imp_ticks() + 60 * IMP_SECOND;
    while (!are_all_done && imp_ticks() < deadline) {
        are_all_done = true;
        for (uint32_t i = 0; i < UPLOADS; i++) {
            struct upload *upload = &uploads[i];
            /* Half of them stall after 100,000 bytes until the other half is through. */
            bool is_stalled = i >= STALLED && upload->at > 100000;
            for (uint32_t j = 0; j < STALLED && is_stalled; j++)
                if (!uploads[j].is_done)
                    break;
                else if (j == STALLED - 1)
                    is_stalled = false;
            if (upload->is_done || is_stalled) {
                are_all_done = are_all_done && upload->is_done;
                continue;
            }
            are_all_done = false;
            if (!upload->is_ready)
                continue;
            if (upload->at < upload->size) {
                size_t length = upload->size - upload->at < sizeof bytes
                                    ? (size_t)(upload->size - upload->at)
                                    : sizeof bytes;
                for (size_t k = 0; k < length; k++)
                    bytes[k] = fixture_byte(i, upload->at + k);
                imp_status status = spool_writer_write(upload->writer, bytes, length, NULL);
                assert_true(status == IMP_OK || status == IMP_BUSY);
                upload->is_ready = status == IMP_OK || upload->is_ready;
                if (status == IMP_BUSY)
                    upload->is_ready = false;
                upload->at += length;
            } else if (!upload->is_finished) {
                upload->is_finished = true;
                assert_int_equal(spool_writer_finish(upload->writer, upload_done, upload, NULL),
                                 IMP_BUSY);
            }
        }
        loop_run_once(imp_loop_control(), false);
    }
    assert_true(are_all_done);
    assert_true(fixture.spool->buffers.count <= 4);
    for (uint32_t i = 0; i < UPLOADS; i++) {
        assert_int_equal(uploads[i].status, IMP_OK);
        documents[i] = *spool_writer_document(uploads[i].writer);
        assert_int_equal(imp_store_write_sync(fixture.self, upload_tx, &uploads[i], NULL), IMP_OK);
        spool_writer_close(uploads[i].writer, true);
        assert_reads(&documents[i], i, IMP_OK);
    }
    /* The stalled readings go on where they were. */
    for (int i = 0; i < STALLED; i++) {
        uint64_t at = starts[i % 2];
        size_t length = 1;
        while (length > 0) {
            flag = false;
            imp_status status =
                spool_reader_read(stalled_readers[i], bytes, sizeof bytes, &length, NULL);
            if (status == IMP_BUSY) {
                assert_true(fixture_wait(&flag));
                length = 1;
                continue;
            }
            assert_int_equal(status, IMP_OK);
            for (size_t k = 0; k < length; k++)
                if (bytes[k] != fixture_byte(99, at + k))
                    fail_msg("byte %llu is wrong", (unsigned long long)(at + k));
            at += length;
        }
        assert_int_equal(at, 900000);
        spool_reader_close(stalled_readers[i]);
    }
}

/* ---- the disk refuses ---- */

static int calls_left, failure;

static bool is_to_fail(void)
{
    if (calls_left <= 0 || --calls_left > 0)
        return false;
    errno = failure;
    return true;
}

static ssize_t failing_pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return is_to_fail() ? -1
                        : pwrite(fd, data, length > 8192 ? length / 2 & ~4095UL : length, offset);
}

static ssize_t failing_pread(int fd, void *data, size_t length, off_t offset)
{
    return is_to_fail() ? -1 : pread(fd, data, length, offset);
}

static int failing_sync(int fd)
{
    return is_to_fail() ? -1 : fdatasync(fd);
}

static int failing_fallocate(int fd, int mode, off_t offset, off_t length)
{
    return is_to_fail() ? -1 : fallocate(fd, mode, offset, length);
}

static const struct spool_io failing_io = {.pwrite = failing_pwrite,
                                           .pread = failing_pread,
                                           .fdatasync = failing_sync,
                                           .fallocate = failing_fallocate};

static void every_call_that_fails_fails_cleanly(void **state)
{
    static const int errors[] = {EIO, ENOSPC};
    int failed = 0;

    (void)state;
    fixture_close(&fixture);
    fixture.io = &failing_io;
    assert_true(fixture_open(&fixture));
    struct spool_document bystander = written(50, 80000);
    for (size_t e = 0; e < 2; e++) {
        failure = errors[e];
        for (int nth = 1;; nth++) {
            struct spool_document document;
            imp_error error;
            calls_left = nth;
            imp_status status = fixture_write(&fixture, 1, 3000000, 50000, &document, &error);
            if (status == IMP_OK)
                status = fixture_read(&fixture, &document, 1, &error);
            if (status == IMP_OK) {
                imp_status condemned = fixture_condemn(&fixture, &document);
                assert_int_equal(condemned, IMP_OK);
                status = fixture_shred(&fixture);
            }
            bool was_reached = calls_left == 0;
            calls_left = 0;
            if (!was_reached) {
                assert_int_equal(status, IMP_OK);
                break;
            }
            failed += status != IMP_OK;
            assert_true(status == IMP_OK || status == IMP_IO || status == IMP_NO_SPACE);
            assert_int_equal(fixture_shred(&fixture), IMP_OK);
            fixture_settle(&fixture);
            assert_reads(&bystander, 50, IMP_OK);
        }
    }
    assert_true(failed > 40);
    calls_left = 0;
    struct spool_document after = written(51, 80000);
    assert_reads(&after, 51, IMP_OK);
}

/* A pool on a medium that is not mounted must not be made anew: every document would be lost. */
static void a_missing_key_pool_is_not_replaced_while_documents_need_it(void **state)
{
    struct spool *second = NULL;
    char pool[128], away[128];
    imp_error error = {0};

    (void)state;
    snprintf(pool, sizeof pool, "%s/spool/key-pool", fixture.folder);
    snprintf(away, sizeof away, "%s/away", fixture.folder);
    struct spool_document document = written(7, 1000);
    assert_int_equal(rename(pool, away), 0);
    assert_int_equal(spool_open_with(fixture.self, fixture.io, &fixture.settings, &second, &error),
                     IMP_NOT_FOUND);
    assert_null(second);
    assert_non_null(strstr(error.message, "key-pool"));
    assert_int_equal(access(pool, F_OK), -1);
    assert_int_equal(rename(away, pool), 0);
    fixture_close(&fixture);
    assert_true(fixture_open(&fixture));
    assert_reads(&document, 7, IMP_OK);
}

int main(void)
{
#define IN_SPOOL(test) cmocka_unit_test_setup_teardown(test, make, clean)
#define WITH_WORKERS(test) cmocka_unit_test_setup_teardown(test, make_with_workers, clean)
    const struct CMUnitTest tests[] = {
        IN_SPOOL(documents_of_every_size_come_back),
        IN_SPOOL(pieces_of_any_length_make_the_same_document),
        IN_SPOOL(descriptions_come_back_from_records),
        IN_SPOOL(the_head_is_there_until_it_is_forgotten),
        IN_SPOOL(every_changed_byte_of_a_file_is_seen),
        IN_SPOOL(truncated_reordered_and_spliced_files_are_seen),
        IN_SPOOL(a_deleted_document_is_gone_even_if_its_bytes_come_back),
        IN_SPOOL(destroyed_and_damaged_are_told_apart),
        IN_SPOOL(what_was_condemned_is_shredded_at_the_next_start),
        IN_SPOOL(files_and_slots_are_used_again_but_never_twice),
        IN_SPOOL(a_long_file_is_shortened_when_it_is_freed),
        IN_SPOOL(an_upload_that_ends_early_leaves_nothing),
        IN_SPOOL(announcing_the_whole_disk_leaves_room_for_others),
        IN_SPOOL(strings_open_until_they_are_shredded),
        IN_SPOOL(uploads_and_readings_share_four_buffers),
        IN_SPOOL(a_missing_key_pool_is_not_replaced_while_documents_need_it),
        IN_SPOOL(every_call_that_fails_fails_cleanly),
        /* The pool of workers, once started and stopped, takes no work without threads. */
        WITH_WORKERS(documents_of_every_size_come_back),
        WITH_WORKERS(a_hundred_mebibytes_come_back),
        WITH_WORKERS(uploads_and_readings_share_four_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
