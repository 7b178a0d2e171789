/* SPDX-License-Identifier: Apache-2.0 */
/* crash-record.c - the server's side of the crash record: threads, hearts, images, words. */
#include "build-config.h"

#include "core/crash-record.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Enough for the fault handler and for a sanitizer's; the page below it stays unmapped. */
#define SIGNAL_STACK_SIZE (size_t)(64 * 1024)

static struct crash_record *attached;
/* Words that were there before this process attached: an earlier run's. */
static _Atomic bool sent_is_old[CRASH_SENT_SLOTS];

/* initial-exec: the fault handler may read it, which a lazily made block would not allow. */
static _Thread_local struct crash_thread *own __attribute__((tls_model("initial-exec")));
static _Thread_local void *signal_stack __attribute__((tls_model("initial-exec")));

static int64_t monotonic_us(void)
{
    struct timespec now;
    /* Not imp_ticks: the supervisor compares with its own clock, whatever a test has put there. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * IMP_SECOND + now.tv_nsec / 1000;
}

#define SENT_FREE 0u
#define SENT_FILLING 1u
#define SENT_USED 2u

static void sent_note_old(void)
{
    for (uint32_t i = 0; i < CRASH_SENT_SLOTS; i++)
        atomic_store(&sent_is_old[i], atomic_load(&attached->sent[i].state) == SENT_USED);
}

imp_status crash_record_attach(int fd, imp_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0 || status.st_size != (off_t)sizeof(struct crash_record))
        return imp_error_set(error, IMP_CORRUPT, "the crash record has the wrong size");
    void *mapped =
        mmap(NULL, sizeof(struct crash_record), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return imp_error_set(error, IMP_IO, "cannot map the crash record: %s", strerror(errno));
    const struct crash_record *record = mapped;
    if (record->magic != CRASH_RECORD_MAGIC || record->version != CRASH_RECORD_VERSION ||
        record->size != sizeof(struct crash_record)) {
        munmap(mapped, sizeof(struct crash_record));
        return imp_error_set(error, IMP_CORRUPT, "the crash record is of another version");
    }
    crash_record_detach();
    attached = mapped;
    sent_note_old();
    return IMP_OK;
}

void crash_record_detach(void)
{
    if (attached == NULL)
        return;
    crash_thread_end();
    munmap(attached, sizeof(struct crash_record));
    attached = NULL;
}

struct crash_record *crash_record_attached(void)
{
    return attached;
}

/* ---- threads ---------------------------------------------------------------------------------- */

/* A sanitizer has signal stacks of its own. */
static void signal_stack_begin(void)
{
#ifndef IMP_SANITIZED
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, SIGNAL_STACK_SIZE + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED)
        return; /* faults other than a stack overflow are still noted */
    mprotect(memory, page, PROT_NONE);
    stack_t stack = {.ss_sp = memory + page, .ss_size = SIGNAL_STACK_SIZE};
    if (sigaltstack(&stack, NULL) != 0) {
        munmap(memory, SIGNAL_STACK_SIZE + page);
        return;
    }
    signal_stack = memory;
#endif
}

static void signal_stack_end(void)
{
    if (signal_stack == NULL)
        return;
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    munmap(signal_stack, SIGNAL_STACK_SIZE + (size_t)sysconf(_SC_PAGESIZE));
    signal_stack = NULL;
}

imp_status crash_thread_begin(uint32_t kind, uint32_t index, imp_error *error)
{
    struct crash_record *record = attached;
    if (record == NULL || own != NULL)
        return IMP_OK;
    for (uint32_t i = 0; i < CRASH_THREADS_MAX; i++) {
        struct crash_thread *thread = &record->threads[i];
        uint32_t is_free = 0;
        if (!atomic_compare_exchange_strong(&thread->is_used, &is_free, 1))
            continue;
        thread->kind = kind;
        thread->index = index;
        thread->tid = (uint32_t)syscall(SYS_gettid);
        atomic_store_explicit(&thread->depth, 0, memory_order_relaxed);
        atomic_store_explicit(&thread->beat_us, 0, memory_order_relaxed);
        atomic_store_explicit(&thread->limit_us, 0, memory_order_relaxed);
        own = thread;
        signal_stack_begin();
        crash_fault_unblock();
        return IMP_OK;
    }
    return imp_error_set(error, IMP_LIMIT, "the crash record has no place for another thread");
}

void crash_thread_end(void)
{
    if (own == NULL)
        return;
    struct crash_thread *thread = own;
    own = NULL;
    signal_stack_end();
    atomic_store(&thread->beat_us, 0);
    atomic_store(&thread->depth, 0);
    atomic_store(&thread->is_used, 0);
}

uint32_t crash_thread_place(void)
{
    return own == NULL || attached == NULL ? CRASH_NO_THREAD : (uint32_t)(own - attached->threads);
}

/* ---- the object at hand ----------------------------------------------------------------------- */

void crash_module_set(struct crash_module *module, const char *name, uint32_t generation)
{
    memset(module, 0, sizeof *module);
    size_t length = strnlen(name, sizeof module->name - 1);
    memcpy(module->name, name, length);
    module->generation = generation;
}

void crash_push(const struct crash_module *module)
{
    struct crash_thread *thread = own;
    if (thread == NULL)
        return;
    uint32_t depth = atomic_load_explicit(&thread->depth, memory_order_relaxed);
    if (depth < CRASH_DEPTH_MAX) {
        struct crash_frame *frame = &thread->frames[depth];
        frame->module = *module;
        frame->kind = IMP_AT_HAND_NOTHING;
    }
    /* Release: a fault right behind this sees a whole frame. */
    atomic_store_explicit(&thread->depth, depth + 1, memory_order_release);
}

void crash_pop(void)
{
    struct crash_thread *thread = own;
    if (thread == NULL)
        return;
    uint32_t depth = atomic_load_explicit(&thread->depth, memory_order_relaxed);
    if (depth > 0)
        atomic_store_explicit(&thread->depth, depth - 1, memory_order_release);
}

void imp_at_hand(uint32_t kind, imp_id id)
{
    struct crash_thread *thread = own;
    if (thread == NULL)
        return;
    uint32_t depth = atomic_load_explicit(&thread->depth, memory_order_relaxed);
    if (depth == 0 || depth > CRASH_DEPTH_MAX)
        return;
    struct crash_frame *frame = &thread->frames[depth - 1];
    frame->kind = IMP_AT_HAND_NOTHING;
    atomic_signal_fence(memory_order_release);
    memcpy(frame->id, id.bytes, sizeof frame->id);
    atomic_signal_fence(memory_order_release);
    frame->kind = kind;
}

/* ---- hearts ----------------------------------------------------------------------------------- */

static void beat(int64_t at_us, int64_t limit_us)
{
    struct crash_thread *thread = own;
    if (thread == NULL)
        return;
    atomic_store_explicit(&thread->limit_us, limit_us, memory_order_relaxed);
    atomic_store_explicit(&thread->beat_us, at_us, memory_order_release);
}

void crash_beat(void)
{
    if (own != NULL)
        beat(monotonic_us(), 0);
}

void crash_beat_rest(void)
{
    beat(0, 0);
}

void crash_beat_excuse(int64_t limit_us)
{
    if (own != NULL)
        beat(monotonic_us(), limit_us);
}

void crash_phase_set(uint32_t phase)
{
    if (attached != NULL)
        atomic_store(&attached->phase, phase);
}

/* ---- images ----------------------------------------------------------------------------------- */

/* Control thread; the fault handler of any thread reads. */
void crash_image_add(const struct crash_module *module, uintptr_t start, uintptr_t end)
{
    if (attached == NULL || start == 0 || end <= start)
        return;
    for (uint32_t i = 0; i < CRASH_IMAGES_MAX; i++) {
        struct crash_image *image = &attached->images[i];
        if (atomic_load(&image->start) != 0)
            continue;
        image->end = end;
        image->module = *module;
        atomic_store(&image->start, start);
        return;
    }
}

void crash_image_remove(uintptr_t start)
{
    if (attached == NULL || start == 0)
        return;
    for (uint32_t i = 0; i < CRASH_IMAGES_MAX; i++)
        if (atomic_load(&attached->images[i].start) == start)
            atomic_store(&attached->images[i].start, 0);
}

/* ---- bytes sent ------------------------------------------------------------------------------- */

imp_sent_slot imp_sent_begin(imp_id delivery)
{
    if (attached == NULL)
        return IMP_SENT_NONE;
    /* Starting at a place that the id chooses keeps the search short while few are in use. */
    uint32_t first;
    memcpy(&first, delivery.bytes, sizeof first);
    for (uint32_t i = 0; i < CRASH_SENT_SLOTS; i++) {
        uint32_t slot = (first + i) % CRASH_SENT_SLOTS;
        struct crash_sent *sent = &attached->sent[slot];
        uint32_t state = SENT_FREE;
        if (!atomic_compare_exchange_strong(&sent->state, &state, SENT_FILLING))
            continue;
        memcpy(sent->delivery, delivery.bytes, sizeof sent->delivery);
        atomic_store(&sent->bytes, 0);
        atomic_store(&sent->state, SENT_USED);
        return slot;
    }
    return IMP_SENT_NONE;
}

void imp_sent_add(imp_sent_slot slot, uint64_t bytes)
{
    if (attached != NULL && slot < CRASH_SENT_SLOTS)
        atomic_fetch_add(&attached->sent[slot].bytes, bytes);
}

void imp_sent_end(imp_sent_slot slot)
{
    if (attached == NULL || slot >= CRASH_SENT_SLOTS)
        return;
    atomic_store(&sent_is_old[slot], false);
    atomic_store(&attached->sent[slot].state, SENT_FREE);
}

void imp_sent_end_old(void)
{
    for (imp_sent_slot i = 0; i < CRASH_SENT_SLOTS; i++)
        if (atomic_load(&sent_is_old[i]))
            imp_sent_end(i);
}

bool imp_sent_find(imp_id delivery, imp_sent_slot *slot, uint64_t *bytes)
{
    bool is_found = false;
    if (attached == NULL)
        return false;
    /* One that was claimed, not begun, and claimed again by a later run may have more than one. */
    for (uint32_t i = 0; i < CRASH_SENT_SLOTS; i++) {
        struct crash_sent *sent = &attached->sent[i];
        if (atomic_load(&sent->state) != SENT_USED ||
            memcmp(sent->delivery, delivery.bytes, sizeof sent->delivery) != 0)
            continue;
        uint64_t count = atomic_load(&sent->bytes);
        if (is_found && count <= *bytes)
            continue;
        *slot = i;
        *bytes = count;
        is_found = true;
    }
    return is_found;
}

/* ---- audit checkpoint ------------------------------------------------------------------------- */

void crash_checkpoint_set(uint64_t number)
{
    if (attached != NULL)
        atomic_store(&attached->checkpoint, number);
}

uint64_t crash_checkpoint_remembered(void)
{
    return attached == NULL ? 0 : atomic_load(&attached->checkpoint_remembered);
}
