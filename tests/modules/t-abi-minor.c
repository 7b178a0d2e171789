/* SPDX-License-Identifier: Apache-2.0 */
/* Built for an ABI of a newer minor. */
#include "tests/modules/t-plain.h"

#undef IMP_ABI_MINOR
#define IMP_ABI_MINOR 9

IMP_MODULE(.name = "t-abi-minor", .version = "1.0.0", T_PLAIN);
IMP_MODULE_NOTE("t-abi-minor", "1.0.0", "", "");
