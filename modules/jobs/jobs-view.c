/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-view.h"

#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-intake.h"
#include "modules/jobs/jobs-queue.h"

#define LIST_LIMIT 1000u

/* A queue as one listing knows it: its name, and how many of its jobs have come by. */
struct seen_queue {
    imp_id id;
    uint32_t position;
    char name[IMP_NAME_MAX];
};

struct listing {
    struct jobs *jobs;
    imp_tx *tx;
    const imp_viewer *viewer;
    const imp_job_filter *filter;
    bool (*visit)(const imp_job_view *view, void *arg);
    void *arg;
    uint32_t left;
    bool asks_hook;
    uint8_t submitter[INTAKE_SUBMITTER_SIZE];
    bool has_submitter;

    struct seen_queue *queues;
    size_t queue_count, queue_room, queue_last;
    imp_id device_id; /* the device that was looked up last */
    imp_device device;
    Personal *personal; /* of the view that is shown */
    imp_principal principal;
};

/* ---- ownership ---- */

static bool make_submitter(struct jobs *jobs, const imp_viewer *viewer,
                           uint8_t submitter[INTAKE_SUBMITTER_SIZE])
{
    if (!viewer->host_is_proof || viewer->user_name == NULL || viewer->address == NULL ||
        viewer->user_name[0] == '\0' || viewer->address[0] == '\0')
        return false;
    intake_submitter(jobs, viewer->user_name, viewer->address, submitter);
    return true;
}

static bool owns(const imp_viewer *viewer, const Job *job, const uint8_t *submitter)
{
    if (!imp_id_is_zero(viewer->principal) && record_id_is(job->owner, viewer->principal))
        return true;
    return submitter != NULL && job->submitter.len == INTAKE_SUBMITTER_SIZE &&
           imp_equal_constant_time(job->submitter.data, submitter, INTAKE_SUBMITTER_SIZE);
}

bool view_is_owner(struct jobs *jobs, const imp_viewer *viewer, const Job *job)
{
    uint8_t submitter[INTAKE_SUBMITTER_SIZE];
    bool has_submitter = make_submitter(jobs, viewer, submitter);
    return owns(viewer, job, has_submitter ? submitter : NULL);
}

/* ---- one view ---- */

static struct seen_queue *queue_of(struct listing *listing, imp_id id)
{
    if (listing->queue_last < listing->queue_count &&
        imp_id_equal(listing->queues[listing->queue_last].id, id))
        return &listing->queues[listing->queue_last];
    for (size_t i = 0; i < listing->queue_count; i++) {
        if (imp_id_equal(listing->queues[i].id, id)) {
            listing->queue_last = i;
            return &listing->queues[i];
        }
    }
    if (listing->queue_count == listing->queue_room) {
        size_t room = listing->queue_room == 0 ? 8 : listing->queue_room * 2;
        struct seen_queue *more = realloc(listing->queues, room * sizeof *more);
        if (more == NULL)
            return NULL;
        listing->queues = more;
        listing->queue_room = room;
    }
    listing->queue_last = listing->queue_count++;
    struct seen_queue *queue = &listing->queues[listing->queue_last];
    imp_status status;
    Queue *record = queue_load(listing->jobs, listing->tx, &id, &status);
    *queue = (struct seen_queue){.id = id};
    if (record != NULL)
        imp_text_clean(queue->name, sizeof queue->name, record->name, strlen(record->name));
    return queue;
}

static const char *device_name(struct listing *listing, const Job *job)
{
    imp_id id = record_id_get(job->device);
    if (imp_id_is_zero(id))
        return "";
    if (!imp_id_equal(id, listing->device_id)) {
        listing->device_id = id;
        listing->device.size = sizeof listing->device;
        if (imp_device_get(listing->jobs->self, &id, &listing->device) != IMP_OK)
            listing->device.name[0] = '\0';
    }
    return listing->device.name;
}

static void load_personal(struct listing *listing, const Job *job)
{
    struct jobs *jobs = listing->jobs;
    uint8_t row[JOBS_SEQUENCE_SIZE];
    struct spool_key key;
    imp_bytes sealed;
    size_t length = 0;
    jobs_put_u64(row, job->sequence);
    if (job->text.len == 0 ||
        spool_key_unpack((imp_bytes){job->text.data, job->text.len}, &key) != IMP_OK ||
        imp_tx_get(listing->tx, jobs->tables.personal, (imp_bytes){row, sizeof row}, &sealed) !=
            IMP_OK ||
        sealed.length < SPOOL_STRINGS_OVERHEAD)
        return;
    uint8_t *plain = malloc(sealed.length);
    if (plain != NULL &&
        spool_strings_open(jobs->spool, &key, sealed, plain, &length, NULL) == IMP_OK)
        listing->personal = record_decode(NULL, PERSONAL_TYPE, (imp_bytes){plain, length});
    if (plain != NULL)
        imp_wipe(plain, sealed.length);
    free(plain);
    imp_wipe(&key, sizeof key);
}

static void forget_personal(struct listing *listing)
{
    if (listing->personal == NULL)
        return;
    imp_wipe(listing->personal->job_name, strlen(listing->personal->job_name));
    imp_wipe(listing->personal->user_name, strlen(listing->personal->user_name));
    record_free(listing->personal);
    listing->personal = NULL;
}

/* False when the listing is over. */
static bool show(struct listing *listing, const Job *job, uint32_t position)
{
    const imp_viewer *viewer = listing->viewer;
    bool is_owner = owns(viewer, job, listing->has_submitter ? listing->submitter : NULL);
    imp_job_view_argument argument = {
        .size = sizeof argument,
        .viewer = viewer,
        .owner_id = record_id_get(job->owner),
        .is_owner = is_owner,
        .show_owner = is_owner,
        .show_name = is_owner,
    };
    if (listing->filter->only_mine && !is_owner)
        return true;
    struct seen_queue *queue = queue_of(listing, record_id_get(job->queue));
    if (queue == NULL)
        return false;
    if (listing->asks_hook) {
        imp_job_view_argument answer = argument;
        if (imp_hook_ask_now(listing->jobs->self, "job.view", &answer, NULL) != IMP_OK)
            answer.show_owner = answer.show_name = false;
        /* A hook may only take away. */
        argument.show_owner = argument.show_owner && answer.show_owner;
        argument.show_name = argument.show_name && answer.show_name;
    }
    if (argument.show_owner || argument.show_name)
        load_personal(listing, job);
    bool shows_owner_id = argument.show_owner || viewer->is_administrator;
    imp_job_view view = {
        .size = sizeof view,
        .id = record_id_get(job->id),
        .job_id = job_number(job->sequence),
        .lpd_number = job->lpd_number,
        .state = job_situation_state(job->situation),
        .reasons = job_situation_reasons(job->situation),
        .queue = queue->name,
        .position = position,
        .is_owner = is_owner,
        .is_delivery_uncertain = job->situation == JOB_UNCERTAIN,
        .owner =
            argument.show_owner && listing->personal != NULL ? listing->personal->user_name : "",
        .job_name =
            argument.show_name && listing->personal != NULL ? listing->personal->job_name : "",
        .document_bytes = job->bytes,
        .document_count = (uint32_t)job->n_documents,
        .received = job->received,
        .expires = job_situation_is_final(job->situation) ? 0 : job->expires,
        .last_device = viewer->is_administrator || is_owner ? device_name(listing, job) : "",
    };
    if (shows_owner_id)
        view.owner_id = argument.owner_id;
    bool goes_on = listing->visit(&view, listing->arg);
    forget_personal(listing);
    return goes_on && --listing->left != 0;
}

/* ---- walks ---- */

/* Decodes on the heap, so that a long walk does not fill the transaction's arena. */
static bool show_row(struct listing *listing, imp_bytes value)
{
    Job *job = record_decode(NULL, JOB_TYPE, value);
    bool goes_on = true;
    if (job == NULL)
        return true; /* the backup's and the store's checks report it */
    bool is_final = job_situation_is_final(job->situation);
    struct seen_queue *queue = NULL;
    if (!is_final) {
        queue = queue_of(listing, record_id_get(job->queue));
        if (queue != NULL)
            queue->position++;
    }
    if (!is_final || listing->filter->include_final)
        goes_on = show(listing, job, queue == NULL ? 0 : queue->position);
    record_free(job);
    return goes_on;
}

static imp_status walk_all(struct listing *listing, const imp_id *only_queue)
{
    imp_cursor *cursor;
    imp_bytes key, value;
    imp_status status =
        imp_cursor_open(listing->tx, listing->jobs->tables.job, (imp_bytes){"", 0}, &cursor);
    if (status != IMP_OK)
        return status;
    while ((status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
        if (only_queue != NULL) {
            Job *job = record_decode(NULL, JOB_TYPE, value);
            bool is_other = job == NULL || !record_id_is(job->queue, *only_queue);
            record_free(job);
            if (is_other)
                continue;
        }
        if (!show_row(listing, value))
            break;
    }
    imp_cursor_close(cursor);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* The jobs of an index (a queue's active ones, or an owner's), whose keys are an id and the sequence.
 * Each line costs one look-up. */
static imp_status walk_index(struct listing *listing, imp_table *index, const imp_id *id)
{
    imp_cursor *cursor;
    imp_bytes key, value;
    imp_status status = imp_cursor_open(listing->tx, index, jobs_bytes_of_id(id), &cursor);
    if (status != IMP_OK)
        return status;
    while ((status = imp_cursor_next(cursor, &key, NULL)) == IMP_OK) {
        if (key.length != 16 + JOBS_SEQUENCE_SIZE || memcmp(key.data, id->bytes, 16) != 0)
            break;
        imp_bytes sequence = {(const uint8_t *)key.data + 16, JOBS_SEQUENCE_SIZE};
        imp_status found = imp_tx_get(listing->tx, listing->jobs->tables.job, sequence, &value);
        if (found == IMP_OK && !show_row(listing, value))
            break;
    }
    imp_cursor_close(cursor);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

imp_status view_list(struct jobs *jobs, const imp_viewer *viewer, const imp_job_filter *filter,
                     bool (*visit)(const imp_job_view *view, void *arg), void *arg,
                     imp_error *error)
{
    struct listing listing = {
        .jobs = jobs,
        .viewer = viewer,
        .filter = filter,
        .visit = visit,
        .arg = arg,
        .left = filter->limit == 0 ? LIST_LIMIT : filter->limit,
        .asks_hook = imp_hook_count("job.view") != 0,
    };
    imp_id queue_id = {{0}};
    imp_status status = imp_store_read_begin(jobs->self, &listing.tx, error);
    if (status != IMP_OK)
        return status;
    listing.has_submitter = make_submitter(jobs, viewer, listing.submitter);
    if (filter->queue != NULL) {
        Queue *queue = queue_load_by_name(jobs, listing.tx, filter->queue, &status);
        if (queue == NULL) {
            imp_error_set(error, status, "there is no queue '%s'", filter->queue);
            goto done;
        }
        queue_id = record_id_get(queue->id);
    }
    if (filter->queue != NULL && !filter->include_final)
        status = walk_index(&listing, jobs->tables.queued, &queue_id);
    else
        status = walk_all(&listing, filter->queue == NULL ? NULL : &queue_id);
    if (status != IMP_OK)
        imp_error_set(error, status, "the jobs can't be read: %s", imp_status_name(status));
done:
    imp_store_read_end(listing.tx);
    free(listing.queues);
    return status;
}

/* ---- finding one ---- */

/* The newest sequence, or 0. */
static uint64_t newest(struct jobs *jobs, imp_tx *tx)
{
    imp_cursor *cursor;
    imp_bytes key;
    uint64_t sequence = 0;
    if (imp_cursor_open(tx, jobs->tables.job, (imp_bytes){"", 0}, &cursor) != IMP_OK)
        return 0;
    if (imp_cursor_previous(cursor, &key, NULL) == IMP_OK && key.length == JOBS_SEQUENCE_SIZE)
        sequence = jobs_get_u64(key.data);
    imp_cursor_close(cursor);
    return sequence;
}

imp_status view_find(struct jobs *jobs, const char *text, imp_id *job)
{
    imp_tx *tx;
    imp_status status;
    Job *record = NULL;
    if ((status = imp_store_read_begin(jobs->self, &tx, NULL)) != IMP_OK)
        return status;
    if (imp_id_parse(text, job) == IMP_OK) {
        record = job_load(jobs, tx, job, &status);
    } else {
        char *end;
        unsigned long number = strtoul(text, &end, 10);
        uint64_t last = newest(jobs, tx);
        status = IMP_NOT_FOUND;
        if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && number >= 1 &&
            number <= INT32_MAX && last != 0) {
            /* Job-ids are sequences folded into 31 bits: the newest job of that number is meant. */
            uint64_t sequence = (last - 1) / INT32_MAX * INT32_MAX + number;
            if (sequence > last && sequence > INT32_MAX)
                sequence -= INT32_MAX;
            record = job_load_sequence(jobs, tx, sequence, &status);
        }
    }
    if (record != NULL)
        *job = record_id_get(record->id);
    imp_store_read_end(tx);
    return status;
}
