/* SPDX-License-Identifier: Apache-2.0 */
/* devices-verbs.c - imprimctl device add, list, show, set, remove. */
#include "devices.h"

#include <imprimatur/record-verbs.h>

#include <stdio.h>
#include <string.h>

/* A change on its way through the writer. What the person asked for is copied; the record itself is
 * read and changed inside the closure, so that it may run again. */
struct change {
    imp_record_change base;
    bool has_uris, has_ranges, has_pjl, pjl, has_enabled, enabled;
    size_t uri_count, range_count;
    char *uris[IMP_DEVICE_URIS_MAX];
    char *ranges[DEVICES_RANGES_MAX];
    char uri_text[IMP_DEVICE_URIS_MAX][IMP_URI_MAX];
    char range_text[DEVICES_RANGES_MAX][IMP_NETWORK_TEXT_SIZE];
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

static imp_status change_tx(void *instance, imp_tx *tx, imp_record_change *base, imp_error *error)
{
    struct change *change = (struct change *)base;
    struct devices *devices = instance;
    Imprimatur__Devices__Device after = IMPRIMATUR__DEVICES__DEVICE__INIT, *before = NULL;
    imp_status status = IMP_OK;
    if (base->is_add) {
        after.id = imp_id_field(&base->id);
        after.name = base->name;
        after.created = imp_now();
    } else if ((before = device_get_tx(devices, tx, &base->id, &status)) != NULL) {
        after = *before;
    } else {
        return imp_error_set(error, status, "device %s: its record does not read (%s)", base->name,
                             imp_status_name(status));
    }
    if (base->is_remove) {
        status = device_remove_tx(devices, tx, before, error);
    } else {
        apply(change, &after);
        status = device_put_tx(devices, tx, before, &after, error);
    }
    return status == IMP_OK ? imp_record_change_audit_tx(base, tx, NULL, error) : status;
}

static imp_status take_values(struct change *change, imp_error *error)
{
    const char *text;
    for (uint32_t i = 0; (text = imp_request_value(change->base.request, "uri", i)) != NULL; i++) {
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
    for (uint32_t i = 0; (text = imp_request_value(change->base.request, "range", i)) != NULL;
         i++) {
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
    imp_status status =
        imp_request_switch(change->base.request, "pjl", &change->has_pjl, &change->pjl, error);
    return status != IMP_OK ? status
                            : imp_request_switch(change->base.request, "enabled",
                                                 &change->has_enabled, &change->enabled, error);
}

static imp_table *records(void *instance)
{
    return ((struct devices *)instance)->device;
}

static imp_status find_tx(void *instance, imp_tx *tx, const char *name, imp_id *id)
{
    return device_find_tx(instance, tx, name, id);
}

static imp_status row(void *instance, imp_tx *tx, imp_request *request, imp_bytes value,
                      bool is_single)
{
    (void)instance;
    const Imprimatur__Devices__Device *record = imp_message_decode(tx, DEVICE_TYPE, value);
    if (record == NULL)
        return IMP_CORRUPT;
    imp_row_begin(request, is_single);
    imp_field_text(request, "name", record->name);
    imp_field_id(request, "device", imp_id_of_field(record->id));
    imp_field_bool(request, "enabled", !record->is_disabled);
    imp_field_bool(request, "pjl", (record->capabilities & IMP_DEVICE_SPEAKS_PJL) != 0);
    for (size_t i = 0; i < (is_single ? record->n_uris : record->n_uris > 0 ? 1 : 0); i++)
        imp_field_text(request, "uri", record->uris[i]);
    for (size_t i = 0; is_single && i < record->n_ranges; i++)
        imp_field_text(request, "range", record->ranges[i]);
    if (is_single)
        imp_field_time(request, "created", record->created);
    return IMP_OK;
}

static const imp_record_kind device_kind = {.size = sizeof(imp_record_kind),
                                            .noun = "device",
                                            .argument = "DEVICE",
                                            .table = records,
                                            .find_tx = find_tx,
                                            .change_tx = change_tx,
                                            .row = row};

/* ---- the verbs ---- */

static void change_start(imp_self *self, imp_request *request, const char *action)
{
    imp_error error = {0};
    struct change *change = (struct change *)imp_record_change_begin(self, request, &device_kind,
                                                                     action, sizeof *change);
    if (change == NULL)
        return;
    imp_status status = take_values(change, &error);
    if (status == IMP_OK && change->base.is_add && change->uri_count == 0)
        status =
            imp_error_set(&error, IMP_INVALID,
                          "a device needs at least one --uri, such as socket://192.0.2.7:9100");
    if (status == IMP_OK)
        imp_record_change_write(&change->base);
    else
        imp_record_change_end(&change->base, status, &error);
}

static void verb_add(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    change_start(self, request, "add");
}

static void verb_set(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    change_start(self, request, "set");
}

static void verb_remove(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    change_start(self, request, "remove");
}

static void verb_show(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_show(self, request, &device_kind);
}

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_list(self, request, &device_kind);
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
     .options = IMP_RECORD_LIST_OPTIONS,
     .help = "list devices",
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
    return imp_record_verbs_add(devices->self, &device_kind, verbs, sizeof verbs / sizeof *verbs,
                                error);
}
