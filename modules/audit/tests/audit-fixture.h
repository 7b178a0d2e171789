/* SPDX-License-Identifier: Apache-2.0 */
/* audit-fixture.h - module audit, started on a store of its own. */
#ifndef MODULES_AUDIT_TESTS_AUDIT_FIXTURE_H
#define MODULES_AUDIT_TESTS_AUDIT_FIXTURE_H

#include "tests/unit/module-fixture.h"

#include "core/metrics.h"
#include "core/worker.h"
#include "modules/audit/audit.h"

#include <imprimatur/module.h>

extern const imp_module imp_module_descriptor __asm__("imp_module");

struct audit_fixture {
    struct module_fixture base;
    struct audit_conf conf;
    struct audit *audit;
};

static inline void audit_fixture_start(struct audit_fixture *fixture, char *folder)
{
    imp_error error = {0};
    void *instance = NULL;
    module_fixture_open(&fixture->base, folder, "audit", imp_module_descriptor.tables);
    assert_ok(imp_module_descriptor.start(fixture->base.self, &fixture->conf, &instance, &error),
              error);
    fixture->base.self->instance = fixture->audit = instance;
}

static inline void audit_fixture_open(struct audit_fixture *fixture)
{
    fixture->conf = (struct audit_conf){
        .checkpoint_events = 10, .address_retention = 100 * IMP_SECOND, .addresses_max = 1000};
    audit_fixture_start(fixture, NULL);
}

/* Leaves the folder. */
static inline void audit_fixture_stop(struct audit_fixture *fixture)
{
    imp_module_descriptor.drain(fixture->base.self, fixture->audit);
    imp_module_descriptor.stop(fixture->base.self, fixture->audit);
    fixture->audit = NULL;
    module_fixture_close(&fixture->base);
    metrics_clear();
}

static inline void audit_fixture_close(struct audit_fixture *fixture)
{
    audit_fixture_stop(fixture);
    fixture_end(fixture->base.folder);
}

/* Runs a closure; its status. */
static inline imp_status audit_fixture_write(struct audit_fixture *fixture, imp_write_function run,
                                             void *arg)
{
    imp_error error = {0};
    return imp_store_write_sync(fixture->base.self, run, arg, &error);
}

#endif
