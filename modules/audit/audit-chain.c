/* SPDX-License-Identifier: Apache-2.0 */
/* audit-chain.c - appending an event to the chain, inside the commit of its action. */
#include "audit.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void audit_key(uint64_t number, uint8_t key[8])
{
    for (int i = 7; i >= 0; i--, number >>= 8)
        key[i] = (uint8_t)number;
}

uint64_t audit_key_number(imp_bytes key)
{
    uint64_t number = 0;
    const uint8_t *digits = key.data;
    if (key.length != sizeof number)
        return 0;
    for (size_t i = 0; i < sizeof number; i++)
        number = number << 8 | digits[i];
    return number;
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

imp_status audit_head_read(imp_tx *tx, const struct audit_tables *chain, struct audit_head *head)
{
    imp_status status;
    const Imprimatur__Audit__Head *record =
        imp_message_get(tx, chain->head, head_key, HEAD_TYPE, &status);
    memset(head, 0, sizeof *head);
    if (record == NULL)
        return status == IMP_NOT_FOUND ? IMP_OK : status;
    if (record->hash.len != AUDIT_HASH_SIZE)
        return IMP_CORRUPT;
    head->sequence = record->sequence;
    memcpy(head->hash, record->hash.data, AUDIT_HASH_SIZE);
    head->checkpoint = record->checkpoint;
    head->next_checkpoint = record->next_checkpoint_sequence;
    return IMP_OK;
}

static imp_status head_write(struct audit *audit, imp_tx *tx, struct audit_head *head)
{
    Imprimatur__Audit__Head record = IMPRIMATUR__AUDIT__HEAD__INIT;
    record.sequence = head->sequence;
    record.hash = (ProtobufCBinaryData){AUDIT_HASH_SIZE, head->hash};
    record.checkpoint = head->checkpoint;
    record.next_checkpoint_sequence = head->next_checkpoint;
    return imp_message_put(tx, audit->chain.head, head_key, &record);
}

static imp_status checkpoint_write(struct audit *audit, imp_tx *tx, struct audit_head *head,
                                   int64_t time)
{
    Imprimatur__Audit__Checkpoint record = IMPRIMATUR__AUDIT__CHECKPOINT__INIT;
    record.number = head->checkpoint;
    record.sequence = head->sequence;
    record.hash = (ProtobufCBinaryData){AUDIT_HASH_SIZE, head->hash};
    record.time = time;
    uint8_t key[8];
    audit_key(head->checkpoint, key);
    return imp_message_put(tx, audit->chain.checkpoint, (imp_bytes){key, sizeof key}, &record);
}

Imprimatur__Audit__Event *audit_event_open(imp_tx *tx, imp_bytes value,
                                           Imprimatur__Audit__Link **link)
{
    *link = imp_message_decode(tx, LINK_TYPE, value);
    return *link == NULL ? NULL
                         : imp_message_decode(tx, EVENT_TYPE,
                                              (imp_bytes){(*link)->body.data, (*link)->body.len});
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

/* The place as the chain names it: of an address it holds no more than an id. */
static imp_status place_tx(struct audit *audit, imp_tx *tx, const imp_audit_event *event,
                           imp_id *place)
{
    *place = event->place;
    if (event->size < offsetof(imp_audit_event, address) + sizeof event->address ||
        event->address == NULL || event->place_kind == NULL ||
        strcmp(event->place_kind, "address") != 0 || !imp_id_is_zero(event->place))
        return IMP_OK;
    return address_id_tx(audit, tx, event->address, place);
}

/* `checkpoint`: the number of a checkpoint at this event; 0 for none but those that are due. */
static imp_status append_tx(struct audit *audit, imp_tx *tx, const imp_audit_event *event,
                            uint64_t checkpoint, imp_error *error)
{
    const struct audit_conf *conf = audit->conf;
    if (!event_is_well_formed(event))
        return imp_error_set(error, IMP_INVALID, "audit event '%s' is not well-formed",
                             event->action == NULL ? "" : event->action);
    struct audit_head head;
    imp_id place;
    imp_status status = audit_head_read(tx, &audit->chain, &head);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the audit trail's head does not read");
    status = place_tx(audit, tx, event, &place);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the audit trail's addresses can't be written (%s)",
                             imp_status_name(status));
    if (head.sequence == 0)
        head.next_checkpoint = (uint64_t)conf->checkpoint_events;
    head.sequence++;
    int64_t now = imp_now();

    Imprimatur__Audit__Event record = IMPRIMATUR__AUDIT__EVENT__INIT;
    record.sequence = head.sequence;
    record.time = now;
    record.action = text_or_empty(event->action);
    record.principal = imp_id_field(&event->principal);
    record.actor_uid_plus_1 = event->has_actor_uid ? event->actor_uid + 1 : 0;
    record.place_kind = text_or_empty(event->place_kind);
    record.place = imp_id_field(&place);
    record.object_kind = text_or_empty(event->object_kind);
    record.object = imp_id_field(&event->object);
    record.result = event->result;
    record.detail = text_or_empty(event->detail);
    uint8_t body[AUDIT_BODY_MAX];
    size_t body_length = imprimatur__audit__event__get_packed_size(&record);
    if (body_length > sizeof body)
        return imp_error_set(error, IMP_LIMIT, "audit event '%s' is too long", event->action);
    imprimatur__audit__event__pack(&record, body);
    audit_hash(head.hash, body, body_length, head.hash);

    Imprimatur__Audit__Link link = IMPRIMATUR__AUDIT__LINK__INIT;
    link.body = (ProtobufCBinaryData){body_length, body};
    link.hash = (ProtobufCBinaryData){AUDIT_HASH_SIZE, head.hash};
    uint8_t packed[AUDIT_BODY_MAX + 64], key[8];
    size_t length = imprimatur__audit__link__pack(&link, packed);
    audit_key(head.sequence, key);
    status = imp_tx_insert(tx, audit->chain.event, (imp_bytes){key, sizeof key},
                           (imp_bytes){packed, length});
    if (status == IMP_OK && (checkpoint > 0 || head.sequence >= head.next_checkpoint)) {
        head.checkpoint = checkpoint > 0 ? checkpoint : head.checkpoint + 1;
        head.next_checkpoint = head.sequence + (uint64_t)conf->checkpoint_events;
        status = checkpoint_write(audit, tx, &head, now);
    }
    if (status == IMP_OK)
        status = head_write(audit, tx, &head);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the audit trail can't be written (%s)",
                             imp_status_name(status));
    imp_metric_add(audit->appended, 1);
    return IMP_OK;
}

imp_status audit_append_tx(struct audit *audit, imp_tx *tx, const imp_audit_event *event,
                           imp_error *error)
{
    return append_tx(audit, tx, event, 0, error);
}

imp_status audit_note_rollback_tx(struct audit *audit, imp_tx *tx, uint64_t remembered,
                                  imp_error *error)
{
    struct audit_head head;
    char detail[96];
    imp_status status = audit_head_read(tx, &audit->chain, &head);
    if (status != IMP_OK)
        return imp_error_set(error, status, "the audit trail's head does not read");
    snprintf(detail, sizeof detail, "checkpoint=%" PRIu64 " remembered=%" PRIu64, head.checkpoint,
             remembered);
    imp_audit_event event = {.size = sizeof event,
                             .action = AUDIT_ROLLED_BACK,
                             .place_kind = "",
                             .object_kind = "",
                             .result = IMP_CORRUPT,
                             .detail = detail};
    return append_tx(audit, tx, &event, remembered + 1, error);
}
