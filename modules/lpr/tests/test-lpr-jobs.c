/* SPDX-License-Identifier: Apache-2.0 */
/* Which file belongs to which job: by the names of RFC 1179, and by order where clients ignore them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modules/lpr/lpr-jobs.h"

static struct lpr_jobs jobs;

static int setup(void **state)
{
    (void)state;
    memset(&jobs, 0, sizeof jobs);
    assert_non_null(lpr_jobs_add(&jobs)); /* the door's */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lpr_jobs_clear(&jobs);
    assert_int_equal(jobs.count, 0);
    return 0;
}

static struct lpr_file file_named(char code, const char *name)
{
    struct lpr_file file;
    char line[LPR_LINE_MAX];
    int length = snprintf(line, sizeof line, "%c10 %s", code, name);
    assert_int_equal(lpr_file_parse((const uint8_t *)line, (size_t)length, &file), IMP_OK);
    return file;
}

/* A data file comes; its job. */
static struct lpr_job *data(const char *name)
{
    struct lpr_file file = file_named(LPR_DATA_FILE, name);
    struct lpr_job *job = lpr_jobs_for_data(&jobs, &file);
    assert_non_null(job);
    assert_true(lpr_job_data_is_here(job, &file));
    return job;
}

/* A control file comes that lists `first` and, if not NULL, `second`; its job. */
static struct lpr_job *control(const char *name, const char *first, const char *second)
{
    char text[3 * LPR_FILE_NAME_MAX];
    int length = snprintf(text, sizeof text, "Hhost\nPanna\n");
    if (first != NULL)
        length += snprintf(text + length, sizeof text - (size_t)length, "l%s\n", first);
    if (second != NULL)
        length += snprintf(text + length, sizeof text - (size_t)length, "l%s\n", second);
    struct lpr_file file = file_named(LPR_CONTROL_FILE, name);
    struct lpr_control *read = calloc(1, sizeof *read);
    assert_non_null(read);
    assert_int_equal(lpr_control_parse((const uint8_t *)text, (size_t)length, read), IMP_OK);
    struct lpr_job *job = lpr_jobs_for_control(&jobs, &file, read);
    assert_non_null(job);
    lpr_job_control_is_here(job, &file, read);
    return job;
}

/* As after the commit. */
static void leave(struct lpr_job *job)
{
    lpr_jobs_remove(&jobs, job);
    lpr_job_free(job);
}

static void test_the_first_file_takes_the_door_s_job(void **state)
{
    (void)state;
    assert_ptr_equal(data("dfA001host"), jobs.jobs[0]);
    assert_int_equal(jobs.count, 1);
    teardown(NULL);
    assert_non_null(lpr_jobs_add(&jobs));
    assert_ptr_equal(control("cfA001host", "dfA001host", NULL), jobs.jobs[0]);
    assert_int_equal(jobs.count, 1);
}

static void test_data_of_two_jobs_before_both_control_files_stays_apart(void **state)
{
    (void)state;
    struct lpr_job *one = data("dfA001host"), *two = data("dfA002host");
    assert_ptr_not_equal(one, two);
    assert_false(lpr_job_is_complete(one));
    assert_ptr_equal(control("cfA002host", "dfA002host", NULL), two);
    assert_true(lpr_job_is_complete(two));
    assert_false(lpr_job_is_complete(one));
    assert_ptr_equal(control("cfA001host", "dfA001host", NULL), one);
    assert_true(lpr_job_is_complete(one));
    assert_int_equal(one->number, 1);
    assert_int_equal(two->number, 2);
}

static void test_another_host_is_another_job(void **state)
{
    (void)state;
    struct lpr_job *one = data("dfA001here"), *two = data("dfA001there");
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(control("cfA001there", "dfA001there", NULL), two);
    assert_ptr_equal(control("cfA001here", "dfA001here", NULL), one);
}

static void test_files_of_one_job_come_together(void **state)
{
    (void)state;
    static const char *const names[] = {"dfA777host", "dfB777host", "dfZ777host", "dfa777host"};
    struct lpr_job *other = data("dfA778host"), *job = data(names[0]);
    for (size_t i = 1; i < sizeof names / sizeof *names; i++)
        assert_ptr_equal(data(names[i]), job);
    assert_ptr_not_equal(job, other);
    assert_int_equal(job->data_count, 4);
    /* the control file lists two of them: they are what it waits for */
    assert_ptr_equal(control("cfA777host", names[1], names[0]), job);
    assert_true(lpr_job_is_complete(job));
}

static void test_the_same_file_twice_is_two_jobs(void **state)
{
    (void)state;
    struct lpr_job *one = data("dfA001host"), *two = data("dfA001host");
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(control("cfA001host", "dfA001host", NULL), one);
    leave(one);
    assert_ptr_equal(control("cfA001host", "dfA001host", NULL), two);
}

static void test_a_control_file_finds_what_it_lists_under_any_number(void **state)
{
    (void)state;
    struct lpr_job *one = data("dfA001host"), *two = data("dfA777other");
    assert_ptr_equal(control("cfA001host", "dfA777other", NULL), two);
    assert_ptr_equal(control("cfA777other", "dfA001host", NULL), one);
}

static void test_a_host_that_is_cut_is_found_by_its_number(void **state)
{
    (void)state;
    struct lpr_job *one = data("dfA001a-rather-long-name"), *two = data("dfA002a-rather-long-name");
    assert_ptr_equal(control("cfA002a-rather", "dfA002a-rather", NULL), two);
    assert_ptr_equal(control("cfA001a-rather", "dfA001a-rather", NULL), one);
}

static void test_order_decides_where_names_do_not(void **state)
{
    (void)state;
    struct lpr_job *one = data("dfA001host"), *two = data("dfA002host");
    assert_ptr_equal(control("cfA333host", "dfA333host", NULL), one);
    assert_true(lpr_job_is_complete(one));
    assert_ptr_equal(control("cfA444host", "dfA444host", NULL), two);
    leave(one);
    leave(two);
    struct lpr_job *three = control("cfA005host", "dfA005host", NULL);
    assert_ptr_equal(data("dfA999elsewhere"), three);
    assert_true(lpr_job_is_complete(three));
}

static void test_control_files_before_their_data_find_it_by_name(void **state)
{
    (void)state;
    struct lpr_job *one = control("cfA001host", "dfA001host", NULL);
    struct lpr_job *two = control("cfA002host", "dfA002host", "dfB002host");
    assert_ptr_equal(data("dfB002host"), two);
    assert_ptr_equal(data("dfA001host"), one);
    assert_true(lpr_job_is_complete(one));
    /* not listed by this name, but of this number and host */
    assert_ptr_equal(data("dfC002host"), two);
    assert_true(lpr_job_is_complete(two));
}

static void test_complete_jobs_get_nothing_more(void **state)
{
    (void)state;
    struct lpr_job *one = control("cfA001host", "dfA001host", NULL);
    data("dfA001host");
    assert_ptr_not_equal(data("dfA001host"), one);
    assert_ptr_not_equal(data("dfB001host"), one);
}

static void test_a_control_file_without_list_takes_one_file(void **state)
{
    (void)state;
    struct lpr_job *job = control("cfA001host", NULL, NULL);
    assert_false(lpr_job_is_complete(job));
    assert_ptr_equal(data("dfA001host"), job);
    assert_true(lpr_job_is_complete(job));
    leave(job);
    job = data("dfA002host");
    assert_ptr_equal(data("dfB002host"), job);
    assert_ptr_equal(control("cfA002host", NULL, NULL), job);
    assert_true(lpr_job_is_complete(job));
}

static void test_names_of_no_form_are_one_job(void **state)
{
    (void)state;
    struct lpr_job *job = data("first");
    assert_ptr_equal(data("second"), job);
    assert_ptr_equal(data("second"), job);
    assert_ptr_not_equal(data("dfA001host"), job);
    assert_ptr_equal(control("control", "first", "second"), job);
    assert_false(job->has_number);
}

static void test_a_number_may_come_from_the_data_alone(void **state)
{
    (void)state;
    struct lpr_job *job = control("control", "dfA042host", NULL);
    assert_false(job->has_number);
    data("dfA042host");
    assert_true(job->has_number);
    assert_int_equal(job->number, 42);
}

static void test_jobs_of_one_connection_are_bounded(void **state)
{
    (void)state;
    char name[] = "dfA00?host";
    for (int i = 0; i < LPR_JOBS_PENDING_MAX; i++) {
        name[5] = (char)('0' + i);
        data(name);
    }
    struct lpr_file file = file_named(LPR_DATA_FILE, "dfA999host");
    assert_null(lpr_jobs_for_data(&jobs, &file));
    file = file_named(LPR_DATA_FILE, "dfB003host");
    assert_non_null(lpr_jobs_for_data(&jobs, &file));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_first_file_takes_the_door_s_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_data_of_two_jobs_before_both_control_files_stays_apart,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_host_is_another_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_of_one_job_come_together, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_same_file_twice_is_two_jobs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_control_file_finds_what_it_lists_under_any_number,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_host_that_is_cut_is_found_by_its_number, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_order_decides_where_names_do_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_files_before_their_data_find_it_by_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_complete_jobs_get_nothing_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_control_file_without_list_takes_one_file, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_names_of_no_form_are_one_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_number_may_come_from_the_data_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_jobs_of_one_connection_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests_name("lpr-jobs", tests, NULL, NULL);
}
