/* SPDX-License-Identifier: Apache-2.0 */
/* What viewers see of jobs, in which order, and by which way it is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/time.h"
#include "modules/jobs/jobs-view.h"
#include "modules/jobs/tests/jobs-fixture.h"

static struct jobs_fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_begin(&fx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fx);
    return 0;
}

struct seen {
    uint32_t count, named, owned, last_position;
    bool in_order;
};

static bool see(const imp_job_view *view, void *arg)
{
    struct seen *seen = arg;
    seen->in_order = seen->in_order && view->position == seen->last_position + 1;
    seen->last_position = view->position;
    seen->count++;
    seen->named += view->job_name[0] != '\0' ? 1 : 0;
    seen->owned += imp_id_is_zero(view->owner_id) ? 0 : 1;
    return true;
}

static struct seen list(const imp_viewer *viewer, const imp_job_filter *filter)
{
    struct seen seen = {.in_order = true};
    imp_error error;
    assert_int_equal(
        fixture_service()->job_list(fx.self, fx.self, viewer, filter, see, &seen, &error), IMP_OK);
    return seen;
}

static void a_view_shows_what_its_viewer_may_see(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        fixture_job(&fx, "hold", "alice");
        fixture_job(&fx, "hold", "bob");
    }
    imp_job_filter filter = {.size = sizeof filter, .queue = "hold"};
    imp_viewer nobody = {.size = sizeof nobody, .user_name = "alice", .address = "192.0.2.9"};
    imp_viewer proved = nobody, alice = {.size = sizeof alice, .principal = fx.alice};
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    proved.host_is_proof = true;
    struct seen seen = list(&nobody, &filter);
    assert_true(seen.count == 6 && seen.named == 0 && seen.owned == 0 && seen.in_order);
    seen = list(&proved, &filter);
    assert_true(seen.count == 6 && seen.named == 3 && seen.owned == 3);
    seen = list(&alice, &filter);
    assert_true(seen.count == 6 && seen.named == 3 && seen.owned == 3);
    seen = list(&administrator, &filter);
    assert_true(seen.count == 6 && seen.named == 0 && seen.owned == 6);
    filter.only_mine = true;
    seen = list(&alice, &filter);
    assert_true(seen.count == 3 && seen.last_position == 5);
    filter = (imp_job_filter){.size = sizeof filter, .limit = 4};
    assert_int_equal(list(&administrator, &filter).count, 4);
}

static void ended_jobs_are_listed_when_asked_for(void **state)
{
    (void)state;
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    imp_job_filter filter = {.size = sizeof filter, .queue = "hold"};
    imp_id job = fixture_job(&fx, "hold", "alice");
    fixture_job(&fx, "direct", "alice");
    assert_int_equal(fixture_cancel(&fx, job, &administrator).status, IMP_OK);
    assert_int_equal(list(&administrator, &filter).count, 0);
    filter.include_final = true;
    assert_int_equal(list(&administrator, &filter).count, 1);
    filter.queue = NULL;
    assert_int_equal(list(&administrator, &filter).count, 2);
}

struct page {
    uint32_t count;
    uint64_t sequences[16];
    uint32_t positions[16];
};

static bool see_page(const imp_job_view *view, void *arg)
{
    struct page *page = arg;
    assert_true(page->count < 16);
    page->sequences[page->count] = view->sequence;
    page->positions[page->count++] = view->position;
    return true;
}

static int64_t rows_read; /* for the page before */

static struct page list_page(const imp_viewer *viewer, const imp_job_filter *filter)
{
    struct page page = {0};
    imp_error error;
    rows_read = -imp_metric_value(fx.jobs->metrics.view_rows);
    assert_int_equal(
        fixture_service()->job_list(fx.self, fx.self, viewer, filter, see_page, &page, &error),
        IMP_OK);
    rows_read += imp_metric_value(fx.jobs->metrics.view_rows);
    for (uint32_t i = 1; i < page.count; i++)
        assert_true(page.sequences[i] > page.sequences[i - 1]);
    return page;
}

/* A listing that takes several transactions, or that its caller cuts, is the same listing. */
static void a_listing_goes_on_where_it_ended(void **state)
{
    (void)state;
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    fixture_queue(&fx, &(struct fixture_queue){.name = "other"});
    for (int i = 0; i < 4; i++) {
        fixture_job(&fx, "hold", "alice");
        fixture_job(&fx, "other", "bob");
    }
    for (uint32_t looks = 1; looks <= 9; looks++) {
        imp_job_filter filter = {.size = sizeof filter};
        fx.jobs->view_looks = looks;
        for (int final = 0; final < 2; final++) {
            filter.include_final = final == 1;
            filter.after = 0;
            struct page page = list_page(&administrator, &filter);
            assert_int_equal(page.count, 8);
            for (uint32_t i = 0; i < 8; i++)
                assert_int_equal(page.positions[i], i / 2 + 1); /* each in its own queue */
            filter.after = page.sequences[4];
            struct page rest = list_page(&administrator, &filter);
            assert_int_equal(rest.count, 3);
            assert_int_equal(rest.sequences[0], page.sequences[5]);
            assert_int_equal(rest.positions[0], 3);
        }
        filter.queue = "other";
        filter.after = UINT64_MAX;
        assert_int_equal(list_page(&administrator, &filter).count, 0);
    }
}

static void a_listing_goes_on_after_a_job_that_is_forgotten(void **state)
{
    (void)state;
    uint64_t sequence = 0;
    uint8_t key[JOBS_SEQUENCE_SIZE];
    imp_id job;
    for (int i = 0; i < 3; i++)
        fixture_job(&fx, "hold", "alice");
    jobs_put_u64(key, 2);
    fixture_delete(&fx, fx.jobs->tables.job, key, sizeof key);
    assert_int_equal(view_find(fx.jobs, "2", &job), IMP_NOT_FOUND);
    assert_int_equal(view_find_sequence(fx.jobs, "2", &sequence), IMP_OK);
    assert_int_equal(sequence, 2);
    static const char *const none[] = {"0", "4", "99", "", "2x", "-1", "2147483648"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(view_find_sequence(fx.jobs, none[i], &sequence), IMP_NOT_FOUND);
}

/* Who sends ten jobs to a queue of 100,000 looks at ten. */
static void ones_own_jobs_are_found_by_an_index(void **state)
{
    (void)state;
    imp_viewer proved = {.size = sizeof proved,
                         .user_name = "stranger",
                         .address = "192.0.2.9",
                         .host_is_proof = true};
    imp_viewer alice = {.size = sizeof alice, .principal = fx.alice};
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    imp_job_filter filter = {.size = sizeof filter, .queue = "hold", .only_mine = true};
    imp_id jobs[9];
    for (int i = 0; i < 9; i++)
        jobs[i] = fixture_job(&fx, "hold", i % 3 == 0 ? "alice" : i % 3 == 1 ? "bob" : "stranger");
    struct page page = list_page(&proved, &filter);
    assert_int_equal(page.count, 3);
    assert_int_equal(rows_read, 3);
    assert_int_equal(page.positions[2], 9);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submitted), 9);
    page = list_page(&alice, &filter);
    assert_int_equal(page.count, 3);
    assert_int_equal(rows_read, 3);
    assert_int_equal(page.positions[1], 4);
    proved.principal = fx.alice; /* by both proofs, each job once */
    proved.user_name = "alice";
    assert_int_equal(list_page(&proved, &filter).count, 3);
    proved.user_name = "stranger";
    assert_int_equal(list_page(&proved, &filter).count, 6);
    assert_int_equal(fixture_cancel(&fx, jobs[0], &administrator).status, IMP_OK);
    assert_int_equal(list_page(&proved, &filter).count, 5);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.submitted), 8);
    filter.include_final = true;
    assert_int_equal(list_page(&proved, &filter).count, 6);
    assert_int_equal(list_page(&alice, &filter).count, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_view_shows_what_its_viewer_may_see),
        TEST(ended_jobs_are_listed_when_asked_for),
        TEST(a_listing_goes_on_where_it_ended),
        TEST(a_listing_goes_on_after_a_job_that_is_forgotten),
        TEST(ones_own_jobs_are_found_by_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
