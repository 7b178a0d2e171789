/* SPDX-License-Identifier: Apache-2.0 */
/* Needs t-b, which needs this one. */
#include "tests/modules/t-clock.h"
#include "tests/modules/t-plain.h"

static const t_clock_v1 table = {.size = sizeof(table), .read = NULL};

IMP_MODULE(.name = "t-a", .version = "1.0.0", T_PLAIN, .requires = IMP_REQUIRES({"t-b", 1}),
           .provides = IMP_PROVIDES({"t-a", 1, &table}));
IMP_MODULE_NOTE("t-a", "1.0.0", "t-b/1", "t-a/1");
