/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - imprimd: all of it lies in libimprimatur, so that there is one core in the process. */
#include <stdio.h>
#include <string.h>

#include "core/version.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("imprimd %s\n", imp_version());
        return 0;
    }
    fprintf(stderr, "usage: imprimd --version\n");
    return 2;
}
