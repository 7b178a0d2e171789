/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.h - records of the store as Protocol Buffers (protobuf-c; the .proto files of a module are
 * the documented format of its tables).
 *
 *     Acme__Thing *thing = imp_message_get(tx, table, imp_id_bytes(&id), &acme__thing__descriptor,
 *                                          &status);
 *     if (thing != NULL) {
 *         thing->count++;
 *         status = imp_message_put(tx, table, imp_id_bytes(&id), thing);
 *     }
 *
 * Messages that are read live in the transaction's memory: nobody frees them, they are wiped when it ends, and their
 * fields may be pointed at what lives as long. Fields that this version does not know are kept: whoever
 * changes a record reads it, changes the message and writes the same message back.
 */
#ifndef IMPRIMATUR_MESSAGE_H
#define IMPRIMATUR_MESSAGE_H

#include <imprimatur/base.h>
#include <imprimatur/store.h>
#include <protobuf-c/protobuf-c.h>
#include <string.h>

/* Decodes a message of `type` into memory of `tx`; with `tx` NULL into memory of its own, which the
 * caller frees by imp_message_free. NULL when the bytes are no such message, or memory is short. Any
 * thread that may use `tx`. */
IMP_PUBLIC void *imp_message_decode(imp_tx *tx, const ProtobufCMessageDescriptor *type,
                                    imp_bytes bytes);
/* Frees what was decoded without a transaction; NULL is ignored. Any thread. */
IMP_PUBLIC void imp_message_free(void *message);
/* Reads and decodes a row. NULL with *status IMP_NOT_FOUND, IMP_CORRUPT (the seal does not hold, or the
 * bytes are no such message) or what else imp_tx_get says; else *status is IMP_OK. Any thread that may
 * use `tx`. */
IMP_PUBLIC void *imp_message_get(imp_tx *tx, imp_table *table, imp_bytes key,
                                 const ProtobufCMessageDescriptor *type, imp_status *status);
/* Encodes a message and writes it as a row, in place of what is there. IMP_LIMIT when it is longer than
 * IMP_VALUE_MAX, or memory is short; else what imp_tx_put says. The encoded bytes are wiped. Writing
 * transactions only. */
IMP_PUBLIC imp_status imp_message_put(imp_tx *tx, imp_table *table, imp_bytes key,
                                      const void *message);

/* An id as a record key; borrows it. Any thread. */
static inline imp_bytes imp_id_bytes(const imp_id *id)
{
    return (imp_bytes){id->bytes, sizeof id->bytes};
}

/* An id as a bytes field; borrows it. Empty for the zero id, which stands for none. Any thread. */
static inline ProtobufCBinaryData imp_id_field(const imp_id *id)
{
    if (imp_id_is_zero(*id))
        return (ProtobufCBinaryData){0, NULL};
    return (ProtobufCBinaryData){sizeof id->bytes, (uint8_t *)(uintptr_t)id->bytes};
}

/* The id in a bytes field; the zero id when it has not 16 bytes. Any thread. */
static inline imp_id imp_id_of_field(ProtobufCBinaryData field)
{
    imp_id id = {{0}};
    if (field.len == sizeof id.bytes)
        memcpy(id.bytes, field.data, sizeof id.bytes);
    return id;
}

#endif
