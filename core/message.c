/* SPDX-License-Identifier: Apache-2.0 */
/* message.c - Protocol Buffers in the memory of a transaction; see <imprimatur/message.h>. */
#include <imprimatur/message.h>

static void *arena_alloc(void *tx, size_t size)
{
    return imp_tx_alloc(tx, size);
}

static void arena_free(void *tx, void *pointer)
{
    (void)tx;
    (void)pointer;
}

/* protobuf-c lets an unknown field number 0 through, which it would refuse when it reads what it
 * wrote: such bytes are no record. */
static bool fields_are_valid(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->n_unknown_fields; i++)
        if (message->unknown_fields[i].tag == 0)
            return false;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *at = (const char *)message + field->offset;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
            continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count;
            ProtobufCMessage *const *nested;
            memcpy(&count, (const char *)message + field->quantifier_offset, sizeof count);
            memcpy(&nested, at, sizeof nested);
            for (size_t j = 0; j < count; j++)
                if (!fields_are_valid(nested[j]))
                    return false;
        } else {
            const ProtobufCMessage *nested;
            memcpy(&nested, at, sizeof nested);
            if (nested != NULL && !fields_are_valid(nested))
                return false;
        }
    }
    return true;
}

void *imp_message_decode(imp_tx *tx, const ProtobufCMessageDescriptor *type, imp_bytes bytes)
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

void imp_message_free(void *message)
{
    if (message != NULL)
        protobuf_c_message_free_unpacked(message, NULL);
}

void *imp_message_get(imp_tx *tx, imp_table *table, imp_bytes key,
                      const ProtobufCMessageDescriptor *type, imp_status *status)
{
    imp_bytes value;
    *status = imp_tx_get(tx, table, key, &value);
    if (*status != IMP_OK)
        return NULL;
    void *message = imp_message_decode(tx, type, value);
    if (message == NULL)
        *status = IMP_CORRUPT;
    return message;
}

imp_status imp_message_put(imp_tx *tx, imp_table *table, imp_bytes key, const void *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    if (length > IMP_VALUE_MAX)
        return IMP_LIMIT;
    uint8_t *packed = imp_tx_alloc(tx, length == 0 ? 1 : length);
    if (packed == NULL)
        return IMP_LIMIT;
    protobuf_c_message_pack(message, packed);
    imp_status status = imp_tx_put(tx, table, key, (imp_bytes){packed, length});
    imp_wipe(packed, length);
    return status;
}
