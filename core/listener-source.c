/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener-source.c - how many connections each source address has.
 */
#include "build-config.h"

#include "core/listener-private.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE_BUCKETS 1024u /* a power of two */

struct listener_source {
    struct listener_source *next;
    uint8_t address[16];
    uint32_t count;
    uint32_t bucket;
};

static struct {
    pthread_mutex_t lock;
    uint64_t secret; /* nobody outside can choose addresses of one bucket */
    struct listener_source *buckets[SOURCE_BUCKETS];
} sources = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The bytes that stand for a source; all zero for local sockets. */
static void source_bytes(const struct sockaddr_storage *address, uint8_t bytes[16])
{
    memset(bytes, 0, 16);
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        bytes[10] = bytes[11] = 0xff;
        memcpy(bytes + 12, &v4->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        size_t size = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) ? 16 : 8;
        memcpy(bytes, &v6->sin6_addr, size);
    }
}

static uint32_t source_bucket(const uint8_t bytes[16])
{
    uint64_t halves[2];
    memcpy(halves, bytes, sizeof halves);
    uint64_t mixed = (halves[0] ^ sources.secret) * UINT64_C(0x9e3779b97f4a7c15);
    mixed ^= mixed >> 32;
    mixed = (mixed ^ halves[1]) * UINT64_C(0xc2b2ae3d27d4eb4f);
    mixed ^= mixed >> 29;
    return (uint32_t)(mixed & (SOURCE_BUCKETS - 1));
}

struct listener_source *listener_source_enter(const struct sockaddr_storage *address, uint32_t max)
{
    uint8_t bytes[16];
    struct listener_source *source;

    source_bytes(address, bytes);
    pthread_mutex_lock(&sources.lock);
    if (sources.secret == 0)
        imp_random(&sources.secret, sizeof sources.secret);
    uint32_t bucket = source_bucket(bytes);
    for (source = sources.buckets[bucket]; source != NULL; source = source->next)
        if (memcmp(source->address, bytes, sizeof bytes) == 0)
            break;
    if (source != NULL) {
        if (max != 0 && source->count >= max)
            source = NULL;
        else
            source->count++;
    } else {
        source = calloc(1, sizeof *source);
        if (source != NULL) {
            memcpy(source->address, bytes, sizeof bytes);
            source->count = 1;
            source->bucket = bucket;
            source->next = sources.buckets[bucket];
            sources.buckets[bucket] = source;
        }
    }
    pthread_mutex_unlock(&sources.lock);
    return source;
}

void listener_source_leave(struct listener_source *source)
{
    if (source == NULL)
        return;
    pthread_mutex_lock(&sources.lock);
    if (--source->count == 0) {
        struct listener_source **place = &sources.buckets[source->bucket];
        while (*place != source)
            place = &(*place)->next;
        *place = source->next;
        free(source);
    }
    pthread_mutex_unlock(&sources.lock);
}
