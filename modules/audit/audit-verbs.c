/* SPDX-License-Identifier: Apache-2.0 */
/* audit-verbs.c - imprimctl audit list, verify, export. */
#include "audit.h"

#include <imprimatur/control.h>
#include <imprimatur/module.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_DEFAULT 50
#define LIST_MAX 100000
#define STEP_ROWS 2000 /* rows in one read transaction, so that no reader lives long */

static void id_field(imp_request *request, const char *name, ProtobufCBinaryData data)
{
    imp_id id;
    if (data.len != sizeof id.bytes) {
        imp_field_text(request, name, "");
        return;
    }
    memcpy(id.bytes, data.data, sizeof id.bytes);
    imp_field_id(request, name, id);
}

static void event_row(imp_request *request, const Imprimatur__Audit__Event *event)
{
    imp_row_begin(request, false);
    imp_field_integer(request, "event", (int64_t)event->sequence);
    imp_field_time(request, "time", event->time);
    imp_field_text(request, "action", event->action);
    imp_field_text(request, "result", imp_status_name(event->result));
    if (event->principal.len != sizeof(imp_id) && event->actor_uid_plus_1 != 0)
        imp_field_printf(request, "principal", "uid:%" PRIu32, event->actor_uid_plus_1 - 1);
    else
        id_field(request, "principal", event->principal);
    imp_field_text(request, "object-kind", event->object_kind);
    id_field(request, "object", event->object);
    imp_field_text(request, "place-kind", event->place_kind);
    id_field(request, "place", event->place);
    imp_field_text(request, "detail", event->detail);
}

/* The wanted events are the newest; they are found backwards and shown forwards. A filter may walk over
 * the whole trail, so it is done on a worker, some rows a transaction. */
struct listing {
    struct audit *audit;
    imp_request *request;
    imp_status status;
    imp_error error;
    uint32_t limit, count;
    bool has_object;
    imp_id object;
    char action[AUDIT_ACTION_MAX + 1]; /* "": any */
    uint64_t sequences[];
};

static bool event_is_wanted(const Imprimatur__Audit__Event *event, const struct listing *listing)
{
    if (listing->action[0] != '\0' && strcmp(event->action, listing->action) != 0)
        return false;
    return !listing->has_object ||
           (event->object.len == sizeof listing->object.bytes &&
            memcmp(event->object.data, listing->object.bytes, event->object.len) == 0);
}

static Imprimatur__Audit__Event *event_open(imp_bytes value, Imprimatur__Audit__Link **link)
{
    *link = imprimatur__audit__link__unpack(NULL, value.length, value.data);
    return *link == NULL
               ? NULL
               : imprimatur__audit__event__unpack(NULL, (*link)->body.len, (*link)->body.data);
}

static void event_close(Imprimatur__Audit__Event *event, Imprimatur__Audit__Link *link)
{
    if (event != NULL)
        imprimatur__audit__event__free_unpacked(event, NULL);
    if (link != NULL)
        imprimatur__audit__link__free_unpacked(link, NULL);
}

/* Looks at the STEP_ROWS events before *before (0: the newest); *before 0 when there are no more. */
static imp_status list_find(struct listing *listing, uint64_t *before, imp_error *error)
{
    imp_tx *tx;
    imp_cursor *cursor = NULL;
    imp_bytes key, value;
    uint8_t from[8];
    imp_status status = imp_store_read_begin(listing->audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    audit_key(*before, from);
    status = imp_cursor_open(tx, listing->audit->events,
                             (imp_bytes){from, *before == 0 ? 0 : sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && i < STEP_ROWS && listing->count < listing->limit; i++) {
        status = imp_cursor_previous(cursor, &key, &value);
        if (status != IMP_OK)
            break;
        Imprimatur__Audit__Link *link;
        Imprimatur__Audit__Event *event = event_open(value, &link);
        if (event == NULL)
            status = IMP_CORRUPT;
        else if (event_is_wanted(event, listing))
            listing->sequences[listing->count++] = event->sequence;
        *before = event == NULL ? 0 : event->sequence;
        event_close(event, link);
    }
    if (status == IMP_NOT_FOUND || listing->count == listing->limit || *before == 1) {
        *before = 0;
        status = status == IMP_NOT_FOUND ? IMP_OK : status;
    }
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
    return status;
}

static imp_status list_show(struct listing *listing, uint32_t *left, imp_error *error)
{
    imp_tx *tx;
    imp_status status = imp_store_read_begin(listing->audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    for (int i = 0; status == IMP_OK && i<STEP_ROWS && * left> 0; i++, --*left) {
        uint8_t number[8];
        imp_bytes value;
        audit_key(listing->sequences[*left - 1], number);
        status = imp_tx_get(tx, listing->audit->events, (imp_bytes){number, sizeof number}, &value);
        Imprimatur__Audit__Link *link = NULL;
        Imprimatur__Audit__Event *event = status == IMP_OK ? event_open(value, &link) : NULL;
        if (event != NULL)
            event_row(listing->request, event);
        else
            status = IMP_CORRUPT;
        event_close(event, link);
    }
    imp_store_read_end(tx);
    return status;
}

static void list_run(void *arg)
{
    struct listing *listing = arg;
    imp_status status;
    uint64_t before = 0;
    do
        status = list_find(listing, &before, &listing->error);
    while (status == IMP_OK && before != 0);
    for (uint32_t left = listing->count; status == IMP_OK && left > 0;)
        status = list_show(listing, &left, &listing->error);
    listing->status = status == IMP_OK
                          ? IMP_OK
                          : imp_error_set(&listing->error, status,
                                          "the audit trail does not read; try audit verify");
}

static void list_done(void *arg, bool was_cancelled)
{
    struct listing *listing = arg;
    if (was_cancelled)
        listing->status = imp_error_set(&listing->error, IMP_UNAVAILABLE, "the server is stopping");
    imp_request_finish(listing->request, listing->status, &listing->error);
    free(listing);
}

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    imp_error error = {0};
    imp_status status = IMP_OK;
    const char *limit_text = imp_request_value(request, "limit", 0);
    const char *object_text = imp_request_value(request, "object", 0);
    const char *action = imp_request_value(request, "action", 0);
    long limit = LIST_DEFAULT;
    struct listing *listing = NULL;
    if (limit_text != NULL) {
        char *end;
        limit = strtol(limit_text, &end, 10);
        if (end == limit_text || *end != '\0' || limit < 1 || limit > LIST_MAX) {
            status = imp_error_set(&error, IMP_INVALID, "--limit: found \"%s\", expected 1 to %d",
                                   limit_text, LIST_MAX);
            goto refuse;
        }
    }
    listing = calloc(1, sizeof *listing + (size_t)limit * sizeof listing->sequences[0]);
    if (listing == NULL) {
        status = imp_error_set(&error, IMP_LIMIT, "out of memory");
        goto refuse;
    }
    listing->audit = instance;
    listing->request = request;
    listing->limit = (uint32_t)limit;
    listing->has_object = object_text != NULL;
    if (object_text != NULL && imp_id_parse(object_text, &listing->object) != IMP_OK) {
        status = imp_error_set(&error, IMP_INVALID,
                               "--object: found \"%s\", expected an id of 32 digits", object_text);
        goto refuse;
    }
    if (action != NULL && (action[0] == '\0' || strlen(action) > AUDIT_ACTION_MAX)) {
        status =
            imp_error_set(&error, IMP_INVALID,
                          "--action: found \"%s\", expected an action such as job.release", action);
        goto refuse;
    }
    snprintf(listing->action, sizeof listing->action, "%s", action == NULL ? "" : action);
    if (imp_work(self, list_run, list_done, listing) != NULL)
        return;
    status = imp_error_set(&error, IMP_BUSY, "too much waits for the workers; try again");
refuse:
    free(listing);
    imp_request_finish(request, status, &error);
}

/* ---- verify and export run on a worker ---- */

struct task {
    struct audit *audit;
    imp_request *request;
    imp_status status;
    imp_error error;
    struct audit_verdict verdict;
    int fd;
    uint64_t exported;
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

static void verify_run(void *arg)
{
    struct task *task = arg;
    task->status = audit_verify(task->audit, &task->verdict, &task->error);
}

static void verify_done(void *arg, bool was_cancelled)
{
    struct task *task = arg;
    if (was_cancelled) {
        task->status = imp_error_set(&task->error, IMP_UNAVAILABLE, "the server is stopping");
    } else if (task->status == IMP_OK) {
        imp_row_begin(task->request, true);
        imp_field_text(task->request, "trail", "holds");
        imp_field_integer(task->request, "events", (int64_t)task->verdict.events);
        imp_field_integer(task->request, "checkpoints", (int64_t)task->verdict.checkpoints);
    }
    imp_request_finish(task->request, task->status, &task->error);
    free(task);
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
 * SHA-256 alone, and the field that people look for first. */
static bool export_line(int fd, imp_bytes value)
{
    Imprimatur__Audit__Link *link;
    Imprimatur__Audit__Event *event = event_open(value, &link);
    bool is_written = false;
    if (event != NULL && link->body.len <= AUDIT_BODY_MAX && link->hash.len == AUDIT_HASH_SIZE) {
        char body[2 * AUDIT_BODY_MAX + 1], hash[2 * AUDIT_HASH_SIZE + 1];
        char line[sizeof body + sizeof hash + 256];
        hex(body, link->body.data, link->body.len);
        hex(hash, link->hash.data, link->hash.len);
        int length = snprintf(line, sizeof line,
                              "{\"event\":%" PRIu64 ",\"time\":%" PRId64
                              ",\"action\":\"%s\",\"body\":\"%s\",\"hash\":\"%s\"}\n",
                              event->sequence, event->time, event->action, body, hash);
        is_written =
            length > 0 && (size_t)length < sizeof line && write_all(fd, line, (size_t)length);
    }
    event_close(event, link);
    return is_written;
}

static void export_run(void *arg)
{
    struct task *task = arg;
    bool at_end = false;
    while (!at_end && task->status == IMP_OK) {
        imp_tx *tx;
        imp_cursor *cursor = NULL;
        imp_bytes key, value;
        uint8_t from[8];
        imp_status status = imp_store_read_begin(task->audit->self, &tx, &task->error);
        if (status != IMP_OK) {
            task->status = status;
            return;
        }
        audit_key(task->exported + 1, from);
        status = imp_cursor_open(tx, task->audit->events, (imp_bytes){from, sizeof from}, &cursor);
        for (int i = 0; status == IMP_OK && i < STEP_ROWS; i++) {
            status = imp_cursor_next(cursor, &key, &value);
            if (status == IMP_OK && !export_line(task->fd, value))
                status = IMP_IO;
            if (status == IMP_OK)
                task->exported++;
        }
        at_end = status == IMP_NOT_FOUND;
        if (status != IMP_OK && !at_end)
            task->status = imp_error_set(&task->error, status, "event %" PRIu64 " can't be written",
                                         task->exported + 1);
        if (cursor != NULL)
            imp_cursor_close(cursor);
        imp_store_read_end(tx);
    }
    if (task->status == IMP_OK && fsync(task->fd) != 0 && errno != EINVAL)
        task->status = imp_error_set(&task->error, IMP_IO, "the file can't be synced");
}

static void export_done(void *arg, bool was_cancelled)
{
    struct task *task = arg;
    if (was_cancelled)
        task->status = imp_error_set(&task->error, IMP_UNAVAILABLE, "the server is stopping");
    else if (task->status == IMP_OK)
        imp_request_say(task->request, "%" PRIu64 " events written", task->exported);
    imp_request_finish(task->request, task->status, &task->error);
    free(task);
}

static void verb_export(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    task_start(instance, request, imp_request_file(request, "FILE"), export_run, export_done);
}

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "audit list",
     .arguments = "",
     .options = "limit=N action=ACTION object=ID",
     .help = "show the newest audit events",
     .run = verb_list},
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
};

imp_status audit_verbs_add(struct audit *audit, imp_error *error)
{
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof verbs / sizeof *verbs; i++)
        status = imp_verb_add(audit->self, &verbs[i], error);
    return status;
}
