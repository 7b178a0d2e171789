/* SPDX-License-Identifier: Apache-2.0 */
/* store-write.c - the writer: two queues of closures, one nested transaction each, one commit for all. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <imprimatur/log.h>

#include "core/crash-point.h"
#include "core/record.h"
#include "core/server.h"
#include "core/store-private.h"

/* An idle writer looks at old reads this often. */
#define IDLE_CHECK_SECONDS 5
#define WRITER_STACK_SIZE ((size_t)512 * 1024)

/* ---- hooks ---- */

static void call(void (*hook)(void))
{
    if (hook != NULL) {
        hook();
    }
}

static void call_with(void (*hook)(imp_self *self), imp_self *self)
{
    if (hook != NULL && self != NULL) {
        hook(self);
    }
}

static void post(struct store *store, void *loop, void *node, void (*fn)(void *arg), void *arg)
{
    if (store->hooks.post != NULL && loop != NULL) {
        store->hooks.post(loop, node, fn, arg);
    } else {
        fn(arg);
    }
}

/* Nothing can be answered any more: whether the last commit is on the disk is not known, and a second
 * sync may say yes to pages that the kernel has dropped. A new process reads what is there. */
_Noreturn void store_fatal(struct store *store, int code, const char *what)
{
    imp_error error;
    imp_error_set(&error, IMP_IO, "store: %s: %s; the server ends and reads again", what,
                  mdb_strerror(code));
    store_fatal_error(store, &error);
}

_Noreturn void store_fatal_error(struct store *store, const imp_error *error)
{
    if (store->hooks.fatal != NULL) {
        store->hooks.fatal(error);
    }
    dprintf(STDERR_FILENO, "imprimatur: %s\n", error->message);
    _exit(SERVER_EXIT_STORE);
}

/* Memory for an answer that must not get lost. */
static void *answer_memory(struct store *store, size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        store_fatal(store, ENOMEM, "no memory for answers");
    }
    return memory;
}

/* ---- answers: one post a loop and batch ---- */

struct answer {
    imp_self *self;
    imp_write_done done;
    void *arg;
    imp_status status;
    imp_error *error; /* owned; NULL for IMP_OK */
};

struct answers {
    _Alignas(max_align_t) unsigned char node[STORE_POST_NODE_SIZE];
    struct store *store;
    size_t count;
    struct answer items[];
};

static void give_answers(void *arg)
{
    static const imp_error no_error = {.status = IMP_OK};
    struct answers *answers = arg;
    struct store *store = answers->store;
    for (size_t i = 0; i < answers->count; i++) {
        struct answer *answer = &answers->items[i];
        if (answer->done != NULL) {
            call_with(store->hooks.call_begin, answer->self);
            answer->done(answer->status, answer->error != NULL ? answer->error : &no_error,
                         answer->arg);
            call_with(store->hooks.call_end, answer->self);
        }
        call_with(store->hooks.unpin, answer->self);
        free(answer->error);
    }
    free(answers);
}

static void answer_sync(struct store *store, struct store_closure *closure)
{
    struct store_sync *sync = closure->sync;
    call_with(store->hooks.unpin, closure->self);
    pthread_mutex_lock(&store->lock);
    sync->status = closure->status;
    if (closure->error != NULL) {
        sync->error = *closure->error;
    }
    sync->is_done = true;
    pthread_cond_broadcast(&sync->cond);
    pthread_mutex_unlock(&store->lock);
    free(closure->error);
}

/* Posts the answers of batch[0..count), each loop's in one post, in the closures' order. */
static void post_answers(struct store *store, struct store_closure *batch, uint32_t count)
{
    bool is_posted[STORE_BATCH_CLOSURES] = {false};
    for (uint32_t first = 0; first < count; first++) {
        if (is_posted[first]) {
            continue;
        }
        if (batch[first].sync != NULL) {
            answer_sync(store, &batch[first]);
            continue;
        }
        struct answers *answers =
            answer_memory(store, sizeof *answers + (count - first) * sizeof(struct answer));
        answers->store = store;
        answers->count = 0;
        for (uint32_t i = first; i < count; i++) {
            if (batch[i].loop == batch[first].loop && batch[i].sync == NULL) {
                is_posted[i] = true;
                answers->items[answers->count++] = (struct answer){
                    batch[i].self, batch[i].done, batch[i].arg, batch[i].status, batch[i].error};
            }
        }
        post(store, batch[first].loop, answers->node, give_answers, answers);
    }
}

/* ---- one closure ---- */

static void set_outcome(struct store *store, struct store_closure *closure, imp_status status,
                        const imp_error *reason)
{
    closure->status = status;
    free(closure->error);
    closure->error = NULL;
    if (status == IMP_OK) {
        return;
    }
    closure->error = answer_memory(store, sizeof *closure->error);
    if (reason != NULL && reason->status != IMP_OK && reason->message[0] != '\0') {
        *closure->error = *reason;
        closure->error->status = status;
    } else {
        imp_error_set(closure->error, status, "the store answers: %s", imp_status_name(status));
    }
}

/* Runs the closure in `txn`, which is its own. The transaction is left to the caller. */
static imp_status run_in(struct store *store, struct store_closure *closure, MDB_txn *txn,
                         imp_error *error)
{
    imp_tx *tx = &store->write_tx;
    tx->store = store;
    tx->self = closure->self;
    tx->txn = txn;
    tx->is_writing = true;
    tx->failure = IMP_OK;
    tx->changes = tx->seals = tx->bytes = 0;
    error->status = IMP_OK;
    error->message[0] = '\0';
    call_with(store->hooks.call_begin, closure->self);
    imp_status status = closure->fn(tx, closure->arg, error);
    call_with(store->hooks.call_end, closure->self);
    store_tx_reset(tx);
    if (status == IMP_OK && tx->failure != IMP_OK) {
        status = tx->failure; /* it went on after a change that failed */
        error->status = IMP_OK;
    }
    tx->txn = NULL;
    return status;
}

/* Runs it nested in the batch's transaction, so that a closure that fails leaves no trace. */
static void run_nested(struct store *store, struct store_closure *closure, MDB_txn *parent,
                       uint64_t *changes, uint64_t *bytes, uint64_t *seals)
{
    imp_tx *tx = &store->write_tx;
    MDB_txn *child = NULL;
    imp_error error;
    int code = mdb_txn_begin(store->env, parent, 0, &child);
    if (code != 0) {
        store_error(&error, code, "beginning");
        set_outcome(store, closure, store_status(code), &error);
        return;
    }
    struct store_log_mark mark = store_log_mark(store);
    imp_status status = run_in(store, closure, child, &error);
    *seals += tx->seals; /* nonces are used up either way */
    if (status == IMP_OK && tx->changes > 0) {
        code = mdb_txn_commit(child);
        if (code != 0) {
            status = store_error(&error, code, "ending a change");
        } else {
            *changes += tx->changes;
            *bytes += tx->bytes;
        }
    } else {
        mdb_txn_abort(child);
    }
    if (status != IMP_OK) {
        store_log_cut(store, mark);
    }
    set_outcome(store, closure, status, &error);
}

/* ---- a batch ---- */

/* A transaction is not kept. Whoever was refused before it changed anything keeps that answer; behind a
 * change, a refusal may stand on what is not there any more, and only "try again" is true. */
static void fail_all(struct store *store, struct store_closure *batch, uint32_t count,
                     imp_status status, const imp_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        if (batch[i].status == IMP_OK || batch[i].has_seen_changes) {
            set_outcome(store, &batch[i], status, error);
        }
    }
}

static void fail_all_code(struct store *store, struct store_closure *batch, uint32_t count,
                          int code)
{
    imp_error error;
    imp_status status = store_error(&error, code, "the change could not be kept");
    fail_all(store, batch, count, status, &error);
}

/* Commits. IMP_OK codes: 0, or a code after which surely nothing of the transaction is there. Anything
 * else is fatal and does not return. */
static int commit(struct store *store, MDB_txn *txn)
{
    IMP_CRASH_POINT("store.before-commit");
    int64_t began = store_clock_us();
    int code = mdb_txn_commit(txn);
    atomic_fetch_add(&store->syncs_us, (uint64_t)(store_clock_us() - began));
    IMP_CRASH_POINT("store.after-commit");
    switch (code) {
    case 0: return 0;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOMEM: return code; /* found before the first byte was written */
    case ENOSPC:
    case EDQUOT: {
        /* Pages come first, the meta page that makes them count comes last, and a failure in that one
         * leaves the environment in panic. Without panic nothing was committed, and the pages of
         * the commit before are as they were. */
        MDB_txn *probe = NULL;
        if (mdb_txn_begin(store->env, NULL, 0, &probe) == 0) {
            mdb_txn_abort(probe);
            store_space_was_refused(store);
            return code;
        }
        break;
    }
    default: break;
    }
    store_fatal(store, code, "a commit could not be synced");
}

imp_status store_sequence_put(struct store *store, MDB_txn *txn, imp_error *error)
{
    uint8_t bytes[8];
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u64(&writer, store->sequence);
    return store_meta_put(store, txn, STORE_META_SEQUENCE, bytes, sizeof bytes, error);
}

/* A salt that is new goes in front of what is sealed under it. */
static imp_status put_salt(struct store *store, MDB_txn *txn, imp_error *error)
{
    if (!keyring_salt_is_new(store->ring)) {
        return IMP_OK;
    }
    struct store_key_sink sink = {store, txn};
    store_log_unfit(store);
    return keyring_salt_write(store->ring, store_key_write, &sink, error);
}

/* Runs the only closure of a batch: when it fails the whole transaction is aborted, so it needs none of its
 * own. */
static void run_alone(struct store *store, struct store_closure *closure, MDB_txn *txn,
                      uint64_t *changes, uint64_t *seals)
{
    imp_error error;
    imp_status status = run_in(store, closure, txn, &error);
    *seals += store->write_tx.seals;
    *changes = status == IMP_OK ? store->write_tx.changes : 0;
    set_outcome(store, closure, status, &error);
}

/* Runs closures from the batch's front until one of the bounds is met; returns how many. */
static uint32_t run_closures(struct store *store, struct store_closure *batch, uint32_t count,
                             MDB_txn *txn, uint64_t *changes, uint64_t *seals)
{
    uint64_t bytes = 0;
    uint32_t ran = 0;
    while (ran < count && bytes < STORE_BATCH_BYTES && (ran == 0 || !store_log_is_crowded(store))) {
        struct store_closure *closure = &batch[ran];
        if (closure->is_exclusive) {
            if (ran > 0) {
                break; /* first in the next batch */
            }
            imp_error error;
            call(store->hooks.writer_rest);
            store_log_unfit(store); /* it opens tables, or writes keys */
            imp_status status = run_in(store, closure, txn, &error);
            *seals += store->write_tx.seals;
            *changes += status == IMP_OK ? store->write_tx.changes : 0;
            set_outcome(store, closure, status, &error);
            return 1;
        }
        closure->has_seen_changes = *changes > 0;
        if (store_space_permits(store, closure->queue)) {
            if (count == 1) {
                run_alone(store, closure, txn, changes, seals);
            } else {
                run_nested(store, closure, txn, changes, &bytes, seals);
            }
        } else {
            imp_error error;
            imp_error_set(&error, IMP_NO_SPACE, "the server's disk is full");
            set_outcome(store, closure, IMP_NO_SPACE, &error);
        }
        ran++;
    }
    return ran;
}

/* Runs a transaction over the front of `batch`; returns the number of closures it has answers for. */
static uint32_t run_transaction(struct store *store, struct store_closure *batch, uint32_t count)
{
    MDB_txn *txn = NULL;
    imp_error error;
    uint64_t changes = 0;
    uint64_t seals = 0;
    uint32_t ran = 0;
    store_log_before(store);
    int code = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (code != 0) {
        if (code == MDB_PANIC) {
            store_fatal(store, code, "the environment is in panic");
        }
        fail_all_code(store, batch, count, code);
        return count;
    }
    store->sequence = atomic_load(&store->committed_sequence) + 1;
    imp_status status = put_salt(store, txn, &error);
    if (status == IMP_OK) {
        ran = run_closures(store, batch, count, txn, &changes, &seals);
    }
    if (status == IMP_OK && changes > 0) {
        status = store_sequence_put(store, txn, &error);
    }
    if (status != IMP_OK || changes == 0) {
        mdb_txn_abort(txn);
        if (status != IMP_OK) {
            ran = ran > 0 ? ran : count;
            fail_all(store, batch, ran, status, &error);
        }
    } else {
        enum store_logged logged = store_log_append(store);
        if (logged == STORE_LOG_NO_SPACE) {
            mdb_txn_abort(txn);
            store_space_was_refused(store);
            code = ENOSPC;
        } else {
            code = commit(store, txn);
        }
        if (code == 0) {
            atomic_store(&store->committed_sequence, store->sequence);
        }
        store_log_settle(store, logged, code == 0);
        if (code != 0) {
            fail_all_code(store, batch, ran, code);
        } else {
            atomic_fetch_add(&store->commits, 1);
            atomic_fetch_add(&store->changes, changes);
            keyring_salt_is_durable(store->ring);
        }
        store_space_after_commit(store);
    }
    if (keyring_count_seals(store->ring, seals) && !keyring_salt_is_new(store->ring) &&
        keyring_salt_new(store->ring, &error) != IMP_OK) {
        imp_log_limited(NULL, 60000, IMP_LOG_ERROR, "store.new-salt", "text=\"%s\"", error.message);
    }
    return ran;
}

static void run_batch(struct store *store, struct store_closure *batch, uint32_t count)
{
    uint32_t answered = 0;
    while (answered < count) {
        store_space_before_batch(store);
        uint32_t ran = run_transaction(store, batch + answered, count - answered);
        for (uint32_t i = answered; i < answered + ran; i++) {
            if (batch[i].status != IMP_OK) {
                atomic_fetch_add(&store->closures_failed, 1);
            }
        }
        atomic_fetch_add(&store->closures, ran);
        post_answers(store, batch + answered, ran);
        answered += ran;
    }
}

/* ---- queues ---- */

static void push(struct store_queue *queue, const struct store_closure *closure)
{
    uint32_t place = (queue->first + queue->count) % queue->room;
    queue->ring[place] = *closure;
    queue->count++;
}

static struct store_closure pop(struct store_queue *queue)
{
    struct store_closure closure = queue->ring[queue->first];
    queue->first = (queue->first + 1) % queue->room;
    queue->count--;
    if (queue->count == 0) {
        queue->first = 0; /* the same few cache lines again, not a tour through the whole ring */
    }
    return closure;
}

static void call_waiter(void *arg)
{
    struct store_waiter *waiter = arg;
    struct store *store = waiter->store;
    call_with(store->hooks.call_begin, waiter->self);
    waiter->ready(waiter->arg);
    call_with(store->hooks.call_end, waiter->self);
    call_with(store->hooks.unpin, waiter->self);
    free(waiter);
}

/* Takes up to `max` closures, the queues in turn while both have some. Locked. */
static uint32_t take(struct store *store, struct store_closure *batch, uint32_t max)
{
    uint32_t count = 0;
    while (count < max) {
        struct store_queue *queue = &store->queues[store->turn];
        if (queue->count == 0) {
            queue = &store->queues[1 - store->turn];
        }
        if (queue->count == 0) {
            break;
        }
        batch[count++] = pop(queue);
        store->turn = (uint8_t)(1 - store->turn);
    }
    return count;
}

/* Detaches as many waiters as have room now; locked. They are called without the lock. */
static struct store_waiter *take_waiters(struct store *store)
{
    struct store_waiter *ready = NULL;
    struct store_waiter **end = &ready;
    for (size_t i = 0; i < STORE_QUEUE_COUNT; i++) {
        struct store_queue *queue = &store->queues[i];
        for (uint32_t room = queue->room - queue->count; room > 0 && queue->waiters != NULL;
             room--) {
            struct store_waiter *waiter = queue->waiters;
            queue->waiters = waiter->next;
            waiter->next = NULL;
            *end = waiter;
            end = &waiter->next;
        }
        if (queue->waiters == NULL) {
            queue->waiters_end = &queue->waiters;
        }
    }
    return ready;
}

static void wake_waiters(struct store *store, struct store_waiter *waiters)
{
    while (waiters != NULL) {
        struct store_waiter *waiter = waiters;
        waiters = waiter->next;
        post(store, waiter->loop, waiter->node, call_waiter, waiter);
    }
}

static bool has_work(const struct store *store)
{
    return store->queues[0].count + store->queues[1].count > 0;
}

/* Takes a batch and runs it; false when nothing waited. */
static bool run_waiting(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    uint32_t count = take(store, store->batch, STORE_BATCH_CLOSURES);
    struct store_waiter *waiters = take_waiters(store);
    if (count > 0) {
        pthread_cond_broadcast(&store->room);
    }
    pthread_mutex_unlock(&store->lock);
    wake_waiters(store, waiters);
    if (count > 0) {
        run_batch(store, store->batch, count);
    }
    return count > 0;
}

bool store_run_batch(struct store *store)
{
    return run_waiting(store);
}

/* ---- the thread ---- */

static void sleep_until_work(struct store *store)
{
    call(store->hooks.writer_sleep);
    pthread_mutex_lock(&store->lock);
    if (!has_work(store) && !store->is_closing) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += IDLE_CHECK_SECONDS;
        (void)pthread_cond_timedwait(&store->work, &store->lock, &until);
    }
    pthread_mutex_unlock(&store->lock);
    call(store->hooks.writer_wake);
}

static void *writer_main(void *arg)
{
    struct store *store = arg;
    int64_t next_look = 0;
    call(store->hooks.writer_begin);
    for (;;) {
        call(store->hooks.writer_beat);
        bool has_run = run_waiting(store);
        int64_t now = store_clock_us();
        if (now >= next_look) {
            next_look = now + IDLE_CHECK_SECONDS * IMP_SECOND;
            store_log_idle(store);
            store_reads_check(store);
        }
        if (has_run) {
            continue;
        }
        pthread_mutex_lock(&store->lock);
        bool ends = store->is_closing && !has_work(store);
        pthread_mutex_unlock(&store->lock);
        if (ends) {
            break;
        }
        sleep_until_work(store);
    }
    seal_forget();
    call(store->hooks.writer_end);
    return NULL;
}

imp_status store_writer_start(struct store *store, imp_error *error)
{
    if (store->mode != STORE_THREADED) {
        return IMP_OK;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, WRITER_STACK_SIZE);
    int code = pthread_create(&store->writer, &attributes, writer_main, store);
    pthread_attr_destroy(&attributes);
    if (code != 0) {
        return imp_error_set(error, IMP_LIMIT, "the store's writer can't be started");
    }
    store->has_writer = true;
    return IMP_OK;
}

void store_writer_stop(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    store->is_closing = true;
    pthread_cond_broadcast(&store->work);
    pthread_cond_broadcast(&store->room);
    pthread_mutex_unlock(&store->lock);
    if (store->has_writer) {
        pthread_join(store->writer, NULL);
        store->has_writer = false;
    }
    while (run_waiting(store)) { /* without a thread: what still waits */
    }
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < STORE_QUEUE_COUNT; i++) {
        while (store->queues[i].waiters != NULL) { /* only more than one queue full of them */
            struct store_waiter *waiter = store->queues[i].waiters;
            store->queues[i].waiters = waiter->next;
            call_with(store->hooks.unpin, waiter->self);
            free(waiter);
        }
    }
    pthread_mutex_unlock(&store->lock);
}

/* ---- for callers ---- */

static bool queue_is_good(imp_write_queue queue)
{
    return queue == IMP_WRITE_CONTROL || queue == IMP_WRITE_BULK;
}

imp_status store_write(struct store *store, imp_self *self, imp_write_queue queue,
                       imp_write_function fn, imp_write_done done, void *arg)
{
    struct store_closure closure = {
        .self = self, .fn = fn, .done = done, .arg = arg, .queue = queue};
    if (!queue_is_good(queue)) {
        return IMP_INVALID;
    }
    if (store->is_read_only) {
        return IMP_UNSUPPORTED;
    }
    if (store->hooks.loop_current != NULL) {
        closure.loop = store->hooks.loop_current();
        if (closure.loop == NULL) {
            return IMP_INVALID; /* there is no loop to answer on */
        }
    }
    imp_status status = IMP_OK;
    pthread_mutex_lock(&store->lock);
    struct store_queue *into = &store->queues[queue];
    if (store->is_closing) {
        status = IMP_UNAVAILABLE;
    } else if (into->count == into->room) {
        status = IMP_BUSY;
    } else {
        call_with(store->hooks.pin, self);
        bool was_idle = !has_work(store);
        push(into, &closure);
        if (was_idle && store->mode == STORE_THREADED) {
            pthread_cond_signal(&store->work);
        }
    }
    pthread_mutex_unlock(&store->lock);
    if (status == IMP_OK && store->mode == STORE_INLINE) {
        run_waiting(store);
    }
    return status;
}

void store_wait(struct store *store, imp_self *self, imp_write_queue queue,
                void (*ready)(void *arg), void *arg)
{
    struct store_waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL) {
        store_fatal(store, ENOMEM, "no memory to wait for the store");
    }
    waiter->store = store;
    waiter->self = self;
    waiter->ready = ready;
    waiter->arg = arg;
    waiter->loop = store->hooks.loop_current != NULL ? store->hooks.loop_current() : NULL;
    call_with(store->hooks.pin, self);
    pthread_mutex_lock(&store->lock);
    struct store_queue *of = &store->queues[queue_is_good(queue) ? queue : IMP_WRITE_BULK];
    bool has_room = of->count < of->room || store->is_closing;
    if (!has_room) {
        *of->waiters_end = waiter;
        of->waiters_end = &waiter->next;
    }
    pthread_mutex_unlock(&store->lock);
    if (has_room) {
        post(store, waiter->loop, waiter->node, call_waiter, waiter);
    }
}

void store_sweep(struct store *store, const imp_self *self)
{
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < STORE_QUEUE_COUNT; i++) {
        struct store_queue *queue = &store->queues[i];
        struct store_waiter **place = &queue->waiters;
        while (*place != NULL) {
            struct store_waiter *waiter = *place;
            if (waiter->self == self) {
                *place = waiter->next;
                call_with(store->hooks.unpin, waiter->self);
                free(waiter);
            } else {
                place = &waiter->next;
            }
        }
        queue->waiters_end = place;
    }
    pthread_mutex_unlock(&store->lock);
}

static imp_status write_and_wait(struct store *store, imp_self *self, imp_write_function fn,
                                 void *arg, bool is_exclusive, imp_error *error)
{
    struct store_sync sync = {.status = IMP_OK};
    struct store_closure closure = {.self = self,
                                    .fn = fn,
                                    .arg = arg,
                                    .sync = &sync,
                                    .queue = IMP_WRITE_CONTROL,
                                    .is_exclusive = is_exclusive};
    struct store_queue *into = &store->queues[IMP_WRITE_CONTROL];
    if (store->is_read_only && !is_exclusive) {
        return imp_error_set(error, IMP_UNSUPPORTED, "the store is open for reading only");
    }
    pthread_cond_init(&sync.cond, NULL);
    pthread_mutex_lock(&store->lock);
    while (into->count == into->room && !store->is_closing) {
        if (store->mode == STORE_THREADED) {
            pthread_cond_wait(&store->room, &store->lock);
        } else {
            pthread_mutex_unlock(&store->lock);
            run_waiting(store);
            pthread_mutex_lock(&store->lock);
        }
    }
    if (store->is_closing) {
        pthread_mutex_unlock(&store->lock);
        pthread_cond_destroy(&sync.cond);
        return imp_error_set(error, IMP_UNAVAILABLE, "the store is closing");
    }
    call_with(store->hooks.pin, self);
    push(into, &closure);
    pthread_cond_signal(&store->work);
    while (!sync.is_done) {
        if (store->mode == STORE_THREADED) {
            pthread_cond_wait(&sync.cond, &store->lock);
        } else {
            pthread_mutex_unlock(&store->lock);
            run_waiting(store);
            pthread_mutex_lock(&store->lock);
        }
    }
    pthread_mutex_unlock(&store->lock);
    pthread_cond_destroy(&sync.cond);
    if (sync.status != IMP_OK && error != NULL) {
        *error = sync.error;
    }
    return sync.status;
}

imp_status store_write_sync(struct store *store, imp_self *self, imp_write_function fn, void *arg,
                            imp_error *error)
{
    return write_and_wait(store, self, fn, arg, false, error);
}

imp_status store_write_exclusive(struct store *store, imp_self *self, imp_write_function fn,
                                 void *arg, imp_error *error)
{
    return write_and_wait(store, self, fn, arg, true, error);
}

/* ---- the SDK ---- */

imp_status imp_store_write(imp_self *self, imp_write_queue queue, imp_write_function fn,
                           imp_write_done done, void *arg)
{
    struct store *store = store_current();
    return store != NULL ? store_write(store, self, queue, fn, done, arg) : IMP_UNAVAILABLE;
}

void imp_store_wait(imp_self *self, imp_write_queue queue, void (*ready)(void *arg), void *arg)
{
    struct store *store = store_current();
    if (store != NULL) {
        store_wait(store, self, queue, ready, arg);
    }
}

imp_status imp_store_write_sync(imp_self *self, imp_write_function fn, void *arg, imp_error *error)
{
    struct store *store = store_current();
    if (store == NULL) {
        return imp_error_set(error, IMP_UNAVAILABLE, "the store is closed");
    }
    return store_write_sync(store, self, fn, arg, error);
}
