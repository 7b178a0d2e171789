/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to the device in place of a document's head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "modules/transport-socket/pjl-merge.h"

#define UEL "\033%-12345X"
#define ENTER "@PJL ENTER LANGUAGE=PCLXL\r\n"
#define DATA ") HP-PCL XL;3;0\n"
#define HOLD "@PJL SET HOLD=ON\r\n@PJL SET HOLDKEY=\"4711\"\r\n"

static const char plain[] = UEL "@PJL COMMENT x\r\n" ENTER DATA;
static const char full[] =
    UEL "@PJL COMMENT x\r\n"
        "@PJL SET USERNAME=\"alice\"\r\n"
        "@PJL SET JOBNAME=\"Secret plan\"\r\n"
        "@PJL JOB NAME=\"Secret plan\" START=1\r\n" HOLD "@PJL SET COPIES=7\r\n"
        "@PJL SET DUPLEX=OFF\r\n" ENTER DATA;

/* Lines that the tests use, and what they are. */
static const struct {
    const char *text;
    int32_t kind;
} lines[] = {
    {"@PJL SET USERNAME=\"alice\"\r\n", IMP_SPAN_PJL_USERNAME},
    {"@PJL SET JOBNAME=\"Secret plan\"\r\n", IMP_SPAN_PJL_JOBNAME},
    {" NAME=\"Secret plan\"", IMP_SPAN_PJL_JOB_NAME},
    {"@PJL SET HOLD=ON\r\n", IMP_SPAN_PJL_HOLD},
    {"@PJL SET HOLDKEY=\"4711\"\r\n", IMP_SPAN_PJL_HOLD},
    {"@PJL SET COPIES=7\r\n", IMP_SPAN_PJL_COPIES},
    {"@PJL SET QTY=7\r\n", IMP_SPAN_PJL_COPIES},
    {"@PJL SET DUPLEX=OFF\r\n", IMP_SPAN_PJL_DUPLEX},
    {ENTER, IMP_SPAN_PJL_ENTER},
};

static imp_document_head find(const char *text)
{
    imp_document_head head = {.size = sizeof head};
    const char *enter = strstr(text, "@PJL ENTER");
    head.has_pjl = strstr(text, "@PJL") != NULL;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const char *at = strstr(text, lines[i].text);
        if (at != NULL)
            head.spans[head.span_count++] = (imp_document_span){
                (uint32_t)(at - text), (uint32_t)strlen(lines[i].text), lines[i].kind};
    }
    if (head.has_pjl && enter != NULL)
        head.spans[head.span_count++] =
            (imp_document_span){0, (uint32_t)(enter - text), IMP_SPAN_PJL_HEADER};
    return head;
}

static struct pjl_merge merge;

static void merged(const char *text, const imp_document_head *found,
                   const struct pjl_wanted *wanted, const char *expected)
{
    char result[4096];
    size_t length = 0;
    pjl_merge((imp_bytes){text, strlen(text)}, found, wanted, &merge);
    for (uint32_t i = 0; i < merge.count; i++) {
        assert_true(merge.pieces[i].length < sizeof result - length);
        memcpy(result + length, merge.pieces[i].data, merge.pieces[i].length);
        length += merge.pieces[i].length;
    }
    result[length] = '\0';
    assert_string_equal(result, expected);
    assert_int_equal(merge.is_changed, strcmp(text, expected) != 0);
}

static void assert_merge(const char *text, const struct pjl_wanted *wanted, const char *expected)
{
    imp_document_head found = find(text);
    merged(text, &found, wanted, expected);
}

static void nothing_asked_for_changes_nothing(void **state)
{
    struct pjl_wanted wanted = {0};
    (void)state;
    assert_merge(full, &wanted, full);
    assert_merge("", &wanted, "");
    wanted.speaks_pjl = true;
    assert_merge(full, &wanted, full);
    assert_merge("%!PS\n", &wanted, "%!PS\n");
}

static void a_device_that_speaks_no_pjl_gets_none(void **state)
{
    struct pjl_wanted wanted = {
        .sides = PJL_SIDES_ONE, .replaces_names = true, .user_name = "bob", .job_name = "x"};
    (void)state;
    assert_merge(full, &wanted, full);
    assert_true(merge.has_lost_sides);
    assert_false(merge.has_copies);
}

static void lines_stand_in_front_of_the_language(void **state)
{
    struct pjl_wanted wanted = {.speaks_pjl = true, .copies = 3, .sides = PJL_SIDES_LONG_EDGE};
    (void)state;
    assert_merge(plain, &wanted,
                 UEL "@PJL COMMENT x\r\n@PJL SET COPIES=3\r\n@PJL SET DUPLEX=ON\r\n"
                     "@PJL SET BINDING=LONGEDGE\r\n" ENTER DATA);
    assert_true(merge.has_copies);
    assert_false(merge.needs_exit);
    wanted = (struct pjl_wanted){.speaks_pjl = true, .sides = PJL_SIDES_SHORT_EDGE};
    assert_merge(plain, &wanted,
                 UEL "@PJL COMMENT x\r\n@PJL SET DUPLEX=ON\r\n"
                     "@PJL SET BINDING=SHORTEDGE\r\n" ENTER DATA);
    assert_false(merge.has_copies);
}

static void lines_that_are_there_are_replaced(void **state)
{
    struct pjl_wanted wanted = {.speaks_pjl = true,
                                .drops_hold = true,
                                .copies = 2,
                                .sides = PJL_SIDES_ONE,
                                .replaces_names = true,
                                .user_name = "bob",
                                .job_name = "plan"};
    (void)state;
    assert_merge(full, &wanted,
                 UEL "@PJL COMMENT x\r\n"
                     "@PJL JOB START=1\r\n"
                     "@PJL SET USERNAME=\"bob\"\r\n@PJL SET JOBNAME=\"plan\"\r\n"
                     "@PJL SET COPIES=2\r\n@PJL SET DUPLEX=OFF\r\n" ENTER DATA);
}

static void names_are_taken_out_when_none_are_to_be_seen(void **state)
{
    struct pjl_wanted wanted = {.speaks_pjl = true, .replaces_names = true};
    (void)state;
    assert_merge(full, &wanted,
                 UEL "@PJL COMMENT x\r\n@PJL JOB START=1\r\n" HOLD "@PJL SET COPIES=7\r\n"
                     "@PJL SET DUPLEX=OFF\r\n" ENTER DATA);
    assert_merge("%!PS\n", &wanted, "%!PS\n");
}

static void hold_and_pin_are_dropped_for_every_device(void **state)
{
    struct pjl_wanted wanted = {.drops_hold = true};
    (void)state;
    assert_merge(UEL HOLD ENTER DATA, &wanted, UEL ENTER DATA);
    assert_merge(plain, &wanted, plain);
}

static void the_documents_own_copies_do_not_multiply_ours(void **state)
{
    struct pjl_wanted wanted = {.copies = 2};
    (void)state;
    assert_merge(UEL "@PJL SET COPIES=7\r\n" ENTER DATA, &wanted, UEL ENTER DATA);
    assert_false(merge.has_copies);
}

static void the_documents_driver_knows_which_variable_counts(void **state)
{
    struct pjl_wanted wanted = {.speaks_pjl = true, .copies = 2};
    (void)state;
    assert_merge(UEL "@PJL SET QTY=7\r\n" ENTER DATA, &wanted, UEL "@PJL SET QTY=2\r\n" ENTER DATA);
    wanted.copies_are_qty = true;
    assert_merge(UEL "@PJL SET COPIES=7\r\n" ENTER DATA, &wanted,
                 UEL "@PJL SET COPIES=2\r\n" ENTER DATA);
    assert_merge(plain, &wanted, UEL "@PJL COMMENT x\r\n@PJL SET QTY=2\r\n" ENTER DATA);
}

static void a_known_language_without_a_header_gets_one(void **state)
{
    imp_document_head found = {.size = sizeof found, .format = "application/postscript"};
    struct pjl_wanted wanted = {.speaks_pjl = true, .copies = 2};
    (void)state;
    merged("\004%!PS\n", &found, &wanted,
           UEL "@PJL\r\n@PJL SET COPIES=2\r\n@PJL ENTER LANGUAGE=POSTSCRIPT\r\n%!PS\n");
    assert_true(merge.needs_exit);
    assert_true(merge.has_copies);
}

static void an_unknown_language_stays_as_it_is(void **state)
{
    imp_document_head found = {.size = sizeof found, .format = "application/octet-stream"};
    struct pjl_wanted wanted = {
        .speaks_pjl = true, .copies = 2, .sides = PJL_SIDES_ONE, .replaces_names = true};
    (void)state;
    merged("abc", &found, &wanted, "abc");
    assert_false(merge.has_copies);
    assert_true(merge.has_lost_sides);
}

static void a_list_of_lines_that_may_be_cut_is_no_place_for_more(void **state)
{
    imp_document_head found = find(plain);
    struct pjl_wanted wanted = {.speaks_pjl = true, .copies = 2};
    (void)state;
    while (found.span_count < IMP_DOCUMENT_SPANS_MAX)
        found.spans[found.span_count++] = (imp_document_span){0, 0, IMP_SPAN_PJL_HOLD};
    merged(plain, &found, &wanted, plain);
    assert_false(merge.has_copies);
}

static void names_can_not_leave_their_quotes(void **state)
{
    char text[PJL_NAME_MAX], long_name[300];
    (void)state;
    size_t length = pjl_quote(text, "a\"\r\n@PJL\033%-12345X\tb\x7f");
    assert_int_equal(length, 20);
    assert_memory_equal(text, "a'??@PJL?%-12345X?b?", 20);
    assert_int_equal(pjl_quote(text, "J\xc3\xbcrgen \xe2\x82\xac \xf0\x9f\x96\xa8 \xc4\x80"), 12);
    assert_memory_equal(text, "J\xfcrgen ? ? ?", 12);
    assert_int_equal(pjl_quote(text, "\xc3"), 1);
    assert_int_equal(text[0], '?');
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(pjl_quote(text, long_name), PJL_NAME_MAX);
}

static void the_longest_names_fit(void **state)
{
    char name[300], expected[600];
    struct pjl_wanted wanted = {.speaks_pjl = true,
                                .copies = IMP_COPIES_MAX,
                                .sides = PJL_SIDES_SHORT_EDGE,
                                .replaces_names = true,
                                .user_name = name,
                                .job_name = name};
    imp_document_head found = {.size = sizeof found, .format = "application/postscript"};
    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(expected, sizeof expected,
             "%s@PJL\r\n@PJL SET USERNAME=\"%.80s\"\r\n@PJL SET JOBNAME=\"%.80s\"\r\n"
             "@PJL SET COPIES=9999\r\n@PJL SET DUPLEX=ON\r\n@PJL SET BINDING=SHORTEDGE\r\n"
             "@PJL ENTER LANGUAGE=POSTSCRIPT\r\n%%!PS",
             UEL, name, name);
    merged("%!PS", &found, &wanted, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_asked_for_changes_nothing),
        cmocka_unit_test(a_device_that_speaks_no_pjl_gets_none),
        cmocka_unit_test(lines_stand_in_front_of_the_language),
        cmocka_unit_test(lines_that_are_there_are_replaced),
        cmocka_unit_test(names_are_taken_out_when_none_are_to_be_seen),
        cmocka_unit_test(hold_and_pin_are_dropped_for_every_device),
        cmocka_unit_test(the_documents_own_copies_do_not_multiply_ours),
        cmocka_unit_test(the_documents_driver_knows_which_variable_counts),
        cmocka_unit_test(a_known_language_without_a_header_gets_one),
        cmocka_unit_test(an_unknown_language_stays_as_it_is),
        cmocka_unit_test(a_list_of_lines_that_may_be_cut_is_no_place_for_more),
        cmocka_unit_test(names_can_not_leave_their_quotes),
        cmocka_unit_test(the_longest_names_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
