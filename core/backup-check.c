/* SPDX-License-Identifier: Apache-2.0 */
/* backup-check.c - what modules check on a restored store. */
#include <stdlib.h>

#include "core/backup-private.h"
#include "core/backup.h"
#include "core/module.h"
#include "core/self.h"

typedef imp_status (*check_function)(imp_self *self, void *instance, imp_tx *tx, imp_error *error);

struct check {
    struct self_entry entry; /* first, so that an entry is its check */
    struct check *next;
    imp_self *self;
    check_function function;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct check *checks;

static void revoke(struct self_entry *entry)
{
    struct check *check = (struct check *)(void *)entry;
    pthread_mutex_lock(&lock);
    for (struct check **place = &checks; *place != NULL; place = &(*place)->next) {
        if (*place == check) {
            *place = check->next;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    self_detach(entry);
    free(check);
}

static const struct self_entry_kind check_kind = {
    .name = "backup check", .stage = SELF_INTAKE, .revoke = revoke};

imp_status imp_backup_check_add(imp_self *self, check_function function, imp_error *error)
{
    struct check *check = calloc(1, sizeof *check);
    if (check == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory for a backup check");
    }
    check->self = self;
    check->function = function;
    self_attach(self, &check->entry, &check_kind);
    pthread_mutex_lock(&lock);
    check->next = checks;
    checks = check;
    pthread_mutex_unlock(&lock);
    return IMP_OK;
}

/* The check number `index`, its generation pinned; false behind the last. */
static bool pin_check(uint64_t index, imp_self **self, check_function *function)
{
    bool is_found = false;
    pthread_mutex_lock(&lock);
    struct check *check = checks;
    while (check != NULL && index > 0) {
        check = check->next;
        index--;
    }
    if (check != NULL) {
        is_found = true;
        *self = check->self;
        *function = check->function;
        if (check->self != NULL) {
            self_pin(check->self);
        }
    }
    pthread_mutex_unlock(&lock);
    return is_found;
}

imp_status backup_checks_run(struct store *store, uint64_t *passed, imp_error *error)
{
    imp_self *self = NULL;
    check_function function = NULL;
    imp_status status = IMP_OK;
    *passed = 0;
    while (status == IMP_OK && pin_check(*passed, &self, &function)) {
        imp_tx *tx = NULL;
        status = store_read_begin(store, self, &tx, error);
        if (status == IMP_OK) {
            module_call_begin(self);
            status = function(self, self != NULL ? imp_self_instance(self) : NULL, tx, error);
            module_call_end(self);
            imp_store_read_end(tx);
        }
        if (self != NULL) {
            self_unpin(self);
        }
        *passed += status == IMP_OK ? 1 : 0;
    }
    return status;
}
