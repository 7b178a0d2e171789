/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor-crash.c - what is said about the server's death. */
#include "build-config.h"

#include <fcntl.h>
#include <imprimatur/log.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/supervisor-private.h"

/* Pieces of the line; each begins with a blank, so that empty ones vanish. */
#define PIECE_SIZE 192

static void how_format(char *text, size_t size, int wait_status)
{
    if (WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));
        snprintf(text, size, " signal=SIG%s", name != NULL ? name : "UNKNOWN");
    } else {
        snprintf(text, size, " exit=%d", WEXITSTATUS(wait_status));
    }
}

static void thread_format(char *text, size_t size, const struct crash_report *report)
{
    text[0] = '\0';
    if (!report->has_thread)
        return;
    const struct crash_seen_thread *thread = &report->thread;
    if (thread->depth == 0)
        snprintf(text, size, " thread=%s module=core", thread->name);
    else
        snprintf(text, size, " thread=%s module=%s generation=%u", thread->name, thread->top.module,
                 thread->top.generation);
}

static void object_format(char *text, size_t size, const struct crash_report *report)
{
    char id[IMP_ID_TEXT_SIZE];
    text[0] = '\0';
    if (!report->has_thread || report->thread.object.kind == IMP_AT_HAND_NOTHING)
        return;
    snprintf(text, size, " %s=%s", crash_kind_name(report->thread.object.kind),
             imp_id_format(report->thread.object.id, id));
}

static void fault_format(char *text, size_t size, const struct crash_report *report)
{
    text[0] = '\0';
    if (!report->has_fault)
        return;
    if (report->image[0] != '\0')
        snprintf(text, size, " pc=0x%" PRIx64 " image=%s+0x%" PRIx64 " address=0x%" PRIx64,
                 report->pc, report->image, report->image_offset, report->address);
    else
        snprintf(text, size, " pc=0x%" PRIx64 " address=0x%" PRIx64, report->pc, report->address);
}

void crash_log(const struct crash_record *record, uint32_t stalled, pid_t pid, int wait_status,
               struct state_crash *crash)
{
    struct crash_report report;
    char how[PIECE_SIZE], thread[PIECE_SIZE], object[PIECE_SIZE], fault[PIECE_SIZE];
    crash_record_read(record, stalled, &report);
    how_format(how, sizeof how, wait_status);
    thread_format(thread, sizeof thread, &report);
    object_format(object, sizeof object, &report);
    fault_format(fault, sizeof fault, &report);
    imp_log(NULL, IMP_LOG_ERROR, "server.crashed", "pid=%d%s%s%s%s%s busy_threads=%u", (int)pid,
            how, stalled != CRASH_NO_THREAD ? " stalled=true" : "", thread, object, fault,
            report.busy_threads);
    memset(crash, 0, sizeof *crash);
    crash->time_us = imp_now();
    crash->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    if (report.has_thread && report.thread.depth > 0)
        memcpy(crash->module, report.thread.top.module, sizeof crash->module);
}

bool process_is_stopped(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return false;
    text[length] = '\0';
    const char *state = strstr(text, "\nState:\t");
    const char *tracer = strstr(text, "\nTracerPid:\t");
    bool is_halted = state != NULL && (state[8] == 'T' || state[8] == 't');
    return is_halted || (tracer != NULL && tracer[12] != '0');
}
