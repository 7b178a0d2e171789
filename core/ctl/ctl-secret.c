/* SPDX-License-Identifier: Apache-2.0 */
/* ctl-secret.c - secrets come from standard input, one a line, never from the command line. */
#include "build-config.h"

#include "core/ctl/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* Byte by byte: what follows the line belongs to whoever reads standard input next. */
static imp_status read_line(const char *name, char secret[CTL_SECRET_MAX], size_t *length,
                            imp_error *error)
{
    size_t used = 0;
    for (;;) {
        char c;
        ssize_t got = read(STDIN_FILENO, &c, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return imp_error_set(error, IMP_IO, "can't read %s from standard input: %s", name,
                                 strerror(errno));
        if (got == 0 && used == 0)
            return imp_error_set(error, IMP_INVALID,
                                 "standard input ended before %s came (one secret a line)", name);
        if (got == 0 || c == '\n')
            break;
        if (c == '\0' || used + 1 >= CTL_SECRET_MAX)
            return imp_error_set(error, IMP_INVALID, "%s is too long, or holds a NUL", name);
        secret[used++] = c;
    }
    if (used > 0 && secret[used - 1] == '\r')
        used--;
    secret[used] = '\0';
    *length = used;
    return IMP_OK;
}

imp_status ctl_secret_read(const char *name, char secret[CTL_SECRET_MAX], size_t *length,
                           imp_error *error)
{
    struct termios before, silent;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0)
        return read_line(name, secret, length, error);
    /* An interrupt in between must not leave the terminal silent: it waits for the line's end. */
    sigset_t interrupts, mask;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    sigaddset(&interrupts, SIGTSTP);
    sigprocmask(SIG_BLOCK, &interrupts, &mask);
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    silent.c_lflag |= ECHONL;
    /* Silent first: what is typed after the prompt is neither shown nor flushed. */
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    fprintf(stderr, "%s: ", name);
    fflush(stderr);
    imp_status status = read_line(name, secret, length, error);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return status;
}
