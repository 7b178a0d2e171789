/* SPDX-License-Identifier: Apache-2.0 */
#include "core/service.h"

#include <stdlib.h>
#include <string.h>

#include "core/module.h"
#include "core/note.h"
#include "core/snapshot.h"
#include "core/thread-private.h"

_Static_assert(SNAPSHOT_NAME_SIZE == NOTE_NAME_SIZE, "one length for names of services");

struct service {
    struct self_entry entry;
    struct service *next;
    struct snapshot_service row;
    bool is_visible;
};

static struct service *services; /* control thread */

/* ---- registry ---- */

static void service_revoke(struct self_entry *entry)
{
    struct service *service = (struct service *)entry;
    for (struct service **at = &services; *at != NULL; at = &(*at)->next)
        if (*at == service) {
            *at = service->next;
            break;
        }
    self_detach(entry);
    free(service);
}

static const char *service_describe(const struct self_entry *entry)
{
    return ((const struct service *)entry)->row.name;
}

static const struct self_entry_kind SERVICE_KIND = {
    .name = "service", .stage = SELF_CUT, .revoke = service_revoke, .describe = service_describe};

struct imp_self *service_provider(const char *name, uint32_t major)
{
    for (struct service *service = services; service != NULL; service = service->next)
        if (service->row.major == major && strcmp(service->row.name, name) == 0)
            return service->row.provider;
    return NULL;
}

imp_status service_offer(struct imp_self *self, const imp_service_offer *offer, imp_error *error)
{
    uint32_t table_size = 0;
    if (!note_service_is_valid(offer->name))
        return imp_error_set(error, IMP_INVALID, "it offers a service without a valid name");
    if (offer->vtable != NULL)
        memcpy(&table_size, offer->vtable, sizeof(table_size));
    if (table_size <= sizeof(table_size))
        return imp_error_set(error, IMP_INVALID, "its service %s/%u has no table, or no size in it",
                             offer->name, offer->major);
    struct imp_self *other = service_provider(offer->name, offer->major);
    if (other != NULL)
        return imp_error_set(error, IMP_EXISTS, "service %s/%u is offered by module %s already",
                             offer->name, offer->major, other->name);
    struct service *service = calloc(1, sizeof(*service));
    if (service == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    memcpy(service->row.name, offer->name, strlen(offer->name) + 1);
    service->row.major = offer->major;
    service->row.vtable = offer->vtable;
    service->row.provider = self;
    service->next = services;
    services = service;
    self_attach(self, &service->entry, &SERVICE_KIND);
    return IMP_OK;
}

void service_show(struct imp_self *self)
{
    for (struct service *service = services; service != NULL; service = service->next)
        if (service->row.provider == self)
            service->is_visible = true;
}

imp_status service_offer_for_test(struct imp_self *self, const char *name, uint32_t major,
                                  const void *vtable)
{
    imp_service_offer offer = {.name = name, .major = major, .vtable = vtable};
    imp_status status = service_offer(self, &offer, NULL);
    if (status != IMP_OK)
        return status;
    service_show(self);
    return snapshot_publish(NULL);
}

uint32_t service_snapshot_count(void)
{
    uint32_t count = 0;
    for (struct service *service = services; service != NULL; service = service->next)
        count += service->is_visible;
    return count;
}

void service_snapshot_fill(struct snapshot_service *rows)
{
    for (struct service *service = services; service != NULL; service = service->next)
        if (service->is_visible)
            *rows++ = service->row;
}

/* ---- calls ---- */

static bool is_named(const imp_service_need *needs, const char *name, uint32_t major)
{
    for (; needs != NULL && needs->name != NULL; needs++)
        if (needs->major == major && (needs->name == name || strcmp(needs->name, name) == 0))
            return true;
    return false;
}

static bool may_call(const struct imp_self *caller, const struct imp_self *provider,
                     const char *name, uint32_t major)
{
    if (caller == NULL || caller == provider || caller->is_test)
        return true;
    return caller->descriptor != NULL && (is_named(caller->descriptor->requires, name, major) ||
                                          is_named(caller->descriptor->wants, name, major));
}

const void *imp_service_enter(imp_self *self, const char *name, uint32_t major,
                              imp_service_call *call)
{
    const struct snapshot *snapshot = thread_snapshot();
    if (snapshot == NULL)
        return NULL;
    /* From finding the provider to the pin on it the snapshot must not change. */
    thread_hold();
    const void *vtable = NULL;
    for (uint32_t i = 0; i < snapshot->service_count; i++) {
        const struct snapshot_service *row = &snapshot->services[i];
        if (row->major != major || strcmp(row->name, name) != 0)
            continue;
        if (may_call(self, row->provider, name, major)) {
            call->provider = row->provider;
            call->caller = self;
            vtable = row->vtable;
            module_call_begin(row->provider);
        }
        break;
    }
    thread_release();
    return vtable;
}

void imp_service_leave(imp_service_call *call)
{
    module_call_end(call->provider);
    call->provider = NULL;
}
