/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-queue.h - queues: where jobs wait, and by which rules they leave.
 */
#ifndef JOBS_QUEUE_H
#define JOBS_QUEUE_H

#include "modules/jobs/jobs-module.h"
#include "modules/jobs/jobs-record.h"

/* Brings a name as clients write it ("/printers/Hold", "hold") into the form it is looked up by:
 * lower case, without the leading folder. False when it is no queue's name. */
bool queue_name_fold(const char *name, char folded[IMP_NAME_MAX]);
/* [A-Za-z0-9._-], not starting with '.' or '-': a name that every client can write. */
bool queue_name_is_valid(const char *name);

/* In reading and writing transactions; NULL with *status. */
Queue *queue_load(struct jobs *jobs, imp_tx *tx, const imp_id *id, imp_status *status);
Queue *queue_load_by_name(struct jobs *jobs, imp_tx *tx, const char *name, imp_status *status);
/* What others see of it, its number of jobs included. */
imp_status queue_describe(struct jobs *jobs, imp_tx *tx, const Queue *record, imp_queue *queue);
/* Service function. */
imp_status queue_find(struct jobs *jobs, const char *name, imp_queue *queue);

/* Writes record and name index; IMP_EXISTS when the name is another queue's. */
imp_status queue_put_tx(struct jobs *jobs, imp_tx *tx, const Queue *record, imp_error *error);
/* IMP_BUSY while jobs are in it. */
imp_status queue_remove_tx(struct jobs *jobs, imp_tx *tx, const Queue *record, imp_error *error);

/* Registers `queue add|list|show|set|remove` (jobs-queue-verbs.c). */
imp_status queue_verbs_register(struct jobs *jobs, imp_error *error);

#endif
