/* SPDX-License-Identifier: Apache-2.0 */
/* Names: what is a valid one, and which two are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <imprimatur/base.h>
#include <string.h>

static const char *fold(const char *name)
{
    static char folded[4][IMP_NAME_MAX];
    static int next;
    next = (next + 1) % 4;
    imp_name_fold(folded[next], sizeof folded[next], name);
    return folded[next];
}

static void test_names_that_differ_in_case_are_the_same(void **state)
{
    (void)state;
    assert_string_equal(fold("Anna.Weiß"), fold("ANNA.WEIß"));
    assert_string_equal(fold("MÜLLER"), "müller");
    assert_string_equal(fold("ŁUKASZ"), "łukasz");
    assert_string_equal(fold("ΣΊΣΥΦΟΣ"), fold("σίσυφος"));
    assert_string_equal(fold("ИВАНОВ Ё"), "иванов ё");
    assert_string_equal(fold("×÷ſ"), "×÷ſ"); /* not letters with a pair in these ranges */
}

static void test_folding_a_folded_name_changes_nothing(void **state)
{
    (void)state;
    char name[8];
    for (unsigned character = 0x21; character < 0x530; character++) {
        size_t length = 0;
        if (character < 0x80) {
            name[length++] = (char)character;
        } else {
            name[length++] = (char)(0xc0 | character >> 6);
            name[length++] = (char)(0x80 | (character & 0x3f));
        }
        name[length] = '\0';
        char once[8], twice[8];
        imp_name_fold(once, sizeof once, name);
        imp_name_fold(twice, sizeof twice, once);
        assert_string_equal(once, twice);
        assert_true(imp_utf8_is_valid(once, strlen(once)));
    }
}

static void test_a_cut_never_splits_a_character(void **state)
{
    (void)state;
    char folded[6];
    assert_int_equal(imp_name_fold(folded, sizeof folded, "abcdÄ"), 4);
    assert_string_equal(folded, "abcd");
    assert_int_equal(imp_name_fold(folded, sizeof folded, "\xff\xc3"), 2);
}

static void test_names_that_could_mislead_are_refused(void **state)
{
    (void)state;
    char longest[IMP_NAME_MAX + 1];
    memset(longest, 'a', sizeof longest);
    longest[IMP_NAME_MAX - 1] = '\0';
    assert_true(imp_name_is_valid(longest));
    longest[IMP_NAME_MAX - 1] = 'a';
    longest[IMP_NAME_MAX] = '\0';
    assert_false(imp_name_is_valid(longest));
    assert_true(imp_name_is_valid("DOMAIN\\user"));
    assert_true(imp_name_is_valid("Ørsted 2"));
    assert_false(imp_name_is_valid(NULL));
    assert_false(imp_name_is_valid(""));
    assert_false(imp_name_is_valid(" a"));
    assert_false(imp_name_is_valid("a "));
    assert_false(imp_name_is_valid("a\nb"));
    assert_false(imp_name_is_valid("a\x7f"));
    assert_false(imp_name_is_valid("a\xc2\x85"));     /* C1 */
    assert_false(imp_name_is_valid("a\xe2\x80\xae")); /* right-to-left override */
    assert_false(imp_name_is_valid("a\xff"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_that_differ_in_case_are_the_same),
        cmocka_unit_test(test_folding_a_folded_name_changes_nothing),
        cmocka_unit_test(test_a_cut_never_splits_a_character),
        cmocka_unit_test(test_names_that_could_mislead_are_refused),
    };
    return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
