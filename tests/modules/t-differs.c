/* SPDX-License-Identifier: Apache-2.0 */
/* The note says less than the descriptor. */
#include "tests/modules/t-plain.h"

IMP_MODULE(.name = "t-differs", .version = "1.0.0", T_PLAIN,
           .requires = IMP_REQUIRES({"nowhere", 1}));
IMP_MODULE_NOTE("t-differs", "1.0.0", "", "");
