/* SPDX-License-Identifier: Apache-2.0 */
/* crash-point.c - dying at a named place, for the fault tests. */
#include "core/crash-point.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef IMP_CRASH_POINTS

/* The linker gives these to a section whose name is a C identifier. */
extern const char __start_imp_crash_points[] __attribute__((weak));
extern const char __stop_imp_crash_points[] __attribute__((weak));

static _Atomic unsigned long hits_of_wanted;

void imp_crash_point_hit(const char *name)
{
    const char *wanted = getenv(CRASH_POINT_ENVIRONMENT);
    if (wanted == NULL) {
        return;
    }
    const char *colon = strchr(wanted, ':');
    size_t length = colon != NULL ? (size_t)(colon - wanted) : strlen(wanted);
    if (strlen(name) != length || strncmp(name, wanted, length) != 0) {
        return;
    }
    unsigned long nth = colon != NULL ? strtoul(colon + 1, NULL, 10) : 1;
    if (atomic_fetch_add(&hits_of_wanted, 1) + 1 >= nth) {
        kill(getpid(), SIGKILL);
    }
}

void crash_point_list(void (*say)(const char *name, void *arg), void *arg)
{
    const char *name = __start_imp_crash_points;
    while (name != NULL && name < __stop_imp_crash_points) {
        if (*name == '\0') { /* padding */
            name++;
            continue;
        }
        say(name, arg);
        name += strlen(name);
    }
}

#else

void imp_crash_point_hit(const char *name)
{
    (void)name;
}

void crash_point_list(void (*say)(const char *name, void *arg), void *arg)
{
    (void)say;
    (void)arg;
}

#endif
