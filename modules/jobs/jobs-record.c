/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-record.h"

#include <stdlib.h>
#include <string.h>

static void *arena_alloc(void *tx, size_t size)
{
    return imp_tx_alloc(tx, size);
}

static void arena_free(void *tx IMP_UNUSED, void *pointer IMP_UNUSED)
{
}

/* protobuf-c lets an unknown field number 0 through, which it would refuse when it reads what it wrote:
 * such bytes are no record. The records' only nested messages are repeated ones. */
static bool fields_are_valid(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        if (message->unknown_fields[i].tag == 0)
            return false;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label != PROTOBUF_C_LABEL_REPEATED)
            continue;
        size_t count;
        ProtobufCMessage *const *nested;
        memcpy(&count, (const char *)message + field->quantifier_offset, sizeof count);
        memcpy(&nested, (const char *)message + field->offset, sizeof nested);
        for (size_t j = 0; j < count; j++) {
            if (!fields_are_valid(nested[j]))
                return false;
        }
    }
    return true;
}

void *record_decode(imp_tx *tx, const ProtobufCMessageDescriptor *type, imp_bytes bytes)
{
    ProtobufCAllocator arena = {arena_alloc, arena_free, tx};
    ProtobufCAllocator *allocator = tx == NULL ? NULL : &arena;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, allocator, bytes.length, bytes.data);
    if (message != NULL && !fields_are_valid(message)) {
        protobuf_c_message_free_unpacked(message, allocator);
        message = NULL;
    }
    return message;
}

void record_free(void *message)
{
    if (message != NULL)
        protobuf_c_message_free_unpacked(message, NULL);
}

void *record_get(imp_tx *tx, imp_table *table, imp_bytes key,
                 const ProtobufCMessageDescriptor *type, imp_status *status)
{
    imp_bytes value;
    *status = imp_tx_get(tx, table, key, &value);
    if (*status != IMP_OK)
        return NULL;
    void *message = record_decode(tx, type, value);
    if (message == NULL)
        *status = IMP_CORRUPT;
    return message;
}

imp_status record_put(imp_tx *tx, imp_table *table, imp_bytes key, const void *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    if (length > IMP_VALUE_MAX)
        return IMP_LIMIT;
    uint8_t *packed = imp_tx_alloc(tx, length == 0 ? 1 : length);
    if (packed == NULL)
        return IMP_LIMIT;
    protobuf_c_message_pack(message, packed);
    return imp_tx_put(tx, table, key, (imp_bytes){packed, length});
}

uint8_t *record_encode(const void *message, size_t *length)
{
    *length = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(*length == 0 ? 1 : *length);
    if (packed != NULL)
        protobuf_c_message_pack(message, packed);
    return packed;
}

ProtobufCBinaryData record_id(const imp_id *id)
{
    ProtobufCBinaryData none = {0};
    return imp_id_is_zero(*id) ? none : record_bytes(id->bytes, 16);
}

imp_id record_id_get(ProtobufCBinaryData field)
{
    imp_id id = {{0}};
    if (field.len == sizeof id.bytes)
        memcpy(id.bytes, field.data, sizeof id.bytes);
    return id;
}

bool record_id_is(ProtobufCBinaryData field, imp_id id)
{
    return field.len == sizeof id.bytes && memcmp(field.data, id.bytes, sizeof id.bytes) == 0;
}

bool record_ids_have(const ProtobufCBinaryData *fields, size_t count, imp_id id)
{
    for (size_t i = 0; i < count; i++) {
        if (record_id_is(fields[i], id))
            return true;
    }
    return false;
}

size_t record_ticket(const imp_ticket *ticket, TicketValue *rows, TicketValue **pointers,
                     size_t room)
{
    size_t count = 0;
    for (uint32_t i = 0; i < ticket->count && count < room; i++) {
        const imp_ticket_value *value = &ticket->values[i];
        rows[count] = (TicketValue)TICKET_VALUE_INIT;
        rows[count].layer = (uint32_t)value->layer;
        rows[count].name = (char *)(uintptr_t)value->name;
        rows[count].value = (char *)(uintptr_t)value->value;
        rows[count].source = (char *)(uintptr_t)(value->source == NULL ? "" : value->source);
        pointers[count] = &rows[count];
        count++;
    }
    return count;
}

uint32_t record_ticket_add(TicketValue *const *rows, size_t count, imp_ticket_value *values,
                           uint32_t have, uint32_t room)
{
    for (size_t i = 0; i < count && have < room; i++) {
        values[have++] = (imp_ticket_value){
            .layer = (imp_ticket_layer)rows[i]->layer,
            .name = rows[i]->name,
            .value = rows[i]->value,
            .source = rows[i]->source,
        };
    }
    return have;
}

uint32_t ticket_resolve(imp_ticket_value *values, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = 0;
        while (at < kept && strcmp(values[at].name, values[i].name) != 0)
            at++;
        if (at == kept)
            values[kept++] = values[i];
        else if (values[i].layer >= values[at].layer)
            values[at] = values[i];
    }
    return kept;
}
