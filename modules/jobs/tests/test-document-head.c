/* SPDX-License-Identifier: Apache-2.0 */
/* PJL headers and PostScript comments, as drivers write them and as nobody should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/document-head.h"

#define UEL "\033%-12345X"

/* Reads from a heap block of exactly that size, so that a sanitizer sees every byte too far. */
static imp_document_head look_at(const void *bytes, size_t length)
{
    imp_document_head head = {.size = sizeof head};
    void *exact = malloc(length == 0 ? 1 : length);
    assert_non_null(exact);
    memcpy(exact, bytes, length);
    document_head_read((imp_bytes){exact, length}, &head);
    free(exact);
    for (uint32_t i = 0; i < head.span_count; i++) {
        assert_true(head.spans[i].offset <= length);
        assert_true(head.spans[i].length <= length - head.spans[i].offset);
    }
    return head;
}

static imp_document_head look(const char *text)
{
    return look_at(text, strlen(text));
}

static uint32_t spans_of(const imp_document_head *head, int32_t kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < head->span_count; i++)
        count += head->spans[i].kind == kind ? 1 : 0;
    return count;
}

/* The text of the only span of that kind. */
static void assert_span(const imp_document_head *head, const char *text, int32_t kind,
                        const char *expected)
{
    assert_int_equal(spans_of(head, kind), 1);
    for (uint32_t i = 0; i < head->span_count; i++) {
        if (head->spans[i].kind != kind)
            continue;
        assert_int_equal(head->spans[i].length, strlen(expected));
        assert_memory_equal(text + head->spans[i].offset, expected, strlen(expected));
    }
}

static void a_drivers_header_is_read_whole(void **state)
{
    static const char text[] = UEL "@PJL COMMENT driver\r\n"
                                   "@PJL SET USERNAME=\"alice\"\r\n"
                                   "@PJL SET JOBNAME=\"Plan (final).pdf\"\r\n"
                                   "@PJL SET COPIES=2\r\n"
                                   "@PJL SET QTY=3\r\n"
                                   "@PJL SET DUPLEX=ON\r\n"
                                   "@PJL SET BINDING = LONGEDGE\r\n"
                                   "@PJL ENTER LANGUAGE = PCLXL\r\n"
                                   ") HP-PCL XL;3;0\n";
    (void)state;
    imp_document_head head = look(text);
    assert_true(head.has_pjl);
    assert_string_equal(head.user_name, "alice");
    assert_string_equal(head.job_name, "Plan (final).pdf");
    assert_int_equal(head.copies, 6);
    assert_false(head.asks_hold);
    assert_string_equal(head.format, "application/vnd.hp-PCLXL");
    assert_span(&head, text, IMP_SPAN_PJL_USERNAME, "@PJL SET USERNAME=\"alice\"\r\n");
    assert_span(&head, text, IMP_SPAN_PJL_DUPLEX, "@PJL SET DUPLEX=ON\r\n");
    assert_span(&head, text, IMP_SPAN_PJL_BINDING, "@PJL SET BINDING = LONGEDGE\r\n");
    assert_span(&head, text, IMP_SPAN_PJL_ENTER, "@PJL ENTER LANGUAGE = PCLXL\r\n");
    assert_int_equal(spans_of(&head, IMP_SPAN_PJL_COPIES), 2);
    assert_int_equal(spans_of(&head, IMP_SPAN_PJL_HEADER), 1);
    assert_ptr_equal(strstr(text, "@PJL ENTER"), text + head.spans[head.span_count - 1].offset +
                                                     head.spans[head.span_count - 1].length);
}

static void job_lines_name_the_job_but_stay(void **state)
{
    static const char text[] =
        UEL "@PJL JOB NAME = \"Letter\" DISPLAY = \"x\"\n@PJL EOJ\n%PDF-1.7\n";
    (void)state;
    imp_document_head head = look(text);
    assert_string_equal(head.job_name, "Letter");
    assert_span(&head, text, IMP_SPAN_PJL_JOB_NAME, " NAME = \"Letter\"");
    assert_int_equal(spans_of(&head, IMP_SPAN_PJL_JOBNAME), 0);
    assert_string_equal(head.format, "application/pdf");
}

static void every_way_to_ask_for_a_hold_is_seen(void **state)
{
    static const char *const holds[] = {
        "@PJL SET HOLD=ON",          "@PJL SET HOLD = PROOF",      "@PJL SET HOLD=STORE",
        "@PJL SET HOLDKEY=\"1234\"", "@PJL SET JOBPASSWORD=1234",  "@pjl set hold=on",
        "@PJL SET KMJOBTYPE=SECURE", "@PJL SET JOBSTORAGE=ON",     "@PJL SET HOLDTYPE=PRIVATE",
        "@PJL\tSET\tHOLD=ON",        "@PJL SET SECUREPRINT = ON ",
    };
    char text[200];
    (void)state;
    for (size_t i = 0; i < sizeof holds / sizeof *holds; i++) {
        size_t length = strlen(holds[i]);
        memcpy(text, UEL, 9);
        memcpy(text + 9, holds[i], length);
        memcpy(text + 9 + length, "\n%!PS\n", 7);
        imp_document_head head = look(text);
        assert_true(head.asks_hold);
        assert_int_equal(spans_of(&head, IMP_SPAN_PJL_HOLD), 1);
    }
    imp_document_head off = look(UEL "@PJL SET HOLD=OFF\n@PJL SET HOLDING=ON\n%!PS\n");
    assert_false(off.asks_hold);
}

static void users_are_found_where_drivers_put_them(void **state)
{
    (void)state;
    assert_string_equal(look(UEL "@PJL SET JOBATTR=\"JobAcct1=bob\"\n\n%!PS\n").user_name, "bob");
    assert_string_equal(
        look(UEL "@PJL SET JOBATTR=\"JobAcct1=bob\"\n@PJL SET USERNAME=carol\n%!\n").user_name,
        "carol");
    assert_string_equal(look(UEL "@PJL SET USERID=\"dave\"\n%!\n").user_name, "dave");
    /* Windows-1252 becomes UTF-8, control characters become '?'. */
    assert_string_equal(look(UEL "@PJL SET USERNAME=\"J\xfcrgen\x01\"\n%!\n").user_name,
                        "J\xc3\xbcrgen?");
}

static void leading_rubbish_and_repeated_uels_are_skipped(void **state)
{
    static const char text[] = "\0\0\r\n\004" UEL UEL "\r\n@PJL SET USERNAME=\"eve\"\n" UEL
                               "@PJL SET JOBNAME=\"two\"\n" UEL "\033E";
    (void)state;
    imp_document_head head = look_at(text, sizeof text - 1);
    assert_true(head.has_pjl);
    assert_string_equal(head.user_name, "eve");
    assert_string_equal(head.job_name, "two");
    assert_string_equal(head.format, "application/vnd.hp-PCL");
}

static void language_variables_are_none_of_ours(void **state)
{
    (void)state;
    imp_document_head head = look(UEL "@PJL SET LPARM:PCL HOLD=ON\n@PJL DEFAULT COPIES=9\n"
                                      "@PJL SET COPIES=-1\n@PJL SET COPIES=x\n%!\n");
    assert_false(head.asks_hold);
    assert_int_equal(head.copies, 0);
    assert_int_equal(look(UEL "@PJL SET COPIES=999999999\n@PJL SET QTY=999999999\n").copies,
                     IMP_COPIES_MAX);
}

static void postscript_comments_are_read(void **state)
{
    (void)state;
    imp_document_head head = look("%!PS-Adobe-3.0\r%%Title: (A \\(b\\) \\374)\r%%For: frank\r"
                                  "%%EndComments\r%%Title: no\r");
    assert_string_equal(head.format, "application/postscript");
    assert_string_equal(head.job_name, "A (b) \xc3\xbc");
    assert_string_equal(head.user_name, "frank");
    assert_string_equal(look("%!PS\n%%Title: (atend)\nshowpage\n%%For: late\n").job_name, "");
    assert_string_equal(look("%!PS\nshowpage\n%%For: late\n").user_name, "");
    /* PJL goes before the comments that follow it. */
    head = look(UEL "@PJL SET USERNAME=gina\n@PJL ENTER LANGUAGE=POSTSCRIPT\n%!PS\n%%For: x\n"
                    "%%Title: T\n");
    assert_string_equal(head.user_name, "gina");
    assert_string_equal(head.job_name, "T");
}

static void formats_are_told_by_their_first_bytes(void **state)
{
    (void)state;
    assert_string_equal(look("%PDF-1.4\n").format, "application/pdf");
    assert_string_equal(look("\033E\033&l0O").format, "application/vnd.hp-PCL");
    assert_string_equal(look_at("UNIRAST\0\0", 9).format, "image/urf");
    assert_string_equal(look("RaS2....").format, "image/pwg-raster");
    assert_string_equal(look("just text\n").format, "application/octet-stream");
    assert_string_equal(look("").format, "application/octet-stream");
}

static void hostile_headers_cost_nothing(void **state)
{
    static const char line[] = "@PJL SET USERNAME=\"";
    (void)state;
    /* Without end of line, quote, or any end at all. */
    assert_string_equal(look(UEL "@PJL SET USERNAME=\"never ends").user_name, "");
    assert_string_equal(look(UEL "@PJL SET USERNAME=\"open\n").user_name, "open");
    assert_string_equal(look(UEL "@PJL SET USERNAME=\n").user_name, "");
    assert_false(look(UEL).has_pjl);
    assert_false(look(UEL "@PJLX\n").has_pjl);
    assert_true(look(UEL "@PJL\n").has_pjl);
    look(UEL "@PJL SET\n@PJL JOB\n@PJL JOB =\n@PJL ENTER\n@PJL ENTER LANGUAGE\n@PJL ENTER =\n");

    size_t size = 200000;
    char *huge = malloc(size);
    assert_non_null(huge);
    memset(huge, 'a', size);
    memcpy(huge, UEL, 9);
    memcpy(huge + 9, line, sizeof line - 1);
    assert_string_equal(look_at(huge, size).user_name, "");
    /* More spans than there is room for. */
    size_t at = 9;
    while (at + 20 < size) {
        memcpy(huge + at, "@PJL SET COPIES=1\n", 18);
        at += 18;
    }
    imp_document_head head = look_at(huge, size);
    assert_int_equal(head.span_count, IMP_DOCUMENT_SPANS_MAX);
    /* Nothing beyond the bound is looked at. */
    memset(huge, '\n', size);
    memcpy(huge, "%!PS\n", 5);
    for (size_t i = 5; i + 2 < size; i += 2)
        memcpy(huge + i, "%\n", 2);
    memcpy(huge + IMP_DOCUMENT_HEAD_MAX + 100, "\n%%For: far\n", 12);
    assert_string_equal(look_at(huge, size).user_name, "");
    free(huge);
}

static void every_cut_of_a_header_is_safe(void **state)
{
    static const char text[] = UEL "@PJL JOB NAME=\"a\"\r\n@PJL SET USERNAME=\"b\"\r\n"
                                   "@PJL SET HOLD=ON\r\n@PJL ENTER LANGUAGE=POSTSCRIPT\r\n"
                                   "%!PS-Adobe-3.0\r\n%%Title: (x\\051)\r\n%%For: y\r\n";
    (void)state;
    for (size_t length = 0; length < sizeof text; length++) {
        for (size_t skip = 0; skip < 12 && skip <= length; skip++)
            look_at(text + skip, length - skip);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drivers_header_is_read_whole),
        cmocka_unit_test(job_lines_name_the_job_but_stay),
        cmocka_unit_test(every_way_to_ask_for_a_hold_is_seen),
        cmocka_unit_test(users_are_found_where_drivers_put_them),
        cmocka_unit_test(leading_rubbish_and_repeated_uels_are_skipped),
        cmocka_unit_test(language_variables_are_none_of_ours),
        cmocka_unit_test(postscript_comments_are_read),
        cmocka_unit_test(formats_are_told_by_their_first_bytes),
        cmocka_unit_test(hostile_headers_cost_nothing),
        cmocka_unit_test(every_cut_of_a_header_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
