/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-record.h"

#include <stdlib.h>
#include <string.h>

uint8_t *record_encode(const void *message, size_t *length)
{
    *length = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(*length == 0 ? 1 : *length);
    if (packed != NULL)
        protobuf_c_message_pack(message, packed);
    return packed;
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
