/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit.h - private to module audit: the chain of events and its checkpoints.
 *
 * Row n of table `event` holds the serialized event and SHA-256(hash of row n-1 || event); row 0 is
 * 32 zero bytes. The end of the chain stands in table `head`. Every `checkpoint_events` events a
 * checkpoint row is written in the same commit; its number is also kept by the supervisor, so that a
 * store that was rolled back as a whole is noticed.
 *
 * Network addresses are no part of the chain: table `address` holds them by the ids that events name,
 * `address_use` leads from their keyed hashes to those ids. Both rows go when `address_retention` has
 * passed since the last use.
 */
#ifndef IMPRIMATUR_MODULES_AUDIT_H
#define IMPRIMATUR_MODULES_AUDIT_H

#include "modules/audit/audit.pb-c.h"

#include <imprimatur/audit.h>
#include <imprimatur/control.h>
#include <imprimatur/loop.h>
#include <imprimatur/message.h>
#include <imprimatur/metrics.h>
#include <imprimatur/network.h>
#include <imprimatur/store.h>

#define AUDIT_HASH_SIZE 32
#define AUDIT_ACTION_MAX 47
#define AUDIT_DETAIL_MAX 200
#define AUDIT_BODY_MAX 512   /* an event's serialized size is below this by its fields' bounds */
#define AUDIT_STEP_ROWS 2000 /* rows looked at in one read transaction: no reader lives long */

/* Events that verification knows by their action. */
#define AUDIT_ROLLED_BACK "audit.rolled-back"
#define AUDIT_ACCEPT "audit.accept"

#define EVENT_TYPE (&imprimatur__audit__event__descriptor)
#define LINK_TYPE (&imprimatur__audit__link__descriptor)
#define HEAD_TYPE (&imprimatur__audit__head__descriptor)
#define CHECKPOINT_TYPE (&imprimatur__audit__checkpoint__descriptor)
#define ADDRESS_TYPE (&imprimatur__audit__address__descriptor)
#define ADDRESS_USE_TYPE (&imprimatur__audit__address_use__descriptor)

struct audit_conf {
    int64_t checkpoint_events;
    int64_t address_retention, addresses_max;
};

/* The tables that a chain stands in: the running store's, or a backup's. */
struct audit_tables {
    imp_table *event, *head, *checkpoint;
};

struct audit {
    imp_self *self;
    _Atomic(const struct audit_conf *) conf; /* replaced by reconfigure */
    struct audit_tables chain;
    imp_table *address, *address_use;
    imp_metric *appended, *addresses_dropped;
    imp_metric *unreadable;   /* rows that listings and exports left out */
    uint64_t told_checkpoint; /* the number that the supervisor was told last; control thread */
    int64_t said_dropped;     /* of addresses_dropped; control thread */
    imp_timer *tell_timer, *sweep_timer;
    bool is_sweeping; /* control thread */
};

/* ---- audit-chain.c ---- */

/* The end of the chain; all zero when nothing was appended yet. */
struct audit_head {
    uint64_t sequence, checkpoint, next_checkpoint;
    uint8_t hash[AUDIT_HASH_SIZE];
};

imp_status audit_head_read(imp_tx *tx, const struct audit_tables *chain, struct audit_head *head);
imp_status audit_append_tx(struct audit *audit, imp_tx *tx, const imp_audit_event *event,
                           imp_error *error);
/* Appends AUDIT_ROLLED_BACK, with a checkpoint of a number over `remembered`: what is put back to a state
 * behind this one is noticed again. */
imp_status audit_note_rollback_tx(struct audit *audit, imp_tx *tx, uint64_t remembered,
                                  imp_error *error);
void audit_key(uint64_t number, uint8_t key[8]); /* big-endian, so that keys sort by number */
/* The number that a key stands for; 0 for what is none. */
uint64_t audit_key_number(imp_bytes key);
void audit_hash(const uint8_t previous[AUDIT_HASH_SIZE], const void *body, size_t length,
                uint8_t hash[AUDIT_HASH_SIZE]);
/* A row of table `event`, in memory of `tx`: *link as it stands there, and the event in it. NULL when it
 * does not decode. */
Imprimatur__Audit__Event *audit_event_open(imp_tx *tx, imp_bytes value,
                                           Imprimatur__Audit__Link **link);

/* ---- audit-address.c ---- */

/* The id of the row of `address`, made if need be; where too many are on record one that was long unused
 * goes. The zero id, with IMP_OK, when it is no address or no addresses are kept. Writer. */
imp_status address_id_tx(struct audit *audit, imp_tx *tx, const char *address, imp_id *id);
/* The address of an id; false when it was erased. */
bool address_text_tx(struct audit *audit, imp_tx *tx, const imp_id *id,
                     char text[IMP_NETWORK_TEXT_SIZE]);
/* Erases an address before its time; *id is what it had. IMP_NOT_FOUND. Writer. */
imp_status address_forget_tx(struct audit *audit, imp_tx *tx, const char *address, imp_id *id);
/* Erases those whose retention is over. Worker thread; blocks. */
void address_sweep(struct audit *audit);

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
/* The same for the chain in a backup that is being verified (imp_backup_check_add). A roll-back that is
 * on record there is no fault of the backup. */
imp_status audit_check_backup(imp_self *self, void *instance, imp_tx *tx, imp_error *error);

/* ---- audit-list.c ---- */

/* `audit list`. */
void audit_verb_list(imp_self *self, void *instance, imp_request *request);

/* ---- audit-verbs.c ---- */

imp_status audit_verbs_add(struct audit *audit, imp_error *error);

#endif
