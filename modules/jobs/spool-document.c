/* SPDX-License-Identifier: Apache-2.0 */
/* spool-document.c - what records hold of a document, as messages of spool.proto. */
#include <string.h>

#include "modules/jobs/spool.h"
#include "modules/jobs/spool.pb-c.h"

static void key_to_message(const struct spool_key *key, Imprimatur__Jobs__SpoolKey *message)
{
    imprimatur__jobs__spool_key__init(message);
    message->id.data = (uint8_t *)(uintptr_t)key->id.bytes;
    message->id.len = sizeof key->id.bytes;
    message->pool = key->pool;
    message->slot = key->slot;
    message->generation = key->generation;
}

static imp_status key_from_message(const Imprimatur__Jobs__SpoolKey *message, struct spool_key *key)
{
    if (message == NULL || message->id.len != sizeof key->id.bytes)
        return IMP_CORRUPT;
    memcpy(key->id.bytes, message->id.data, sizeof key->id.bytes);
    key->pool = message->pool;
    key->slot = message->slot;
    key->generation = message->generation;
    return IMP_OK;
}

size_t spool_key_pack(const struct spool_key *key, uint8_t packed[SPOOL_KEY_PACKED_MAX])
{
    Imprimatur__Jobs__SpoolKey message;
    key_to_message(key, &message);
    return imprimatur__jobs__spool_key__pack(&message, packed);
}

imp_status spool_key_unpack(imp_bytes packed, struct spool_key *key)
{
    memset(key, 0, sizeof *key);
    Imprimatur__Jobs__SpoolKey *message =
        imprimatur__jobs__spool_key__unpack(NULL, packed.length, packed.data);
    imp_status status = key_from_message(message, key);
    imprimatur__jobs__spool_key__free_unpacked(message, NULL);
    return status;
}

size_t spool_document_pack(const struct spool_document *document,
                           uint8_t packed[SPOOL_DOCUMENT_PACKED_MAX])
{
    Imprimatur__Jobs__SpoolDocument message;
    Imprimatur__Jobs__SpoolKey key;

    imprimatur__jobs__spool_document__init(&message);
    key_to_message(&document->key, &key);
    message.format = document->format;
    message.key = &key;
    message.is_inline = document->is_inline;
    message.file = document->file;
    message.size = document->size;
    message.digest.data = (uint8_t *)(uintptr_t)document->digest;
    message.digest.len = sizeof document->digest;
    return imprimatur__jobs__spool_document__pack(&message, packed);
}

imp_status spool_document_unpack(imp_bytes packed, struct spool_document *document)
{
    imp_status status = IMP_CORRUPT;

    memset(document, 0, sizeof *document);
    Imprimatur__Jobs__SpoolDocument *message =
        imprimatur__jobs__spool_document__unpack(NULL, packed.length, packed.data);
    if (message != NULL && message->format > SPOOL_FORMAT)
        status = IMP_UNSUPPORTED;
    else if (message != NULL && message->format == SPOOL_FORMAT &&
             message->digest.len == sizeof document->digest)
        status = key_from_message(message->key, &document->key);
    if (status == IMP_OK) {
        document->format = message->format;
        document->is_inline = message->is_inline != 0;
        document->file = message->file;
        document->size = message->size;
        memcpy(document->digest, message->digest.data, sizeof document->digest);
    }
    imprimatur__jobs__spool_document__free_unpacked(message, NULL);
    return status;
}
