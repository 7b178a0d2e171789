/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "modules/jobs/tests/spool-fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/self.h"
#include "core/store.h"
#include "core/worker.h"

static const imp_table_spec fixture_tables[] = {SPOOL_TABLES, {NULL, 0, 0}};
static const uint8_t fixture_master[KEYS_MASTER_SIZE] = {7};

#define FIXTURE_DEADLINE (30 * IMP_SECOND)

bool fixture_open(struct spool_fixture *fixture)
{
    imp_error error = {0};
    struct store_options options = {
        .state_dir = fixture->folder, .master = fixture_master, .mode = STORE_INLINE};

    if (fixture->has_workers) {
        options.mode = STORE_THREADED;
        options.hooks = &store_hooks_server;
    }
    if (loop_setup_for_test(&error) != IMP_OK)
        goto failed;
    fixture->self = self_new_for_test("jobs");
    if (fixture->has_workers && worker_start(4, 0, &error) != IMP_OK)
        goto failed;
    if (store_open(&options, &fixture->store, &error) != IMP_OK)
        goto failed;
    store_set_current(fixture->store);
    if (store_table_declare(fixture->store, fixture->self, "jobs", fixture_tables, NULL, &error) !=
        IMP_OK)
        goto failed;
    if (spool_open_with(fixture->self, fixture->io, &fixture->settings, &fixture->spool, &error) !=
        IMP_OK)
        goto failed;
    return true;
failed:
    fprintf(stderr, "fixture: %s\n", error.message);
    return false;
}

bool fixture_make(struct spool_fixture *fixture, bool has_workers)
{
    const char *below = getenv("TMPDIR");

    memset(fixture, 0, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "%s/test-spool-XXXXXX",
             below == NULL ? "/tmp" : below);
    if (mkdtemp(fixture->folder) == NULL)
        return false;
    fixture->settings = (struct spool_settings){
        .inline_max = 32768,
        .spool_buffers = 32 << 20,
        .spool_reserve = 0,
        .spool_files_ahead = 4,
        .spool_file_extent = (int64_t)1092 * 1024,
        .spool_slot_step = 1024,
        .key_pool = "",
    };
    fixture->io = &spool_io_system;
    fixture->has_workers = has_workers;
    return fixture_open(fixture);
}

static bool fixture_is_busy(struct spool_fixture *fixture)
{
    struct spool *spool = fixture->spool;
    for (uint32_t i = 0; i <= imp_loop_count(); i++)
        if (spool->lanes[i].running > 0 || spool->lanes[i].first != NULL)
            return true;
    return spool->shredder.is_running || spool->shredder.is_kicked;
}

void fixture_settle(struct spool_fixture *fixture)
{
    int64_t deadline = imp_ticks() + FIXTURE_DEADLINE;
    while (fixture_is_busy(fixture) && imp_ticks() < deadline)
        loop_run_once(imp_loop_control(), true);
    while (loop_run_once(imp_loop_control(), false))
        ;
}

void fixture_close(struct spool_fixture *fixture)
{
    fixture_settle(fixture);
    self_end(fixture->self, SELF_CUT);
    while (loop_run_once(imp_loop_control(), false))
        ;
    if (fixture->has_workers)
        worker_stop();
    spool_close(fixture->spool);
    store_set_current(NULL);
    store_close(fixture->store);
    while (loop_run_once(imp_loop_control(), false))
        ;
    self_free_for_test(fixture->self);
    loop_stop();
    loop_teardown();
}

static int fixture_unlink(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void fixture_remove(struct spool_fixture *fixture)
{
    fixture_close(fixture);
    nftw(fixture->folder, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

bool fixture_wait(const bool *flag)
{
    int64_t deadline = imp_ticks() + FIXTURE_DEADLINE;
    while (!*flag && imp_ticks() < deadline)
        loop_run_once(imp_loop_control(), true);
    return *flag;
}

/* ---- documents ---- */

uint8_t fixture_byte(uint32_t seed, uint64_t at)
{
    uint64_t mixed =
        (at / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) + seed * UINT64_C(0xbf58476d1ce4e5b9);
    mixed ^= mixed >> 29;
    return (uint8_t)(mixed >> (at % 8 * 8));
}

struct fixture_call {
    bool is_done;
    imp_status status;
    imp_error error;
    struct spool_writer *writer;
    struct spool *spool;
    const struct spool_document *document;
};

static void call_ready(void *arg)
{
    struct fixture_call *call = arg;
    call->is_done = true;
}

static void call_done(imp_status status, const imp_error *error, void *arg)
{
    struct fixture_call *call = arg;
    call->is_done = true;
    call->status = status;
    if (error != NULL)
        call->error = *error;
}

static imp_status put_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct fixture_call *call = arg;
    return spool_writer_put_tx(call->writer, tx, error);
}

static imp_status wait_for_call(struct fixture_call *call)
{
    return fixture_wait(&call->is_done) ? call->status : IMP_TIMEOUT;
}

imp_status fixture_write(struct spool_fixture *fixture, uint32_t seed, uint64_t size, size_t piece,
                         struct spool_document *document, imp_error *error)
{
    struct fixture_call call = {0};
    uint8_t *bytes = malloc(piece);
    bool is_committed = false;

    imp_status status =
        spool_writer_open(fixture->spool, -1, call_ready, &call, &call.writer, error);
    for (uint64_t at = 0; at < size && status == IMP_OK;) {
        size_t length = size - at < piece ? (size_t)(size - at) : piece;
        for (size_t i = 0; i < length; i++)
            bytes[i] = fixture_byte(seed, at + i);
        call.is_done = false;
        status = spool_writer_write(call.writer, bytes, length, error);
        if (status == IMP_BUSY)
            status = wait_for_call(&call);
        at += length;
    }
    if (status == IMP_OK) {
        call.is_done = false;
        status = spool_writer_finish(call.writer, call_done, &call, error);
        if (status == IMP_BUSY) {
            status = wait_for_call(&call);
            if (error != NULL)
                *error = call.error;
        }
    }
    if (status == IMP_OK) {
        *document = *spool_writer_document(call.writer);
        call.is_done = false;
        status = imp_store_write(fixture->self, IMP_WRITE_BULK, put_tx, call_done, &call);
        if (status == IMP_OK)
            status = wait_for_call(&call);
        is_committed = status == IMP_OK;
    }
    spool_writer_close(call.writer, is_committed);
    free(bytes);
    return status;
}

imp_status fixture_read(struct spool_fixture *fixture, const struct spool_document *document,
                        uint32_t seed, imp_error *error)
{
    struct spool_reader *reader = NULL;
    struct fixture_call call = {0};
    uint8_t bytes[20000];
    uint64_t at = 0;

    imp_status status =
        spool_reader_open(fixture->spool, document, call_ready, &call, &reader, error);
    while (status == IMP_OK) {
        size_t length = 0;
        call.is_done = false;
        status = spool_reader_read(reader, bytes, sizeof bytes, &length, error);
        if (status == IMP_BUSY) {
            status = wait_for_call(&call);
            continue;
        }
        if (status != IMP_OK || length == 0)
            break;
        for (size_t i = 0; i < length; i++)
            if (bytes[i] != fixture_byte(seed, at + i))
                status = IMP_INVALID;
        at += length;
    }
    if (status == IMP_OK && at != document->size)
        status = IMP_INVALID;
    spool_reader_close(reader);
    return status;
}

static imp_status condemn_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct fixture_call *call = arg;
    return spool_condemn_tx(call->spool, tx, call->document, error);
}

imp_status fixture_condemn(struct spool_fixture *fixture, const struct spool_document *document)
{
    struct fixture_call call = {.spool = fixture->spool, .document = document};
    imp_status status =
        imp_store_write(fixture->self, IMP_WRITE_CONTROL, condemn_tx, call_done, &call);
    return status == IMP_OK ? wait_for_call(&call) : status;
}

static void shredded(imp_status status, void *arg)
{
    call_done(status, NULL, arg);
}

imp_status fixture_shred(struct spool_fixture *fixture)
{
    struct fixture_call call = {0};
    spool_shred(fixture->spool, shredded, &call);
    return wait_for_call(&call);
}
