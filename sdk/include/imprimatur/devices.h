/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.h - service `devices`: physical devices, how they are reached, what they are known to do.
 *
 * A device is neither an IPP printer object nor a queue. It is identified by its UUID; addresses
 * change. Everything a device says of itself is hostile.
 */
#ifndef IMPRIMATUR_DEVICES_H
#define IMPRIMATUR_DEVICES_H

#include <imprimatur/accounts.h>
#include <imprimatur/base.h>
#include <imprimatur/service.h>

#define IMP_DEVICES_V1                                                                             \
    {                                                                                              \
        "devices", 1                                                                               \
    }

#define IMP_DEVICE_URIS_MAX 8
#define IMP_URI_MAX 256

/* Capabilities that change what may be sent; each is set by the administrator or learned. */
#define IMP_DEVICE_SPEAKS_PJL 0x1u

typedef struct imp_device {
    uint32_t size;
    imp_id id;
    char name[IMP_NAME_MAX];
    bool is_enabled;
    uint32_t capabilities; /* IMP_DEVICE_* */
    uint32_t uri_count;
    char uris[IMP_DEVICE_URIS_MAX][IMP_URI_MAX]; /* in order of preference: socket://host:9100 */
} imp_device;

typedef struct imp_devices_v1 {
    uint32_t size;
    imp_status (*find)(imp_self *provider, const char *name, imp_device *device);
    imp_status (*get)(imp_self *provider, const imp_id *id, imp_device *device);
    imp_status (*find_by_address)(imp_self *provider, const char *address, imp_device *device);
} imp_devices_v1;

#define IMP_DEVICES_CALL_(self, result, expression)                                                \
    do {                                                                                           \
        imp_service_call call_;                                                                    \
        const imp_devices_v1 *devices = imp_service_enter(self, "devices", 1, &call_);             \
        if (devices == NULL) {                                                                     \
            (result) = IMP_UNAVAILABLE;                                                            \
        } else {                                                                                   \
            (result) = devices->expression;                                                        \
            imp_service_leave(&call_);                                                             \
        }                                                                                          \
    } while (0)

/* By name (case-insensitive) or by the 32 digits of its id. Any thread but the writer. */
static inline imp_status imp_device_find(imp_self *self, const char *name, imp_device *device)
{
    imp_status status;
    IMP_DEVICES_CALL_(self, status, find(call_.provider, name, device));
    return status;
}

static inline imp_status imp_device_get(imp_self *self, const imp_id *id, imp_device *device)
{
    imp_status status;
    IMP_DEVICES_CALL_(self, status, get(call_.provider, id, device));
    return status;
}

/* The device whose address ranges hold this numeric address; the longest prefix wins. A source
 * address is a filter, not an identity. Any thread but the writer. */
static inline imp_status imp_device_find_by_address(imp_self *self, const char *address,
                                                    imp_device *device)
{
    imp_status status;
    IMP_DEVICES_CALL_(self, status, find_by_address(call_.provider, address, device));
    return status;
}

#endif
