/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a pin that it never gives back. */
#include <imprimatur/service.h>

#include "tests/modules/t-plain.h"

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)conf;
    (void)instance;
    (void)error;
    imp_pin(self, "upload");
    return IMP_OK;
}

IMP_MODULE(.name = "t-holds", .version = "1.0.0", .summary = "holds", .start = start,
           .stop = plain_stop);
IMP_MODULE_NOTE("t-holds", "1.0.0", "", "");
