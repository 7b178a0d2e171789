/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - the turn of a loop, its descriptors and posts, and the life of all loops.
 *
 * No other file knows libevent. Its bases are made without locks: only the loop's own thread touches
 * them; other threads reach a loop through its inbox, a stack that they push with one compare and
 * swap and that the loop takes as a whole and turns round.
 */
#include "build-config.h"

#include "core/loop.h"

#include "core/loop-private.h"
#include "core/module.h"
#include "core/thread.h"
#include "core/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOP_COUNT_MIN 2u
#define LOOP_SIGNALS_MAX 16u
/* Each malloc arena keeps what it once had; a few are enough for threads that share their work. */
#define LOOP_MALLOC_ARENAS 4
/* At the end a loop turns at most so often for works whose `done` is still to come. */
#define LOOP_STOP_TURNS 1000u

struct loop_watch {
    struct event event;
    imp_loop *loop;
    uint32_t events;
    void (*ready)(int fd, uint32_t events, void *arg);
    void *arg;
};

struct loop_signal_entry {
    struct event *event;
    void (*fn)(int signal_number, void *arg);
    void *arg;
};

static struct {
    imp_loop *loops[LOOP_COUNT_MAX + 1]; /* control last */
    uint32_t count;                      /* without the control loop */
    imp_loop *control;
    bool is_single; /* loop_setup_for_test: loops[0] is the control loop */
    struct loop_signal_entry signals[LOOP_SIGNALS_MAX];
    uint32_t signal_count;
} all;

static __thread imp_loop *current_loop;

/* The inbox of a loop that has ended. */
static struct loop_post post_closed;
#define POST_CLOSED (&post_closed)

struct post {
    struct loop_post node;
    void (*fn)(void *arg);
    void *arg;
    imp_loop *loop;
};

/* ---- which loop ---- */

imp_loop *imp_loop_current(void)
{
    return current_loop;
}

imp_loop *imp_loop_control(void)
{
    return all.control;
}

uint32_t imp_loop_count(void)
{
    return all.count;
}

imp_loop *imp_loop_at(uint32_t index)
{
    return index < all.count ? all.loops[index] : NULL;
}

uint32_t imp_loop_index(const imp_loop *loop)
{
    return loop->index;
}

uint32_t loop_total(void)
{
    return all.is_single ? 1 : all.count + (all.control != NULL ? 1u : 0u);
}

imp_loop *loop_get(uint32_t place)
{
    return place < loop_total() ? all.loops[place] : NULL;
}

uint32_t loop_load(const imp_loop *loop)
{
    return atomic_load_explicit(&loop->load, memory_order_relaxed);
}

void loop_load_add(imp_loop *loop, int32_t amount)
{
    atomic_fetch_add_explicit(&loop->load, (uint32_t)amount, memory_order_relaxed);
}

int64_t loop_ticks(const imp_loop *loop)
{
    return loop->ticks;
}

void *loop_scratch(imp_loop *loop, size_t size)
{
    if (loop->scratch_size < size) {
        void *bigger = malloc(size);
        if (bigger == NULL)
            return NULL;
        free(loop->scratch);
        loop->scratch = bigger;
        loop->scratch_size = size;
    }
    return loop->scratch;
}

/* ---- posting ---- */

static void loop_wake(imp_loop *loop)
{
    const uint64_t one = 1;
    /* The counter can't overflow in this process's life, and nothing else can fail here. */
    ssize_t written = write(loop->wake_fd, &one, sizeof one);
    (void)written;
}

bool loop_post_node(imp_loop *loop, struct loop_post *node)
{
    struct loop_post *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
    do {
        if (head == POST_CLOSED)
            return false;
        node->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->inbox, &head, node, memory_order_release,
                                                    memory_order_relaxed));
    /* Whoever makes the inbox non-empty wakes; the loop itself looks before it sleeps. */
    if (head == NULL && loop != current_loop)
        loop_wake(loop);
    return true;
}

static void post_run(void *arg)
{
    struct post *post = arg;
    imp_self *self = post->node.self;
    imp_loop *loop = post->loop;
    void (*fn)(void *) = post->fn;
    void *fn_arg = post->arg;

    free(post);
    if (self == NULL || !loop_self_is_swept(self))
        fn(fn_arg);
    loop_object_count_out(loop, self, LOOP_OBJECT_POST);
}

imp_status imp_post(imp_self *self, imp_loop *loop, void (*fn)(void *arg), void *arg)
{
    struct post *post = malloc(sizeof *post);
    if (post == NULL)
        return IMP_LIMIT;
    post->node.fn = post_run;
    post->node.arg = post;
    post->node.self = self;
    post->fn = fn;
    post->arg = arg;
    post->loop = loop;
    if (!loop_object_count_in(loop, self, LOOP_OBJECT_POST)) {
        free(post);
        return IMP_UNAVAILABLE;
    }
    if (!loop_post_node(loop, &post->node)) {
        loop_object_count_out(loop, self, LOOP_OBJECT_POST);
        free(post);
        return IMP_UNAVAILABLE;
    }
    return IMP_OK;
}

imp_status loop_post_core(imp_loop *loop, void (*fn)(void *arg), void *arg)
{
    return imp_post(NULL, loop, fn, arg);
}

static bool inbox_run(imp_loop *loop, struct loop_post *replacement)
{
    struct loop_post *newest =
        atomic_exchange_explicit(&loop->inbox, replacement, memory_order_acquire);
    if (newest == NULL || newest == POST_CLOSED)
        return false;
    struct loop_post *oldest = NULL;
    while (newest != NULL) {
        struct loop_post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct loop_post *next = oldest->next;
        imp_self *self = oldest->self;
        /* The node may be gone once fn runs. */
        void (*fn)(void *) = oldest->fn;
        void *arg = oldest->arg;
        module_call_begin(self);
        fn(arg);
        module_call_end(self);
        oldest = next;
    }
    return true;
}

/* ---- ready list ---- */

void loop_ready_add(imp_loop *loop, struct loop_ready *ready)
{
    if (ready->next != NULL)
        return;
    ready->previous = loop->ready.previous;
    ready->next = &loop->ready;
    ready->previous->next = ready;
    loop->ready.previous = ready;
}

void loop_ready_remove(struct loop_ready *ready)
{
    if (ready->next == NULL)
        return;
    ready->previous->next = ready->next;
    ready->next->previous = ready->previous;
    ready->next = ready->previous = NULL;
}

static bool ready_is_empty(const imp_loop *loop)
{
    return loop->ready.next == &loop->ready;
}

static bool ready_run(imp_loop *loop)
{
    if (ready_is_empty(loop))
        return false;
    /* What becomes ready meanwhile waits for the next round: the others have their turn first. */
    struct loop_ready round = loop->ready;
    round.next->previous = &round;
    round.previous->next = &round;
    loop->ready.next = loop->ready.previous = &loop->ready;
    while (round.next != &round) {
        struct loop_ready *item = round.next;
        loop_ready_remove(item);
        item->fn(item);
    }
    return true;
}

/* ---- descriptors ---- */

static short watch_flags(uint32_t events)
{
    int flags = EV_PERSIST;
    if ((events & LOOP_READ) != 0)
        flags |= EV_READ;
    if ((events & LOOP_WRITE) != 0)
        flags |= EV_WRITE;
    if ((events & LOOP_EDGE) != 0)
        flags |= EV_ET;
    return (short)flags;
}

static void tick(imp_loop *loop)
{
    if (loop->is_tick_stale) {
        loop->is_tick_stale = false;
        loop->ticks = imp_ticks();
    }
}

static void watch_ready(evutil_socket_t fd, short what, void *arg)
{
    loop_watch *watch = arg;
    tick(watch->loop);
    watch->ready((int)fd,
                 ((what & EV_READ) != 0 ? LOOP_READ : 0u) |
                     ((what & EV_WRITE) != 0 ? LOOP_WRITE : 0u),
                 watch->arg);
}

static imp_status watch_add(loop_watch *watch, int fd, uint32_t events)
{
    watch->events = 0;
    if ((events & (LOOP_READ | LOOP_WRITE)) == 0)
        return IMP_OK;
    if (event_assign(&watch->event, watch->loop->base, fd, watch_flags(events), watch_ready,
                     watch) != 0 ||
        event_add(&watch->event, NULL) != 0)
        return IMP_IO;
    watch->events = events;
    return IMP_OK;
}

loop_watch *loop_watch_start(imp_loop *loop, int fd, uint32_t events,
                             void (*ready)(int fd, uint32_t events, void *arg), void *arg)
{
    loop_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return NULL;
    watch->loop = loop;
    watch->ready = ready;
    watch->arg = arg;
    watch->event.ev_fd = fd;
    if (watch_add(watch, fd, events) != IMP_OK) {
        free(watch);
        return NULL;
    }
    return watch;
}

imp_status loop_watch_set(loop_watch *watch, uint32_t events)
{
    if (events == watch->events)
        return IMP_OK;
    if (watch->events != 0)
        event_del(&watch->event);
    return watch_add(watch, (int)watch->event.ev_fd, events);
}

void loop_watch_stop(loop_watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->events != 0)
        event_del(&watch->event);
    free(watch);
}

static void signal_ready(evutil_socket_t number, short what, void *arg)
{
    struct loop_signal_entry *entry = arg;
    (void)what;
    tick(all.control);
    entry->fn((int)number, entry->arg);
}

imp_status loop_signal(int signal_number, void (*fn)(int signal_number, void *arg), void *arg)
{
    if (all.control == NULL || all.signal_count == LOOP_SIGNALS_MAX)
        return IMP_LIMIT;
    struct loop_signal_entry *entry = &all.signals[all.signal_count];
    entry->fn = fn;
    entry->arg = arg;
    entry->event = evsignal_new(all.control->base, signal_number, signal_ready, entry);
    if (entry->event == NULL)
        return IMP_LIMIT;
    if (event_add(entry->event, NULL) != 0) {
        event_free(entry->event);
        return IMP_IO;
    }
    all.signal_count++;
    return IMP_OK;
}

/* ---- one turn ---- */

static void nothing_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

static void sleep_ended(evutil_socket_t fd, short what, void *arg)
{
    imp_loop *loop = arg;
    (void)fd;
    (void)what;
    loop->sleep_until = 0;
}

/* Sees to it that the poll ends when the first timer is due, or for the next heartbeat. */
static void sleep_arm(imp_loop *loop)
{
    int64_t now = loop->ticks;
    int64_t until = now + LOOP_HEARTBEAT_INTERVAL;
    if (loop->timer_count > 0 && loop->timers[1]->due < until)
        until = loop->timers[1]->due;
    if (loop->sleep_until > now && loop->sleep_until <= until)
        return; /* armed for an earlier time: that turn arms it again */
    int64_t delay = until > now ? until - now : 0;
    struct timeval span = {.tv_sec = delay / IMP_SECOND, .tv_usec = delay % IMP_SECOND};
    if (event_add(loop->sleep_event, &span) == 0)
        loop->sleep_until = until;
}

bool loop_run_once(imp_loop *loop, bool may_block)
{
    thread_quiescent();
    loop->ticks = imp_ticks();
    loop->is_tick_stale = false;
    bool did = inbox_run(loop, NULL);
    if (all.is_single && !worker_has_threads())
        did |= worker_run_one();
    did |= loop_timers_run(loop);
    did |= ready_run(loop);

    if (did || !ready_is_empty(loop) ||
        atomic_load_explicit(&loop->inbox, memory_order_relaxed) != NULL ||
        atomic_load_explicit(&loop->is_broken, memory_order_relaxed) || loop->is_stopping)
        may_block = false;
    if (may_block)
        sleep_arm(loop);
    loop->is_tick_stale = true;
    /* NONBLOCK alone would poll again as long as anything is ready. */
    event_base_loop(loop->base, may_block ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
    tick(loop);
    did |= ready_run(loop);
    return did;
}

void loop_run(imp_loop *loop)
{
    while (!atomic_load_explicit(&loop->is_broken, memory_order_acquire))
        loop_run_once(loop, true);
    atomic_store_explicit(&loop->is_broken, false, memory_order_relaxed);
}

void loop_break(imp_loop *loop)
{
    atomic_store_explicit(&loop->is_broken, true, memory_order_release);
    loop_wake(loop);
}

/* ---- life ---- */

static void loop_free(imp_loop *loop)
{
    if (loop == NULL)
        return;
    if (loop->sleep_event != NULL)
        event_free(loop->sleep_event);
    if (loop->wake_event != NULL)
        event_free(loop->wake_event);
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    loop_timers_free(loop);
    free(loop->scratch);
    free(loop);
}

static imp_loop *loop_new(uint32_t index)
{
    imp_loop *loop = calloc(1, sizeof *loop);
    struct event_config *config = event_config_new();
    if (loop == NULL || config == NULL)
        goto failed;
    loop->index = index;
    loop->wake_fd = -1;
    loop->ready.next = loop->ready.previous = &loop->ready;
    loop->objects.next = loop->objects.previous = &loop->objects;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    /* Edge-triggered descriptors need it; so it must be epoll. */
    event_config_require_features(config, EV_FEATURE_ET);
    loop->base = event_base_new_with_config(config);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->base == NULL || loop->wake_fd < 0)
        goto failed;
    loop->wake_event =
        event_new(loop->base, loop->wake_fd, EV_READ | EV_ET | EV_PERSIST, nothing_ready, loop);
    loop->sleep_event = evtimer_new(loop->base, sleep_ended, loop);
    if (loop->wake_event == NULL || loop->sleep_event == NULL ||
        event_add(loop->wake_event, NULL) != 0)
        goto failed;
    loop->ticks = imp_ticks();
    event_config_free(config);
    return loop;

failed:
    if (config != NULL)
        event_config_free(config);
    loop_free(loop);
    return NULL;
}

static imp_status setup(uint32_t count, bool is_single, imp_error *error)
{
    if (all.control != NULL)
        return imp_error_set(error, IMP_EXISTS, "the event loops are there already");
    if (count == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        count = processors > (long)LOOP_COUNT_MIN ? (uint32_t)processors : LOOP_COUNT_MIN;
    }
    if (count > LOOP_COUNT_MAX)
        count = LOOP_COUNT_MAX;
    mallopt(M_ARENA_MAX, LOOP_MALLOC_ARENAS);
    loop_objects_setup();
    worker_reopen();
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    all.is_single = is_single;
    all.count = count;
    for (uint32_t i = 0; i < loop_total() + (is_single ? 0u : 1u); i++) {
        all.loops[i] = loop_new(i);
        if (all.loops[i] == NULL) {
            for (uint32_t j = 0; j < i; j++)
                loop_free(all.loops[j]);
            memset(&all, 0, sizeof all);
            return imp_error_set(error, IMP_LIMIT, "can't make %u event loops: %s", count + 1,
                                 strerrordesc_np(errno));
        }
    }
    all.control = all.loops[is_single ? 0 : count];
    current_loop = all.control;
    return IMP_OK;
}

imp_status loop_setup(uint32_t count, imp_error *error)
{
    return setup(count, false, error);
}

imp_status loop_setup_for_test(imp_error *error)
{
    return setup(1, true, error);
}

static void wake_for_quiescence(void *arg)
{
    loop_wake(arg);
}

/* Ends what the loop has, and runs what was posted until nothing is left to come. */
static void loop_wind_up(imp_loop *loop)
{
    for (uint32_t turns = 0; turns < LOOP_STOP_TURNS; turns++) {
        loop_objects_end_all(loop);
        if (!loop_run_once(loop, false) && ready_is_empty(loop))
            break;
    }
    /* Posts that came before the door closed are still run; what they post is refused. */
    inbox_run(loop, POST_CLOSED);
    ready_run(loop);
}

static void *loop_thread(void *arg)
{
    imp_loop *loop = arg;
    char name[16];

    current_loop = loop;
    snprintf(name, sizeof name, "loop-%u", loop->index);
    pthread_setname_np(pthread_self(), name);
    thread_register(THREAD_LOOP, loop->index, wake_for_quiescence, loop);
    while (!loop->is_stopping)
        loop_run_once(loop, true);
    loop_wind_up(loop);
    thread_unregister();
    return NULL;
}

static void stop_posted(void *arg)
{
    imp_loop *loop = arg;
    loop->is_stopping = true;
}

imp_status loop_start(imp_error *error)
{
    pthread_attr_t attributes;
    sigset_t every, before;
    int failure = 0;

    if (all.is_single)
        return IMP_OK;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, LOOP_STACK_SIZE);
    /* Signals are the control thread's. */
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    for (uint32_t i = 0; i < all.count && failure == 0; i++) {
        failure = pthread_create(&all.loops[i]->thread, &attributes, loop_thread, all.loops[i]);
        all.loops[i]->has_thread = failure == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure != 0) {
        loop_stop();
        return imp_error_set(error, IMP_LIMIT, "can't start a loop's thread: %s",
                             strerrordesc_np(failure));
    }
    return IMP_OK;
}

void loop_stop(void)
{
    struct loop_post posts[LOOP_COUNT_MAX] = {0};

    if (all.control == NULL)
        return;
    for (uint32_t i = 0; i < all.count; i++) {
        imp_loop *loop = all.loops[i];
        if (!loop->has_thread)
            continue;
        posts[i] = (struct loop_post){.fn = stop_posted, .arg = loop};
        if (loop_post_node(loop, &posts[i]))
            pthread_join(loop->thread, NULL);
        loop->has_thread = false;
    }
    loop_wind_up(all.control);
}

void loop_teardown(void)
{
    uint32_t total = loop_total();
    for (uint32_t i = 0; i < all.signal_count; i++)
        event_free(all.signals[i].event);
    for (uint32_t i = 0; i < total; i++)
        loop_free(all.loops[i]);
    memset(&all, 0, sizeof all);
    current_loop = NULL;
}
