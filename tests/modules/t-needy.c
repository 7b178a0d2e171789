/* SPDX-License-Identifier: Apache-2.0 */
/* Needs what nobody offers. */
#include "tests/modules/t-plain.h"

IMP_MODULE(.name = "t-needy", .version = "1.0.0", T_PLAIN,
           .requires = IMP_REQUIRES({"nowhere", 1}));
IMP_MODULE_NOTE("t-needy", "1.0.0", "nowhere/1", "");
