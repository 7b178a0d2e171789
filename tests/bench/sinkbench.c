/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sinkbench.c - a printer on a free port of 127.0.0.1 that takes what comes, as fast as it comes, from
 * any number of connections, and counts it.
 *
 *     sinkbench
 *
 * It writes "port N" and obeys lines on its standard input:
 *
 *     hold      connections are accepted but not read, and all counts are zero again
 *     go        all is read from now on; the clock starts
 *     until N   answered when N documents have come
 *     count     answered at once
 *
 * An answer is "documents distinct bytes seconds": connections that the client has ended, different
 * numbers at the head of their documents (lprbench writes one into each), octets, and the time from
 * `go` to the end of the last document. It ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NUMBER_DIGITS 20u
#define NUMBERS_MAX 1000000u
#define READ_SIZE ((size_t)256 << 10)
#define READS_A_TURN 4u
#define BACKLOG 1024

struct connection {
    int fd;
    unsigned digits; /* of its document's number that have come; NUMBER_DIGITS + 1: it has none */
    uint64_t number;
    struct connection *next, **link; /* in the list of the open ones */
};

static struct connection *open_ones;
static int poller, listener;
static bool is_held = true;
static uint64_t documents, distinct, octets, wanted;
static double began, ended;
static unsigned char seen[NUMBERS_MAX / 8];

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void stop(const char *what)
{
    fprintf(stderr, "sinkbench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void answer(void)
{
    printf("%llu %llu %llu %.6f\n", (unsigned long long)documents, (unsigned long long)distinct,
           (unsigned long long)octets, documents == 0 ? 0.0 : ended - began);
    fflush(stdout);
}

/* ---- connections ---- */

static void watch(struct connection *connection, int operation)
{
    struct epoll_event event = {.events = is_held ? 0 : EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(poller, operation, connection->fd, &event) != 0)
        stop("epoll");
}

static void connection_begin(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        stop("memory");
    connection->fd = fd;
    connection->next = open_ones;
    connection->link = &open_ones;
    if (open_ones != NULL)
        open_ones->link = &connection->next;
    open_ones = connection;
    watch(connection, EPOLL_CTL_ADD);
}

static void read_number(struct connection *connection, const char *data, size_t length)
{
    for (size_t i = 0; i < length && connection->digits < NUMBER_DIGITS; i++) {
        if (data[i] < '0' || data[i] > '9') {
            connection->digits = NUMBER_DIGITS + 1;
            return;
        }
        connection->number = connection->number * 10 + (uint64_t)(data[i] - '0');
        connection->digits++;
    }
}

static void connection_end(struct connection *connection, bool is_whole)
{
    uint64_t number = connection->number;
    if (is_whole) {
        documents++;
        ended = now_seconds();
        if (connection->digits == NUMBER_DIGITS && number < NUMBERS_MAX &&
            (seen[number / 8] & 1u << number % 8) == 0) {
            seen[number / 8] |= (unsigned char)(1u << number % 8);
            distinct++;
        }
    }
    close(connection->fd);
    *connection->link = connection->next;
    if (connection->next != NULL)
        connection->next->link = connection->link;
    free(connection);
    if (wanted > 0 && documents >= wanted) {
        wanted = 0;
        answer();
    }
}

static void connection_read(struct connection *connection, uint32_t events)
{
    static char data[READ_SIZE];
    if (is_held) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0) /* of which epoll would not stop to tell */
            connection_end(connection, false);
        return;
    }
    for (unsigned i = 0; i < READS_A_TURN; i++) {
        ssize_t length = recv(connection->fd, data, sizeof data, 0);
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (length <= 0) {
            connection_end(connection, length == 0);
            return;
        }
        octets += (uint64_t)length;
        read_number(connection, data, (size_t)length);
    }
}

/* ---- orders ---- */

static void set_held(bool is_to_hold)
{
    is_held = is_to_hold;
    for (struct connection *connection = open_ones; connection != NULL;
         connection = connection->next)
        watch(connection, EPOLL_CTL_MOD);
}

static void obey(const char *line)
{
    if (strcmp(line, "hold") == 0) {
        documents = distinct = octets = wanted = 0;
        memset(seen, 0, sizeof seen);
        set_held(true);
    } else if (strcmp(line, "go") == 0) {
        began = now_seconds();
        set_held(false);
    } else if (strcmp(line, "count") == 0) {
        answer();
    } else if (strncmp(line, "until ", 6) == 0) {
        wanted = strtoull(line + 6, NULL, 10);
        if (documents >= wanted) {
            wanted = 0;
            answer();
        }
    } else {
        fprintf(stderr, "sinkbench: what is \"%s\"?\n", line);
        exit(2);
    }
}

/* Standard input has something; false at its end. */
static bool obey_input(void)
{
    static char text[256];
    static size_t used;
    char *end;
    ssize_t length = read(STDIN_FILENO, text + used, sizeof text - 1 - used);
    if (length <= 0)
        return false;
    used += (size_t)length;
    text[used] = '\0';
    while ((end = strchr(text, '\n')) != NULL) {
        *end = '\0';
        obey(text);
        used -= (size_t)(end + 1 - text);
        memmove(text, end + 1, used + 1);
    }
    return true;
}

static void listen_somewhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, BACKLOG) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        stop("listen");
    printf("port %u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
}

int main(void)
{
    static char input_mark, listener_mark;
    struct epoll_event events[64];
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = &input_mark};
    struct epoll_event incoming = {.events = EPOLLIN, .data.ptr = &listener_mark};
    poller = epoll_create1(EPOLL_CLOEXEC);
    listen_somewhere();
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &incoming) != 0)
        stop("epoll");
    for (;;) {
        int count = epoll_wait(poller, events, 64, -1);
        if (count < 0 && errno != EINTR)
            stop("epoll");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &input_mark) {
                if (!obey_input())
                    return 0;
            } else if (events[i].data.ptr == &listener_mark) {
                connection_begin();
            } else {
                connection_read(events[i].data.ptr, events[i].events);
            }
        }
    }
}
