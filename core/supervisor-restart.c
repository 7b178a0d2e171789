/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor-restart.c - when to start again what died. */
#include "build-config.h"

#include "core/supervisor-private.h"

void restart_after_death(struct restart *restart, int64_t now_us, int64_t delay_max_us)
{
    if (now_us - restart->started_us >= RESTART_HEALTHY_US)
        restart->deaths = 0;
    /* The first death costs the clients nothing but the start itself. */
    int64_t delay = 0;
    for (uint32_t i = 0; i < restart->deaths && delay < delay_max_us; i++)
        delay = delay == 0 ? RESTART_DELAY_US : 2 * delay;
    if (delay > delay_max_us)
        delay = delay_max_us;
    restart->deaths++;
    restart->due_us = now_us + delay;
}
