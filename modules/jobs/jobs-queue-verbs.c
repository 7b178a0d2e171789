/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs `queue ...`. `add` and `set` take the same options from one table; what can be given several
 * times names things (devices, users), which are looked up before the commit.
 */
#include <imprimatur/control.h>
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-change.h"
#include "modules/jobs/jobs-delivery.h"
#include "modules/jobs/jobs-queue.h"

#define NAMES_MAX 64u /* values of one option in one command */

enum option_kind {
    OPT_RELEASE,
    OPT_PRIVATE,
    OPT_FLAG, /* yes | no, a bit of `flags` */
    OPT_ACCEPTING,
    OPT_DURATION,
    OPT_SIZE,
    OPT_NUMBER,
};

static const struct {
    const char *name;
    enum option_kind kind;
    uint32_t flag;
    size_t offset; /* of an int64_t or uint64_t in Queue */
} scalars[] = {
    {"release", OPT_RELEASE, 0, 0},
    {"private", OPT_PRIVATE, 0, 0},
    {"accepting", OPT_ACCEPTING, 0, 0},
    {"owner-from-pjl", OPT_FLAG, IMP_QUEUE_OWNER_FROM_PJL, 0},
    {"strip-pjl-hold", OPT_FLAG, IMP_QUEUE_STRIP_PJL_HOLD, 0},
    {"expiry", OPT_DURATION, 0, offsetof(Queue, hold_expiry)},
    {"keep", OPT_DURATION, 0, offsetof(Queue, keep_after)},
    {"jobs-max", OPT_NUMBER, 0, offsetof(Queue, jobs_max)},
    {"bytes-max", OPT_SIZE, 0, offsetof(Queue, bytes_max)},
    {"user-jobs-max", OPT_NUMBER, 0, offsetof(Queue, user_jobs_max)},
    {"user-bytes-max", OPT_SIZE, 0, offsetof(Queue, user_bytes_max)},
    {"source-rate", OPT_NUMBER, 0, offsetof(Queue, source_rate)},
};

/* Sets of ids, and the options that add to them and take from them. */
static const struct {
    const char *add, *remove;
    bool is_device;
    size_t count_offset, ids_offset;
} sets[] = {
    {"allow-device", "disallow-device", true, offsetof(Queue, n_allowed_devices),
     offsetof(Queue, allowed_devices)},
    {"allow-user", "disallow-user", false, offsetof(Queue, n_allowed_principals),
     offsetof(Queue, allowed_principals)},
    {"delegate", "undelegate", false, offsetof(Queue, n_delegates), offsetof(Queue, delegates)},
};
#define SET_COUNT (sizeof sets / sizeof *sets)

#define QUEUE_OPTIONS                                                                              \
    "release=hold|direct private=off|sent|confirmed device=DEVICE accepting=yes|no "               \
    "owner-from-pjl=yes|no strip-pjl-hold=yes|no expiry=DURATION "                                 \
    "keep=DURATION jobs-max=NUMBER bytes-max=SIZE user-jobs-max=NUMBER user-bytes-max=SIZE "       \
    "source-rate=NUMBER allow-device=DEVICE disallow-device=DEVICE allow-user=USER "               \
    "disallow-user=USER delegate=USER undelegate=USER default=NAME=VALUE"

/* ---- values ---- */

static const struct {
    const char *unit;
    int64_t factor;
} durations[] = {{"s", IMP_SECOND},
                 {"min", 60 * IMP_SECOND},
                 {"h", 3600 * IMP_SECOND},
                 {"d", 86400 * IMP_SECOND}},
  sizes[] = {{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};

/* A number with one of four units, or 0 alone. */
static bool read_quantity(const char *text, bool is_duration, int64_t *value)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long number = strtoul(text, &end, 10);
    if (*end == '\0' && number == 0) {
        *value = 0;
        return true;
    }
    for (size_t i = 0; i < 4; i++) {
        int64_t factor = is_duration ? durations[i].factor : sizes[i].factor;
        if (strcmp(end, is_duration ? durations[i].unit : sizes[i].unit) == 0 &&
            number <= (unsigned long)(INT64_MAX / factor)) {
            *value = (int64_t)number * factor;
            return true;
        }
    }
    return false;
}

static bool read_choice(const char *text, const char *const *choices, uint32_t count,
                        uint32_t *value)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *value = i;
            return true;
        }
    }
    return false;
}

static const char *const releases[] = {"hold", "direct"};
static const char *const privates[] = {"off", "sent", "confirmed"};
static const char *const answers[] = {"no", "yes"};

static bool set_scalar(Queue *queue, size_t row, const char *text)
{
    uint32_t choice = 0;
    int64_t quantity = 0;
    char *at = (char *)queue + scalars[row].offset, *end;
    switch (scalars[row].kind) {
    case OPT_RELEASE: return read_choice(text, releases, 2, &queue->release);
    case OPT_PRIVATE: return read_choice(text, privates, 3, &queue->private_mode);
    case OPT_ACCEPTING:
        if (!read_choice(text, answers, 2, &choice))
            return false;
        queue->is_accepting = choice != 0;
        return true;
    case OPT_FLAG:
        if (!read_choice(text, answers, 2, &choice))
            return false;
        queue->flags =
            choice != 0 ? queue->flags | scalars[row].flag : queue->flags & ~scalars[row].flag;
        return true;
    case OPT_NUMBER:
        quantity = (int64_t)strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || *end != '\0' || quantity < 0)
            return false;
        break;
    case OPT_DURATION:
    case OPT_SIZE:
        if (!read_quantity(text, scalars[row].kind == OPT_DURATION, &quantity))
            return false;
        break;
    }
    memcpy(at, &quantity, sizeof quantity);
    return true;
}

/* ---- add and set ---- */

struct queue_verb {
    struct jobs *jobs;
    imp_request *request;
    bool is_add, is_remove, has_device;
    char name[IMP_NAME_MAX];
    imp_id id, device;
    uint32_t add_count[SET_COUNT], remove_count[SET_COUNT];
    imp_id add[SET_COUNT][NAMES_MAX], remove[SET_COUNT][NAMES_MAX];
    struct jobs_write write;
};

static imp_status find_named(struct queue_verb *verb, bool is_device, const char *name, imp_id *id,
                             imp_error *error)
{
    imp_status status;
    if (is_device) {
        imp_device device = {.size = sizeof device};
        status = imp_device_find(verb->jobs->self, name, &device);
        *id = device.id;
    } else {
        imp_principal principal = {.size = sizeof principal};
        status = imp_user_find(verb->jobs->self, name, &principal);
        *id = principal.id;
    }
    if (status != IMP_OK)
        return imp_error_set(error, status, "there is no %s '%s': see imprimctl %s list",
                             is_device ? "device" : "user", name, is_device ? "device" : "user");
    return IMP_OK;
}

static imp_status find_all(struct queue_verb *verb, const char *option, bool is_device,
                           imp_id ids[NAMES_MAX], uint32_t *count, imp_error *error)
{
    const char *name;
    while ((name = imp_request_value(verb->request, option, *count)) != NULL) {
        if (*count == NAMES_MAX)
            return imp_error_set(error, IMP_INVALID, "--%s more than %u times", option, NAMES_MAX);
        imp_status status = find_named(verb, is_device, name, &ids[*count], error);
        if (status != IMP_OK)
            return status;
        (*count)++;
    }
    return IMP_OK;
}

/* Everything that a closure may not do: services are asked, values are tried. */
static imp_status prepare(struct queue_verb *verb, imp_error *error)
{
    Queue trial = QUEUE_INIT;
    imp_status status = IMP_OK;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        const char *text = imp_request_value(verb->request, scalars[i].name, 0);
        if (text != NULL && !set_scalar(&trial, i, text))
            return imp_error_set(error, IMP_INVALID, "--%s can't be '%s'", scalars[i].name, text);
    }
    const char *device = imp_request_value(verb->request, "device", 0);
    if (device != NULL) {
        verb->has_device = true;
        if ((status = find_named(verb, true, device, &verb->device, error)) != IMP_OK)
            return status;
    }
    for (size_t i = 0; i < SET_COUNT && status == IMP_OK; i++) {
        status = find_all(verb, sets[i].add, sets[i].is_device, verb->add[i], &verb->add_count[i],
                          error);
        if (status == IMP_OK)
            status = find_all(verb, sets[i].remove, sets[i].is_device, verb->remove[i],
                              &verb->remove_count[i], error);
    }
    return status;
}

static bool ids_have(const imp_id *ids, uint32_t count, ProtobufCBinaryData id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (record_id_is(id, ids[i]))
            return true;
    }
    return false;
}

/* The set without what is removed, with what is added. */
static bool change_set(imp_tx *tx, Queue *queue, size_t row, const struct queue_verb *verb)
{
    size_t *count = (size_t *)(void *)((char *)queue + sets[row].count_offset);
    ProtobufCBinaryData **ids =
        (ProtobufCBinaryData **)(void *)((char *)queue + sets[row].ids_offset);
    ProtobufCBinaryData *changed =
        imp_tx_alloc(tx, (*count + verb->add_count[row] + 1) * sizeof *changed);
    size_t kept = 0;
    if (changed == NULL)
        return false;
    for (size_t i = 0; i < *count; i++) {
        if (!ids_have(verb->remove[row], verb->remove_count[row], (*ids)[i]))
            changed[kept++] = (*ids)[i];
    }
    for (uint32_t i = 0; i < verb->add_count[row]; i++) {
        if (!record_ids_have(changed, kept, verb->add[row][i]))
            changed[kept++] = record_bytes(verb->add[row][i].bytes, 16);
    }
    *count = kept;
    *ids = changed;
    return true;
}

/* --default NAME=VALUE; an empty value takes the default away. */
static imp_status change_defaults(imp_tx *tx, Queue *queue, imp_request *request, imp_error *error)
{
    TicketValue **rows =
        imp_tx_alloc(tx, (queue->n_defaults + IMP_TICKET_VALUES_MAX) * sizeof *rows);
    if (rows == NULL)
        return IMP_LIMIT;
    size_t count = queue->n_defaults;
    for (size_t i = 0; i < count; i++)
        rows[i] = queue->defaults[i];
    const char *text;
    for (uint32_t i = 0; (text = imp_request_value(request, "default", i)) != NULL; i++) {
        const char *equals = strchr(text, '=');
        if (equals == NULL || equals == text || count >= IMP_TICKET_VALUES_MAX)
            return imp_error_set(error, IMP_INVALID,
                                 "--default takes NAME=VALUE, such as sides=two-sided-long-edge");
        size_t length = (size_t)(equals - text), kept = 0;
        for (size_t j = 0; j < count; j++) {
            if (strncmp(rows[j]->name, text, length) != 0 || rows[j]->name[length] != '\0')
                rows[kept++] = rows[j];
        }
        count = kept;
        if (equals[1] == '\0')
            continue;
        TicketValue *row = imp_tx_alloc(tx, sizeof *row);
        char *name = imp_tx_alloc(tx, length + 1);
        if (row == NULL || name == NULL)
            return IMP_LIMIT;
        memcpy(name, text, length);
        name[length] = '\0';
        *row = (TicketValue)TICKET_VALUE_INIT;
        row->layer = IMP_TICKET_QUEUE_DEFAULT;
        row->name = name;
        row->value = (char *)(uintptr_t)(equals + 1);
        row->source = (char *)(uintptr_t) "admin";
        rows[count++] = row;
    }
    queue->defaults = rows;
    queue->n_defaults = count;
    return IMP_OK;
}

static imp_status audit_queue_tx(struct queue_verb *verb, imp_tx *tx, const char *action,
                                 imp_error *error)
{
    imp_audit_event event = {
        .size = sizeof event,
        .action = action,
        .has_actor_uid = true,
        .actor_uid = imp_request_uid(verb->request),
        .place_kind = "control",
        .object_kind = "queue",
        .object = verb->id,
        .detail = "",
    };
    return imp_audit_append_tx(verb->jobs->self, tx, &event, error);
}

/* Who may release for others is of interest by itself: one event for each. */
static imp_status audit_delegates_tx(struct queue_verb *verb, imp_tx *tx, imp_error *error)
{
    size_t row = SET_COUNT - 1;
    imp_status status = IMP_OK;
    uint32_t added = verb->add_count[row], total = added + verb->remove_count[row];
    for (uint32_t i = 0; i < total && status == IMP_OK; i++) {
        char text[IMP_ID_TEXT_SIZE], detail[64] = "principal=";
        const imp_id *id = i < added ? &verb->add[row][i] : &verb->remove[row][i - added];
        memcpy(detail + 10, imp_id_format(*id, text), IMP_ID_TEXT_SIZE);
        imp_audit_event event = {
            .size = sizeof event,
            .action = i < added ? "queue.delegate" : "queue.undelegate",
            .has_actor_uid = true,
            .actor_uid = imp_request_uid(verb->request),
            .place_kind = "control",
            .object_kind = "queue",
            .object = verb->id,
            .detail = detail,
        };
        status = imp_audit_append_tx(verb->jobs->self, tx, &event, error);
    }
    return status;
}

static imp_status change_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct queue_verb *verb = arg;
    struct jobs *jobs = verb->jobs;
    imp_status status;
    Queue fresh = QUEUE_INIT;
    Queue *queue = queue_load_by_name(jobs, tx, verb->name, &status);

    if (verb->is_add) {
        if (queue != NULL)
            return imp_error_set(error, IMP_EXISTS, "there is a queue '%s' already", verb->name);
        if (status != IMP_NOT_FOUND)
            return status;
        queue = &fresh;
        queue->schema = JOBS_SCHEMA;
        queue->id = record_bytes(verb->id.bytes, sizeof verb->id.bytes);
        queue->name = verb->name;
        queue->is_accepting = true;
        queue->private_mode = IMP_PRIVATE_OFF;
        queue->hold_expiry = 0;
        queue->keep_after = atomic_load(&jobs->settings.keep_after);
    } else if (queue == NULL) {
        return imp_error_set(error, status, "there is no queue '%s': see imprimctl queue list",
                             verb->name);
    } else {
        verb->id = imp_id_of_field(queue->id);
    }
    if (verb->is_remove) {
        status = queue_remove_tx(jobs, tx, queue, error);
        return status == IMP_OK ? audit_queue_tx(verb, tx, "queue.remove", error) : status;
    }
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        const char *text = imp_request_value(verb->request, scalars[i].name, 0);
        if (text != NULL)
            (void)set_scalar(queue, i, text); /* tried by prepare() */
    }
    if (verb->has_device)
        queue->device = record_bytes(verb->device.bytes, sizeof verb->device.bytes);
    for (size_t i = 0; i < SET_COUNT; i++) {
        if (!change_set(tx, queue, i, verb))
            return imp_error_set(error, IMP_LIMIT, "not enough memory to change the queue");
    }
    if ((status = change_defaults(tx, queue, verb->request, error)) != IMP_OK)
        return status;
    if (queue->release == IMP_QUEUE_DIRECT && queue->device.len == 0)
        return imp_error_set(error, IMP_INVALID,
                             "a direct queue needs the device it prints on: --device DEVICE");
    status = queue_put_tx(jobs, tx, queue, error);
    if (status == IMP_OK)
        status = audit_queue_tx(verb, tx, verb->is_add ? "queue.add" : "queue.set", error);
    return status == IMP_OK ? audit_delegates_tx(verb, tx, error) : status;
}

static void change_done(imp_status status, const imp_error *error, void *arg)
{
    struct queue_verb *verb = arg;
    imp_request_finish(verb->request, status, error);
    free(verb);
}

static void change(struct jobs *jobs, imp_request *request, bool is_add, bool is_remove)
{
    imp_error error = {0};
    const char *name = imp_request_value(request, "QUEUE", 0);
    struct queue_verb *verb = calloc(1, sizeof *verb);
    imp_status status = IMP_OK;
    if (verb == NULL) {
        imp_error_set(&error, IMP_LIMIT, "not enough memory to change a queue");
        imp_request_finish(request, IMP_LIMIT, &error);
        return;
    }
    verb->jobs = jobs;
    verb->request = request;
    verb->is_add = is_add;
    verb->is_remove = is_remove;
    verb->id = imp_id_new();
    if (!queue_name_is_valid(name))
        status =
            imp_error_set(&error, IMP_INVALID,
                          "'%s' can't be a queue's name: use letters, digits, '.', '_', '-'", name);
    else
        memcpy(verb->name, name, strlen(name) + 1);
    if (status == IMP_OK && !is_remove)
        status = prepare(verb, &error);
    if (status != IMP_OK) {
        imp_request_finish(request, status, &error);
        free(verb);
        return;
    }
    verb->write = (struct jobs_write){
        .jobs = jobs,
        .queue = IMP_WRITE_CONTROL,
        .fn = change_tx,
        .done = change_done,
        .arg = verb,
    };
    jobs_write_submit(&verb->write);
}

static void queue_add(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    change(instance, request, true, false);
}

static void queue_set(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    change(instance, request, false, false);
}

static void queue_remove(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    change(instance, request, false, true);
}

/* ---- list and show ---- */

static void add_fields(struct jobs *jobs, imp_tx *tx, imp_request *request, const Queue *queue,
                       bool is_single)
{
    struct counter_value counter = {0};
    imp_id id = imp_id_of_field(queue->id), device_id = imp_id_of_field(queue->device);
    imp_device device = {.size = sizeof device};
    (void)counter_read(jobs, tx, COUNTER_QUEUE, &id, &counter);
    if (imp_id_is_zero(device_id) || imp_device_get(jobs->self, &device_id, &device) != IMP_OK)
        device.name[0] = '\0';
    imp_row_begin(request, is_single);
    imp_field_text(request, "name", queue->name);
    imp_field_text(request, "release", releases[queue->release == IMP_QUEUE_DIRECT ? 1 : 0]);
    imp_field_text(request, "private",
                   privates[queue->private_mode <= 2 ? queue->private_mode : 2]);
    imp_field_bool(request, "accepting", queue->is_accepting);
    imp_field_text(request, "device", device.name);
    imp_field_integer(request, "jobs", (int64_t)counter.jobs);
    imp_field_integer(request, "bytes", (int64_t)counter.bytes);
    if (!is_single)
        return;
    imp_field_id(request, "id", id);
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        int64_t value;
        if (scalars[i].kind == OPT_FLAG) {
            imp_field_bool(request, scalars[i].name, (queue->flags & scalars[i].flag) != 0);
        } else if (scalars[i].kind >= OPT_DURATION) {
            memcpy(&value, (const char *)queue + scalars[i].offset, sizeof value);
            if (scalars[i].kind == OPT_DURATION)
                imp_field_printf(request, scalars[i].name, "%llds",
                                 (long long)(value / IMP_SECOND));
            else
                imp_field_integer(request, scalars[i].name, value);
        }
    }
    for (size_t i = 0; i < SET_COUNT; i++) {
        const size_t *count =
            (const size_t *)(const void *)((const char *)queue + sets[i].count_offset);
        ProtobufCBinaryData *const *ids =
            (ProtobufCBinaryData *const *)(const void *)((const char *)queue + sets[i].ids_offset);
        for (size_t j = 0; j < *count; j++)
            imp_field_id(request, sets[i].add, imp_id_of_field((*ids)[j]));
    }
    for (size_t i = 0; i < queue->n_defaults; i++)
        imp_field_printf(request, "default", "%s=%s", queue->defaults[i]->name,
                         queue->defaults[i]->value);
}

static void queue_list(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    struct jobs *jobs = instance;
    imp_error error = {0};
    imp_cursor *cursor;
    imp_bytes key, value;
    imp_tx *tx;
    imp_status status = imp_store_read_begin(jobs->self, &tx, &error);
    if (status != IMP_OK) {
        imp_request_finish(request, status, &error);
        return;
    }
    status = imp_cursor_open(tx, jobs->tables.queue, (imp_bytes){"", 0}, &cursor);
    if (status == IMP_OK) {
        while ((status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
            Queue *queue = imp_message_decode(tx, QUEUE_TYPE, value);
            if (queue != NULL)
                add_fields(jobs, tx, request, queue, false);
        }
        imp_cursor_close(cursor);
    }
    imp_store_read_end(tx);
    if (status == IMP_NOT_FOUND)
        status = IMP_OK;
    else
        imp_error_set(&error, status, "the queues can't be read: %s", imp_status_name(status));
    imp_request_finish(request, status, &error);
}

static void queue_show(imp_self *self IMP_UNUSED, void *instance, imp_request *request)
{
    struct jobs *jobs = instance;
    imp_error error = {0};
    const char *name = imp_request_value(request, "QUEUE", 0);
    imp_tx *tx;
    imp_status status = imp_store_read_begin(jobs->self, &tx, &error);
    if (status == IMP_OK) {
        Queue *queue = queue_load_by_name(jobs, tx, name, &status);
        if (queue != NULL)
            add_fields(jobs, tx, request, queue, true);
        else
            imp_error_set(&error, status, "there is no queue '%s': see imprimctl queue list", name);
        imp_store_read_end(tx);
    }
    imp_request_finish(request, status, &error);
}

/* ---- the table ---- */

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "queue add",
     .arguments = "QUEUE",
     .options = QUEUE_OPTIONS,
     .help = "make a queue",
     .run = queue_add},
    {.size = sizeof(imp_verb_spec),
     .words = "queue list",
     .arguments = "",
     .options = "",
     .help = "list the queues and what is in them",
     .run = queue_list},
    {.size = sizeof(imp_verb_spec),
     .words = "queue show",
     .arguments = "QUEUE",
     .options = "",
     .help = "show everything about a queue",
     .run = queue_show},
    {.size = sizeof(imp_verb_spec),
     .words = "queue set",
     .arguments = "QUEUE",
     .options = QUEUE_OPTIONS,
     .help = "change a queue; options that are not given stay as they are",
     .run = queue_set},
    {.size = sizeof(imp_verb_spec),
     .words = "queue remove",
     .arguments = "QUEUE",
     .options = "",
     .help = "remove an empty queue",
     .run = queue_remove},
};

imp_status queue_verbs_register(struct jobs *jobs, imp_error *error)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        imp_status status = imp_verb_add(jobs->self, &verbs[i], error);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}
