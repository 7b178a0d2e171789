/* SPDX-License-Identifier: Apache-2.0 */
/* devices-verbs.c - imprimctl device add, list, show, set, remove. */
#include "devices.h"

#include <imprimatur/audit.h>
#include <imprimatur/control.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum change_kind { CHANGE_ADD, CHANGE_SET, CHANGE_REMOVE };

/* A change on its way through the writer. What the person asked for is copied; the record itself is
 * read and changed inside the closure, so that it may run again. */
struct change {
    struct devices *devices;
    imp_request *request;
    enum change_kind kind;
    imp_id new_id;
    char name[IMP_NAME_MAX];
    bool has_uris, has_ranges, has_pjl, pjl, has_enabled, enabled;
    size_t uri_count, range_count;
    char *uris[IMP_DEVICE_URIS_MAX];
    char *ranges[DEVICES_RANGES_MAX];
    char uri_text[IMP_DEVICE_URIS_MAX][IMP_URI_MAX];
    char range_text[DEVICES_RANGES_MAX][IMP_NETWORK_TEXT_SIZE];
    uint32_t uid;
};

static void apply(const struct change *change, Imprimatur__Devices__Device *record)
{
    if (change->has_uris) {
        record->n_uris = change->uri_count;
        record->uris = (char **)(uintptr_t)change->uris;
    }
    if (change->has_ranges) {
        record->n_ranges = change->range_count;
        record->ranges = (char **)(uintptr_t)change->ranges;
    }
    if (change->has_pjl)
        record->capabilities = change->pjl ? record->capabilities | IMP_DEVICE_SPEAKS_PJL
                                           : record->capabilities & ~IMP_DEVICE_SPEAKS_PJL;
    if (change->has_enabled)
        record->is_disabled = !change->enabled;
}

static imp_status audit_change(struct change *change, imp_tx *tx, const imp_id *id,
                               imp_error *error)
{
    static const char *const actions[] = {"device.add", "device.set", "device.remove"};
    imp_audit_event event = {.size = sizeof event,
                             .action = actions[change->kind],
                             .has_actor_uid = true,
                             .actor_uid = change->uid,
                             .place_kind = "control",
                             .object_kind = "device",
                             .object = *id,
                             .result = IMP_OK};
    return imp_audit_append_tx(change->devices->self, tx, &event, error);
}

static imp_status change_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct change *change = arg;
    Imprimatur__Devices__Device *record = NULL;
    imp_id id = change->new_id;
    imp_status status;
    if (change->kind == CHANGE_ADD) {
        Imprimatur__Devices__Device fresh = IMPRIMATUR__DEVICES__DEVICE__INIT;
        fresh.id = (ProtobufCBinaryData){sizeof id.bytes, id.bytes};
        fresh.name = change->name;
        fresh.created = imp_now();
        apply(change, &fresh);
        status = device_put_tx(change->devices, tx, NULL, &fresh, error);
    } else {
        status = device_find_tx(change->devices, tx, change->name, &id);
        if (status == IMP_OK)
            status = device_get_tx(change->devices, tx, &id, &record);
        if (status != IMP_OK)
            return imp_error_set(error, status, "device %s: %s", change->name,
                                 status == IMP_NOT_FOUND ? "there is none of that name"
                                                         : "its record does not read");
        if (change->kind == CHANGE_REMOVE) {
            status = device_remove_tx(change->devices, tx, record, error);
        } else {
            Imprimatur__Devices__Device changed = *record;
            apply(change, &changed);
            status = device_put_tx(change->devices, tx, record, &changed, error);
        }
        device_free(record);
    }
    return status == IMP_OK ? audit_change(change, tx, &id, error) : status;
}

static void change_done(imp_status status, const imp_error *error, void *arg)
{
    struct change *change = arg;
    if (status == IMP_OK && change->kind == CHANGE_ADD) {
        imp_row_begin(change->request, true);
        imp_field_id(change->request, "device", change->new_id);
        imp_field_text(change->request, "name", change->name);
    }
    imp_request_finish(change->request, status, error);
    free(change);
}

static imp_status take_values(struct change *change, imp_error *error)
{
    const char *text;
    for (uint32_t i = 0; (text = imp_request_value(change->request, "uri", i)) != NULL; i++) {
        if (i == IMP_DEVICE_URIS_MAX)
            return imp_error_set(error, IMP_INVALID, "a device has at most %d URIs",
                                 IMP_DEVICE_URIS_MAX);
        imp_status status = device_uri_check(text, error);
        if (status != IMP_OK)
            return imp_error_set(error, IMP_INVALID, "%s", error->message);
        change->has_uris = true;
        snprintf(change->uri_text[i], IMP_URI_MAX, "%s", text);
        change->uris[change->uri_count++] = change->uri_text[i];
    }
    for (uint32_t i = 0; (text = imp_request_value(change->request, "range", i)) != NULL; i++) {
        imp_network range;
        if (i == DEVICES_RANGES_MAX)
            return imp_error_set(error, IMP_INVALID, "a device has at most %d ranges",
                                 DEVICES_RANGES_MAX);
        imp_status status = imp_network_parse(text, &range, error);
        if (status != IMP_OK)
            return status;
        change->has_ranges = true;
        change->ranges[change->range_count++] = imp_network_format(&range, change->range_text[i]);
    }
    static const struct {
        const char *name;
        size_t has, value;
    } switches[] = {
        {"pjl", offsetof(struct change, has_pjl), offsetof(struct change, pjl)},
        {"enabled", offsetof(struct change, has_enabled), offsetof(struct change, enabled)},
    };
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if ((text = imp_request_value(change->request, switches[i].name, 0)) == NULL)
            continue;
        bool is_yes = strcmp(text, "yes") == 0;
        if (!is_yes && strcmp(text, "no") != 0)
            return imp_error_set(error, IMP_INVALID, "--%s: found \"%s\", expected yes or no",
                                 switches[i].name, text);
        *(bool *)((char *)change + switches[i].has) = true;
        *(bool *)((char *)change + switches[i].value) = is_yes;
    }
    return IMP_OK;
}

static void change_start(struct devices *devices, imp_request *request, enum change_kind kind)
{
    imp_error error = {0};
    imp_status status;
    const char *name = imp_request_value(request, "DEVICE", 0);
    struct change *change = calloc(1, sizeof *change);
    if (change == NULL) {
        status = imp_error_set(&error, IMP_LIMIT, "out of memory");
        goto refuse;
    }
    change->devices = devices;
    change->request = request;
    change->kind = kind;
    change->new_id = imp_id_new();
    change->uid = imp_request_uid(request);
    if (!imp_name_is_valid(name)) {
        status = imp_error_set(&error, IMP_INVALID,
                               "a device's name has 1 to %d bytes, no blanks at its ends and no "
                               "control characters",
                               IMP_NAME_MAX - 1);
        goto refuse;
    }
    snprintf(change->name, sizeof change->name, "%s", name);
    status = take_values(change, &error);
    if (status == IMP_OK && kind == CHANGE_ADD && change->uri_count == 0)
        status =
            imp_error_set(&error, IMP_INVALID,
                          "a device needs at least one --uri, such as socket://192.0.2.7:9100");
    if (status == IMP_OK)
        status = imp_store_write(devices->self, IMP_WRITE_CONTROL, change_run, change_done, change);
    if (status == IMP_OK)
        return;
    if (error.message[0] == '\0')
        imp_error_set(&error, status, "the store is busy; try again");
refuse:
    free(change);
    imp_request_finish(request, status, &error);
}

static void verb_add(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    change_start(instance, request, CHANGE_ADD);
}

static void verb_set(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    change_start(instance, request, CHANGE_SET);
}

static void verb_remove(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    change_start(instance, request, CHANGE_REMOVE);
}

static void device_row(imp_request *request, const Imprimatur__Devices__Device *record,
                       bool is_single)
{
    imp_id id = {{0}};
    if (record->id.len == sizeof id.bytes)
        memcpy(id.bytes, record->id.data, sizeof id.bytes);
    imp_row_begin(request, is_single);
    imp_field_text(request, "name", record->name);
    imp_field_id(request, "device", id);
    imp_field_bool(request, "enabled", !record->is_disabled);
    imp_field_bool(request, "pjl", (record->capabilities & IMP_DEVICE_SPEAKS_PJL) != 0);
    for (size_t i = 0; i < (is_single ? record->n_uris : record->n_uris > 0 ? 1 : 0); i++)
        imp_field_text(request, "uri", record->uris[i]);
    for (size_t i = 0; is_single && i < record->n_ranges; i++)
        imp_field_text(request, "range", record->ranges[i]);
    if (is_single)
        imp_field_time(request, "created", record->created);
}

static void verb_show(imp_self *self, void *instance, imp_request *request)
{
    struct devices *devices = instance;
    Imprimatur__Devices__Device *record = NULL;
    imp_error error = {0};
    imp_tx *tx;
    imp_id id;
    const char *name = imp_request_value(request, "DEVICE", 0);
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = device_find_tx(devices, tx, name, &id);
        if (status == IMP_OK)
            status = device_get_tx(devices, tx, &id, &record);
        if (status == IMP_OK)
            device_row(request, record, true);
        else
            imp_error_set(&error, status, "device %s: there is none of that name", name);
        imp_store_read_end(tx);
    }
    device_free(record);
    imp_request_finish(request, status, &error);
}

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    struct devices *devices = instance;
    imp_error error = {0};
    imp_tx *tx;
    imp_cursor *cursor;
    imp_bytes key, value;
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = imp_cursor_open(tx, devices->device, (imp_bytes){NULL, 0}, &cursor);
        if (status == IMP_OK) {
            while ((status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
                Imprimatur__Devices__Device *record =
                    imprimatur__devices__device__unpack(NULL, value.length, value.data);
                if (record != NULL)
                    device_row(request, record, false);
                device_free(record);
            }
            imp_cursor_close(cursor);
        }
        status = status == IMP_NOT_FOUND ? IMP_OK
                                         : imp_error_set(&error, status, "the devices do not read");
        imp_store_read_end(tx);
    }
    imp_request_finish(request, status, &error);
}

#define DEVICE_OPTIONS "uri=URI range=CIDR pjl=YES|NO enabled=YES|NO"

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "device add",
     .arguments = "DEVICE",
     .options = DEVICE_OPTIONS,
     .help = "add a device; --uri and --range may be given several times",
     .run = verb_add},
    {.size = sizeof(imp_verb_spec),
     .words = "device list",
     .arguments = "",
     .options = "",
     .help = "list all devices",
     .run = verb_list},
    {.size = sizeof(imp_verb_spec),
     .words = "device show",
     .arguments = "DEVICE",
     .options = "",
     .help = "show one device",
     .run = verb_show},
    {.size = sizeof(imp_verb_spec),
     .words = "device set",
     .arguments = "DEVICE",
     .options = DEVICE_OPTIONS,
     .help = "change a device; all its URIs or ranges are replaced by those given",
     .run = verb_set},
    {.size = sizeof(imp_verb_spec),
     .words = "device remove",
     .arguments = "DEVICE",
     .options = "",
     .help = "remove a device",
     .run = verb_remove},
};

imp_status devices_verbs_add(struct devices *devices, imp_error *error)
{
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof verbs / sizeof *verbs; i++)
        status = imp_verb_add(devices->self, &verbs[i], error);
    return status;
}
