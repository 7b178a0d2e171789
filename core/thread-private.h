/* SPDX-License-Identifier: Apache-2.0 */
/* thread-private.h - what service.c and hook.c need of thread.c. */
#ifndef CORE_THREAD_PRIVATE_H
#define CORE_THREAD_PRIVATE_H

#include "core/snapshot.h"

/* The snapshot that this thread uses: the newest one when no module is on its stack. Valid until the
 * thread's next quiescent point. NULL on threads that are not registered. */
const struct snapshot *thread_snapshot(void);

/* Between the two this thread passes no quiescent point, so what it found in its snapshot stays. */
void thread_hold(void);
void thread_release(void);

#endif
