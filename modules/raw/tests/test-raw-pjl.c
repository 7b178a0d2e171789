/* SPDX-License-Identifier: Apache-2.0 */
/* Questions in PJL are answered wherever the bytes are cut; documents are left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "modules/raw/raw.h"

#define UEL "\033%-12345X"

/* Feeds `text` in pieces of `step` bytes and gathers all answers. */
static struct raw_pjl feed(const char *text, size_t length, size_t step, char *answers)
{
    struct raw_pjl pjl = {0};
    answers[0] = '\0';
    for (size_t at = 0; at < length;) {
        char answer[RAW_PJL_ANSWER_MAX];
        size_t answer_length, piece = length - at < step ? length - at : step;
        size_t taken =
            raw_pjl_feed(&pjl, (const uint8_t *)text + at, piece, answer, &answer_length);
        assert_true(taken > 0 && taken <= piece);
        strncat(answers, answer, answer_length);
        at += taken;
    }
    return pjl;
}

static void test_questions_are_answered_however_they_are_cut(void **state)
{
    (void)state;
    static const char text[] = UEL "@PJL\r\n@PJL INFO ID\r\n@PJL echo  hello 7 \r\n"
                                   "@PJL INFO STATUS\r\n@PJL INFO CONFIG\n" UEL;
    static const char expected[] = "@PJL INFO ID\r\n\"Imprimatur\"\r\n\f"
                                   "@PJL ECHO hello 7 \r\n\f"
                                   "@PJL INFO STATUS\r\nCODE=10001\r\nDISPLAY=\"Ready\"\r\n"
                                   "ONLINE=TRUE\r\n\f"
                                   "@PJL INFO CONFIG\r\n?\r\n\f";
    char answers[4096];
    for (size_t step = 1; step <= sizeof text; step++) {
        struct raw_pjl pjl = feed(text, sizeof text - 1, step, answers);
        assert_string_equal(answers, expected);
        assert_false(pjl.has_payload);
    }
}

static void test_a_document_is_payload_and_is_not_answered(void **state)
{
    (void)state;
    static const char *const documents[] = {
        "%!PS-Adobe-3.0\n@PJL INFO ID\n",
        UEL "@PJL SET COPIES=2\r\n@PJL ENTER LANGUAGE=PCL\r\n@PJL INFO ID\r\nbytes" UEL,
        UEL "%PDF-1.7\n@PJL INFO ID\n",
        "\033E\033&l0O text",
        "\033%-1234 no UEL",
    };
    char answers[4096];
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
        for (size_t step = 1; step < 9; step++) {
            struct raw_pjl pjl = feed(documents[i], strlen(documents[i]), step, answers);
            assert_string_equal(answers, "");
            assert_true(pjl.has_payload);
        }
}

static void test_a_question_behind_a_document_is_answered(void **state)
{
    (void)state;
    static const char text[] = "bytes" UEL "@PJL ECHO done\r\n" UEL;
    char answers[4096];
    struct raw_pjl pjl = feed(text, sizeof text - 1, 3, answers);
    assert_string_equal(answers, "@PJL ECHO done\r\n\f");
    assert_true(pjl.has_payload);
}

static void test_a_line_that_never_ends_is_not_answered(void **state)
{
    (void)state;
    static char text[3 * RAW_PJL_LINE_MAX];
    char answers[4096];
    int length = snprintf(text, sizeof text, "%s@PJL ECHO ", UEL);
    memset(text + length, 'x', sizeof text - (size_t)length);
    text[sizeof text - 1] = '\n';
    struct raw_pjl pjl = feed(text, sizeof text, 100, answers);
    assert_string_equal(answers, "");
    assert_true(pjl.is_in_pjl);
}

static void test_white_space_alone_is_no_document(void **state)
{
    (void)state;
    char answers[64];
    struct raw_pjl pjl = feed(" \r\n\r\n", 5, 2, answers);
    assert_false(pjl.has_payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions_are_answered_however_they_are_cut),
        cmocka_unit_test(test_a_document_is_payload_and_is_not_answered),
        cmocka_unit_test(test_a_question_behind_a_document_is_answered),
        cmocka_unit_test(test_a_line_that_never_ends_is_not_answered),
        cmocka_unit_test(test_white_space_alone_is_no_document),
    };
    return cmocka_run_group_tests_name("raw-pjl", tests, NULL, NULL);
}
