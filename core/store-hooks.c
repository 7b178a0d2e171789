/* SPDX-License-Identifier: Apache-2.0 */
/* store-hooks.c - how the store reaches the server's loops, threads and modules; its metrics. */
#include <unistd.h>

#include "core/crash-record.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "core/module.h"
#include "core/self.h"
#include "core/server.h"
#include "core/store.h"
#include "core/thread.h"

/* A fatal line has to reach the log before the process ends. */
#define FATAL_FLUSH_TIMEOUT IMP_SECOND

static void *loop_of_thread(void)
{
    return imp_loop_current();
}

static void post_to_loop(void *loop, void *memory, void (*fn)(void *arg), void *arg)
{
    struct loop_post *node = memory;
    _Static_assert(sizeof *node <= STORE_POST_NODE_SIZE, "a post must fit its memory");
    *node = (struct loop_post){.fn = fn, .arg = arg};
    if (!loop_post_node(loop, node)) {
        /* The loops end after the store: this can't happen in order, and must not pass unseen. */
        imp_log(NULL, IMP_LOG_CRITICAL, "store.answer-lost", "text=\"its loop has ended\"");
    }
}

static void writer_begin(void)
{
    (void)thread_register(THREAD_WRITER, 0, NULL, NULL);
}

static void writer_beat(void)
{
    thread_quiescent();
    crash_beat();
}

/* A writer without work is no stall. */
static void writer_sleep(void)
{
    crash_beat_rest();
    thread_idle_begin();
}

static void fatal(const imp_error *error)
{
    imp_log(NULL, IMP_LOG_CRITICAL, "store.fatal", "text=\"%s\"", error->message);
    log_flush(FATAL_FLUSH_TIMEOUT);
    _exit(SERVER_EXIT_STORE);
}

const struct store_hooks store_hooks_server = {
    .loop_current = loop_of_thread,
    .post = post_to_loop,
    .writer_begin = writer_begin,
    .writer_beat = writer_beat,
    .writer_sleep = writer_sleep,
    .writer_wake = thread_idle_end,
    .writer_rest = crash_beat_rest,
    .writer_end = thread_unregister,
    .pin = self_pin,
    .unpin = self_unpin,
    .call_begin = module_call_begin,
    .call_end = module_call_end,
    .fatal = fatal,
};

/* ---- metrics ---- */

struct store_metric {
    const char *name;
    const char *help;
    imp_metric_kind kind;
    int64_t scale;
    int64_t (*read)(void *store);
};

#define READER(field)                                                                              \
    static int64_t read_##field(void *store)                                                       \
    {                                                                                              \
        struct store_stats stats;                                                                  \
        store_stats_get(store, &stats);                                                            \
        return (int64_t)stats.field;                                                               \
    }
READER(commits)
READER(closures)
READER(closures_failed)
READER(changes)
READER(syncs_us)
READER(reads)
READER(checkpoints)
READER(waiting_control)
READER(waiting_bulk)
READER(used_bytes)
READER(file_bytes)
READER(reads_open)
READER(is_short_of_space)

static const struct store_metric metrics[] = {
    {"store_commits_total", "Commits, each synced", IMP_METRIC_COUNTER, 1, read_commits},
    {"store_closures_total", "Writes that were run", IMP_METRIC_COUNTER, 1, read_closures},
    {"store_closures_failed_total", "Writes that were refused or failed", IMP_METRIC_COUNTER, 1,
     read_closures_failed},
    {"store_changes_total", "Records put and deleted", IMP_METRIC_COUNTER, 1, read_changes},
    {"store_commit_seconds_total", "Time in commits", IMP_METRIC_COUNTER, IMP_SECOND,
     read_syncs_us},
    {"store_checkpoints_total", "Times that all pages were synced behind the commit log",
     IMP_METRIC_COUNTER, 1, read_checkpoints},
    {"store_reads_total", "Read transactions", IMP_METRIC_COUNTER, 1, read_reads},
    {"store_reads_open", "Read transactions open now", IMP_METRIC_GAUGE, 1, read_reads_open},
    {"store_waiting_control", "Writes waiting in the control queue", IMP_METRIC_GAUGE, 1,
     read_waiting_control},
    {"store_waiting_bulk", "Writes waiting in the bulk queue", IMP_METRIC_GAUGE, 1,
     read_waiting_bulk},
    {"store_used_bytes", "Up to the last page in use", IMP_METRIC_GAUGE, 1, read_used_bytes},
    {"store_file_bytes", "Size of the store's file", IMP_METRIC_GAUGE, 1, read_file_bytes},
    {"store_short_of_space", "1 when the disk has no room to grow", IMP_METRIC_GAUGE, 1,
     read_is_short_of_space},
};

void store_register_metrics(struct store *store)
{
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        if (!metrics_register_reader(NULL, metrics[i].kind, metrics[i].name, NULL, metrics[i].help,
                                     metrics[i].scale, metrics[i].read, store)) {
            imp_log(NULL, IMP_LOG_ERROR, "store.metric", "name=%s", metrics[i].name);
        }
    }
}
