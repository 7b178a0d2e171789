/* SPDX-License-Identifier: Apache-2.0 */
/* time.c - the only place that asks the system what time it is. */
#include "build-config.h"

#include "core/time.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Set by tests alone. */
static atomic_bool is_frozen;
static _Atomic int64_t frozen_now, frozen_ticks;

static int64_t clock_microseconds(clockid_t clock)
{
    struct timespec time;
    /* Neither clock can fail on Linux; without them nothing here is to be relied upon. */
    if (clock_gettime(clock, &time) != 0)
        abort();
    return (int64_t)time.tv_sec * IMP_SECOND + time.tv_nsec / 1000;
}

int64_t imp_now(void)
{
    if (atomic_load_explicit(&is_frozen, memory_order_acquire))
        return atomic_load(&frozen_now);
    return clock_microseconds(CLOCK_REALTIME);
}

int64_t imp_ticks(void)
{
    if (atomic_load_explicit(&is_frozen, memory_order_acquire))
        return atomic_load(&frozen_ticks);
    return clock_microseconds(CLOCK_MONOTONIC);
}

char *time_format(int64_t time_us, char text[TIME_TEXT_SIZE])
{
    /* Floor division: times before 1970 must not print a negative fraction. */
    int64_t seconds = time_us / IMP_SECOND, fraction = time_us % IMP_SECOND;
    if (fraction < 0) {
        fraction += IMP_SECOND;
        seconds--;
    }
    time_t whole = (time_t)seconds;
    struct tm parts;
    /* RFC 3339 has four digits for the year. */
    if (gmtime_r(&whole, &parts) == NULL || parts.tm_year < -1900 || parts.tm_year > 8099) {
        snprintf(text, TIME_TEXT_SIZE, "-");
        return text;
    }
    snprintf(text, TIME_TEXT_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
             (unsigned)(parts.tm_year + 1900) % 10000u, (unsigned)(parts.tm_mon + 1) % 100u,
             (unsigned)parts.tm_mday % 100u, (unsigned)parts.tm_hour % 100u,
             (unsigned)parts.tm_min % 100u, (unsigned)parts.tm_sec % 100u,
             (unsigned)fraction % 1000000u);
    return text;
}

/* ---- tests ---- */

void time_freeze_for_test(int64_t now_us, int64_t ticks_us)
{
    atomic_store(&frozen_now, now_us);
    atomic_store(&frozen_ticks, ticks_us);
    atomic_store_explicit(&is_frozen, true, memory_order_release);
}

void time_advance_for_test(int64_t by_us)
{
    atomic_fetch_add(&frozen_now, by_us);
    atomic_fetch_add(&frozen_ticks, by_us);
}

void time_step_for_test(int64_t by_us)
{
    atomic_fetch_add(&frozen_now, by_us);
}

void time_thaw_for_test(void)
{
    atomic_store_explicit(&is_frozen, false, memory_order_release);
}
