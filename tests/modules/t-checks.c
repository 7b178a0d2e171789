/* SPDX-License-Identifier: Apache-2.0 */
/* Its check refuses odd numbers, and does not return for one of the even ones. */
#include <unistd.h>

#include "tests/modules/t-plain.h"

#define HANGING_NUMBER 66

struct conf {
    int64_t number;
};

static const imp_option options[] = {
    IMP_OPT_INTEGER(struct conf, number, "2", "0", "100", 0, "an even number"), IMP_OPT_END};

static imp_status check(const void *conf, imp_error *error)
{
    while (((const struct conf *)conf)->number == HANGING_NUMBER)
        (void)pause();
    if (((const struct conf *)conf)->number % 2 != 0)
        return imp_error_set(error, IMP_INVALID, "number must be even");
    return IMP_OK;
}

IMP_MODULE(.name = "t-checks", .version = "1.0.0", T_PLAIN, .options = options,
           .conf_size = sizeof(struct conf), .check = check);
IMP_MODULE_NOTE("t-checks", "1.0.0", "", "");
