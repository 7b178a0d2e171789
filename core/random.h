/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.h - the test side of imp_random (<imprimatur/base.h>).
 */
#ifndef CORE_RANDOM_H
#define CORE_RANDOM_H

#include <imprimatur/base.h>

/* Tests: imp_random gives a repeatable stream from now on. Never for anything that is kept. */
void random_seed_for_test(uint64_t seed);
/* Back to the system's randomness. */
void random_unseed_for_test(void);

#endif
