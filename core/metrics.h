/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - the registry behind <imprimatur/metrics.h>.
 *
 * Metrics are registered on the control thread, changed by any thread without a lock, and printed in
 * Prometheus text format (version 0.0.4), families in name order. The core's own metrics (self NULL)
 * are called imprimatur_NAME.
 */
#ifndef CORE_METRICS_H
#define CORE_METRICS_H

#include <imprimatur/metrics.h>

/* A metric whose value is asked for when it is printed. `read` must be quick, must not take locks
 * that are held while logging or printing metrics, and runs on the thread that prints. `scale`
 * divides the value in print (1000000 for microseconds shown as seconds); 0 and 1 print integers.
 * False when the name is wrong or memory is short. Control thread. */
bool metrics_register_reader(imp_self *self, imp_metric_kind kind, const char *name,
                             const char *labels, const char *help, int64_t scale,
                             int64_t (*read)(void *arg), void *arg);

/* Ends a generation's hold on its metrics; those that no other generation holds are gone. Control
 * thread. */
void metrics_sweep(const imp_self *self);

/* The whole registry as text, with process metrics; the caller frees with free(). NULL when memory is
 * short. Any thread, but not from within a reader. */
char *metrics_text(size_t *length);

/* What imprimatur_info says. Strings are copied. */
void metrics_set_info(const char *version, const char *instance);

/* Forgets everything (tests, end of process). No thread may use a metric any more. */
void metrics_clear(void);

#endif
