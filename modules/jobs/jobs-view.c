/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-view.h"

#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-intake.h"
#include "modules/jobs/jobs-queue.h"

#define LIST_LIMIT 1000u

/* A queue as one listing knows it: its name, and a walk over its active jobs that counts them. */
struct seen_queue {
    imp_id id;
    imp_cursor *cursor; /* in the transaction of now; a later one goes on where it stood */
    uint64_t at;        /* the job it stands on; UINT64_MAX: it is over */
    uint32_t position;  /* of that job */
    char name[IMP_NAME_MAX];
};

/* An index that the listing goes along: keys are a prefix and the sequence of a job. */
struct source {
    imp_table *table;
    uint8_t prefix[16];
    size_t prefix_length;
    imp_cursor *cursor;
    uint64_t at; /* UINT64_MAX: it is over */
};

struct listing {
    struct jobs *jobs;
    imp_tx *tx;
    const imp_viewer *viewer;
    const imp_job_filter *filter;
    bool (*visit)(const imp_job_view *view, void *arg);
    void *arg;
    uint32_t left, looks_left; /* jobs to be shown; rows to be read in this transaction */
    uint32_t steps_left;       /* keys to be passed for positions in this transaction */
    uint64_t after;            /* the last one that was looked at */
    bool asks_hook;
    struct source *sources;
    size_t source_count, source_room;
    imp_id only_queue; /* zero: all */
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
    imp_id id = imp_id_of_field(job->device);
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
        listing->personal = imp_message_decode(NULL, PERSONAL_TYPE, (imp_bytes){plain, length});
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
    imp_message_free(listing->personal);
    listing->personal = NULL;
}

static uint32_t position_of(struct listing *listing, struct seen_queue *queue, uint64_t sequence);

/* False when the listing is over. */
static bool show(struct listing *listing, const Job *job, bool is_final)
{
    const imp_viewer *viewer = listing->viewer;
    bool is_owner = owns(viewer, job, listing->has_submitter ? listing->submitter : NULL);
    imp_job_view_argument argument = {
        .size = sizeof argument,
        .viewer = viewer,
        .owner_id = imp_id_of_field(job->owner),
        .is_owner = is_owner,
        .show_owner = is_owner,
        .show_name = is_owner,
    };
    if (listing->filter->only_mine && !is_owner)
        return true;
    struct seen_queue *queue = queue_of(listing, imp_id_of_field(job->queue));
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
        .id = imp_id_of_field(job->id),
        .job_id = job_number(job->sequence),
        .lpd_number = job->lpd_number,
        .state = job_situation_state(job->situation),
        .reasons = job_situation_reasons(job->situation),
        .queue = queue->name,
        .position = is_final ? 0 : position_of(listing, queue, job->sequence),
        .is_owner = is_owner,
        .is_delivery_uncertain = job->situation == JOB_UNCERTAIN,
        .owner =
            argument.show_owner && listing->personal != NULL ? listing->personal->user_name : "",
        .job_name =
            argument.show_name && listing->personal != NULL ? listing->personal->job_name : "",
        .document_bytes = job->bytes,
        .document_count = (uint32_t)job->n_documents,
        .sequence = job->sequence,
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

/* Steps to the next key of a walk along an index; its sequence, or UINT64_MAX at the end. */
static imp_status index_next(imp_cursor *cursor, const uint8_t *prefix, size_t prefix_length,
                             uint64_t *at)
{
    imp_bytes key;
    imp_status status = imp_cursor_next(cursor, &key, NULL);
    *at = UINT64_MAX;
    if (status == IMP_OK && key.length == prefix_length + JOBS_SEQUENCE_SIZE &&
        memcmp(key.data, prefix, prefix_length) == 0)
        *at = jobs_get_u64((const uint8_t *)key.data + prefix_length);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

static imp_status index_open(imp_tx *tx, imp_table *table, const uint8_t *prefix,
                             size_t prefix_length, uint64_t from, imp_cursor **cursor)
{
    uint8_t key[16 + JOBS_SEQUENCE_SIZE];
    memcpy(key, prefix, prefix_length);
    jobs_put_u64(key + prefix_length, from);
    return imp_cursor_open(tx, table, (imp_bytes){key, prefix_length + JOBS_SEQUENCE_SIZE}, cursor);
}

/* The place of a job among the active ones of its queue. Keys alone are read, each once a listing. */
static uint32_t position_of(struct listing *listing, struct seen_queue *queue, uint64_t sequence)
{
    imp_table *table = listing->jobs->tables.queued;
    if (queue->cursor == NULL && index_open(listing->tx, table, queue->id.bytes, 16, queue->at + 1,
                                            &queue->cursor) != IMP_OK)
        queue->cursor = NULL;
    while (queue->cursor != NULL && queue->at < sequence &&
           index_next(queue->cursor, queue->id.bytes, 16, &queue->at) == IMP_OK) {
        queue->position++;
        listing->steps_left -= listing->steps_left == 0 ? 0 : 1;
    }
    return queue->at == sequence ? queue->position : 0;
}

/* Decodes on the heap, so that a long walk does not fill the transaction's arena. */
static bool show_row(struct listing *listing, imp_bytes value)
{
    Job *job = imp_message_decode(NULL, JOB_TYPE, value);
    bool goes_on = true;
    if (job == NULL)
        return true; /* the backup's and the store's checks report it */
    bool is_final = job_situation_is_final(job->situation);
    bool is_wanted =
        imp_id_is_zero(listing->only_queue) || record_id_is(job->queue, listing->only_queue);
    if (is_wanted && (!is_final || listing->filter->include_final))
        goes_on = show(listing, job, is_final);
    imp_message_free(job);
    return goes_on;
}

/* Shows the jobs of all sources in the order of their sequence, until the listing is over or this
 * transaction has lasted long enough. */
static imp_status walk(struct listing *listing, bool *is_over)
{
    *is_over = false;
    while (listing->looks_left > 0 && listing->steps_left > 0) {
        uint64_t least = UINT64_MAX;
        uint8_t key[JOBS_SEQUENCE_SIZE];
        imp_bytes value;
        for (size_t i = 0; i < listing->source_count; i++)
            least = listing->sources[i].at < least ? listing->sources[i].at : least;
        *is_over = least == UINT64_MAX;
        if (*is_over)
            return IMP_OK;
        jobs_put_u64(key, least);
        imp_status found = imp_tx_get(listing->tx, listing->jobs->tables.job,
                                      (imp_bytes){key, sizeof key}, &value);
        listing->after = least;
        listing->looks_left--;
        *is_over = found == IMP_OK && !show_row(listing, value);
        if (*is_over)
            return IMP_OK;
        for (size_t i = 0; i < listing->source_count; i++) {
            struct source *source = &listing->sources[i];
            imp_status status = IMP_OK;
            if (source->at == least)
                status =
                    index_next(source->cursor, source->prefix, source->prefix_length, &source->at);
            if (status != IMP_OK)
                return status;
        }
    }
    return IMP_OK;
}

static bool add_source(struct listing *listing, imp_table *table, const uint8_t *prefix,
                       size_t prefix_length)
{
    if (listing->source_count == listing->source_room) {
        size_t room = listing->source_room == 0 ? 8 : listing->source_room * 2;
        struct source *more = realloc(listing->sources, room * sizeof *more);
        if (more == NULL)
            return false;
        listing->sources = more;
        listing->source_room = room;
    }
    struct source *source = &listing->sources[listing->source_count++];
    *source = (struct source){.table = table, .prefix_length = prefix_length};
    memcpy(source->prefix, prefix, prefix_length);
    return true;
}

static imp_status add_all_queues(struct listing *listing)
{
    imp_cursor *cursor;
    imp_bytes key;
    imp_status status =
        imp_cursor_open(listing->tx, listing->jobs->tables.queue, (imp_bytes){"", 0}, &cursor);
    if (status != IMP_OK)
        return status;
    while ((status = imp_cursor_next(cursor, &key, NULL)) == IMP_OK) {
        if (key.length == 16 && !add_source(listing, listing->jobs->tables.queued, key.data, 16)) {
            status = IMP_LIMIT;
            break;
        }
    }
    imp_cursor_close(cursor);
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}

/* The shortest way to all that may be shown: one's own jobs, a queue's active ones, or all. */
static imp_status choose_sources(struct listing *listing)
{
    const imp_job_filter *filter = listing->filter;
    const imp_viewer *viewer = listing->viewer;
    struct jobs_tables *tables = &listing->jobs->tables;
    bool is_added = true;
    listing->source_count = 0;
    /* Of ended jobs no index by submitter is kept: a user name and a host prove what waits. */
    if (filter->only_mine && !(listing->has_submitter && filter->include_final)) {
        if (!imp_id_is_zero(viewer->principal))
            is_added = add_source(listing, tables->owned, viewer->principal.bytes, 16);
        if (is_added && listing->has_submitter)
            is_added =
                add_source(listing, tables->submitted, listing->submitter, INTAKE_SUBMITTER_SIZE);
    } else if (filter->include_final) {
        is_added = add_source(listing, tables->job, (const uint8_t *)"", 0);
    } else if (!imp_id_is_zero(listing->only_queue)) {
        is_added = add_source(listing, tables->queued, listing->only_queue.bytes, 16);
    } else {
        return add_all_queues(listing);
    }
    return is_added ? IMP_OK : IMP_LIMIT;
}

static void close_sources(struct listing *listing)
{
    for (size_t i = 0; i < listing->source_count; i++)
        imp_cursor_close(listing->sources[i].cursor);
    listing->source_count = 0;
    for (size_t i = 0; i < listing->queue_count; i++) {
        imp_cursor_close(listing->queues[i].cursor);
        listing->queues[i].cursor = NULL;
        if (listing->queues[i].at == UINT64_MAX) /* jobs may come until the next transaction */
            listing->queues[i].at = listing->queues[i].position = 0;
    }
}

static imp_status open_sources(struct listing *listing)
{
    imp_status status = choose_sources(listing);
    for (size_t i = 0; status == IMP_OK && i < listing->source_count; i++) {
        struct source *source = &listing->sources[i];
        status = index_open(listing->tx, source->table, source->prefix, source->prefix_length,
                            listing->after + 1, &source->cursor);
        if (status == IMP_OK)
            status = index_next(source->cursor, source->prefix, source->prefix_length, &source->at);
    }
    return status;
}

/* One transaction's part of a listing. A long listing goes on in another: no reader may keep the store's
 * old pages for long, nor its memory. */
static imp_status list_part(struct listing *listing, bool *is_over, imp_error *error)
{
    struct jobs *jobs = listing->jobs;
    imp_status status = imp_store_read_begin(jobs->self, &listing->tx, error);
    if (status != IMP_OK)
        return status;
    if (listing->filter->queue != NULL && imp_id_is_zero(listing->only_queue)) {
        Queue *queue = queue_load_by_name(jobs, listing->tx, listing->filter->queue, &status);
        if (queue == NULL) {
            imp_error_set(error, status, "there is no queue '%s'", listing->filter->queue);
            goto done;
        }
        listing->only_queue = imp_id_of_field(queue->id);
    }
    listing->looks_left = listing->steps_left = jobs->view_looks;
    status = open_sources(listing);
    if (status == IMP_OK)
        status = walk(listing, is_over);
    imp_metric_add(jobs->metrics.view_rows, (int64_t)(jobs->view_looks - listing->looks_left));
    close_sources(listing);
    if (status != IMP_OK)
        imp_error_set(error, status, "the jobs can't be read: %s", imp_status_name(status));
done:
    imp_store_read_end(listing->tx);
    return status;
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
        .after = filter->after,
        .asks_hook = imp_hook_count("job.view") != 0,
    };
    imp_status status = IMP_OK;
    bool is_over = filter->after == UINT64_MAX;
    listing.has_submitter = make_submitter(jobs, viewer, listing.submitter);
    while (status == IMP_OK && !is_over)
        status = list_part(&listing, &is_over, error);
    free(listing.queues);
    free(listing.sources);
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

/* The sequence that a number names, of a job that is there or was; 0: none. Job-ids are sequences folded
 * into 31 bits: the newest job of that number is meant. */
static uint64_t sequence_of_number(struct jobs *jobs, imp_tx *tx, const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    uint64_t last = newest(jobs, tx);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < 1 || number > INT32_MAX ||
        last == 0)
        return 0;
    uint64_t sequence = (last - 1) / INT32_MAX * INT32_MAX + number;
    if (sequence > last && sequence > INT32_MAX)
        sequence -= INT32_MAX;
    return sequence > last ? 0 : sequence;
}

imp_status view_find(struct jobs *jobs, const char *text, imp_id *job)
{
    imp_tx *tx;
    imp_id id;
    Job *record = NULL;
    imp_status status = imp_store_read_begin(jobs->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    if (imp_id_parse(text, &id) == IMP_OK)
        record = job_load(jobs, tx, &id, &status);
    else
        record = job_load_sequence(jobs, tx, sequence_of_number(jobs, tx, text), &status);
    if (record != NULL)
        *job = imp_id_of_field(record->id);
    imp_store_read_end(tx);
    return status;
}

imp_status view_find_sequence(struct jobs *jobs, const char *text, uint64_t *sequence)
{
    imp_tx *tx;
    imp_id id;
    imp_status status = imp_store_read_begin(jobs->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    if (imp_id_parse(text, &id) == IMP_OK) {
        Job *record = job_load(jobs, tx, &id, &status);
        *sequence = record == NULL ? 0 : record->sequence;
    } else {
        *sequence = sequence_of_number(jobs, tx, text);
        status = *sequence == 0 ? IMP_NOT_FOUND : IMP_OK;
    }
    imp_store_read_end(tx);
    return status;
}
