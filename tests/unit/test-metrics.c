/* SPDX-License-Identifier: Apache-2.0 */
/* test-metrics.c - registering, sweeping and the text form. */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/metrics.h"
#include "core/self.h"

/* The registry looks at a generation's name alone. */
static struct imp_self lpr = {.name = "lpr"}, lpr_next = {.name = "lpr"},
                       transport = {.name = "transport-socket"};

static int clear(void **state)
{
    (void)state;
    metrics_clear();
    return 0;
}

static void assert_text(const char *expected, bool is_there)
{
    size_t length;
    char *text = metrics_text(&length);
    assert_non_null(text);
    assert_int_equal(strlen(text), length);
    assert_true((strstr(text, expected) != NULL) == is_there);
    free(text);
}

static void test_families_are_grouped_with_help_and_type_once(void **state)
{
    (void)state;
    imp_metric *refused = imp_metric_register(&lpr, IMP_METRIC_COUNTER, "jobs_total",
                                              "result=\"refused\"", "jobs\nby \\ result");
    imp_metric *other =
        imp_metric_register(&transport, IMP_METRIC_GAUGE, "open", NULL, "open connections");
    imp_metric *accepted = imp_metric_register(&lpr, IMP_METRIC_COUNTER, "jobs_total",
                                               "result=\"accepted\"", "ignored");
    imp_metric *core = imp_metric_register(NULL, IMP_METRIC_GAUGE, "loops", NULL, "loops");
    imp_metric_add(refused, 2);
    imp_metric_add(refused, 1);
    imp_metric_set(other, -7);
    imp_metric_add(core, 4);
    assert_int_equal(imp_metric_value(refused), 3);
    assert_int_equal(imp_metric_value(accepted), 0);
    assert_text("# HELP imprimatur_loops loops\n"
                "# TYPE imprimatur_loops gauge\n"
                "imprimatur_loops 4\n"
                "# HELP imprimatur_lpr_jobs_total jobs\\nby \\\\ result\n"
                "# TYPE imprimatur_lpr_jobs_total counter\n"
                "imprimatur_lpr_jobs_total{result=\"accepted\"} 0\n"
                "imprimatur_lpr_jobs_total{result=\"refused\"} 3\n"
                "# HELP imprimatur_transport_socket_open open connections\n"
                "# TYPE imprimatur_transport_socket_open gauge\n"
                "imprimatur_transport_socket_open -7\n",
                true);
}

static void test_same_name_is_the_same_metric_over_generations(void **state)
{
    (void)state;
    imp_metric *first = imp_metric_register(&lpr, IMP_METRIC_COUNTER, "a_total", NULL, "a");
    imp_metric_add(first, 5);
    imp_metric *second = imp_metric_register(&lpr_next, IMP_METRIC_COUNTER, "a_total", NULL, "a");
    assert_ptr_equal(first, second);
    metrics_sweep(&lpr);
    assert_text("imprimatur_lpr_a_total 5\n", true);
    metrics_sweep(&lpr_next);
    assert_text("imprimatur_lpr_a_total", false);
}

static void test_core_metrics_survive_sweeps(void **state)
{
    (void)state;
    assert_non_null(imp_metric_register(NULL, IMP_METRIC_GAUGE, "kept", NULL, "kept"));
    metrics_sweep(&lpr);
    metrics_sweep(NULL);
    assert_text("imprimatur_kept 0\n", true);
}

static void test_wrong_names_labels_and_kinds_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"", "A", "a-b", "a b", "\xC3\xA4"};
    static const char *const labels[] = {"a",         "a=b",        "a=\"b",          "a=\"b\" ",
                                         "a=\"b\",",  "=\"b\"",     "1a=\"b\"",       "a=\"\\x\"",
                                         "a=\"b\n\"", "a=\"\xFF\"", "a=\"b\"c=\"d\"", "a=\"\\"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_null(imp_metric_register(&lpr, IMP_METRIC_GAUGE, names[i], NULL, "x"));
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++)
        assert_null(imp_metric_register(&lpr, IMP_METRIC_GAUGE, "x", labels[i], "x"));
    assert_null(imp_metric_register(&lpr, 9, "x", NULL, "x"));
    assert_text("imprimatur_lpr", false);
    assert_non_null(
        imp_metric_register(&lpr, IMP_METRIC_GAUGE, "x", "a=\"\\\\\\\"\\n\",b=\"\"", "x"));
    assert_null(imp_metric_register(&lpr, IMP_METRIC_COUNTER, "x", NULL, "another kind"));
}

static void test_null_metric_is_ignored(void **state)
{
    (void)state;
    imp_metric_add(NULL, 1);
    imp_metric_set(NULL, 1);
    assert_int_equal(imp_metric_value(NULL), 0);
}

static int64_t read_value(void *arg)
{
    return *(int64_t *)arg;
}

static void test_reader_is_asked_when_printed_and_scaled(void **state)
{
    (void)state;
    int64_t value = 1500001;
    assert_true(metrics_register_reader(NULL, IMP_METRIC_COUNTER, "time_seconds_total", NULL, "t",
                                        1000000, read_value, &value));
    assert_text("imprimatur_time_seconds_total 1.500001\n", true);
    value = -2000000;
    assert_text("imprimatur_time_seconds_total -2.000000\n", true);
}

static void test_process_metrics_and_info_are_there(void **state)
{
    (void)state;
    metrics_set_info("9.8.7", "north");
    assert_text("imprimatur_info{version=\"9.8.7\",instance_name=\"north\"} 1\n", true);
    assert_text("# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes ", true);
    assert_text("\nprocess_open_fds ", true);
    assert_text("\nprocess_cpu_seconds_total ", true);
    assert_text("\nprocess_start_time_seconds ", true);
}

static void *add_many(void *metric)
{
    for (int i = 0; i < 20000; i++)
        imp_metric_add(metric, 1);
    return NULL;
}

static void test_threads_lose_no_count(void **state)
{
    (void)state;
    pthread_t threads[4];
    imp_metric *metric = imp_metric_register(&lpr, IMP_METRIC_COUNTER, "n_total", NULL, "n");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, metric), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(imp_metric_value(metric), 80000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_families_are_grouped_with_help_and_type_once, clear),
        cmocka_unit_test_teardown(test_same_name_is_the_same_metric_over_generations, clear),
        cmocka_unit_test_teardown(test_core_metrics_survive_sweeps, clear),
        cmocka_unit_test_teardown(test_wrong_names_labels_and_kinds_are_refused, clear),
        cmocka_unit_test_teardown(test_null_metric_is_ignored, clear),
        cmocka_unit_test_teardown(test_reader_is_asked_when_printed_and_scaled, clear),
        cmocka_unit_test_teardown(test_process_metrics_and_info_are_there, clear),
        cmocka_unit_test_teardown(test_threads_lose_no_count, clear),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
