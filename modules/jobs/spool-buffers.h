/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-buffers.h - buffers of 256 KiB for direct I/O, a bounded number for the whole process.
 *
 * A user (a writer that fills, a reader that is read) holds at most one. When none is free a user
 * waits in a queue, and the one that has held its buffer longest is asked to yield: a writer writes
 * what segments it has, a reader forgets what it read ahead. So a hundred stalled connections can't
 * keep the next one waiting. A buffer on its way to or from the disk is nobody's and comes back by
 * itself.
 *
 * A user belongs to one loop; all its functions are called there, spool_buffers_put anywhere.
 */
#ifndef JOBS_SPOOL_BUFFERS_H
#define JOBS_SPOOL_BUFFERS_H

#include <imprimatur/loop.h>
#include <pthread.h>

#define SPOOL_BUFFER_SIZE ((size_t)256 * 1024)
/* Buffers nobody used for this long go back to the system. */
#define SPOOL_BUFFER_IDLE (2 * IMP_SECOND)

struct spool_buffer {
    struct spool_buffer *next;
    int64_t freed; /* ticks */
    uint8_t *data; /* page-aligned */
};

struct spool_buffer_user;

struct spool_buffers {
    imp_self *self;
    pthread_mutex_t lock;
    uint32_t count, count_max; /* allocated; bound */
    struct spool_buffer *free; /* most recently used first */
    struct spool_buffer_user *waiting_first, *waiting_last;
    struct spool_buffer_user *holding_first, *holding_last; /* longest first */
    uint32_t waiting_count;
};

enum spool_buffer_state { SPOOL_BUFFER_NONE, SPOOL_BUFFER_WAITING, SPOOL_BUFFER_HOLDING };

struct spool_buffer_user {
    struct spool_buffers *pool;
    imp_loop *loop;
    /* Called on the loop, never from within: the buffer that was waited for. */
    void (*granted)(struct spool_buffer_user *user, struct spool_buffer *buffer);
    /* Others wait: let go of the buffer soon. */
    void (*yield)(struct spool_buffer_user *user);
    /* After spool_buffers_leave answered false: nothing refers to the user any more. */
    void (*gone)(struct spool_buffer_user *user);
    /* under the pool's lock */
    struct spool_buffer_user *next, *previous;
    enum spool_buffer_state state;
    struct spool_buffer *grant; /* on its way by post */
    bool was_asked, has_left;
    uint32_t posts;
};

imp_status spool_buffers_start(struct spool_buffers *pool, imp_self *self, int64_t bytes,
                               imp_error *error);
void spool_buffers_end(struct spool_buffers *pool);

/* A buffer at once, or NULL: then `granted` follows. */
struct spool_buffer *spool_buffers_get(struct spool_buffer_user *user);
/* True when users wait or all buffers are out: then take one only when there is enough to do. */
bool spool_buffers_are_short(struct spool_buffers *pool);
/* The user's buffer goes to the disk: it is held no longer, and may be put by anybody. */
void spool_buffers_detach(struct spool_buffer_user *user);
/* Holds a detached buffer again. */
void spool_buffers_attach(struct spool_buffer_user *user);
/* Returns a buffer that is not held. Any thread. */
void spool_buffers_put(struct spool_buffers *pool, struct spool_buffer *buffer);
/* Ends a user, which holds no buffer. True: it may be freed now; false: `gone` follows. */
bool spool_buffers_leave(struct spool_buffer_user *user);
/* Gives long unused memory back. Any thread. */
void spool_buffers_trim(struct spool_buffers *pool, int64_t idle_us);

#endif
