/* SPDX-License-Identifier: Apache-2.0 */
/* Never returns from start. */
#include <unistd.h>

#include "tests/modules/t-plain.h"

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)self;
    (void)conf;
    (void)instance;
    (void)error;
    while (pause() != 0) /* always -1 */
        ;
    return IMP_OK;
}

IMP_MODULE(.name = "t-hangs", .version = "1.0.0", .summary = "hangs", .start = start,
           .stop = plain_stop);
IMP_MODULE_NOTE("t-hangs", "1.0.0", "", "");
