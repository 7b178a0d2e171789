/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inetbench.c - the least that an inetd is: starts a program for each connection to a port of
 * 127.0.0.1, with the connection as its standard input and output. cups-lpd can be run no other way.
 *
 *     inetbench PORT PROGRAM [ARGUMENT ...]
 *
 * Programs that have ended are waited for, so that their processor time counts as ours. At most
 * CHILDREN_MAX run at once; further connections wait to be accepted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX 256u
#define BACKLOG 1024

static void stop(const char *what)
{
    fprintf(stderr, "inetbench: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Only so that accept() is interrupted when a program ends. */
static void on_child(int number)
{
    (void)number;
}

static int listen_on(const char *port)
{
    char *end;
    unsigned long number = strtoul(port, &end, 10);
    if (end == port || *end != '\0' || number > UINT16_MAX) {
        fprintf(stderr, "inetbench: no port: %s\n", port);
        exit(2);
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)number),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0)
        stop("listen");
    return fd;
}

/* Waits for programs that have ended, for one at least when there may be no more. */
static void reap(unsigned *running)
{
    while (*running > 0) {
        pid_t pid = waitpid(-1, NULL, *running >= CHILDREN_MAX ? 0 : WNOHANG);
        if (pid > 0)
            --*running;
        else if (pid == 0 || errno != EINTR)
            return;
    }
}

static void run_program(int connection, char **words)
{
    if (dup2(connection, STDIN_FILENO) < 0 || dup2(connection, STDOUT_FILENO) < 0)
        _exit(127);
    execv(words[0], words);
    _exit(127);
}

int main(int count, char **words)
{
    unsigned running = 0;
    struct sigaction action = {.sa_handler = on_child};
    if (count < 3) {
        fprintf(stderr, "usage: inetbench PORT PROGRAM [ARGUMENT ...]\n");
        return 2;
    }
    int listener = listen_on(words[1]);
    sigaction(SIGCHLD, &action, NULL);
    for (;;) {
        reap(&running);
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            stop("accept");
        }
        pid_t pid = fork();
        if (pid == 0)
            run_program(connection, words + 2);
        if (pid < 0)
            stop("fork");
        running++;
        close(connection);
    }
}
