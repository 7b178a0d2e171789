/* SPDX-License-Identifier: Apache-2.0 */
/*
 * self.h - a module's generation: one image in service under a module's name.
 *
 * Whatever a module registers (services, hooks, verbs, listeners, metrics, tables, timers, work,
 * streams) belongs to its generation, so that one sweep removes all of it. Two ways to take part:
 *
 *   - an entry: a struct self_entry embedded in the registered object, for what is made and removed
 *     on the control thread or is rare enough for a mutex (hooks, verbs, listeners, metrics);
 *   - a sweeper: a const row, registered once per subsystem, for objects that live in lists of their
 *     own on other threads (timers, streams, work). It is told the stage, and counts what is left.
 *
 * The core's own objects have self == NULL; all functions here accept that where it makes sense.
 *
 * A generation ends in stages:
 *   SELF_INTAKE  drain begins: nothing new comes in (listeners stop accepting, hooks and verbs go);
 *   SELF_CUT     drain is over or its deadline passed: what is left is ended with its last callback
 *                (streams: closed with IMP_CLOSED_SHUTDOWN; work: cancelled, `done` runs);
 *   SELF_SWEEP   stop() has returned: what is left is removed without any callback into the module.
 *
 * Pins keep the code mapped. A pin costs no atomic read-modify-write: each thread counts its own pins
 * and unpins per generation; the sums are compared after every thread has passed a quiescent point
 * (thread.h). Pins of long-lived objects also have a name, shown by `module info`.
 */
#ifndef CORE_SELF_H
#define CORE_SELF_H

#include <imprimatur/base.h>
#include <imprimatur/module.h>
#include <pthread.h>

#include "core/crash-record.h"

#define SELF_NAME_SIZE 32 /* module names have at most 31 letters */
/* Generations alive at one time, zombies included. Each costs 16 bytes per thread that calls it. */
#define SELF_MAX 256u
/* Different names of pin holders in one generation; more are counted under "other". */
#define SELF_HOLDER_MAX 16u
#define SELF_HOLDER_NAME_SIZE 24

/* The life of a generation. The table of steps is in module-life.c. */
enum self_state {
    SELF_FOUND,    /* a name in modules-enabled */
    SELF_VERIFIED, /* the file is ours to load and its note fits */
    SELF_MAPPED,   /* dlopen has succeeded and the descriptor fits the note */
    SELF_STARTED,
    SELF_DRAINING,
    SELF_STOPPED,
    SELF_UNMAPPED,
    SELF_FAILED, /* left out; `reason` says why */
    SELF_ZOMBIE, /* something still holds it, so it stays mapped */
    SELF_STATE_COUNT
};

enum self_stage { SELF_INTAKE, SELF_CUT, SELF_SWEEP };

struct self_entry;

/* What kind of thing is registered; one const row per subsystem. */
struct self_entry_kind {
    const char *name; /* "hook", shown by `module info` */
    /* The stage at which entries of this kind are revoked. An entry that is still there at a later
     * stage is revoked then. */
    enum self_stage stage;
    /* Removes the object; must detach the entry (self_detach) before it returns. Control thread. */
    void (*revoke)(struct self_entry *entry);
    /* One line that tells the entry apart ("job.received"), for `module info`; may be NULL. */
    const char *(*describe)(const struct self_entry *entry);
};

struct self_entry {
    struct self_entry *next, *previous;
    struct imp_self *self;
    const struct self_entry_kind *kind;
};

/* A subsystem that keeps its own lists. */
struct self_sweeper {
    const char *name; /* "stream" */
    /* Ends what `self` has at this stage. Control thread; may post to other loops and finish later. */
    void (*end)(imp_self *self, enum self_stage stage);
    /* What is left of `self`, work posted by `end` included. Control thread. */
    uint32_t (*count)(imp_self *self);
    struct self_sweeper *next; /* used by self.c */
};

struct self_holder {
    char name[SELF_HOLDER_NAME_SIZE];
    int64_t count; /* atomic */
};

struct imp_self {
    char name[SELF_NAME_SIZE];
    uint32_t generation;          /* numbers run through the process's life, over all modules */
    uint32_t slot;                /* index of its pin counters, below SELF_MAX */
    const imp_module *descriptor; /* in the module's image; NULL in tests */
    void *instance;               /* what start() gave */
    const void *conf;             /* the block that start() or reconfigure() last got */
    enum self_state state;
    struct crash_module crash; /* how a crash names it */
    bool is_test;              /* may call every service */

    pthread_mutex_t lock;      /* entries and holders' names */
    struct self_entry entries; /* list head */
    uint32_t holder_count;
    struct self_holder holders[SELF_HOLDER_MAX];
};

/* A generation with a free slot and a new number, state SELF_FOUND. NULL when memory or slots are
 * short. Control thread. */
struct imp_self *self_new(const char *name);
/* Frees it; nothing may be registered or pinned any more. Control thread. */
void self_free(struct imp_self *self);

/* For unit tests: a generation in state SELF_STARTED that may call every service; the calling thread is
 * registered as the control thread if it is not registered yet. Ends all that belongs to it on
 * free; free(NULL) frees those again that had to wait for other loops. */
struct imp_self *self_new_for_test(const char *name);
void self_free_for_test(struct imp_self *self);

/* "core" for NULL. */
const char *self_name(const struct imp_self *self);
const char *self_state_name(enum self_state state);

/* Adds an embedded entry; `self` NULL makes an entry that belongs to nobody and is never revoked. Any
 * thread. */
void self_attach(struct imp_self *self, struct self_entry *entry,
                 const struct self_entry_kind *kind);
/* Removes an entry that is attached or zeroed; idempotent. Any thread. */
void self_detach(struct self_entry *entry);
/* Calls `each` for every entry, newest first, until it returns false; it must not attach or detach.
 * Control thread. */
void self_entries(struct imp_self *self, bool (*each)(struct self_entry *entry, void *arg),
                  void *arg);

/* Registers a subsystem's sweeper, once, before any module is loaded; the row must outlive the
 * process. Control thread. */
void self_sweeper_add(struct self_sweeper *sweeper);
/* Revokes the entries of this and earlier stages, newest first, and tells the sweepers. Control thread. */
void self_end(struct imp_self *self, enum self_stage stage);
/* The entries alone. For a generation that has never run: sweepers may go on after they return, and
 * the generation must not be freed before self_left() is 0. Control thread. */
void self_revoke(struct imp_self *self, enum self_stage stage);
/* What sweepers still count; 0 when all is gone. `each` (may be NULL) gets every non-zero count. */
uint32_t self_left(struct imp_self *self, void (*each)(const char *name, uint32_t count, void *arg),
                   void *arg);

/* Unnamed pins, for calls (module_call_begin, imp_service_enter). Any registered thread; others pay
 * an atomic. */
void self_pin(struct imp_self *self);
void self_unpin(struct imp_self *self);
/* Pins that are held. Exact when no thread can make a first pin any more (nothing is registered, and
 * every thread has passed a quiescent point since); else a good guess. Control thread. */
int64_t self_pins(const struct imp_self *self);

#endif
