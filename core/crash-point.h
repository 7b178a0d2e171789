/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-point.h - named places at which a test build can be made to die by SIGKILL.
 *
 *     IMP_CRASH_POINT("store.before-commit");
 *
 * Only builds with IMP_CRASH_POINTS (configure --enable-crash-points) contain them. The environment
 * variable IMPRIMATUR_CRASH_POINT names one, as NAME or NAME:N for its Nth hit. All names stand,
 * NUL-separated, in the ELF section "imp_crash_points" of the file that holds them, modules too
 * (`readelf -p imp_crash_points FILE`).
 */
#ifndef CORE_CRASH_POINT_H
#define CORE_CRASH_POINT_H

#ifdef HAVE_CONFIG_H
#include "build-config.h"
#endif
#include <imprimatur/base.h>

#define CRASH_POINT_ENVIRONMENT "IMPRIMATUR_CRASH_POINT"

#ifdef IMP_CRASH_POINTS
#define IMP_CRASH_POINT(name)                                                                      \
    do {                                                                                           \
        static const char crash_point_name_[]                                                      \
            __attribute__((section("imp_crash_points"), used, aligned(1))) = name;                 \
        imp_crash_point_hit(crash_point_name_);                                                    \
    } while (0)
#else
#define IMP_CRASH_POINT(name) ((void)0)
#endif

/* Dies here when the environment asks for it. Any thread. */
IMP_PUBLIC void imp_crash_point_hit(const char *name);

/* Calls `say` for each name that the core itself holds, in no order; none in other builds. */
void crash_point_list(void (*say)(const char *name, void *arg), void *arg);

#endif
