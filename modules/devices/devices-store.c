/* SPDX-License-Identifier: Apache-2.0 */
/* devices-store.c - device records and their index rows, which always change together. */
#include "devices.h"

#include <imprimatur/index.h>

#include <stdio.h>
#include <string.h>

static void name_hash(struct devices *devices, const char *name, uint8_t hash[IMP_HASH_SIZE])
{
    char folded[IMP_NAME_MAX];
    size_t length = imp_name_fold(folded, sizeof folded, name);
    imp_keyed_hash(devices->self, "name", (imp_bytes){folded, length}, hash);
}

static void range_hash(struct devices *devices, const imp_network *range,
                       uint8_t hash[IMP_HASH_SIZE])
{
    uint8_t bytes[18] = {range->family, range->length};
    memcpy(bytes + 2, range->prefix, sizeof range->prefix);
    imp_keyed_hash(devices->self, "range", (imp_bytes){bytes, sizeof bytes}, hash);
}

Imprimatur__Devices__Device *device_get_tx(struct devices *devices, imp_tx *tx, const imp_id *id,
                                           imp_status *status)
{
    return imp_message_get(tx, devices->device, imp_id_bytes(id), DEVICE_TYPE, status);
}

imp_status device_find_tx(struct devices *devices, imp_tx *tx, const char *name, imp_id *id)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_bytes key = {NULL, 0};
    if (strlen(name) < IMP_NAME_MAX) {
        name_hash(devices, name, hash);
        key = (imp_bytes){hash, sizeof hash};
    }
    return imp_index_find(tx, devices->device, name, devices->name, key, id);
}

imp_status device_find_address_tx(struct devices *devices, imp_tx *tx, const char *address,
                                  imp_id *id)
{
    imp_network range;
    if (imp_network_parse(address, &range, NULL) != IMP_OK)
        return IMP_NOT_FOUND;
    for (int length = range.length; length >= 0; length--) {
        uint8_t key[2] = {range.family, (uint8_t)length}, hash[IMP_HASH_SIZE];
        imp_bytes value;
        if (imp_tx_get(tx, devices->length, (imp_bytes){key, sizeof key}, &value) != IMP_OK)
            continue; /* no range of this length exists */
        imp_network_shorten(&range, (uint8_t)length);
        range_hash(devices, &range, hash);
        imp_status status = imp_index_get(tx, devices->range, (imp_bytes){hash, sizeof hash}, id);
        if (status != IMP_NOT_FOUND)
            return status;
    }
    return IMP_NOT_FOUND;
}

/* Counts the ranges of one family and length up or down; a row of 0 is deleted. */
static imp_status length_count(struct devices *devices, imp_tx *tx, const imp_network *range,
                               int change)
{
    uint8_t key_bytes[2] = {range->family, range->length};
    imp_bytes key = {key_bytes, sizeof key_bytes}, value;
    uint32_t count = 0;
    imp_status status = imp_tx_get(tx, devices->length, key, &value);
    if (status == IMP_OK && value.length == sizeof count)
        memcpy(&count, value.data, sizeof count);
    else if (status != IMP_NOT_FOUND)
        return status == IMP_OK ? IMP_CORRUPT : status;
    if (count == 0 && change < 0)
        return IMP_CORRUPT;
    count = (uint32_t)((int64_t)count + change);
    if (count == 0)
        return status == IMP_OK ? imp_tx_delete(tx, devices->length, key) : IMP_OK;
    return imp_tx_put(tx, devices->length, key, (imp_bytes){&count, sizeof count});
}

/* Adds or removes the index row of a range, and counts it. */
static imp_status range_change(struct devices *devices, imp_tx *tx, const char *text,
                               const imp_id *id, bool is_adding, imp_error *error)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_network range;
    imp_status status = imp_network_parse(text, &range, error);
    if (status != IMP_OK)
        return status;
    range_hash(devices, &range, hash);
    const imp_bytes key = {hash, sizeof hash};
    if (!is_adding)
        status = imp_tx_delete(tx, devices->range, key);
    else /* the same range twice would be counted twice */
        status = imp_tx_insert(tx, devices->range, key, imp_id_bytes(id));
    return status == IMP_OK ? length_count(devices, tx, &range, is_adding ? 1 : -1) : status;
}

static imp_status index_remove(struct devices *devices, imp_tx *tx,
                               const Imprimatur__Devices__Device *record)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_id id = imp_id_of_field(record->id);
    name_hash(devices, record->name, hash);
    imp_status status = imp_index_remove(tx, devices->name, (imp_bytes){hash, sizeof hash}, &id);
    for (size_t i = 0; status == IMP_OK && i < record->n_ranges; i++)
        status = range_change(devices, tx, record->ranges[i], &id, false, NULL);
    return status == IMP_INVALID ? IMP_CORRUPT : status;
}

static imp_status index_add(struct devices *devices, imp_tx *tx,
                            const Imprimatur__Devices__Device *record, imp_error *error)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_id id = imp_id_of_field(record->id);
    name_hash(devices, record->name, hash);
    imp_status status = imp_index_add(tx, devices->name, (imp_bytes){hash, sizeof hash}, &id);
    if (status == IMP_EXISTS)
        return imp_error_set(error, IMP_EXISTS, "device %s is there already", record->name);
    for (size_t i = 0; status == IMP_OK && i < record->n_ranges; i++) {
        status = range_change(devices, tx, record->ranges[i], &id, true, error);
        if (status == IMP_EXISTS)
            return imp_error_set(error, IMP_EXISTS, "range %s belongs to another device",
                                 record->ranges[i]);
    }
    return status;
}

imp_status device_put_tx(struct devices *devices, imp_tx *tx,
                         const Imprimatur__Devices__Device *before,
                         const Imprimatur__Devices__Device *after, imp_error *error)
{
    imp_status status = before == NULL ? IMP_OK : index_remove(devices, tx, before);
    if (status == IMP_OK)
        status = index_add(devices, tx, after, error);
    if (status == IMP_EXISTS || status == IMP_INVALID)
        return status; /* says why */
    if (status == IMP_OK)
        status =
            imp_message_put(tx, devices->device, (imp_bytes){after->id.data, after->id.len}, after);
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "device %s can't be written (%s)",
                                            after->name, imp_status_name(status));
}

imp_status device_remove_tx(struct devices *devices, imp_tx *tx,
                            const Imprimatur__Devices__Device *record, imp_error *error)
{
    imp_status status = index_remove(devices, tx, record);
    if (status == IMP_OK)
        status = imp_tx_delete(tx, devices->device, (imp_bytes){record->id.data, record->id.len});
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "device %s can't be removed (%s)",
                                            record->name, imp_status_name(status));
}

void device_export(const Imprimatur__Devices__Device *record, imp_device *device)
{
    uint32_t size = device->size < sizeof *device ? device->size : sizeof *device;
    imp_device full = {.size = size, .is_enabled = !record->is_disabled};
    full.id = imp_id_of_field(record->id);
    snprintf(full.name, sizeof full.name, "%s", record->name);
    full.capabilities = record->capabilities;
    for (size_t i = 0; i < record->n_uris && i < IMP_DEVICE_URIS_MAX; i++)
        snprintf(full.uris[full.uri_count++], IMP_URI_MAX, "%s", record->uris[i]);
    memcpy(device, &full, size);
}
