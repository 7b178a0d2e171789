/* SPDX-License-Identifier: Apache-2.0 */
/* Needs t-a, which needs this one. */
#include "tests/modules/t-clock.h"
#include "tests/modules/t-plain.h"

static const t_clock_v1 table = {.size = sizeof(table), .read = NULL};

IMP_MODULE(.name = "t-b", .version = "1.0.0", T_PLAIN, .requires = IMP_REQUIRES({"t-a", 1}),
           .provides = IMP_PROVIDES({"t-b", 1, &table}));
IMP_MODULE_NOTE("t-b", "1.0.0", "t-a/1", "t-b/1");
