/* SPDX-License-Identifier: Apache-2.0 */
/* Built for an ABI of another major. */
#include "tests/modules/t-plain.h"

#undef IMP_ABI_MAJOR
#define IMP_ABI_MAJOR 2

IMP_MODULE(.name = "t-abi-major", .version = "1.0.0", T_PLAIN);
IMP_MODULE_NOTE("t-abi-major", "1.0.0", "", "");
