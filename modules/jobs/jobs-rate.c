/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-rate.h"

#include <stdlib.h>

#define WAYS 8u /* places that an address may take */
#define MINUTE (60 * IMP_SECOND)

struct source {
    uint64_t hash;  /* of the address; 0: free */
    int64_t minute; /* number of the minute that `count` belongs to */
    uint64_t count;
};

struct jobs_rates {
    pthread_mutex_t lock;
    uint64_t seed;
    uint32_t sets;
    struct source sources[];
};

struct jobs_rates *rates_new(uint32_t sources)
{
    uint32_t sets = sources / WAYS + 1;
    struct jobs_rates *rates =
        calloc(1, sizeof *rates + (size_t)sets * WAYS * sizeof(struct source));
    if (rates != NULL) {
        pthread_mutex_init(&rates->lock, NULL);
        imp_random(&rates->seed, sizeof rates->seed);
        rates->sets = sets;
    }
    return rates;
}

void rates_free(struct jobs_rates *rates)
{
    if (rates == NULL)
        return;
    pthread_mutex_destroy(&rates->lock);
    free(rates);
}

/* FNV-1a with a secret start, so that nobody can choose addresses that meet in one set. */
static uint64_t hash_of(uint64_t seed, const char *address)
{
    uint64_t hash = seed ^ UINT64_C(0xcbf29ce484222325);
    for (; *address != '\0'; address++)
        hash = (hash ^ (uint8_t)*address) * UINT64_C(0x100000001b3);
    return hash == 0 ? 1 : hash;
}

bool rates_allow(struct jobs_rates *rates, const char *address, uint64_t limit, int64_t now_ticks)
{
    uint64_t hash = hash_of(rates->seed, address);
    int64_t minute = now_ticks / MINUTE;
    bool is_allowed;

    pthread_mutex_lock(&rates->lock);
    struct source *set = &rates->sources[(hash >> 32) % rates->sets * WAYS], *at = NULL;
    for (uint32_t way = 0; way < WAYS && at == NULL; way++) {
        if (set[way].hash == hash)
            at = &set[way];
    }
    if (at == NULL) {
        at = &set[0];
        for (uint32_t way = 1; way < WAYS; way++) {
            if (set[way].minute < at->minute ||
                (set[way].minute == at->minute && set[way].count < at->count))
                at = &set[way];
        }
        *at = (struct source){.hash = hash, .minute = minute};
    }
    if (at->minute != minute) {
        at->minute = minute;
        at->count = 0;
    }
    is_allowed = at->count < limit;
    if (is_allowed)
        at->count++;
    pthread_mutex_unlock(&rates->lock);
    return is_allowed;
}
