/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks are asked in their order, may suspend, and `done` comes exactly once, whoever ends meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* after the headers above */
#include <cmocka.h>

#include "core/hook.h"
#include "core/loop.h"
#include "core/module.h"
#include "core/self.h"
#include "core/thread.h"

/* What the hooks of a test do and have done. */
struct trace {
    char text[256];
    imp_hook_answer answer; /* of the hook named `answering` */
    const char *answering;
    imp_hook_run *suspended;
    bool resumes_inside;
    imp_hook_answer resume_answer;
    int done;
    imp_status status;
    char message[IMP_ERROR_MESSAGE_MAX];
};

static int set_up(void **state)
{
    (void)state;
    return loop_setup_for_test(NULL) == IMP_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    loop_stop();
    loop_teardown();
    return 0;
}

static void add_word(struct trace *trace, const char *word)
{
    size_t length = strlen(trace->text);
    snprintf(trace->text + length, sizeof(trace->text) - length, "%s%s", length > 0 ? " " : "",
             word);
}

static imp_hook_answer on_hook(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                               imp_error *error)
{
    struct trace *trace = argument;
    (void)instance;
    add_word(trace, imp_self_name(self));
    if (trace->answering == NULL || strcmp(trace->answering, imp_self_name(self)) != 0)
        return IMP_HOOK_CONTINUE;
    if (trace->answer == IMP_HOOK_REFUSE)
        imp_error_set(error, IMP_LIMIT, "no paper today");
    if (trace->answer == IMP_HOOK_SUSPEND) {
        trace->suspended = run;
        if (trace->resumes_inside)
            imp_hook_resume(run, trace->resume_answer, NULL);
    }
    return trace->answer;
}

static imp_status add(struct imp_self *self, const char *point, imp_hook_phase phase,
                      const char *before, const char *after, imp_error *error)
{
    const imp_hook_spec spec = {.size = sizeof(spec),
                                .point = point,
                                .phase = phase,
                                .before = before,
                                .after = after,
                                .function = on_hook};
    return imp_hook_add(self, &spec, error);
}

static void on_done(imp_status status, const imp_error *error, void *arg)
{
    struct trace *trace = arg;
    trace->done++;
    trace->status = status;
    snprintf(trace->message, sizeof(trace->message), "%s",
             error->status != IMP_OK ? error->message : "");
}

static struct trace ask(const char *point, const char *answering, imp_hook_answer answer)
{
    struct trace trace = {.answering = answering, .answer = answer};
    imp_hook_ask(NULL, point, &trace, on_done, &trace);
    return trace;
}

static void a_point_without_hooks_is_done_at_once(void **state)
{
    struct trace trace = ask("job.received", NULL, IMP_HOOK_CONTINUE);
    (void)state;
    assert_int_equal(trace.done, 1);
    assert_int_equal(trace.status, IMP_OK);
    assert_int_equal(imp_hook_count("job.received"), 0);
}

static void phases_come_first_then_before_and_after_then_names(void **state)
{
    struct imp_self *quota = self_new_for_test("quota"), *audit = self_new_for_test("audit"),
                    *stamp = self_new_for_test("stamp"), *early = self_new_for_test("zz-early"),
                    *plain = self_new_for_test("plain");
    (void)state;
    assert_int_equal(add(stamp, "p", IMP_PHASE_POLICY, "plain", NULL, NULL), IMP_OK);
    assert_int_equal(add(audit, "p", IMP_PHASE_POLICY, NULL, "quota gone", NULL), IMP_OK);
    assert_int_equal(add(quota, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(plain, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(early, "p", IMP_PHASE_FIRST, NULL, "quota", NULL), IMP_OK);
    assert_int_equal(imp_hook_count("p"), 5);
    struct trace trace = ask("p", NULL, IMP_HOOK_CONTINUE);
    assert_string_equal(trace.text, "zz-early quota audit stamp plain");
    assert_int_equal(trace.done, 1);
    self_free_for_test(audit);
    trace = ask("p", NULL, IMP_HOOK_CONTINUE);
    assert_string_equal(trace.text, "zz-early quota stamp plain");
    self_free_for_test(quota);
    self_free_for_test(stamp);
    self_free_for_test(early);
    self_free_for_test(plain);
    assert_int_equal(imp_hook_count("p"), 0);
}

static void a_circle_is_refused_by_name_and_the_others_stay(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *b = self_new_for_test("b"),
                    *c = self_new_for_test("c");
    imp_error error;
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, "b", NULL, NULL), IMP_OK);
    assert_int_equal(add(b, "p", IMP_PHASE_POLICY, "c", NULL, NULL), IMP_OK);
    assert_int_equal(add(c, "p", IMP_PHASE_POLICY, "a", NULL, &error), IMP_INVALID);
    assert_non_null(strstr(error.message, "hooks of p stand in a circle: "));
    assert_non_null(strstr(error.message, "a after c"));
    struct trace trace = ask("p", NULL, IMP_HOOK_CONTINUE);
    assert_string_equal(trace.text, "a b");
    self_free_for_test(a);
    self_free_for_test(b);
    self_free_for_test(c);
}

static void a_hook_that_can_not_be_is_refused(void **state)
{
    struct imp_self *a = self_new_for_test("a");
    imp_hook_spec spec = {
        .size = sizeof(spec), .point = "p", .phase = IMP_PHASE_LAST, .function = on_hook};
    imp_hook_spec bad;
    (void)state;
    bad = spec;
    bad.size = 4;
    assert_int_equal(imp_hook_add(a, &bad, NULL), IMP_INVALID);
    bad = spec;
    bad.point = "Point!";
    assert_int_equal(imp_hook_add(a, &bad, NULL), IMP_INVALID);
    bad = spec;
    bad.phase = 7;
    assert_int_equal(imp_hook_add(a, &bad, NULL), IMP_INVALID);
    bad = spec;
    bad.function = NULL;
    assert_int_equal(imp_hook_add(a, &bad, NULL), IMP_INVALID);
    assert_int_equal(imp_hook_count("p"), 0);
    self_free_for_test(a);
}

static void done_and_refuse_end_the_run(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *b = self_new_for_test("b");
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(b, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    struct trace trace = ask("p", "a", IMP_HOOK_DONE);
    assert_string_equal(trace.text, "a");
    assert_int_equal(trace.status, IMP_OK);
    assert_int_equal(trace.done, 1);
    trace = ask("p", "a", IMP_HOOK_REFUSE);
    assert_string_equal(trace.text, "a");
    assert_int_equal(trace.status, IMP_LIMIT);
    assert_string_equal(trace.message, "no paper today");
    trace = ask("p", "a", 17);
    assert_int_equal(trace.status, IMP_UNSUPPORTED);
    assert_int_equal(trace.done, 1);
    self_free_for_test(a);
    self_free_for_test(b);
}

static void a_suspended_run_goes_on_where_it_was(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *b = self_new_for_test("b");
    struct trace trace = {.answering = "a", .answer = IMP_HOOK_SUSPEND};
    imp_error error;
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(b, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    imp_hook_ask(b, "p", &trace, on_done, &trace);
    assert_int_equal(trace.done, 0);
    assert_int_equal(self_pins(a), 1);
    assert_int_equal(self_pins(b), 1);
    thread_quiescent();
    imp_hook_resume(trace.suspended, IMP_HOOK_CONTINUE, NULL);
    assert_string_equal(trace.text, "a b");
    assert_int_equal(trace.done, 1);
    assert_int_equal(self_pins(a) + self_pins(b), 0);

    trace = (struct trace){.answering = "a", .answer = IMP_HOOK_SUSPEND};
    imp_hook_ask(NULL, "p", &trace, on_done, &trace);
    imp_error_set(&error, IMP_DENIED, "not you");
    imp_hook_resume(trace.suspended, IMP_HOOK_REFUSE, &error);
    assert_int_equal(trace.done, 1);
    assert_int_equal(trace.status, IMP_DENIED);
    assert_string_equal(trace.message, "not you");
    self_free_for_test(a);
    self_free_for_test(b);
}

static void a_resume_from_within_counts_as_the_answer(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *b = self_new_for_test("b");
    struct trace trace = {.answering = "a",
                          .answer = IMP_HOOK_SUSPEND,
                          .resumes_inside = true,
                          .resume_answer = IMP_HOOK_CONTINUE};
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(b, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    imp_hook_ask(NULL, "p", &trace, on_done, &trace);
    assert_string_equal(trace.text, "a b");
    assert_int_equal(trace.done, 1);
    assert_int_equal(self_pins(a), 0);
    self_free_for_test(a);
    self_free_for_test(b);
}

static void hooks_that_went_during_a_suspension_are_not_asked(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *b = self_new_for_test("b"),
                    *c = self_new_for_test("c");
    struct trace trace = {.answering = "a", .answer = IMP_HOOK_SUSPEND};
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(b, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(c, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    imp_hook_ask(NULL, "p", &trace, on_done, &trace);
    self_free_for_test(b);
    thread_quiescent();
    /* Perhaps at the same address: another generation all the same. */
    struct imp_self *other = self_new_for_test("b");
    assert_int_equal(add(other, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    imp_hook_resume(trace.suspended, IMP_HOOK_CONTINUE, NULL);
    assert_string_equal(trace.text, "a c");
    assert_int_equal(trace.done, 1);
    self_free_for_test(a);
    self_free_for_test(other);
    self_free_for_test(c);
}

static void the_end_of_the_suspending_module_refuses_and_a_late_resume_is_safe(void **state)
{
    struct imp_self *a = self_new_for_test("a");
    struct trace trace = {.answering = "a", .answer = IMP_HOOK_SUSPEND};
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    imp_hook_ask(NULL, "p", &trace, on_done, &trace);
    hook_cut(a);
    while (loop_run_once(imp_loop_control(), false))
        ;
    assert_int_equal(trace.done, 1);
    assert_int_equal(trace.status, IMP_UNAVAILABLE);
    assert_string_equal(trace.message, "module a is ending");
    assert_int_equal(self_pins(a), 0);
    imp_hook_resume(trace.suspended, IMP_HOOK_CONTINUE, NULL);
    assert_int_equal(trace.done, 1);

    /* And when no resume ever comes. */
    trace = (struct trace){.answering = "a", .answer = IMP_HOOK_SUSPEND};
    imp_hook_ask(NULL, "p", &trace, on_done, &trace);
    hook_cut(a);
    while (loop_run_once(imp_loop_control(), false))
        ;
    hook_forget(a);
    assert_int_equal(trace.done, 1);
    self_free_for_test(a);
}

static void the_end_of_the_asking_module_calls_its_done(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *asker = self_new_for_test("asker");
    struct trace trace = {.answering = "a", .answer = IMP_HOOK_SUSPEND};
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    imp_hook_ask(asker, "p", &trace, on_done, &trace);
    hook_cut(asker);
    while (loop_run_once(imp_loop_control(), false))
        ;
    assert_int_equal(trace.done, 1);
    assert_int_equal(trace.status, IMP_UNAVAILABLE);
    assert_int_equal(self_pins(asker), 0);
    self_free_for_test(asker);
    imp_hook_resume(trace.suspended, IMP_HOOK_CONTINUE, NULL);
    self_free_for_test(a);
}

static void asking_now_takes_no_suspension(void **state)
{
    struct imp_self *a = self_new_for_test("a"), *b = self_new_for_test("b");
    struct trace trace = {.text = ""};
    imp_error error;
    (void)state;
    assert_int_equal(add(a, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(add(b, "p", IMP_PHASE_POLICY, NULL, NULL, NULL), IMP_OK);
    assert_int_equal(imp_hook_ask_now(NULL, "p", &trace, &error), IMP_OK);
    assert_string_equal(trace.text, "a b");
    trace = (struct trace){.answering = "a", .answer = IMP_HOOK_DONE};
    assert_int_equal(imp_hook_ask_now(NULL, "p", &trace, &error), IMP_OK);
    assert_string_equal(trace.text, "a");
    trace = (struct trace){.answering = "b", .answer = IMP_HOOK_REFUSE};
    assert_int_equal(imp_hook_ask_now(NULL, "p", &trace, &error), IMP_LIMIT);
    assert_string_equal(error.message, "no paper today");
    trace = (struct trace){.answering = "a", .answer = IMP_HOOK_SUSPEND, .resumes_inside = true};
    assert_int_equal(imp_hook_ask_now(NULL, "p", &trace, &error), IMP_UNSUPPORTED);
    assert_string_equal(trace.text, "a");
    self_free_for_test(a);
    self_free_for_test(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_point_without_hooks_is_done_at_once),
        cmocka_unit_test(phases_come_first_then_before_and_after_then_names),
        cmocka_unit_test(a_circle_is_refused_by_name_and_the_others_stay),
        cmocka_unit_test(a_hook_that_can_not_be_is_refused),
        cmocka_unit_test(done_and_refuse_end_the_run),
        cmocka_unit_test(a_suspended_run_goes_on_where_it_was),
        cmocka_unit_test(a_resume_from_within_counts_as_the_answer),
        cmocka_unit_test(hooks_that_went_during_a_suspension_are_not_asked),
        cmocka_unit_test(the_end_of_the_suspending_module_refuses_and_a_late_resume_is_safe),
        cmocka_unit_test(the_end_of_the_asking_module_calls_its_done),
        cmocka_unit_test(asking_now_takes_no_suspension),
    };
    return cmocka_run_group_tests_name("hook", tests, set_up, tear_down);
}
