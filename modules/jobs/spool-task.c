/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/spool-private.h"

static void lane_run_next(struct spool *spool, struct spool_lane *lane);

static struct spool_lane *lane_here(struct spool *spool)
{
    return &spool->lanes[imp_loop_index(imp_loop_current())];
}

static void task_run(void *arg)
{
    struct spool_task *task = arg;
    task->run(task);
}

static void task_done(void *arg, bool was_cancelled)
{
    struct spool_task *task = arg;
    struct spool *spool = task->spool;
    struct spool_lane *lane = lane_here(spool);

    lane->running--;
    task->done(task, was_cancelled);
    lane_run_next(spool, lane);
}

static void lane_pause_over(void *arg)
{
    struct spool *spool = arg;
    struct spool_lane *lane = lane_here(spool);

    lane->is_pausing = false;
    lane_run_next(spool, lane);
}

static void lane_run_next(struct spool *spool, struct spool_lane *lane)
{
    while (lane->first != NULL && lane->running < SPOOL_LANE_DEPTH && !lane->is_pausing) {
        struct spool_task *task = lane->first;
        if (imp_work(spool->self, task_run, task_done, task) != NULL) {
            lane->first = task->next;
            if (lane->first == NULL)
                lane->last = &lane->first;
            lane->running++;
            continue;
        }
        /* The core's queue is full. A work of ours that ends will look again; without one, a timer. */
        if (lane->running > 0)
            return;
        if (imp_timer_start(spool->self, SPOOL_LANE_PAUSE, false, lane_pause_over, spool) != NULL) {
            lane->is_pausing = true;
            return;
        }
        /* Neither works nor timers any more: the generation ends. */
        lane->first = task->next;
        if (lane->first == NULL)
            lane->last = &lane->first;
        task->done(task, true);
    }
}

void spool_task_start(struct spool_task *task)
{
    struct spool_lane *lane = lane_here(task->spool);

    task->next = NULL;
    if (lane->first == NULL)
        lane->last = &lane->first;
    *lane->last = task;
    lane->last = &task->next;
    lane_run_next(task->spool, lane);
}
