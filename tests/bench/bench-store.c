/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-store.c - closures a second with 1, 16 and 128 waiting, and what a batch costs besides its
 * sync; seals a second.
 *
 *     bench-store FOLDER [SECONDS]
 *
 * A closure puts 7 records of 300 bytes into 4 tables. Keys are either all random (each put then
 * dirties a leaf page of its own, once the tables are large), or two of them are, as ids of jobs are, and
 * the others are numbers in sequence, as events are.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/seal.h"
#include "core/store.h"

#define PUTS 7
#define VALUE_SIZE 300
#define WAITING_MAX 128

static const imp_table_spec specs[] = {
    {.name = "job", .schema = 1},
    {.name = "document", .schema = 1},
    {.name = "event", .schema = 1},
    {.name = "by_queue", .schema = 1, .flags = IMP_TABLE_PLAIN},
    {.name = NULL},
};

static struct store *store;
static imp_table *tables[4];
static _Atomic bool is_ending;
static _Atomic uint64_t finished;
static _Atomic int waiting;
static sem_t all_done;
static int random_puts; /* the other keys are in sequence */
static uint64_t next_number;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static imp_status put_job(imp_tx *tx, void *arg, imp_error *error)
{
    (void)arg;
    (void)error;
    uint8_t value[VALUE_SIZE] = {0};
    imp_status status = IMP_OK;
    for (int i = 0; i < PUTS && status == IMP_OK; i++) {
        imp_id key;
        imp_random(&key, sizeof key);
        if (i >= random_puts) {
            next_number++;
            for (size_t digit = 0; digit < 8; digit++) {
                key.bytes[digit] = (uint8_t)(next_number >> (56 - 8 * digit));
            }
        }
        imp_table *table = tables[i % 4];
        size_t length = i % 4 == 3 ? 16 : sizeof value;
        status = imp_tx_put(tx, table, (imp_bytes){&key, sizeof key}, (imp_bytes){value, length});
    }
    return status;
}

static void again(imp_status status, const imp_error *error, void *arg)
{
    if (status != IMP_OK) {
        fprintf(stderr, "bench-store: %s\n", error->message);
        exit(1);
    }
    atomic_fetch_add(&finished, 1);
    if (!atomic_load(&is_ending) &&
        store_write(store, NULL, IMP_WRITE_BULK, put_job, again, arg) == IMP_OK) {
        return;
    }
    if (atomic_fetch_sub(&waiting, 1) == 1) {
        sem_post(&all_done);
    }
}

static void measure(int count, int random_keys, double seconds)
{
    random_puts = random_keys;
    struct store_stats before, after;
    store_stats_get(store, &before);
    atomic_store(&is_ending, false);
    atomic_store(&finished, 0);
    atomic_store(&waiting, count);
    uint64_t began = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        if (store_write(store, NULL, IMP_WRITE_BULK, put_job, again, NULL) != IMP_OK) {
            fprintf(stderr, "bench-store: a write was refused\n");
            exit(1);
        }
    }
    struct timespec length = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&length, NULL);
    atomic_store(&is_ending, true);
    while (sem_wait(&all_done) != 0 && errno == EINTR) {
    }
    double passed = (double)(now_ns(CLOCK_MONOTONIC) - began) / 1e9;
    store_stats_get(store, &after);
    double commits = (double)(after.commits - before.commits);
    double commit_ms = (double)(after.syncs_us - before.syncs_us) / 1e3;
    printf("store waiting=%d random_keys=%d closures_per_s=%.0f closures_per_commit=%.1f "
           "commit_ms=%.3f "
           "besides_commit_ms=%.3f\n",
           count, random_keys, (double)atomic_load(&finished) / passed,
           (double)atomic_load(&finished) / commits, commit_ms / commits,
           (passed * 1e3 - commit_ms) / commits);
}

static void measure_seal(size_t size)
{
    enum { COUNT = 200000 };
    const struct seal_scope scope = {store_keyring(store), "bench.seal", 200};
    uint8_t *plain = calloc(1, size);
    uint8_t *sealed = calloc(1, size + SEAL_OVERHEAD);
    if (plain == NULL || sealed == NULL) {
        exit(1);
    }
    imp_id key = imp_id_new();
    uint64_t began = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < COUNT; i++) {
        if (seal_value(&scope, (imp_bytes){&key, sizeof key}, (imp_bytes){plain, size}, sealed) !=
            IMP_OK) {
            exit(1);
        }
    }
    uint64_t between = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < COUNT; i++) {
        if (seal_open(&scope, (imp_bytes){&key, sizeof key},
                      (imp_bytes){sealed, size + SEAL_OVERHEAD}, plain) != IMP_OK) {
            exit(1);
        }
    }
    uint64_t ended = now_ns(CLOCK_THREAD_CPUTIME_ID);
    printf("seal bytes=%zu seals_per_s=%.0f opens_per_s=%.0f\n", size,
           COUNT / ((double)(between - began) / 1e9), COUNT / ((double)(ended - between) / 1e9));
    free(plain);
    free(sealed);
}

int main(int argc, char **argv)
{
    uint8_t master[KEYS_MASTER_SIZE];
    imp_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: bench-store FOLDER [SECONDS]\n");
        return 2;
    }
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    if (mkdir(argv[1], 0700) != 0 && errno != EEXIST) {
        perror(argv[1]);
        return 1;
    }
    imp_random(master, sizeof master);
    const struct store_options options = {.state_dir = argv[1], .master = master};
    if (store_open(&options, &store, &error) != IMP_OK ||
        store_table_declare(store, NULL, "bench", specs, NULL, &error) != IMP_OK) {
        fprintf(stderr, "bench-store: %s\n", error.message);
        return 1;
    }
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "bench.%s", specs[i].name);
        tables[i] = store_table_find(store, name);
    }
    sem_init(&all_done, 0, 0);
    measure_seal(1024);
    for (int random_keys = 2; random_keys <= PUTS; random_keys += PUTS - 2) {
        measure(1, random_keys, seconds);
        measure(16, random_keys, seconds);
        measure(128, random_keys, seconds);
    }
    store_close(store);
    return 0;
}
