/* SPDX-License-Identifier: Apache-2.0 */
#include "core/module-mark.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_FOLDER "module-starts"

/* The file: one letter, how often it crashed, which build; one line. */
#define LETTER_STARTING 'S'
#define LETTER_CRASHED 'C'
#define LETTER_HUNG 'H'
#define IDENTITY_SIZE (2 * NOTE_BUILD_ID_MAX + 1)
#define LINE_SIZE (IDENTITY_SIZE + 32)

static const int FAULT_SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
#define FAULT_SIGNAL_COUNT (sizeof(FAULT_SIGNALS) / sizeof(FAULT_SIGNALS[0]))

/* What the fault handler and the watchdog write to; -1 outside of a start. */
static volatile int current_fd = -1;
static volatile bool is_any_thread;
static pthread_t beginner;
static struct sigaction former[FAULT_SIGNAL_COUNT];

static void write_letter(char letter)
{
    int fd = current_fd;
    if (fd >= 0 && pwrite(fd, &letter, 1, 0) != 1)
        return; /* nothing more can be done in a process that ends */
}

/* Writes the letter, then gives the signal back to whoever had it before: on return the faulting
 * instruction runs again (or, for a raised signal, it is raised again), now under the former handler. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    (void)context;
    if (is_any_thread || pthread_equal(pthread_self(), beginner))
        write_letter(LETTER_CRASHED);
    for (size_t i = 0; i < FAULT_SIGNAL_COUNT; i++)
        sigaction(FAULT_SIGNALS[i], &former[i], NULL);
    if (info->si_code <= 0)
        raise(number);
    errno = saved;
}

static void watch_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_ONSTACK | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FAULT_SIGNAL_COUNT; i++)
        sigaction(FAULT_SIGNALS[i], &action, &former[i]);
}

static void unwatch_faults(void)
{
    for (size_t i = 0; i < FAULT_SIGNAL_COUNT; i++)
        sigaction(FAULT_SIGNALS[i], &former[i], NULL);
}

static void identify(const struct module_file *file, char identity[IDENTITY_SIZE])
{
    if (file->note.build_id_length > 0) {
        for (uint32_t i = 0; i < file->note.build_id_length; i++)
            snprintf(identity + 2 * (size_t)i, 3, "%02x", file->note.build_id[i]);
        return;
    }
    snprintf(identity, IDENTITY_SIZE, "%jd-%jd-%jd", (intmax_t)file->inode, (intmax_t)file->size,
             (intmax_t)file->modified_us);
}

/* What an earlier start of this build left: crashes so far, and whether it hung. */
static void read_mark(int fd, const char *identity, uint32_t *crashes, bool *has_hung)
{
    char line[LINE_SIZE], *rest;
    ssize_t length = pread(fd, line, sizeof(line) - 1, 0);
    *crashes = 0;
    *has_hung = false;
    if (length <= 0)
        return;
    line[length] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '\0' || line[1] != ' ')
        return;
    unsigned long number = strtoul(line + 2, &rest, 10);
    if (number > UINT32_MAX || rest[0] != ' ' || strcmp(rest + 1, identity) != 0)
        return;
    *crashes = (uint32_t)number;
    *has_hung = line[0] == LETTER_HUNG;
    if (line[0] == LETTER_CRASHED && *crashes < UINT32_MAX)
        (*crashes)++;
}

static imp_status write_mark(int fd, char letter, uint32_t crashes, const char *identity)
{
    char line[LINE_SIZE];
    int length = snprintf(line, sizeof(line), "%c %u %s\n", letter, crashes, identity);
    /* In this order: a process that is killed in between leaves a whole line first. */
    errno = ENOSPC; /* of a short write */
    if (pwrite(fd, line, (size_t)length, 0) != length || ftruncate(fd, length) != 0)
        return IMP_IO;
    return IMP_OK;
}

static char *mark_path(const char *state_dir, const char *name)
{
    size_t size = strlen(state_dir) + sizeof("/" MARK_FOLDER "/") + strlen(name);
    char *path = malloc(size);
    if (path == NULL)
        return NULL;
    snprintf(path, size, "%s/" MARK_FOLDER, state_dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        int saved = errno;
        free(path);
        errno = saved;
        return NULL;
    }
    snprintf(path, size, "%s/" MARK_FOLDER "/%s", state_dir, name);
    return path;
}

static imp_status status_of_errno(void)
{
    return errno == ENOSPC || errno == EDQUOT ? IMP_NO_SPACE : IMP_IO;
}

imp_status module_mark_begin(const char *state_dir, const struct module_file *file,
                             struct module_mark *mark, imp_error *error)
{
    char identity[IDENTITY_SIZE];
    uint32_t crashes = 0;
    bool has_hung = false;
    imp_status status = IMP_OK;

    *mark = (struct module_mark){.fd = -1};
    mark->path = mark_path(state_dir, file->note.name);
    if (mark->path == NULL)
        return imp_error_set(error, status_of_errno(), "%s/" MARK_FOLDER " can't be made: %s",
                             state_dir, strerror(errno));
    mark->fd = open(mark->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (mark->fd < 0) {
        status = imp_error_set(error, status_of_errno(), "%s can't be made: %s", mark->path,
                               strerror(errno));
        goto failed;
    }
    identify(file, identity);
    read_mark(mark->fd, identity, &crashes, &has_hung);
    if (has_hung || crashes > MODULE_MARK_CRASHES_FORGIVEN) {
        status = imp_error_set(error, IMP_DENIED,
                               "left out: it %s in its last start; install another build, or "
                               "remove %s to try again",
                               has_hung ? "hung" : "crashed", mark->path);
        /* What read_mark has counted is kept for the next start. */
        write_mark(mark->fd, has_hung ? LETTER_HUNG : LETTER_STARTING, crashes, identity);
        goto failed;
    }
    if (write_mark(mark->fd, LETTER_STARTING, crashes, identity) != IMP_OK) {
        status = imp_error_set(error, status_of_errno(), "%s can't be written: %s", mark->path,
                               strerror(errno));
        goto failed;
    }
    beginner = pthread_self();
    is_any_thread = false;
    current_fd = mark->fd;
    watch_faults();
    return IMP_OK;

failed:
    if (mark->fd >= 0)
        close(mark->fd);
    free(mark->path);
    *mark = (struct module_mark){.fd = -1};
    return status;
}

void module_mark_end(struct module_mark *mark)
{
    if (mark->fd < 0)
        return;
    unwatch_faults();
    current_fd = -1;
    unlink(mark->path);
    close(mark->fd);
    free(mark->path);
    *mark = (struct module_mark){.fd = -1};
}

void module_mark_all_threads(void)
{
    is_any_thread = true;
}

void module_mark_hung(void)
{
    write_letter(LETTER_HUNG);
}
