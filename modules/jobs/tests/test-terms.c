/* SPDX-License-Identifier: Apache-2.0 */
/* What hook `job.release` may say: questions, answers, changes of the ticket, and their bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "modules/jobs/jobs-terms.h"

static struct release_terms terms;
static imp_job_release_argument *argument;

static void begin(const imp_release_request *request)
{
    imp_error error = {0};
    static TicketValue client = TICKET_VALUE_INIT, sides = TICKET_VALUE_INIT;
    static TicketValue *ticket[] = {&client, &sides};
    Job job = JOB_INIT;
    imp_device device = {.size = sizeof device, .capabilities = IMP_DEVICE_SPEAKS_PJL};
    client.name = (char *)(uintptr_t) "copies";
    client.value = (char *)(uintptr_t) "3";
    client.source = (char *)(uintptr_t) "lpr";
    sides.layer = (uint32_t)IMP_TICKET_QUEUE_DEFAULT;
    sides.name = (char *)(uintptr_t) "sides";
    sides.value = (char *)(uintptr_t) "one-sided";
    sides.source = (char *)(uintptr_t) "admin";
    job.ticket = ticket;
    job.n_ticket = 2;
    job.bytes = 77;
    memset(&terms, 0, sizeof terms);
    assert_int_equal(terms_init(&terms, request, &error), IMP_OK);
    assert_int_equal(terms_describe(&terms, &job, &device, &error), IMP_OK);
    argument = &terms.argument;
}

static int teardown(void **state)
{
    (void)state;
    terms_free(&terms);
    return 0;
}

static void a_hook_sees_what_the_delivery_would_have(void **state)
{
    (void)state;
    imp_ticket_value chosen = {.name = "sides", .value = "two-sided-long-edge"};
    imp_release_request request = {.size = sizeof request, .change = {&chosen, 1}};
    begin(&request);
    assert_string_equal(imp_ticket_get(&argument->ticket, "copies"), "3");
    assert_string_equal(imp_ticket_get(&argument->ticket, "sides"), "two-sided-long-edge");
    assert_int_equal(argument->ticket.count, 2); /* one value a name */
    assert_int_equal(argument->document_bytes, 77);
    assert_int_equal(argument->device_capabilities, IMP_DEVICE_SPEAKS_PJL);
    assert_null(argument->session);
}

static void what_the_releaser_chose_wins_over_a_rule(void **state)
{
    (void)state;
    imp_error error = {0};
    begin(NULL);
    assert_int_equal(imp_release_change(argument, IMP_TICKET_RELEASER, "copies", "2", &error),
                     IMP_OK);
    assert_int_equal(imp_release_change(argument, IMP_TICKET_RULE, "copies", "1", &error), IMP_OK);
    assert_string_equal(imp_ticket_get(&argument->ticket, "copies"), "2");
    assert_int_equal(imp_release_change(argument, IMP_TICKET_RELEASER, "copies", "4", &error),
                     IMP_OK);
    assert_string_equal(imp_ticket_get(&argument->ticket, "copies"), "4"); /* the last one */
    assert_int_equal(terms.change_count, 3);
    assert_string_equal(terms.change[1].source, "rule");
}

static void a_change_that_is_none_is_refused(void **state)
{
    (void)state;
    char longest[257];
    memset(longest, 'a', sizeof longest - 1);
    longest[256] = '\0';
    const struct {
        imp_ticket_layer layer;
        const char *name, *value;
    } rows[] = {
        {IMP_TICKET_CLIENT, "copies", "1"},     {IMP_TICKET_QUEUE_DEFAULT, "copies", "1"},
        {(imp_ticket_layer)7, "copies", "1"},   {IMP_TICKET_RULE, "", "1"},
        {IMP_TICKET_RULE, NULL, "1"},           {IMP_TICKET_RULE, "Copies", "1"},
        {IMP_TICKET_RULE, "copies", ""},        {IMP_TICKET_RULE, "copies", NULL},
        {IMP_TICKET_RULE, "copies", "1\n@PJL"}, {IMP_TICKET_RULE, "copies", "\xff"},
        {IMP_TICKET_RULE, "copies", longest},   {IMP_TICKET_RULE, longest, "1"},
        {IMP_TICKET_RULE, "copies", "1\x7f"},
    };
    begin(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        imp_error error = {0};
        assert_int_equal(
            imp_release_change(argument, rows[i].layer, rows[i].name, rows[i].value, &error),
            IMP_INVALID);
        assert_true(error.message[0] != '\0');
    }
    assert_int_equal(terms.change_count, 0);
    assert_string_equal(imp_ticket_get(&argument->ticket, "copies"), "3");
    imp_error error = {0};
    longest[255] = '\0';
    assert_int_equal(imp_release_change(argument, IMP_TICKET_RULE, "media", longest, &error),
                     IMP_OK);
}

static void changes_are_bounded(void **state)
{
    (void)state;
    imp_error error = {0};
    begin(NULL);
    for (int i = 0; i < IMP_TICKET_VALUES_MAX; i++)
        assert_int_equal(imp_release_change(argument, IMP_TICKET_RULE, "copies", "1", &error),
                         IMP_OK);
    assert_int_equal(imp_release_change(argument, IMP_TICKET_RULE, "copies", "1", &error),
                     IMP_LIMIT);
    imp_ticket_value values[IMP_TICKET_VALUES_MAX + 1];
    imp_release_request request = {.size = sizeof request,
                                   .change = {values, IMP_TICKET_VALUES_MAX + 1}};
    struct release_terms other = {.argument.size = 0};
    for (int i = 0; i <= IMP_TICKET_VALUES_MAX; i++)
        values[i] = (imp_ticket_value){.name = "copies", .value = "1"};
    assert_int_equal(terms_init(&other, &request, &error),
                     IMP_LIMIT); /* none is dropped silently */
    terms_free(&other);
}

static const char *const choices[] = {"colour", "grey"};
static const imp_release_question question = {
    .size = sizeof question,
    .id = "x.colour",
    .text = "In colour?",
    .choices = choices,
    .choice_count = 2,
};

static void a_question_is_kept_until_it_is_answered(void **state)
{
    (void)state;
    uint32_t choice = 77;
    imp_error error = {0};
    char text[] = "In colour?";
    imp_release_question passing = question;
    passing.text = text;
    begin(NULL);
    assert_int_equal(imp_release_ask(argument, &passing, &choice, &error), IMP_HOOK_REFUSE);
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(error.status, IMP_DENIED);
    assert_string_equal(error.message, "In colour? (x.colour: colour, grey)");
    assert_true(terms.is_asked);
    assert_string_equal(terms.question.text, "In colour?");
    assert_int_equal(choice, 77);
}

static void an_answer_is_an_index(void **state)
{
    (void)state;
    imp_release_answer answers[] = {
        {"y.other", "colour"}, {"x.colour", "blue"}, {"x.colour", "grey"}};
    imp_release_request request = {.size = sizeof request, .answers = answers, .answer_count = 3};
    uint32_t choice = 77;
    imp_error error = {0};
    begin(&request);
    assert_int_equal(imp_release_ask(argument, &question, &choice, &error), IMP_HOOK_CONTINUE);
    assert_int_equal(choice, 1);
    assert_false(terms.is_asked);
}

static void a_question_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad_choices[] = {"colour", "In grey"};
    char long_text[402];
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[401] = '\0';
    imp_release_question questions[7];
    for (size_t i = 0; i < 7; i++)
        questions[i] = question;
    questions[0].choice_count = 0;
    questions[1].choice_count = IMP_RELEASE_CHOICES_MAX + 1;
    questions[2].id = "x colour";
    questions[3].id = NULL;
    questions[4].text = long_text;
    questions[5].choices = bad_choices;
    questions[6].text = "\xc3";
    begin(NULL);
    for (size_t i = 0; i < 7; i++) {
        uint32_t choice;
        imp_error error = {0};
        assert_int_equal(imp_release_ask(argument, &questions[i], &choice, &error),
                         IMP_HOOK_REFUSE);
        assert_int_equal(error.status, IMP_UNSUPPORTED);
        assert_false(terms.is_asked);
    }
}

static void answers_are_bounded_words(void **state)
{
    (void)state;
    imp_release_answer answers[IMP_RELEASE_ANSWERS_MAX + 1];
    imp_release_request request = {.size = sizeof request, .answers = answers};
    struct release_terms other = {.argument.size = 0};
    imp_error error = {0};
    for (size_t i = 0; i <= IMP_RELEASE_ANSWERS_MAX; i++)
        answers[i] = (imp_release_answer){"x.colour", "grey"};
    request.answer_count = IMP_RELEASE_ANSWERS_MAX + 1;
    assert_int_equal(terms_init(&other, &request, &error), IMP_LIMIT);
    request.answer_count = 1;
    answers[0].choice = "grey now";
    assert_int_equal(terms_init(&other, &request, &error), IMP_INVALID);
    answers[0] = (imp_release_answer){NULL, "grey"};
    assert_int_equal(terms_init(&other, &request, &error), IMP_INVALID);
    terms_free(&other);
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hook_sees_what_the_delivery_would_have),
        TEST(what_the_releaser_chose_wins_over_a_rule),
        TEST(a_change_that_is_none_is_refused),
        TEST(changes_are_bounded),
        TEST(a_question_is_kept_until_it_is_answered),
        TEST(an_answer_is_an_index),
        TEST(a_question_that_is_none_is_refused),
        TEST(answers_are_bounded_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
