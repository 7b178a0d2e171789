/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.h - private to module devices: device records, and how they are found.
 *
 * Table `device` holds records by id; `name` leads from the keyed hash of the folded name to the id;
 * `range` leads from the keyed hash of (family, prefix length, prefix) to the id, and `length` counts
 * the ranges of each family and prefix length, so that the longest match costs one look-up for each
 * length in use.
 */
#ifndef IMPRIMATUR_MODULES_DEVICES_H
#define IMPRIMATUR_MODULES_DEVICES_H

#include "modules/devices/devices.pb-c.h"

#include <imprimatur/devices.h>
#include <imprimatur/message.h>
#include <imprimatur/network.h>
#include <imprimatur/store.h>

#define DEVICES_RANGES_MAX 16 /* of one device */
#define DEVICE_TYPE (&imprimatur__devices__device__descriptor)

struct devices {
    imp_self *self;
    imp_table *device, *name, *range, *length;
};

/* ---- devices-store.c ---- */

/* The record, in memory of `tx`; NULL with *status. */
Imprimatur__Devices__Device *device_get_tx(struct devices *devices, imp_tx *tx, const imp_id *id,
                                           imp_status *status);
imp_status device_find_tx(struct devices *devices, imp_tx *tx, const char *name, imp_id *id);
imp_status device_find_address_tx(struct devices *devices, imp_tx *tx, const char *address,
                                  imp_id *id);
/* Writes a record and its index rows; `before` is what is stored now (NULL for a new device).
 * IMP_EXISTS, with a reason, when name or range belongs to another device. */
imp_status device_put_tx(struct devices *devices, imp_tx *tx,
                         const Imprimatur__Devices__Device *before,
                         const Imprimatur__Devices__Device *after, imp_error *error);
imp_status device_remove_tx(struct devices *devices, imp_tx *tx,
                            const Imprimatur__Devices__Device *record, imp_error *error);
void device_export(const Imprimatur__Devices__Device *record, imp_device *device);

/* ---- devices-uri.c ---- */

/* Checks a device URI: scheme socket, lpd, ipp or ipps, a host, no user information, no blanks. */
imp_status device_uri_check(const char *uri, imp_error *error);

/* ---- devices-verbs.c ---- */

imp_status devices_verbs_add(struct devices *devices, imp_error *error);

#endif
