/* SPDX-License-Identifier: Apache-2.0 */
/* audit-verbs.c - imprimctl audit verify, export, accept, forget. */
#include "audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- verify and export run on a worker ---- */

struct task {
    struct audit *audit;
    imp_request *request;
    imp_status status;
    imp_error error;
    struct audit_verdict verdict;
    int fd;
    uint64_t exported, unreadable, last; /* last: number of the newest event that was looked at */
};

static void task_start(struct audit *audit, imp_request *request, int fd, void (*run)(void *),
                       void (*done)(void *, bool))
{
    imp_error error;
    struct task *task = calloc(1, sizeof *task);
    if (task != NULL) {
        task->audit = audit;
        task->request = request;
        task->fd = fd;
        if (imp_work(audit->self, run, done, task) != NULL)
            return;
        free(task);
    }
    imp_error_set(&error, IMP_BUSY, "too much waits for the workers; try again");
    imp_request_finish(request, IMP_BUSY, &error);
}

static void task_end(struct task *task, bool was_cancelled)
{
    if (was_cancelled)
        task->status = imp_error_set(&task->error, IMP_UNAVAILABLE, "the server is stopping");
    imp_request_finish(task->request, task->status, &task->error);
    free(task);
}

static void verify_run(void *arg)
{
    struct task *task = arg;
    task->status = audit_verify(task->audit, &task->verdict, &task->error);
}

static void verify_done(void *arg, bool was_cancelled)
{
    struct task *task = arg;
    if (!was_cancelled && task->status == IMP_OK) {
        imp_row_begin(task->request, true);
        imp_field_text(task->request, "trail", "holds");
        imp_field_integer(task->request, "events", (int64_t)task->verdict.events);
        imp_field_integer(task->request, "checkpoints", (int64_t)task->verdict.checkpoints);
    }
    task_end(task, was_cancelled);
}

static void verb_verify(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    task_start(instance, request, -1, verify_run, verify_done);
}

static bool write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        text += written;
        length -= (size_t)written;
    }
    return true;
}

static size_t hex(char *target, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        target[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        target[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    target[2 * length] = '\0';
    return 2 * length;
}

/* One line of JSON: the body as it was hashed and its hash, so that anyone can check the chain with
 * SHA-256 alone, and the fields that people look for first. For a row that does not read (`value` NULL,
 * or no event) only its number and that: what is behind it can still be looked at. */
static bool export_line(struct task *task, imp_tx *tx, const imp_bytes *value)
{
    char body[2 * AUDIT_BODY_MAX + 1], hash[2 * AUDIT_HASH_SIZE + 1];
    char line[sizeof body + sizeof hash + 256];
    Imprimatur__Audit__Link *link = NULL;
    const Imprimatur__Audit__Event *event =
        value == NULL ? NULL : audit_event_open(tx, *value, &link);
    int length;
    if (event != NULL && link->body.len <= AUDIT_BODY_MAX && link->hash.len == AUDIT_HASH_SIZE &&
        strlen(event->action) <= AUDIT_ACTION_MAX) {
        hex(body, link->body.data, link->body.len);
        hex(hash, link->hash.data, link->hash.len);
        length = snprintf(line, sizeof line,
                          "{\"event\":%" PRIu64 ",\"time\":%" PRId64
                          ",\"action\":\"%s\",\"body\":\"%s\",\"hash\":\"%s\"}\n",
                          event->sequence, event->time, event->action, body, hash);
    } else {
        task->unreadable++;
        length = snprintf(line, sizeof line, "{\"event\":%" PRIu64 ",\"unreadable\":true}\n",
                          task->last);
    }
    return length > 0 && (size_t)length < sizeof line && write_all(task->fd, line, (size_t)length);
}

/* AUDIT_STEP_ROWS events behind task->last. IMP_NOT_FOUND at the end. */
static imp_status export_step(struct task *task)
{
    imp_tx *tx;
    imp_cursor *cursor = NULL;
    uint8_t from[8];
    imp_status status = imp_store_read_begin(task->audit->self, &tx, &task->error);
    if (status != IMP_OK)
        return status;
    audit_key(task->last + 1, from);
    status = imp_cursor_open(tx, task->audit->chain.event, (imp_bytes){from, sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && i < AUDIT_STEP_ROWS; i++) {
        imp_bytes key = {NULL, 0}, value;
        status = imp_cursor_next(cursor, &key, &value);
        if ((status != IMP_OK && status != IMP_CORRUPT) || key.data == NULL)
            break;
        uint64_t number = audit_key_number(key);
        task->last = number != 0 ? number : task->last + 1; /* verify tells a gap */
        if (!export_line(task, tx, status == IMP_OK ? &value : NULL))
            status = imp_error_set(&task->error, IMP_IO, "event %" PRIu64 " can't be written",
                                   task->last);
        else
            status = IMP_OK;
        task->exported += status == IMP_OK;
    }
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
    return status;
}

static void export_run(void *arg)
{
    struct task *task = arg;
    imp_status status;
    do
        status = imp_work_is_cancelled()
                     ? imp_error_set(&task->error, IMP_UNAVAILABLE, "the server is stopping")
                     : export_step(task);
    while (status == IMP_OK);
    if (status != IMP_NOT_FOUND)
        task->status = task->error.message[0] != '\0'
                           ? status
                           : imp_error_set(&task->error, status, "the audit trail does not read");
    else if (fsync(task->fd) != 0 && errno != EINVAL)
        task->status = imp_error_set(&task->error, IMP_IO, "the file can't be synced");
}

static void export_done(void *arg, bool was_cancelled)
{
    struct task *task = arg;
    if (!was_cancelled && task->status == IMP_OK) {
        imp_request_say(task->request, "%" PRIu64 " events written", task->exported);
        if (task->unreadable > 0)
            imp_request_say(task->request, "%" PRIu64 " of them do not read; try audit verify",
                            task->unreadable);
        imp_metric_add(task->audit->unreadable, (int64_t)task->unreadable);
    }
    task_end(task, was_cancelled);
}

static void verb_export(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    task_start(instance, request, imp_request_file(request, "FILE"), export_run, export_done);
}

/* ---- accept and forget write ---- */

struct change {
    struct audit *audit;
    imp_request *request;
    uint32_t uid;
    char address[IMP_NETWORK_TEXT_SIZE];
    imp_write_function run;
};

static imp_audit_event event_of(const struct change *change, const char *action)
{
    return (imp_audit_event){.size = sizeof(imp_audit_event),
                             .action = action,
                             .has_actor_uid = true,
                             .actor_uid = change->uid,
                             .place_kind = "control",
                             .object_kind = "",
                             .result = IMP_OK};
}

static imp_status accept_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct change *change = arg;
    imp_audit_event event = event_of(change, AUDIT_ACCEPT);
    return audit_append_tx(change->audit, tx, &event, error);
}

static imp_status forget_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct change *change = arg;
    imp_audit_event event = event_of(change, "audit.forget");
    imp_status status = address_forget_tx(change->audit, tx, change->address, &event.object);
    if (status == IMP_NOT_FOUND)
        return imp_error_set(error, status, "the address is not on record");
    if (status == IMP_INVALID)
        return imp_error_set(error, status, "\"%s\": expected an address such as 192.0.2.7",
                             change->address);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the address can't be erased (%s)",
                             imp_status_name(status));
    event.object_kind = "address";
    return audit_append_tx(change->audit, tx, &event, error);
}

static void change_done(imp_status status, const imp_error *error, void *arg)
{
    struct change *change = arg;
    imp_request_finish(change->request, status, error);
    free(change);
}

static void change_submit(void *arg)
{
    struct change *change = arg;
    imp_self *self = change->audit->self;
    imp_status status = imp_store_write(self, IMP_WRITE_CONTROL, change->run, change_done, change);
    if (status == IMP_BUSY)
        imp_store_wait(self, IMP_WRITE_CONTROL, change_submit, change);
    else if (status != IMP_OK)
        change_done(status, NULL, change);
}

static void change_start(struct audit *audit, imp_request *request, imp_write_function run)
{
    const char *address = imp_request_value(request, "ADDRESS", 0);
    struct change *change = calloc(1, sizeof *change);
    imp_error error;
    if (change == NULL) {
        imp_error_set(&error, IMP_LIMIT, "out of memory");
        imp_request_finish(request, IMP_LIMIT, &error);
        return;
    }
    change->audit = audit;
    change->request = request;
    change->uid = imp_request_uid(request);
    change->run = run;
    if (address != NULL) /* what is cut is no address */
        snprintf(change->address, sizeof change->address, "%s", address);
    change_submit(change);
}

static void verb_accept(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    change_start(instance, request, accept_run);
}

static void verb_forget(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    change_start(instance, request, forget_run);
}

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "audit list",
     .arguments = "",
     .options = "limit=N action=ACTION object=ID",
     .help = "show the newest audit events",
     .run = audit_verb_list},
    {.size = sizeof(imp_verb_spec),
     .words = "audit verify",
     .arguments = "",
     .options = "",
     .help = "check the whole chain of audit events and its checkpoints",
     .run = verb_verify},
    {.size = sizeof(imp_verb_spec),
     .words = "audit export",
     .arguments = ">FILE",
     .options = "",
     .help = "write all audit events with their hashes as JSON lines",
     .run = verb_export},
    {.size = sizeof(imp_verb_spec),
     .words = "audit accept",
     .arguments = "",
     .options = "",
     .help = "put on record that the store was put back on purpose, so that audit verify passes",
     .run = verb_accept},
    {.size = sizeof(imp_verb_spec),
     .words = "audit forget",
     .arguments = "ADDRESS",
     .options = "",
     .help = "erase a network address; events keep an id that leads nowhere",
     .run = verb_forget},
};

imp_status audit_verbs_add(struct audit *audit, imp_error *error)
{
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof verbs / sizeof *verbs; i++)
        status = imp_verb_add(audit->self, &verbs[i], error);
    return status;
}
