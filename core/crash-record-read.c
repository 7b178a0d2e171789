/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-record-read.c - the supervisor's side of the crash record: making it, clearing it, and
 * reading it after a death, when nothing in it can be believed.
 */
#include "build-config.h"

#include "core/crash-record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

imp_status crash_record_create(int *fd, struct crash_record **record, imp_error *error)
{
    imp_status status = IMP_OK;
    void *mapped = MAP_FAILED;
    int file = memfd_create("imprimatur-crash-record", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0 || ftruncate(file, (off_t)sizeof(struct crash_record)) != 0) {
        status = imp_error_set(error, IMP_IO, "cannot make the crash record: %s", strerror(errno));
        goto done;
    }
    /* Without these seals a server could cut the file and so end the supervisor by SIGBUS. */
    if (fcntl(file, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
        status = imp_error_set(error, IMP_IO, "cannot seal the crash record: %s", strerror(errno));
        goto done;
    }
    mapped = mmap(NULL, sizeof(struct crash_record), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        status = imp_error_set(error, IMP_IO, "cannot map the crash record: %s", strerror(errno));
        goto done;
    }
    struct crash_record *made = mapped;
    made->magic = CRASH_RECORD_MAGIC;
    made->version = CRASH_RECORD_VERSION;
    made->size = sizeof(struct crash_record);
    *fd = file;
    *record = made;
    return IMP_OK;
done:
    if (file >= 0)
        close(file);
    return status;
}

void crash_record_free(int fd, struct crash_record *record)
{
    if (record != NULL)
        munmap(record, sizeof *record);
    if (fd >= 0)
        close(fd);
}

void crash_record_clear(struct crash_record *record)
{
    record->magic = CRASH_RECORD_MAGIC;
    record->version = CRASH_RECORD_VERSION;
    record->size = sizeof(struct crash_record);
    atomic_store(&record->phase, CRASH_PHASE_STARTING);
    memset(&record->fault, 0, sizeof record->fault);
    memset(record->threads, 0, sizeof record->threads);
    memset(record->images, 0, sizeof record->images);
    /* A slot that was being filled when the server died counts for nothing. */
    for (uint32_t i = 0; i < CRASH_SENT_SLOTS; i++)
        if (atomic_load(&record->sent[i].state) != 2)
            atomic_store(&record->sent[i].state, 0);
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Copies a module's name as [a-z0-9.-]; anything else becomes '?'. */
static void name_clean(char target[CRASH_MODULE_SIZE], const char source[CRASH_MODULE_SIZE])
{
    size_t length = 0;
    for (; length < CRASH_MODULE_SIZE - 1 && source[length] != '\0'; length++) {
        char c = source[length];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
        target[length] = is_plain ? c : '?';
    }
    memset(target + length, 0, CRASH_MODULE_SIZE - length);
}

static void frame_read(struct crash_seen_frame *seen, const struct crash_frame *frame)
{
    name_clean(seen->module, frame->module.name);
    seen->generation = frame->module.generation;
    seen->kind = frame->kind < IMP_AT_HAND_KINDS ? frame->kind : IMP_AT_HAND_NOTHING;
    memcpy(seen->id.bytes, frame->id, sizeof seen->id.bytes);
}

static void thread_name(char *target, size_t size, uint32_t kind, uint32_t index)
{
    static const char *const names[CRASH_THREAD_KINDS] = {
        [0] = "thread",
        [CRASH_THREAD_CONTROL] = "control",
        [CRASH_THREAD_LOOP] = "loop",
        [CRASH_THREAD_WORKER] = "worker",
        [CRASH_THREAD_WRITER] = "writer",
    };
    const char *name = names[kind < CRASH_THREAD_KINDS ? kind : 0];
    if (kind == CRASH_THREAD_LOOP || kind == CRASH_THREAD_WORKER)
        snprintf(target, size, "%s-%u", name, index % 10000u);
    else
        snprintf(target, size, "%s", name);
}

static void thread_read(struct crash_seen_thread *seen, const struct crash_thread *thread)
{
    memset(seen, 0, sizeof *seen);
    thread_name(seen->name, sizeof seen->name, thread->kind, thread->index);
    uint32_t depth = atomic_load(&thread->depth);
    seen->depth = depth < CRASH_DEPTH_MAX ? depth : CRASH_DEPTH_MAX;
    if (seen->depth == 0)
        return;
    frame_read(&seen->top, &thread->frames[seen->depth - 1]);
    for (uint32_t i = seen->depth; i > 0 && seen->object.kind == IMP_AT_HAND_NOTHING; i--)
        frame_read(&seen->object, &thread->frames[i - 1]);
    if (seen->object.kind == IMP_AT_HAND_NOTHING)
        memset(&seen->object, 0, sizeof seen->object);
}

static uint32_t busy_count(const struct crash_record *record, uint32_t *first)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < CRASH_THREADS_MAX; i++) {
        const struct crash_thread *thread = &record->threads[i];
        if (atomic_load(&thread->is_used) != 1 || atomic_load(&thread->depth) == 0)
            continue;
        if (count == 0)
            *first = i;
        count++;
    }
    return count;
}

void crash_record_read(const struct crash_record *record, uint32_t stalled,
                       struct crash_report *report)
{
    memset(report, 0, sizeof *report);
    uint32_t place = CRASH_NO_THREAD;
    report->busy_threads = busy_count(record, &place);
    /* With more than one busy thread and neither fault nor stall nobody knows which one it was. */
    if (report->busy_threads != 1)
        place = CRASH_NO_THREAD;
    const struct crash_fault *fault = &record->fault;
    if (atomic_load(&fault->is_set) == 2) {
        report->has_fault = true;
        report->signal = fault->signal > 0 && fault->signal < 65 ? fault->signal : 0;
        report->pc = fault->pc;
        report->address = fault->address;
        name_clean(report->image, fault->image.name);
        report->image_generation = fault->image.generation;
        report->image_offset = fault->image_offset;
        place = fault->thread;
    } else if (stalled != CRASH_NO_THREAD) {
        place = stalled;
    }
    if (place < CRASH_THREADS_MAX) {
        thread_read(&report->thread, &record->threads[place]);
        report->has_thread = true;
    }
}

uint32_t crash_record_stalled(const struct crash_record *record, int64_t now_us, int64_t since_us,
                              int64_t stall_us, int64_t limit_cap_us)
{
    for (uint32_t i = 0; i < CRASH_THREADS_MAX; i++) {
        const struct crash_thread *thread = &record->threads[i];
        if (atomic_load(&thread->is_used) != 1)
            continue;
        int64_t beat = atomic_load(&thread->beat_us);
        if (beat == 0)
            continue;
        /* A thread that is busy beats while this looks; a beat from further ahead would never be late. */
        if (beat > now_us && beat - now_us <= CRASH_BEAT_AHEAD_US)
            continue;
        if (beat > now_us || beat < 0)
            beat = since_us;
        if (beat < since_us)
            beat = since_us;
        int64_t limit = atomic_load(&thread->limit_us);
        if (limit > limit_cap_us)
            limit = limit_cap_us;
        if (limit < stall_us)
            limit = stall_us;
        if (now_us - beat > limit)
            return i;
    }
    return CRASH_NO_THREAD;
}

const char *crash_kind_name(uint32_t kind)
{
    static const char *const names[IMP_AT_HAND_KINDS] = {
        [IMP_AT_HAND_NOTHING] = "nothing",     [IMP_AT_HAND_JOB] = "job",
        [IMP_AT_HAND_DELIVERY] = "delivery",   [IMP_AT_HAND_DEVICE] = "device",
        [IMP_AT_HAND_DOCUMENT] = "document",   [IMP_AT_HAND_PEER] = "peer",
        [IMP_AT_HAND_PRINCIPAL] = "principal",
    };
    return names[kind < IMP_AT_HAND_KINDS ? kind : IMP_AT_HAND_NOTHING];
}
