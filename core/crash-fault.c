/* SPDX-License-Identifier: Apache-2.0 */
/* crash-fault.c - the fault handler: notes who fell and where, then lets the signal do its work. */
#include "build-config.h"

#include "core/crash-record.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static uint64_t program_counter(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uint64_t)context->uc_mcontext.pc;
#elif defined(__i386__)
    return (uint32_t)context->uc_mcontext.gregs[REG_EIP];
#else
    (void)context;
    return 0;
#endif
}

/* Async-signal-safe: plain loads and stores in memory that is mapped, and gettid. */
static void fault_note(int number, const siginfo_t *info, const ucontext_t *context)
{
    struct crash_record *record = crash_record_attached();
    if (record == NULL)
        return;
    struct crash_fault *fault = &record->fault;
    uint32_t is_unset = 0;
    if (!atomic_compare_exchange_strong(&fault->is_set, &is_unset, 1))
        return; /* another thread fell first */
    fault->signal = number;
    fault->code = info->si_code;
    fault->thread = crash_thread_place();
    fault->tid = (uint32_t)syscall(SYS_gettid);
    fault->pc = program_counter(context);
    /* A signal that was sent has a sender in that place. */
    fault->address = info->si_code > 0 ? (uint64_t)(uintptr_t)info->si_addr : 0;
    for (uint32_t i = 0; i < CRASH_IMAGES_MAX; i++) {
        const struct crash_image *image = &record->images[i];
        uint64_t start = atomic_load(&image->start);
        if (start == 0 || fault->pc < start || fault->pc >= image->end)
            continue;
        fault->image = image->module;
        fault->image_offset = fault->pc - start;
        break;
    }
    atomic_store(&fault->is_set, 2);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    fault_note(number, info, context);
    /* SA_RESETHAND has put the default action back: the instruction that faulted, run again, ends the
     * process with a true core. A signal that somebody sent (abort, kill) has to be sent again. */
    if (info->si_code <= 0)
        syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

void crash_fault_unblock(void)
{
    sigset_t faults;
    sigemptyset(&faults);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaddset(&faults, signals[i]);
    pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

void crash_fault_install(void)
{
#ifndef IMP_SANITIZED
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
#else
    (void)on_fault;
#endif
}
