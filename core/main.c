/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - imprimd: all of it lies in libimprimatur, so that there is one core in the process. */
#include "core/supervisor.h"

int main(int argc, char **argv)
{
    return imp_imprimd_main(argc, argv);
}
