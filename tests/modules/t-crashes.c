/* SPDX-License-Identifier: Apache-2.0 */
/* Touches what is not there, in start. */
#include "tests/modules/t-plain.h"

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)self;
    (void)conf;
    (void)instance;
    (void)error;
    /* The compiler must not see that it is NULL. */
    volatile int *volatile nowhere = NULL;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): that is what this module is for */
    *nowhere = 1;
    return IMP_OK;
}

IMP_MODULE(.name = "t-crashes", .version = "1.0.0", .summary = "crashes", .start = start,
           .stop = plain_stop);
IMP_MODULE_NOTE("t-crashes", "1.0.0", "", "");
