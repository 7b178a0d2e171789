/* SPDX-License-Identifier: Apache-2.0 */
/* audit-verify.c - walking the chain: every hash, every number, every checkpoint, and the end. */
#include "audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Rows looked at in one read transaction, so that no reader lives long. */
#define VERIFY_STEP 2000

struct walk {
    struct audit *audit;
    struct audit_verdict *verdict;
    uint64_t sequence; /* of the last row that holds */
    uint8_t hash[AUDIT_HASH_SIZE];
};

static bool blame(struct audit_verdict *verdict, uint64_t sequence, const char *reason)
{
    verdict->bad_sequence = sequence;
    snprintf(verdict->reason, sizeof verdict->reason, "%s", reason);
    return false;
}

/* One row: its number, its hash over the previous one, its checkpoint if it has one. */
static bool row_holds(struct walk *walk, imp_bytes key, imp_bytes value)
{
    uint64_t expected = walk->sequence + 1;
    uint8_t expected_key[8];
    audit_key(expected, expected_key);
    if (key.length != sizeof expected_key || memcmp(key.data, expected_key, key.length) != 0)
        return blame(walk->verdict, expected, "the event is missing");
    Imprimatur__Audit__Link *link = imprimatur__audit__link__unpack(NULL, value.length, value.data);
    if (link == NULL)
        return blame(walk->verdict, expected, "the row does not decode");
    bool holds = true;
    uint8_t hash[AUDIT_HASH_SIZE];
    Imprimatur__Audit__Event *event = NULL;
    if (link->body.len > AUDIT_BODY_MAX || link->hash.len != AUDIT_HASH_SIZE) {
        holds = blame(walk->verdict, expected, "the row's parts have wrong sizes");
        goto done;
    }
    audit_hash(walk->hash, link->body.data, link->body.len, hash);
    if (memcmp(hash, link->hash.data, AUDIT_HASH_SIZE) != 0) {
        holds = blame(walk->verdict, expected, "its hash does not follow from the one before");
        goto done;
    }
    event = imprimatur__audit__event__unpack(NULL, link->body.len, link->body.data);
    if (event == NULL || event->sequence != expected) {
        holds = blame(walk->verdict, expected, "the event carries another number");
        goto done;
    }
    memcpy(walk->hash, hash, AUDIT_HASH_SIZE);
    walk->sequence = expected;
    walk->verdict->events++;
done:
    if (event != NULL)
        imprimatur__audit__event__free_unpacked(event, NULL);
    imprimatur__audit__link__free_unpacked(link, NULL);
    return holds;
}

/* VERIFY_STEP rows; *at_end when the last one was seen. A row that does not open is blamed. */
static imp_status walk_step(struct walk *walk, bool *at_end, imp_error *error)
{
    imp_tx *tx;
    imp_cursor *cursor = NULL;
    imp_status status = imp_store_read_begin(walk->audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    uint8_t from[8];
    audit_key(walk->sequence + 1, from);
    status = imp_cursor_open(tx, walk->audit->events, (imp_bytes){from, sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && i < VERIFY_STEP && walk->verdict->bad_sequence == 0; i++) {
        imp_bytes key, value;
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_CORRUPT) {
            blame(walk->verdict, walk->sequence + 1, "the row's seal does not hold");
            status = IMP_OK;
        } else if (status == IMP_OK) {
            row_holds(walk, key, value);
        }
    }
    if (status == IMP_NOT_FOUND) {
        uint64_t sequence, checkpoint, next;
        uint8_t hash[AUDIT_HASH_SIZE];
        *at_end = true;
        status = audit_head_read(walk->audit, tx, &sequence, hash, &checkpoint, &next);
        if (status == IMP_CORRUPT ||
            (status == IMP_OK &&
             (sequence != walk->sequence || memcmp(hash, walk->hash, AUDIT_HASH_SIZE) != 0))) {
            blame(walk->verdict, walk->sequence + 1, "the end of the trail is cut off or replaced");
            status = IMP_OK;
        }
    }
    if (cursor != NULL)
        imp_cursor_close(cursor);
    imp_store_read_end(tx);
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "the audit trail can't be read (%s)",
                                            imp_status_name(status));
}

/* Every checkpoint must name the hash of its event, and their numbers must be without gaps. */
static imp_status checkpoints_hold(struct walk *walk, imp_error *error)
{
    imp_tx *tx;
    imp_cursor *cursor = NULL;
    uint64_t number = 0, sequence, last, next;
    uint8_t hash[AUDIT_HASH_SIZE];
    imp_status status = imp_store_read_begin(walk->audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status = audit_head_read(walk->audit, tx, &sequence, hash, &last, &next);
    if (status == IMP_OK)
        status = imp_cursor_open(tx, walk->audit->checkpoints, (imp_bytes){NULL, 0}, &cursor);
    while (status == IMP_OK && walk->verdict->bad_sequence == 0) {
        imp_bytes key, value, row;
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_CORRUPT) {
            char reason[80];
            snprintf(reason, sizeof reason, "the seal of checkpoint %" PRIu64 " does not hold",
                     number + 1);
            blame(walk->verdict, walk->sequence, reason);
            status = IMP_OK;
            break;
        }
        if (status != IMP_OK)
            break;
        Imprimatur__Audit__Checkpoint *checkpoint =
            imprimatur__audit__checkpoint__unpack(NULL, value.length, value.data);
        Imprimatur__Audit__Link *link = NULL;
        number++;
        bool holds = checkpoint != NULL && checkpoint->number == number &&
                     checkpoint->hash.len == AUDIT_HASH_SIZE;
        if (holds) {
            uint8_t event_key[8];
            audit_key(checkpoint->sequence, event_key);
            holds = imp_tx_get(tx, walk->audit->events, (imp_bytes){event_key, sizeof event_key},
                               &row) == IMP_OK;
            link = holds ? imprimatur__audit__link__unpack(NULL, row.length, row.data) : NULL;
            holds = link != NULL && link->hash.len == AUDIT_HASH_SIZE &&
                    memcmp(link->hash.data, checkpoint->hash.data, AUDIT_HASH_SIZE) == 0;
        }
        if (holds) {
            walk->verdict->checkpoints++;
        } else {
            char reason[80];
            snprintf(reason, sizeof reason, "checkpoint %" PRIu64 " does not match its event",
                     number);
            blame(walk->verdict, checkpoint == NULL ? walk->sequence : checkpoint->sequence,
                  reason);
        }
        if (link != NULL)
            imprimatur__audit__link__free_unpacked(link, NULL);
        if (checkpoint != NULL)
            imprimatur__audit__checkpoint__free_unpacked(checkpoint, NULL);
    }
    if (status == IMP_NOT_FOUND) {
        status = IMP_OK;
        if (number != last)
            blame(walk->verdict, walk->sequence, "checkpoints are missing at the end");
    }
    if (cursor != NULL)
        imp_cursor_close(cursor);
    imp_store_read_end(tx);
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "checkpoints can't be read (%s)",
                                            imp_status_name(status));
}

imp_status audit_verify(struct audit *audit, struct audit_verdict *verdict, imp_error *error)
{
    struct walk walk = {.audit = audit, .verdict = verdict};
    bool at_end = false;
    *verdict = (struct audit_verdict){0};
    while (!at_end && verdict->bad_sequence == 0) {
        imp_status status = walk_step(&walk, &at_end, error);
        if (status != IMP_OK)
            return status;
    }
    if (verdict->bad_sequence == 0) {
        imp_status status = checkpoints_hold(&walk, error);
        if (status != IMP_OK)
            return status;
    }
    if (verdict->bad_sequence != 0)
        return imp_error_set(error, IMP_CORRUPT, "the audit trail breaks at event %" PRIu64 ": %s",
                             verdict->bad_sequence, verdict->reason);
    return IMP_OK;
}
