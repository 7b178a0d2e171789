/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit.h - private to module audit: the chain of events and its checkpoints.
 *
 * Row n of table `event` holds the serialized event and SHA-256(hash of row n-1 || event); row 0 is
 * 32 zero bytes. The end of the chain stands in table `head`. Every `checkpoint_events` events a
 * checkpoint row is written in the same commit; its number is also kept by the supervisor, so that a
 * store that was rolled back as a whole is noticed.
 */
#ifndef IMPRIMATUR_MODULES_AUDIT_H
#define IMPRIMATUR_MODULES_AUDIT_H

#include "modules/audit/audit.pb-c.h"

#include <imprimatur/audit.h>
#include <imprimatur/loop.h>
#include <imprimatur/metrics.h>
#include <imprimatur/store.h>

#define AUDIT_HASH_SIZE 32
#define AUDIT_ACTION_MAX 47
#define AUDIT_DETAIL_MAX 200
#define AUDIT_BODY_MAX 512 /* an event's serialized size is below this by its fields' bounds */

struct audit_conf {
    int64_t checkpoint_events;
};

struct audit {
    imp_self *self;
    _Atomic(const struct audit_conf *) conf; /* replaced by reconfigure */
    imp_table *events, *head, *checkpoints;
    imp_metric *appended;
    uint64_t told_checkpoint; /* the number that the supervisor was told last; control thread */
    imp_timer *tell_timer;
};

/* ---- audit-chain.c ---- */

imp_status audit_append_tx(struct audit *audit, imp_tx *tx, const imp_audit_event *event,
                           imp_error *error);
/* The end of the chain as the store has it; zero when nothing was appended yet. */
imp_status audit_head_read(struct audit *audit, imp_tx *tx, uint64_t *sequence,
                           uint8_t hash[AUDIT_HASH_SIZE], uint64_t *checkpoint,
                           uint64_t *next_checkpoint_sequence);
void audit_key(uint64_t number, uint8_t key[8]); /* big-endian, so that keys sort by number */
void audit_hash(const uint8_t previous[AUDIT_HASH_SIZE], const void *body, size_t length,
                uint8_t hash[AUDIT_HASH_SIZE]);

/* ---- audit-verify.c ---- */

struct audit_verdict {
    uint64_t events;       /* that hold */
    uint64_t checkpoints;  /* that hold */
    uint64_t bad_sequence; /* first event that does not; 0 = all hold */
    char reason[160];
};

/* Walks the whole chain in short read transactions. Worker thread. IMP_OK with verdict->bad_sequence
 * 0, or IMP_CORRUPT with the first bad row named. */
imp_status audit_verify(struct audit *audit, struct audit_verdict *verdict, imp_error *error);

/* ---- audit-verbs.c ---- */

imp_status audit_verbs_add(struct audit *audit, imp_error *error);

#endif
