/* SPDX-License-Identifier: Apache-2.0 */
/* control-fields.c - what modules add to the answers of the core's own verbs. All on the control thread. */
#include "build-config.h"

#include "core/control.h"
#include "core/module.h"
#include "core/self.h"

#include <stdlib.h>
#include <string.h>

/* Verbs of the core that show one object, and ask here what more there is to say of it. */
static const char *const extended_verbs[] = {CONTROL_FIELDS_STATUS, CONTROL_FIELDS_KEY_STATUS};

struct addition {
    struct self_entry entry; /* first, so that an entry is its addition */
    struct addition *next;
    imp_self *self;
    const char *words; /* one of extended_verbs */
    imp_fields_fill fill;
};

static struct addition *additions; /* in the order in which they were made */

static void revoke(struct self_entry *entry)
{
    struct addition *addition = (struct addition *)(void *)entry;
    struct addition **place = &additions;
    while (*place != NULL && *place != addition)
        place = &(*place)->next;
    if (*place != NULL)
        *place = addition->next;
    self_detach(entry);
    free(addition);
}

static const struct self_entry_kind fields_kind = {
    .name = "fields", .stage = SELF_INTAKE, .revoke = revoke};

imp_status imp_fields_add(imp_self *self, const char *words, imp_fields_fill fill, imp_error *error)
{
    size_t verb = 0, count = sizeof extended_verbs / sizeof extended_verbs[0];
    while (verb < count && strcmp(extended_verbs[verb], words) != 0)
        verb++;
    if (verb == count)
        return imp_error_set(error, IMP_NOT_FOUND, "the answer of \"%s\" takes no more fields",
                             words);
    struct addition *addition = calloc(1, sizeof *addition);
    if (addition == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    addition->self = self;
    addition->words = extended_verbs[verb];
    addition->fill = fill;
    self_attach(self, &addition->entry, &fields_kind);
    struct addition **place = &additions;
    while (*place != NULL)
        place = &(*place)->next;
    *place = addition;
    return IMP_OK;
}

void control_fields_fill(const char *words, imp_request *request)
{
    for (const struct addition *addition = additions; addition != NULL; addition = addition->next) {
        /* Between offering and the end of its start it has no instance. */
        if (strcmp(addition->words, words) != 0 || addition->self->state != SELF_STARTED)
            continue;
        module_call_begin(addition->self);
        addition->fill(addition->self, imp_self_instance(addition->self), request);
        module_call_end(addition->self);
    }
}
