/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor-state.c - the one file that the supervisor keeps: times of crashes and the number of the
 * last audit checkpoint.
 *
 *     imprimatur-supervisor 1
 *     checkpoint 42
 *     crash 1763800000000000 11 lpr
 */
#include "build-config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/supervisor-private.h"

#define STATE_FILE "supervisor.state"
#define STATE_FILE_NEW "supervisor.state.new"
#define STATE_HEADER "imprimatur-supervisor 1"
#define STATE_SIZE_MAX 8192u /* header, checkpoint and STATE_CRASHES_MAX lines of under 80 bytes */

/* ---- reading ---------------------------------------------------------------------------------- */

static bool digits_read(const char **text, uint64_t *value)
{
    const char *at = *text;
    uint64_t read = 0;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(read, 10u, &read) ||
            __builtin_add_overflow(read, (uint64_t)(*at - '0'), &read))
            return false;
    *text = at;
    *value = read;
    return true;
}

static bool crash_parse(const char *text, struct state_crash *crash)
{
    uint64_t time_us, number;
    if (!digits_read(&text, &time_us) || time_us > INT64_MAX || *text++ != ' ' ||
        !digits_read(&text, &number) || number > 64 || *text++ != ' ')
        return false;
    size_t length = strlen(text);
    if (length == 0 || length >= sizeof crash->module)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    memset(crash, 0, sizeof *crash);
    crash->time_us = (int64_t)time_us;
    crash->signal = (int32_t)number;
    if (strcmp(text, "-") != 0)
        memcpy(crash->module, text, length);
    return true;
}

static bool line_parse(struct state *state, const char *line, unsigned number)
{
    struct state_crash crash;
    if (number == 0)
        return strcmp(line, STATE_HEADER) == 0;
    if (strncmp(line, "checkpoint ", 11) == 0) {
        const char *digits = line + 11;
        return digits_read(&digits, &state->checkpoint) && *digits == '\0';
    }
    if (strncmp(line, "crash ", 6) != 0 || !crash_parse(line + 6, &crash))
        return false;
    state_add_crash(state, &crash);
    return true;
}

imp_status state_parse(struct state *state, const char *text, size_t length, imp_error *error)
{
    unsigned number = 0;
    for (const char *end, *at = text; at < text + length; at = end + 1, number++) {
        char line[128];
        end = memchr(at, '\n', (size_t)(text + length - at));
        size_t size = end == NULL ? sizeof line : (size_t)(end - at);
        if (size >= sizeof line || memchr(at, '\0', size) != NULL)
            return imp_error_set(error, IMP_CORRUPT, STATE_FILE ": line %u is cut or too long",
                                 number + 1);
        memcpy(line, at, size);
        line[size] = '\0';
        if (!line_parse(state, line, number))
            return imp_error_set(error, IMP_CORRUPT, STATE_FILE ": line %u is not one of ours",
                                 number + 1);
    }
    if (number == 0)
        return imp_error_set(error, IMP_CORRUPT, STATE_FILE " is empty");
    return IMP_OK;
}

imp_status state_load(struct state *state, int folder_fd, imp_error *error)
{
    char text[STATE_SIZE_MAX];
    memset(state, 0, sizeof *state);
    state->folder_fd = folder_fd;
    int fd = openat(folder_fd, STATE_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return IMP_OK;
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text);
    imp_status status;
    if (length < 0)
        status = imp_error_set(error, IMP_IO, "cannot read " STATE_FILE ": %s", strerror(errno));
    else if ((size_t)length == sizeof text)
        status = imp_error_set(error, IMP_CORRUPT, STATE_FILE " is too long");
    else
        status = state_parse(state, text, (size_t)length, error);
    if (fd >= 0)
        close(fd);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------- */

void state_add_crash(struct state *state, const struct state_crash *crash)
{
    if (state->crash_count == STATE_CRASHES_MAX) {
        memmove(&state->crashes[0], &state->crashes[1],
                (STATE_CRASHES_MAX - 1) * sizeof state->crashes[0]);
        state->crash_count--;
    }
    state->crashes[state->crash_count++] = *crash;
}

static size_t state_format(const struct state *state, char *text, size_t size)
{
    int length = snprintf(text, size, STATE_HEADER "\ncheckpoint %" PRIu64 "\n", state->checkpoint);
    size_t at = (size_t)length;
    for (uint32_t i = 0; i < state->crash_count; i++) {
        const struct state_crash *crash = &state->crashes[i];
        length = snprintf(text + at, size - at, "crash %" PRId64 " %d %s\n", crash->time_us,
                          crash->signal, crash->module[0] == '\0' ? "-" : crash->module);
        at += (size_t)length;
    }
    return at;
}

imp_status state_save(const struct state *state, imp_error *error)
{
    char text[STATE_SIZE_MAX];
    size_t length = state_format(state, text, sizeof text);
    imp_status status = IMP_OK;
    int fd = openat(state->folder_fd, STATE_FILE_NEW,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length || fsync(fd) != 0 ||
        renameat(state->folder_fd, STATE_FILE_NEW, state->folder_fd, STATE_FILE) != 0 ||
        fsync(state->folder_fd) != 0)
        status = imp_error_set(error, IMP_IO, "cannot write " STATE_FILE ": %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return status;
}
