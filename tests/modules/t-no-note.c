/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor alone. */
#include "tests/modules/t-plain.h"

IMP_MODULE(.name = "t-no-note", .version = "1.0.0", T_PLAIN);
