/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-list.c - imprimctl audit list.
 *
 * The wanted events are the newest; they are found backwards and shown forwards. A filter may walk over
 * the whole trail, so it is done on a worker, some rows a transaction.
 */
#include "audit.h"

#include <imprimatur/record-verbs.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIST_DEFAULT 50
#define LIST_MAX 100000

struct listing {
    struct audit *audit;
    imp_request *request;
    imp_status status;
    imp_error error;
    uint32_t limit, count;
    uint64_t unreadable; /* rows left out */
    bool has_object;
    imp_id object;
    char action[AUDIT_ACTION_MAX + 1]; /* "": any */
    uint64_t sequences[];
};

/* ---- one event ---- */

static void id_field(imp_request *request, const char *name, ProtobufCBinaryData data)
{
    imp_id id = imp_id_of_field(data);
    if (imp_id_is_zero(id))
        imp_field_text(request, name, "");
    else
        imp_field_id(request, name, id);
}

/* An address while it is on record, else the id that it had. */
static void place_field(struct listing *listing, imp_tx *tx, const Imprimatur__Audit__Event *event)
{
    char address[IMP_NETWORK_TEXT_SIZE];
    imp_id id = imp_id_of_field(event->place);
    if (strcmp(event->place_kind, "address") == 0 && !imp_id_is_zero(id) &&
        address_text_tx(listing->audit, tx, &id, address))
        imp_field_text(listing->request, "place", address);
    else
        id_field(listing->request, "place", event->place);
}

static void event_row(struct listing *listing, imp_tx *tx, const Imprimatur__Audit__Event *event)
{
    imp_request *request = listing->request;
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
    place_field(listing, tx, event);
    imp_field_text(request, "detail", event->detail);
}

static bool event_is_wanted(const Imprimatur__Audit__Event *event, const struct listing *listing)
{
    if (listing->action[0] != '\0' && strcmp(event->action, listing->action) != 0)
        return false;
    return !listing->has_object || imp_id_equal(imp_id_of_field(event->object), listing->object);
}

/* ---- the worker's part ---- */

/* Looks at AUDIT_STEP_ROWS rows before *before (0: the newest); *before 0 when there are no more. What
 * does not read may be what is looked for: it is counted. */
static imp_status list_find(struct listing *listing, uint64_t *before, imp_error *error)
{
    imp_tx *tx;
    imp_cursor *cursor = NULL;
    uint8_t from[8];
    imp_status status = imp_store_read_begin(listing->audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    audit_key(*before, from);
    status = imp_cursor_open(tx, listing->audit->chain.event,
                             (imp_bytes){from, *before == 0 ? 0 : sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && i < AUDIT_STEP_ROWS && listing->count < listing->limit;
         i++) {
        imp_bytes key = {NULL, 0}, value;
        Imprimatur__Audit__Link *link;
        const Imprimatur__Audit__Event *event = NULL;
        status = imp_cursor_previous(cursor, &key, &value);
        if ((status != IMP_OK && status != IMP_CORRUPT) || key.data == NULL)
            break;
        if (status == IMP_OK)
            event = audit_event_open(tx, value, &link);
        uint64_t number = audit_key_number(key);
        if (event == NULL || number == 0)
            listing->unreadable++;
        else if (event_is_wanted(event, listing))
            listing->sequences[listing->count++] = number;
        if (number != 0)
            *before = number;
        status = IMP_OK;
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
    for (int i = 0; status == IMP_OK && i<AUDIT_STEP_ROWS && * left> 0; i++, --*left) {
        uint8_t number[8];
        imp_bytes value;
        Imprimatur__Audit__Link *link;
        audit_key(listing->sequences[*left - 1], number);
        status =
            imp_tx_get(tx, listing->audit->chain.event, (imp_bytes){number, sizeof number}, &value);
        const Imprimatur__Audit__Event *event =
            status == IMP_OK ? audit_event_open(tx, value, &link) : NULL;
        if (event != NULL)
            event_row(listing, tx, event);
        else /* it did read a moment ago */
            status = IMP_CORRUPT;
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
        status = imp_work_is_cancelled() ? IMP_UNAVAILABLE
                                         : list_find(listing, &before, &listing->error);
    while (status == IMP_OK && before != 0);
    for (uint32_t left = listing->count; status == IMP_OK && left > 0;)
        status =
            imp_work_is_cancelled() ? IMP_UNAVAILABLE : list_show(listing, &left, &listing->error);
    if (status == IMP_UNAVAILABLE) {
        listing->status = imp_error_set(&listing->error, status, "the server is stopping");
        return;
    }
    listing->status = status == IMP_OK
                          ? IMP_OK
                          : imp_error_set(&listing->error, status,
                                          "the audit trail does not read; try audit verify");
}

/* ---- the control loop's part ---- */

static void list_done(void *arg, bool was_cancelled)
{
    struct listing *listing = arg;
    if (was_cancelled)
        listing->status = imp_error_set(&listing->error, IMP_UNAVAILABLE, "the server is stopping");
    if (listing->status == IMP_OK && listing->unreadable > 0)
        imp_request_say(listing->request,
                        "left out, because they do not read: %" PRIu64 "; try audit verify",
                        listing->unreadable);
    imp_metric_add(listing->audit->unreadable, (int64_t)listing->unreadable);
    imp_request_finish(listing->request, listing->status, &listing->error);
    free(listing);
}

void audit_verb_list(imp_self *self, void *instance, imp_request *request)
{
    imp_error error = {0};
    const char *object_text = imp_request_value(request, "object", 0);
    const char *action = imp_request_value(request, "action", 0);
    int64_t limit = LIST_DEFAULT;
    struct listing *listing = NULL;
    imp_status status = imp_request_number(request, "limit", 1, LIST_MAX, &limit, &error);
    if (status != IMP_OK)
        goto refuse;
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
    if (action != NULL)
        memcpy(listing->action, action, strlen(action) + 1);
    if (imp_work(self, list_run, list_done, listing) != NULL)
        return;
    status = imp_error_set(&error, IMP_BUSY, "too much waits for the workers; try again");
refuse:
    free(listing);
    imp_request_finish(request, status, &error);
}
