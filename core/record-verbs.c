/* SPDX-License-Identifier: Apache-2.0 */
/* record-verbs.c - verbs over a table of records; see <imprimatur/record-verbs.h>. */
#include <imprimatur/record-verbs.h>

#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/metrics.h>

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Records in one read transaction, and in what is sent at a time: no reader lives long. */
#define PAGE_ROWS 1000
#define LOG_INTERVAL_MS 60000
/* Their first versions, which every module has at least. */
#define KIND_SIZE_MIN (offsetof(imp_record_kind, row) + sizeof(((imp_record_kind *)0)->row))
#define CHANGE_SIZE_MIN (offsetof(imp_record_change, name) + sizeof(((imp_record_change *)0)->name))

/* ---- registering ---- */

/* The counter; made by the first call, found by the others. Control thread. */
static imp_metric *unreadable_metric(imp_self *self, const imp_record_kind *kind)
{
    char labels[64];
    snprintf(labels, sizeof labels, "kind=\"%s\"", kind->noun);
    return imp_metric_register(self, IMP_METRIC_COUNTER, "records_unreadable_total", labels,
                               "records that were left out of a listing because they do not read");
}

imp_status imp_record_verbs_add(imp_self *self, const imp_record_kind *kind,
                                const imp_verb_spec *verbs, size_t count, imp_error *error)
{
    imp_status status = IMP_OK;
    if (kind->size < KIND_SIZE_MIN)
        return imp_error_set(error, IMP_INVALID, "a kind of records has the wrong size");
    if (unreadable_metric(self, kind) == NULL)
        status = imp_error_set(error, IMP_LIMIT, "out of memory");
    for (size_t i = 0; status == IMP_OK && i < count; i++)
        status = imp_verb_add(self, &verbs[i], error);
    return status;
}

/* ---- options ---- */

imp_status imp_request_switch(imp_request *request, const char *name, bool *is_given, bool *value,
                              imp_error *error)
{
    const char *text = imp_request_value(request, name, 0);
    *is_given = text != NULL;
    if (text == NULL)
        return IMP_OK;
    bool is_yes = strcmp(text, "yes") == 0;
    if (!is_yes && strcmp(text, "no") != 0)
        return imp_error_set(error, IMP_INVALID, "--%s: found \"%s\", expected yes or no", name,
                             text);
    *value = is_yes;
    return IMP_OK;
}

imp_status imp_request_number(imp_request *request, const char *name, int64_t minimum,
                              int64_t maximum, int64_t *value, imp_error *error)
{
    const char *text = imp_request_value(request, name, 0);
    char *end = NULL;
    if (text == NULL)
        return IMP_OK;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    bool begins_well =
        (text[0] >= '0' && text[0] <= '9') || (text[0] == '-' && text[1] >= '0' && text[1] <= '9');
    if (!begins_well || *end != '\0' || errno != 0 || number < minimum || number > maximum)
        return imp_error_set(error, IMP_INVALID,
                             "--%s: found \"%s\", expected %" PRId64 " to %" PRId64, name, text,
                             minimum, maximum);
    *value = number;
    return IMP_OK;
}

/* ---- changes ---- */

imp_record_change *imp_record_change_make(imp_self *self, imp_request *request,
                                          const imp_record_kind *kind, const char *action,
                                          size_t base_size, size_t whole)
{
    imp_error error;
    const char *name = imp_request_value(request, kind->argument, 0);
    if (base_size < CHANGE_SIZE_MIN || base_size > UINT32_MAX || whole < base_size) {
        imp_error_set(&error, IMP_INVALID, "a change of records has the wrong size");
        imp_request_finish(request, IMP_INVALID, &error);
        return NULL;
    }
    imp_record_change *change = calloc(1, whole);
    if (change == NULL) {
        imp_error_set(&error, IMP_LIMIT, "out of memory");
        imp_request_finish(request, IMP_LIMIT, &error);
        return NULL;
    }
    change->size = (uint32_t)base_size;
    change->whole = whole;
    change->kind = kind;
    change->self = self;
    change->request = request;
    change->action = action;
    change->is_add = strcmp(action, "add") == 0;
    change->is_remove = strcmp(action, "remove") == 0;
    change->uid = imp_request_uid(request);
    bool is_valid =
        kind->name_is_valid == NULL ? imp_name_is_valid(name) : kind->name_is_valid(name);
    if (!is_valid || strlen(name) >= sizeof change->name) {
        if (kind->name_is_valid == NULL)
            imp_error_set(&error, IMP_INVALID,
                          "a %s's name has 1 to %d bytes, no blanks at its ends and no control "
                          "characters",
                          kind->noun, IMP_NAME_MAX - 1);
        else
            imp_error_set(&error, IMP_INVALID, "%s", kind->name_rule);
        imp_record_change_end(change, IMP_INVALID, &error);
        return NULL;
    }
    memcpy(change->name, name, strlen(name) + 1);
    if (change->is_add)
        change->id = imp_id_new();
    return change;
}

void imp_record_change_end(imp_record_change *change, imp_status status, const imp_error *error)
{
    imp_request_finish(change->request, status, error);
    imp_wipe(change, change->whole);
    free(change);
}

static imp_status not_found(const imp_record_kind *kind, imp_status status, imp_error *error)
{
    return status == IMP_NOT_FOUND
               ? imp_error_set(error, status, "there is no %s of that name: see imprimctl %s list",
                               kind->noun, kind->noun)
               : imp_error_set(error, status, "the %s's record does not read (%s)", kind->noun,
                               imp_status_name(status));
}

static imp_status change_run(imp_tx *tx, void *arg, imp_error *error)
{
    imp_record_change *change = arg;
    void *instance = imp_self_instance(change->self);
    if (!change->is_add) {
        imp_status status = change->kind->find_tx(instance, tx, change->name, &change->id);
        if (status != IMP_OK)
            return not_found(change->kind, status, error);
    }
    return change->kind->change_tx(instance, tx, change, error);
}

static void change_done(imp_status status, const imp_error *error, void *arg)
{
    imp_record_change *change = arg;
    if (status == IMP_OK && change->is_add) {
        imp_row_begin(change->request, true);
        imp_field_id(change->request, change->kind->noun, change->id);
        imp_field_text(change->request, "name", change->name);
    }
    imp_record_change_end(change, status, error);
}

static void change_submit(void *arg)
{
    imp_record_change *change = arg;
    imp_error error = {0};
    imp_status status =
        imp_store_write(change->self, IMP_WRITE_CONTROL, change_run, change_done, change);
    if (status == IMP_BUSY) {
        imp_store_wait(change->self, IMP_WRITE_CONTROL, change_submit, change);
    } else if (status != IMP_OK) {
        imp_error_set(&error, status, "the store takes no changes now (%s)",
                      imp_status_name(status));
        imp_record_change_end(change, status, &error);
    }
}

void imp_record_change_write(imp_record_change *change)
{
    change_submit(change);
}

/* ---- show ---- */

void imp_record_show(imp_self *self, imp_request *request, const imp_record_kind *kind)
{
    void *instance = imp_self_instance(self);
    imp_error error = {0};
    imp_bytes value;
    imp_tx *tx;
    imp_id id;
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = kind->find_tx(instance, tx, imp_request_value(request, kind->argument, 0), &id);
        if (status == IMP_OK)
            status = imp_tx_get(tx, kind->table(instance), (imp_bytes){id.bytes, sizeof id.bytes},
                                &value);
        if (status == IMP_OK)
            status = kind->row(instance, tx, request, value, true);
        if (status != IMP_OK)
            not_found(kind, status, &error);
        imp_store_read_end(tx);
    }
    imp_request_finish(request, status, &error);
}

/* ---- list ---- */

struct listing {
    imp_self *self;
    imp_request *request;
    const imp_record_kind *kind;
    imp_metric *unreadable_total;
    int64_t left;        /* of --limit */
    uint64_t unreadable; /* records left out so far */
    bool is_at_end;      /* nothing stands behind the last one */
    /* The key seen last. Ids have 16 bytes; a key of another length is nobody's record, and the walk goes
     * on behind it. */
    uint8_t last[IMP_KEY_MAX];
    size_t last_length;
    imp_status status;
    imp_error error;
};

/* The id of the record seen last; "" when it has none. */
static const char *last_text(const struct listing *listing, char text[IMP_ID_TEXT_SIZE])
{
    imp_id id;
    if (listing->last_length != sizeof id.bytes)
        return "";
    memcpy(id.bytes, listing->last, sizeof id.bytes);
    return imp_id_format(id, text);
}

static void leave_out(struct listing *listing)
{
    char text[IMP_ID_TEXT_SIZE];
    listing->unreadable++;
    imp_metric_add(listing->unreadable_total, 1);
    imp_log_limited(listing->self, LOG_INTERVAL_MS, IMP_LOG_ERROR, "record.unreadable",
                    "kind=%s id=%s", listing->kind->noun, last_text(listing, text));
}

/* The record that the cursor came to. */
static imp_status page_row(struct listing *listing, imp_tx *tx, imp_status read, imp_bytes key,
                           imp_bytes value)
{
    imp_status status = key.length == sizeof(imp_id) ? read : IMP_CORRUPT;
    memcpy(listing->last, key.data, key.length);
    listing->last_length = key.length;
    if (status == IMP_OK)
        status = listing->kind->row(imp_self_instance(listing->self), tx, listing->request, value,
                                    false);
    if (status == IMP_OK)
        listing->left--;
    if (status != IMP_CORRUPT)
        return status;
    leave_out(listing);
    return IMP_OK;
}

/* Up to PAGE_ROWS records, and a look whether there is one more. */
static void page_run(void *arg)
{
    struct listing *listing = arg;
    imp_cursor *cursor = NULL;
    imp_tx *tx;
    imp_status status = imp_store_read_begin(listing->self, &tx, &listing->error);
    if (status != IMP_OK)
        goto done;
    uint8_t from[IMP_KEY_MAX];
    size_t from_length = listing->last_length;
    memcpy(from, listing->last, from_length);
    imp_table *table = listing->kind->table(imp_self_instance(listing->self));
    status = imp_cursor_open(tx, table, (imp_bytes){from, from_length}, &cursor);
    for (int i = 0; status == IMP_OK && (i < PAGE_ROWS || listing->left == 0); i++) {
        imp_bytes key = {NULL, 0}, value = {NULL, 0};
        if (imp_work_is_cancelled()) {
            status = imp_error_set(&listing->error, IMP_UNAVAILABLE, "the server is stopping");
            break;
        }
        status = imp_cursor_next(cursor, &key, listing->left == 0 ? NULL : &value);
        if (status == IMP_NOT_FOUND) {
            listing->is_at_end = true;
            status = IMP_OK;
            break;
        }
        if (key.data == NULL) /* not even a place to go on from */
            break;
        if (i == 0 && key.length == from_length && memcmp(key.data, from, from_length) == 0) {
            status = IMP_OK; /* the last one of the page before */
            continue;
        }
        if (listing->left == 0) /* so there is one more */
            break;
        status = page_row(listing, tx, status, key, value);
    }
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
done:
    listing->status = status;
}

static void listing_end(struct listing *listing)
{
    const char *noun = listing->kind->noun;
    char text[IMP_ID_TEXT_SIZE];
    if (listing->status == IMP_OK && !listing->is_at_end)
        imp_request_say(listing->request, "there are more: imprimctl %s list --after=%s", noun,
                        last_text(listing, text));
    if (listing->unreadable > 0)
        imp_request_say(listing->request,
                        "left out, because they do not read: %" PRIu64
                        " (see record.unreadable in the log)",
                        listing->unreadable);
    if (listing->status != IMP_OK && listing->error.message[0] == '\0')
        imp_error_set(&listing->error, listing->status, "the %ss do not read (%s)", noun,
                      imp_status_name(listing->status));
    imp_request_finish(listing->request, listing->status, &listing->error);
    free(listing);
}

static void page_done(void *arg, bool was_cancelled);

static void page_start(struct listing *listing)
{
    if (imp_work(listing->self, page_run, page_done, listing) != NULL)
        return;
    listing->status =
        imp_error_set(&listing->error, IMP_BUSY, "too much waits for the workers; try again");
    listing_end(listing);
}

static void page_done(void *arg, bool was_cancelled)
{
    struct listing *listing = arg;
    if (was_cancelled)
        listing->status = imp_error_set(&listing->error, IMP_UNAVAILABLE, "the server is stopping");
    if (listing->status != IMP_OK || listing->is_at_end || listing->left == 0) {
        listing_end(listing);
        return;
    }
    imp_request_flush(listing->request);
    page_start(listing);
}

void imp_record_list(imp_self *self, imp_request *request, const imp_record_kind *kind)
{
    imp_error error = {0};
    imp_status status = IMP_OK;
    const char *after = imp_request_value(request, "after", 0);
    struct listing *listing = calloc(1, sizeof *listing);
    if (listing == NULL) {
        status = imp_error_set(&error, IMP_LIMIT, "out of memory");
        goto refuse;
    }
    listing->self = self;
    listing->request = request;
    listing->kind = kind;
    listing->unreadable_total = unreadable_metric(self, kind);
    listing->left = IMP_RECORD_LIST_MAX;
    if (after != NULL) {
        imp_id id;
        if (imp_id_parse(after, &id) != IMP_OK)
            status = imp_error_set(&error, IMP_INVALID,
                                   "--after: found \"%s\", expected an id of 32 digits", after);
        else
            memcpy(listing->last, id.bytes, listing->last_length = sizeof id.bytes);
    }
    if (status == IMP_OK)
        status =
            imp_request_number(request, "limit", 1, IMP_RECORD_LIST_MAX, &listing->left, &error);
    if (status == IMP_OK) {
        page_start(listing);
        return;
    }
refuse:
    free(listing);
    imp_request_finish(request, status, &error);
}
