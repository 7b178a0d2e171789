/* SPDX-License-Identifier: Apache-2.0 */
/* audit-chain.c - appending an event to the chain, inside the commit of its action. */
#include "audit.h"

#include <openssl/sha.h>
#include <string.h>

void audit_key(uint64_t number, uint8_t key[8])
{
    for (int i = 7; i >= 0; i--, number >>= 8)
        key[i] = (uint8_t)number;
}

void audit_hash(const uint8_t previous[AUDIT_HASH_SIZE], const void *body, size_t length,
                uint8_t hash[AUDIT_HASH_SIZE])
{
    uint8_t text[AUDIT_HASH_SIZE + AUDIT_BODY_MAX];
    memcpy(text, previous, AUDIT_HASH_SIZE);
    if (length > 0) /* protobuf-c gives NULL for no bytes */
        memcpy(text + AUDIT_HASH_SIZE, body, length);
    SHA256(text, AUDIT_HASH_SIZE + length, hash);
}

static const imp_bytes head_key = {"head", 4};

imp_status audit_head_read(struct audit *audit, imp_tx *tx, uint64_t *sequence,
                           uint8_t hash[AUDIT_HASH_SIZE], uint64_t *checkpoint,
                           uint64_t *next_checkpoint_sequence)
{
    imp_bytes value;
    imp_status status = imp_tx_get(tx, audit->head, head_key, &value);
    if (status == IMP_NOT_FOUND) {
        *sequence = 0;
        memset(hash, 0, AUDIT_HASH_SIZE);
        *checkpoint = 0;
        *next_checkpoint_sequence = (uint64_t)audit->conf->checkpoint_events;
        return IMP_OK;
    }
    if (status != IMP_OK)
        return status;
    Imprimatur__Audit__Head *head = imprimatur__audit__head__unpack(NULL, value.length, value.data);
    if (head == NULL)
        return IMP_CORRUPT;
    if (head->hash.len != AUDIT_HASH_SIZE) {
        imprimatur__audit__head__free_unpacked(head, NULL);
        return IMP_CORRUPT;
    }
    *sequence = head->sequence;
    memcpy(hash, head->hash.data, AUDIT_HASH_SIZE);
    *checkpoint = head->checkpoint;
    *next_checkpoint_sequence = head->next_checkpoint_sequence;
    imprimatur__audit__head__free_unpacked(head, NULL);
    return IMP_OK;
}

static imp_status head_write(struct audit *audit, imp_tx *tx, uint64_t sequence,
                             uint8_t hash[AUDIT_HASH_SIZE], uint64_t checkpoint,
                             uint64_t next_checkpoint_sequence)
{
    Imprimatur__Audit__Head head = IMPRIMATUR__AUDIT__HEAD__INIT;
    head.sequence = sequence;
    head.hash = (ProtobufCBinaryData){AUDIT_HASH_SIZE, hash};
    head.checkpoint = checkpoint;
    head.next_checkpoint_sequence = next_checkpoint_sequence;
    uint8_t packed[128];
    size_t length = imprimatur__audit__head__pack(&head, packed);
    return imp_tx_put(tx, audit->head, head_key, (imp_bytes){packed, length});
}

static imp_status checkpoint_write(struct audit *audit, imp_tx *tx, uint64_t number,
                                   uint64_t sequence, uint8_t hash[AUDIT_HASH_SIZE], int64_t time)
{
    Imprimatur__Audit__Checkpoint checkpoint = IMPRIMATUR__AUDIT__CHECKPOINT__INIT;
    checkpoint.number = number;
    checkpoint.sequence = sequence;
    checkpoint.hash = (ProtobufCBinaryData){AUDIT_HASH_SIZE, hash};
    checkpoint.time = time;
    uint8_t packed[128], key[8];
    audit_key(number, key);
    size_t length = imprimatur__audit__checkpoint__pack(&checkpoint, packed);
    return imp_tx_put(tx, audit->checkpoints, (imp_bytes){key, sizeof key},
                      (imp_bytes){packed, length});
}

/* Actions and kinds are constant words of the program; what looks otherwise came from outside. */
static bool is_word(const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        if (!((*c >= 'a' && *c <= 'z') || *c == '.' || *c == '-'))
            return false;
    return strlen(text) <= AUDIT_ACTION_MAX;
}

/* Only constant words, ids and numbers belong into an event. The bounds keep a body below
 * AUDIT_BODY_MAX. */
static bool event_is_well_formed(const imp_audit_event *event)
{
    if (event->action == NULL || event->action[0] == '\0' || !is_word(event->action))
        return false;
    if ((event->place_kind != NULL && !is_word(event->place_kind)) ||
        (event->object_kind != NULL && !is_word(event->object_kind)))
        return false;
    return event->detail == NULL || (strlen(event->detail) <= AUDIT_DETAIL_MAX &&
                                     imp_utf8_is_valid(event->detail, strlen(event->detail)));
}

/* proto3 strings are never NULL; protobuf-c wants them writable though it only reads. */
static char *text_or_empty(const char *text)
{
    return (char *)(uintptr_t)(text == NULL ? "" : text);
}

static ProtobufCBinaryData id_or_empty(const imp_id *id)
{
    if (imp_id_is_zero(*id))
        return (ProtobufCBinaryData){0, NULL};
    return (ProtobufCBinaryData){sizeof id->bytes, (uint8_t *)(uintptr_t)id->bytes};
}

imp_status audit_append_tx(struct audit *audit, imp_tx *tx, const imp_audit_event *event,
                           imp_error *error)
{
    if (!event_is_well_formed(event))
        return imp_error_set(error, IMP_INVALID, "audit event '%s' is not well-formed",
                             event->action == NULL ? "" : event->action);
    uint64_t sequence, checkpoint, next_checkpoint;
    uint8_t hash[AUDIT_HASH_SIZE];
    imp_status status = audit_head_read(audit, tx, &sequence, hash, &checkpoint, &next_checkpoint);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the audit trail's head does not read");
    sequence++;
    int64_t now = imp_now();

    Imprimatur__Audit__Event record = IMPRIMATUR__AUDIT__EVENT__INIT;
    record.sequence = sequence;
    record.time = now;
    record.action = text_or_empty(event->action);
    record.principal = id_or_empty(&event->principal);
    record.actor_uid_plus_1 = event->has_actor_uid ? event->actor_uid + 1 : 0;
    record.place_kind = text_or_empty(event->place_kind);
    record.place = id_or_empty(&event->place);
    record.object_kind = text_or_empty(event->object_kind);
    record.object = id_or_empty(&event->object);
    record.result = event->result;
    record.detail = text_or_empty(event->detail);
    uint8_t body[AUDIT_BODY_MAX];
    size_t body_length = imprimatur__audit__event__get_packed_size(&record);
    if (body_length > sizeof body)
        return imp_error_set(error, IMP_LIMIT, "audit event '%s' is too long", event->action);
    imprimatur__audit__event__pack(&record, body);
    audit_hash(hash, body, body_length, hash);

    Imprimatur__Audit__Link link = IMPRIMATUR__AUDIT__LINK__INIT;
    link.body = (ProtobufCBinaryData){body_length, body};
    link.hash = (ProtobufCBinaryData){AUDIT_HASH_SIZE, hash};
    uint8_t packed[AUDIT_BODY_MAX + 64], key[8];
    size_t length = imprimatur__audit__link__pack(&link, packed);
    audit_key(sequence, key);
    status =
        imp_tx_insert(tx, audit->events, (imp_bytes){key, sizeof key}, (imp_bytes){packed, length});
    if (status == IMP_OK && sequence >= next_checkpoint) {
        checkpoint++;
        next_checkpoint = sequence + (uint64_t)audit->conf->checkpoint_events;
        status = checkpoint_write(audit, tx, checkpoint, sequence, hash, now);
    }
    if (status == IMP_OK)
        status = head_write(audit, tx, sequence, hash, checkpoint, next_checkpoint);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the audit trail can't be written (%s)",
                             imp_status_name(status));
    imp_metric_add(audit->appended, 1);
    return IMP_OK;
}
