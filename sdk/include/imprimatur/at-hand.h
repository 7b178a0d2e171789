/* SPDX-License-Identifier: Apache-2.0 */
/*
 * at-hand.h - what survives a crash of the server without being on disk: the object that a thread
 * has at hand, and how many bytes of a delivery have left.
 *
 * Both lie in a piece of memory that the supervisor holds. The core itself notes module and
 * generation whenever it calls into a module; a module that takes up one job, delivery or device
 * says so with one call, and a crash is then reported with that object's id.
 */
#ifndef IMPRIMATUR_AT_HAND_H
#define IMPRIMATUR_AT_HAND_H

#include <imprimatur/base.h>

#define IMP_AT_HAND_NOTHING 0u
#define IMP_AT_HAND_JOB 1u
#define IMP_AT_HAND_DELIVERY 2u
#define IMP_AT_HAND_DEVICE 3u
#define IMP_AT_HAND_DOCUMENT 4u
#define IMP_AT_HAND_PEER 5u /* the id is the stream's, never an address */
#define IMP_AT_HAND_PRINCIPAL 6u
#define IMP_AT_HAND_KINDS 7u

/* Notes what the call that the core is making into this module works on; it is forgotten when that
 * call returns, and a second note replaces the first. Costs a few stores. Any thread. */
IMP_PUBLIC void imp_at_hand(uint32_t kind, imp_id id);

/*
 * "Bytes sent" words. A transport begins one after the claim of its delivery is committed and adds
 * to it BEFORE it hands bytes to the socket. After a crash of the server alone:
 *   - a word that is there and 0: no byte left, the delivery may be resumed;
 *   - a word over 0: some may have left, the delivery is uncertain;
 *   - no word (the machine or the supervisor restarted, or no slot was free): uncertain.
 */
typedef uint32_t imp_sent_slot;
#define IMP_SENT_NONE ((imp_sent_slot)UINT32_MAX)

/* A word for this delivery, counting from 0; IMP_SENT_NONE when all slots are in use (the delivery
 * goes on without: imp_sent_add and imp_sent_end ignore it). Any thread. */
IMP_PUBLIC imp_sent_slot imp_sent_begin(imp_id delivery);
/* Adds to the word. Any thread; one at a time for a slot. */
IMP_PUBLIC void imp_sent_add(imp_sent_slot slot, uint64_t bytes);
/* Gives the slot back: the delivery's end is committed. */
IMP_PUBLIC void imp_sent_end(imp_sent_slot slot);
/* The word of a delivery that an earlier run of the server began: true and its slot (to go on with or
 * to end) and count. Where several runs have begun one for the same delivery it is the one that counts
 * most. Linear in the slots; for start only. */
IMP_PUBLIC bool imp_sent_find(imp_id delivery, imp_sent_slot *slot, uint64_t *bytes);
/* Gives back all slots of earlier runs: it is committed what became of their deliveries. Those that this
 * run has begun stay. For start only. */
IMP_PUBLIC void imp_sent_end_old(void);

#endif
