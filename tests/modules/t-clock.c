/* SPDX-License-Identifier: Apache-2.0 */
/* Offers service t-clock/1: a number that its setting says. */
#include "tests/modules/t-clock.h"

#include <imprimatur/module.h>
#include <stdlib.h>

struct conf {
    int64_t value;
    int64_t start;
};

enum { START_OK, START_NO_SPACE, START_IO };

static const imp_option options[] = {
    IMP_OPT_INTEGER(struct conf, value, "7", "0", "1000000", IMP_LIVE, "what the clock says"),
    IMP_OPT_ENUM(struct conf, start, "ok|no-space|io", "ok", 0, "how its start ends"), IMP_OPT_END};

static int64_t read_clock(imp_self *self)
{
    return __atomic_load_n((int64_t *)imp_self_instance(self), __ATOMIC_RELAXED);
}

static const t_clock_v1 table = {.size = sizeof(table), .read = read_clock};

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    const struct conf *settings = conf;
    (void)self;
    if (settings->start == START_NO_SPACE)
        return imp_error_set(error, IMP_NO_SPACE, "there is no room for the clock");
    if (settings->start == START_IO)
        return imp_error_set(error, IMP_IO, "the clock can't be read");
    int64_t *value = malloc(sizeof(*value));
    if (value == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    *value = settings->value;
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
