/* SPDX-License-Identifier: Apache-2.0 */
/* A note alone. */
#include <imprimatur/module.h>

IMP_MODULE_NOTE("t-no-descriptor", "1.0.0", "", "");
