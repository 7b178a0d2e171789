/* SPDX-License-Identifier: Apache-2.0 */
/* t-plain.h - start and stop that do nothing, for modules whose point is elsewhere. */
#ifndef T_PLAIN_H
#define T_PLAIN_H

#include <imprimatur/module.h>

IMP_UNUSED static imp_status plain_start(imp_self *self, const void *conf, void **instance,
                                         imp_error *error)
{
    (void)self;
    (void)conf;
    (void)instance;
    (void)error;
    return IMP_OK;
}

IMP_UNUSED static void plain_stop(imp_self *self, void *instance)
{
    (void)self;
    (void)instance;
}

#define T_PLAIN .summary = "a test's module", .start = plain_start, .stop = plain_stop

#endif
