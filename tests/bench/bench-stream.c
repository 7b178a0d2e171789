/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast streams are: bytes taken from one connection, and short connections (connect, one byte
 * there and back, close) from a few client threads, over loopback. Prints, asserts nothing.
 *
 *     bench-stream [SECONDS]
 */
#include "build-config.h"

#include "core/listener.h"
#include "core/loop.h"
#include "core/self.h"
#include "core/stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 4
#define BLOCK_SIZE ((size_t)256 * 1024)

static uint16_t port;
static atomic_bool is_over;
static _Atomic uint64_t taken, connections;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A first byte 'e' is answered; all else is dropped. */
static void readable(imp_stream *stream, void *arg)
{
    imp_bytes input = imp_stream_input(stream);
    (void)arg;
    if (input.length == 1 && *(const char *)input.data == 'e')
        imp_stream_write(stream, "e", 1);
    atomic_fetch_add_explicit(&taken, input.length, memory_order_relaxed);
    imp_stream_consume(stream, input.length);
}

static void closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    (void)stream;
    (void)reason;
    (void)arg;
}

static const imp_stream_events events = {
    .size = sizeof events, .readable = readable, .closed = closed};

static imp_status accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream)
{
    (void)self;
    (void)instance;
    (void)listener;
    imp_stream_set_events(stream, &events, NULL);
    return IMP_OK;
}

static int dial(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void *send_blocks(void *arg)
{
    char *block = calloc(1, BLOCK_SIZE);
    int fd = dial();
    (void)arg;
    while (!is_over && block != NULL && send(fd, block, BLOCK_SIZE, MSG_NOSIGNAL) > 0)
        ;
    close(fd);
    free(block);
    return NULL;
}

static void *make_connections(void *arg)
{
    const struct linger reset = {.l_onoff = 1};
    (void)arg;
    while (!is_over) {
        char byte = 'e';
        int fd = dial();
        if (send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1)
            atomic_fetch_add_explicit(&connections, 1, memory_order_relaxed);
        /* Without it the ports of the machine run out in TIME_WAIT. */
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    return NULL;
}

static void note_port(const struct listener_info *info, void *arg)
{
    (void)arg;
    port = info->port;
}

static void end_run(void *arg)
{
    (void)arg;
    is_over = true;
    loop_break(imp_loop_control());
}

static double run(double length, int threads, void *(*client)(void *arg))
{
    pthread_t clients[CLIENTS];
    is_over = false;
    double start = seconds();
    for (int i = 0; i < threads; i++)
        pthread_create(&clients[i], NULL, client, NULL);
    imp_timer_start(NULL, (int64_t)(length * 1e6), false, end_run, NULL);
    loop_run(imp_loop_control());
    double took = seconds() - start;
    for (int i = 0; i < threads; i++)
        pthread_join(clients[i], NULL);
    return took;
}

int main(int argc, char **argv)
{
    const struct listener_limits limits = LISTENER_LIMITS_DEFAULT;
    struct config_listener config = {.module = "bench", .name = "main", .address_text = "loopback"};
    struct sockaddr_in *address = (struct sockaddr_in *)(void *)&config.address;
    char *end = NULL;
    double length = argc > 1 ? strtod(argv[1], &end) : 2;
    imp_error error;
    int fd = -1;

    if (argc > 1 && (end == argv[1] || *end != '\0' || !(length > 0 && length < 1e6))) {
        fprintf(stderr, "usage: bench-stream [SECONDS]\n");
        return 2;
    }
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    config.address_length = sizeof *address;
    imp_self *self = self_new_for_test("bench");
    if (loop_setup(0, &error) != IMP_OK || loop_start(&error) != IMP_OK ||
        listener_start(&limits, &error) != IMP_OK ||
        listener_bind(&config, LISTENER_BACKLOG, &fd, &error) != IMP_OK ||
        listener_table_add(&config, fd, &error) != IMP_OK ||
        imp_listen(self, accepted, &error) != IMP_OK || listener_publish(self, &error) != IMP_OK) {
        fprintf(stderr, "bench-stream: %s\n", error.message);
        return 1;
    }
    listener_each(note_port, NULL);
    double took = run(length, 1, send_blocks);
    printf("intake, one connection: %.0f MB/s\n", (double)taken / took / 1e6);
    took = run(length, CLIENTS, make_connections);
    printf("short connections, %d clients: %.0f/s\n", CLIENTS, (double)connections / took);
    loop_stop();
    listener_withdraw(self);
    listener_stop();
    self_free_for_test(self);
    loop_teardown();
    return 0;
}
