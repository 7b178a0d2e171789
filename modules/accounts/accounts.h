/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accounts.h - private to module accounts: users, how they prove who they are, sessions, lock-outs.
 *
 * Table `user` holds records by id; `name` and `card` lead from keyed hashes to ids; `session` holds
 * sessions by id; `failures` counts failed attempts by the keyed hash of a user or of a place.
 */
#ifndef IMPRIMATUR_MODULES_ACCOUNTS_H
#define IMPRIMATUR_MODULES_ACCOUNTS_H

#include "modules/accounts/accounts.pb-c.h"

#include <imprimatur/accounts.h>
#include <imprimatur/audit.h>
#include <imprimatur/loop.h>
#include <imprimatur/message.h>
#include <imprimatur/metrics.h>
#include <imprimatur/store.h>
#include <pthread.h>
#include <stdatomic.h>

#define ACCOUNTS_SECRET_MAX                                                                        \
    1024                     /* bytes of a password, PIN or card number; argon2 takes any length */
#define ACCOUNTS_CARDS_MAX 8 /* of one user */
#define ACCOUNTS_GRANTS_MAX 64
#define ACCOUNTS_RIGHT_MAX 63
#define ACCOUNTS_PHC_SIZE 128 /* an encoded argon2id hash of our parameters and its NUL */

#define USER_TYPE (&imprimatur__accounts__user__descriptor)

struct accounts_conf {
    bool strip_domain;
    bool card_alone;
    int64_t password_min, pin_min;
    int64_t failures_max, failures_max_place;
    int64_t lock_time, failure_delay;
    int64_t session_idle, session_max;
    int64_t hash_memory, hash_passes, hash_parallel, hash_queue;
};

struct authentication;

struct accounts {
    imp_self *self;
    _Atomic(const struct accounts_conf *) conf; /* replaced by reconfigure */
    imp_table *user, *name, *card, *session, *failures;
    imp_metric *logins, *refusals, *lockouts;
    imp_metric *turned_away; /* too many waited for a verification */
    imp_timer *sweep_timer;
    bool is_sweeping; /* control thread */
    _Atomic bool is_draining;
    char no_hash[ACCOUNTS_PHC_SIZE]; /* verified when there is nobody, so that time tells nothing */
    /* Verifications cost memory and a worker for tens of milliseconds; at most hash_parallel run, the
     * others wait here. */
    pthread_mutex_t lock;
    uint32_t running, waiting;
    struct authentication *first, *last;
};

/* ---- accounts-store.c ---- */

/* The form in which names are hashed: folded, and without domain or realm where `strip_domain`.
 * IMP_INVALID for what is too long for a name: cut, it might be another's. */
imp_status accounts_name_hash(struct accounts *accounts, const char *name,
                              uint8_t hash[IMP_HASH_SIZE]);
/* Card numbers are compared without blanks, colons and dashes, in upper case. IMP_INVALID when nothing
 * is left or too much. */
imp_status accounts_card_hash(struct accounts *accounts, const char *card,
                              uint8_t hash[IMP_HASH_SIZE]);
/* The record, in memory of `tx`, which is wiped when it ends; NULL with *status. */
Imprimatur__Accounts__User *user_get_tx(struct accounts *accounts, imp_tx *tx, const imp_id *id,
                                        imp_status *status);
imp_status user_find_tx(struct accounts *accounts, imp_tx *tx, const char *name, imp_id *id);
imp_status user_find_card_tx(struct accounts *accounts, imp_tx *tx,
                             const uint8_t hash[IMP_HASH_SIZE], imp_id *id);
/* Writes a record and its index rows; `before` is what is stored now, NULL for a new user. */
imp_status user_put_tx(struct accounts *accounts, imp_tx *tx,
                       const Imprimatur__Accounts__User *before,
                       const Imprimatur__Accounts__User *after, imp_error *error);
imp_status user_remove_tx(struct accounts *accounts, imp_tx *tx,
                          const Imprimatur__Accounts__User *user, imp_error *error);

/* ---- accounts-secret.c ---- */

/* argon2id with a random salt, in PHC form. Worker threads: takes tens of milliseconds. */
imp_status secret_hash(const struct accounts_conf *conf, const char *secret,
                       char encoded[ACCOUNTS_PHC_SIZE]);
/* True when `secret` is what was hashed. Worker threads. */
bool secret_matches(const char *encoded, const char *secret);

/* ---- accounts-session.c ---- */

imp_status session_put_tx(struct accounts *accounts, imp_tx *tx, const imp_session *session);
imp_status session_get_tx(struct accounts *accounts, imp_tx *tx, const imp_id *id,
                          imp_session *session);
/* The service's two calls. */
imp_status session_get(struct accounts *accounts, const imp_id *id, imp_session *session);
imp_status session_end(struct accounts *accounts, const imp_id *id);
/* Has a worker delete sessions and failure rows whose time is over. Control thread. */
void accounts_sweep(void *arg);

/* ---- accounts-failures.c ---- */

/* Hash of the row that counts for a user, for a place, or for a card or name that is nobody's (by the
 * hash that was looked for). */
void failures_hash_user(struct accounts *accounts, const imp_id *user, uint8_t hash[IMP_HASH_SIZE]);
void failures_hash_presented(struct accounts *accounts, const char *purpose,
                             const uint8_t presented[IMP_HASH_SIZE], uint8_t hash[IMP_HASH_SIZE]);
void failures_hash_place(struct accounts *accounts, const imp_id *device, const char *address,
                         uint8_t hash[IMP_HASH_SIZE]);
/* IMP_LIMIT while the row is locked. */
imp_status failures_check_tx(struct accounts *accounts, imp_tx *tx,
                             const uint8_t hash[IMP_HASH_SIZE]);
/* Counts one more; *is_locked_now when this one locked it. */
imp_status failures_add_tx(struct accounts *accounts, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                           int64_t most, bool *is_locked_now);
imp_status failures_clear_tx(struct accounts *accounts, imp_tx *tx,
                             const uint8_t hash[IMP_HASH_SIZE]);

/* ---- accounts-authenticate.c ---- */

void accounts_authenticate(struct accounts *accounts, const imp_credentials *credentials,
                           imp_authenticated done, void *arg);

/* Tells those who still wait for a verification that there will be none. Posts can't be made any more
 * once the generation is cut, and a log-in that nobody answers would hold it for ever. */
void accounts_end_waiting(void *arg);

/* ---- accounts-verbs.c ---- */

imp_status accounts_verbs_add(struct accounts *accounts, imp_error *error);

#endif
