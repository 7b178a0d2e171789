/* SPDX-License-Identifier: Apache-2.0 */
/* Offers service t-clock/1: a number that its setting says. */
#include "tests/modules/t-clock.h"

#include <imprimatur/module.h>
#include <stdlib.h>

struct conf {
    int64_t value;
};

static const imp_option options[] = {
    IMP_OPT_INTEGER(struct conf, value, "7", "0", "1000000", IMP_LIVE, "what the clock says"),
    IMP_OPT_END};

static int64_t read_clock(imp_self *self)
{
    return __atomic_load_n((int64_t *)imp_self_instance(self), __ATOMIC_RELAXED);
}

static const t_clock_v1 table = {.size = sizeof(table), .read = read_clock};

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    int64_t *value = malloc(sizeof(*value));
    (void)self;
    if (value == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    *value = ((const struct conf *)conf)->value;
    *instance = value;
    return IMP_OK;
}

static void reconfigure(imp_self *self, void *instance, const void *conf)
{
    (void)self;
    __atomic_store_n((int64_t *)instance, ((const struct conf *)conf)->value, __ATOMIC_RELAXED);
}

static void stop(imp_self *self, void *instance)
{
    (void)self;
    free(instance);
}

IMP_MODULE(.name = "t-clock", .version = "1.0.0", .summary = "offers a service",
           .provides = IMP_PROVIDES({"t-clock", 1, &table}), .options = options,
           .conf_size = sizeof(struct conf), .start = start, .reconfigure = reconfigure,
           .stop = stop);
IMP_MODULE_NOTE("t-clock", "1.0.0", "", "t-clock/1");
