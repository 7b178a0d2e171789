/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-status.c - the answers to commands 03 and 04.
 *
 * RFC 1179 leaves their form open; this is the form of BSD's lpq, which people and scripts know. What
 * a job is called, whose it is and how large it is are shown only to its owner: to a user name among
 * the operands that comes from the host that submitted (where host_is_proof). Everybody else learns
 * how many jobs there are, and the position of a job whose number they know.
 *
 * A queue may be long, so it is looked through on a worker, once for all job numbers.
 */
#include "lpr.h"

#include <imprimatur/service.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_LINES_MAX 200 /* jobs shown to one command */
#define STATUS_USERS_MAX                                                                           \
    4u /* users that are answered for, each by a look along the jobs of that user */
#define STATUS_TEXT_MAX ((size_t)64 * 1024) /* of the answer */

struct lpr_query {
    struct lpr *lpr;
    struct lpr_look look;
    imp_stream *stream; /* NULL once it has closed */
    bool is_finished, host_is_proof;
    struct lpr_command command;
    char queue[IMP_NAME_MAX];
    char address[46];
    char *text;
    size_t text_length;
    bool is_long;
    bool has_heading;
    uint32_t lines;
    bool seeks_numbers;
    uint32_t numbers[LPR_OPERANDS_MAX];
    uint32_t number_count;
};

static void say(struct lpr_query *query, const char *format, ...) IMP_PRINTF(2, 3);
static void say(struct lpr_query *query, const char *format, ...)
{
    size_t room = STATUS_TEXT_MAX - query->text_length;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(query->text + query->text_length, room, format, arguments);
    va_end(arguments);
    if (length > 0 && (size_t)length < room) /* else there is no room for this line */
        query->text_length += (size_t)length;
}

static const char *rank(uint32_t position, bool is_active, char text[16])
{
    static const char *const endings[] = {"th", "st", "nd", "rd"};
    if (is_active)
        return "active";
    uint32_t ending = position % 10 > 3 || position / 10 % 10 == 1 ? 0 : position % 10;
    snprintf(text, 16, "%" PRIu32 "%s", position, endings[ending]);
    return text;
}

static void line_write(struct lpr_query *query, const imp_job_view *view)
{
    char text[16], number[16] = "-", bytes[32] = "-";
    const char *place = rank(view->position, view->state == IMP_JOB_PROCESSING, text);
    if (view->is_owner || query->seeks_numbers)
        snprintf(number, sizeof number, "%03" PRIu32, view->lpd_number);
    if (view->is_owner)
        snprintf(bytes, sizeof bytes, "%" PRIu64 " bytes", view->document_bytes);
    const char *owner = view->owner[0] != '\0' ? view->owner : "-";
    const char *name = view->job_name[0] != '\0' ? view->job_name : "-";
    if (query->is_long) {
        say(query, "\n%s: %-20s [job %s]\n        %-32.200s %s\n", owner, place, number, name,
            bytes);
        return;
    }
    if (!query->has_heading)
        say(query, "%-7s %-10s %-4s %-37s %s\n", "Rank", "Owner", "Job", "Files", "Total Size");
    query->has_heading = true;
    say(query, "%-7s %-10.64s %-4s %-37.200s %s\n", place, owner, number, name, bytes);
}

static bool is_asked_for(const struct lpr_query *query, uint32_t number)
{
    uint32_t i = 0;
    while (i < query->number_count && query->numbers[i] != number)
        i++;
    return i < query->number_count;
}

static bool visit(const imp_job_view *view, void *arg)
{
    struct lpr_query *query = arg;
    if (query->seeks_numbers ? !is_asked_for(query, view->lpd_number) : !view->is_owner)
        return true;
    line_write(query, view);
    return ++query->lines < STATUS_LINES_MAX;
}

static void list(struct lpr_query *query, const char *user)
{
    imp_error error;
    imp_viewer viewer = {.size = sizeof viewer,
                         .user_name = user,
                         .address = query->address,
                         .host_is_proof = query->host_is_proof};
    imp_job_filter filter = {
        .size = sizeof filter,
        .queue = query->queue,
        .limit = UINT32_MAX, /* visit() knows when it is enough */
        .only_mine = user != NULL,
    };
    query->seeks_numbers = user == NULL;
    if (imp_job_list(query->lpr->self, &viewer, &filter, visit, query, &error) != IMP_OK)
        say(query, "%s\n", error.message);
}

/* A look along the jobs of each user, and one through the queue for all numbers. On a worker. */
static void look(void *arg)
{
    struct lpr_query *query = arg;
    const struct lpr_command *command = &query->command;
    uint32_t users = 0;
    for (uint32_t i = 0; i < command->operand_count; i++) {
        uint32_t number;
        if (lpr_operand_is_number(command->operands[i], &number))
            query->numbers[query->number_count++] = number;
        else if (++users <= STATUS_USERS_MAX)
            list(query, command->operands[i]);
    }
    if (query->number_count != 0 && query->lines < STATUS_LINES_MAX)
        list(query, NULL);
    if (users > STATUS_USERS_MAX)
        say(query, "only %u names are answered at one time\n", STATUS_USERS_MAX);
}

static void query_free(struct lpr_query *query)
{
    imp_unpin(query->lpr->self, "query");
    if (query->text != NULL)
        imp_wipe(query->text, query->text_length);
    free(query->text);
    imp_wipe(query, sizeof *query);
    free(query);
}

static void query_end(struct lpr_query *query)
{
    query->is_finished = true;
    if (query->stream == NULL)
        query_free(query);
    else
        imp_stream_close(query->stream);
}

static void looked(void *arg, bool was_cancelled)
{
    struct lpr_query *query = arg;
    if (query->stream != NULL && !was_cancelled)
        imp_stream_write(query->stream, query->text, query->text_length);
    query_end(query);
}

struct lpr_query *lpr_status(struct lpr *lpr, imp_stream *stream, const struct lpr_command *command)
{
    const struct lpr_conf *conf = lpr->conf;
    imp_queue queue = {.size = sizeof queue};
    struct lpr_query *query = NULL;
    imp_status found = command->queue[0] != '\0' ? imp_queue_find(lpr->self, command->queue, &queue)
                                                 : IMP_NOT_FOUND;
    if (found != IMP_OK) {
        lpr_say(stream, "%s: unknown queue\n", command->queue);
        imp_stream_close(stream);
        return NULL;
    }
    lpr_say(stream, "%s is %s%s\n", queue.name, queue.is_accepting ? "ready" : "not accepting jobs",
            queue.release == IMP_QUEUE_HOLD ? " and holds jobs for release" : "");
    if (queue.jobs_queued == 0)
        lpr_say(stream, "no entries\n");
    else
        lpr_say(stream, "%" PRIu64 " %s\n", queue.jobs_queued,
                queue.jobs_queued == 1 ? "job" : "jobs");
    if (command->operand_count == 0 || (query = calloc(1, sizeof *query)) == NULL) {
        imp_stream_close(stream);
        return NULL;
    }
    imp_pin(lpr->self, "query");
    query->lpr = lpr;
    query->stream = stream;
    query->host_is_proof = conf->host_is_proof;
    query->command = *command;
    query->is_long = command->code == LPR_STATUS_LONG;
    memcpy(query->queue, queue.name, sizeof query->queue);
    memcpy(query->address, imp_stream_peer(stream)->address, sizeof query->address);
    query->text = malloc(STATUS_TEXT_MAX);
    if (query->text == NULL || !lpr_look_begin(&lpr->looks, &query->look, look, looked, query)) {
        lpr_say(stream, "busy, try again later\n");
        query->is_finished = true;
        imp_stream_close(stream);
    }
    return query;
}

void lpr_query_forget(struct lpr_query *query)
{
    query->stream = NULL;
    lpr_look_forget(&query->look);
    if (query->is_finished)
        query_free(query);
}
