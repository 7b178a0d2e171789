/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-record.h - the memory that outlives the server: what each thread had at hand, the fault that
 * ended the process, heart beats, "bytes sent" words and the last audit checkpoint.
 *
 * The supervisor makes it as a memfd sealed against growing and shrinking, keeps it over restarts of
 * the server and hands it to each new one. The server writes; the supervisor reads, and believes
 * nothing: crash_record_read copies with bounds and cleans every string.
 *
 * Server side, in this order: crash_record_attach (main thread, before other threads),
 * crash_fault_install, then crash_thread_begin in every thread. All calls of the hot path (push, pop,
 * note, beat) do nothing in a thread that has not begun, so unit tests need no record at all.
 */
#ifndef CORE_CRASH_RECORD_H
#define CORE_CRASH_RECORD_H

#include <imprimatur/at-hand.h>

#include <stdatomic.h>

#define CRASH_RECORD_MAGIC 0x49504352u /* "IPCR" */
#define CRASH_RECORD_VERSION 1u        /* layout; a record of another version is made anew */
#define CRASH_THREADS_MAX 320u         /* loops + workers + writer + control */
#define CRASH_DEPTH_MAX 8u     /* calls from module to module; deeper ones are only counted */
#define CRASH_IMAGES_MAX 256u  /* mapped modules, zombies included, and the core's own */
#define CRASH_SENT_SLOTS 4096u /* deliveries in progress at one time */
#define CRASH_MODULE_SIZE 32u  /* a module's name and NUL, zero padded */

#define CRASH_NO_THREAD UINT32_MAX

/* What a thread is. */
#define CRASH_THREAD_CONTROL 1u
#define CRASH_THREAD_LOOP 2u
#define CRASH_THREAD_WORKER 3u
#define CRASH_THREAD_WRITER 4u
#define CRASH_THREAD_KINDS 5u

/* What the server as a whole is doing; STARTING and STOPPING have limits of their own. */
#define CRASH_PHASE_STARTING 0u
#define CRASH_PHASE_RUNNING 1u
#define CRASH_PHASE_STOPPING 2u

/* A generation as it stands in the record: a fixed block, so that a push is a plain copy. */
struct crash_module {
    char name[CRASH_MODULE_SIZE];
    uint32_t generation;
    uint32_t reserved;
};

struct crash_frame {
    struct crash_module module;
    uint32_t kind; /* IMP_AT_HAND_... */
    uint32_t reserved;
    uint8_t id[16];
};

struct crash_thread {
    _Atomic uint32_t is_used;
    uint32_t kind;
    uint32_t index; /* loop-INDEX, worker-INDEX */
    uint32_t tid;
    _Atomic uint32_t depth; /* may exceed CRASH_DEPTH_MAX */
    uint32_t reserved;
    _Atomic int64_t beat_us;  /* CLOCK_MONOTONIC of the last beat; 0 = at rest, not watched */
    _Atomic int64_t limit_us; /* a longer limit until the next beat; 0 = stall_timeout */
    struct crash_frame frames[CRASH_DEPTH_MAX];
};

/* Where a module's code lies, so that a program counter finds its module. */
struct crash_image {
    _Atomic uint64_t start; /* 0 = free; written last, cleared first */
    uint64_t end;
    struct crash_module module;
};

struct crash_fault {
    _Atomic uint32_t is_set; /* 1 = being written, 2 = complete; the first fault wins */
    int32_t signal;
    int32_t code;
    uint32_t thread; /* index into threads; UINT32_MAX = one that had not begun */
    uint32_t tid;
    uint32_t reserved;
    uint64_t pc;
    uint64_t address;
    uint64_t image_offset;     /* pc - start of the image */
    struct crash_module image; /* name "" = none of the known ones */
};

struct crash_sent {
    _Atomic uint32_t state; /* 0 free, 1 being filled, 2 in use */
    uint32_t reserved;
    uint8_t delivery[16];
    _Atomic uint64_t bytes;
};

struct crash_record {
    uint32_t magic, version;
    uint64_t size; /* sizeof(struct crash_record) */
    _Atomic uint32_t phase;
    _Atomic uint32_t start_count;           /* servers started on this record; the supervisor's */
    _Atomic uint64_t checkpoint;            /* last audit checkpoint the server made */
    _Atomic uint64_t checkpoint_remembered; /* what the supervisor's state file said at its start */
    struct crash_fault fault;
    struct crash_thread threads[CRASH_THREADS_MAX];
    struct crash_image images[CRASH_IMAGES_MAX];
    struct crash_sent sent[CRASH_SENT_SLOTS];
};

/* ---- server ------------------------------------------------------------------------------- */

/* Maps the record from `fd` (kept open by the caller or closed after: the mapping stays). */
imp_status crash_record_attach(int fd, imp_error *error) IMP_MUST_CHECK;
void crash_record_detach(void);
/* The attached record, or NULL. Async-signal-safe. */
struct crash_record *crash_record_attached(void);

/* Notes signal, thread and program counter of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT, then lets
 * the signal end the process. Does nothing in sanitizer builds, whose own handlers say more. */
void crash_fault_install(void);
/* In a thread that blocks all signals: the kernel would end the process without the handler.
 * crash_thread_begin does it. */
void crash_fault_unblock(void);

/* Claims this thread's place and gives it an alternate signal stack. IMP_LIMIT when all are taken:
 * the thread may run on, unseen. */
imp_status crash_thread_begin(uint32_t kind, uint32_t index, imp_error *error);
void crash_thread_end(void);
/* This thread's place, or CRASH_NO_THREAD. Async-signal-safe. */
uint32_t crash_thread_place(void);

/* Around every call into a module. Pushes and pops nest. */
void crash_push(const struct crash_module *module);
void crash_pop(void);
/* Fills a block for crash_push; a longer name is cut. */
void crash_module_set(struct crash_module *module, const char *name, uint32_t generation);

/* A heart beat of this thread; the first one starts the watch. A loop beats by a timer (at least
 * every CRASH_BEAT_INTERVAL_US) or at each turn, the writer at each batch. */
#define CRASH_BEAT_INTERVAL_US (1 * IMP_SECOND)
/* A beat made between the supervisor's look at the clock and its look at the record; even a supervisor
 * that was not scheduled in between is not away for longer. */
#define CRASH_BEAT_AHEAD_US (10 * IMP_SECOND)
void crash_beat(void);
/* This thread waits, rightly, for something that may never come (the writer for closures). */
void crash_beat_rest(void);
/* A beat after which the next may take `limit_us` if that is longer than stall_timeout (a module's
 * start or stop on the control thread). The supervisor caps it. */
void crash_beat_excuse(int64_t limit_us);

void crash_phase_set(uint32_t phase);

/* The code range of a module (or "core"); is taken out before the code is unmapped. */
void crash_image_add(const struct crash_module *module, uintptr_t start, uintptr_t end);
void crash_image_remove(uintptr_t start);

/* The number of the newest audit checkpoint; after this a LINK_CHECKPOINT message makes the
 * supervisor write it into its state file. */
void crash_checkpoint_set(uint64_t number);
/* What the supervisor knew when this server started; 0 = none. Higher than the newest in the store
 * means that the store was rolled back. */
uint64_t crash_checkpoint_remembered(void);

/* ---- supervisor ----------------------------------------------------------------------------- */

/* A new record: a sealed memfd and its mapping. */
imp_status crash_record_create(int *fd, struct crash_record **record, imp_error *error)
    IMP_MUST_CHECK;
void crash_record_free(int fd, struct crash_record *record);
/* Before each start of a server: forgets threads, images and fault; keeps words and checkpoint. */
void crash_record_clear(struct crash_record *record);

/* One frame as read: strings are clean ASCII, numbers within bounds. */
struct crash_seen_frame {
    char module[CRASH_MODULE_SIZE]; /* "" = the core */
    uint32_t generation;
    uint32_t kind;
    imp_id id;
};

/* A thread as it stood when the process ended. */
struct crash_seen_thread {
    char name[24]; /* "loop-3", "worker-0", "writer", "control" */
    uint32_t depth;
    struct crash_seen_frame top;    /* when depth > 0 */
    struct crash_seen_frame object; /* the innermost frame that names an object; kind 0 = none */
};

struct crash_report {
    bool has_fault;
    int32_t signal;
    uint64_t pc, address, image_offset;
    char image[CRASH_MODULE_SIZE];
    uint32_t image_generation;
    struct crash_seen_thread
        thread; /* of the fault; of the stall when none; else any that was busy */
    bool has_thread;
    uint32_t busy_threads; /* threads that were inside a module */
};

/* Reads what a dead server left. `stalled` names the thread that a stall was seen on, or
 * CRASH_NO_THREAD. */
void crash_record_read(const struct crash_record *record, uint32_t stalled,
                       struct crash_report *report);

/* The first watched thread whose beat is older than its limit at `now_us` (CLOCK_MONOTONIC), or
 * CRASH_NO_THREAD. Beats before `since_us` count as made then (the process had been stopped, or was
 * not scheduled). `limit_cap_us` bounds what crash_beat_excuse asked for. */
uint32_t crash_record_stalled(const struct crash_record *record, int64_t now_us, int64_t since_us,
                              int64_t stall_us, int64_t limit_cap_us);

/* "job", "delivery", ...: a constant string. */
const char *crash_kind_name(uint32_t kind);

#endif
