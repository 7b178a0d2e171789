/* SPDX-License-Identifier: Apache-2.0 */
/* version.h - the version that the programs say. */
#ifndef IMP_CORE_VERSION_H
#define IMP_CORE_VERSION_H

#include <imprimatur/base.h>

/* "0.1.0"; for modules the ABI's version counts, not this. Any thread. */
IMP_PUBLIC const char *imp_version(void);

#endif
