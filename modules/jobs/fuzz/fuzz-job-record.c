/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a record. The first byte chooses the message. What decodes is used as the module uses
 * it, encodes again, and decodes to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/jobs-line.h"
#include "modules/jobs/jobs-record.h"
#include "modules/jobs/jobs-states.h"

static void use_job(const Job *job)
{
    imp_ticket_value values[IMP_TICKET_VALUES_MAX];
    imp_id id = imp_id_of_field(job->id);
    uint32_t next;
    (void)record_id_is(job->owner, id);
    for (int event = 0; event <= JOB_EVENT_COUNT; event++)
        (void)job_situation_next(job->situation, (enum job_event)event, &next);
    if (strlen(job_situation_name(job->situation)) == 0 ||
        strlen(job_situation_reasons(job->situation)) == 0)
        abort();
    uint32_t count =
        record_ticket_add(job->ticket, job->n_ticket, values, 0, IMP_TICKET_VALUES_MAX);
    count = ticket_resolve(values, count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(values[i].name, values[j].name) == 0)
                abort();
        }
    }
    for (size_t i = 0; i < job->n_documents; i++) {
        struct spool_document document;
        const ProtobufCBinaryData *reference = &job->documents[i]->reference;
        (void)spool_document_unpack((imp_bytes){reference->data, reference->len}, &document);
    }
    struct spool_key key;
    (void)spool_key_unpack((imp_bytes){job->text.data, job->text.len}, &key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *const types[] = {
        JOB_TYPE,        QUEUE_TYPE,   DELIVERY_TYPE, PERSONAL_TYPE,
        SUBMISSION_TYPE, COUNTER_TYPE, CLOCK_TYPE};
    struct line_row row;
    if (size == 0)
        return 0;
    imp_bytes bytes = {data + 1, size - 1};
    const ProtobufCMessageDescriptor *type = types[data[0] % (sizeof types / sizeof *types)];
    (void)line_row_read(bytes, &row);
    void *message = imp_message_decode(NULL, type, bytes);
    if (message == NULL)
        return 0;
    if (type == JOB_TYPE)
        use_job(message);
    size_t length, again_length;
    uint8_t *packed = record_encode(message, &length);
    void *again =
        packed == NULL ? NULL : imp_message_decode(NULL, type, (imp_bytes){packed, length});
    if (again == NULL)
        abort();
    uint8_t *repacked = record_encode(again, &again_length);
    if (repacked == NULL || again_length != length || memcmp(packed, repacked, length) != 0)
        abort();
    imp_message_free(message);
    imp_message_free(again);
    free(packed);
    free(repacked);
    return 0;
}
