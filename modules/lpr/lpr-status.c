/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-status.c - the answers to commands 03 and 04.
 *
 * RFC 1179 leaves their form open; this is the form of BSD's lpq, which people and scripts know. What
 * a job is called, whose it is and how large it is are shown only to its owner: to a user name among
 * the operands that comes from the host that submitted (where host_is_proof). Everybody else learns
 * how many jobs there are, and the position of a job whose number they know.
 */
#include "lpr.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STATUS_LINES_MAX 200 /* jobs shown to one operand */

struct status {
    imp_stream *stream;
    bool is_long;
    bool has_heading;
    uint32_t lines;
    bool seeks_number;
    uint32_t number;
};

static const char *rank(uint32_t position, bool is_active, char text[16])
{
    static const char *const endings[] = {"th", "st", "nd", "rd"};
    if (is_active)
        return "active";
    uint32_t ending = position % 10 > 3 || position / 10 % 10 == 1 ? 0 : position % 10;
    snprintf(text, 16, "%" PRIu32 "%s", position, endings[ending]);
    return text;
}

static void line_write(struct status *status, const imp_job_view *view)
{
    char text[16], number[16] = "-", bytes[32] = "-";
    const char *place = rank(view->position, view->state == IMP_JOB_PROCESSING, text);
    if (view->is_owner || status->seeks_number)
        snprintf(number, sizeof number, "%03" PRIu32, view->lpd_number);
    if (view->is_owner)
        snprintf(bytes, sizeof bytes, "%" PRIu64 " bytes", view->document_bytes);
    const char *owner = view->owner[0] != '\0' ? view->owner : "-";
    const char *name = view->job_name[0] != '\0' ? view->job_name : "-";
    if (status->is_long) {
        lpr_say(status->stream, "\n%s: %-20s [job %s]\n        %-32.200s %s\n", owner, place,
                number, name, bytes);
        return;
    }
    if (!status->has_heading)
        lpr_say(status->stream, "%-7s %-10s %-4s %-37s %s\n", "Rank", "Owner", "Job", "Files",
                "Total Size");
    status->has_heading = true;
    lpr_say(status->stream, "%-7s %-10.64s %-4s %-37.200s %s\n", place, owner, number, name, bytes);
}

static bool visit(const imp_job_view *view, void *arg)
{
    struct status *status = arg;
    if (status->seeks_number && view->lpd_number != status->number)
        return true;
    if (!status->seeks_number && !view->is_owner)
        return true;
    line_write(status, view);
    return ++status->lines < STATUS_LINES_MAX;
}

void lpr_status(struct lpr *lpr, imp_stream *stream, const struct lpr_command *command)
{
    const struct lpr_conf *conf = lpr->conf;
    imp_queue queue = {.size = sizeof queue};
    imp_status found = command->queue[0] != '\0' ? imp_queue_find(lpr->self, command->queue, &queue)
                                                 : IMP_NOT_FOUND;
    if (found != IMP_OK) {
        lpr_say(stream, "%s: unknown queue\n", command->queue);
        imp_stream_close(stream);
        return;
    }
    lpr_say(stream, "%s is %s%s\n", queue.name, queue.is_accepting ? "ready" : "not accepting jobs",
            queue.release == IMP_QUEUE_HOLD ? " and holds jobs for release" : "");
    if (queue.jobs_queued == 0)
        lpr_say(stream, "no entries\n");
    else
        lpr_say(stream, "%" PRIu64 " %s\n", queue.jobs_queued,
                queue.jobs_queued == 1 ? "job" : "jobs");
    struct status status = {.stream = stream, .is_long = command->code == LPR_STATUS_LONG};
    for (uint32_t i = 0; i < command->operand_count; i++) {
        imp_viewer viewer = {.size = sizeof viewer,
                             .address = imp_stream_peer(stream)->address,
                             .host_is_proof = conf->host_is_proof};
        imp_job_filter filter = {.size = sizeof filter, .queue = queue.name};
        status.seeks_number = lpr_operand_is_number(command->operands[i], &status.number);
        if (!status.seeks_number) {
            viewer.user_name = command->operands[i];
            filter.only_mine = true;
        }
        imp_error error;
        if (imp_job_list(lpr->self, &viewer, &filter, visit, &status, &error) != IMP_OK)
            lpr_say(stream, "%s\n", error.message);
    }
    imp_stream_close(stream);
}
