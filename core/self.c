/* SPDX-License-Identifier: Apache-2.0 */
#include "core/self.h"

#include <imprimatur/service.h>
#include <stdlib.h>
#include <string.h>

#include "core/snapshot.h"
#include "core/thread.h"

/* A thread's own line of counters for one generation. Only the thread itself writes, with release, and
 * the control thread reads, with acquire: on the usual machines these are plain stores and loads. */
struct pin_count {
    int64_t pins, unpins;
};

/* Pins made by a thread may be undone by another one, so a single line may well be negative; only
 * the sums count. A line outlives its thread, and a slot its generation: when a slot is free its sums
 * are equal, and the next generation goes on from there. Line 0 is shared by all threads that are not
 * registered, and counted atomically. */
static struct pin_count counts[THREAD_MAX][SELF_MAX];

static bool is_slot_taken[SELF_MAX]; /* control thread */
static uint32_t last_generation;
static struct self_sweeper *sweepers;

static const char *const STATE_NAMES[SELF_STATE_COUNT] = {
    [SELF_FOUND] = "found",       [SELF_VERIFIED] = "verified", [SELF_MAPPED] = "mapped",
    [SELF_STARTED] = "started",   [SELF_DRAINING] = "draining", [SELF_STOPPED] = "stopped",
    [SELF_UNMAPPED] = "unmapped", [SELF_FAILED] = "failed",     [SELF_ZOMBIE] = "zombie",
};

struct imp_self *self_new(const char *name)
{
    uint32_t slot = 0;
    while (slot < SELF_MAX && is_slot_taken[slot])
        slot++;
    if (slot == SELF_MAX)
        return NULL;
    struct imp_self *self = calloc(1, sizeof(*self));
    if (self == NULL)
        return NULL;
    size_t length = strnlen(name, SELF_NAME_SIZE - 1);
    memcpy(self->name, name, length);
    self->generation = ++last_generation;
    self->slot = slot;
    self->state = SELF_FOUND;
    crash_module_set(&self->crash, self->name, self->generation);
    pthread_mutex_init(&self->lock, NULL);
    self->entries.next = self->entries.previous = &self->entries;
    is_slot_taken[slot] = true;
    return self;
}

void self_free(struct imp_self *self)
{
    if (self == NULL)
        return;
    is_slot_taken[self->slot] = false;
    pthread_mutex_destroy(&self->lock);
    free(self);
}

struct imp_self *self_new_for_test(const char *name)
{
    if (thread_current() == NULL)
        thread_register(THREAD_CONTROL, 0, NULL, NULL);
    struct imp_self *self = self_new(name);
    if (self == NULL)
        abort();
    self->state = SELF_STARTED;
    self->is_test = true;
    return self;
}

/* Sweeps of other loops may still be on their way to a test's generation: it waits here until they
 * have been. */
static struct imp_self *ended_tests[SELF_MAX];

void self_free_for_test(struct imp_self *self)
{
    if (self != NULL) {
        for (enum self_stage stage = SELF_INTAKE; stage <= SELF_SWEEP; stage++)
            self_end(self, stage);
        snapshot_publish(NULL);
        ended_tests[self->slot] = self;
    }
    for (uint32_t i = 0; i < SELF_MAX; i++)
        if (ended_tests[i] != NULL && self_left(ended_tests[i], NULL, NULL) == 0) {
            self_free(ended_tests[i]);
            ended_tests[i] = NULL;
        }
}

const char *self_name(const struct imp_self *self)
{
    return self != NULL ? self->name : "core";
}

const char *self_state_name(enum self_state state)
{
    return STATE_NAMES[state];
}

void *imp_self_instance(const imp_self *self)
{
    return self != NULL ? self->instance : NULL;
}

const char *imp_self_name(const imp_self *self)
{
    return self_name(self);
}

uint32_t imp_self_generation(const imp_self *self)
{
    return self != NULL ? self->generation : 0;
}

/* ---- entries ---- */

void self_attach(struct imp_self *self, struct self_entry *entry,
                 const struct self_entry_kind *kind)
{
    entry->self = self;
    entry->kind = kind;
    entry->next = entry->previous = NULL;
    if (self == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    entry->next = self->entries.next;
    entry->previous = &self->entries;
    entry->next->previous = entry;
    self->entries.next = entry;
    pthread_mutex_unlock(&self->lock);
}

void self_detach(struct self_entry *entry)
{
    if (entry->self == NULL || entry->next == NULL)
        return;
    pthread_mutex_lock(&entry->self->lock);
    entry->previous->next = entry->next;
    entry->next->previous = entry->previous;
    entry->next = entry->previous = NULL;
    pthread_mutex_unlock(&entry->self->lock);
}

void self_entries(struct imp_self *self, bool (*each)(struct self_entry *entry, void *arg),
                  void *arg)
{
    pthread_mutex_lock(&self->lock);
    for (struct self_entry *entry = self->entries.next; entry != &self->entries;
         entry = entry->next)
        if (!each(entry, arg))
            break;
    pthread_mutex_unlock(&self->lock);
}

/* ---- stages of the end ---- */

void self_sweeper_add(struct self_sweeper *sweeper)
{
    for (struct self_sweeper *other = sweepers; other != NULL; other = other->next)
        if (other == sweeper)
            return;
    sweeper->next = sweepers;
    sweepers = sweeper;
}

/* The newest entry that is due at this stage. */
static struct self_entry *due_entry(struct imp_self *self, enum self_stage stage)
{
    struct self_entry *due = NULL;
    pthread_mutex_lock(&self->lock);
    for (struct self_entry *entry = self->entries.next; entry != &self->entries && due == NULL;
         entry = entry->next)
        if (entry->kind->stage <= stage)
            due = entry;
    pthread_mutex_unlock(&self->lock);
    return due;
}

void self_revoke(struct imp_self *self, enum self_stage stage)
{
    struct self_entry *entry;
    while ((entry = due_entry(self, stage)) != NULL)
        entry->kind->revoke(entry);
}

void self_end(struct imp_self *self, enum self_stage stage)
{
    self_revoke(self, stage);
    for (struct self_sweeper *sweeper = sweepers; sweeper != NULL; sweeper = sweeper->next)
        sweeper->end(self, stage);
}

uint32_t self_left(struct imp_self *self, void (*each)(const char *name, uint32_t count, void *arg),
                   void *arg)
{
    uint32_t total = 0;
    for (struct self_sweeper *sweeper = sweepers; sweeper != NULL; sweeper = sweeper->next) {
        uint32_t count = sweeper->count(self);
        total += count;
        if (count > 0 && each != NULL)
            each(sweeper->name, count, arg);
    }
    return total;
}

/* ---- pins ---- */

static void count_up(int64_t *count, uint32_t index)
{
    if (index == 0)
        __atomic_fetch_add(count, 1, __ATOMIC_ACQ_REL);
    else
        __atomic_store_n(count, __atomic_load_n(count, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}

void self_pin(struct imp_self *self)
{
    uint32_t index = thread_index();
    count_up(&counts[index][self->slot].pins, index);
}

void self_unpin(struct imp_self *self)
{
    uint32_t index = thread_index();
    count_up(&counts[index][self->slot].unpins, index);
}

int64_t self_pins(const struct imp_self *self)
{
    int64_t pins = 0, unpins = 0;
    /* Unpins first: an unpin that is seen here was made after its pin, so that pin is seen below. Equal
     * sums then mean that at some moment between the two loops nothing was held. */
    for (uint32_t i = 0; i < THREAD_MAX; i++)
        unpins += __atomic_load_n(&counts[i][self->slot].unpins, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < THREAD_MAX; i++)
        pins += __atomic_load_n(&counts[i][self->slot].pins, __ATOMIC_ACQUIRE);
    return pins - unpins;
}

static struct self_holder *find_holder(struct imp_self *self, const char *what, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (strncmp(self->holders[i].name, what, SELF_HOLDER_NAME_SIZE - 1) == 0)
            return &self->holders[i];
    return NULL;
}

/* Names are few and stay, so only the first pin of a name takes the lock. */
static struct self_holder *holder_of(struct imp_self *self, const char *what)
{
    struct self_holder *holder =
        find_holder(self, what, __atomic_load_n(&self->holder_count, __ATOMIC_ACQUIRE));
    if (holder != NULL)
        return holder;
    pthread_mutex_lock(&self->lock);
    holder = find_holder(self, what, self->holder_count);
    if (holder == NULL && self->holder_count < SELF_HOLDER_MAX) {
        /* The last place is for all further names together. */
        if (self->holder_count == SELF_HOLDER_MAX - 1)
            what = "other";
        holder = &self->holders[self->holder_count];
        size_t length = strnlen(what, SELF_HOLDER_NAME_SIZE - 1);
        memcpy(holder->name, what, length);
        __atomic_store_n(&self->holder_count, self->holder_count + 1, __ATOMIC_RELEASE);
    } else if (holder == NULL) {
        holder = &self->holders[SELF_HOLDER_MAX - 1];
    }
    pthread_mutex_unlock(&self->lock);
    return holder;
}

void imp_pin(imp_self *self, const char *what)
{
    if (self == NULL)
        return;
    __atomic_fetch_add(&holder_of(self, what)->count, 1, __ATOMIC_RELAXED);
    self_pin(self);
}

void imp_unpin(imp_self *self, const char *what)
{
    if (self == NULL)
        return;
    __atomic_fetch_sub(&holder_of(self, what)->count, 1, __ATOMIC_RELAXED);
    /* Last: after this the generation may be freed. */
    self_unpin(self);
}
