/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include "core/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backup.h"
#include "core/crash-record.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/module.h"
#include "core/server-private.h"
#include "core/thread.h"
#include "core/worker.h"

#define LAST_LINE_WAIT (2 * IMP_SECOND)
#define WORKS_LIMIT (5 * IMP_SECOND) /* for works that are asked to end, when all else has ended */
#define WORKS_LOOK (5 * IMP_MILLISECOND)

struct server server;

/* ---- running ---- */

static void break_loop(void *arg)
{
    (void)arg;
    loop_break(imp_loop_control());
}

/* The loops still run, so that the last answers get out: behind what the works have posted. */
static void end_loop(void)
{
    if (imp_post(NULL, imp_loop_control(), break_loop, NULL) != IMP_OK)
        break_loop(NULL);
}

static void look_at_works(void *arg)
{
    (void)arg;
    if (worker_unfinished() > 0 && imp_ticks() < server.works_deadline)
        return;
    imp_timer_cancel(server.works_look);
    server.works_look = NULL;
    end_loop();
}

/* What works now is the core's own: nobody is left to use what it finds. */
static void modules_ended(void *arg)
{
    (void)arg;
    worker_refuse();
    server.works_deadline = imp_ticks() + WORKS_LIMIT;
    if (worker_unfinished() > 0)
        server.works_look = imp_timer_start(NULL, WORKS_LOOK, true, look_at_works, NULL);
    if (server.works_look == NULL)
        end_loop();
}

static void withdraw(const struct listener_info *info, void *arg)
{
    (void)arg;
    struct imp_self *self = module_find(info->module);
    if (self != NULL)
        listener_withdraw(self);
}

void server_stop(const char *why)
{
    if (!server.is_running) {
        server.stop_noted = why;
        return;
    }
    if (server.is_stopping)
        return;
    server.is_stopping = true;
    imp_log(NULL, IMP_LOG_NOTICE, "server.stopping", "reason=\"%s\"", why);
    crash_phase_set(CRASH_PHASE_STOPPING);
    /* At all doors at once: the modules drain one after another. */
    listener_each(withdraw, NULL);
    backup_verbs_cancel();
    module_stop_all(modules_ended, NULL);
}

static void on_signal(int number, void *arg)
{
    (void)arg;
    if (number == SIGHUP)
        server_reload_logged();
    else
        server_stop(strsignal(number));
}

imp_status server_signals_begin(imp_error *error)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof(numbers) / sizeof(numbers[0]); i++)
        status = loop_signal(numbers[i], on_signal, NULL);
    return status == IMP_OK ? status : imp_error_set(error, status, "signals can't be watched");
}

/* ---- life ---- */

static void refuse(const imp_error *error)
{
    imp_log(NULL, IMP_LOG_CRITICAL, "server.refused", "reason=\"%s\"", error->message);
    server_link_refused(error);
}

static imp_status open_log(const struct config_core *core, imp_error *error)
{
    imp_status status = log_open((enum log_target)core->log_target, core->log_file,
                                 config_log_level(core), (size_t)core->log_buffer, error);
    return status == IMP_OK ? log_start(error) : status;
}

/* What must be there before anything else can be said or be recorded. */
static imp_status begin(const struct server_params *params, imp_error *error)
{
    imp_status status = config_load(params->config_path, &server.config, error);
    if (status != IMP_OK)
        return status;
    const struct config_core *core = config_core(server.config);
    server.state_dir = strdup(core->state_dir);
    server.module_dir = strdup(core->module_dir);
    if (server.state_dir == NULL || server.module_dir == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    status = open_log(core, error);
    if (status != IMP_OK)
        return status;
    if (params->record_fd >= 0) {
        status = crash_record_attach(params->record_fd, error);
        close(params->record_fd);
        if (status != IMP_OK)
            return status;
        crash_fault_install();
        crash_phase_set(CRASH_PHASE_STARTING);
    }
    thread_register(THREAD_CONTROL, 0, NULL, NULL);
    return IMP_OK;
}

static void end(void)
{
    thread_unregister();
    crash_record_detach();
    log_stop();
    config_free(server.config);
    free(server.state_dir);
    free(server.module_dir);
}

/* The threads of a zombie, or of a work that does not end, may be anywhere: nothing is taken from under
 * them. The store is closed by then as far as it can be: every commit is on the disk. */
static void leave_at_once(const struct module_counts *counts, uint32_t works)
{
    imp_log(NULL, IMP_LOG_WARNING, "server.ended", "zombies=%u works=%u", counts->zombies, works);
    log_flush(LAST_LINE_WAIT);
    worker_leave();
    _exit(server.exit_status);
}

static void be_ready(void)
{
    struct module_counts counts;
    module_count(&counts);
    imp_log(NULL, IMP_LOG_NOTICE, "server.ready", "modules=%u failed=%u", counts.started,
            counts.failed);
    crash_phase_set(CRASH_PHASE_RUNNING);
    server.exit_status = SERVER_EXIT_OK;
    server_link_ready();
    if (server.stop_noted != NULL)
        server_stop(server.stop_noted);
}

/* Started in part: what runs is ended in order. */
static void give_up(const imp_error *error)
{
    refuse(error);
    if (server.stop_noted != NULL)
        server.exit_status = SERVER_EXIT_OK;
    else if (error->status != IMP_UNSUPPORTED)
        server.exit_status = SERVER_EXIT_LATER;
    server_stop("it can't start");
}

int server_run(const struct server_params *params)
{
    imp_error error = {.status = IMP_OK};
    struct module_counts counts;
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    server = (struct server){.params = params, .exit_status = SERVER_EXIT_FAILURE};
    sigaction(SIGPIPE, &ignore, NULL);
    imp_status status = begin(params, &error);
    if (status == IMP_OK)
        status = server_stages_begin(&error);
    if (status != IMP_OK) {
        refuse(&error);
        goto done;
    }
    server.is_running = true;
    if (server.start_failure.status != IMP_OK)
        give_up(&server.start_failure);
    else
        be_ready();
    loop_run(imp_loop_control());

    module_count(&counts);
    uint32_t works = worker_running();
    if (counts.zombies > 0 || works > 0)
        leave_at_once(&counts, works);
    imp_log(NULL, IMP_LOG_NOTICE, "server.ended", "zombies=0");
done:
    server_stages_end();
    end();
    return server.exit_status;
}

/* ---- imprimd --check ---- */

static void print_line(const char *line, void *arg)
{
    (void)arg;
    printf("%s\n", line);
}

int server_check(const char *config_path)
{
    struct config *config = NULL;
    imp_error error = {.status = IMP_OK};
    if (config_load(config_path, &config, &error) != IMP_OK) {
        print_line(error.message, NULL);
        return 1;
    }
    const struct config_core *core = config_core(config);
    struct module_settings settings = {.module_dir = core->module_dir,
                                       .state_dir = core->state_dir,
                                       .installed_dir = IMP_MODULE_DIR,
                                       .is_developer = core->developer};
    uint32_t errors = module_check_all(config, &settings, print_line, NULL);
    config_free(config);
    if (errors == 0)
        print_line("OK", NULL);
    return errors == 0 ? 0 : 1;
}
