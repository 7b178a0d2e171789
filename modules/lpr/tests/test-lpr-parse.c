/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines and control files as real clients send them, and as hostile ones might. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modules/lpr/lpr.h"

static struct lpr_command command;
static struct lpr_file file;

static imp_status command_read(const char *line)
{
    return lpr_command_parse((const uint8_t *)line, strlen(line), &command);
}

static imp_status file_read(const char *line)
{
    return lpr_file_parse((const uint8_t *)line, strlen(line), &file);
}

static void test_commands_carry_queue_agent_and_operands(void **state)
{
    (void)state;
    assert_int_equal(command_read("\002hold"), IMP_OK);
    assert_int_equal(command.code, LPR_RECEIVE_JOB);
    assert_string_equal(command.queue, "hold");
    assert_int_equal(command_read("\002printers/Second floor "), IMP_OK);
    assert_string_equal(command.queue, "printers/Second floor");
    assert_int_equal(command_read("\003hold anna 123\r"), IMP_OK);
    assert_int_equal(command.operand_count, 2);
    assert_string_equal(command.operands[1], "123");
    assert_int_equal(command_read("\005hold\tanna\f7\v8"), IMP_OK);
    assert_string_equal(command.agent, "anna");
    assert_int_equal(command.operand_count, 2);
    assert_string_equal(command.operands[0], "7");
    assert_int_equal(command_read("\004"), IMP_OK);
    assert_string_equal(command.queue, "");
}

static void test_lines_that_are_no_command_are_refused(void **state)
{
    (void)state;
    assert_int_equal(command_read(""), IMP_INVALID);
    assert_int_equal(command_read("GET / HTTP/1.1"), IMP_INVALID);
    assert_int_equal(command_read("\026\003\001"), IMP_INVALID); /* a TLS hello */
    assert_int_equal(command_read("\006hold"), IMP_INVALID);
    char line[LPR_LINE_MAX];
    memset(line, 'q', sizeof line);
    line[0] = LPR_RECEIVE_JOB;
    assert_int_equal(lpr_command_parse((uint8_t *)line, sizeof line, &command), IMP_INVALID);
    line[0] = LPR_STATUS_SHORT;
    for (size_t i = 1; i < sizeof line; i += 2)
        line[i] = ' ';
    assert_int_equal(lpr_command_parse((uint8_t *)line, sizeof line, &command), IMP_INVALID);
}

static void test_sizes_that_stand_for_unknown_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int kind;
    } cases[] = {
        {"\003125899906843000 dfA001host", LPR_SIZE_UNTIL_CLOSE}, /* Windows */
        {"\003999999999999 dfA001host", LPR_SIZE_UNTIL_CLOSE},    /* CUPS, mode=stream */
        {"\0032147483647 dfA001host", LPR_SIZE_UNTIL_CLOSE},      /* older CUPS */
        {"\0030 dfA001host", LPR_SIZE_ZERO},
        {"\00300 dfA001host", LPR_SIZE_ZERO},
        {"\00310240 dfA001host", LPR_SIZE_KNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(file_read(cases[i].line), IMP_OK);
        assert_int_equal(file.size_kind, cases[i].kind);
        assert_true(file.has_number);
        assert_int_equal(file.number, 1);
    }
}

static void test_file_lines_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(file_read("\001"), IMP_OK);
    assert_int_equal(file.code, LPR_ABORT_JOB);
    assert_int_equal(file_read("\002 120 cfA987127.0.0.1\r"), IMP_OK);
    assert_int_equal(file.number, 987);
    assert_string_equal(file.name, "cfA987127.0.0.1");
    assert_int_equal(file_read("\00264"), IMP_OK);
    assert_false(file.has_number);
    assert_int_equal(file_read("\002"), IMP_INVALID);
    assert_int_equal(file_read("\002-1 cfA001h"), IMP_INVALID);
    assert_int_equal(file_read("\0021x cfA001h"), IMP_INVALID);
    assert_int_equal(file_read("\0039999999999999999999 dfA001h"), IMP_INVALID);
    assert_int_equal(file_read("\00412 x"), IMP_INVALID);
}

static struct lpr_control control;

static struct lpr_control *control_read(const char *text, imp_status expected)
{
    lpr_control_clear(&control);
    assert_int_equal(lpr_control_parse((const uint8_t *)text, strlen(text), &control), expected);
    return &control;
}

static int teardown(void **state)
{
    (void)state;
    lpr_control_clear(&control);
    return 0;
}

static void test_a_control_file_names_owner_title_and_files(void **state)
{
    (void)state;
    struct lpr_control *read = control_read("Hpc7\nPDOMAIN\\anna\nJQuarterly\nCclass\nLanna\n"
                                            "ldfA012pc7\nUdfA012pc7\nNreport.pdf\n"
                                            "fdfB012pc7\nUdfB012pc7\nNnotes.txt",
                                            IMP_OK);
    assert_string_equal(read->host, "pc7");
    assert_string_equal(read->user, "DOMAIN\\anna");
    assert_string_equal(read->job_name, "Quarterly");
    assert_int_equal(read->file_count, 2);
    assert_string_equal(read->files[0].name, "dfA012pc7");
    assert_int_equal(read->files[0].format, 'l');
    assert_string_equal(read->files[0].source, "report.pdf");
    assert_string_equal(read->files[1].source, "notes.txt");
}

static void test_the_name_may_stand_before_its_file(void **state)
{
    (void)state;
    struct lpr_control *read =
        control_read("Hh\nPp\nNone.ps\nfdfA001h\nNtwo.ps\nfdfB001h\n", IMP_OK);
    assert_int_equal(read->file_count, 2);
    assert_string_equal(read->files[0].source, "one.ps");
}

static void test_repeated_lines_are_copies(void **state)
{
    (void)state;
    struct lpr_control *read =
        control_read("Hh\nPp\nldfA001h\nldfA001h\nldfA001h\nUdfA001h\n", IMP_OK);
    assert_int_equal(read->file_count, 1);
    assert_int_equal(read->files[0].copies, 3);
}

static void test_names_may_be_windows_1252(void **state)
{
    (void)state;
    struct lpr_control *read = control_read("HB\xfcro\nPM\xfcller\nJ\x80 5\nldfA001h\n", IMP_OK);
    assert_string_equal(read->user, "Müller");
    assert_string_equal(read->host, "Büro");
    assert_string_equal(read->job_name, "€ 5");
}

/* RFC 1179 section 7: H and P 31 characters, J 99, N 131; in UTF-8 they may be twice as many bytes. */
static void test_names_of_full_length_are_whole(void **state)
{
    (void)state;
    char text[1024], name[131 + 1], umlauts[2 * 99 + 1] = "";
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (size_t i = 0; i < 99; i++)
        memcpy(umlauts + 2 * i, "ä", sizeof "ä");
    snprintf(text, sizeof text, "H%.31s\nP%.62s\nJ%s\nldfA001h\nN%s\n", name, umlauts, umlauts,
             name);
    struct lpr_control *read = control_read(text, IMP_OK);
    assert_int_equal(strlen(read->host), 31);
    assert_int_equal(strlen(read->user), 62);
    assert_string_equal(read->job_name, umlauts);
    assert_string_equal(read->files[0].source, name);
}

static void test_control_files_are_bounded(void **state)
{
    (void)state;
    lpr_control_clear(&control);
    assert_int_equal(lpr_control_parse((const uint8_t *)"Hh\nP\0p\n", 7, &control), IMP_INVALID);
    char text[(LPR_FILES_MAX + 1) * 12], *end = text;
    for (int i = 0; i < LPR_FILES_MAX; i++)
        end += snprintf(end, sizeof text - (size_t)(end - text), "ldfA%03dh\n", i);
    assert_int_equal(control_read(text, IMP_OK)->file_count, LPR_FILES_MAX);
    assert_string_equal(control.files[LPR_FILES_MAX - 1].name, "dfA103h");
    snprintf(end, sizeof text - (size_t)(end - text), "ldfB001h\n");
    control_read(text, IMP_LIMIT);
    control_read("", IMP_OK);
    control_read("\n\n\r\n", IMP_OK);
    control_read("l\n", IMP_INVALID);
    control_read("ldfA001h\nl\n", IMP_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_carry_queue_agent_and_operands),
        cmocka_unit_test(test_lines_that_are_no_command_are_refused),
        cmocka_unit_test(test_sizes_that_stand_for_unknown_are_known),
        cmocka_unit_test(test_file_lines_are_bounded),
        cmocka_unit_test(test_a_control_file_names_owner_title_and_files),
        cmocka_unit_test(test_the_name_may_stand_before_its_file),
        cmocka_unit_test(test_repeated_lines_are_copies),
        cmocka_unit_test(test_names_may_be_windows_1252),
        cmocka_unit_test(test_names_of_full_length_are_whole),
        cmocka_unit_test(test_control_files_are_bounded),
    };
    return cmocka_run_group_tests_name("lpr-parse", tests, NULL, teardown);
}
