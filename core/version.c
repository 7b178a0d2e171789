/* SPDX-License-Identifier: Apache-2.0 */
#include "core/version.h"

#include "build-config.h"

const char *imp_version(void)
{
    return PACKAGE_VERSION;
}
