/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - counters and gauges, in Prometheus text format at `imprimctl metrics`.
 *
 * Exported names are imprimatur_MODULE_NAME; counters should end in _total, units are in the name
 * (_bytes, _seconds). A metric belongs to the module's generation and goes with it; a new
 * generation that asks for the same name continues the same counter.
 */
#ifndef IMPRIMATUR_METRICS_H
#define IMPRIMATUR_METRICS_H

#include <imprimatur/base.h>

typedef struct imp_metric imp_metric;

typedef int32_t imp_metric_kind;
#define IMP_METRIC_COUNTER ((imp_metric_kind)0) /* only grows */
#define IMP_METRIC_GAUGE ((imp_metric_kind)1)

/* Registers a metric, or finds the one of the same name and labels. `labels` is NULL or Prometheus
 * label text without braces (`result="refused"`); all strings are copied. NULL when the name is not
 * [a-z0-9_]+ or memory is short. Control thread (in start). */
IMP_PUBLIC imp_metric *imp_metric_register(imp_self *self, imp_metric_kind kind, const char *name,
                                           const char *labels, const char *help);
/* Adds to a counter or gauge (NULL is ignored). Lock-free; any thread. */
IMP_PUBLIC void imp_metric_add(imp_metric *metric, int64_t amount);
/* Sets a gauge (NULL is ignored). Lock-free; any thread. */
IMP_PUBLIC void imp_metric_set(imp_metric *metric, int64_t value);
/* The value now; 0 for NULL. Lock-free; any thread. */
IMP_PUBLIC int64_t imp_metric_value(const imp_metric *metric);

#endif
