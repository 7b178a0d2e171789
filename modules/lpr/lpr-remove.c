/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-remove.c - command 05: removing one's own jobs.
 *
 * Only the one who proves to be the owner may: the agent's name together with the submitting host,
 * where host_is_proof. Without operands it is the agent's first job in the queue, as BSD's lprm has it.
 * Operands that are user names other than the agent's name nothing.
 *
 * A queue may be long, so it is looked through on a worker.
 */
#include "lpr.h"

#include <imprimatur/service.h>

#include <stdlib.h>
#include <string.h>

#define REMOVE_MAX 100 /* jobs one command removes */

struct lpr_removal {
    struct lpr *lpr;
    struct lpr_look look;
    imp_stream *stream; /* NULL once it has closed */
    bool is_finished, host_is_proof;
    struct lpr_command command;
    char queue[IMP_NAME_MAX];
    imp_status found; /* of the look through the queue */
    imp_error error;
    char agent[IMP_NAME_MAX];
    char address[46];
    uint32_t count, next;
    struct {
        imp_id id;
        uint32_t number;
    } jobs[REMOVE_MAX];
};

static bool is_wanted(const struct lpr_removal *removal, const imp_job_view *view)
{
    const struct lpr_command *command = &removal->command;
    uint32_t number;
    if (command->operand_count == 0)
        return removal->count == 0;
    for (uint32_t i = 0; i < command->operand_count; i++) {
        if (lpr_operand_is_number(command->operands[i], &number)) {
            if (number == view->lpd_number)
                return true;
        } else if (strcmp(command->operands[i], "-") == 0 ||
                   strcmp(command->operands[i], command->agent) == 0) {
            return true;
        }
    }
    return false;
}

static bool collect(const imp_job_view *view, void *arg)
{
    struct lpr_removal *removal = arg;
    if (view->is_owner && is_wanted(removal, view)) {
        removal->jobs[removal->count].id = view->id;
        removal->jobs[removal->count++].number = view->lpd_number;
    }
    return removal->count < REMOVE_MAX;
}

static void removal_free(struct lpr_removal *removal)
{
    imp_unpin(removal->lpr->self, "removal");
    imp_wipe(removal, sizeof *removal);
    free(removal);
}

static void remove_next(struct lpr_removal *removal);

static void removed(imp_status status, const imp_error *error, void *arg)
{
    struct lpr_removal *removal = arg;
    uint32_t number = removal->jobs[removal->next++].number;
    if (removal->stream != NULL) {
        if (status == IMP_OK)
            lpr_say(removal->stream, "job %03u removed\n", number);
        else
            lpr_say(removal->stream, "job %03u: %s\n", number,
                    error != NULL ? error->message : imp_status_name(status));
    }
    remove_next(removal);
}

static void remove_next(struct lpr_removal *removal)
{
    if (removal->next < removal->count) {
        imp_viewer viewer = {.size = sizeof viewer,
                             .user_name = removal->agent,
                             .address = removal->address,
                             .host_is_proof = removal->lpr->conf->host_is_proof};
        imp_job_cancel(removal->lpr->self, &removal->jobs[removal->next].id, &viewer, removed,
                       removal);
        return;
    }
    removal->is_finished = true;
    if (removal->stream != NULL)
        imp_stream_close(removal->stream);
    else
        removal_free(removal);
}

static void look(void *arg)
{
    struct lpr_removal *removal = arg;
    imp_viewer viewer = {.size = sizeof viewer,
                         .user_name = removal->agent,
                         .address = removal->address,
                         .host_is_proof = removal->host_is_proof};
    imp_job_filter filter = {.size = sizeof filter, .queue = removal->queue, .only_mine = true};
    removal->found =
        imp_job_list(removal->lpr->self, &viewer, &filter, collect, removal, &removal->error);
}

static void looked(void *arg, bool was_cancelled)
{
    struct lpr_removal *removal = arg;
    if (removal->stream != NULL && removal->found != IMP_OK)
        lpr_say(removal->stream, "%s\n", removal->error.message);
    else if (removal->stream != NULL && removal->count == 0 && !was_cancelled)
        lpr_say(removal->stream, "no job of yours to remove\n");
    remove_next(removal);
}

struct lpr_removal *lpr_remove(struct lpr *lpr, imp_stream *stream,
                               const struct lpr_command *command)
{
    imp_queue queue = {.size = sizeof queue};
    struct lpr_removal *removal = calloc(1, sizeof *removal);
    if (removal == NULL) {
        imp_stream_close(stream);
        return NULL;
    }
    imp_pin(lpr->self, "removal");
    removal->lpr = lpr;
    removal->stream = stream;
    removal->command = *command;
    removal->host_is_proof = lpr->conf->host_is_proof;
    memcpy(removal->agent, command->agent, sizeof removal->agent);
    memcpy(removal->address, imp_stream_peer(stream)->address, sizeof removal->address);
    if (imp_queue_find(lpr->self, command->queue, &queue) != IMP_OK) {
        lpr_say(stream, "%s: unknown queue\n", command->queue);
        removal->is_finished = true;
        imp_stream_close(stream);
        return removal;
    }
    memcpy(removal->queue, queue.name, sizeof removal->queue);
    if (!lpr_look_begin(&lpr->looks, &removal->look, look, looked, removal)) {
        lpr_say(stream, "busy, try again later\n");
        removal->is_finished = true;
        imp_stream_close(stream);
    }
    return removal;
}

void lpr_removal_forget(struct lpr_removal *removal)
{
    removal->stream = NULL;
    lpr_look_forget(&removal->look);
    if (removal->is_finished)
        removal_free(removal);
}
