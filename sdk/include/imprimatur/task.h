/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.h - something that is to be done to devices: send a file, change settings, update firmware.
 *
 * A task has targets, approvals and a time, and leaves a result for each target. A task that puts a
 * file on a device does so by a delivery, like a job: transports know no difference.
 *
 * The noun is fixed here so that deliveries and devices need no redesign. No module offers service
 * `tasks` in this version: there is nothing to call yet.
 */
#ifndef IMPRIMATUR_TASK_H
#define IMPRIMATUR_TASK_H

#include <imprimatur/base.h>

#define IMP_TASKS_V1                                                                               \
    {                                                                                              \
        "tasks", 1                                                                                 \
    }

typedef int32_t imp_task_kind;
#define IMP_TASK_SEND_FILE ((imp_task_kind)1)
#define IMP_TASK_SETTINGS ((imp_task_kind)2)
#define IMP_TASK_FIRMWARE ((imp_task_kind)3)
#define IMP_TASK_SNAPSHOT ((imp_task_kind)4) /* read settings, counters, logs */
#define IMP_TASK_CAPTURE ((imp_task_kind)5)  /* record what a device sends */

typedef int32_t imp_task_state;
#define IMP_TASK_WAITING ((imp_task_state)0) /* for approval, its time, or an idle device */
#define IMP_TASK_RUNNING ((imp_task_state)1)
#define IMP_TASK_DONE ((imp_task_state)2)
#define IMP_TASK_FAILED ((imp_task_state)3)
#define IMP_TASK_CANCELED ((imp_task_state)4)
#define IMP_TASK_UNCERTAIN ((imp_task_state)5) /* as with deliveries: a person decides */

typedef struct imp_task {
    uint32_t size;
    imp_id id;
    imp_task_kind kind;
    imp_task_state state;
    const imp_id *targets; /* devices */
    uint32_t target_count;
    imp_id asked_by; /* principal */
    const imp_id *approved_by;
    uint32_t approval_count, approvals_needed;
    int64_t not_before; /* imp_now(); 0: at once */
    bool only_when_idle;
    uint32_t attempts;
    imp_id artefact;          /* the file to send, or that was made; zero: none */
    int64_t artefact_expires; /* imp_now() */
} imp_task;

#endif
