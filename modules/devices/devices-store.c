/* SPDX-License-Identifier: Apache-2.0 */
/* devices-store.c - device records and their index rows, which always change together. */
#include "devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static imp_bytes id_key(const imp_id *id)
{
    return (imp_bytes){id->bytes, sizeof id->bytes};
}

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

static imp_status id_read(imp_status status, imp_bytes value, imp_id *id)
{
    if (status != IMP_OK)
        return status;
    if (value.length != sizeof id->bytes)
        return IMP_CORRUPT;
    memcpy(id->bytes, value.data, sizeof id->bytes);
    return IMP_OK;
}

imp_status device_get_tx(struct devices *devices, imp_tx *tx, const imp_id *id,
                         Imprimatur__Devices__Device **record)
{
    imp_bytes value;
    imp_status status = imp_tx_get(tx, devices->device, id_key(id), &value);
    if (status != IMP_OK)
        return status;
    *record = imprimatur__devices__device__unpack(NULL, value.length, value.data);
    return *record == NULL ? IMP_CORRUPT : IMP_OK;
}

void device_free(Imprimatur__Devices__Device *record)
{
    if (record != NULL)
        imprimatur__devices__device__free_unpacked(record, NULL);
}

imp_status device_find_tx(struct devices *devices, imp_tx *tx, const char *name, imp_id *id)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_bytes value;
    if (imp_id_parse(name, id) == IMP_OK &&
        imp_tx_get(tx, devices->device, id_key(id), &value) == IMP_OK)
        return IMP_OK;
    if (strlen(name) >= IMP_NAME_MAX)
        return IMP_NOT_FOUND;
    name_hash(devices, name, hash);
    return id_read(imp_tx_get(tx, devices->name, (imp_bytes){hash, sizeof hash}, &value), value,
                   id);
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
        imp_status status = id_read(
            imp_tx_get(tx, devices->range, (imp_bytes){hash, sizeof hash}, &value), value, id);
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

static imp_status index_remove(struct devices *devices, imp_tx *tx,
                               const Imprimatur__Devices__Device *record)
{
    uint8_t hash[IMP_HASH_SIZE];
    name_hash(devices, record->name, hash);
    imp_status status = imp_tx_delete(tx, devices->name, (imp_bytes){hash, sizeof hash});
    for (size_t i = 0; status == IMP_OK && i < record->n_ranges; i++) {
        imp_network range;
        status = imp_network_parse(record->ranges[i], &range, NULL);
        if (status != IMP_OK)
            return IMP_CORRUPT;
        range_hash(devices, &range, hash);
        status = imp_tx_delete(tx, devices->range, (imp_bytes){hash, sizeof hash});
        if (status == IMP_OK)
            status = length_count(devices, tx, &range, -1);
    }
    return status;
}

static imp_status index_add(struct devices *devices, imp_tx *tx,
                            const Imprimatur__Devices__Device *record, imp_error *error)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_bytes id = {record->id.data, record->id.len};
    name_hash(devices, record->name, hash);
    imp_status status = imp_tx_insert(tx, devices->name, (imp_bytes){hash, sizeof hash}, id);
    if (status == IMP_EXISTS)
        return imp_error_set(error, IMP_EXISTS, "device %s is there already", record->name);
    for (size_t i = 0; status == IMP_OK && i < record->n_ranges; i++) {
        imp_network range;
        status = imp_network_parse(record->ranges[i], &range, error);
        if (status != IMP_OK)
            return status;
        range_hash(devices, &range, hash);
        status = imp_tx_insert(tx, devices->range, (imp_bytes){hash, sizeof hash}, id);
        if (status == IMP_EXISTS)
            return imp_error_set(error, IMP_EXISTS, "range %s belongs to another device",
                                 record->ranges[i]);
        if (status == IMP_OK)
            status = length_count(devices, tx, &range, 1);
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
    if (status == IMP_OK) {
        size_t length = imprimatur__devices__device__get_packed_size(after);
        uint8_t *packed = imp_tx_alloc(tx, length);
        status = packed == NULL ? IMP_LIMIT : IMP_OK;
        if (status == IMP_OK) {
            imprimatur__devices__device__pack(after, packed);
            status = imp_tx_put(tx, devices->device, (imp_bytes){after->id.data, after->id.len},
                                (imp_bytes){packed, length});
        }
    }
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
    if (record->id.len == sizeof full.id.bytes)
        memcpy(full.id.bytes, record->id.data, sizeof full.id.bytes);
    snprintf(full.name, sizeof full.name, "%s", record->name);
    full.capabilities = record->capabilities;
    for (size_t i = 0; i < record->n_uris && i < IMP_DEVICE_URIS_MAX; i++)
        snprintf(full.uris[full.uri_count++], IMP_URI_MAX, "%s", record->uris[i]);
    memcpy(device, &full, size);
}
