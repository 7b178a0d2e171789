/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accounts-authenticate.c - one attempt, from what a person presents to a session or a refusal.
 *
 *   caller's loop: look up user, look at lock-outs
 *   worker:        argon2id (against a hash of nothing when there is no such user)
 *   writer:        session or failure counts, and the audit event, in one commit; locks are looked
 *                  at again, for those that were verified beside each other
 *   caller's loop: `done`, after failure_delay when refused
 *
 * A refusal never says which part was wrong, takes as long whether the user exists or not, and locks
 * alike: failures of nobody count for the card or name that was presented.
 */
#include "accounts.h"

#include <imprimatur/log.h>

#include <stdlib.h>
#include <string.h>

#define BUSY_LOG_INTERVAL_MS 60000

struct authentication {
    struct accounts *accounts;
    imp_authenticated done;
    void *arg;
    imp_loop *loop;
    struct authentication *next; /* waiting for a verification slot */
    bool has_slot;

    imp_id device;
    char address[46];
    uint32_t methods; /* that a success would prove */
    bool has_user;
    imp_id user;
    uint8_t who[IMP_HASH_SIZE]; /* row that counts failures of the user, or of what was presented */
    char secret[ACCOUNTS_SECRET_MAX];
    char encoded[ACCOUNTS_PHC_SIZE];
    bool needs_secret; /* false: a card alone */
    bool matches;

    imp_status verdict; /* before the commit: IMP_OK, IMP_DENIED or IMP_LIMIT */
    imp_status status;  /* the commit's verdict, or why it could not be decided */
    imp_error error;
    imp_session session;
};

static void finish(void *arg)
{
    struct authentication *attempt = arg;
    struct accounts *accounts = attempt->accounts;
    attempt->done(attempt->status, attempt->status == IMP_OK ? &attempt->session : NULL,
                  &attempt->error, attempt->arg);
    imp_wipe(attempt, sizeof *attempt);
    free(attempt);
    imp_unpin(accounts->self, "authentication");
}

/* ---- the commit ---- */

/* IMP_LIMIT while the place, the user or what was presented is locked. */
static imp_status look_at_locks(struct authentication *attempt, imp_tx *tx)
{
    uint8_t hash[IMP_HASH_SIZE];
    failures_hash_place(attempt->accounts, &attempt->device, attempt->address, hash);
    imp_status status = failures_check_tx(attempt->accounts, tx, hash);
    return status == IMP_OK ? failures_check_tx(attempt->accounts, tx, attempt->who) : status;
}

static imp_status record_failure(struct authentication *attempt, imp_tx *tx, const char **detail)
{
    struct accounts *accounts = attempt->accounts;
    uint8_t hash[IMP_HASH_SIZE];
    bool is_user_locked = false, is_place_locked = false;
    imp_status status =
        failures_add_tx(accounts, tx, attempt->who, accounts->conf->failures_max, &is_user_locked);
    if (status == IMP_OK) {
        failures_hash_place(accounts, &attempt->device, attempt->address, hash);
        status = failures_add_tx(accounts, tx, hash, accounts->conf->failures_max_place,
                                 &is_place_locked);
    }
    *detail = is_user_locked ? "lock=user" : is_place_locked ? "lock=place" : "";
    if (status == IMP_OK && (is_user_locked || is_place_locked))
        imp_metric_add(accounts->lockouts, 1);
    return status;
}

static imp_status record_success(struct authentication *attempt, imp_tx *tx)
{
    struct accounts *accounts = attempt->accounts;
    imp_status status = failures_clear_tx(accounts, tx, attempt->who);
    int64_t now = imp_now();
    attempt->session.started = now;
    attempt->session.idle_end = now + accounts->conf->session_idle;
    attempt->session.absolute_end = now + accounts->conf->session_max;
    return status == IMP_OK ? session_put_tx(accounts, tx, &attempt->session) : status;
}

static const char *methods_text(uint32_t methods)
{
    switch (methods) {
    case IMP_METHOD_CARD: return "methods=card";
    case IMP_METHOD_CARD | IMP_METHOD_PIN: return "methods=card,pin";
    default: return "methods=password";
    }
}

static imp_status record_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct authentication *attempt = arg;
    const char *detail = methods_text(attempt->methods);
    /* Many guesses may have been verified before the first of them was counted. */
    imp_status status = look_at_locks(attempt, tx);
    attempt->status = attempt->verdict;
    if (status == IMP_LIMIT) {
        attempt->status = IMP_LIMIT;
        status = IMP_OK;
    } else if (status == IMP_OK && attempt->status == IMP_OK) {
        status = record_success(attempt, tx);
    } else if (status == IMP_OK && attempt->status == IMP_DENIED) {
        status = record_failure(attempt, tx, &detail);
    }
    if (status != IMP_OK)
        return imp_error_set(error, status, "the log-in can't be recorded (%s)",
                             imp_status_name(status));
    imp_audit_event event = {.size = sizeof event,
                             .action = "user.login",
                             .place_kind = !imp_id_is_zero(attempt->device) ? "device"
                                           : attempt->address[0] != '\0'    ? "address"
                                                                            : "control",
                             .place = attempt->device,
                             .address = attempt->address,
                             .object_kind = attempt->status == IMP_OK ? "session" : "",
                             .result = attempt->status,
                             .detail = detail};
    if (attempt->has_user)
        event.principal = attempt->user;
    if (attempt->status == IMP_OK)
        event.object = attempt->session.id;
    return imp_audit_append_tx(attempt->accounts->self, tx, &event, error);
}

static void record_done(imp_status status, const imp_error *error, void *arg)
{
    struct authentication *attempt = arg;
    struct accounts *accounts = attempt->accounts;
    if (status != IMP_OK) { /* nothing that is not on record counts */
        attempt->status = status;
        if (error != NULL)
            attempt->error = *error;
        else
            imp_error_set(&attempt->error, status, "the log-in can't be recorded");
    } else if (attempt->status == IMP_DENIED) {
        imp_error_set(&attempt->error, IMP_DENIED,
                      "not known, or not proved; nothing was released");
    } else if (attempt->status == IMP_LIMIT) {
        imp_error_set(&attempt->error, IMP_LIMIT,
                      "locked after too many failures; try again later");
    }
    imp_metric_add(attempt->status == IMP_OK ? accounts->logins : accounts->refusals, 1);
    /* A module that is to end does not wait for those who are made to. */
    if (attempt->status == IMP_DENIED && accounts->conf->failure_delay > 0 &&
        !atomic_load(&accounts->is_draining) &&
        imp_timer_start(accounts->self, accounts->conf->failure_delay, false, finish, attempt) !=
            NULL)
        return;
    finish(attempt);
}

static void record(void *arg)
{
    struct authentication *attempt = arg;
    imp_self *self = attempt->accounts->self;
    imp_status status = imp_store_write(self, IMP_WRITE_CONTROL, record_run, record_done, attempt);
    if (status == IMP_BUSY)
        imp_store_wait(self, IMP_WRITE_CONTROL, record, attempt);
    else if (status != IMP_OK)
        record_done(status, NULL, attempt);
}

/* ---- the verification ---- */

static void verify_run(void *arg)
{
    struct authentication *attempt = arg;
    attempt->matches = secret_matches(attempt->encoded, attempt->secret);
}

static void verify_start(void *arg);

/* Gives the slot to the attempt that waits longest. */
static void slot_release(struct accounts *accounts)
{
    pthread_mutex_lock(&accounts->lock);
    struct authentication *next = accounts->first;
    accounts->running--;
    if (next != NULL && accounts->running < (uint32_t)accounts->conf->hash_parallel) {
        next->has_slot = true;
        if (imp_post(accounts->self, next->loop, verify_start, next) == IMP_OK) {
            accounts->running++;
            accounts->waiting--;
            accounts->first = next->next;
            if (accounts->first == NULL)
                accounts->last = NULL;
        } else { /* memory is short: it stays the first, and the next slot is its own */
            next->has_slot = false;
        }
    }
    pthread_mutex_unlock(&accounts->lock);
}

static void wait_ended(void *arg)
{
    struct authentication *attempt = arg;
    attempt->status = imp_error_set(&attempt->error, IMP_UNAVAILABLE, "the server is stopping");
    finish(attempt);
}

void accounts_end_waiting(void *arg)
{
    struct accounts *accounts = arg;
    pthread_mutex_lock(&accounts->lock);
    while (accounts->first != NULL) {
        struct authentication *next = accounts->first->next;
        /* Memory is short: this one and the others keep waiting for their slots. */
        if (imp_post(accounts->self, accounts->first->loop, wait_ended, accounts->first) != IMP_OK)
            break;
        accounts->first = next;
        accounts->waiting--;
    }
    if (accounts->first == NULL)
        accounts->last = NULL;
    pthread_mutex_unlock(&accounts->lock);
}

static void verify_done(void *arg, bool was_cancelled)
{
    struct authentication *attempt = arg;
    slot_release(attempt->accounts);
    imp_wipe(attempt->secret, sizeof attempt->secret);
    imp_wipe(attempt->encoded, sizeof attempt->encoded);
    if (was_cancelled) {
        attempt->status = imp_error_set(&attempt->error, IMP_UNAVAILABLE, "the server is stopping");
        finish(attempt);
        return;
    }
    attempt->verdict = attempt->matches && attempt->has_user ? IMP_OK : IMP_DENIED;
    record(attempt);
}

static void verify_start(void *arg)
{
    struct authentication *attempt = arg;
    struct accounts *accounts = attempt->accounts;
    if (!attempt->has_slot) {
        bool is_full = false;
        pthread_mutex_lock(&accounts->lock);
        if (accounts->running < (uint32_t)accounts->conf->hash_parallel) {
            accounts->running++;
            attempt->has_slot = true;
        } else if (accounts->waiting >= (uint32_t)accounts->conf->hash_queue) {
            is_full = true;
        } else {
            accounts->waiting++;
            if (accounts->last != NULL)
                accounts->last->next = attempt;
            else
                accounts->first = attempt;
            accounts->last = attempt;
        }
        pthread_mutex_unlock(&accounts->lock);
        if (is_full)
            goto busy;
        if (!attempt->has_slot)
            return; /* slot_release posts it */
    }
    if (imp_work(accounts->self, verify_run, verify_done, attempt) != NULL)
        return;
    slot_release(accounts);
busy:
    imp_metric_add(accounts->turned_away, 1);
    imp_log_limited(accounts->self, BUSY_LOG_INTERVAL_MS, IMP_LOG_WARNING, "accounts.busy",
                    "hash_queue=%lld",
                    (long long)((const struct accounts_conf *)accounts->conf)->hash_queue);
    attempt->status =
        imp_error_set(&attempt->error, IMP_BUSY, "too many log-ins at once; try again");
    finish(attempt);
}

/* ---- the beginning ---- */

static bool secret_copy(char target[ACCOUNTS_SECRET_MAX], const char *secret)
{
    size_t length = strlen(secret);
    if (length == 0 || length >= ACCOUNTS_SECRET_MAX)
        return false; /* some directories take an empty password for anonymous; nobody here does */
    memcpy(target, secret, length + 1);
    return true;
}

/* Who is meant, and what must match. Leaves has_user false for nobody; IMP_INVALID only for a
 * combination of credentials that no policy knows. */
static imp_status look_up(struct authentication *attempt, imp_tx *tx,
                          const imp_credentials *credentials, imp_error *error)
{
    struct accounts *accounts = attempt->accounts;
    const Imprimatur__Accounts__User *user = NULL;
    imp_status status;
    const char *secret = NULL;
    uint8_t hash[IMP_HASH_SIZE] = {0}; /* stays so for what no card and no name looks like */
    if (credentials->card != NULL) {
        attempt->methods = IMP_METHOD_CARD;
        secret = credentials->pin;
        if (secret != NULL)
            attempt->methods |= IMP_METHOD_PIN;
        else if (!accounts->conf->card_alone)
            return imp_error_set(error, IMP_INVALID, "a card alone is not enough here: give a PIN");
        status = accounts_card_hash(accounts, credentials->card, hash);
        failures_hash_presented(accounts, "failures-card", hash, attempt->who);
        if (status == IMP_OK)
            status = user_find_card_tx(accounts, tx, hash, &attempt->user);
    } else if (credentials->user_name != NULL && credentials->password != NULL) {
        attempt->methods = IMP_METHOD_PASSWORD;
        secret = credentials->password;
        status = accounts_name_hash(accounts, credentials->user_name, hash);
        failures_hash_presented(accounts, "failures-name", hash, attempt->who);
        if (status == IMP_OK)
            status = user_find_tx(accounts, tx, credentials->user_name, &attempt->user);
    } else {
        return imp_error_set(error, IMP_INVALID,
                             "give a card and a PIN, or a user name and a password");
    }
    attempt->needs_secret = secret != NULL;
    memcpy(attempt->encoded, accounts->no_hash, sizeof attempt->encoded);
    bool is_usable = secret == NULL || secret_copy(attempt->secret, secret);
    if (status == IMP_OK)
        user = user_get_tx(accounts, tx, &attempt->user, &status);
    if (user != NULL && is_usable && !user->is_disabled) {
        const char *encoded = attempt->methods == IMP_METHOD_PASSWORD ? user->password : user->pin;
        attempt->has_user = secret == NULL || encoded[0] != '\0';
        if (secret != NULL && attempt->has_user && strlen(encoded) < sizeof attempt->encoded)
            memcpy(attempt->encoded, encoded, strlen(encoded) + 1);
    }
    if (attempt->has_user)
        failures_hash_user(accounts, &attempt->user, attempt->who);
    return status == IMP_OK || status == IMP_NOT_FOUND || status == IMP_INVALID
               ? IMP_OK
               : imp_error_set(error, status, "the user's record does not read");
}

void accounts_authenticate(struct accounts *accounts, const imp_credentials *credentials,
                           imp_authenticated done, void *arg)
{
    imp_error error = {0};
    imp_tx *tx;
    struct authentication *attempt = calloc(1, sizeof *attempt);
    if (attempt == NULL) {
        imp_status status = imp_error_set(&error, IMP_LIMIT, "out of memory");
        done(status, NULL, &error, arg);
        return;
    }
    imp_pin(accounts->self, "authentication");
    attempt->accounts = accounts;
    attempt->done = done;
    attempt->arg = arg;
    attempt->loop = imp_loop_current();
    attempt->device = credentials->device;
    if (credentials->address != NULL)
        imp_text_clean(attempt->address, sizeof attempt->address, credentials->address,
                       strlen(credentials->address));
    attempt->status = imp_store_read_begin(accounts->self, &tx, &attempt->error);
    if (attempt->status != IMP_OK) {
        finish(attempt);
        return;
    }
    attempt->status = look_up(attempt, tx, credentials, &attempt->error);
    if (attempt->status == IMP_OK) {
        attempt->verdict = look_at_locks(attempt, tx);
        if (attempt->verdict != IMP_OK && attempt->verdict != IMP_LIMIT)
            attempt->status =
                imp_error_set(&attempt->error, attempt->verdict, "the lock-outs do not read");
    }
    imp_store_read_end(tx);
    if (attempt->status != IMP_OK) {
        finish(attempt);
        return;
    }
    if (attempt->verdict == IMP_LIMIT) {
        record(attempt); /* a refusal for a lock is on record too, but counts no further */
        return;
    }
    attempt->session.size = sizeof attempt->session;
    attempt->session.id = imp_id_new();
    attempt->session.principal = attempt->user;
    attempt->session.methods = attempt->methods;
    attempt->session.device = attempt->device;
    if (attempt->needs_secret) {
        verify_start(attempt);
        return;
    }
    attempt->verdict = attempt->has_user ? IMP_OK : IMP_DENIED;
    record(attempt);
}
