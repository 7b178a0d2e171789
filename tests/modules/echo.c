/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo.c - a module for tests of the supervisor: sends back what it gets, and falls when told to.
 *
 *     fault   writes to no address, with a job at hand
 *     abort   calls abort()
 *     stall   never returns to the loop
 *     exec    answers "refused" when the server can't start a program
 */
#include <imprimatur/at-hand.h>
#include <imprimatur/module.h>
#include <imprimatur/stream.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct echo_conf {
    bool unused; /* a settings block may not be empty */
};

static const imp_option echo_options[] = {
    IMP_OPT_BOOL(struct echo_conf, unused, "false", IMP_LIVE, "means nothing"),
    IMP_OPT_END,
};

static bool is_said(imp_bytes input, const char *word)
{
    return input.length == strlen(word) && memcmp(input.data, word, input.length) == 0;
}

static void fall(void)
{
    volatile int *volatile nowhere = (volatile int *)8;
    imp_at_hand(IMP_AT_HAND_JOB, (imp_id){{0xfa, 0x11}});
    *nowhere = 1;
}

static void stall(void)
{
    for (;;)
        poll(NULL, 0, -1);
}

static void try_exec(imp_stream *stream)
{
    char program[] = "/bin/true";
    char *arguments[] = {program, NULL};
    execve(program, arguments, NULL);
    const char *answer = errno == EPERM ? "refused" : "failed";
    (void)imp_stream_write(stream, answer, strlen(answer));
}

static void on_readable(imp_stream *stream, void *arg)
{
    (void)arg;
    imp_bytes input = imp_stream_input(stream);
    if (is_said(input, "fault"))
        fall();
    else if (is_said(input, "abort"))
        abort();
    else if (is_said(input, "stall"))
        stall();
    else if (is_said(input, "exec"))
        try_exec(stream);
    else
        (void)imp_stream_write(stream, input.data, input.length);
    imp_stream_consume(stream, input.length);
    imp_stream_close(stream);
}

static void on_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    (void)stream;
    (void)reason;
    (void)arg;
}

static const imp_stream_events echo_events = {
    .size = sizeof(imp_stream_events),
    .readable = on_readable,
    .closed = on_closed,
};

static imp_status on_accepted(imp_self *self, void *instance, const char *listener,
                              imp_stream *stream)
{
    (void)self;
    (void)listener;
    imp_stream_set_events(stream, &echo_events, instance);
    return IMP_OK;
}

static imp_status echo_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)conf;
    *instance = NULL;
    return imp_listen(self, on_accepted, error);
}

static void echo_stop(imp_self *self, void *instance)
{
    (void)self;
    (void)instance;
}

IMP_MODULE(.name = "echo", .version = "1.0.0", .summary = "sends back what it gets",
           .options = echo_options, .conf_size = sizeof(struct echo_conf), .start = echo_start,
           .stop = echo_stop);
IMP_MODULE_NOTE("echo", "1.0.0", "", "");
