/* SPDX-License-Identifier: Apache-2.0 */
/* The way of jobs through the store: intake, release, deliveries, cancel, expiry, restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/crash-record.h"
#include "core/loop.h"
#include "core/time.h"
#include "modules/jobs/jobs-queue.h"
#include "modules/jobs/spool-private.h"
#include "modules/jobs/tests/jobs-fixture.h"

static struct jobs_fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_begin(&fx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fx);
    return 0;
}

static void end(uint32_t delivery, imp_delivery_outcome outcome)
{
    imp_delivery_finish(fx.deliveries[delivery], outcome, NULL);
    fixture_settle(&fx);
}

static imp_id held_and_released(void)
{
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    return job;
}

/* ---- intake ---- */

static void a_job_is_held_for_its_owner(void **state)
{
    (void)state;
    int64_t received = imp_metric_value(fx.jobs->metrics.received);
    imp_id job = fixture_job(&fx, "printers/HOLD", "alice"), found;
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 1);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.owned), 1);
    assert_int_equal(fx.audit_events, 1);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.received), received + 1);
    assert_int_equal(fixture_service()->job_find(fx.self, "1", &found), IMP_OK);
    assert_true(imp_id_equal(job, found));
    assert_int_equal(fixture_service()->job_find(fx.self, "2", &found), IMP_NOT_FOUND);
    assert_int_equal(fixture_service()->job_find(fx.self, "1x", &found), IMP_NOT_FOUND);
    assert_int_equal(fx.delivery_count, 0);
}

static void jobs_are_there_after_a_restart(void **state)
{
    (void)state;
    imp_id small = fixture_job(&fx, "hold", "alice");
    struct fixture_answer large = fixture_submit(
        &fx, &(struct fixture_submit){"hold", "bob", "Big", NULL, NULL, NULL, 300000});
    assert_int_equal(large.status, IMP_OK);
    fixture_restart(&fx);
    assert_int_equal(fixture_situation(&fx, small), JOB_HELD);
    assert_int_equal(fixture_situation(&fx, large.result.id), JOB_HELD);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 2);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.held), 2);
    assert_int_equal(fixture_release(&fx, large.result.id, fx.bob_session, fx.printer).status,
                     IMP_OK);
    fixture_until(fx.delivery_count == 1);
    assert_int_equal(fixture_read(fx.deliveries[0]), 300000);
    assert_string_equal(imp_delivery_get(fx.deliveries[0])->job_name, "Big");
    end(0, IMP_DELIVERY_UNCONFIRMED);
    assert_int_equal(fixture_situation(&fx, large.result.id), JOB_UNCONFIRMED);
}

static void an_unknown_owner_is_kept_for_review(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "hold", "nobody-we-know");
    assert_int_equal(fixture_situation(&fx, job), JOB_REVIEW);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_DENIED);
    imp_id unnamed = fixture_job(&fx, "hold", NULL);
    assert_int_equal(fixture_situation(&fx, unnamed), JOB_REVIEW);
    imp_id direct = fixture_job(&fx, "direct", NULL);
    fixture_until(fx.delivery_count == 1);
    assert_int_equal(fixture_situation(&fx, direct), JOB_SENDING);
    end(0, IMP_DELIVERY_CONFIRMED);
}

static void the_door_refuses_before_the_document(void **state)
{
    (void)state;
    struct fixture_submit submit = {.queue = "nowhere", .user = "alice", .size = 10};
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_NOT_FOUND);
    fixture_queue(&fx, &(struct fixture_queue){.name = "closed", .is_closed = true});
    submit.queue = "closed";
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_DENIED);
    fixture_queue(&fx, &(struct fixture_queue){.name = "small", .jobs_max = 1});
    submit.queue = "small";
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_LIMIT);
    atomic_store(&fx.jobs->settings.source_rate, 2);
    submit.queue = "hold";
    submit.address = "192.0.2.77";
    imp_intake *intake = NULL;
    imp_error error = {0};
    imp_intake_options too_large = {.size = sizeof too_large,
                                    .queue = "hold",
                                    .address = submit.address,
                                    .expected_size = INT64_MAX};
    for (int i = 0; i < 3; i++) /* who waits for room takes nothing of the rate */
        assert_int_equal(
            fixture_service()->intake_begin(fx.self, fx.self, &too_large, &intake, &error),
            IMP_NO_SPACE);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_OK);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_LIMIT);
    atomic_store(&fx.jobs->settings.source_rate, 0);
    atomic_store(&fx.jobs->settings.user_jobs_max, 3);
    assert_int_equal(fixture_submit(&fx, &submit).status, IMP_LIMIT);
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 2);
}

static void an_abandoned_or_unfinished_intake_leaves_nothing(void **state)
{
    (void)state;
    imp_intake *intake = NULL;
    imp_error error = {0};
    imp_intake_options options = {.size = sizeof options, .queue = "hold", .expected_size = -1};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    for (int round = 0; round < 3; round++) {
        assert_int_equal(
            fixture_service()->intake_begin(fx.self, fx.self, &options, &intake, &error), IMP_OK);
        if (round > 0) {
            assert_int_equal(imp_intake_document(intake, &document, &error), IMP_OK);
            assert_int_equal(imp_intake_write(intake, "secret", 6, &error), IMP_OK);
        }
        if (round > 1)
            assert_int_equal(imp_intake_document_end(intake, &error), IMP_OK);
        imp_intake_abandon(intake);
        fixture_settle(&fx);
    }
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.personal), 0);
}

static void owner_and_title_come_from_pjl_where_the_queue_says_so(void **state)
{
    static const char text[] =
        "\033%-12345X@PJL SET USERNAME=\"bob\"\n@PJL SET JOBNAME=\"Inside\"\n"
        "@PJL ENTER LANGUAGE=PDF\n%PDF-1.7\n";
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "pjl", .flags = IMP_QUEUE_OWNER_FROM_PJL});
    struct fixture_submit submit = {
        .queue = "pjl", .user = "anonymous", .title = "x", .text = text};
    struct fixture_answer answer = fixture_submit(&fx, &submit);
    assert_int_equal(fixture_situation(&fx, answer.result.id), JOB_HELD);
    assert_int_equal(fixture_release(&fx, answer.result.id, fx.bob_session, fx.printer).status,
                     IMP_OK);
    fixture_until(fx.delivery_count == 1);
    assert_string_equal(imp_delivery_get(fx.deliveries[0])->job_name, "Inside");
    assert_string_equal(imp_delivery_get(fx.deliveries[0])->user_name, "bob");
    end(0, IMP_DELIVERY_CONFIRMED);
    submit.queue = "hold";
    answer = fixture_submit(&fx, &submit);
    assert_int_equal(fixture_situation(&fx, answer.result.id), JOB_REVIEW);
}

/* An intake with one ended document of nine bytes. */
static imp_intake *open_intake(const char *queue)
{
    imp_intake *intake = NULL;
    imp_error error = {0};
    imp_intake_options options = {.size = sizeof options, .queue = queue, .expected_size = -1};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    assert_int_equal(fixture_service()->intake_begin(fx.self, fx.self, &options, &intake, &error),
                     IMP_OK);
    assert_int_equal(imp_intake_document(intake, &document, &error), IMP_OK);
    assert_int_equal(imp_intake_write(intake, "nine byte", 9, &error), IMP_OK);
    assert_int_equal(imp_intake_document_end(intake, &error), IMP_OK);
    return intake;
}

static void committed(imp_status status, const imp_job_result *result, const imp_error *error,
                      void *arg)
{
    struct fixture_answer *answer = arg;
    (void)result;
    (void)error;
    assert_false(answer->is_done);
    answer->is_done = true;
    answer->status = status;
}

static imp_status nothing_tx(imp_tx *tx, void *arg, imp_error *error)
{
    (void)tx;
    (void)arg;
    (void)error;
    return IMP_OK;
}

static void written(imp_status status, const imp_error *error, void *arg)
{
    committed(status, NULL, error, arg);
}

static void a_write_that_the_store_refuses_is_answered_later(void **state)
{
    (void)state;
    struct fixture_answer answer = {0};
    struct jobs_write write = {
        .jobs = fx.jobs,
        .queue = IMP_WRITE_BULK + 1, /* there is none */
        .fn = nothing_tx,
        .done = written,
        .arg = &answer,
    };
    jobs_write_submit(&write);
    assert_false(answer.is_done); /* who submits may still look at the action */
    fixture_until(answer.is_done);
    assert_int_equal(answer.status, IMP_INVALID);
}

static imp_status remove_queue_tx(imp_tx *tx, void *arg, imp_error *error)
{
    imp_status status;
    Queue *queue = queue_load_by_name(fx.jobs, tx, arg, &status);
    return queue == NULL ? status : queue_remove_tx(fx.jobs, tx, queue, error);
}

static void a_queue_that_is_removed_during_an_upload_takes_no_job(void **state)
{
    (void)state;
    struct fixture_answer answer = {0};
    char name[] = "hold";
    imp_error error = {0};
    imp_job_attributes attributes = {.size = sizeof attributes, .user_name = "alice"};
    imp_intake *intake = open_intake(name);
    assert_int_equal(imp_store_write_sync(fx.self, remove_queue_tx, name, &error), IMP_OK);
    imp_intake_commit(intake, &attributes, committed, &answer);
    fixture_until(answer.is_done);
    assert_int_equal(answer.status, IMP_NOT_FOUND);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job), 0);
}

static void a_job_of_unknown_size_ends_at_the_bound_of_its_queue(void **state)
{
    (void)state;
    imp_intake *intake = NULL;
    imp_error error = {0};
    static const char block[600];
    imp_intake_options options = {.size = sizeof options, .queue = "hold", .expected_size = -1};
    imp_document_options document = {.size = sizeof document, .expected_size = -1};
    atomic_store(&fx.jobs->settings.queue_bytes_max, 1000);
    assert_int_equal(fixture_service()->intake_begin(fx.self, fx.self, &options, &intake, &error),
                     IMP_OK);
    assert_int_equal(imp_intake_document(intake, &document, &error), IMP_OK);
    assert_int_equal(imp_intake_write(intake, block, sizeof block, &error), IMP_OK);
    assert_int_equal(imp_intake_write(intake, block, sizeof block, &error), IMP_LIMIT);
    imp_intake_abandon(intake);
}

/* ---- release ---- */

static void a_released_job_is_printed_once_and_shredded(void **state)
{
    (void)state;
    int64_t delivered = imp_metric_value(fx.jobs->metrics.delivered);
    imp_id job = held_and_released();
    assert_int_equal(fx.delivery_count, 1);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    struct fixture_answer second = fixture_release(&fx, job, fx.alice_session, fx.other_printer);
    assert_int_equal(second.status, IMP_BUSY);
    assert_string_equal(second.error.message, "already printing at hall");
    const imp_delivery_info *info = imp_delivery_get(fx.deliveries[0]);
    assert_string_equal(info->uri, "socket://127.0.0.1:9");
    assert_int_equal(info->document_bytes, 100);
    assert_int_equal(fixture_read(fx.deliveries[0]), 100);
    imp_delivery_first_byte(fx.deliveries[0]);
    imp_delivery_progress(fx.deliveries[0], 100);
    end(0, IMP_DELIVERY_UNCONFIRMED);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCONFIRMED);
    assert_false(fixture_has_documents(&fx, job));
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.queued), 0);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_INVALID);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.delivered), delivered + 1);
    assert_int_equal(imp_metric_value(fx.jobs->metrics.held), 0);
}

static imp_hook_run *slow_run;

static imp_hook_answer take_time(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                                 imp_error *error)
{
    (void)self;
    (void)instance;
    (void)argument;
    (void)error;
    slow_run = run;
    return IMP_HOOK_SUSPEND;
}

static void released(imp_status status, const imp_id *delivery, const imp_error *error, void *arg)
{
    struct fixture_answer *answer = arg;
    (void)delivery;
    (void)error;
    answer->is_done = true;
    answer->status = status;
}

static void who_logs_out_while_a_hook_thinks_releases_nothing(void **state)
{
    (void)state;
    imp_error error = {0};
    struct fixture_answer answer = {0};
    imp_hook_spec spec = {.size = sizeof spec,
                          .point = "job.release",
                          .phase = IMP_PHASE_POLICY,
                          .function = take_time};
    imp_id job = fixture_job(&fx, "hold", "alice");
    imp_release_request request = {
        .size = sizeof request, .job = job, .device = fx.printer, .session = fx.alice_session};
    assert_int_equal(imp_hook_add(fx.stand_ins, &spec, &error), IMP_OK);
    slow_run = NULL;
    fixture_service()->job_release(fx.self, fx.self, &request, released, &answer);
    fixture_until(slow_run != NULL);
    fx.alice_session = imp_id_new();
    imp_hook_resume(slow_run, IMP_HOOK_CONTINUE, NULL);
    fixture_until(answer.is_done);
    fixture_settle(&fx);
    assert_int_equal(answer.status, IMP_DENIED);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_int_equal(fx.delivery_count, 0);
}

static void only_owner_and_delegate_may_release(void **state)
{
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "office", .has_delegate_bob = true});
    imp_id mine = fixture_job(&fx, "hold", "alice"), shared = fixture_job(&fx, "office", "alice");
    imp_id nobody = imp_id_new();
    assert_int_equal(fixture_release(&fx, mine, fx.bob_session, fx.printer).status, IMP_DENIED);
    assert_int_equal(fixture_release(&fx, mine, nobody, fx.printer).status, IMP_DENIED);
    assert_int_equal(fixture_release(&fx, mine, fx.alice_session, nobody).status, IMP_NOT_FOUND);
    fx.printer_is_enabled = false;
    assert_int_equal(fixture_release(&fx, mine, fx.alice_session, fx.printer).status,
                     IMP_UNAVAILABLE);
    fx.printer_is_enabled = true;
    assert_int_equal(fixture_release(&fx, shared, fx.bob_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, shared), JOB_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, mine), JOB_HELD);
}

static void a_device_prints_one_job_at_a_time_in_order(void **state)
{
    (void)state;
    imp_id jobs[3];
    for (int i = 0; i < 3; i++)
        jobs[i] = held_and_released();
    assert_int_equal(fx.delivery_count, 1);
    assert_int_equal(fixture_situation(&fx, jobs[1]), JOB_QUEUED);
    /* Another device does not wait for this one. */
    imp_id elsewhere = fixture_job(&fx, "hold", "bob");
    assert_int_equal(fixture_release(&fx, elsewhere, fx.bob_session, fx.other_printer).status,
                     IMP_OK);
    fixture_settle(&fx);
    assert_int_equal(fx.delivery_count, 2);
    end(1, IMP_DELIVERY_CONFIRMED);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t at = i == 0 ? 0 : i + 1;
        assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[at])->job, jobs[i]));
        end(at, IMP_DELIVERY_CONFIRMED);
        assert_int_equal(fixture_situation(&fx, jobs[i]), JOB_CONFIRMED);
    }
    assert_int_equal(fx.delivery_count, 4);
}

static void a_failed_delivery_returns_a_held_job(void **state)
{
    (void)state;
    imp_id job = held_and_released();
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_true(fixture_has_documents(&fx, job));
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.other_printer).status, IMP_OK);
    fixture_settle(&fx);
    imp_delivery_first_byte(fx.deliveries[1]);
    end(1, IMP_DELIVERY_NOT_STARTED); /* it may have begun, whatever the transport says */
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(2, IMP_DELIVERY_CANCELED);
    assert_int_equal(fixture_situation(&fx, job), JOB_CANCELED_DEVICE);
    assert_false(fixture_has_documents(&fx, job));
}

/* What a person decided is that it be tried; whether pages lie somewhere, nobody has answered. */
static void an_uncertain_job_that_no_device_takes_stays_uncertain(void **state)
{
    (void)state;
    imp_viewer administrator = {.size = sizeof administrator, .is_administrator = true};
    imp_id job = held_and_released();
    imp_delivery_first_byte(fx.deliveries[0]);
    end(0, IMP_DELIVERY_UNCERTAIN);
    for (uint32_t i = 1; i <= 2; i++) {
        assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
        assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
        fixture_settle(&fx);
        end(i, IMP_DELIVERY_NOT_STARTED);
    }
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    fixture_restart(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(fixture_cancel(&fx, job, &administrator).status, IMP_OK);
}

static void a_private_job_is_shredded_when_its_queue_says(void **state)
{
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "sent",
                                               .private_mode = IMP_PRIVATE_SENT,
                                               .keep_after = 3600 * IMP_SECOND});
    fixture_queue(&fx, &(struct fixture_queue){.name = "confirmed",
                                               .private_mode = IMP_PRIVATE_CONFIRMED,
                                               .keep_after = 3600 * IMP_SECOND});
    static const char *const queues[] = {"sent", "confirmed"};
    for (uint32_t i = 0; i < 2; i++) {
        imp_id job = fixture_job(&fx, queues[i], "alice");
        assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
        fixture_settle(&fx);
        imp_delivery_sent(fx.deliveries[i]);
        fixture_settle(&fx);
        assert_int_equal(fixture_situation(&fx, job), JOB_PRINTING);
        assert_int_equal(fixture_has_documents(&fx, job), i == 1);
        end(i, IMP_DELIVERY_CONFIRMED);
        assert_int_equal(fixture_situation(&fx, job), JOB_CONFIRMED);
        assert_false(fixture_has_documents(&fx, job));
    }
}

static void trouble_and_late_evidence_are_shown(void **state)
{
    (void)state;
    imp_id job = held_and_released();
    imp_delivery_trouble(fx.deliveries[0], "media-empty");
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_STOPPED);
    imp_delivery_trouble(fx.deliveries[0], NULL);
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    atomic_store(&fx.jobs->settings.evidence_timeout, IMP_MILLISECOND);
    imp_delivery_sent(fx.deliveries[0]);
    fixture_until(fx.cancels == 1); /* no evidence came; the transport said "not started" */
    fixture_until(fixture_situation(&fx, job) == JOB_UNCONFIRMED);
}

static void bytes_that_were_sent_are_a_beginning_whatever_else_is_said(void **state)
{
    (void)state;
    imp_id job = held_and_released();
    imp_delivery_progress(fx.deliveries[0], 1);
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
}

/* The first document of a job, as its record names it. */
static struct spool_document document_of(imp_id id)
{
    imp_tx *tx;
    imp_status status;
    struct spool_document document;
    assert_int_equal(imp_store_read_begin(fx.self, &tx, NULL), IMP_OK);
    Job *job = job_load(fx.jobs, tx, &id, &status);
    assert_non_null(job);
    const ProtobufCBinaryData *reference = &job->documents[0]->reference;
    assert_int_equal(spool_document_unpack((imp_bytes){reference->data, reference->len}, &document),
                     IMP_OK);
    imp_store_read_end(tx);
    return document;
}

static bool key_is_there(const struct spool_document *document)
{
    uint8_t key[SEGMENT_KEY];
    return spool_key_open(fx.jobs->spool, SPOOL_PURPOSE_DOCUMENT, &document->key, key, NULL) ==
           IMP_OK;
}

static imp_status condemn_tx(imp_tx *tx, void *arg, imp_error *error)
{
    return spool_condemn_tx(fx.jobs->spool, tx, arg, error);
}

/* Reads until it is not "none yet". */
static imp_status read_first(uint32_t delivery, imp_error *error)
{
    char buffer[100];
    size_t length;
    imp_status status;
    while ((status = imp_delivery_read(fx.deliveries[delivery], 0, buffer, sizeof buffer, &length,
                                       error)) == IMP_BUSY)
        fixture_settle(&fx);
    return status;
}

static void a_job_whose_key_pool_is_missing_waits_for_it(void **state)
{
    (void)state;
    imp_error error = {0};
    imp_id job = held_and_released();
    fx.jobs->spool->keys.number++; /* another medium is in its place */
    assert_int_equal(read_first(0, &error), IMP_NOT_FOUND);
    imp_delivery_finish(fx.deliveries[0], IMP_DELIVERY_NOT_STARTED, &error);
    fixture_settle(&fx);
    fx.jobs->spool->keys.number--;
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    assert_true(fixture_has_documents(&fx, job));
}

static void a_job_that_lost_its_document_ends(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "direct", "alice");
    fixture_until(fx.delivery_count == 1);
    struct spool_document document = document_of(job);
    imp_error error = {0};
    assert_int_equal(imp_store_write_sync(fx.self, condemn_tx, &document, &error), IMP_OK);
    spool_shred(fx.jobs->spool, NULL, NULL);
    fixture_until(!key_is_there(&document));
    assert_int_equal(read_first(0, &error), IMP_NOT_FOUND);
    imp_delivery_finish(fx.deliveries[0], IMP_DELIVERY_NOT_STARTED, &error);
    fixture_settle(&fx);
    assert_int_equal(fixture_situation(&fx, job), JOB_DOCUMENT_LOST);
}

/* ---- direct queues ---- */

static void a_direct_queue_prints_in_order_and_retries(void **state)
{
    (void)state;
    /* Tries come when the clock is moved on, however slow the machine is. */
    time_freeze_for_test(imp_now(), imp_ticks());
    atomic_store(&fx.jobs->settings.retry_first, 100 * IMP_SECOND);
    atomic_store(&fx.jobs->settings.retry_longest, 100 * IMP_SECOND);
    imp_id first = fixture_job(&fx, "direct", "alice"), second = fixture_job(&fx, "direct", "bob");
    fixture_until(fx.delivery_count == 1);
    end(0, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fixture_situation(&fx, first), JOB_QUEUED);
    /* A person at the device does not wait for the next try. */
    imp_id held = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_release(&fx, held, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_until(fx.delivery_count == 2);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[1])->job, held));
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fx.delivery_count, 2);
    time_freeze_for_test(imp_now() + 101 * IMP_SECOND, imp_ticks() + 101 * IMP_SECOND);
    fixture_until(fx.delivery_count == 3);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[2])->job, first));
    end(2, IMP_DELIVERY_NOT_STARTED);
    assert_int_equal(fx.delivery_count, 3);
    time_freeze_for_test(imp_now() + 101 * IMP_SECOND, imp_ticks() + 101 * IMP_SECOND);
    fixture_until(fx.delivery_count == 4);
    end(3, IMP_DELIVERY_NOT_STARTED); /* the third try was the last */
    assert_int_equal(fixture_situation(&fx, first), JOB_ABORTED);
    fixture_until(fx.delivery_count == 5);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[4])->job, second));
    end(4, IMP_DELIVERY_UNCONFIRMED);
    assert_int_equal(fixture_situation(&fx, second), JOB_UNCONFIRMED);
}

/* ---- cancel ---- */

static void only_proof_of_ownership_cancels(void **state)
{
    (void)state;
    imp_viewer viewer = {.size = sizeof viewer, .user_name = "alice", .address = "192.0.2.9"};
    imp_id job = fixture_job(&fx, "hold", "alice");
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_DENIED);
    viewer.host_is_proof = true;
    viewer.address = "192.0.2.10";
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_DENIED);
    viewer.address = "192.0.2.9";
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_OK);
    assert_int_equal(fixture_situation(&fx, job), JOB_CANCELED_USER);
    assert_false(fixture_has_documents(&fx, job));
    assert_int_equal(fixture_cancel(&fx, job, &viewer).status, IMP_INVALID);
}

static void jobs_in_a_line_and_on_a_device_can_be_canceled(void **state)
{
    (void)state;
    imp_viewer viewer = {.size = sizeof viewer, .is_administrator = true};
    imp_id running = held_and_released(), waiting = held_and_released(), last = held_and_released();
    assert_int_equal(fixture_cancel(&fx, waiting, &viewer).status, IMP_OK);
    assert_int_equal(fixture_situation(&fx, waiting), JOB_CANCELED_OPERATOR);
    assert_int_equal(fixture_cancel(&fx, running, &viewer).status, IMP_OK);
    assert_int_equal(fx.cancels, 1);
    assert_int_equal(fixture_situation(&fx, running), JOB_CANCELED_OPERATOR);
    fixture_until(fx.delivery_count == 2);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[1])->job, last));
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.line), 0);
}

struct canceled {
    struct spool_document document;
    bool is_done, had_key;
};

static void canceled(imp_status status, const imp_error *error, void *arg)
{
    struct canceled *canceled = arg;
    (void)error;
    assert_int_equal(status, IMP_OK);
    canceled->is_done = true;
    canceled->had_key = key_is_there(&canceled->document);
}

static void a_cancel_is_answered_when_the_document_is_shredded(void **state)
{
    (void)state;
    imp_viewer viewer = {.size = sizeof viewer, .is_administrator = true};
    imp_id jobs[2] = {fixture_job(&fx, "hold", "alice"), held_and_released()};
    for (int i = 0; i < 2; i++) { /* one that is held, one that is being delivered */
        struct canceled answer = {.document = document_of(jobs[i])};
        uint32_t events = fx.audit_events;
        assert_true(key_is_there(&answer.document));
        fixture_service()->job_cancel(fx.self, fx.self, &jobs[i], &viewer, canceled, &answer);
        fixture_until(answer.is_done);
        assert_false(answer.had_key);
        assert_int_equal(fx.audit_events - events, i == 0 ? 1 : 2); /* who did it, and its end */
    }
}

/* ---- time ---- */

static void sweep(int64_t ahead)
{
    time_freeze_for_test(imp_now() + ahead, imp_ticks() + ahead);
    fixture_settle(&fx);
    /* The sweeper's own timer is due after any of these steps. */
    fixture_until(!fx.jobs->is_sweeping);
}

static void held_jobs_expire_and_their_traces_go_in_time(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "hold", "alice");
    sweep(3601 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_EXPIRED);
    assert_false(fixture_has_documents(&fx, job));
    assert_true(fixture_has_names(&fx, job));
    assert_int_equal(fixture_queue_jobs(&fx, "hold"), 0);
    sweep(3601 * IMP_SECOND);
    assert_false(fixture_has_names(&fx, job));
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.personal), 0);
    sweep(3601 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_SITUATION_COUNT);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.job_id), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.owned), 0);
    assert_int_equal(fixture_count(&fx, fx.jobs->tables.due), 0);
}

static void kept_documents_go_when_their_time_is_over(void **state)
{
    (void)state;
    fixture_queue(&fx, &(struct fixture_queue){.name = "keep", .keep_after = 600 * IMP_SECOND});
    imp_id job = fixture_job(&fx, "keep", "alice");
    assert_int_equal(fixture_release(&fx, job, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(0, IMP_DELIVERY_CONFIRMED);
    assert_true(fixture_has_documents(&fx, job));
    sweep(3601 * IMP_SECOND);
    assert_false(fixture_has_documents(&fx, job));
}

static void a_clock_that_jumps_expires_nothing_until_confirmed(void **state)
{
    (void)state;
    imp_id job = fixture_job(&fx, "hold", "alice");
    sweep(1800 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    time_step_for_test(IMP_SECOND * 3600 * 24); /* the wall clock alone */
    sweep(3600 * IMP_SECOND);
    assert_true(fx.jobs->is_clock_doubtful);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    sweep(3600 * IMP_SECOND);
    assert_int_equal(fixture_situation(&fx, job), JOB_HELD);
    time_step_for_test(IMP_SECOND * 3600 * -24); /* set right again */
    sweep(3600 * IMP_SECOND);
    assert_false(fx.jobs->is_clock_doubtful);
    assert_int_equal(fixture_situation(&fx, job), JOB_EXPIRED);
}

/* ---- crash ---- */

static void a_delivery_that_a_crash_cut_off_is_uncertain(void **state)
{
    (void)state;
    imp_id running = held_and_released(), waiting = held_and_released();
    fixture_restart(&fx); /* no word of "bytes sent" is there */
    assert_int_equal(fixture_situation(&fx, running), JOB_UNCERTAIN);
    assert_true(fixture_has_documents(&fx, running));
    fixture_until(fx.delivery_count == 2);
    assert_true(imp_id_equal(imp_delivery_get(fx.deliveries[1])->job, waiting));
    assert_int_equal(fixture_situation(&fx, waiting), JOB_SENDING);
    end(1, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_release(&fx, running, fx.alice_session, fx.printer).status, IMP_OK);
    fixture_settle(&fx);
    end(2, IMP_DELIVERY_CONFIRMED);
    assert_int_equal(fixture_situation(&fx, running), JOB_CONFIRMED);
}

/* A new process on the record of the last one. */
static void restart_on(int fd)
{
    crash_record_detach();
    assert_int_equal(crash_record_attach(fd, NULL), IMP_OK);
    fixture_restart(&fx);
}

static uint32_t words_in_use(const struct crash_record *record)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < CRASH_SENT_SLOTS; i++)
        count += atomic_load(&record->sent[i].state) == 0 ? 0 : 1;
    return count;
}

static void a_crash_before_the_first_byte_resumes(void **state)
{
    (void)state;
    int fd = -1;
    struct crash_record *record = NULL;
    imp_error error;
    assert_int_equal(crash_record_create(&fd, &record, &error), IMP_OK);
    assert_int_equal(crash_record_attach(fd, &error), IMP_OK);
    imp_sent_begin(imp_id_new()); /* its delivery's end was committed right before the crash */
    imp_id job = held_and_released();
    restart_on(fd);
    fixture_until(fx.delivery_count == 2);
    assert_int_equal(fixture_situation(&fx, job), JOB_SENDING);
    assert_int_equal(words_in_use(record), 1);
    imp_delivery_first_byte(fx.deliveries[1]);
    restart_on(fd);
    assert_int_equal(fixture_situation(&fx, job), JOB_UNCERTAIN);
    assert_int_equal(fx.delivery_count, 2);
    assert_int_equal(words_in_use(record), 0);
    crash_record_detach();
    crash_record_free(fd, record);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_is_held_for_its_owner),
        TEST(jobs_are_there_after_a_restart),
        TEST(an_unknown_owner_is_kept_for_review),
        TEST(the_door_refuses_before_the_document),
        TEST(an_abandoned_or_unfinished_intake_leaves_nothing),
        TEST(owner_and_title_come_from_pjl_where_the_queue_says_so),
        TEST(a_write_that_the_store_refuses_is_answered_later),
        TEST(a_queue_that_is_removed_during_an_upload_takes_no_job),
        TEST(a_job_of_unknown_size_ends_at_the_bound_of_its_queue),
        TEST(a_released_job_is_printed_once_and_shredded),
        TEST(who_logs_out_while_a_hook_thinks_releases_nothing),
        TEST(only_owner_and_delegate_may_release),
        TEST(a_device_prints_one_job_at_a_time_in_order),
        TEST(a_failed_delivery_returns_a_held_job),
        TEST(an_uncertain_job_that_no_device_takes_stays_uncertain),
        TEST(a_private_job_is_shredded_when_its_queue_says),
        TEST(trouble_and_late_evidence_are_shown),
        TEST(bytes_that_were_sent_are_a_beginning_whatever_else_is_said),
        TEST(a_job_whose_key_pool_is_missing_waits_for_it),
        TEST(a_job_that_lost_its_document_ends),
        TEST(a_direct_queue_prints_in_order_and_retries),
        TEST(only_proof_of_ownership_cancels),
        TEST(jobs_in_a_line_and_on_a_device_can_be_canceled),
        TEST(a_cancel_is_answered_when_the_document_is_shredded),
        TEST(held_jobs_expire_and_their_traces_go_in_time),
        TEST(kept_documents_go_when_their_time_is_over),
        TEST(a_clock_that_jumps_expires_nothing_until_confirmed),
        TEST(a_delivery_that_a_crash_cut_off_is_uncertain),
        TEST(a_crash_before_the_first_byte_resumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
