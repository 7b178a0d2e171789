/* SPDX-License-Identifier: Apache-2.0 */
/* accounts-verbs.c - imprimctl user add, list, show, set, remove, may. */
#include "accounts.h"

#include <imprimatur/record-verbs.h>

#include <stdio.h>
#include <string.h>

/* A change on its way: secrets are asked for, hashed on a worker, then written. */
struct change {
    imp_record_change base;
    struct accounts *accounts;
    bool asks_card, asks_pin, asks_password;
    bool drops_cards, has_enabled, enabled;
    uint8_t card[IMP_HASH_SIZE];
    char pin_secret[ACCOUNTS_SECRET_MAX], password_secret[ACCOUNTS_SECRET_MAX];
    char pin[ACCOUNTS_PHC_SIZE], password[ACCOUNTS_PHC_SIZE];
    imp_status hashed;
    char right[ACCOUNTS_RIGHT_MAX + 1]; /* `user may`; else empty */
    bool revokes;
};

static void change_finish(struct change *change, imp_status status, const imp_error *error)
{
    imp_record_change_end(&change->base, status, error);
}

/* ---- the commit ---- */

static imp_status add_card(const struct change *change, Imprimatur__Accounts__User *user,
                           ProtobufCBinaryData cards[ACCOUNTS_CARDS_MAX], imp_error *error)
{
    size_t count = change->drops_cards ? 0 : user->n_cards;
    if (count > ACCOUNTS_CARDS_MAX)
        return imp_error_set(error, IMP_CORRUPT, "the user has too many cards");
    for (size_t i = 0; i < count; i++)
        cards[i] = user->cards[i];
    if (change->asks_card) {
        for (size_t i = 0; i < count; i++)
            if (cards[i].len == IMP_HASH_SIZE &&
                memcmp(cards[i].data, change->card, IMP_HASH_SIZE) == 0)
                return imp_error_set(error, IMP_EXISTS, "the user has this card already");
        if (count == ACCOUNTS_CARDS_MAX)
            return imp_error_set(error, IMP_LIMIT, "a user has at most %d cards; use --no-cards",
                                 ACCOUNTS_CARDS_MAX);
        cards[count++] = (ProtobufCBinaryData){IMP_HASH_SIZE, (uint8_t *)(uintptr_t)change->card};
    }
    user->cards = cards;
    user->n_cards = count;
    return IMP_OK;
}

static imp_status change_grant(const struct change *change, Imprimatur__Accounts__User *user,
                               Imprimatur__Accounts__Grant *grants[ACCOUNTS_GRANTS_MAX],
                               Imprimatur__Accounts__Grant *fresh, imp_error *error)
{
    size_t count = 0;
    bool is_there = false;
    for (size_t i = 0; i < user->n_grants && count < ACCOUNTS_GRANTS_MAX; i++) {
        bool is_it = strcmp(user->grants[i]->right, change->right) == 0;
        is_there = is_there || is_it;
        if (!(is_it && change->revokes))
            grants[count++] = user->grants[i];
    }
    if (change->revokes && !is_there)
        return imp_error_set(error, IMP_NOT_FOUND, "the user does not have the right %s",
                             change->right);
    if (!change->revokes && !is_there) {
        if (count == ACCOUNTS_GRANTS_MAX)
            return imp_error_set(error, IMP_LIMIT, "a user has at most %d rights",
                                 ACCOUNTS_GRANTS_MAX);
        imprimatur__accounts__grant__init(fresh);
        fresh->right = (char *)(uintptr_t)change->right;
        grants[count++] = fresh;
    }
    user->grants = grants;
    user->n_grants = count;
    return IMP_OK;
}

static imp_status apply(const struct change *change, Imprimatur__Accounts__User *user,
                        ProtobufCBinaryData cards[ACCOUNTS_CARDS_MAX], imp_error *error)
{
    if (change->asks_pin)
        user->pin = (char *)(uintptr_t)change->pin;
    if (change->asks_password)
        user->password = (char *)(uintptr_t)change->password;
    if (change->has_enabled)
        user->is_disabled = !change->enabled;
    return add_card(change, user, cards, error);
}

static imp_status audit_change(struct change *change, imp_tx *tx, imp_error *error)
{
    char detail[160];
    snprintf(detail, sizeof detail, "card=%d pin=%d password=%d%s%s%s", change->asks_card,
             change->asks_pin, change->asks_password, change->right[0] != '\0' ? " right=" : "",
             change->right, change->revokes ? " revoked=1" : "");
    return imp_record_change_audit_tx(&change->base, tx, detail, error);
}

static imp_status change_tx(void *instance, imp_tx *tx, imp_record_change *base, imp_error *error)
{
    struct change *change = (struct change *)base;
    struct accounts *accounts = instance;
    Imprimatur__Accounts__User after = IMPRIMATUR__ACCOUNTS__USER__INIT, *before = NULL;
    Imprimatur__Accounts__Grant *grants[ACCOUNTS_GRANTS_MAX], fresh;
    ProtobufCBinaryData cards[ACCOUNTS_CARDS_MAX];
    imp_status status = IMP_OK;
    if (base->is_add) {
        after.id = imp_id_field(&base->id);
        after.name = base->name;
        after.created = imp_now();
    } else if ((before = user_get_tx(accounts, tx, &base->id, &status)) != NULL) {
        after = *before;
    } else {
        return imp_error_set(error, status, "the user's record does not read (%s)",
                             imp_status_name(status));
    }
    if (base->is_remove) {
        status = user_remove_tx(accounts, tx, before, error);
    } else {
        status = change->right[0] != '\0' ? change_grant(change, &after, grants, &fresh, error)
                                          : apply(change, &after, cards, error);
        if (status == IMP_OK)
            status = user_put_tx(accounts, tx, before, &after, error);
    }
    return status == IMP_OK ? audit_change(change, tx, error) : status;
}

/* ---- secrets ---- */

static void hash_run(void *arg)
{
    struct change *change = arg;
    const struct accounts_conf *conf = change->accounts->conf;
    change->hashed = IMP_OK;
    if (change->asks_pin)
        change->hashed = secret_hash(conf, change->pin_secret, change->pin);
    if (change->asks_password && change->hashed == IMP_OK)
        change->hashed = secret_hash(conf, change->password_secret, change->password);
    imp_wipe(change->pin_secret, sizeof change->pin_secret);
    imp_wipe(change->password_secret, sizeof change->password_secret);
}

static void hash_done(void *arg, bool was_cancelled)
{
    struct change *change = arg;
    imp_error error;
    if (!was_cancelled && change->hashed == IMP_OK) {
        imp_record_change_write(&change->base);
        return;
    }
    imp_status status = was_cancelled ? IMP_UNAVAILABLE : change->hashed;
    imp_error_set(&error, status, "the secret can't be hashed (%s)", imp_status_name(status));
    change_finish(change, status, &error);
}

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((uint8_t)*text & 0xc0) != 0x80;
    return count;
}

static imp_status take_card(struct change *change, const char *value, imp_error *error)
{
    return accounts_card_hash(change->accounts, value, change->card) == IMP_OK
               ? IMP_OK
               : imp_error_set(error, IMP_INVALID, "card: expected 1 to %d characters",
                               ACCOUNTS_SECRET_MAX);
}

static imp_status take_pin(struct change *change, const char *value, imp_error *error)
{
    const struct accounts_conf *conf = change->accounts->conf;
    size_t length = strlen(value);
    if (length < (size_t)conf->pin_min || length >= sizeof change->pin_secret ||
        strspn(value, "0123456789") != length)
        return imp_error_set(error, IMP_INVALID,
                             "PIN: expected at least %d digits and nothing else",
                             (int)conf->pin_min);
    memcpy(change->pin_secret, value, length + 1);
    return IMP_OK;
}

static imp_status take_password(struct change *change, const char *value, imp_error *error)
{
    const struct accounts_conf *conf = change->accounts->conf;
    size_t length = strlen(value);
    if (characters(value) < (size_t)conf->password_min || length >= sizeof change->password_secret)
        return imp_error_set(error, IMP_INVALID, "password: expected at least %d characters",
                             (int)conf->password_min);
    memcpy(change->password_secret, value, length + 1);
    return IMP_OK;
}

static void answered(imp_request *request, const char *const *values, uint32_t count, void *arg)
{
    struct change *change = arg;
    imp_error error = {0};
    imp_status status = IMP_OK;
    uint32_t next = 0;
    (void)request;
    if (values == NULL) {
        status = imp_error_set(&error, IMP_INVALID, "the secrets were not given");
    } else {
        const struct {
            bool is_asked;
            imp_status (*take)(struct change *, const char *, imp_error *);
        } parts[] = {{change->asks_card, take_card},
                     {change->asks_pin, take_pin},
                     {change->asks_password, take_password}};
        for (size_t i = 0; status == IMP_OK && i < sizeof parts / sizeof *parts; i++)
            if (parts[i].is_asked)
                status = next < count
                             ? parts[i].take(change, values[next++], &error)
                             : imp_error_set(&error, IMP_INVALID, "the secrets were not given");
    }
    if (status != IMP_OK) {
        change_finish(change, status, &error);
    } else if (!change->asks_pin && !change->asks_password) {
        imp_record_change_write(&change->base);
    } else if (imp_work(change->base.self, hash_run, hash_done, change) == NULL) {
        imp_error_set(&error, IMP_BUSY, "too much waits for the workers; try again");
        change_finish(change, IMP_BUSY, &error);
    }
}

/* ---- what the records are ---- */

static imp_table *records(void *instance)
{
    return ((struct accounts *)instance)->user;
}

static imp_status find_tx(void *instance, imp_tx *tx, const char *name, imp_id *id)
{
    return user_find_tx(instance, tx, name, id);
}

static imp_status row(void *instance, imp_tx *tx, imp_request *request, imp_bytes value,
                      bool is_single)
{
    (void)instance;
    const Imprimatur__Accounts__User *user = imp_message_decode(tx, USER_TYPE, value);
    if (user == NULL)
        return IMP_CORRUPT;
    imp_row_begin(request, is_single);
    imp_field_text(request, "name", user->name);
    imp_field_id(request, "user", imp_id_of_field(user->id));
    imp_field_bool(request, "enabled", !user->is_disabled);
    imp_field_integer(request, "cards", (int64_t)user->n_cards);
    imp_field_bool(request, "pin", user->pin[0] != '\0');
    imp_field_bool(request, "password", user->password[0] != '\0');
    if (is_single) {
        imp_field_time(request, "created", user->created);
        for (size_t i = 0; i < user->n_grants; i++)
            imp_field_text(request, "right", user->grants[i]->right);
    }
    return IMP_OK;
}

static const imp_record_kind user_kind = {.size = sizeof(imp_record_kind),
                                          .noun = "user",
                                          .argument = "USER",
                                          .table = records,
                                          .find_tx = find_tx,
                                          .change_tx = change_tx,
                                          .row = row};

/* ---- the verbs ---- */

static struct change *change_begin(struct accounts *accounts, imp_request *request,
                                   const char *action)
{
    struct change *change = (struct change *)imp_record_change_begin(
        accounts->self, request, &user_kind, action, sizeof *change);
    if (change != NULL)
        change->accounts = accounts;
    return change;
}

static void add_or_set(struct accounts *accounts, imp_request *request, const char *action)
{
    imp_error error = {0};
    struct change *change = change_begin(accounts, request, action);
    if (change == NULL)
        return;
    change->asks_card = imp_request_value(request, "card", 0) != NULL;
    change->asks_pin = imp_request_value(request, "pin", 0) != NULL;
    change->asks_password = imp_request_value(request, "password", 0) != NULL;
    change->drops_cards = imp_request_value(request, "no-cards", 0) != NULL;
    imp_status status =
        imp_request_switch(request, "enabled", &change->has_enabled, &change->enabled, &error);
    if (status != IMP_OK) {
        change_finish(change, status, &error);
        return;
    }
    char names[32];
    snprintf(names, sizeof names, "%s%s%s", change->asks_card ? "card " : "",
             change->asks_pin ? "pin " : "", change->asks_password ? "password " : "");
    if (names[0] == '\0') {
        imp_record_change_write(&change->base);
        return;
    }
    names[strlen(names) - 1] = '\0';
    imp_request_ask(request, names, answered, change);
}

static void verb_add(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    add_or_set(instance, request, "add");
}

static void verb_set(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    add_or_set(instance, request, "set");
}

static void verb_remove(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    struct change *change = change_begin(instance, request, "remove");
    if (change != NULL)
        imp_record_change_write(&change->base);
}

static void verb_may(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    imp_error error;
    struct change *change = change_begin(instance, request, "may");
    if (change == NULL)
        return;
    const char *right = imp_request_value(request, "RIGHT", 0);
    size_t length = strlen(right);
    if (length == 0 || length > ACCOUNTS_RIGHT_MAX ||
        strspn(right, "abcdefghijklmnopqrstuvwxyz.-") != length) {
        imp_error_set(&error, IMP_INVALID, "found \"%s\", expected a right such as jobs.release",
                      right);
        change_finish(change, IMP_INVALID, &error);
        return;
    }
    snprintf(change->right, sizeof change->right, "%s", right);
    change->revokes = imp_request_value(request, "revoke", 0) != NULL;
    imp_record_change_write(&change->base);
}

static void verb_show(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_show(self, request, &user_kind);
}

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_record_list(self, request, &user_kind);
}

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "user add",
     .arguments = "USER",
     .options = "card pin password enabled=YES|NO",
     .help = "add a user; --card, --pin and --password ask for the secrets, in this order",
     .run = verb_add},
    {.size = sizeof(imp_verb_spec),
     .words = "user list",
     .arguments = "",
     .options = IMP_RECORD_LIST_OPTIONS,
     .help = "list users",
     .run = verb_list},
    {.size = sizeof(imp_verb_spec),
     .words = "user show",
     .arguments = "USER",
     .options = "",
     .help = "show one user",
     .run = verb_show},
    {.size = sizeof(imp_verb_spec),
     .words = "user set",
     .arguments = "USER",
     .options = "card pin password no-cards enabled=YES|NO",
     .help = "change a user; --card adds a card, --no-cards takes all others away",
     .run = verb_set},
    {.size = sizeof(imp_verb_spec),
     .words = "user remove",
     .arguments = "USER",
     .options = "",
     .help = "remove a user",
     .run = verb_remove},
    {.size = sizeof(imp_verb_spec),
     .words = "user may",
     .arguments = "USER RIGHT",
     .options = "revoke",
     .help = "grant a right to a user, or take it away",
     .run = verb_may},
};

imp_status accounts_verbs_add(struct accounts *accounts, imp_error *error)
{
    return imp_record_verbs_add(accounts->self, &user_kind, verbs, sizeof verbs / sizeof *verbs,
                                error);
}
