/* SPDX-License-Identifier: Apache-2.0 */
/* audit-verify.c - walking the chain: every hash, every number, every checkpoint, and the end. */
#include "audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct walk {
    struct audit_tables chain;
    struct audit_verdict *verdict;
    uint64_t sequence; /* of the last row that holds */
    uint8_t hash[AUDIT_HASH_SIZE];
    uint64_t rolled_back; /* first event that records a roll-back which nobody has accepted; or 0 */
};

static bool blame(struct audit_verdict *verdict, uint64_t sequence, const char *reason)
{
    verdict->bad_sequence = sequence;
    snprintf(verdict->reason, sizeof verdict->reason, "%s", reason);
    return false;
}

/* Whether an event follows the one before; takes it into the walk. */
static bool event_holds(struct walk *walk, const Imprimatur__Audit__Link *link,
                        const Imprimatur__Audit__Event *event)
{
    uint64_t expected = walk->sequence + 1;
    uint8_t hash[AUDIT_HASH_SIZE];
    if (link == NULL)
        return blame(walk->verdict, expected, "the row does not decode");
    if (link->body.len > AUDIT_BODY_MAX || link->hash.len != AUDIT_HASH_SIZE)
        return blame(walk->verdict, expected, "the row's parts have wrong sizes");
    audit_hash(walk->hash, link->body.data, link->body.len, hash);
    if (memcmp(hash, link->hash.data, AUDIT_HASH_SIZE) != 0)
        return blame(walk->verdict, expected, "its hash does not follow from the one before");
    if (event == NULL || event->sequence != expected)
        return blame(walk->verdict, expected, "the event carries another number");
    if (strcmp(event->action, AUDIT_ROLLED_BACK) == 0 && walk->rolled_back == 0)
        walk->rolled_back = expected;
    else if (strcmp(event->action, AUDIT_ACCEPT) == 0)
        walk->rolled_back = 0;
    memcpy(walk->hash, hash, AUDIT_HASH_SIZE);
    walk->sequence = expected;
    walk->verdict->events++;
    return true;
}

/* One row: its number, its hash over the previous one. On the heap: a transaction's memory would hold
 * every event of a backup until its end. */
static bool row_holds(struct walk *walk, imp_bytes key, imp_bytes value)
{
    uint8_t expected_key[8];
    audit_key(walk->sequence + 1, expected_key);
    if (key.length != sizeof expected_key || memcmp(key.data, expected_key, key.length) != 0)
        return blame(walk->verdict, walk->sequence + 1, "the event is missing");
    Imprimatur__Audit__Link *link = imprimatur__audit__link__unpack(NULL, value.length, value.data);
    Imprimatur__Audit__Event *event =
        link == NULL ? NULL
                     : imprimatur__audit__event__unpack(NULL, link->body.len, link->body.data);
    bool holds = event_holds(walk, link, event);
    if (event != NULL)
        imprimatur__audit__event__free_unpacked(event, NULL);
    if (link != NULL)
        imprimatur__audit__link__free_unpacked(link, NULL);
    return holds;
}

/* Up to `most` rows (0: all); *at_end when the last one was seen. A row that does not open is blamed. */
static imp_status walk_rows(struct walk *walk, imp_tx *tx, int most, bool *at_end, imp_error *error)
{
    imp_cursor *cursor = NULL;
    uint8_t from[8];
    audit_key(walk->sequence + 1, from);
    imp_status status =
        imp_cursor_open(tx, walk->chain.event, (imp_bytes){from, sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && (most == 0 || i < most) && walk->verdict->bad_sequence == 0;
         i++) {
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
        struct audit_head head;
        *at_end = true;
        status = audit_head_read(tx, &walk->chain, &head);
        if (status == IMP_CORRUPT ||
            (status == IMP_OK && (head.sequence != walk->sequence ||
                                  memcmp(head.hash, walk->hash, AUDIT_HASH_SIZE) != 0))) {
            blame(walk->verdict, walk->sequence + 1, "the end of the trail is cut off or replaced");
            status = IMP_OK;
        }
    }
    imp_cursor_close(cursor);
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "the audit trail can't be read (%s)",
                                            imp_status_name(status));
}

/* Whether a checkpoint names the hash of its event. Its number follows that of the one before, but for
 * the checkpoint of a noted roll-back: that one leaves out the numbers that were lost. */
static bool checkpoint_holds(struct walk *walk, imp_tx *tx,
                             const Imprimatur__Audit__Checkpoint *checkpoint, uint64_t expected)
{
    uint8_t key[8];
    imp_bytes row;
    Imprimatur__Audit__Link *link;
    if (checkpoint->number < expected || checkpoint->hash.len != AUDIT_HASH_SIZE)
        return false;
    audit_key(checkpoint->sequence, key);
    if (imp_tx_get(tx, walk->chain.event, (imp_bytes){key, sizeof key}, &row) != IMP_OK)
        return false;
    const Imprimatur__Audit__Event *event = audit_event_open(tx, row, &link);
    if (event == NULL || link->hash.len != AUDIT_HASH_SIZE ||
        memcmp(link->hash.data, checkpoint->hash.data, AUDIT_HASH_SIZE) != 0)
        return false;
    return checkpoint->number == expected || strcmp(event->action, AUDIT_ROLLED_BACK) == 0;
}

static imp_status walk_checkpoints(struct walk *walk, imp_tx *tx, imp_error *error)
{
    imp_cursor *cursor = NULL;
    uint64_t number = 0, sequence = 0; /* of the last one that holds, and of its event */
    struct audit_head head;
    char reason[80];
    imp_status status = audit_head_read(tx, &walk->chain, &head);
    if (status == IMP_OK)
        status = imp_cursor_open(tx, walk->chain.checkpoint, (imp_bytes){NULL, 0}, &cursor);
    while (status == IMP_OK && walk->verdict->bad_sequence == 0) {
        imp_bytes key, value;
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_CORRUPT) {
            snprintf(reason, sizeof reason,
                     "the seal of the checkpoint behind checkpoint %" PRIu64 " does not hold",
                     number);
            blame(walk->verdict, sequence + 1, reason);
            status = IMP_OK;
        } else if (status == IMP_OK) {
            const Imprimatur__Audit__Checkpoint *checkpoint =
                imp_message_decode(tx, CHECKPOINT_TYPE, value);
            if (checkpoint != NULL && checkpoint_holds(walk, tx, checkpoint, number + 1)) {
                number = checkpoint->number;
                sequence = checkpoint->sequence;
                walk->verdict->checkpoints++;
                continue;
            }
            snprintf(reason, sizeof reason,
                     "the checkpoint behind checkpoint %" PRIu64 " does not match its event",
                     number);
            blame(walk->verdict, checkpoint == NULL ? sequence + 1 : checkpoint->sequence, reason);
        }
    }
    if (status == IMP_NOT_FOUND) {
        status = IMP_OK;
        if (number != head.checkpoint)
            blame(walk->verdict, sequence + 1, "checkpoints are missing at the end");
    }
    imp_cursor_close(cursor);
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "checkpoints can't be read (%s)",
                                            imp_status_name(status));
}

static imp_status pronounce(const struct audit_verdict *verdict, imp_error *error)
{
    return verdict->bad_sequence == 0
               ? IMP_OK
               : imp_error_set(error, IMP_CORRUPT,
                               "the audit trail breaks at event %" PRIu64 ": %s",
                               verdict->bad_sequence, verdict->reason);
}

imp_status audit_verify(struct audit *audit, struct audit_verdict *verdict, imp_error *error)
{
    struct walk walk = {.chain = audit->chain, .verdict = verdict};
    bool at_end = false;
    imp_status status = IMP_OK;
    *verdict = (struct audit_verdict){0};
    while (status == IMP_OK && !at_end && verdict->bad_sequence == 0) {
        imp_tx *tx;
        status = imp_store_read_begin(audit->self, &tx, error);
        if (status != IMP_OK)
            return status;
        status = walk_rows(&walk, tx, AUDIT_STEP_ROWS, &at_end, error);
        /* In the transaction that has seen the end: no checkpoint is newer than it. */
        if (status == IMP_OK && at_end && verdict->bad_sequence == 0)
            status = walk_checkpoints(&walk, tx, error);
        imp_store_read_end(tx);
    }
    if (status == IMP_OK && verdict->bad_sequence == 0 && walk.rolled_back != 0)
        blame(verdict, walk.rolled_back,
              "the store was put back as a whole, and events before it are lost; if that was a "
              "restore: audit accept");
    return status == IMP_OK ? pronounce(verdict, error) : status;
}

imp_status audit_check_backup(imp_self *self, void *instance, imp_tx *tx, imp_error *error)
{
    struct audit_verdict verdict = {0};
    struct walk walk = {.chain = {imp_tx_table(tx, self, "event"), imp_tx_table(tx, self, "head"),
                                  imp_tx_table(tx, self, "checkpoint")},
                        .verdict = &verdict};
    bool at_end = false;
    (void)instance;
    if (walk.chain.event == NULL || walk.chain.head == NULL || walk.chain.checkpoint == NULL)
        return imp_error_set(error, IMP_CORRUPT, "the backup holds no audit trail");
    imp_status status = walk_rows(&walk, tx, 0, &at_end, error);
    if (status == IMP_OK && verdict.bad_sequence == 0)
        status = walk_checkpoints(&walk, tx, error);
    return status == IMP_OK ? pronounce(&verdict, error) : status;
}
