/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-spool.c - what the spool takes and gives on this machine, without network and records.
 *
 *     bench-spool [FOLDER]
 *
 * Writers take turns on one loop; each document is sealed, synced and committed before it counts.
 * Each case runs twice: "new" makes its files, "reused" gets those of documents that were shredded.
 * Beside it the bare figure: the same bytes sealed, written directly into a preallocated file and
 * synced, by one thread.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/loop.h"
#include "modules/jobs/tests/spool-fixture.h"

static struct spool_fixture fixture;
static uint8_t piece[65536];

enum { DOCUMENTS_MAX = 20000 };
static struct spool_document documents[DOCUMENTS_MAX];
static int document_count;

struct lane {
    struct spool_writer *writer;
    uint64_t at, size;
    bool can_write, is_finishing, is_committing;
    int *left, *running;
};

static void lane_start(struct lane *lane);
static void lane_push(struct lane *lane);

static void stop(const char *what, imp_status status)
{
    fprintf(stderr, "bench-spool: %s: %s\n", what, imp_status_name(status));
    exit(1);
}

static void lane_ready(void *arg)
{
    lane_push(arg);
}

static imp_status lane_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct lane *lane = arg;
    return spool_writer_put_tx(lane->writer, tx, error);
}

static void lane_committed(imp_status status, const imp_error *error, void *arg)
{
    struct lane *lane = arg;
    (void)error;
    if (status != IMP_OK)
        stop("commit", status);
    documents[document_count++] = *spool_writer_document(lane->writer);
    spool_writer_close(lane->writer, true);
    lane_start(lane);
}

static void lane_commit(struct lane *lane)
{
    imp_status status =
        imp_store_write(fixture.self, IMP_WRITE_BULK, lane_tx, lane_committed, lane);
    if (status != IMP_OK)
        stop("write", status);
}

static void lane_finished(imp_status status, const imp_error *error, void *arg)
{
    if (status != IMP_OK) {
        fprintf(stderr, "%s\n", error->message);
        stop("finish", status);
    }
    lane_commit(arg);
}

static void lane_push(struct lane *lane)
{
    imp_status status = IMP_OK;
    while (lane->at < lane->size && status == IMP_OK) {
        size_t length =
            lane->size - lane->at < sizeof piece ? (size_t)(lane->size - lane->at) : sizeof piece;
        status = spool_writer_write(lane->writer, piece, length, NULL);
        lane->at += length;
    }
    if (status == IMP_BUSY)
        return;
    if (status == IMP_OK)
        status = spool_writer_finish(lane->writer, lane_finished, lane, NULL);
    if (status == IMP_OK)
        lane_commit(lane);
    else if (status != IMP_BUSY)
        stop("write", status);
}

static void lane_start(struct lane *lane)
{
    if (*lane->left == 0) {
        (*lane->running)--;
        return;
    }
    (*lane->left)--;
    lane->at = 0;
    imp_status status = spool_writer_open(fixture.spool, (int64_t)lane->size, lane_ready, lane,
                                          &lane->writer, NULL);
    if (status != IMP_OK)
        stop("open", status);
    lane_push(lane);
}

static double bench_spool(uint64_t size, int count, int writers)
{
    struct lane lanes[128] = {0};
    int left = count, running = writers;

    fixture_settle(&fixture);
    int64_t begin = imp_ticks();
    for (int i = 0; i < writers; i++) {
        lanes[i] = (struct lane){.size = size, .left = &left, .running = &running};
        lane_start(&lanes[i]);
    }
    while (running > 0)
        loop_run_once(imp_loop_control(), true);
    return (double)(imp_ticks() - begin) / 1e6;
}

static imp_status condemn_all_tx(imp_tx *tx, void *arg, imp_error *error)
{
    imp_status status = IMP_OK;
    (void)arg;
    for (int i = 0; i < document_count && status == IMP_OK; i++)
        status = spool_condemn_tx(fixture.spool, tx, &documents[i], error);
    return status;
}

static double shred_all(void)
{
    int64_t begin = imp_ticks();
    imp_status status = imp_store_write_sync(fixture.self, condemn_all_tx, NULL, NULL);
    if (status == IMP_OK)
        status = fixture_shred(&fixture);
    if (status != IMP_OK)
        stop("shred", status);
    document_count = 0;
    return (double)(imp_ticks() - begin) / 1e6;
}

/* One thread, one preallocated file that is overwritten, one sync a document. */
static double bench_bare(uint64_t size, int count)
{
    static const uint8_t key[SEGMENT_KEY] = {1};
    char path[128];
    uint8_t *buffer = NULL;
    struct segment_stream stream = {0};

    snprintf(path, sizeof path, "%s/bare", fixture.folder);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    if (fd == -1)
        fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd == -1 || posix_memalign((void **)&buffer, 4096, SPOOL_BUFFER_SIZE) != 0 ||
        segment_stream_start(&stream, true, key) != IMP_OK)
        stop("bare", IMP_IO);
    memset(buffer, 'x', SPOOL_BUFFER_SIZE);
    double seconds = 0;
    for (int round = 0; round < 2; round++) { /* the first one makes the file */
        int64_t begin = imp_ticks();
        for (int i = 0; i < (round == 0 ? 1 : count); i++) {
            for (uint64_t at = 0; at < size; at += 4 * (uint64_t)SEGMENT_SIZE) {
                uint64_t left = size - at;
                size_t segments = left >= 4 * (uint64_t)SEGMENT_SIZE
                                      ? 4
                                      : (size_t)((left - 1) / SEGMENT_SIZE + 1);
                for (size_t s = 0; s < segments; s++) {
                    uint8_t *place = buffer + s * SEGMENT_SIZE;
                    if (segment_seal(&stream, at / SEGMENT_SIZE + s, false, 0, place, SEGMENT_TEXT,
                                     place + SEGMENT_TEXT) != IMP_OK)
                        stop("bare", IMP_IO);
                }
                size_t length = size < SEGMENT_SIZE ? (size_t)(size + 4095) / 4096 * 4096
                                                    : segments * SEGMENT_SIZE;
                if (pwrite(fd, buffer, length, (off_t)at) != (ssize_t)length)
                    stop("bare", IMP_IO);
            }
            if (fdatasync(fd) != 0)
                stop("bare", IMP_IO);
        }
        seconds = (double)(imp_ticks() - begin) / 1e6;
    }
    segment_stream_end(&stream);
    free(buffer);
    close(fd);
    unlink(path);
    return seconds;
}

int main(int argument_count, char **arguments)
{
    static const struct {
        const char *name;
        uint64_t size;
        int count, writers;
    } cases[] = {
        {"10 KiB", 10240, 3000, 1},  {"10 KiB", 10240, 20000, 16}, {"1 MiB", 1 << 20, 200, 1},
        {"1 MiB", 1 << 20, 400, 16}, {"100 MiB", 100 << 20, 4, 1}, {"100 MiB", 100 << 20, 16, 16},
    };
    if (argument_count > 1)
        setenv("TMPDIR", arguments[1], 1);
    if (!fixture_make(&fixture, true))
        return 1;
    fixture.spool->slot_step = 16384;
    memset(piece, 'b', sizeof piece);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int bare_count = cases[i].count < 300 ? cases[i].count : 300;
        double bare = bench_bare(cases[i].size, bare_count) / bare_count;
        for (int round = 0; round < 2; round++) {
            int count = cases[i].count;
            double mine = bench_spool(cases[i].size, count, cases[i].writers) / count;
            double shredding = shred_all() / count;
            printf("spool %-8s writers=%-3d files=%-6s documents/s=%-8.0f MB/s=%-6.0f bare=%.0f/s "
                   "ratio=%.2f shredded/s=%.0f\n",
                   cases[i].name, cases[i].writers, round == 0 ? "new" : "reused", 1 / mine,
                   (double)cases[i].size / mine / 1e6, 1 / bare, bare / mine, 1 / shredding);
            fflush(stdout);
        }
    }
    fixture_remove(&fixture);
    return 0;
}
