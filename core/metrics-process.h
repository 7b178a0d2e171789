/* SPDX-License-Identifier: Apache-2.0 */
/* metrics-process.h - the process_* metrics that every Prometheus client offers, from /proc. */
#ifndef CORE_METRICS_PROCESS_H
#define CORE_METRICS_PROCESS_H

#include <stdio.h>

/* What can't be read is left out. */
void metrics_process_write(FILE *out);

#endif
