/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-queue.h"

#include <string.h>
#include <strings.h>

#include "modules/jobs/jobs-change.h"

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool queue_name_is_valid(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length >= IMP_NAME_MAX || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!is_name_byte(name[i]))
            return false;
    }
    return true;
}

bool queue_name_fold(const char *name, char folded[IMP_NAME_MAX])
{
    static const char folder[] = "printers/";
    size_t length = 0;
    while (*name == '/')
        name++;
    if (strncasecmp(name, folder, sizeof folder - 1) == 0)
        name += sizeof folder - 1;
    if (!queue_name_is_valid(name))
        return false;
    for (; name[length] != '\0'; length++) {
        char c = name[length];
        folded[length] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    folded[length] = '\0';
    return true;
}

static void name_key(struct jobs *jobs, const char *folded, uint8_t key[IMP_HASH_SIZE])
{
    imp_keyed_hash(jobs->self, "queue", (imp_bytes){folded, strlen(folded)}, key);
}

Queue *queue_load(struct jobs *jobs, imp_tx *tx, const imp_id *id, imp_status *status)
{
    return imp_message_get(tx, jobs->tables.queue, jobs_bytes_of_id(id), QUEUE_TYPE, status);
}

Queue *queue_load_by_name(struct jobs *jobs, imp_tx *tx, const char *name, imp_status *status)
{
    char folded[IMP_NAME_MAX];
    uint8_t key[IMP_HASH_SIZE];
    imp_bytes value;
    *status = IMP_NOT_FOUND;
    if (!queue_name_fold(name, folded))
        return NULL;
    name_key(jobs, folded, key);
    *status = imp_tx_get(tx, jobs->tables.queue_name, (imp_bytes){key, sizeof key}, &value);
    if (*status != IMP_OK)
        return NULL;
    return imp_message_get(tx, jobs->tables.queue, value, QUEUE_TYPE, status);
}

imp_status queue_describe(struct jobs *jobs, imp_tx *tx, const Queue *record, imp_queue *queue)
{
    struct counter_value counter;
    imp_id id = imp_id_of_field(record->id);
    imp_status status = counter_read(jobs, tx, COUNTER_QUEUE, &id, &counter);
    /* Only what the caller has room for; the struct grows at its end. */
    imp_queue described = {
        .size = queue->size,
        .id = id,
        .release = (imp_queue_release)record->release,
        .private_mode = (imp_queue_private)record->private_mode,
        .flags = record->flags,
        .is_accepting = record->is_accepting,
        .device = imp_id_of_field(record->device),
        .hold_expiry = record->hold_expiry,
        .keep_after = record->keep_after,
        .jobs_queued = counter.jobs,
    };
    imp_text_clean(described.name, sizeof described.name, record->name, strlen(record->name));
    memcpy(queue, &described,
           queue->size == 0 || queue->size > sizeof described ? sizeof described : queue->size);
    return status;
}

imp_status queue_find(struct jobs *jobs, const char *name, imp_queue *queue)
{
    imp_tx *tx;
    imp_status status = imp_store_read_begin(jobs->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    Queue *record = queue_load_by_name(jobs, tx, name, &status);
    if (record != NULL)
        status = queue_describe(jobs, tx, record, queue);
    imp_store_read_end(tx);
    return status;
}

imp_status queue_put_tx(struct jobs *jobs, imp_tx *tx, const Queue *record, imp_error *error)
{
    char folded[IMP_NAME_MAX];
    uint8_t key[IMP_HASH_SIZE];
    imp_bytes taken;
    if (!queue_name_fold(record->name, folded))
        return imp_error_set(error, IMP_INVALID,
                             "'%s' can't be a queue's name: use letters, digits, '.', '_', '-'",
                             record->name);
    name_key(jobs, folded, key);
    imp_bytes row = {key, sizeof key}, id = {record->id.data, record->id.len};
    imp_status status = imp_tx_get(tx, jobs->tables.queue_name, row, &taken);
    if (status == IMP_OK &&
        (taken.length != id.length || memcmp(taken.data, id.data, id.length) != 0))
        return imp_error_set(error, IMP_EXISTS, "there is a queue '%s' already", record->name);
    status = imp_tx_put(tx, jobs->tables.queue_name, row, id);
    if (status == IMP_OK)
        status = imp_message_put(tx, jobs->tables.queue, id, record);
    if (status != IMP_OK)
        imp_error_set(error, status, "the queue can't be stored: %s", imp_status_name(status));
    return status;
}

imp_status queue_remove_tx(struct jobs *jobs, imp_tx *tx, const Queue *record, imp_error *error)
{
    char folded[IMP_NAME_MAX];
    uint8_t key[IMP_HASH_SIZE], counter_row[17] = {COUNTER_QUEUE};
    struct counter_value counter;
    imp_id id = imp_id_of_field(record->id);
    imp_status status = counter_read(jobs, tx, COUNTER_QUEUE, &id, &counter);
    if (status == IMP_OK && counter.jobs != 0)
        return imp_error_set(error, IMP_BUSY,
                             "queue '%s' holds %llu jobs: cancel them or set accepting=no and wait",
                             record->name, (unsigned long long)counter.jobs);
    if (status == IMP_OK && queue_name_fold(record->name, folded)) {
        name_key(jobs, folded, key);
        status = imp_tx_delete(tx, jobs->tables.queue_name, (imp_bytes){key, sizeof key});
    }
    if (status == IMP_OK)
        status = imp_tx_delete(tx, jobs->tables.queue, jobs_bytes_of_id(&id));
    if (status == IMP_OK) {
        memcpy(counter_row + 1, id.bytes, sizeof id.bytes);
        status =
            imp_tx_delete(tx, jobs->tables.counter, (imp_bytes){counter_row, sizeof counter_row});
        if (status == IMP_NOT_FOUND)
            status = IMP_OK;
    }
    if (status != IMP_OK)
        imp_error_set(error, status, "the queue can't be removed: %s", imp_status_name(status));
    return status;
}
