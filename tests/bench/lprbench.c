/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lprbench.c - LPD load: N clients, each printing jobs of one size, one connection a job.
 *
 *     lprbench [--together] HOST PORT QUEUE CLIENTS JOBS BYTES
 *
 * A job counts when the octet that acknowledges its last file is in. One thread and epoll, so that the
 * generator costs little beside the server; clients take turns of TURN_BYTES, so that a server that
 * reads as fast as one client writes still has all of them at once. With --together no client sends
 * the end of its document before all have sent theirs up to it: then the server has all of them open,
 * nearly whole. Prints one line: "jobs seconds jobs/s MB/s p50-ms p99-ms failed"; ends with status 1
 * when a job was not acknowledged.
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
#define TURN_BYTES ((size_t)1 << 20)
#define DEADLINE_MS 120000 /* without any event: the server is stuck */

/* What a client sends, and waits an octet for. */
enum step { STEP_RECEIVE, STEP_CONTROL, STEP_CONTROL_DATA, STEP_DATA, STEP_CONTENT, STEP_COUNT };

struct client {
    int fd;
    enum step step;
    char head[HEAD_SIZE]; /* of this step */
    size_t head_length, head_sent;
    uint64_t content_left;
    bool is_nul_left, waits, has_arrived, is_listed;
    struct client *next; /* in the list that it is in */
    uint64_t number;     /* of the job */
    double began;
};

struct list {
    struct client *first, **end;
};

static struct sockaddr_in address;
static const char *queue;
static struct list ready;  /* their turn was over before they had sent all */
static struct list parked; /* at the end of their documents, see --together */
static bool is_together;
static uint64_t client_count, arrived_count;
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

static void list_append(struct list *list, struct client *client)
{
    client->is_listed = true;
    client->next = NULL;
    *list->end = client;
    list->end = &client->next;
}

/* The list as it was; it is empty then. */
static struct client *list_take(struct list *list)
{
    struct client *first = list->first;
    list->first = NULL;
    list->end = &list->first;
    return first;
}

/* This client has sent its document up to the end, or never will: the last one lets all go on. */
static void arrive(struct client *client)
{
    if (client->has_arrived)
        return;
    client->has_arrived = true;
    if (++arrived_count == client_count && parked.first != NULL) {
        *ready.end = parked.first;
        ready.end = parked.end;
        (void)list_take(&parked);
    }
}

/* With --together: true while others have not come to the end of their documents. */
static bool must_park(struct client *client)
{
    if (!is_together || client->step != STEP_CONTENT || client->content_left > PIECE_SIZE)
        return false;
    arrive(client);
    return arrived_count < client_count;
}

enum progress { SENT_ALL, SENT_TURN, SENT_UP_TO_END, IS_FULL };

/* What follows next in this step; the flag says whether more follows behind it. */
static const char *next_part(const struct client *client, size_t *length, int *flags)
{
    *flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (client->head_sent < client->head_length) {
        *length = client->head_length - client->head_sent;
        *flags |= client->content_left > 0 || client->is_nul_left ? MSG_MORE : 0;
        return client->head + client->head_sent;
    }
    if (client->content_left > 0) {
        *length = client->content_left < PIECE_SIZE ? (size_t)client->content_left : PIECE_SIZE;
        *flags |= client->content_left == *length ? MSG_MORE : 0; /* the NUL */
        return piece;
    }
    *length = 1;
    return "";
}

static enum progress step_send(struct client *client)
{
    size_t turn = 0;
    while (client->head_sent < client->head_length || client->content_left > 0 ||
           client->is_nul_left) {
        size_t length;
        int flags;
        if (turn >= TURN_BYTES)
            return SENT_TURN;
        if (must_park(client))
            return SENT_UP_TO_END;
        const char *data = next_part(client, &length, &flags);
        ssize_t sent = send(client->fd, data, length, flags);
        if (sent < 0)
            return IS_FULL;
        turn += (size_t)sent;
        if (client->head_sent < client->head_length)
            client->head_sent += (size_t)sent;
        else if (client->content_left > 0)
            client->content_left -= (uint64_t)sent;
        else
            client->is_nul_left = false;
    }
    return SENT_ALL;
}

/* ---- one client ---- */

static bool client_begin(struct client *client)
{
    if (jobs_begun == job_count)
        return false;
    int one = 1;
    client->number = jobs_begun++;
    client->began = now_seconds();
    client->has_arrived = false;
    /* Non-blocking: a full accept queue must hold up the clients that wait for it, not all of them. */
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0 || (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 &&
                           errno != EINPROGRESS))
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
    arrive(client);
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
            switch (step_send(client)) {
            case SENT_ALL: client->waits = true; break;
            case SENT_TURN: list_append(&ready, client); return true;
            case SENT_UP_TO_END: list_append(&parked, client); return true;
            case IS_FULL:
                if (errno == EAGAIN || errno == ENOTCONN)
                    return true;
                return client_end(client, false);
            }
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

/* Those whose turn was over, in the order in which it was; how many clients have no more to do. */
static uint64_t serve_ready(void)
{
    uint64_t ended = 0;
    for (struct client *client = list_take(&ready), *next; client != NULL; client = next) {
        next = client->next;
        client->is_listed = false;
        ended += !client_go(client);
    }
    return ended;
}

/* Runs all clients to their end. */
static void run(struct client *clients)
{
    struct epoll_event events[64];
    uint64_t running = 0;
    for (uint64_t i = 0; i < client_count; i++)
        running += client_begin(&clients[i]);
    while (running > 0) {
        int count = epoll_wait(poller, events, 64, ready.first == NULL ? DEADLINE_MS : 0);
        if ((count == 0 && ready.first == NULL) || (count < 0 && errno != EINTR)) {
            if (count == 0)
                errno = ETIMEDOUT;
            stop("no answer");
        }
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client->is_listed)
                running -= !client_go(client);
        }
        running -= serve_ready();
    }
}

int main(int count, char **words)
{
    static struct client clients[CLIENTS_MAX];
    is_together = count > 1 && strcmp(words[1], "--together") == 0;
    if (is_together) {
        count--;
        words++;
    }
    if (count != 7) {
        fprintf(stderr, "usage: lprbench [--together] HOST PORT QUEUE CLIENTS JOBS BYTES\n");
        return 2;
    }
    client_count = number_of(words[4]);
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
    if (client_count > job_count)
        client_count = job_count;
    (void)list_take(&ready);
    (void)list_take(&parked);
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (char)(i * 131 + i / 251);
    double began = now_seconds();
    run(clients);
    double seconds = now_seconds() - began;
    qsort(times, jobs_done, sizeof *times, compare);
    printf("%llu %.3f %.1f %.2f %.3f %.3f %llu\n", (unsigned long long)jobs_done, seconds,
           (double)jobs_done / seconds, (double)(jobs_done * job_bytes) / seconds / 1e6,
           times[jobs_done / 2] * 1e3, times[jobs_done * 99 / 100] * 1e3,
           (unsigned long long)jobs_failed);
    return jobs_failed == 0 ? 0 : 1;
}
