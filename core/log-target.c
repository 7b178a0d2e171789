/* SPDX-License-Identifier: Apache-2.0 */
/* log-target.c - see log-target.h. */
#include "build-config.h"

#include "core/log-target.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSLOG_PATH "/dev/log"
#define SYSLOG_FACILITY_DAEMON 3 /* RFC 3164 section 4.1.1 */
#define LOG_FILE_MODE 0640
/* How long a full pipe is waited for before its lines are given up. */
#define WRITE_WAIT_MS 5000

/* systemd says in JOURNAL_STREAM which device and inode its pipe has; a standard error that was
 * redirected elsewhere is not it. */
static bool is_journal;
static pthread_once_t journal_once = PTHREAD_ONCE_INIT;

static void journal_look(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char *end, *last;
    struct stat status;
    if (stream == NULL || fstat(STDERR_FILENO, &status) != 0)
        return;
    unsigned long long device = strtoull(stream, &end, 10);
    if (end == stream || *end != ':')
        return;
    unsigned long long inode = strtoull(end + 1, &last, 10);
    if (last == end + 1)
        return;
    is_journal = status.st_dev == device && status.st_ino == inode;
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOG_FILE_MODE);
}

static const char *syslog_path = SYSLOG_PATH;

void log_syslog_path_for_test(const char *path)
{
    syslog_path = path == NULL ? SYSLOG_PATH : path;
}

static int connect_syslog(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", syslog_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int saved_errno = errno;
        close(fd);
        errno = saved_errno;
        return -1;
    }
    return fd;
}

imp_status log_output_open(struct log_output *output, enum log_target target, const char *file,
                           imp_error *error)
{
    char *path = NULL;
    int fd = -1;
    pthread_once(&journal_once, journal_look);
    if (target == LOG_TO_FILE) {
        path = strdup(file);
        if (path == NULL)
            return imp_error_set(error, IMP_LIMIT, "out of memory");
        fd = open_file(file);
        if (fd < 0) {
            free(path);
            return imp_error_set(error, IMP_IO, "can't open the log file %s: %s", file,
                                 strerror(errno));
        }
    } else if (target == LOG_TO_SYSLOG) {
        fd = connect_syslog();
        if (fd < 0)
            return imp_error_set(error, IMP_IO, "can't reach syslog at %s: %s", syslog_path,
                                 strerror(errno));
    }
    *output = (struct log_output){.target = target, .fd = fd, .path = path};
    return IMP_OK;
}

imp_status log_output_reopen(struct log_output *output, imp_error *error)
{
    if (output->target != LOG_TO_FILE)
        return IMP_OK;
    int fd = open_file(output->path);
    if (fd < 0)
        return imp_error_set(error, IMP_IO, "can't open the log file %s: %s", output->path,
                             strerror(errno));
    close(output->fd);
    output->fd = fd;
    return IMP_OK;
}

void log_output_close(struct log_output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    free(output->path);
    output->fd = -1;
    output->path = NULL;
}

size_t log_output_prefix(enum log_target target, imp_log_level level, char prefix[LOG_PREFIX_SIZE])
{
    int length = 0;
    if (target == LOG_TO_STDERR) {
        pthread_once(&journal_once, journal_look);
        if (is_journal)
            length = snprintf(prefix, LOG_PREFIX_SIZE, "<%d>", (int)level);
    } else if (target == LOG_TO_SYSLOG) {
        length =
            snprintf(prefix, LOG_PREFIX_SIZE,
                     "<%d>imprimd[%d]: ", SYSLOG_FACILITY_DAEMON * 8 + (int)level, (int)getpid());
    }
    return length < 0 ? 0 : (size_t)length;
}

static uint64_t count_lines(const char *lines, size_t length)
{
    uint64_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += lines[i] == '\n';
    return count;
}

static uint64_t write_stream(int fd, const char *lines, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, lines, length);
        if (written >= 0) {
            lines += written;
            length -= (size_t)written;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            if (poll(&wait, 1, WRITE_WAIT_MS) > 0)
                continue;
        }
        return count_lines(lines, length);
    }
    return 0;
}

/* One datagram a line; a syslog daemon that was restarted is connected to anew, once a line. */
static uint64_t write_syslog(struct log_output *output, const char *lines, size_t length)
{
    uint64_t lost = 0;
    const char *end = lines + length;
    while (lines < end) {
        const char *newline = memchr(lines, '\n', (size_t)(end - lines));
        if (newline == NULL)
            break;
        size_t size = (size_t)(newline - lines);
        if (output->fd < 0 || send(output->fd, lines, size, MSG_NOSIGNAL) < 0) {
            if (output->fd >= 0 && errno != EAGAIN) {
                close(output->fd);
                output->fd = -1;
            }
            if (output->fd < 0)
                output->fd = connect_syslog();
            if (output->fd < 0 || send(output->fd, lines, size, MSG_NOSIGNAL) < 0)
                lost++;
        }
        lines = newline + 1;
    }
    return lost;
}

uint64_t log_output_write(struct log_output *output, const char *lines, size_t length)
{
    if (output->target == LOG_TO_SYSLOG)
        return write_syslog(output, lines, length);
    return write_stream(output->target == LOG_TO_STDERR ? STDERR_FILENO : output->fd, lines,
                        length);
}
