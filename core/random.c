/* SPDX-License-Identifier: Apache-2.0 */
/* random.c - randomness from the kernel. */
#include "build-config.h"

#include "core/random.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* Set by tests alone. */
static atomic_bool is_seeded;
static pthread_mutex_t seed_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t seed_state;

/* SplitMix64 (Steele, Lea, Flood 2014): well spread, and the same on every machine. */
static uint64_t seeded_next(void)
{
    uint64_t z = (seed_state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void seeded_fill(uint8_t *buffer, size_t length)
{
    pthread_mutex_lock(&seed_lock);
    while (length > 0) {
        uint64_t next = seeded_next();
        size_t step = length < sizeof next ? length : sizeof next;
        memcpy(buffer, &next, step);
        buffer += step;
        length -= step;
    }
    pthread_mutex_unlock(&seed_lock);
}

void imp_random(void *buffer, size_t length)
{
    uint8_t *p = buffer;
    if (atomic_load_explicit(&is_seeded, memory_order_acquire)) {
        seeded_fill(p, length);
        return;
    }
    while (length > 0) {
        ssize_t got = getrandom(p, length, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            /* Keys, nonces and ids hang on this: there is nothing safe to go on with. The log needs
             * nothing from here, but may hold locks of the caller: straight to standard error. */
            static const char message[] = "imprimatur: the system's random source failed\n";
            if (write(STDERR_FILENO, message, sizeof message - 1) < 0)
                abort();
            abort();
        }
        p += got;
        length -= (size_t)got;
    }
}

void random_seed_for_test(uint64_t seed)
{
    pthread_mutex_lock(&seed_lock);
    seed_state = seed;
    pthread_mutex_unlock(&seed_lock);
    atomic_store_explicit(&is_seeded, true, memory_order_release);
}

void random_unseed_for_test(void)
{
    atomic_store_explicit(&is_seeded, false, memory_order_release);
}
