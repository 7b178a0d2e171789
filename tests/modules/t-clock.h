/* SPDX-License-Identifier: Apache-2.0 */
/* t-clock.h - the service that t-clock offers and t-watch calls. */
#ifndef T_CLOCK_H
#define T_CLOCK_H

#include <imprimatur/service.h>

typedef struct t_clock_v1 {
    uint32_t size;
    int64_t (*read)(imp_self *self);
} t_clock_v1;

#endif
