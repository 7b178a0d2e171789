/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loops: the order of posts, timers under a clock that the test moves, works and their cancelling,
 * and the end of a generation and of the loops.
 */
#include "net-fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#define TICK0 (1000 * IMP_SECOND)

static imp_self *self;

static int single_up(void **state)
{
    imp_error error;
    (void)state;
    time_freeze_for_test(1, TICK0);
    self = self_new_for_test("tester");
    assert_non_null(self);
    assert_int_equal(loop_setup_for_test(&error), IMP_OK);
    return 0;
}

static int single_down(void **state)
{
    (void)state;
    worker_stop();
    loop_stop();
    self_free_for_test(self);
    loop_teardown();
    time_thaw_for_test();
    return 0;
}

/* ---- posts ---- */

static struct {
    int order[64];
    int count;
} notes;

static void note(int value)
{
    notes.order[notes.count++] = value;
}

static void note_post(void *arg)
{
    note((int)(intptr_t)arg);
}

static void post_from_within(void *arg)
{
    note(1);
    assert_int_equal(imp_post(self, imp_loop_current(), note_post, (void *)(intptr_t)3), IMP_OK);
    note(2);
    (void)arg;
}

static void posts_run_in_order_and_never_within_the_caller(void **state)
{
    (void)state;
    memset(&notes, 0, sizeof notes);
    imp_loop *loop = imp_loop_control();
    assert_int_equal(imp_post(self, loop, post_from_within, NULL), IMP_OK);
    assert_int_equal(imp_post(self, loop, note_post, (void *)(intptr_t)9), IMP_OK);
    assert_int_equal(notes.count, 0);
    assert_true(loop_run_once(loop, false));
    assert_int_equal(notes.count, 3); /* 1, 2, 9: the inner post waits for the next turn */
    assert_int_equal(notes.order[2], 9);
    assert_true(loop_run_once(loop, false));
    assert_int_equal(notes.count, 4);
    assert_int_equal(notes.order[3], 3);
    assert_false(loop_run_once(loop, false));
}

/* ---- timers ---- */

static imp_timer *periodic;
static int ticks_left;

static void periodic_fired(void *arg)
{
    (void)arg;
    note(7);
    if (--ticks_left == 0)
        imp_timer_cancel(periodic);
}

static void timers_fire_when_due_and_in_order(void **state)
{
    (void)state;
    memset(&notes, 0, sizeof notes);
    imp_loop *loop = imp_loop_control();
    const int delays[] = {50, 10, 40, 20, 30, 10};
    for (size_t i = 0; i < 6; i++)
        assert_non_null(imp_timer_start(self, delays[i] * IMP_MILLISECOND, false, note_post,
                                        (void *)(intptr_t)delays[i]));
    imp_timer *cancelled = imp_timer_start(self, 15 * IMP_MILLISECOND, false, note_post, NULL);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 0);
    imp_timer_cancel(cancelled);
    imp_timer_cancel(NULL);
    time_advance_for_test(25 * IMP_MILLISECOND);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 3);
    time_advance_for_test(25 * IMP_MILLISECOND);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 6);
    const int order[] = {10, 10, 20, 30, 40, 50};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(notes.order[i], order[i]);
    assert_int_equal(loop_object_count(self, LOOP_OBJECT_TIMER), 0);
}

static void a_periodic_timer_repeats_skips_and_is_cancelled_from_within(void **state)
{
    (void)state;
    memset(&notes, 0, sizeof notes);
    imp_loop *loop = imp_loop_control();
    ticks_left = 3;
    periodic = imp_timer_start(self, IMP_SECOND, true, periodic_fired, NULL);
    time_advance_for_test(IMP_SECOND);
    loop_run_once(loop, false);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 1);
    time_advance_for_test(10 * IMP_SECOND); /* missed turns are not made up for */
    loop_run_once(loop, false);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 2);
    time_advance_for_test(IMP_SECOND);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 3);
    time_advance_for_test(10 * IMP_SECOND);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 3);
    assert_int_equal(loop_object_count(self, LOOP_OBJECT_TIMER), 0);
}

static void many_timers_keep_their_order(void **state)
{
    (void)state;
    imp_loop *loop = imp_loop_control();
    uint32_t seed = 7;
    imp_timer *handles[1000];
    for (size_t i = 0; i < 1000; i++) {
        seed = seed * 1664525u + 1013904223u;
        handles[i] = imp_timer_start(self, 1 + (int64_t)(seed >> 12), false, note_post, (void *)5);
        assert_non_null(handles[i]);
    }
    for (size_t i = 0; i < 1000; i++)
        if (i % 50 != 0)
            imp_timer_cancel(handles[i]);
    assert_int_equal(loop_object_count(self, LOOP_OBJECT_TIMER), 20);
    memset(&notes, 0, sizeof notes);
    time_advance_for_test(IMP_SECOND * 10);
    loop_run_once(loop, false);
    assert_int_equal(notes.count, 20);
}

/* ---- descriptors ---- */

static uint32_t watch_calls;

static void watch_called(int fd, uint32_t events, void *arg)
{
    loop_watch **watch = arg;
    char byte;
    assert_true((events & LOOP_READ) != 0);
    watch_calls++;
    if (watch != NULL) {
        assert_int_equal(read(fd, &byte, 1), 1);
        loop_watch_stop(*watch);
        *watch = NULL;
    }
}

static void a_watch_reports_levels_or_edges(void **state)
{
    (void)state;
    imp_loop *loop = imp_loop_control();
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    watch_calls = 0;
    loop_watch *watch = loop_watch_start(loop, fds[0], LOOP_READ | LOOP_EDGE, watch_called, NULL);
    assert_non_null(watch);
    assert_int_equal(write(fds[1], "x", 1), 1);
    for (int i = 0; i < 3; i++)
        loop_run_once(loop, false);
    assert_int_equal(watch_calls, 1);
    assert_int_equal(loop_watch_set(watch, LOOP_READ), IMP_OK);
    for (int i = 0; i < 3; i++)
        loop_run_once(loop, false);
    assert_int_equal(watch_calls, 4);
    assert_int_equal(loop_watch_set(watch, 0), IMP_OK);
    loop_run_once(loop, false);
    assert_int_equal(watch_calls, 4);
    loop_watch_stop(watch);
    loop_watch *own = NULL;
    own = loop_watch_start(loop, fds[0], LOOP_READ, watch_called, &own);
    TURN_UNTIL(own == NULL);
    close(fds[0]);
    close(fds[1]);
}

/* ---- works ---- */

struct work {
    atomic_int ran, done, cancelled;
    atomic_bool may_end, has_begun;
};

static void work_run(void *arg)
{
    struct work *work = arg;
    work->has_begun = true;
    while (!work->may_end) {
        struct pollfd none = {.fd = -1};
        poll(&none, 1, 1);
    }
    work->ran++;
}

static void work_done(void *arg, bool was_cancelled)
{
    struct work *work = arg;
    assert_ptr_equal(imp_loop_current(), imp_loop_control());
    work->done++;
    work->cancelled += was_cancelled;
}

static void works_run_without_threads_in_tests(void **state)
{
    (void)state;
    struct work work = {.may_end = true};
    assert_non_null(imp_work(self, work_run, work_done, &work));
    assert_int_equal(work.ran, 0);
    TURN_UNTIL(work.done == 1);
    assert_int_equal(work.ran, 1);
    assert_int_equal(work.cancelled, 0);
}

static void done_comes_exactly_once_cancelled_or_not(void **state)
{
    (void)state;
    imp_error error;
    struct work running = {0}, waiting = {0}, third = {.may_end = true};
    assert_int_equal(worker_start(1, 2, &error), IMP_OK);
    imp_work_token *first = imp_work(self, work_run, work_done, &running);
    TURN_UNTIL(running.has_begun);
    imp_work_token *second = imp_work(self, work_run, work_done, &waiting);
    assert_non_null(second);
    assert_non_null(imp_work(self, work_run, work_done, &third));
    assert_null(imp_work(self, work_run, work_done, &third)); /* queue of 2 is full */
    assert_int_equal(worker_waiting(), 2);
    imp_work_cancel(second);
    imp_work_cancel(second);
    assert_int_equal(waiting.done, 0); /* never from within */
    imp_work_cancel(first);            /* runs already: too late */
    imp_work_cancel(first);
    running.may_end = true;
    TURN_UNTIL(running.done + waiting.done + third.done == 3);
    assert_int_equal(running.ran, 1);
    assert_int_equal(running.cancelled, 0);
    assert_int_equal(waiting.ran, 0);
    assert_int_equal(waiting.cancelled, 1);
    assert_int_equal(third.ran, 1);
    turn_idle();
    assert_int_equal(running.done + waiting.done + third.done, 3);
    assert_int_equal(loop_object_count(self, LOOP_OBJECT_WORK), 0);
}

static void stopping_the_workers_cancels_what_waits(void **state)
{
    (void)state;
    imp_error error;
    struct work running = {0}, waiting = {0};
    assert_int_equal(worker_start(1, 8, &error), IMP_OK);
    assert_non_null(imp_work(self, work_run, work_done, &running));
    TURN_UNTIL(running.has_begun);
    assert_non_null(imp_work(self, work_run, work_done, &waiting));
    running.may_end = true;
    worker_stop();
    assert_null(imp_work(self, work_run, work_done, &waiting));
    TURN_UNTIL(running.done == 1 && waiting.done == 1);
    assert_int_equal(running.ran, 1);
    /* The worker may have taken it before it was told to stop. */
    assert_int_equal(waiting.ran + waiting.cancelled, 1);
}

static void work_run_until_unwanted(void *arg)
{
    struct work *work = arg;
    work->has_begun = true;
    while (!imp_work_is_cancelled()) {
        struct pollfd none = {.fd = -1};
        poll(&none, 1, 1);
    }
    work->ran++;
}

static void a_running_work_may_ask_whether_it_is_wanted(void **state)
{
    (void)state;
    imp_error error;
    struct work one = {0}, other = {0};
    assert_false(imp_work_is_cancelled()); /* no work */
    assert_int_equal(worker_unfinished(), 0);
    assert_int_equal(worker_start(1, 8, &error), IMP_OK);
    imp_work_token *token = imp_work(self, work_run_until_unwanted, work_done, &one);
    TURN_UNTIL(one.has_begun);
    assert_non_null(imp_work(self, work_run_until_unwanted, work_done, &other));
    assert_int_equal(worker_unfinished(), 2);
    imp_work_cancel(token);
    TURN_UNTIL(one.done == 1 && other.has_begun);
    assert_int_equal(one.ran, 1);
    assert_int_equal(one.cancelled, 0); /* it ran */
    worker_refuse();
    assert_null(imp_work(self, work_run_until_unwanted, work_done, &one));
    TURN_UNTIL(other.done == 1);
    assert_int_equal(worker_unfinished(), 0);
    worker_stop();
}

/* ---- the end of a generation ---- */

static void nothing_of_a_cut_generation_is_left_or_starts(void **state)
{
    (void)state;
    imp_error error;
    struct work running = {0}, waiting = {0};
    memset(&notes, 0, sizeof notes);
    assert_int_equal(worker_start(1, 8, &error), IMP_OK);
    assert_non_null(imp_timer_start(self, IMP_SECOND, false, note_post, (void *)1));
    imp_timer *periodic_one = imp_timer_start(self, IMP_SECOND, true, note_post, (void *)1);
    assert_non_null(periodic_one);
    imp_timer *cores = imp_timer_start(NULL, IMP_SECOND, false, note_post, (void *)2);
    assert_non_null(cores);
    assert_non_null(imp_work(self, work_run, work_done, &running));
    TURN_UNTIL(running.has_begun);
    assert_non_null(imp_work(self, work_run, work_done, &waiting));
    assert_int_equal(imp_post(self, imp_loop_control(), note_post, (void *)3), IMP_OK);
    assert_int_equal(self_left(self, NULL, NULL), 5);
    self_end(self, SELF_CUT);
    assert_int_equal(imp_post(self, imp_loop_control(), note_post, NULL), IMP_UNAVAILABLE);
    assert_null(imp_timer_start(self, 1, false, note_post, NULL));
    assert_null(imp_work(self, work_run, work_done, &waiting));
    TURN_UNTIL(waiting.done == 1);
    assert_int_equal(waiting.cancelled, 1);
    assert_int_equal(notes.order[0], 3);              /* what was posted before is still run */
    assert_int_equal(self_left(self, NULL, NULL), 1); /* the work that a worker has */
    running.may_end = true;
    TURN_UNTIL(self_left(self, NULL, NULL) == 0);
    assert_int_equal(running.done, 1);
    time_advance_for_test(5 * IMP_SECOND);
    loop_run_once(imp_loop_control(), false);
    assert_int_equal(notes.count, 2);
    assert_int_equal(notes.order[1], 2); /* the core's timer lives on */
    imp_timer_cancel(periodic_one);      /* as a module's stop() does; the other is swept */
}

static void no_callback_goes_into_a_swept_generation(void **state)
{
    (void)state;
    imp_error error;
    struct work running = {0}, waiting = {0};
    memset(&notes, 0, sizeof notes);
    assert_int_equal(worker_start(1, 8, &error), IMP_OK);
    assert_non_null(imp_work(self, work_run, work_done, &running));
    TURN_UNTIL(running.has_begun);
    assert_non_null(imp_work(self, work_run, work_done, &waiting));
    assert_non_null(imp_timer_start(self, 0, false, note_post, (void *)1));
    assert_int_equal(imp_post(self, imp_loop_control(), note_post, (void *)3), IMP_OK);
    self_end(self, SELF_SWEEP);
    running.may_end = true;
    TURN_UNTIL(self_left(self, NULL, NULL) == 0);
    assert_int_equal(notes.count, 0);
    assert_int_equal(running.done + waiting.done, 0);
}

/* ---- threads ---- */

#define POSTERS 4
#define POSTS 10000

struct poster {
    pthread_t thread;
    int number;
    imp_loop *target;
};

static struct {
    int last[POSTERS];
    int count;
    bool is_ordered;
    atomic_bool is_all;
} posted;

static void post_counted(void *arg)
{
    intptr_t value = (intptr_t)arg;
    int poster = (int)(value % POSTERS), number = (int)(value / POSTERS);
    posted.is_ordered = posted.is_ordered && posted.last[poster] == number;
    posted.last[poster] = number + 1;
    if (++posted.count == POSTERS * POSTS)
        posted.is_all = true;
}

static void *poster_thread(void *arg)
{
    struct poster *poster = arg;
    for (intptr_t i = 0; i < POSTS; i++)
        assert_int_equal(
            loop_post_core(poster->target, post_counted, (void *)(i * POSTERS + poster->number)),
            IMP_OK);
    return NULL;
}

static void each_threads_posts_keep_their_order(void **state)
{
    (void)state;
    imp_error error;
    struct poster posters[POSTERS];
    imp_self *own = self_new_for_test("tester");
    memset(&posted, 0, sizeof posted);
    posted.is_ordered = true;
    assert_int_equal(loop_setup(3, &error), IMP_OK);
    assert_int_equal(imp_loop_count(), 3);
    assert_int_equal(imp_loop_index(imp_loop_control()), 3);
    assert_ptr_equal(imp_loop_current(), imp_loop_control());
    assert_int_equal(loop_start(&error), IMP_OK);
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.number = i, .target = imp_loop_at(1)};
        pthread_create(&posters[i].thread, NULL, poster_thread, &posters[i]);
    }
    for (int i = 0; i < POSTERS; i++)
        pthread_join(posters[i].thread, NULL);
    TURN_UNTIL(posted.is_all);
    loop_stop();
    assert_true(posted.is_ordered);
    assert_int_equal(loop_post_core(imp_loop_at(1), post_counted, NULL), IMP_UNAVAILABLE);
    self_free_for_test(own);
    loop_teardown();
}

static atomic_int hops;

static void hop(void *arg)
{
    (void)arg;
    if (++hops >= 1000) {
        loop_break(imp_loop_control());
        return;
    }
    imp_loop *next = imp_loop_current() == imp_loop_at(0) ? imp_loop_at(1) : imp_loop_at(0);
    assert_int_equal(loop_post_core(next, hop, NULL), IMP_OK);
}

static void sleeping_loops_are_woken_by_posts(void **state)
{
    (void)state;
    imp_error error;
    imp_self *own = self_new_for_test("tester");
    hops = 0;
    assert_int_equal(loop_setup(2, &error), IMP_OK);
    assert_int_equal(loop_start(&error), IMP_OK);
    assert_int_equal(loop_post_core(imp_loop_at(0), hop, NULL), IMP_OK);
    loop_run(imp_loop_control());
    assert_int_equal(hops, 1000);
    loop_stop();
    self_free_for_test(own);
    loop_teardown();
}

static void remember(void *arg)
{
    *(bool *)arg = true;
}

static void what_was_posted_before_the_end_is_run(void **state)
{
    (void)state;
    imp_error error;
    bool has_run[100] = {false};
    imp_self *own = self_new_for_test("tester");
    assert_int_equal(loop_setup(2, &error), IMP_OK);
    assert_int_equal(loop_start(&error), IMP_OK);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(loop_post_core(imp_loop_at(i % 2), remember, &has_run[i]), IMP_OK);
    loop_stop();
    for (size_t i = 0; i < 100; i++)
        assert_true(has_run[i]);
    self_free_for_test(own);
    loop_teardown();
}

int main(void)
{
#define SINGLE(test) cmocka_unit_test_setup_teardown(test, single_up, single_down)
    const struct CMUnitTest tests[] = {
        SINGLE(posts_run_in_order_and_never_within_the_caller),
        SINGLE(timers_fire_when_due_and_in_order),
        SINGLE(a_periodic_timer_repeats_skips_and_is_cancelled_from_within),
        SINGLE(many_timers_keep_their_order),
        SINGLE(a_watch_reports_levels_or_edges),
        SINGLE(works_run_without_threads_in_tests),
        SINGLE(done_comes_exactly_once_cancelled_or_not),
        SINGLE(a_running_work_may_ask_whether_it_is_wanted),
        SINGLE(stopping_the_workers_cancels_what_waits),
        SINGLE(nothing_of_a_cut_generation_is_left_or_starts),
        SINGLE(no_callback_goes_into_a_swept_generation),
        cmocka_unit_test(each_threads_posts_keep_their_order),
        cmocka_unit_test(sleeping_loops_are_woken_by_posts),
        cmocka_unit_test(what_was_posted_before_the_end_is_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
