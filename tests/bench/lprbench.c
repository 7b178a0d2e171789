/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lprbench.c - LPD load: N clients, each printing jobs of one size, one connection a job.
 *
 *     lprbench HOST PORT QUEUE CLIENTS JOBS BYTES
 *
 * One thread and epoll, so that the generator costs little beside the server. Prints one line:
 * "jobs seconds jobs/s MB/s p50-ms p99-ms failed".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 1024u
#define HEAD_SIZE 512u
#define PIECE_SIZE ((size_t)256 << 10)
#define DEADLINE_MS 120000 /* without any event: the server is stuck */

/* What a client sends, and waits an octet for. */
enum step { STEP_RECEIVE, STEP_CONTROL, STEP_CONTROL_DATA, STEP_DATA, STEP_CONTENT, STEP_COUNT };

struct client {
    int fd;
    enum step step;
    char head[HEAD_SIZE]; /* of this step */
    size_t head_length, head_sent;
    uint64_t content_left;
    bool is_nul_left, waits;
    uint64_t number; /* of the job */
    double began;
};

static struct sockaddr_in address;
static const char *queue;
static uint64_t job_count, job_bytes, jobs_begun, jobs_done, jobs_failed;
static double *times;
static char piece[PIECE_SIZE];
static int poller;

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void stop(const char *what)
{
    fprintf(stderr, "lprbench: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- one step ---- */

static size_t control_text(const struct client *client, char *text, size_t size)
{
    return (size_t)snprintf(text, size, "Hclient\nPbench\nJbench\nldfA%03uclient\n",
                            (unsigned)(client->number % 1000));
}

static void step_begin(struct client *client, enum step step)
{
    char control[128];
    size_t control_length = control_text(client, control, sizeof control);
    unsigned number = (unsigned)(client->number % 1000);
    int length = 0;
    client->step = step;
    client->waits = false;
    client->head_sent = 0;
    client->content_left = 0;
    client->is_nul_left = false;
    switch (step) {
    case STEP_RECEIVE: length = snprintf(client->head, HEAD_SIZE, "\2%s\n", queue); break;
    case STEP_CONTROL:
        length = snprintf(client->head, HEAD_SIZE, "\2%zu cfA%03uclient\n", control_length, number);
        break;
    case STEP_CONTROL_DATA:
        length = snprintf(client->head, HEAD_SIZE, "%s", control);
        client->is_nul_left = true;
        break;
    case STEP_DATA:
        length = snprintf(client->head, HEAD_SIZE, "\3%llu dfA%03uclient\n",
                          (unsigned long long)job_bytes, number);
        break;
    default:
        /* every job is another document: a server may know the last one */
        length = snprintf(client->head, HEAD_SIZE, "%020llu", (unsigned long long)client->number);
        if ((uint64_t)length > job_bytes)
            length = (int)job_bytes;
        client->content_left = job_bytes - (uint64_t)length;
        client->is_nul_left = true;
        break;
    }
    client->head_length = (size_t)length;
}

/* True when all of the step has been sent; false: the socket takes no more now. */
static bool step_send(struct client *client)
{
    while (client->head_sent < client->head_length || client->content_left > 0 ||
           client->is_nul_left) {
        const char *data = piece;
        size_t length;
        if (client->head_sent < client->head_length) {
            data = client->head + client->head_sent;
            length = client->head_length - client->head_sent;
        } else if (client->content_left > 0) {
            length = client->content_left < PIECE_SIZE ? (size_t)client->content_left : PIECE_SIZE;
        } else {
            data = "";
            length = 1;
        }
        bool is_last = client->head_sent == client->head_length && client->content_left == 0;
        int more = is_last ? 0 : MSG_MORE;
        if (!client->is_nul_left)
            more = 0;
        ssize_t sent = send(client->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT | more);
        if (sent < 0)
            return false;
        if (client->head_sent < client->head_length)
            client->head_sent += (size_t)sent;
        else if (client->content_left > 0)
            client->content_left -= (uint64_t)sent;
        else
            client->is_nul_left = false;
    }
    return true;
}

/* ---- one client ---- */

static bool client_begin(struct client *client)
{
    if (jobs_begun == job_count)
        return false;
    int one = 1;
    client->number = jobs_begun++;
    client->began = now_seconds();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0)
        stop("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event) != 0)
        stop("epoll");
    step_begin(client, STEP_RECEIVE);
    return true;
}

/* Ends the job and begins the next; false when there is none left. */
static bool client_end(struct client *client, bool is_good)
{
    close(client->fd);
    client->fd = -1;
    if (is_good)
        times[jobs_done++] = now_seconds() - client->began;
    else
        jobs_failed++;
    return client_begin(client);
}

/* As far as it goes; false when the client has no more to do. */
static bool client_go(struct client *client)
{
    for (;;) {
        if (!client->waits) {
            if (!step_send(client)) {
                if (errno == EAGAIN || errno == ENOTCONN)
                    return true;
                return client_end(client, false);
            }
            client->waits = true;
        }
        char octet = 1;
        ssize_t length = recv(client->fd, &octet, 1, MSG_DONTWAIT);
        if (length < 0 && errno == EAGAIN)
            return true;
        if (length != 1 || octet != 0)
            return client_end(client, false);
        if (client->step + 1 == STEP_COUNT)
            return client_end(client, true);
        step_begin(client, client->step + 1);
    }
}

static int compare(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return difference < 0 ? -1 : difference > 0;
}

static uint64_t number_of(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0') {
        fprintf(stderr, "lprbench: \"%s\" is no number\n", text);
        exit(2);
    }
    return value;
}

int main(int count, char **words)
{
    static struct client clients[CLIENTS_MAX];
    struct epoll_event events[64];
    if (count != 7) {
        fprintf(stderr, "usage: lprbench HOST PORT QUEUE CLIENTS JOBS BYTES\n");
        return 2;
    }
    uint64_t client_count = number_of(words[4]);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)number_of(words[2]));
    queue = words[3];
    job_count = number_of(words[5]);
    job_bytes = number_of(words[6]);
    times = calloc(job_count + 1, sizeof *times);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (inet_pton(AF_INET, words[1], &address.sin_addr) != 1 || client_count == 0 ||
        client_count > CLIENTS_MAX || times == NULL || poller < 0) {
        fprintf(stderr, "lprbench: no such address, or too many clients\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (char)(i * 131 + i / 251);
    double began = now_seconds();
    uint64_t running = 0;
    for (uint64_t i = 0; i < client_count; i++)
        running += client_begin(&clients[i]);
    while (running > 0) {
        int ready = epoll_wait(poller, events, 64, DEADLINE_MS);
        if (ready == 0 || (ready < 0 && errno != EINTR))
            stop("no answer");
        for (int i = 0; i < ready; i++)
            if (!client_go(events[i].data.ptr))
                running--;
    }
    double seconds = now_seconds() - began;
    qsort(times, jobs_done, sizeof *times, compare);
    printf("%llu %.3f %.1f %.2f %.3f %.3f %llu\n", (unsigned long long)jobs_done, seconds,
           (double)jobs_done / seconds, (double)(jobs_done * job_bytes) / seconds / 1e6,
           times[jobs_done / 2] * 1e3, times[jobs_done * 99 / 100] * 1e3,
           (unsigned long long)jobs_failed);
    return jobs_failed == 0 ? 0 : 1;
}
