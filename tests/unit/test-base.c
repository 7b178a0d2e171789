/* SPDX-License-Identifier: Apache-2.0 */
/* test-base.c - errors, ids, clocks, randomness, UTF-8 and the cleaning of names. */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/random.h"
#include "core/text.h"
#include "core/time.h"

static void test_every_status_has_its_name(void **state)
{
    (void)state;
    for (imp_status status = IMP_OK; status <= IMP_UNAVAILABLE; status++)
        assert_string_not_equal(imp_status_name(status), "unknown");
    assert_string_equal(imp_status_name(IMP_NO_SPACE), "no-space");
    assert_string_equal(imp_status_name(-1), "unknown");
    assert_string_equal(imp_status_name(13), "unknown");
}

static void test_error_is_one_clean_line_and_may_quote_itself(void **state)
{
    (void)state;
    imp_error error;
    assert_int_equal(imp_error_set(&error, IMP_IO, "a\nb\x1b[2J%d", 7), IMP_IO);
    assert_string_equal(error.message, "a?b?[2J7");
    assert_int_equal(error.status, IMP_IO);
    imp_error_set(&error, IMP_INVALID, "while reading: %s", error.message);
    assert_string_equal(error.message, "while reading: a?b?[2J7");
    assert_int_equal(imp_error_set(NULL, IMP_BUSY, "x"), IMP_BUSY);
}

static void test_long_error_is_cut_between_characters(void **state)
{
    (void)state;
    char text[600];
    imp_error error;
    memset(text, 0, sizeof text);
    for (size_t i = 0; i < 280; i++)
        memcpy(text + 2 * i, "\xC3\xA4", 2);
    imp_error_set(&error, IMP_INVALID, "x%s", text);
    assert_true(strlen(error.message) < sizeof error.message);
    assert_true(strlen(error.message) > sizeof error.message - 4);
    assert_true(imp_utf8_is_valid(error.message, strlen(error.message)));
}

static void test_id_text_round_trip(void **state)
{
    (void)state;
    char text[IMP_ID_TEXT_SIZE];
    imp_id id = imp_id_new(), again;
    assert_int_equal(strlen(imp_id_format(id, text)), 32);
    assert_int_equal(imp_id_parse(text, &again), IMP_OK);
    assert_true(imp_id_equal(id, again));
    assert_false(imp_id_is_zero(id));
    assert_int_equal(imp_id_parse("00000000000000000000000000000000", &again), IMP_OK);
    assert_true(imp_id_is_zero(again));
    assert_int_equal(imp_id_parse("ABCDEFabcdef00000000000000000000", &again), IMP_OK);
    assert_int_equal(again.bytes[0], 0xAB);
}

static void test_id_parse_refuses_everything_else(void **state)
{
    (void)state;
    imp_id id = {{1}};
    static const char *const bad[] = {"",
                                      "0",
                                      "0000000000000000000000000000000",
                                      "000000000000000000000000000000000",
                                      "0000000000000000000000000000000g",
                                      "00000000-0000-0000-0000-000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(imp_id_parse(bad[i], &id), IMP_INVALID);
    assert_int_equal(imp_id_parse(NULL, &id), IMP_INVALID);
    assert_int_equal(id.bytes[0], 1);
}

static void test_clocks_run_freeze_and_step(void **state)
{
    (void)state;
    int64_t ticks = imp_ticks();
    assert_true(imp_ticks() >= ticks);
    assert_true(imp_now() > INT64_C(1600000000) * IMP_SECOND);
    time_freeze_for_test(1000, 50);
    time_advance_for_test(5);
    time_step_for_test(-100);
    assert_int_equal(imp_now(), 905);
    assert_int_equal(imp_ticks(), 55);
    time_thaw_for_test();
    assert_true(imp_ticks() >= ticks);
}

static void test_time_text_is_rfc_3339(void **state)
{
    (void)state;
    char text[TIME_TEXT_SIZE];
    assert_string_equal(time_format(0, text), "1970-01-01T00:00:00.000000Z");
    assert_string_equal(time_format(INT64_C(1795350896789012), text),
                        "2026-11-22T12:34:56.789012Z");
    assert_string_equal(time_format(-1, text), "1969-12-31T23:59:59.999999Z");
    assert_string_equal(time_format(INT64_MAX, text), "-");
}

static void test_randomness_differs_and_can_be_seeded(void **state)
{
    (void)state;
    uint8_t a[33], b[33];
    imp_random(a, sizeof a);
    imp_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    random_seed_for_test(7);
    imp_random(a, sizeof a);
    random_seed_for_test(7);
    imp_random(b, sizeof b);
    assert_memory_equal(a, b, sizeof a);
    imp_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    random_unseed_for_test();
}

static void test_wipe_and_constant_time_compare(void **state)
{
    (void)state;
    char a[] = "secret", b[] = "secret", zero[sizeof a] = {0};
    assert_true(imp_equal_constant_time(a, b, sizeof a));
    b[5] = 'T';
    assert_false(imp_equal_constant_time(a, b, sizeof a));
    assert_true(imp_equal_constant_time(a, b, 0));
    imp_wipe(a, sizeof a);
    assert_memory_equal(a, zero, sizeof a);
}

static void test_utf8_follows_rfc_3629(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
        bool is_valid;
    } rows[] = {
        {"", 0, true},
        {"abc", 3, true},
        {"a\0b", 3, false},
        {"\xC3\xA4", 2, true},
        {"\xE2\x82\xAC", 3, true},
        {"\xF0\x9F\x96\xA8", 4, true},
        {"\xF4\x8F\xBF\xBF", 4, true},
        {"\xF4\x90\x80\x80", 4, false}, /* over U+10FFFF */
        {"\xC0\x80", 2, false},         /* overlong NUL */
        {"\xC1\xBF", 2, false},         /* overlong */
        {"\xE0\x9F\xBF", 3, false},     /* overlong */
        {"\xF0\x8F\xBF\xBF", 4, false}, /* overlong */
        {"\xED\xA0\x80", 3, false},     /* surrogate */
        {"\x80", 1, false},
        {"\xC3", 1, false},
        {"\xE2\x82", 2, false},
        {"\xE2\x28\xA1", 3, false},
        {"\xFF", 1, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(imp_utf8_is_valid(rows[i].text, rows[i].length), rows[i].is_valid);
}

static void test_clean_text_reads_windows_1252_and_drops_controls(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(imp_text_clean(text, sizeof text, "M\xFCller \x80", 8), 11);
    assert_string_equal(text, "M\xC3\xBCller \xE2\x82\xAC");
    imp_text_clean(text, sizeof text, "M\xC3\xBCller", 7);
    assert_string_equal(text, "M\xC3\xBCller");
    imp_text_clean(text, sizeof text, "a\0b\r\n\x7F\xC2\x9B", 8);
    assert_string_equal(text, "a?b????");
    imp_text_clean(text, sizeof text, "\x81\xFC", 2); /* undefined in Windows-1252 */
    assert_string_equal(text, "?\xC3\xBC");
}

static void test_clean_text_never_splits_a_character(void **state)
{
    (void)state;
    char text[8];
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, 'x', sizeof text);
        size_t length = imp_text_clean(text, size, "a\xE2\x82\xAC\xC3\xA4z", 7);
        assert_true(length < size);
        assert_int_equal(text[length], 0);
        assert_true(imp_utf8_is_valid(text, length));
    }
    assert_int_equal(imp_text_clean(NULL, 0, "abc", 3), 0);
}

static void test_cut_text_ends_in_a_whole_character(void **state)
{
    (void)state;
    static const char euro[] = "a\xE2\x82\xAC";
    assert_int_equal(text_cut(euro, 4), 4);
    assert_int_equal(text_cut(euro, 3), 1);
    assert_int_equal(text_cut(euro, 2), 1);
    assert_int_equal(text_cut(euro, 1), 1);
    assert_int_equal(text_cut(euro, 0), 0);
}

static void test_arena_frees_as_a_whole(void **state)
{
    (void)state;
    struct arena arena = {0};
    char *text = arena_printf(&arena, "%s-%d", "a", 5);
    assert_string_equal(text, "a-5");
    assert_null(arena_strdup(&arena, NULL));
    assert_false(arena.has_failed);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_true(arena.has_failed);
    arena_free(&arena);
    assert_false(arena.has_failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_its_name),
        cmocka_unit_test(test_error_is_one_clean_line_and_may_quote_itself),
        cmocka_unit_test(test_long_error_is_cut_between_characters),
        cmocka_unit_test(test_id_text_round_trip),
        cmocka_unit_test(test_id_parse_refuses_everything_else),
        cmocka_unit_test(test_clocks_run_freeze_and_step),
        cmocka_unit_test(test_time_text_is_rfc_3339),
        cmocka_unit_test(test_randomness_differs_and_can_be_seeded),
        cmocka_unit_test(test_wipe_and_constant_time_compare),
        cmocka_unit_test(test_utf8_follows_rfc_3629),
        cmocka_unit_test(test_clean_text_reads_windows_1252_and_drops_controls),
        cmocka_unit_test(test_clean_text_never_splits_a_character),
        cmocka_unit_test(test_cut_text_ends_in_a_whole_character),
        cmocka_unit_test(test_arena_frees_as_a_whole),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
