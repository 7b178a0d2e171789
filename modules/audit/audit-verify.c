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
    uint64_t checkpoint, checkpoint_sequence; /* the last checkpoint that holds, and its event */
    uint64_t rolled_back; /* first event that records a roll-back which nobody has accepted; or 0 */
};

static bool blame(struct audit_verdict *verdict, uint64_t sequence, const char *reason)
{
    verdict->bad_sequence = sequence;
    snprintf(verdict->reason, sizeof verdict->reason, "%s", reason);
    return false;
}

/* What a walk that could not go on says. */
static imp_status walk_ended(imp_status status, const char *what, imp_error *error)
{
    if (status == IMP_UNAVAILABLE)
        return imp_error_set(error, status, "the server is stopping");
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "%s can't be read (%s)", what,
                                            imp_status_name(status));
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
        status = imp_work_is_cancelled() ? IMP_UNAVAILABLE : imp_cursor_next(cursor, &key, &value);
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
    return walk_ended(status, "the audit trail", error);
}

/* Whether an event's row, found at a checkpoint's number, is the one that the checkpoint names. On the
 * heap, as in row_holds. */
static bool row_is_named(const Imprimatur__Audit__Checkpoint *checkpoint, imp_bytes row,
                         bool may_skip)
{
    Imprimatur__Audit__Link *link = imprimatur__audit__link__unpack(NULL, row.length, row.data);
    Imprimatur__Audit__Event *event =
        link == NULL ? NULL
                     : imprimatur__audit__event__unpack(NULL, link->body.len, link->body.data);
    bool is_named = event != NULL && link->hash.len == AUDIT_HASH_SIZE &&
                    memcmp(link->hash.data, checkpoint->hash.data, AUDIT_HASH_SIZE) == 0 &&
                    (!may_skip || strcmp(event->action, AUDIT_ROLLED_BACK) == 0);
    if (event != NULL)
        imprimatur__audit__event__free_unpacked(event, NULL);
    if (link != NULL)
        imprimatur__audit__link__free_unpacked(link, NULL);
    return is_named;
}

/* Whether a checkpoint names the hash of its event. Its number follows that of the one before, but for
 * the checkpoint of a noted roll-back: that one leaves out the numbers that were lost. */
static bool checkpoint_holds(struct walk *walk, imp_tx *tx,
                             const Imprimatur__Audit__Checkpoint *checkpoint)
{
    uint8_t wanted[8];
    imp_bytes key, row;
    imp_cursor *cursor = NULL;
    uint64_t expected = walk->checkpoint + 1;
    if (checkpoint->number < expected || checkpoint->hash.len != AUDIT_HASH_SIZE)
        return false;
    audit_key(checkpoint->sequence, wanted);
    /* A cursor, whose buffer goes with it: imp_tx_get's would stay until the transaction ends. */
    bool holds = imp_cursor_open(tx, walk->chain.event, (imp_bytes){wanted, sizeof wanted},
                                 &cursor) == IMP_OK &&
                 imp_cursor_next(cursor, &key, &row) == IMP_OK && key.length == sizeof wanted &&
                 memcmp(key.data, wanted, sizeof wanted) == 0 &&
                 row_is_named(checkpoint, row, checkpoint->number != expected);
    imp_cursor_close(cursor);
    return holds;
}

static void checkpoint_row(struct walk *walk, imp_tx *tx, imp_bytes key, imp_bytes value)
{
    char reason[80];
    Imprimatur__Audit__Checkpoint *checkpoint =
        imprimatur__audit__checkpoint__unpack(NULL, value.length, value.data);
    if (checkpoint != NULL && audit_key_number(key) == checkpoint->number &&
        checkpoint_holds(walk, tx, checkpoint)) {
        walk->checkpoint = checkpoint->number;
        walk->checkpoint_sequence = checkpoint->sequence;
        walk->verdict->checkpoints++;
    } else {
        snprintf(reason, sizeof reason,
                 "the checkpoint behind checkpoint %" PRIu64 " does not match its event",
                 walk->checkpoint);
        blame(walk->verdict,
              checkpoint == NULL ? walk->checkpoint_sequence + 1 : checkpoint->sequence, reason);
    }
    if (checkpoint != NULL)
        imprimatur__audit__checkpoint__free_unpacked(checkpoint, NULL);
}

/* Up to `most` checkpoints (0: all); *at_end when the last one was seen, which the head of the same
 * transaction names. */
static imp_status walk_checkpoints(struct walk *walk, imp_tx *tx, int most, bool *at_end,
                                   imp_error *error)
{
    imp_cursor *cursor = NULL;
    struct audit_head head;
    uint8_t from[8];
    char reason[80];
    imp_status status = audit_head_read(tx, &walk->chain, &head);
    audit_key(walk->checkpoint + 1, from);
    if (status == IMP_OK)
        status =
            imp_cursor_open(tx, walk->chain.checkpoint,
                            (imp_bytes){from, walk->checkpoint == 0 ? 0 : sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && (most == 0 || i < most) && walk->verdict->bad_sequence == 0;
         i++) {
        imp_bytes key, value;
        status = imp_work_is_cancelled() ? IMP_UNAVAILABLE : imp_cursor_next(cursor, &key, &value);
        if (status == IMP_CORRUPT) {
            snprintf(reason, sizeof reason,
                     "the seal of the checkpoint behind checkpoint %" PRIu64 " does not hold",
                     walk->checkpoint);
            blame(walk->verdict, walk->checkpoint_sequence + 1, reason);
            status = IMP_OK;
        } else if (status == IMP_OK) {
            checkpoint_row(walk, tx, key, value);
        }
    }
    if (status == IMP_NOT_FOUND) {
        *at_end = true;
        status = IMP_OK;
        if (walk->checkpoint != head.checkpoint)
            blame(walk->verdict, walk->checkpoint_sequence + 1,
                  "checkpoints are missing at the end");
    }
    imp_cursor_close(cursor);
    return walk_ended(status, "checkpoints", error);
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
        imp_store_read_end(tx);
    }
    /* Each step has head and events of its own transaction: those that came meanwhile are no fault. */
    at_end = false;
    while (status == IMP_OK && !at_end && verdict->bad_sequence == 0) {
        imp_tx *tx;
        status = imp_store_read_begin(audit->self, &tx, error);
        if (status != IMP_OK)
            return status;
        status = walk_checkpoints(&walk, tx, AUDIT_STEP_ROWS, &at_end, error);
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
        status = walk_checkpoints(&walk, tx, 0, &at_end, error);
    return status == IMP_OK ? pronounce(&verdict, error) : status;
}
