/* SPDX-License-Identifier: Apache-2.0 */
/* Its file is called t-misnamed.so. */
#include "tests/modules/t-plain.h"

IMP_MODULE(.name = "t-other", .version = "1.0.0", T_PLAIN);
IMP_MODULE_NOTE("t-other", "1.0.0", "", "");
