/* SPDX-License-Identifier: Apache-2.0 */
/* accounts-verbs.c - imprimctl user add, list, show, set, remove, may. */
#include "accounts.h"

#include <imprimatur/control.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum change_kind { CHANGE_ADD, CHANGE_SET, CHANGE_REMOVE, CHANGE_MAY };

/* A change on its way: secrets are asked for, hashed on a worker, then written. */
struct change {
    struct accounts *accounts;
    imp_request *request;
    enum change_kind kind;
    imp_id new_id;
    char name[IMP_NAME_MAX];
    uint32_t uid;
    bool asks_card, asks_pin, asks_password;
    bool drops_cards, has_enabled, enabled;
    uint8_t card[IMP_HASH_SIZE];
    char pin_secret[ACCOUNTS_SECRET_MAX], password_secret[ACCOUNTS_SECRET_MAX];
    char pin[ACCOUNTS_PHC_SIZE], password[ACCOUNTS_PHC_SIZE];
    imp_status hashed;
    char right[ACCOUNTS_RIGHT_MAX + 1];
    bool revokes;
};

static void change_finish(struct change *change, imp_status status, const imp_error *error)
{
    imp_request_finish(change->request, status, error);
    imp_wipe(change, sizeof *change);
    free(change);
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

static imp_status audit_change(struct change *change, imp_tx *tx, const imp_id *id,
                               imp_error *error)
{
    static const char *const actions[] = {"user.add", "user.set", "user.remove", "user.may"};
    char detail[160];
    snprintf(detail, sizeof detail, "card=%d pin=%d password=%d%s%s%s", change->asks_card,
             change->asks_pin, change->asks_password, change->right[0] != '\0' ? " right=" : "",
             change->right, change->revokes ? " revoked=1" : "");
    imp_audit_event event = {.size = sizeof event,
                             .action = actions[change->kind],
                             .has_actor_uid = true,
                             .actor_uid = change->uid,
                             .place_kind = "control",
                             .object_kind = "user",
                             .object = *id,
                             .detail = detail};
    return imp_audit_append_tx(change->accounts->self, tx, &event, error);
}

static imp_status change_run(imp_tx *tx, void *arg, imp_error *error)
{
    struct change *change = arg;
    struct accounts *accounts = change->accounts;
    Imprimatur__Accounts__User *before = NULL, after;
    Imprimatur__Accounts__Grant *grants[ACCOUNTS_GRANTS_MAX], fresh;
    ProtobufCBinaryData cards[ACCOUNTS_CARDS_MAX];
    imp_id id = change->new_id;
    imp_status status;
    if (change->kind == CHANGE_ADD) {
        imprimatur__accounts__user__init(&after);
        after.id = (ProtobufCBinaryData){sizeof id.bytes, id.bytes};
        after.name = change->name;
        after.created = imp_now();
    } else {
        status = user_find_tx(accounts, tx, change->name, &id);
        if (status == IMP_OK)
            status = user_get_tx(accounts, tx, &id, &before);
        if (status != IMP_OK)
            return imp_error_set(error, status,
                                 status == IMP_NOT_FOUND ? "there is no user of that name"
                                                         : "the user's record does not read");
        after = *before;
    }
    switch (change->kind) {
    case CHANGE_REMOVE: status = user_remove_tx(accounts, tx, before, error); break;
    case CHANGE_MAY:
        status = change_grant(change, &after, grants, &fresh, error);
        if (status == IMP_OK)
            status = user_put_tx(accounts, tx, before, &after, error);
        break;
    default:
        status = apply(change, &after, cards, error);
        if (status == IMP_OK)
            status = user_put_tx(accounts, tx, before, &after, error);
    }
    if (status == IMP_OK)
        status = audit_change(change, tx, &id, error);
    user_free(before);
    return status;
}

static void change_done(imp_status status, const imp_error *error, void *arg)
{
    struct change *change = arg;
    if (status == IMP_OK && change->kind == CHANGE_ADD) {
        imp_row_begin(change->request, true);
        imp_field_id(change->request, "user", change->new_id);
        imp_field_text(change->request, "name", change->name);
    }
    change_finish(change, status, error);
}

static void change_write(struct change *change)
{
    imp_error error;
    imp_status status =
        imp_store_write(change->accounts->self, IMP_WRITE_CONTROL, change_run, change_done, change);
    if (status != IMP_OK) {
        imp_error_set(&error, status, "the store is busy; try again");
        change_finish(change, status, &error);
    }
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
        change_write(change);
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
        change_write(change);
    } else if (imp_work(change->accounts->self, hash_run, hash_done, change) == NULL) {
        imp_error_set(&error, IMP_BUSY, "too much waits for the workers; try again");
        change_finish(change, IMP_BUSY, &error);
    }
}

/* ---- the verbs ---- */

static struct change *change_begin(struct accounts *accounts, imp_request *request,
                                   enum change_kind kind)
{
    imp_error error;
    const char *name = imp_request_value(request, "USER", 0);
    struct change *change = calloc(1, sizeof *change);
    if (change == NULL) {
        imp_error_set(&error, IMP_LIMIT, "out of memory");
        imp_request_finish(request, IMP_LIMIT, &error);
        return NULL;
    }
    change->accounts = accounts;
    change->request = request;
    change->kind = kind;
    change->new_id = imp_id_new();
    change->uid = imp_request_uid(request);
    if (!imp_name_is_valid(name)) {
        imp_error_set(&error, IMP_INVALID,
                      "a user's name has 1 to %d bytes, no blanks at its ends and no control "
                      "characters",
                      IMP_NAME_MAX - 1);
        change_finish(change, IMP_INVALID, &error);
        return NULL;
    }
    snprintf(change->name, sizeof change->name, "%s", name);
    return change;
}

static void add_or_set(struct accounts *accounts, imp_request *request, enum change_kind kind)
{
    imp_error error;
    struct change *change = change_begin(accounts, request, kind);
    if (change == NULL)
        return;
    change->asks_card = imp_request_value(request, "card", 0) != NULL;
    change->asks_pin = imp_request_value(request, "pin", 0) != NULL;
    change->asks_password = imp_request_value(request, "password", 0) != NULL;
    change->drops_cards = imp_request_value(request, "no-cards", 0) != NULL;
    const char *enabled = imp_request_value(request, "enabled", 0);
    change->has_enabled = enabled != NULL;
    if (enabled != NULL) {
        change->enabled = strcmp(enabled, "yes") == 0;
        if (!change->enabled && strcmp(enabled, "no") != 0) {
            imp_error_set(&error, IMP_INVALID, "--enabled: found \"%s\", expected yes or no",
                          enabled);
            change_finish(change, IMP_INVALID, &error);
            return;
        }
    }
    char names[32];
    snprintf(names, sizeof names, "%s%s%s", change->asks_card ? "card " : "",
             change->asks_pin ? "pin " : "", change->asks_password ? "password " : "");
    if (names[0] == '\0') {
        change_write(change);
        return;
    }
    names[strlen(names) - 1] = '\0';
    imp_request_ask(request, names, answered, change);
}

static void verb_add(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    add_or_set(instance, request, CHANGE_ADD);
}

static void verb_set(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    add_or_set(instance, request, CHANGE_SET);
}

static void verb_remove(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    struct change *change = change_begin(instance, request, CHANGE_REMOVE);
    if (change != NULL)
        change_write(change);
}

static void verb_may(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    imp_error error;
    struct change *change = change_begin(instance, request, CHANGE_MAY);
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
    change_write(change);
}

static void user_row(imp_request *request, const Imprimatur__Accounts__User *user, bool is_single)
{
    imp_id id = {{0}};
    if (user->id.len == sizeof id.bytes)
        memcpy(id.bytes, user->id.data, sizeof id.bytes);
    imp_row_begin(request, is_single);
    imp_field_text(request, "name", user->name);
    imp_field_id(request, "user", id);
    imp_field_bool(request, "enabled", !user->is_disabled);
    imp_field_integer(request, "cards", (int64_t)user->n_cards);
    imp_field_bool(request, "pin", user->pin[0] != '\0');
    imp_field_bool(request, "password", user->password[0] != '\0');
    if (is_single) {
        imp_field_time(request, "created", user->created);
        for (size_t i = 0; i < user->n_grants; i++)
            imp_field_text(request, "right", user->grants[i]->right);
    }
}

static void verb_show(imp_self *self, void *instance, imp_request *request)
{
    struct accounts *accounts = instance;
    Imprimatur__Accounts__User *user = NULL;
    imp_error error = {0};
    imp_tx *tx;
    imp_id id;
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = user_find_tx(accounts, tx, imp_request_value(request, "USER", 0), &id);
        if (status == IMP_OK)
            status = user_get_tx(accounts, tx, &id, &user);
        if (status == IMP_OK)
            user_row(request, user, true);
        else
            imp_error_set(&error, status, "there is no user of that name");
        imp_store_read_end(tx);
    }
    user_free(user);
    imp_request_finish(request, status, &error);
}

static void verb_list(imp_self *self, void *instance, imp_request *request)
{
    struct accounts *accounts = instance;
    imp_error error = {0};
    imp_tx *tx;
    imp_cursor *cursor;
    imp_bytes key, value;
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = imp_cursor_open(tx, accounts->user, (imp_bytes){NULL, 0}, &cursor);
        if (status == IMP_OK) {
            while ((status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
                Imprimatur__Accounts__User *user =
                    imprimatur__accounts__user__unpack(NULL, value.length, value.data);
                if (user != NULL)
                    user_row(request, user, false);
                user_free(user);
            }
            imp_cursor_close(cursor);
        }
        status = status == IMP_NOT_FOUND ? IMP_OK
                                         : imp_error_set(&error, status, "the users do not read");
        imp_store_read_end(tx);
    }
    imp_request_finish(request, status, &error);
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
     .options = "",
     .help = "list all users",
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
    imp_status status = IMP_OK;
    for (size_t i = 0; status == IMP_OK && i < sizeof verbs / sizeof *verbs; i++)
        status = imp_verb_add(accounts->self, &verbs[i], error);
    return status;
}
