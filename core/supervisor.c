/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor.c - the parent: binds, starts, watches, starts again, stops.
 *
 * One poll loop over four descriptors: signals, the link to the server, the link to the spawner, and
 * nothing else. Clients never talk to it. What the server says is a name of a module or a number;
 * anything it says wrongly is logged and ignored.
 */
#include "build-config.h"

#include "core/supervisor.h"

#include <errno.h>
#include <imprimatur/log.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/keys.h"
#include "core/link.h"
#include "core/notify.h"
#include "core/packet.h"
#include "core/sandbox.h"
#include "core/server.h"
#include "core/spawner.h"
#include "core/store.h"
#include "core/supervisor-private.h"

/* What stays when the start is done: ports below 1024 on reload, and ending or becoming the user. */
#define KEPT_CAPABILITIES                                                                          \
    ((UINT64_C(1) << CAP_NET_BIND_SERVICE) | (UINT64_C(1) << CAP_SETUID) |                         \
     (UINT64_C(1) << CAP_SETGID) | (UINT64_C(1) << CAP_KILL))

#define START_LIMIT_US (IMP_SECOND * 60 * 15) /* to ready: migrations and a large store included */
#define EXCUSE_CAP_US (IMP_SECOND * 60 * 15)  /* most that crash_beat_excuse may ask for */
#define STOP_SLACK_US (20 * IMP_SECOND)       /* beyond the server's own limits, then SIGKILL */
#define SPAWNER_END_LIMIT_US (5 * IMP_SECOND) /* from the link's end, then SIGKILL */
#define FIRST_DEATHS_MAX 5u /* deaths before the server was ever ready: then we give up */
#define TICK_MAX_US (5 * IMP_SECOND)
#define LINK_MESSAGES_A_TURN                                                                       \
    64 /* so that a server that floods the link can't keep us from signals */

/* The sending of one answer to LINK_LISTEN, which may have to wait for the server to read. */
struct listen_answer {
    bool is_active;
    uint32_t serial;
    uint32_t next; /* index into the set */
    char module[LINK_NAME_SIZE];
    imp_error outcome;
};

struct process {
    pid_t pid; /* 0: none */
    int link_fd;
    struct restart restart;
};

struct supervisor {
    const char *config_path;
    struct config *config;
    const struct config_core *core;
    struct account account;
    struct notify notify;
    struct state state;
    struct listen_set sockets;
    struct listen_answer answer;
    int lock_fd, signal_fd, key_fd, record_fd;
    struct crash_record *record;
    struct process spawner, server;

    bool is_ready;   /* this server said LINK_READY */
    bool was_ready;  /* any server did */
    bool is_waiting; /* servers end with SERVER_EXIT_LATER; that was said */
    bool is_stopping;
    bool is_over;
    int exit_status;
    uint32_t early_deaths;        /* before any was ready, of those that should not have died */
    char refusal[LINK_TEXT_SIZE]; /* what the last server said that can't start */
    uint32_t stalled;             /* thread that we killed the server for */
    int64_t stop_due_us;          /* SIGKILL when stopping takes longer */
    int64_t since_us;             /* hearts: older beats count as made then */
    int64_t last_tick_us;
    int64_t watchdog_due_us;
};

/* ---- saying ----------------------------------------------------------------------------------- */

static int fail(const imp_error *error)
{
    fprintf(stderr, "imprimd: %s\n", error->message);
    return 1;
}

static void link_say(struct supervisor *supervisor, const struct link_message *message, int passed)
{
    imp_error error;
    imp_status status = supervisor->server.link_fd < 0
                            ? IMP_OK
                            : link_send(supervisor->server.link_fd, message, passed, &error);
    if (status != IMP_OK && status != IMP_UNAVAILABLE)
        imp_log(NULL, IMP_LOG_WARNING, "supervisor.link_full", "kind=%u reason=\"%s\"",
                message->kind, error.message);
}

static void process_close_link(struct process *process)
{
    if (process->link_fd >= 0)
        close(process->link_fd);
    process->link_fd = -1;
}

/* ---- starting --------------------------------------------------------------------------------- */

static imp_status spawner_start(struct supervisor *supervisor, imp_error *error)
{
    int ends[2];
    imp_status status = packet_pair(ends, error);
    if (status != IMP_OK)
        return status;
    const struct role role = {.name = "spawner", .fds = {ends[1]}, .fd_count = 1};
    status = role_start(&role, &supervisor->account, &supervisor->spawner.pid, error);
    close(ends[1]);
    if (status != IMP_OK) {
        close(ends[0]);
        return status;
    }
    supervisor->spawner.link_fd = ends[0];
    supervisor->spawner.restart.started_us = imp_ticks();
    supervisor->spawner.restart.due_us = 0;
    imp_log(NULL, IMP_LOG_INFO, "spawner.started", "pid=%d", (int)supervisor->spawner.pid);
    return packet_set_nonblocking(ends[0], error);
}

/* A new pair between spawner and server; *end is the server's. */
static imp_status spawner_pair(struct supervisor *supervisor, int *end, imp_error *error)
{
    struct spawner_message message;
    int ends[2];
    imp_status status = packet_pair(ends, error);
    if (status != IMP_OK)
        return status;
    spawner_message_set(&message, SPAWNER_SERVER, 0);
    status = supervisor->spawner.link_fd < 0
                 ? IMP_UNAVAILABLE
                 : spawner_send(supervisor->spawner.link_fd, &message, &ends[0], 1, error);
    close(ends[0]);
    /* A spawner that died: the server is told of the next one. */
    if (status == IMP_UNAVAILABLE)
        status = IMP_OK;
    if (status != IMP_OK)
        close(ends[1]);
    else
        *end = ends[1];
    return status;
}

static imp_status server_start(struct supervisor *supervisor, imp_error *error)
{
    int link[2] = {-1, -1}, spawner_end = -1;
    imp_status status = spawner_pair(supervisor, &spawner_end, error);
    if (status == IMP_OK)
        status = packet_pair(link, error);
    if (status == IMP_OK)
        status = packet_set_nonblocking(link[0], error);
    if (status != IMP_OK)
        goto done;
    crash_record_clear(supervisor->record);
    atomic_fetch_add(&supervisor->record->start_count, 1);
    const struct role role = {
        .name = "server",
        .config_path = supervisor->config_path,
        .is_developer = supervisor->core->developer,
        .fds = {link[1], spawner_end, supervisor->record_fd, supervisor->key_fd},
        .fd_count = 4,
    };
    status = role_start(&role, &supervisor->account, &supervisor->server.pid, error);
    if (status != IMP_OK)
        goto done;
    supervisor->server.link_fd = link[0];
    link[0] = -1;
    supervisor->server.restart.started_us = supervisor->since_us = imp_ticks();
    supervisor->server.restart.due_us = 0;
    supervisor->is_ready = false;
    supervisor->refusal[0] = '\0'; /* that of the one before */
    supervisor->stalled = CRASH_NO_THREAD;
    memset(&supervisor->answer, 0, sizeof supervisor->answer);
    imp_log(NULL, IMP_LOG_NOTICE, "server.started", "pid=%d uid=%u", (int)supervisor->server.pid,
            (unsigned)supervisor->account.uid);
done:
    for (int i = 0; i < 2; i++)
        if (link[i] >= 0)
            close(link[i]);
    if (spawner_end >= 0)
        close(spawner_end);
    return status;
}

/* ---- stopping --------------------------------------------------------------------------------- */

static void stop_begin(struct supervisor *supervisor, const char *why)
{
    struct link_message message;
    if (supervisor->is_stopping)
        return;
    int64_t limit =
        supervisor->core->upgrade_deadline + supervisor->core->module_stop_timeout + STOP_SLACK_US;
    supervisor->is_stopping = true;
    supervisor->stop_due_us = imp_ticks() + limit;
    imp_log(NULL, IMP_LOG_NOTICE, "supervisor.stopping", "reason=\"%s\" limit_ms=%lld", why,
            (long long)(limit / IMP_MILLISECOND));
    notify_send(&supervisor->notify, "STOPPING=1\nSTATUS=stopping");
    if (supervisor->server.pid == 0) {
        supervisor->is_over = true;
        return;
    }
    link_message_set(&message, LINK_STOP, NULL);
    message.value = (uint64_t)(limit / IMP_MILLISECOND);
    link_say(supervisor, &message, -1);
    /* The same by signal, for a server that does not read its link yet. */
    kill(supervisor->server.pid, SIGTERM);
}

/* ---- deaths ----------------------------------------------------------------------------------- */

static void checkpoint_keep(struct supervisor *supervisor)
{
    imp_error error;
    uint64_t number = atomic_load(&supervisor->record->checkpoint);
    /* It only grows: a server that went mad can't make us forget. */
    if (number <= supervisor->state.checkpoint)
        return;
    uint64_t before = supervisor->state.checkpoint;
    supervisor->state.checkpoint = number;
    if (state_save(&supervisor->state, &error) == IMP_OK) {
        atomic_store(&supervisor->record->checkpoint_remembered, number);
        return;
    }
    supervisor->state.checkpoint = before;
    imp_log(NULL, IMP_LOG_WARNING, "supervisor.state_not_kept", "reason=\"%s\"", error.message);
}

static void crash_keep(struct supervisor *supervisor, int wait_status)
{
    struct state_crash crash;
    imp_error error;
    crash_log(supervisor->record, supervisor->stalled, supervisor->server.pid, wait_status, &crash);
    state_add_crash(&supervisor->state, &crash);
    if (state_save(&supervisor->state, &error) != IMP_OK)
        imp_log(NULL, IMP_LOG_WARNING, "supervisor.state_not_kept", "reason=\"%s\"", error.message);
}

/* It can't start now, and may be able to later: tried again for as long as it takes. Said once. */
static void server_waits(struct supervisor *supervisor)
{
    notify_send(&supervisor->notify, "STATUS=waiting to start: %s", supervisor->refusal);
    if (supervisor->is_waiting)
        return;
    supervisor->is_waiting = true;
    imp_log(NULL, IMP_LOG_ERROR, "server.waits",
            "reason=\"%s\" action=\"it is started again until it can start; clients wait\"",
            supervisor->refusal);
}

/* The service manager's own limit counts from the first server's start, and would end us in the middle
 * of waiting: another server is due, and has its time to become ready. */
static void start_limit_extend(const struct supervisor *supervisor)
{
    if (!supervisor->was_ready)
        notify_send(&supervisor->notify, "EXTEND_TIMEOUT_USEC=%" PRId64,
                    supervisor->core->restart_delay_max + START_LIMIT_US);
}

static void link_serve(struct supervisor *supervisor);

static void server_ended(struct supervisor *supervisor, int wait_status)
{
    bool is_clean = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == SERVER_EXIT_OK;
    /* Our own SIGTERM, before it could take that. */
    if (supervisor->is_stopping && WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGTERM)
        is_clean = true;
    bool is_failure = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == SERVER_EXIT_FAILURE;
    bool is_later = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == SERVER_EXIT_LATER;
    checkpoint_keep(supervisor);
    if (is_clean)
        imp_log(NULL, IMP_LOG_NOTICE, "server.stopped", "pid=%d", (int)supervisor->server.pid);
    else if (is_failure || is_later) /* it has said why: once is enough */
        imp_log(NULL, IMP_LOG_NOTICE, "server.stopped", "pid=%d status=%d",
                (int)supervisor->server.pid, WEXITSTATUS(wait_status));
    else
        crash_keep(supervisor, wait_status);
    if (is_later && supervisor->server.link_fd >= 0)
        link_serve(supervisor); /* its reason may still wait there */
    supervisor->server.pid = 0;
    supervisor->is_ready = false;
    process_close_link(&supervisor->server);
    if (supervisor->is_stopping) {
        supervisor->is_over = true;
        return;
    }
    restart_after_death(&supervisor->server.restart, imp_ticks(),
                        supervisor->core->restart_delay_max);
    if (is_later) {
        start_limit_extend(supervisor);
        server_waits(supervisor);
        return;
    }
    if (!supervisor->was_ready && (is_failure || ++supervisor->early_deaths >= FIRST_DEATHS_MAX)) {
        /* At the first start somebody waits for the answer. */
        if (!is_failure)
            fprintf(stderr, "imprimd: the server died %u times before it was ready\n",
                    supervisor->early_deaths);
        supervisor->exit_status = 1;
        supervisor->is_over = true;
        return;
    }
    start_limit_extend(supervisor);
    notify_send(&supervisor->notify, "STATUS=the server died and is started again");
}

static void spawner_ended(struct supervisor *supervisor, int wait_status)
{
    if (!supervisor->is_stopping)
        imp_log(NULL, IMP_LOG_ERROR, "spawner.died", "pid=%d signal=%d exit=%d",
                (int)supervisor->spawner.pid, WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0,
                WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0);
    supervisor->spawner.pid = 0;
    process_close_link(&supervisor->spawner);
    restart_after_death(&supervisor->spawner.restart, imp_ticks(),
                        supervisor->core->restart_delay_max);
}

static void reap(struct supervisor *supervisor)
{
    int wait_status;
    pid_t pid;
    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        if (pid == supervisor->server.pid)
            server_ended(supervisor, wait_status);
        else if (pid == supervisor->spawner.pid)
            spawner_ended(supervisor, wait_status);
    }
}

/* ---- the server's messages -------------------------------------------------------------------- */

static void answer_begin(struct supervisor *supervisor, const struct link_message *request)
{
    struct listen_answer *answer = &supervisor->answer;
    memset(answer, 0, sizeof *answer);
    answer->is_active = true;
    answer->serial = request->serial;
    memcpy(answer->module, request->module, sizeof answer->module);
    imp_status status = listen_refresh(&supervisor->sockets, supervisor->config_path,
                                       *answer->module == '\0' ? NULL : answer->module,
                                       supervisor->core->listen_backlog, &answer->outcome);
    if (status == IMP_OK)
        return;
    answer->outcome.status = status;
    imp_log(NULL, IMP_LOG_ERROR, "supervisor.listen_failed", "reason=\"%s\"",
            answer->outcome.message);
    /* A server that starts gets what is there; one that runs has it already. */
    if (supervisor->is_ready)
        answer->next = UINT32_MAX;
}

/* Sends as much as the server takes. */
static void answer_go_on(struct supervisor *supervisor)
{
    struct listen_answer *answer = &supervisor->answer;
    struct link_message message;
    imp_status status = IMP_OK;
    for (; status == IMP_OK && answer->next < supervisor->sockets.count; answer->next++) {
        const struct listen_socket *item = &supervisor->sockets.items[answer->next];
        if (item->is_stale ||
            (*answer->module != '\0' && strcmp(item->module, answer->module) != 0))
            continue;
        link_message_set(&message, LINK_LISTENER, item->module);
        message.serial = answer->serial;
        memcpy(message.listener, item->name, sizeof message.listener);
        status = link_send(supervisor->server.link_fd, &message, item->fd, NULL);
        if (status == IMP_BUSY)
            return;
    }
    if (status == IMP_OK) {
        link_message_set(&message, LINK_LISTEN_END, answer->module);
        message.serial = answer->serial;
        message.status = answer->outcome.status;
        link_text_set(&message, "%s", answer->outcome.message);
        status = link_send(supervisor->server.link_fd, &message, -1, NULL);
        if (status == IMP_BUSY)
            return;
    }
    answer->is_active = false;
}

static void on_ready(struct supervisor *supervisor, const struct link_message *message)
{
    (void)message;
    if (supervisor->is_ready)
        return;
    supervisor->is_ready = supervisor->was_ready = true;
    supervisor->is_waiting = false;
    supervisor->since_us = imp_ticks();
    listen_prune(&supervisor->sockets, "");
    imp_log(NULL, IMP_LOG_NOTICE, "server.ready", "pid=%d listeners=%u",
            (int)supervisor->server.pid, supervisor->sockets.count);
    notify_send(&supervisor->notify, "READY=1\nSTATUS=running");
}

static void on_listen(struct supervisor *supervisor, const struct link_message *message)
{
    answer_begin(supervisor, message);
    answer_go_on(supervisor);
}

static void on_listen_done(struct supervisor *supervisor, const struct link_message *message)
{
    listen_prune(&supervisor->sockets, message->module);
}

static void on_listen_drop(struct supervisor *supervisor, const struct link_message *message)
{
    listen_drop(&supervisor->sockets, message->module);
}

static void on_checkpoint(struct supervisor *supervisor, const struct link_message *message)
{
    if (message->value > atomic_load(&supervisor->record->checkpoint))
        atomic_store(&supervisor->record->checkpoint, message->value);
    checkpoint_keep(supervisor);
}

static void on_reloading(struct supervisor *supervisor, const struct link_message *message)
{
    (void)message;
    notify_send(&supervisor->notify, "RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=reloading",
                imp_ticks());
}

/* Our own limits follow the server's, from the files: it says no more than that it is time. What can't
 * change while the server runs it has refused, and nothing of ours reads it again. */
static void settings_read_again(struct supervisor *supervisor)
{
    struct config *next = NULL;
    imp_error error;
    if (config_load(supervisor->config_path, &next, &error) != IMP_OK) {
        imp_log(NULL, IMP_LOG_WARNING, "supervisor.settings_kept", "reason=\"%s\"", error.message);
        return;
    }
    config_free(supervisor->config);
    supervisor->config = next;
    supervisor->core = config_core(next);
}

static void on_reloaded(struct supervisor *supervisor, const struct link_message *message)
{
    if (message->status == IMP_OK)
        settings_read_again(supervisor);
    notify_send(&supervisor->notify, "READY=1\nSTATUS=%s",
                message->status == IMP_OK ? "running"
                                          : "running; the last reload was refused, see the log");
}

static void on_status(struct supervisor *supervisor, const struct link_message *message)
{
    notify_send(&supervisor->notify, "STATUS=%s", message->text);
}

static void on_refused(struct supervisor *supervisor, const struct link_message *message)
{
    /* The server has logged it, and will end. */
    memcpy(supervisor->refusal, message->text, sizeof supervisor->refusal);
    notify_send(&supervisor->notify, "STATUS=%s", message->text);
}

struct link_row {
    uint16_t kind;
    void (*run)(struct supervisor *supervisor, const struct link_message *message);
};

static const struct link_row link_rows[] = {
    {LINK_READY, on_ready},
    {LINK_LISTEN, on_listen},
    {LINK_LISTEN_DONE, on_listen_done},
    {LINK_LISTEN_DROP, on_listen_drop},
    {LINK_CHECKPOINT, on_checkpoint},
    {LINK_RELOADING, on_reloading},
    {LINK_RELOADED, on_reloaded},
    {LINK_STATUS, on_status},
    {LINK_REFUSED, on_refused},
};

static void link_dispatch(struct supervisor *supervisor, const struct link_message *message)
{
    for (size_t i = 0; i < sizeof link_rows / sizeof link_rows[0]; i++) {
        if (link_rows[i].kind == message->kind) {
            link_rows[i].run(supervisor, message);
            return;
        }
    }
    imp_log(NULL, IMP_LOG_WARNING, "supervisor.bad_message", "kind=%u", message->kind);
}

static void link_serve(struct supervisor *supervisor)
{
    for (int i = 0; i < LINK_MESSAGES_A_TURN && !supervisor->answer.is_active; i++) {
        struct link_message message;
        imp_error error;
        int passed;
        imp_status status = link_receive(supervisor->server.link_fd, &message, &passed, &error);
        if (status == IMP_BUSY)
            return;
        if (passed >= 0)
            close(passed);
        if (status == IMP_OK) {
            link_dispatch(supervisor, &message);
        } else if (status == IMP_CORRUPT) {
            imp_log(NULL, IMP_LOG_WARNING, "supervisor.bad_message", "reason=\"%s\"",
                    error.message);
        } else {
            /* It ends, or has closed the link: its death says the rest. */
            process_close_link(&supervisor->server);
            return;
        }
    }
}

/* ---- time ------------------------------------------------------------------------------------- */

static int64_t tick_us(const struct supervisor *supervisor)
{
    int64_t tick = supervisor->core->stall_timeout / 4;
    if (supervisor->notify.watchdog_us > 0 && supervisor->notify.watchdog_us / 3 < tick)
        tick = supervisor->notify.watchdog_us / 3;
    return tick > TICK_MAX_US ? TICK_MAX_US : tick < IMP_MILLISECOND ? IMP_MILLISECOND : tick;
}

static void server_kill(struct supervisor *supervisor, const char *why)
{
    imp_log(NULL, IMP_LOG_ERROR, "server.killed", "pid=%d reason=\"%s\"",
            (int)supervisor->server.pid, why);
    kill(supervisor->server.pid, SIGKILL);
}

static void hearts_check(struct supervisor *supervisor, int64_t now)
{
    if (supervisor->server.pid == 0 || supervisor->is_stopping ||
        supervisor->stalled != CRASH_NO_THREAD)
        return;
    /* Nobody ran while we did not, so nobody could beat; and a debugger may take its time. */
    if (now - supervisor->last_tick_us > 2 * tick_us(supervisor) + IMP_SECOND ||
        process_is_stopped(supervisor->server.pid))
        supervisor->since_us = now;
    if (!supervisor->is_ready) {
        if (now - supervisor->server.restart.started_us > START_LIMIT_US &&
            now - supervisor->since_us > START_LIMIT_US) {
            supervisor->since_us = now;
            server_kill(supervisor, "it did not become ready");
        }
        return;
    }
    uint32_t thread = crash_record_stalled(supervisor->record, now, supervisor->since_us,
                                           supervisor->core->stall_timeout, EXCUSE_CAP_US);
    if (thread == CRASH_NO_THREAD)
        return;
    supervisor->stalled = thread;
    server_kill(supervisor, "a thread's heart stands still");
}

static void restarts_do(struct supervisor *supervisor, int64_t now)
{
    imp_error error;
    struct restart *restart = &supervisor->spawner.restart;
    if (supervisor->is_stopping)
        return;
    if (restart->due_us != 0 && restart->due_us <= now) {
        if (spawner_start(supervisor, &error) != IMP_OK) {
            imp_log(NULL, IMP_LOG_ERROR, "spawner.not_started", "reason=\"%s\"", error.message);
            restart_after_death(restart, now, supervisor->core->restart_delay_max + IMP_SECOND);
        } else if (supervisor->server.pid != 0) {
            struct link_message message;
            int end = -1;
            link_message_set(&message, LINK_SPAWNER, NULL);
            if (spawner_pair(supervisor, &end, &error) == IMP_OK) {
                link_say(supervisor, &message, end);
                close(end);
            }
        }
    }
    restart = &supervisor->server.restart;
    if (restart->due_us != 0 && restart->due_us <= now &&
        server_start(supervisor, &error) != IMP_OK) {
        imp_log(NULL, IMP_LOG_ERROR, "server.not_started", "reason=\"%s\"", error.message);
        restart_after_death(restart, now, supervisor->core->restart_delay_max + IMP_SECOND);
    }
}

/* Does what is due; returns milliseconds until the next turn. */
static int turn(struct supervisor *supervisor)
{
    int64_t now = imp_ticks();
    hearts_check(supervisor, now);
    checkpoint_keep(supervisor);
    if (supervisor->is_stopping && supervisor->server.pid != 0 && now >= supervisor->stop_due_us) {
        server_kill(supervisor, "it did not stop in time");
        supervisor->stop_due_us = now + STOP_SLACK_US;
    }
    restarts_do(supervisor, now);
    if (supervisor->notify.watchdog_us > 0 && now >= supervisor->watchdog_due_us) {
        notify_send(&supervisor->notify, "WATCHDOG=1");
        supervisor->watchdog_due_us = now + supervisor->notify.watchdog_us / 3;
    }
    supervisor->last_tick_us = now;
    int64_t next = now + tick_us(supervisor);
    const int64_t dues[] = {supervisor->spawner.restart.due_us, supervisor->server.restart.due_us,
                            supervisor->is_stopping ? supervisor->stop_due_us : 0};
    for (size_t i = 0; i < sizeof dues / sizeof dues[0]; i++)
        if (dues[i] != 0 && dues[i] < next)
            next = dues[i];
    now = imp_ticks();
    return next <= now ? 0 : (int)((next - now + IMP_MILLISECOND - 1) / IMP_MILLISECOND);
}

/* ---- signals ---------------------------------------------------------------------------------- */

static void signals_serve(struct supervisor *supervisor)
{
    struct signalfd_siginfo info;
    while (read(supervisor->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        struct link_message message;
        switch (info.ssi_signo) {
        case SIGHUP:
            link_message_set(&message, LINK_RELOAD, NULL);
            link_say(supervisor, &message, -1);
            break;
        case SIGINT:
            /* A second ^C: somebody does not want to wait. */
            if (supervisor->is_stopping && supervisor->server.pid != 0)
                server_kill(supervisor, "interrupted again");
            stop_begin(supervisor, "interrupted");
            break;
        case SIGTERM: stop_begin(supervisor, "terminated"); break;
        default: break; /* SIGCHLD: reaped every turn */
        }
    }
}

static imp_status signals_open(struct supervisor *supervisor, imp_error *error)
{
    static const int watched[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++)
        sigaddset(&set, watched[i]);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
        (supervisor->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return imp_error_set(error, IMP_IO, "cannot watch signals: %s", strerror(errno));
    return IMP_OK;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static imp_status key_load(struct supervisor *supervisor, imp_error *error)
{
    uint8_t master[KEYS_MASTER_SIZE];
    imp_status status = keys_master_load_or_make(
        supervisor->core->master_key, !store_exists(supervisor->core->state_dir), master, error);
    if (status == IMP_OK) {
        supervisor->key_fd = keys_master_to_memfd(master);
        if (supervisor->key_fd < 0)
            status =
                imp_error_set(error, IMP_IO, "cannot pass the master key: %s", strerror(errno));
    }
    imp_wipe(master, sizeof master);
    return status;
}

/* Everything that needs what root may do; after it only KEPT_CAPABILITIES are left. */
static imp_status prepare(struct supervisor *supervisor, imp_error *error)
{
    int own_folder = -1;
    imp_status status = config_load(supervisor->config_path, &supervisor->config, error);
    if (status != IMP_OK)
        return status;
    supervisor->core = config_core(supervisor->config);
    if ((status = account_find(supervisor->core, &supervisor->account, error)) != IMP_OK ||
        (status = folders_make(supervisor->core, &supervisor->account, error)) != IMP_OK ||
        (status = folders_lock(supervisor->core, &supervisor->lock_fd, error)) != IMP_OK ||
        (status = listen_refresh(&supervisor->sockets, supervisor->config_path, NULL,
                                 supervisor->core->listen_backlog, error)) != IMP_OK)
        return status;
    /* The spawner comes before any key is read. */
    if ((status = signals_open(supervisor, error)) != IMP_OK ||
        (status = spawner_start(supervisor, error)) != IMP_OK ||
        (status = key_load(supervisor, error)) != IMP_OK)
        return status;
    if ((status = folders_open_own(supervisor->core, &supervisor->account, &own_folder, error)) !=
            IMP_OK ||
        (status = state_load(&supervisor->state, own_folder, error)) != IMP_OK ||
        (status = crash_record_create(&supervisor->record_fd, &supervisor->record, error)) !=
            IMP_OK)
        return status;
    atomic_store(&supervisor->record->checkpoint_remembered, supervisor->state.checkpoint);
    if (supervisor->account.is_changed)
        status = sandbox_keep_capabilities(KEPT_CAPABILITIES, error);
    /* The descriptor of the key is ours too. */
    if (status == IMP_OK && !supervisor->core->developer)
        status = sandbox_forbid_dumps(error);
    return status;
}

static void serve(struct supervisor *supervisor)
{
    while (!supervisor->is_over) {
        int wait_ms = turn(supervisor); /* may start another server */
        struct pollfd watch[] = {
            {.fd = supervisor->signal_fd, .events = POLLIN},
            {.fd = supervisor->server.link_fd,
             .events = supervisor->answer.is_active ? POLLOUT : POLLIN},
        };
        if (supervisor->is_over || (poll(watch, 2, wait_ms) < 0 && errno != EINTR))
            break;
        if (watch[0].revents != 0)
            signals_serve(supervisor);
        if (watch[1].revents != 0 && supervisor->server.link_fd >= 0) {
            if (supervisor->answer.is_active)
                answer_go_on(supervisor);
            link_serve(supervisor);
        }
        reap(supervisor);
    }
}

/* The server has ended, or never ran. */
static void finish(struct supervisor *supervisor)
{
    if (supervisor->spawner.pid > 0) {
        supervisor->is_stopping = true;
        process_close_link(&supervisor->spawner); /* its end of file: it ends itself */
        if (!role_await_end(supervisor->spawner.pid, SPAWNER_END_LIMIT_US))
            imp_log(NULL, IMP_LOG_WARNING, "spawner.killed",
                    "pid=%d reason=\"it did not end in time\"", (int)supervisor->spawner.pid);
    }
    listen_drop(&supervisor->sockets, "");
    const int descriptors[] = {supervisor->lock_fd, supervisor->signal_fd, supervisor->key_fd,
                               supervisor->state.folder_fd};
    for (size_t i = 0; i < sizeof descriptors / sizeof descriptors[0]; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    crash_record_free(supervisor->record_fd, supervisor->record);
    config_free(supervisor->config);
    notify_close(&supervisor->notify);
}

int supervisor_run(const struct supervisor_options *options)
{
    imp_error error = {.status = IMP_OK};
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (supervisor == NULL) {
        imp_error_set(&error, IMP_LIMIT, "not enough memory to start");
        return fail(&error);
    }
    supervisor->config_path = options->config_path;
    supervisor->lock_fd = supervisor->signal_fd = supervisor->key_fd = supervisor->record_fd = -1;
    supervisor->spawner.link_fd = supervisor->server.link_fd = supervisor->state.folder_fd = -1;
    notify_open(&supervisor->notify);
    imp_status status = prepare(supervisor, &error);
    if (status == IMP_OK)
        status = server_start(supervisor, &error);
    if (status == IMP_OK) {
        supervisor->last_tick_us = imp_ticks();
        serve(supervisor);
    } else {
        supervisor->exit_status = fail(&error);
    }
    finish(supervisor);
    int exit_status = supervisor->exit_status;
    free(supervisor);
    return exit_status;
}
