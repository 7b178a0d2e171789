/* SPDX-License-Identifier: Apache-2.0 */
/* ctl-offline.c - what imprimctl does without a server: restoring and checking backups. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/backup.h"
#include "core/config-private.h"
#include "core/ctl/ctl.h"
#include "core/keys.h"
#include "core/supervisor-private.h"

/* An instance that does not run, as its configuration names it. */
struct offline {
    struct config_block *block;
    const struct config_core *core;
    struct account account;
    int backup_fd, lock_fd;
    uint8_t master[KEYS_MASTER_SIZE];
};

struct offline_verb {
    const char *words[2];
    bool is_only_offline;
    imp_status (*run)(struct offline *offline, struct backup_report *report, imp_error *error);
};

static imp_status run_restore(struct offline *offline, struct backup_report *report,
                              imp_error *error)
{
    return backup_restore(offline->backup_fd, offline->core->state_dir, offline->master, report,
                          error);
}

static imp_status run_verify(struct offline *offline, struct backup_report *report,
                             imp_error *error)
{
    return backup_verify(offline->backup_fd, offline->core->run_dir, offline->master, report,
                         error);
}

static const struct offline_verb verbs[] = {
    {{"backup", "restore"}, true, run_restore},
    {{"backup", "verify"}, false, run_verify},
};

static const struct offline_verb *verb_find(char *const *words, int count)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (count >= 2 && strcmp(words[0], verbs[i].words[0]) == 0 &&
            strcmp(words[1], verbs[i].words[1]) == 0)
            return &verbs[i];
    return NULL;
}

bool ctl_offline_knows(char *const *words, int count, bool *is_only_offline)
{
    const struct offline_verb *verb = verb_find(words, count);
    *is_only_offline = verb != NULL && verb->is_only_offline;
    return verb != NULL;
}

/* Files are opened with the rights of who calls; what is made belongs to the server's user. */
static imp_status offline_open(struct offline *offline, const char *config, const char *file,
                               imp_error *error)
{
    imp_status status = config_core_read(config, NULL, &offline->block, error);
    if (status != IMP_OK)
        return status;
    offline->core = config_block_data(offline->block);
    offline->backup_fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (offline->backup_fd < 0)
        return imp_error_set(error, IMP_NOT_FOUND, "%s: %s", file, strerror(errno));
    const char *key = offline->core->master_key;
    if (key[0] == '/' && access(key, F_OK) != 0 && errno == ENOENT)
        return imp_error_set(
            error, IMP_NOT_FOUND,
            "master key %s is missing; put the key file of the instance there that "
            "made the backup",
            key);
    status = keys_master_load_or_make(key, false, offline->master, error);
    if (status == IMP_OK)
        status = account_find(offline->core, &offline->account, error);
    if (status == IMP_OK)
        status = folders_make(offline->core, &offline->account, error);
    if (status == IMP_OK)
        status = folders_lock(offline->core, &offline->lock_fd, error);
    if (status == IMP_OK)
        status = account_enter(&offline->account, error);
    return status;
}

static bool print_report(const struct backup_report *report, const struct offline_verb *verb,
                         bool is_json)
{
    struct ctl_printer printer = {.is_json = is_json};
    char store[IMP_ID_TEXT_SIZE];
    json_t *row = json_object();
    json_object_set_new(row, "store", json_string(imp_id_format(report->store_id, store)));
    json_object_set_new(row, "sequence", json_integer((json_int_t)report->sequence));
    json_object_set_new(row, "tables", json_integer((json_int_t)report->tables));
    json_object_set_new(row, "records", json_integer((json_int_t)report->records));
    json_object_set_new(row, "bytes", json_integer((json_int_t)report->bytes));
    if (!verb->is_only_offline)
        json_object_set_new(row, "seals_opened", json_integer((json_int_t)report->seals));
    json_t *frame = json_pack("{s:[o], s:b}", "rows", row, "single", 1);
    bool is_printed = frame != NULL && ctl_print(&printer, frame);
    json_decref(frame);
    return ctl_print_end(&printer) && is_printed;
}

imp_status ctl_offline_run(const char *config, char *const *words, int count, bool is_json,
                           imp_error *error)
{
    const struct offline_verb *verb = verb_find(words, count);
    struct offline offline = {.backup_fd = -1, .lock_fd = -1};
    struct backup_report report = {.bytes = 0};
    if (verb == NULL || count != 3)
        return imp_error_set(error, IMP_INVALID, "usage: imprimctl --config FILE backup %s FILE",
                             verb == NULL ? "verify" : verb->words[1]);
    if (config == NULL)
        return imp_error_set(error, IMP_INVALID,
                             "backup %s without a running server needs --config FILE",
                             verb->words[1]);
    imp_status status = offline_open(&offline, config, words[2], error);
    if (status == IMP_OK)
        status = verb->run(&offline, &report, error);
    imp_wipe(offline.master, sizeof offline.master);
    if (status == IMP_OK && !print_report(&report, verb, is_json))
        status = imp_error_set(error, IMP_IO, "standard output did not take the answer");
    if (status == IMP_OK && verb->is_only_offline)
        fprintf(stderr,
                "restored into %s; documents are not in backups: the next start aborts the "
                "jobs that waited with theirs and logs how many\n",
                offline.core->state_dir);
    if (offline.backup_fd >= 0)
        close(offline.backup_fd);
    if (offline.lock_fd >= 0)
        close(offline.lock_fd);
    config_block_free(offline.block);
    return status;
}
