/* SPDX-License-Identifier: Apache-2.0 */
/* devices.c - module devices: descriptor, start and the service that others look devices up by. */
#include "devices.h"

#include <imprimatur/audit.h>
#include <imprimatur/module.h>

#include <stdlib.h>

static const imp_option devices_options[] = {IMP_OPT_END};

static const imp_table_spec devices_tables[] = {{"device", 1, 0},
                                                {"name", 1, IMP_TABLE_PLAIN},
                                                {"range", 1, IMP_TABLE_PLAIN},
                                                {"length", 1, IMP_TABLE_PLAIN},
                                                {NULL, 0, 0}};

typedef imp_status (*finder)(struct devices *devices, imp_tx *tx, const void *by, imp_id *id);

static imp_status find_by_name(struct devices *devices, imp_tx *tx, const void *by, imp_id *id)
{
    return device_find_tx(devices, tx, by, id);
}

static imp_status find_by_address(struct devices *devices, imp_tx *tx, const void *by, imp_id *id)
{
    return device_find_address_tx(devices, tx, by, id);
}

static imp_status find_by_id(struct devices *devices, imp_tx *tx, const void *by, imp_id *id)
{
    (void)devices;
    (void)tx;
    *id = *(const imp_id *)by;
    return IMP_OK;
}

static imp_status look_up(imp_self *provider, finder find, const void *by, imp_device *device)
{
    struct devices *devices = imp_self_instance(provider);
    Imprimatur__Devices__Device *record = NULL;
    imp_tx *tx;
    imp_id id;
    imp_status status = imp_store_read_begin(devices->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    status = find(devices, tx, by, &id);
    if (status == IMP_OK)
        record = device_get_tx(devices, tx, &id, &status);
    if (record != NULL)
        device_export(record, device);
    imp_store_read_end(tx);
    return status;
}

static imp_status service_find(imp_self *provider, const char *name, imp_device *device)
{
    return look_up(provider, find_by_name, name, device);
}

static imp_status service_get(imp_self *provider, const imp_id *id, imp_device *device)
{
    return look_up(provider, find_by_id, id, device);
}

static imp_status service_find_by_address(imp_self *provider, const char *address,
                                          imp_device *device)
{
    return look_up(provider, find_by_address, address, device);
}

static const imp_devices_v1 devices_v1 = {sizeof(imp_devices_v1), service_find, service_get,
                                          service_find_by_address};

static imp_status devices_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)conf;
    struct devices *devices = calloc(1, sizeof *devices);
    if (devices == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    devices->self = self;
    devices->device = imp_table_open(self, "device");
    devices->name = imp_table_open(self, "name");
    devices->range = imp_table_open(self, "range");
    devices->length = imp_table_open(self, "length");
    imp_status status = IMP_OK;
    if (devices->device == NULL || devices->name == NULL || devices->range == NULL ||
        devices->length == NULL)
        status = imp_error_set(error, IMP_NOT_FOUND, "the tables of module devices do not open");
    if (status == IMP_OK)
        status = devices_verbs_add(devices, error);
    if (status != IMP_OK) {
        free(devices);
        return status;
    }
    *instance = devices;
    return IMP_OK;
}

static void devices_stop(imp_self *self, void *instance)
{
    (void)self;
    free(instance);
}

IMP_MODULE(.name = "devices", .version = "1.0.0", .summary = "printers and how to reach them",
           .requires = IMP_REQUIRES(IMP_AUDIT_V1),
           .provides = IMP_PROVIDES({"devices", 1, &devices_v1}), .options = devices_options,
           .conf_size = 0, .tables = devices_tables, .start = devices_start, .stop = devices_stop);
IMP_MODULE_NOTE("devices", "1.0.0", "audit/1", "devices/1");
