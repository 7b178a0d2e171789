/* SPDX-License-Identifier: Apache-2.0 */
/* The order of start follows from services alone, and each module that can't start is told why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* after the headers above */
#include <cmocka.h>

#include "core/module-plan.h"

#define ROW(n, r, p)                                                                               \
    {                                                                                              \
        .name = (n), .requires = (r), .provides = (p)                                              \
    }
#define COUNT(rows) ((uint32_t)(sizeof(rows) / sizeof((rows)[0])))

static void check_order(struct module_plan_row *rows, uint32_t count, const char *expected)
{
    uint32_t order[16];
    char text[256] = "";
    uint32_t started = module_plan(rows, count, order);
    for (uint32_t i = 0; i < started; i++) {
        strncat(text, i > 0 ? " " : "", sizeof(text) - strlen(text) - 1);
        strncat(text, rows[order[i]].name, sizeof(text) - strlen(text) - 1);
    }
    assert_string_equal(text, expected);
}

static void providers_start_before_those_that_need_them(void **state)
{
    struct module_plan_row rows[] = {ROW("accounts", "audit/1", "accounts/1"),
                                     ROW("audit", "", "audit/1"),
                                     ROW("devices", "audit/1", "devices/1"),
                                     ROW("jobs", "accounts/1 devices/1", "jobs/1"),
                                     ROW("lpr", "jobs/1", ""),
                                     ROW("a", "", "")};
    (void)state;
    check_order(rows, COUNT(rows), "audit accounts devices jobs lpr a");
}

static void a_missing_service_refuses_that_module_and_its_dependents_alone(void **state)
{
    struct module_plan_row rows[] = {ROW("audit", "", "audit/1"), ROW("jobs", "paper/1", "jobs/1"),
                                     ROW("lpr", "jobs/1", "")};
    (void)state;
    check_order(rows, COUNT(rows), "audit");
    assert_string_equal(rows[1].reason.message,
                        "needs service paper/1, which no enabled module offers");
    assert_string_equal(rows[2].reason.message,
                        "needs service jobs/1 of module jobs, which has failed");
}

static void another_major_is_named(void **state)
{
    struct module_plan_row rows[] = {ROW("jobs", "", "jobs/2"), ROW("lpr", "jobs/1", "")};
    (void)state;
    check_order(rows, COUNT(rows), "jobs");
    assert_string_equal(rows[1].reason.message,
                        "needs service jobs/1, but module jobs offers jobs/2");
}

static void two_majors_of_one_service_stand_side_by_side(void **state)
{
    struct module_plan_row rows[] = {ROW("a", "jobs/1", ""), ROW("b", "jobs/2", ""),
                                     ROW("jobs", "", "jobs/1 jobs/2")};
    (void)state;
    check_order(rows, COUNT(rows), "jobs a b");
}

static void a_circle_is_named_and_the_others_go_on(void **state)
{
    struct module_plan_row rows[] = {ROW("a", "b/1", "a/1"), ROW("b", "c/1", "b/1"),
                                     ROW("c", "a/1", "c/1"), ROW("d", "a/1", ""), ROW("e", "", "")};
    (void)state;
    check_order(rows, COUNT(rows), "e");
    for (int i = 0; i < 3; i++) {
        assert_non_null(strstr(rows[i].reason.message, "modules need each other in a circle: "));
        assert_non_null(strstr(rows[i].reason.message, "a needs b"));
    }
    assert_string_equal(rows[3].reason.message, "needs service a/1 of module a, which has failed");
}

static void a_service_is_offered_once(void **state)
{
    struct module_plan_row rows[] = {ROW("jobs", "", "jobs/1"), ROW("jobs2", "", "jobs/1"),
                                     ROW("lpr", "jobs/1", "")};
    (void)state;
    check_order(rows, COUNT(rows), "jobs lpr");
    assert_string_equal(rows[1].reason.message, "service jobs/1 is offered by module jobs already");
}

static void what_failed_before_offers_nothing(void **state)
{
    struct module_plan_row rows[] = {
        {.name = "jobs", .requires = "", .provides = "jobs/1", .is_refused = true},
        ROW("jobs2", "", "jobs/1"),
        ROW("lpr", "jobs/1", "")};
    (void)state;
    check_order(rows, COUNT(rows), "jobs2 lpr");
}

static void a_module_may_use_its_own_service(void **state)
{
    struct module_plan_row rows[] = {ROW("jobs", "jobs/1", "jobs/1")};
    (void)state;
    check_order(rows, COUNT(rows), "jobs");
}

static void no_module_is_no_order(void **state)
{
    (void)state;
    check_order(&(struct module_plan_row){.name = "unused"}, 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(providers_start_before_those_that_need_them),
        cmocka_unit_test(a_missing_service_refuses_that_module_and_its_dependents_alone),
        cmocka_unit_test(another_major_is_named),
        cmocka_unit_test(two_majors_of_one_service_stand_side_by_side),
        cmocka_unit_test(a_circle_is_named_and_the_others_go_on),
        cmocka_unit_test(a_service_is_offered_once),
        cmocka_unit_test(what_failed_before_offers_nothing),
        cmocka_unit_test(a_module_may_use_its_own_service),
        cmocka_unit_test(no_module_is_no_order),
    };
    return cmocka_run_group_tests_name("module-plan", tests, NULL, NULL);
}
