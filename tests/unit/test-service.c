/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services, snapshots and pins: a call finds the newest provider, pins it, and nothing that it may be
 * using is freed under it, whatever other threads do.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the headers above */
#include <cmocka.h>

#include "core/module.h"
#include "core/self.h"
#include "core/service.h"
#include "core/snapshot.h"
#include "core/thread.h"

#define DEADLINE (20 * IMP_SECOND)

struct clock_v1 {
    uint32_t size;
    uint64_t (*read)(imp_self *self);
};

static uint64_t read_instance(imp_self *self)
{
    return *(const uint64_t *)imp_self_instance(self);
}

static const struct clock_v1 CLOCK = {.size = sizeof(CLOCK), .read = read_instance};

static int set_up(void **state)
{
    (void)state;
    thread_register(THREAD_CONTROL, 0, NULL, NULL);
    return 0;
}

static uint64_t call(imp_self *self)
{
    imp_service_call entered;
    const struct clock_v1 *clock = imp_service_enter(self, "clock", 1, &entered);
    if (clock == NULL)
        return 0;
    uint64_t value = clock->read(entered.provider);
    imp_service_leave(&entered);
    return value;
}

static void a_service_is_found_by_name_and_major(void **state)
{
    struct imp_self *provider = self_new_for_test("clock"), *caller = self_new_for_test("user");
    uint64_t value = 7;
    imp_service_call entered;
    (void)state;
    provider->instance = &value;
    assert_int_equal(call(caller), 0);
    assert_int_equal(service_offer_for_test(provider, "clock", 1, &CLOCK), IMP_OK);
    assert_int_equal(call(caller), 7);
    assert_int_equal(call(NULL), 7);
    assert_null(imp_service_enter(caller, "clock", 2, &entered));
    assert_null(imp_service_enter(caller, "watch", 1, &entered));
    assert_ptr_equal(service_provider("clock", 1), provider);
    self_free_for_test(provider);
    assert_int_equal(call(caller), 0);
    self_free_for_test(caller);
}

static void a_service_that_was_not_declared_is_not_given(void **state)
{
    static const imp_service_need requires[] = {{"clock", 1}, {NULL, 0}};
    static const imp_service_need wants[] = {{"clock", 1}, {NULL, 0}};
    static const imp_service_need others[] = {{"clock", 2}, {"clocks", 1}, {NULL, 0}};
    imp_module descriptor = {.size = sizeof(descriptor)};
    struct imp_self *provider = self_new_for_test("clock"), *caller = self_new_for_test("user");
    uint64_t value = 7;
    (void)state;
    provider->instance = &value;
    assert_int_equal(service_offer_for_test(provider, "clock", 1, &CLOCK), IMP_OK);
    caller->is_test = false;
    caller->descriptor = &descriptor;
    assert_int_equal(call(caller), 0);
    descriptor.requires = others;
    assert_int_equal(call(caller), 0);
    descriptor.requires = requires;
    assert_int_equal(call(caller), 7);
    descriptor.requires = NULL;
    descriptor.wants = wants;
    assert_int_equal(call(caller), 7);
    self_free_for_test(caller);
    self_free_for_test(provider);
}

static void an_offer_that_can_not_be_is_refused(void **state)
{
    static const uint32_t only_a_size[] = {sizeof(uint32_t)};
    struct imp_self *one = self_new_for_test("one"), *two = self_new_for_test("two");
    imp_service_offer offer = {.name = "clock", .major = 1, .vtable = &CLOCK};
    imp_error error;
    (void)state;
    assert_int_equal(service_offer(one, &offer, NULL), IMP_OK);
    assert_int_equal(service_offer(two, &offer, &error), IMP_EXISTS);
    assert_string_equal(error.message, "service clock/1 is offered by module one already");
    offer.name = "Clock";
    assert_int_equal(service_offer(two, &offer, &error), IMP_INVALID);
    offer.name = "watch";
    offer.vtable = NULL;
    assert_int_equal(service_offer(two, &offer, &error), IMP_INVALID);
    offer.vtable = only_a_size;
    assert_int_equal(service_offer(two, &offer, &error), IMP_INVALID);
    self_free_for_test(one);
    self_free_for_test(two);
}

static void an_offer_is_not_seen_before_it_is_shown(void **state)
{
    struct imp_self *provider = self_new_for_test("clock");
    imp_service_offer offer = {.name = "clock", .major = 1, .vtable = &CLOCK};
    uint64_t value = 7;
    (void)state;
    provider->instance = &value;
    assert_int_equal(service_offer(provider, &offer, NULL), IMP_OK);
    assert_int_equal(snapshot_publish(NULL), IMP_OK);
    assert_int_equal(call(NULL), 0);
    service_show(provider);
    assert_int_equal(snapshot_publish(NULL), IMP_OK);
    assert_int_equal(call(NULL), 7);
    self_free_for_test(provider);
}

static void a_call_holds_a_pin_and_leaves_none(void **state)
{
    struct imp_self *provider = self_new_for_test("clock");
    imp_service_call entered;
    (void)state;
    assert_int_equal(service_offer_for_test(provider, "clock", 1, &CLOCK), IMP_OK);
    assert_int_equal(self_pins(provider), 0);
    assert_non_null(imp_service_enter(NULL, "clock", 1, &entered));
    assert_int_equal(self_pins(provider), 1);
    imp_service_leave(&entered);
    assert_int_equal(self_pins(provider), 0);
    self_free_for_test(provider);
}

/* ---- pins ---- */

static void *unpin_elsewhere(void *arg)
{
    thread_register(THREAD_WORKER, 0, NULL, NULL);
    imp_unpin(arg, "upload");
    thread_unregister();
    return NULL;
}

static void *pin_unregistered(void *arg)
{
    imp_pin(arg, "stray");
    return NULL;
}

static void a_pin_may_be_undone_on_another_thread(void **state)
{
    struct imp_self *self = self_new_for_test("lpr");
    pthread_t thread;
    (void)state;
    imp_pin(self, "upload");
    assert_int_equal(self_pins(self), 1);
    assert_string_equal(self->holders[0].name, "upload");
    assert_int_equal(self->holders[0].count, 1);
    assert_int_equal(pthread_create(&thread, NULL, unpin_elsewhere, self), 0);
    pthread_join(thread, NULL);
    assert_int_equal(self_pins(self), 0);
    assert_int_equal(self->holders[0].count, 0);
    /* Threads that the core does not know count as well. */
    assert_int_equal(pthread_create(&thread, NULL, pin_unregistered, self), 0);
    pthread_join(thread, NULL);
    assert_int_equal(self_pins(self), 1);
    imp_unpin(self, "stray");
    self_free_for_test(self);
}

static void the_next_generation_in_a_slot_starts_without_pins(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct imp_self *self = self_new_for_test("lpr");
        pthread_t thread;
        assert_int_equal(self_pins(self), 0);
        imp_pin(self, "upload");
        assert_int_equal(pthread_create(&thread, NULL, unpin_elsewhere, self), 0);
        pthread_join(thread, NULL);
        self_free_for_test(self);
    }
}

static void many_names_of_holders_share_the_last_place(void **state)
{
    struct imp_self *self = self_new_for_test("lpr");
    char name[SELF_HOLDER_NAME_SIZE];
    (void)state;
    for (unsigned i = 0; i < 2 * SELF_HOLDER_MAX; i++) {
        snprintf(name, sizeof(name), "kind-%u", i);
        imp_pin(self, name);
    }
    assert_int_equal(self->holder_count, SELF_HOLDER_MAX);
    assert_string_equal(self->holders[SELF_HOLDER_MAX - 1].name, "other");
    assert_int_equal(self->holders[SELF_HOLDER_MAX - 1].count, SELF_HOLDER_MAX + 1);
    assert_int_equal(self_pins(self), 2 * SELF_HOLDER_MAX);
    for (unsigned i = 0; i < 2 * SELF_HOLDER_MAX; i++) {
        snprintf(name, sizeof(name), "kind-%u", i);
        imp_unpin(self, name);
    }
    assert_int_equal(self_pins(self), 0);
    self_free_for_test(self);
}

static void slots_run_out_with_null(void **state)
{
    static struct imp_self *all[SELF_MAX];
    uint32_t count = 0;
    (void)state;
    while (count < SELF_MAX && (all[count] = self_new("many")) != NULL)
        count++;
    assert_int_equal(count, SELF_MAX);
    assert_null(self_new("one-more"));
    while (count > 0)
        self_free(all[--count]);
}

/* ---- entries ---- */

struct thing {
    struct self_entry entry;
    int *revoked;
};

static void thing_revoke(struct self_entry *entry)
{
    struct thing *thing = (struct thing *)entry;
    ++*thing->revoked;
    self_detach(entry);
}

static const struct self_entry_kind EARLY = {
    .name = "early", .stage = SELF_INTAKE, .revoke = thing_revoke};
static const struct self_entry_kind LATE = {
    .name = "late", .stage = SELF_SWEEP, .revoke = thing_revoke};

static void entries_go_at_their_stage(void **state)
{
    struct imp_self *self = self_new_for_test("lpr");
    int early = 0, late = 0, gone = 0;
    struct thing one = {.revoked = &early}, two = {.revoked = &late}, three = {.revoked = &gone};
    (void)state;
    self_attach(self, &one.entry, &EARLY);
    self_attach(self, &two.entry, &LATE);
    self_attach(self, &three.entry, &EARLY);
    self_detach(&three.entry);
    self_detach(&three.entry);
    self_end(self, SELF_INTAKE);
    assert_int_equal(early, 1);
    assert_int_equal(late, 0);
    self_end(self, SELF_SWEEP);
    assert_int_equal(late, 1);
    assert_int_equal(gone, 0);
    self_free_for_test(self);
}

/* ---- threads ---- */

struct reader {
    pthread_t thread;
    _Atomic bool *is_ending;
    _Atomic uint64_t calls, newest;
    bool is_wrong;
};

/* Each provider's instance is a number of its own, poisoned when the provider is freed. */
static void *read_for_ever(void *arg)
{
    struct reader *reader = arg;
    thread_register(THREAD_WORKER, 1, NULL, NULL);
    while (!atomic_load(reader->is_ending)) {
        uint64_t value = call(NULL);
        if (value == UINT64_MAX)
            reader->is_wrong = true;
        if (value > atomic_load(&reader->newest))
            atomic_store(&reader->newest, value);
        atomic_fetch_add(&reader->calls, 1);
        thread_quiescent();
        if (value % 64 == 3) {
            thread_idle_begin();
            thread_idle_end();
        }
    }
    thread_unregister();
    return NULL;
}

static void replaced_providers_are_never_seen_after_their_end(void **state)
{
    enum { READERS = 4, ROUNDS = 200 };
    struct reader readers[READERS];
    _Atomic bool is_ending = false;
    (void)state;
    memset(readers, 0, sizeof(readers));
    for (int i = 0; i < READERS; i++) {
        readers[i].is_ending = &is_ending;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_for_ever, &readers[i]), 0);
    }
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct imp_self *provider = self_new_for_test("clock");
        uint64_t *value = malloc(sizeof(*value));
        assert_non_null(value);
        *value = round;
        provider->instance = value;
        assert_int_equal(service_offer_for_test(provider, "clock", 1, &CLOCK), IMP_OK);
        /* Until somebody has called this one. */
        while (atomic_load(&readers[round % READERS].newest) < round)
            usleep(50);
        self_end(provider, SELF_CUT);
        assert_int_equal(snapshot_publish(NULL), IMP_OK);
        assert_true(thread_wait_passed(DEADLINE));
        assert_int_equal(self_pins(provider), 0);
        *value = UINT64_MAX;
        free(value);
        self_free_for_test(provider);
        thread_quiescent();
    }
    atomic_store(&is_ending, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_false(readers[i].is_wrong);
    }
}

struct sleeper {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_in, may_go;
};

static void *sleep_inside(void *arg)
{
    struct sleeper *sleeper = arg;
    struct imp_self *self = self_new("sleeper");
    thread_register(THREAD_WORKER, 2, NULL, NULL);
    module_call_begin(self);
    thread_quiescent(); /* must not count: a module is on the stack */
    thread_idle_begin();
    pthread_mutex_lock(&sleeper->lock);
    sleeper->is_in = true;
    pthread_cond_broadcast(&sleeper->changed);
    while (!sleeper->may_go)
        pthread_cond_wait(&sleeper->changed, &sleeper->lock);
    pthread_mutex_unlock(&sleeper->lock);
    module_call_end(self);
    thread_unregister();
    self_free(self);
    return NULL;
}

static void deferred(void *arg)
{
    ++*(int *)arg;
}

static void nothing_is_freed_while_a_thread_is_inside_of_a_module(void **state)
{
    struct sleeper sleeper = {.lock = PTHREAD_MUTEX_INITIALIZER,
                              .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    int ran = 0;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, sleep_inside, &sleeper), 0);
    pthread_mutex_lock(&sleeper.lock);
    while (!sleeper.is_in)
        pthread_cond_wait(&sleeper.changed, &sleeper.lock);
    pthread_mutex_unlock(&sleeper.lock);
    thread_defer(deferred, &ran);
    thread_quiescent();
    assert_int_equal(ran, 0);
    assert_false(thread_wait_passed(2 * IMP_MILLISECOND));
    pthread_mutex_lock(&sleeper.lock);
    sleeper.may_go = true;
    pthread_cond_broadcast(&sleeper.changed);
    pthread_mutex_unlock(&sleeper.lock);
    pthread_join(thread, NULL);
    assert_true(thread_wait_passed(DEADLINE));
    thread_quiescent();
    assert_int_equal(ran, 1);
}

static void wake_by_flag(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

struct waiter {
    _Atomic int wakes;
    _Atomic bool is_there;
};

static void *wait_for_wake(void *arg)
{
    struct waiter *waiter = arg;
    thread_register(THREAD_LOOP, 0, wake_by_flag, &waiter->wakes);
    atomic_store(&waiter->is_there, true);
    while (atomic_load(&waiter->wakes) == 0)
        usleep(100);
    thread_quiescent();
    thread_unregister();
    return NULL;
}

static void a_thread_that_sleeps_is_woken(void **state)
{
    struct waiter waiter = {.wakes = 0};
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_wake, &waiter), 0);
    while (!atomic_load(&waiter.is_there))
        usleep(100);
    assert_true(thread_wait_passed(DEADLINE));
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_is_found_by_name_and_major),
        cmocka_unit_test(a_service_that_was_not_declared_is_not_given),
        cmocka_unit_test(an_offer_that_can_not_be_is_refused),
        cmocka_unit_test(an_offer_is_not_seen_before_it_is_shown),
        cmocka_unit_test(a_call_holds_a_pin_and_leaves_none),
        cmocka_unit_test(a_pin_may_be_undone_on_another_thread),
        cmocka_unit_test(the_next_generation_in_a_slot_starts_without_pins),
        cmocka_unit_test(many_names_of_holders_share_the_last_place),
        cmocka_unit_test(slots_run_out_with_null),
        cmocka_unit_test(entries_go_at_their_stage),
        cmocka_unit_test(replaced_providers_are_never_seen_after_their_end),
        cmocka_unit_test(nothing_is_freed_while_a_thread_is_inside_of_a_module),
        cmocka_unit_test(a_thread_that_sleeps_is_woken),
    };
    return cmocka_run_group_tests_name("service", tests, set_up, NULL);
}
