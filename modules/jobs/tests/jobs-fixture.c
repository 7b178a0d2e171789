/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/control.h"
#include "core/loop.h"
#include "core/self.h"
#include "core/service.h"
#include "core/store.h"
#include "core/time.h"
#include "core/worker.h"
#include "modules/jobs/jobs-delivery-private.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/jobs-release.h"
#include "modules/jobs/tests/jobs-fixture.h"

extern const imp_module imp_module_descriptor __asm__("imp_module");

struct jobs_fixture *fixture_now;

/* ---- stand-ins ---- */

static imp_status accounts_find_user(imp_self *provider, const char *name, imp_principal *principal)
{
    (void)provider;
    bool is_alice = strcmp(name, "alice") == 0;
    if (!is_alice && strcmp(name, "bob") != 0)
        return IMP_NOT_FOUND;
    principal->id = is_alice ? fixture_now->alice : fixture_now->bob;
    principal->kind = IMP_PRINCIPAL_USER;
    principal->is_enabled = true;
    return IMP_OK;
}

static imp_status accounts_session_get(imp_self *provider, const imp_id *id, imp_session *session)
{
    (void)provider;
    bool is_alice = imp_id_equal(*id, fixture_now->alice_session);
    if (!is_alice && !imp_id_equal(*id, fixture_now->bob_session))
        return IMP_NOT_FOUND;
    session->id = *id;
    session->principal = is_alice ? fixture_now->alice : fixture_now->bob;
    session->device = (imp_id){{0}};
    return IMP_OK;
}

static const imp_accounts_v1 accounts = {
    .size = sizeof accounts,
    .find_user = accounts_find_user,
    .session_get = accounts_session_get,
};

static imp_status devices_get(imp_self *provider, const imp_id *id, imp_device *device)
{
    (void)provider;
    bool is_printer = imp_id_equal(*id, fixture_now->printer);
    if (!is_printer && !imp_id_equal(*id, fixture_now->other_printer))
        return IMP_NOT_FOUND;
    device->id = *id;
    device->is_enabled = fixture_now->printer_is_enabled;
    strncpy(device->name, is_printer ? "hall" : "attic", sizeof device->name - 1);
    strncpy(device->uris[0], "socket://127.0.0.1:9", sizeof device->uris[0] - 1);
    device->uri_count = 1;
    return IMP_OK;
}

static const imp_devices_v1 devices = {.size = sizeof devices, .get = devices_get};

static imp_status audit_append_tx(imp_self *provider, imp_self *caller, imp_tx *tx,
                                  const imp_audit_event *event, imp_error *error)
{
    (void)provider;
    (void)caller;
    (void)error;
    assert_true(imp_tx_is_writing(tx));
    assert_true(strlen(event->detail) <= 200);
    fixture_now->audit_events++;
    return IMP_OK;
}

static void audit_append(imp_self *provider, imp_self *caller, const imp_audit_event *event,
                         void (*done)(imp_status status, void *arg), void *arg)
{
    (void)provider;
    (void)caller;
    (void)event;
    fixture_now->audit_events++;
    if (done != NULL)
        done(IMP_OK, arg);
}

static const imp_audit_v1 audit = {
    .size = sizeof audit,
    .append_tx = audit_append_tx,
    .append = audit_append,
};

static void transport_cancel(imp_delivery *delivery, void *arg)
{
    (void)arg;
    fixture_now->cancels++;
    if (fixture_now->hangs)
        return;
    imp_error error = {0};
    imp_error_set(&error, IMP_TIMEOUT, "given up");
    imp_delivery_finish(delivery, IMP_DELIVERY_NOT_STARTED, &error);
}

static imp_status transport_deliver(imp_self *provider, imp_delivery *delivery, imp_error *error)
{
    (void)provider;
    if (fixture_now->refuses)
        return imp_error_set(error, IMP_UNAVAILABLE, "not reached");
    assert_true(fixture_now->delivery_count < FIXTURE_DELIVERIES);
    delivery->cancel = transport_cancel;
    fixture_now->deliveries[fixture_now->delivery_count++] = delivery;
    return IMP_OK;
}

static const imp_transport_v1 transport = {.size = sizeof transport, .deliver = transport_deliver};

/* ---- life ---- */

static const uint8_t master[KEYS_MASTER_SIZE] = {9};

static void fixture_open(struct jobs_fixture *fixture)
{
    imp_error error = {0};
    struct store_options options = {
        .state_dir = fixture->folder,
        .master = master,
        .mode = STORE_INLINE,
    };
    void *instance = NULL;
    fixture_now = fixture;
    assert_int_equal(loop_setup_for_test(&error), IMP_OK);
    fixture->self = self_new_for_test("jobs");
    fixture->stand_ins = self_new_for_test("stand-ins");
    assert_int_equal(store_open(&options, &fixture->store, &error), IMP_OK);
    store_set_current(fixture->store);
    assert_int_equal(
        store_table_declare(fixture->store, fixture->self, "jobs", jobs_table_specs, NULL, &error),
        IMP_OK);
    assert_int_equal(service_offer_for_test(fixture->stand_ins, "accounts", 1, &accounts), IMP_OK);
    assert_int_equal(service_offer_for_test(fixture->stand_ins, "devices", 1, &devices), IMP_OK);
    assert_int_equal(service_offer_for_test(fixture->stand_ins, "audit", 1, &audit), IMP_OK);
    assert_int_equal(service_offer_for_test(fixture->stand_ins, "transport.socket", 1, &transport),
                     IMP_OK);
    imp_status status =
        imp_module_descriptor.start(fixture->self, &fixture->conf, &instance, &error);
    if (status != IMP_OK)
        print_error("start: %s\n", error.message);
    assert_int_equal(status, IMP_OK);
    fixture->self->instance = instance;
    fixture->jobs = instance;
    /* What is written from here on is another process's for the one that is opened next. */
    fixture->jobs->run += ++fixture->opened;
}

static void fixture_close(struct jobs_fixture *fixture)
{
    fixture_settle(fixture);
    imp_module_descriptor.drain(fixture->self, fixture->jobs);
    self_end(fixture->self, SELF_CUT);
    while (loop_run_once(imp_loop_control(), false))
        ;
    for (struct device_line *line = fixture->jobs->lines[0]; line != NULL; line = line->next) {
        if (line->running != NULL)
            delivery_free(line->running); /* what a crash leaves to nobody */
        while (line->lost != NULL) {
            struct delivery *lost = line->lost;
            line->lost = lost->next_lost;
            delivery_free(lost);
        }
    }
    imp_module_descriptor.stop(fixture->self, fixture->jobs);
    control_sweep(fixture->self);
    store_set_current(NULL);
    store_close(fixture->store);
    while (loop_run_once(imp_loop_control(), false))
        ;
    self_free_for_test(fixture->self);
    self_free_for_test(fixture->stand_ins);
    loop_stop();
    loop_teardown();
}

void fixture_drain(struct jobs_fixture *fixture)
{
    imp_module_descriptor.drain(fixture->self, fixture->jobs);
}

void fixture_make(struct jobs_fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/test-jobs-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->conf = (struct jobs_conf){
        .inline_max = 32768,
        .spool_buffers = 4 << 20,
        .spool_files_ahead = 2,
        .spool_file_extent = (int64_t)1092 * 1024,
        .spool_slot_step = 1024,
        .key_pool = "",
        .hold_expiry = 3600 * IMP_SECOND,
        .name_retention = 3600 * IMP_SECOND,
        .record_retention = 7200 * IMP_SECOND,
        .evidence_timeout = 60 * IMP_SECOND,
        .lease = 600 * IMP_SECOND,
        .retry_first = 50 * IMP_MILLISECOND,
        .retry_longest = 100 * IMP_MILLISECOND,
        .retry_limit = 3,
        .sweep_interval = 3600 * IMP_SECOND,
        .clock_tolerance = 300 * IMP_SECOND,
        .queue_jobs_max = 1000000,
        .job_documents_max = 10,
        .sources_max = 64,
        .submission_window = 300 * IMP_SECOND,
        .acknowledge_grace = 3600 * IMP_SECOND,
    };
    fixture->alice = imp_id_new();
    fixture->bob = imp_id_new();
    fixture->printer = imp_id_new();
    fixture->other_printer = imp_id_new();
    fixture->alice_session = imp_id_new();
    fixture->bob_session = imp_id_new();
    fixture->printer_is_enabled = true;
    fixture_open(fixture);
}

void fixture_restart(struct jobs_fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void fixture_remove(struct jobs_fixture *fixture)
{
    fixture_close(fixture);
    nftw(fixture->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fixture_settle(struct jobs_fixture *fixture)
{
    (void)fixture;
    while (loop_run_once(imp_loop_control(), false)) /* store and works run inside it */
        ;
}

/* ---- doing things ---- */

struct queue_write {
    struct jobs *jobs;
    const Queue *record;
};

static imp_status queue_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct queue_write *write = arg;
    return queue_put_tx(write->jobs, tx, write->record, error);
}

void fixture_queue(struct jobs_fixture *fixture, const struct fixture_queue *queue)
{
    Queue record = QUEUE_INIT;
    imp_id id = imp_id_new();
    ProtobufCBinaryData delegates[] = {imp_id_field(&fixture->bob)};
    imp_error error = {0};
    record.schema = JOBS_SCHEMA;
    record.id = imp_id_field(&id);
    record.name = (char *)(uintptr_t)queue->name;
    record.release = (uint32_t)queue->release;
    record.private_mode = (uint32_t)queue->private_mode;
    record.flags = queue->flags;
    record.keep_after = queue->keep_after;
    record.jobs_max = queue->jobs_max;
    record.is_accepting = !queue->is_closed;
    if (queue->release == IMP_QUEUE_DIRECT)
        record.device = imp_id_field(&fixture->printer);
    if (queue->has_delegate_bob) {
        record.n_delegates = 1;
        record.delegates = delegates;
    }
    struct queue_write write = {fixture->jobs, &record};
    imp_status status = imp_store_write_sync(fixture->self, queue_tx, &write, &error);
    if (status != IMP_OK)
        print_error("queue: %s\n", error.message);
    assert_int_equal(status, IMP_OK);
}

static void submitted(imp_status status, const imp_job_result *result, const imp_error *error,
                      void *arg)
{
    struct fixture_answer *answer = arg;
    assert_false(answer->is_done);
    answer->is_done = true;
    answer->status = status;
    if (result != NULL)
        answer->result = *result;
    if (error != NULL)
        answer->error = *error;
}

static bool writer_is_ready;
static void ready(void *arg)
{
    (void)arg;
    writer_is_ready = true;
}

const imp_jobs_v1 *fixture_service(void)
{
    return imp_module_descriptor.provides[0].vtable;
}

struct fixture_answer fixture_submit(struct jobs_fixture *fixture,
                                     const struct fixture_submit *submit)
{
    struct fixture_answer answer = {0};
    imp_intake *intake = NULL;
    imp_intake_options options = {
        .size = sizeof options,
        .queue = submit->queue,
        .protocol = "test",
        .address = submit->address == NULL ? "192.0.2.9" : submit->address,
        .expected_size = -1,
        .ready = ready,
    };
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    imp_job_attributes attributes = {
        .size = sizeof attributes,
        .user_name = submit->user,
        .job_name = submit->title,
    };
    if (submit->submission != NULL)
        attributes.submission = (imp_bytes){submit->submission, strlen(submit->submission)};
    const imp_jobs_v1 *service = fixture_service();
    answer.status =
        service->intake_begin(fixture->self, fixture->self, &options, &intake, &answer.error);
    if (answer.status != IMP_OK)
        return answer;
    assert_int_equal(imp_intake_document(intake, &document, &answer.error), IMP_OK);
    if (submit->text != NULL) {
        imp_status status =
            imp_intake_write(intake, submit->text, strlen(submit->text), &answer.error);
        assert_true(status == IMP_OK || status == IMP_BUSY);
    }
    static const char block[4096] = "0123456789";
    for (size_t at = 0; submit->text == NULL && at < submit->size;) {
        size_t length = submit->size - at < sizeof block ? submit->size - at : sizeof block;
        writer_is_ready = false;
        imp_status status = imp_intake_write(intake, block, length, &answer.error);
        if (status == IMP_BUSY)
            fixture_until(writer_is_ready);
        else
            assert_int_equal(status, IMP_OK);
        at += length;
    }
    assert_int_equal(imp_intake_document_end(intake, &answer.error), IMP_OK);
    imp_intake_commit(intake, &attributes, submitted, &answer);
    fixture_until(answer.is_done);
    return answer;
}

imp_id fixture_job(struct jobs_fixture *fixture, const char *queue, const char *user)
{
    struct fixture_submit submit = {.queue = queue, .user = user, .title = "Plan", .size = 100};
    struct fixture_answer answer = fixture_submit(fixture, &submit);
    if (answer.status != IMP_OK)
        print_error("submit: %s\n", answer.error.message);
    assert_int_equal(answer.status, IMP_OK);
    return answer.result.id;
}

static void released(imp_status status, const imp_id *delivery, const imp_error *error, void *arg)
{
    struct fixture_answer *answer = arg;
    answer->is_done = true;
    answer->status = status;
    if (delivery != NULL)
        answer->delivery = *delivery;
    if (error != NULL)
        answer->error = *error;
}

struct fixture_answer fixture_release(struct jobs_fixture *fixture, imp_id job, imp_id session,
                                      imp_id device)
{
    struct fixture_answer answer = {0};
    imp_release_request request = {
        .size = sizeof request,
        .job = job,
        .device = device,
        .session = session,
    };
    fixture_service()->job_release(fixture->self, fixture->self, &request, released, &answer);
    fixture_until(answer.is_done);
    return answer;
}

static void canceled(imp_status status, const imp_error *error, void *arg)
{
    released(status, NULL, error, arg);
}

struct fixture_answer fixture_cancel(struct jobs_fixture *fixture, imp_id job,
                                     const imp_viewer *viewer)
{
    struct fixture_answer answer = {0};
    fixture_service()->job_cancel(fixture->self, fixture->self, &job, viewer, canceled, &answer);
    fixture_until(answer.is_done);
    return answer;
}

void fixture_lose_holder(struct jobs_fixture *fixture, imp_id device)
{
    struct device_line *line = fixture->jobs->lines[0];
    assert_non_null(line);
    while (!imp_id_equal(line->device, device)) {
        line = line->next;
        assert_non_null(line);
    }
    assert_non_null(line->running);
    delivery_free(line->running);
    line->running = NULL;
}

struct garbage {
    imp_table *table;
    const void *key;
    size_t length;
};

static imp_status garbage_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct garbage *garbage = arg;
    (void)error;
    return imp_tx_put(tx, garbage->table, (imp_bytes){garbage->key, garbage->length},
                      (imp_bytes){"\xff\xff\xff", 3});
}

void fixture_garble(struct jobs_fixture *fixture, imp_table *table, const void *key, size_t length)
{
    struct garbage garbage = {table, key, length};
    assert_int_equal(imp_store_write_sync(fixture->self, garbage_tx, &garbage, NULL), IMP_OK);
}

static imp_status delete_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct garbage *garbage = arg;
    (void)error;
    return imp_tx_delete(tx, garbage->table, (imp_bytes){garbage->key, garbage->length});
}

void fixture_delete(struct jobs_fixture *fixture, imp_table *table, const void *key, size_t length)
{
    struct garbage garbage = {table, key, length};
    assert_int_equal(imp_store_write_sync(fixture->self, delete_tx, &garbage, NULL), IMP_OK);
}

/* ---- looking ---- */

uint64_t fixture_sequence(struct jobs_fixture *fixture, imp_id id)
{
    imp_tx *tx;
    imp_status status;
    assert_int_equal(imp_store_read_begin(fixture->self, &tx, NULL), IMP_OK);
    Job *job = job_load(fixture->jobs, tx, &id, &status);
    assert_non_null(job);
    uint64_t sequence = job->sequence;
    imp_store_read_end(tx);
    return sequence;
}

static void look(struct jobs_fixture *fixture, imp_id id, uint32_t *situation, bool *has_documents,
                 bool *has_names)
{
    imp_tx *tx;
    imp_status status;
    assert_int_equal(imp_store_read_begin(fixture->self, &tx, NULL), IMP_OK);
    Job *job = job_load(fixture->jobs, tx, &id, &status);
    *situation = job == NULL ? JOB_SITUATION_COUNT : job->situation;
    *has_documents = job != NULL && job->has_documents;
    *has_names = job != NULL && job->text.len != 0;
    imp_store_read_end(tx);
}

uint32_t fixture_situation(struct jobs_fixture *fixture, imp_id job)
{
    uint32_t situation;
    bool has_documents, has_names;
    look(fixture, job, &situation, &has_documents, &has_names);
    return situation;
}

bool fixture_has_documents(struct jobs_fixture *fixture, imp_id job)
{
    uint32_t situation;
    bool has_documents, has_names;
    look(fixture, job, &situation, &has_documents, &has_names);
    return has_documents;
}

bool fixture_has_names(struct jobs_fixture *fixture, imp_id job)
{
    uint32_t situation;
    bool has_documents, has_names;
    look(fixture, job, &situation, &has_documents, &has_names);
    return has_names;
}

uint64_t fixture_count(struct jobs_fixture *fixture, imp_table *table)
{
    imp_tx *tx;
    uint64_t count = 0;
    assert_int_equal(imp_store_read_begin(fixture->self, &tx, NULL), IMP_OK);
    assert_int_equal(imp_tx_count(tx, table, &count), IMP_OK);
    imp_store_read_end(tx);
    return count;
}

uint64_t fixture_queue_jobs(struct jobs_fixture *fixture, const char *name)
{
    imp_queue queue = {.size = sizeof queue};
    assert_int_equal(queue_find(fixture->jobs, name, &queue), IMP_OK);
    return queue.jobs_queued;
}

static bool is_readable;
static void readable(imp_delivery *delivery, void *arg)
{
    (void)delivery;
    (void)arg;
    is_readable = true;
}

uint64_t fixture_read(imp_delivery *delivery)
{
    uint64_t total = 0;
    char buffer[5000];
    delivery->readable = readable;
    for (uint32_t document = 0; document < imp_delivery_get(delivery)->document_count;) {
        size_t length = 0;
        imp_error error = {0};
        is_readable = false;
        imp_status status =
            imp_delivery_read(delivery, document, buffer, sizeof buffer, &length, &error);
        if (status == IMP_BUSY) {
            fixture_until(is_readable);
            continue;
        }
        assert_int_equal(status, IMP_OK);
        if (length == 0)
            document++;
        total += length;
    }
    return total;
}

void fixture_begin(struct jobs_fixture *fixture)
{
    fixture_make(fixture);
    fixture_queue(fixture, &(struct fixture_queue){.name = "hold"});
    fixture_queue(fixture, &(struct fixture_queue){.name = "direct", .release = IMP_QUEUE_DIRECT});
}

void fixture_end(struct jobs_fixture *fixture)
{
    time_thaw_for_test();
    fixture_remove(fixture);
}
