/* SPDX-License-Identifier: Apache-2.0 */
/* backup-verbs.c - `backup create`, `backup verify` and `key status` on the control socket. */
#include <stdlib.h>

#include <imprimatur/control.h>
#include <imprimatur/loop.h>

#include "core/backup.h"
#include "core/control.h"

/* A backup on its way: made on a worker, told on the control loop. */
struct backup_work {
    struct backup_work *next, **place; /* in the list of those that are under way; control loop */
    imp_work_token *token;
    imp_request *request;
    int fd;
    bool is_verify;
    imp_status status;
    imp_error error;
    struct backup_report report;
};

static struct backup_work *under_way;

static void list_remove(struct backup_work *work)
{
    *work->place = work->next;
    if (work->next != NULL)
        work->next->place = work->place;
}

static void run(void *arg)
{
    struct backup_work *work = arg;
    struct store *store = store_current();
    if (store == NULL) {
        work->status = imp_error_set(&work->error, IMP_UNAVAILABLE, "the store is closed");
    } else if (work->is_verify) {
        work->status = backup_verify_with(work->fd, store_state_dir(store), store, &work->report,
                                          &work->error);
    } else {
        work->status = backup_create(store, work->fd, 0, &work->report, &work->error);
    }
}

static void done(void *arg, bool was_cancelled)
{
    struct backup_work *work = arg;
    const struct backup_report *report = &work->report;
    list_remove(work);
    if (was_cancelled) {
        work->status = imp_error_set(&work->error, IMP_UNAVAILABLE, "the server is ending");
    }
    if (work->status == IMP_OK) {
        imp_row_begin(work->request, true);
        imp_field_id(work->request, "store", report->store_id);
        imp_field_integer(work->request, "sequence", (int64_t)report->sequence);
        imp_field_time(work->request, "made", report->made);
        imp_field_integer(work->request, "tables", (int64_t)report->tables);
        imp_field_integer(work->request, "records", (int64_t)report->records);
        imp_field_integer(work->request, "bytes", (int64_t)report->bytes);
        if (work->is_verify) {
            imp_field_integer(work->request, "seals_opened", (int64_t)report->seals);
            imp_field_integer(work->request, "module_checks", (int64_t)report->checks);
        } else {
            imp_field_integer(work->request, "attempts", (int64_t)report->attempts);
        }
    }
    imp_request_finish(work->request, work->status, &work->error);
    free(work);
}

static void start(imp_request *request, bool is_verify)
{
    imp_error error;
    struct backup_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        imp_error_set(&error, IMP_LIMIT, "memory is short");
        imp_request_finish(request, IMP_LIMIT, &error);
        return;
    }
    work->request = request;
    work->is_verify = is_verify;
    work->fd = imp_request_file(request, "FILE");
    work->token = imp_work(NULL, run, done, work);
    if (work->token == NULL) {
        free(work);
        imp_error_set(&error, IMP_BUSY, "all workers are busy; try again");
        imp_request_finish(request, IMP_BUSY, &error);
        return;
    }
    work->place = &under_way;
    work->next = under_way;
    if (work->next != NULL)
        work->next->place = &work->next;
    under_way = work;
}

void backup_verbs_cancel(void)
{
    /* `done` never comes from within. */
    for (struct backup_work *work = under_way; work != NULL; work = work->next)
        imp_work_cancel(work->token);
}

static void verb_create(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    start(request, false);
}

static void verb_verify(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    start(request, true);
}

static void verb_key_status(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_error error;
    struct store *store = store_current();
    if (store == NULL) {
        imp_error_set(&error, IMP_UNAVAILABLE, "the store is closed");
        imp_request_finish(request, IMP_UNAVAILABLE, &error);
        return;
    }
    struct keyring *ring = store_keyring(store);
    struct store_stats stats;
    char master[KEYS_MASTER_NAME_SIZE];
    store_stats_get(store, &stats);
    imp_row_begin(request, true);
    imp_field_text(request, "master_key", keyring_master_name(ring, master));
    imp_field_id(request, "store", store_id(store));
    imp_field_integer(request, "sequence", (int64_t)stats.sequence);
    imp_field_integer(request, "sealing_key", keyring_current_id(ring));
    imp_field_integer(request, "sealing_keys", keyring_salt_count(ring));
    imp_field_integer(request, "seals", (int64_t)keyring_seals(ring));
    imp_field_bool(request, "keys_locked_in_memory", keyring_is_locked(ring));
    control_fields_fill(CONTROL_FIELDS_KEY_STATUS, request);
    imp_request_finish(request, IMP_OK, NULL);
}

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "backup create",
     .arguments = ">FILE",
     .options = "",
     .help = "write a backup of all tables but documents, still sealed",
     .run = verb_create},
    {.size = sizeof(imp_verb_spec),
     .words = "backup verify",
     .arguments = "<FILE",
     .options = "",
     .help = "restore a backup beside the store, open every seal, run the modules' checks",
     .run = verb_verify},
    {.size = sizeof(imp_verb_spec),
     .words = "key status",
     .arguments = "",
     .options = "",
     .help = "show which keys are in use",
     .run = verb_key_status},
};

imp_status backup_verbs_register(imp_error *error)
{
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof verbs / sizeof verbs[0]; i++) {
        status = imp_verb_add(NULL, &verbs[i], error);
    }
    return status;
}
