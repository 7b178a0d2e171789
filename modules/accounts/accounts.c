/* SPDX-License-Identifier: Apache-2.0 */
/* accounts.c - module accounts: descriptor, start and the service. */
#include "accounts.h"

#include <imprimatur/module.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_INTERVAL (60 * IMP_SECOND)
/* How long log-ins that wait may go on when the module ends: well below a sensible `upgrade_deadline`. */
#define WAITING_AT_END (IMP_SECOND / 2)

static const imp_option accounts_options[] = {
    IMP_OPT_BOOL(struct accounts_conf, strip_domain, "true", 0,
                 "DOMAIN\\user and user@realm name the same person as user"),
    IMP_OPT_BOOL(struct accounts_conf, card_alone, "false", IMP_LIVE,
                 "a card without a PIN proves who someone is"),
    IMP_OPT_INTEGER(struct accounts_conf, password_min, "8", "1", "128", IMP_LIVE,
                    "fewest characters of a new password"),
    IMP_OPT_INTEGER(struct accounts_conf, pin_min, "4", "4", "32", IMP_LIVE,
                    "fewest digits of a new PIN"),
    IMP_OPT_INTEGER(struct accounts_conf, failures_max, "5", "1", "1000", IMP_LIVE,
                    "failed attempts that lock a user"),
    IMP_OPT_INTEGER(struct accounts_conf, failures_max_place, "20", "1", "100000", IMP_LIVE,
                    "failed attempts that lock a device or address"),
    IMP_OPT_DURATION(struct accounts_conf, lock_time, "15min", "1s", "30d", IMP_LIVE,
                     "how long a lock lasts, and after which failures are forgotten"),
    IMP_OPT_DURATION(struct accounts_conf, failure_delay, "1s", "0s", "30s", IMP_LIVE,
                     "how long a refusal is held back"),
    IMP_OPT_DURATION(struct accounts_conf, session_idle, "5min", "1s", "24h", IMP_LIVE,
                     "a session that nobody uses ends after this time"),
    IMP_OPT_DURATION(struct accounts_conf, session_max, "8h", "1s", "30d", IMP_LIVE,
                     "a session ends after this time in any case"),
    IMP_OPT_SIZE(struct accounts_conf, hash_memory, "19MiB", "8KiB", "1GiB", IMP_LIVE,
                 "memory of one argon2id computation"),
    IMP_OPT_INTEGER(struct accounts_conf, hash_passes, "2", "1", "100", IMP_LIVE,
                    "passes of one argon2id computation"),
    IMP_OPT_INTEGER(struct accounts_conf, hash_parallel, "1", "1", "64", IMP_LIVE,
                    "argon2id computations that run at one time; others wait"),
    IMP_OPT_INTEGER(struct accounts_conf, hash_queue, "256", "0", "100000", IMP_LIVE,
                    "log-ins that wait for a computation; more are refused as busy"),
    IMP_OPT_END};

static const imp_table_spec accounts_tables[] = {
    {"user", 1, 0},    {"name", 1, IMP_TABLE_PLAIN}, {"card", 1, IMP_TABLE_PLAIN},
    {"session", 1, 0}, {"failures", 1, 0},           {NULL, 0, 0}};

static imp_status accounts_check(const void *settings, imp_error *error)
{
    const struct accounts_conf *conf = settings;
    if (conf->session_max < conf->session_idle)
        return imp_error_set(error, IMP_INVALID,
                             "session_max is shorter than session_idle; it must be at least as "
                             "long");
    return IMP_OK;
}

/* ---- service ---- */

/* Writes no more than the caller's struct holds. */
static void export_user(const Imprimatur__Accounts__User *user, imp_principal *principal)
{
    uint32_t size = principal->size < sizeof *principal ? principal->size : sizeof *principal;
    imp_principal full = {.size = size, .kind = IMP_PRINCIPAL_USER};
    full.is_enabled = !user->is_disabled;
    full.id = imp_id_of_field(user->id);
    snprintf(full.name, sizeof full.name, "%s", user->name);
    memcpy(principal, &full, size);
}

static imp_status principal_read(struct accounts *accounts, const char *name, const imp_id *by_id,
                                 imp_principal *principal)
{
    Imprimatur__Accounts__User *user = NULL;
    imp_tx *tx;
    imp_id id;
    imp_status status = imp_store_read_begin(accounts->self, &tx, NULL);
    if (status != IMP_OK)
        return status;
    if (by_id != NULL)
        id = *by_id;
    else
        status = user_find_tx(accounts, tx, name, &id);
    if (status == IMP_OK)
        user = user_get_tx(accounts, tx, &id, &status);
    if (user != NULL)
        export_user(user, principal);
    imp_store_read_end(tx);
    return status;
}

static imp_status service_find_user(imp_self *provider, const char *name, imp_principal *principal)
{
    return principal_read(imp_self_instance(provider), name, NULL, principal);
}

static imp_status service_get(imp_self *provider, const imp_id *id, imp_principal *principal)
{
    return principal_read(imp_self_instance(provider), NULL, id, principal);
}

static void service_authenticate(imp_self *provider, imp_self *caller,
                                 const imp_credentials *credentials, imp_authenticated done,
                                 void *arg)
{
    (void)caller;
    accounts_authenticate(imp_self_instance(provider), credentials, done, arg);
}

static imp_status service_session_get(imp_self *provider, const imp_id *id, imp_session *session)
{
    return session_get(imp_self_instance(provider), id, session);
}

static imp_status service_session_end(imp_self *provider, const imp_id *id)
{
    return session_end(imp_self_instance(provider), id);
}

/* A right granted at the root unit holds everywhere. */
static bool service_may(imp_self *provider, const imp_id *principal, const char *right,
                        const imp_id *unit)
{
    struct accounts *accounts = imp_self_instance(provider);
    imp_tx *tx;
    bool may = false;
    imp_status status;
    if (imp_store_read_begin(accounts->self, &tx, NULL) != IMP_OK)
        return false;
    const Imprimatur__Accounts__User *user = user_get_tx(accounts, tx, principal, &status);
    for (size_t i = 0; user != NULL && !user->is_disabled && i < user->n_grants; i++) {
        const Imprimatur__Accounts__Grant *grant = user->grants[i];
        if (strcmp(grant->right, right) == 0 &&
            (grant->unit.len == 0 ||
             (unit != NULL && grant->unit.len == sizeof unit->bytes &&
              memcmp(grant->unit.data, unit->bytes, sizeof unit->bytes) == 0)))
            may = true;
    }
    imp_store_read_end(tx);
    return may;
}

static const imp_accounts_v1 accounts_v1 = {
    sizeof(imp_accounts_v1), service_find_user,   service_get, service_authenticate,
    service_session_get,     service_session_end, service_may};

/* ---- life ---- */

static imp_status accounts_open(struct accounts *accounts, imp_error *error)
{
    imp_self *self = accounts->self;
    accounts->user = imp_table_open(self, "user");
    accounts->name = imp_table_open(self, "name");
    accounts->card = imp_table_open(self, "card");
    accounts->session = imp_table_open(self, "session");
    accounts->failures = imp_table_open(self, "failures");
    if (accounts->user == NULL || accounts->name == NULL || accounts->card == NULL ||
        accounts->session == NULL || accounts->failures == NULL)
        return imp_error_set(error, IMP_NOT_FOUND, "the tables of module accounts do not open");
    accounts->logins =
        imp_metric_register(self, IMP_METRIC_COUNTER, "logins_total", NULL, "successful log-ins");
    accounts->refusals = imp_metric_register(self, IMP_METRIC_COUNTER, "login_refusals_total", NULL,
                                             "log-ins that were refused");
    accounts->lockouts = imp_metric_register(self, IMP_METRIC_COUNTER, "lockouts_total", NULL,
                                             "locks of users and places");
    accounts->turned_away =
        imp_metric_register(self, IMP_METRIC_COUNTER, "login_busy_total", NULL,
                            "log-ins that were turned away because too many waited");
    char nothing[33];
    imp_id_format(imp_id_new(), nothing);
    imp_status status = secret_hash(accounts->conf, nothing, accounts->no_hash);
    if (status != IMP_OK)
        return imp_error_set(error, status,
                             "argon2id fails with hash_memory and hash_passes as set");
    status = accounts_verbs_add(accounts, error);
    if (status != IMP_OK)
        return status;
    accounts->sweep_timer = imp_timer_start(self, SWEEP_INTERVAL, true, accounts_sweep, accounts);
    return accounts->sweep_timer != NULL ? IMP_OK
                                         : imp_error_set(error, IMP_LIMIT, "out of memory");
}

static imp_status accounts_start(imp_self *self, const void *conf, void **instance,
                                 imp_error *error)
{
    struct accounts *accounts = calloc(1, sizeof *accounts);
    if (accounts == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    accounts->self = self;
    accounts->conf = conf;
    pthread_mutex_init(&accounts->lock, NULL);
    imp_status status = accounts_open(accounts, error);
    if (status != IMP_OK) {
        pthread_mutex_destroy(&accounts->lock);
        free(accounts);
        return status;
    }
    *instance = accounts;
    return IMP_OK;
}

static void accounts_reconfigure(imp_self *self, void *instance, const void *conf)
{
    (void)self;
    ((struct accounts *)instance)->conf = conf;
}

static void accounts_drain(imp_self *self, void *instance)
{
    struct accounts *accounts = instance;
    atomic_store(&accounts->is_draining, true);
    imp_timer_cancel(accounts->sweep_timer);
    accounts->sweep_timer = NULL;
    if (imp_timer_start(self, WAITING_AT_END, false, accounts_end_waiting, accounts) == NULL)
        accounts_end_waiting(accounts);
}

static void accounts_stop(imp_self *self, void *instance)
{
    (void)self;
    struct accounts *accounts = instance;
    pthread_mutex_destroy(&accounts->lock);
    free(accounts);
}

IMP_MODULE(.name = "accounts", .version = "1.0.0", .summary = "users with card, PIN and password",
           .requires = IMP_REQUIRES(IMP_AUDIT_V1),
           .provides = IMP_PROVIDES({"accounts", 1, &accounts_v1}), .options = accounts_options,
           .conf_size = sizeof(struct accounts_conf), .tables = accounts_tables,
           .check = accounts_check, .start = accounts_start, .reconfigure = accounts_reconfigure,
           .drain = accounts_drain, .stop = accounts_stop);
IMP_MODULE_NOTE("accounts", "1.0.0", "audit/1", "accounts/1");
