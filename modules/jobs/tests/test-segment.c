/* SPDX-License-Identifier: Apache-2.0 */
/* What the STREAM of segments promises: every change of a byte, an order or an end is seen. */
#include "modules/jobs/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "modules/jobs/spool-inline.h"

static const uint8_t key[SEGMENT_KEY] = {1, 2, 3, 4};
static const struct segment_head sample_head = {
    .pool = 77, .generation = 3, .slot = 12, .file = 5, .prefix = {9, 8, 7, 6, 5, 4, 3}};

static void start(struct segment_stream *stream, bool is_sealing)
{
    memset(stream, 0, sizeof *stream);
    assert_int_equal(segment_stream_start(stream, is_sealing, key), IMP_OK);
    segment_head_write(&sample_head, stream->head);
}

static imp_status open_one(uint64_t index, bool is_last, uint64_t size, const uint8_t *sealed,
                           size_t length)
{
    struct segment_stream stream;
    uint8_t *copy = malloc(length + SEGMENT_TAG);

    memcpy(copy, sealed, length + SEGMENT_TAG);
    start(&stream, false);
    imp_status status = segment_open(&stream, index, is_last, size, copy, length, copy + length);
    segment_stream_end(&stream);
    free(copy);
    return status;
}

static void a_segment_opens_at_its_place_only(void **state)
{
    struct segment_stream stream;
    uint8_t sealed[100 + SEGMENT_TAG];

    (void)state;
    memset(sealed, 'x', sizeof sealed);
    start(&stream, true);
    assert_int_equal(segment_seal(&stream, 4, false, 0, sealed, 100, sealed + 100), IMP_OK);
    segment_stream_end(&stream);
    assert_int_equal(open_one(4, false, 0, sealed, 100), IMP_OK);
    assert_int_equal(open_one(5, false, 0, sealed, 100), IMP_CORRUPT);
    assert_int_equal(open_one(3, false, 0, sealed, 100), IMP_CORRUPT);
    assert_int_equal(open_one(4, true, 100, sealed, 100), IMP_CORRUPT);
    assert_int_equal(open_one(4 + (UINT64_C(1) << 32), false, 0, sealed, 100), IMP_CORRUPT);
}

static void the_last_segment_says_the_size(void **state)
{
    struct segment_stream stream;
    uint8_t sealed[100 + SEGMENT_TAG] = {0};

    (void)state;
    start(&stream, true);
    assert_int_equal(segment_seal(&stream, 0, true, 90, sealed, 100, sealed + 100), IMP_OK);
    segment_stream_end(&stream);
    assert_int_equal(open_one(0, true, 90, sealed, 100), IMP_OK);
    assert_int_equal(open_one(0, true, 91, sealed, 100), IMP_CORRUPT);
    assert_int_equal(open_one(0, false, 90, sealed, 100), IMP_CORRUPT);
}

static void every_changed_byte_is_seen(void **state)
{
    struct segment_stream stream;
    uint8_t sealed[300 + SEGMENT_TAG];

    (void)state;
    memset(sealed, 'y', sizeof sealed);
    start(&stream, true);
    assert_int_equal(segment_seal(&stream, 0, false, 0, sealed, 300, sealed + 300), IMP_OK);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 0x40;
        assert_int_equal(open_one(0, false, 0, sealed, 300), IMP_CORRUPT);
        sealed[i] ^= 0x40;
    }
    assert_int_equal(open_one(0, false, 0, sealed, 300), IMP_OK);
    segment_stream_end(&stream);
}

static void a_bad_segment_leaves_no_text(void **state)
{
    struct segment_stream stream;
    uint8_t sealed[64 + SEGMENT_TAG], zeros[64] = {0};

    (void)state;
    memset(sealed, 'z', sizeof sealed);
    start(&stream, true);
    assert_int_equal(segment_seal(&stream, 0, true, 64, sealed, 64, sealed + 64), IMP_OK);
    segment_stream_end(&stream);
    sealed[70] ^= 1;
    start(&stream, false);
    assert_int_equal(segment_open(&stream, 0, true, 64, sealed, 64, sealed + 64), IMP_CORRUPT);
    segment_stream_end(&stream);
    assert_memory_equal(sealed, zeros, sizeof zeros);
}

static void the_head_comes_back_and_foreign_ones_do_not(void **state)
{
    uint8_t bytes[SEGMENT_HEAD];
    struct segment_head head;

    (void)state;
    segment_head_write(&sample_head, bytes);
    assert_int_equal(segment_head_read(bytes, &head), IMP_OK);
    assert_int_equal(head.pool, 77);
    assert_int_equal(head.generation, 3);
    assert_int_equal(head.slot, 12);
    assert_int_equal(head.file, 5);
    assert_memory_equal(head.prefix, sample_head.prefix, SEGMENT_PREFIX);
    bytes[0] ^= 1;
    assert_int_equal(segment_head_read(bytes, &head), IMP_CORRUPT);
    bytes[0] ^= 1;
    bytes[11] = 2;
    assert_int_equal(segment_head_read(bytes, &head), IMP_UNSUPPORTED);
    bytes[11] = 1;
    bytes[28] = 1;
    assert_int_equal(segment_head_read(bytes, &head), IMP_CORRUPT);
}

static void sizes_on_disk_are_whole_segments(void **state)
{
    static const struct {
        uint64_t size, count;
    } cases[] = {{0, 1}, {1, 1}, {65519, 1}, {65520, 1}, {65521, 2}, {131040, 2}, {131041, 3}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(segment_count(cases[i].size), cases[i].count);
        assert_int_equal(segment_file_size(cases[i].size), 4096 + cases[i].count * 65536);
    }
    assert_int_equal(segment_text_length(65521, 0), 65520);
    assert_int_equal(segment_text_length(65521, 1), 1);
    assert_int_equal(segment_text_length(65521, 2), 0);
    assert_int_equal(segment_text_length(0, 0), 0);
}

static void an_inline_value_opens_as_itself_only(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 32768, 65536};
    struct segment_head head = sample_head;

    (void)state;
    head.file = SEGMENT_FILE_NONE;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i];
        uint8_t *text = calloc(1, size + 1);
        memset(text, 't', size);
        uint8_t *value = spool_inline_seal(&head, key, text, size);
        assert_non_null(value);
        imp_bytes bytes = {value, size + SPOOL_INLINE_OVERHEAD};
        uint8_t *plain = spool_inline_open(&head, key, bytes, size);
        assert_non_null(plain);
        assert_memory_equal(plain, text, size);
        free(plain);
        assert_null(spool_inline_open(&head, key, bytes, size + 1));
        bytes.length--;
        assert_null(spool_inline_open(&head, key, bytes, size));
        bytes.length++;
        for (size_t at = 0; at<bytes.length; at += size> 1000 ? 997 : 1) {
            value[at] ^= 1;
            assert_null(spool_inline_open(&head, key, bytes, size));
            value[at] ^= 1;
        }
        struct segment_head other = head;
        other.generation++;
        assert_null(spool_inline_open(&other, key, bytes, size));
        free(value);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_opens_at_its_place_only),
        cmocka_unit_test(the_last_segment_says_the_size),
        cmocka_unit_test(every_changed_byte_is_seen),
        cmocka_unit_test(a_bad_segment_leaves_no_text),
        cmocka_unit_test(the_head_comes_back_and_foreign_ones_do_not),
        cmocka_unit_test(sizes_on_disk_are_whole_segments),
        cmocka_unit_test(an_inline_value_opens_as_itself_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
