/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "modules/jobs/spool-buffers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

imp_status spool_buffers_start(struct spool_buffers *pool, imp_self *self, int64_t bytes,
                               imp_error *error)
{
    memset(pool, 0, sizeof *pool);
    pool->self = self;
    int64_t count = bytes / (int64_t)SPOOL_BUFFER_SIZE;
    pool->count_max = count < 2 ? 2u : (uint32_t)count;
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return imp_error_set(error, IMP_LIMIT, "spool: no mutex");
    return IMP_OK;
}

/* ---- memory ---- */

static struct spool_buffer *buffer_new(void)
{
    struct spool_buffer *buffer = calloc(1, sizeof *buffer);
    if (buffer == NULL)
        return NULL;
    buffer->data =
        mmap(NULL, SPOOL_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer->data == MAP_FAILED) {
        free(buffer);
        return NULL;
    }
    /* Plaintext passes through it. */
    (void)madvise(buffer->data, SPOOL_BUFFER_SIZE, MADV_DONTDUMP);
    return buffer;
}

static void buffer_free(struct spool_buffer *buffer)
{
    munmap(buffer->data, SPOOL_BUFFER_SIZE);
    free(buffer);
}

void spool_buffers_trim(struct spool_buffers *pool, int64_t idle_us)
{
    struct spool_buffer *old = NULL;
    int64_t before = imp_ticks() - idle_us;

    /* The list is in the order of use: the first that is old begins the old ones. */
    pthread_mutex_lock(&pool->lock);
    struct spool_buffer **place = &pool->free;
    while (*place != NULL && (*place)->freed > before)
        place = &(*place)->next;
    old = *place;
    *place = NULL;
    for (struct spool_buffer *buffer = old; buffer != NULL; buffer = buffer->next)
        pool->count--;
    pthread_mutex_unlock(&pool->lock);
    while (old != NULL) {
        struct spool_buffer *next = old->next;
        buffer_free(old);
        old = next;
    }
}

void spool_buffers_end(struct spool_buffers *pool)
{
    spool_buffers_trim(pool, -IMP_SECOND);
    pthread_mutex_destroy(&pool->lock);
}

/* ---- lists; under the lock ---- */

static void list_add(struct spool_buffer_user **first, struct spool_buffer_user **last,
                     struct spool_buffer_user *user)
{
    user->next = NULL;
    user->previous = *last;
    if (*last != NULL)
        (*last)->next = user;
    else
        *first = user;
    *last = user;
}

static void list_remove(struct spool_buffer_user **first, struct spool_buffer_user **last,
                        struct spool_buffer_user *user)
{
    if (user->previous != NULL)
        user->previous->next = user->next;
    else
        *first = user->next;
    if (user->next != NULL)
        user->next->previous = user->previous;
    else
        *last = user->previous;
    user->next = user->previous = NULL;
}

static void user_set_state(struct spool_buffer_user *user, enum spool_buffer_state state)
{
    struct spool_buffers *pool = user->pool;

    if (user->state == SPOOL_BUFFER_WAITING) {
        list_remove(&pool->waiting_first, &pool->waiting_last, user);
        pool->waiting_count--;
    } else if (user->state == SPOOL_BUFFER_HOLDING) {
        list_remove(&pool->holding_first, &pool->holding_last, user);
    }
    user->state = state;
    if (state == SPOOL_BUFFER_WAITING) {
        list_add(&pool->waiting_first, &pool->waiting_last, user);
        pool->waiting_count++;
    } else if (state == SPOOL_BUFFER_HOLDING) {
        user->was_asked = false;
        list_add(&pool->holding_first, &pool->holding_last, user);
    }
}

/* ---- posts ---- */

/* True when the user was waiting to be forgotten and this was the last post. */
static bool user_post_came(struct spool_buffer_user *user)
{
    user->posts--;
    return user->has_left && user->posts == 0;
}

static void user_asked(void *arg)
{
    struct spool_buffer_user *user = arg;

    pthread_mutex_lock(&user->pool->lock);
    bool is_gone = user_post_came(user);
    bool must_yield = !user->has_left && user->state == SPOOL_BUFFER_HOLDING && user->was_asked;
    pthread_mutex_unlock(&user->pool->lock);
    if (is_gone)
        user->gone(user);
    else if (must_yield)
        user->yield(user);
}

static void user_granted(void *arg)
{
    struct spool_buffer_user *user = arg;
    struct spool_buffers *pool = user->pool;

    pthread_mutex_lock(&pool->lock);
    bool is_gone = user_post_came(user);
    bool has_left = user->has_left;
    struct spool_buffer *buffer = user->grant;
    user->grant = NULL;
    pthread_mutex_unlock(&pool->lock);
    if (has_left)
        spool_buffers_put(pool, buffer);
    if (is_gone)
        user->gone(user);
    else if (!has_left)
        user->granted(user, buffer);
}

/* Asks as many holders as there are users waiting; those that hold longest first. Under the lock. */
static void pool_ask(struct spool_buffers *pool)
{
    uint32_t wanted = pool->waiting_count;

    for (struct spool_buffer_user *user = pool->holding_first; user != NULL && wanted > 0;
         user = user->next) {
        wanted--;
        if (user->was_asked || user->grant != NULL)
            continue;
        if (imp_post(pool->self, user->loop, user_asked, user) == IMP_OK) {
            user->was_asked = true;
            user->posts++;
        }
    }
}

/* ---- users ---- */

struct spool_buffer *spool_buffers_get(struct spool_buffer_user *user)
{
    struct spool_buffers *pool = user->pool;
    struct spool_buffer *buffer = NULL;

    pthread_mutex_lock(&pool->lock);
    if (pool->waiting_first == NULL) {
        if (pool->free != NULL) {
            buffer = pool->free;
            pool->free = buffer->next;
            buffer->next = NULL;
        } else if (pool->count < pool->count_max) {
            buffer = buffer_new();
            if (buffer != NULL)
                pool->count++;
        }
    }
    if (buffer != NULL) {
        user_set_state(user, SPOOL_BUFFER_HOLDING);
    } else {
        user_set_state(user, SPOOL_BUFFER_WAITING);
        pool_ask(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

bool spool_buffers_are_short(struct spool_buffers *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool are_short =
        pool->waiting_first != NULL || (pool->free == NULL && pool->count >= pool->count_max);
    pthread_mutex_unlock(&pool->lock);
    return are_short;
}

void spool_buffers_detach(struct spool_buffer_user *user)
{
    pthread_mutex_lock(&user->pool->lock);
    user_set_state(user, SPOOL_BUFFER_NONE);
    pthread_mutex_unlock(&user->pool->lock);
}

void spool_buffers_attach(struct spool_buffer_user *user)
{
    pthread_mutex_lock(&user->pool->lock);
    user_set_state(user, SPOOL_BUFFER_HOLDING);
    pool_ask(user->pool);
    pthread_mutex_unlock(&user->pool->lock);
}

void spool_buffers_put(struct spool_buffers *pool, struct spool_buffer *buffer)
{
    pthread_mutex_lock(&pool->lock);
    struct spool_buffer_user *user = pool->waiting_first;
    if (user != NULL && imp_post(pool->self, user->loop, user_granted, user) == IMP_OK) {
        user->posts++;
        user->grant = buffer;
        user_set_state(user, SPOOL_BUFFER_HOLDING);
        pool_ask(pool);
        buffer = NULL;
    }
    if (buffer != NULL) {
        buffer->freed = imp_ticks();
        buffer->next = pool->free;
        pool->free = buffer;
    }
    pthread_mutex_unlock(&pool->lock);
}

bool spool_buffers_leave(struct spool_buffer_user *user)
{
    pthread_mutex_lock(&user->pool->lock);
    user_set_state(user, SPOOL_BUFFER_NONE);
    user->has_left = true;
    bool is_free = user->posts == 0;
    pthread_mutex_unlock(&user->pool->lock);
    return is_free;
}
