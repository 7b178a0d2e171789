/* SPDX-License-Identifier: Apache-2.0 */
/* accounts-store.c - user records and their index rows, which always change together. */
#include "accounts.h"

#include <imprimatur/index.h>

#include <string.h>

/* DOMAIN\user and user@realm name `user` where the domain is the same for all. */
imp_status accounts_name_hash(struct accounts *accounts, const char *name,
                              uint8_t hash[IMP_HASH_SIZE])
{
    char folded[IMP_NAME_MAX];
    const char *start = name;
    if (accounts->conf->strip_domain) {
        const char *backslash = strrchr(name, '\\');
        if (backslash != NULL && backslash[1] != '\0')
            start = backslash + 1;
    }
    if (strlen(start) >= sizeof folded)
        return IMP_INVALID;
    size_t length = imp_name_fold(folded, sizeof folded, start);
    char *at = accounts->conf->strip_domain ? memchr(folded, '@', length) : NULL;
    if (at != NULL && at != folded)
        length = (size_t)(at - folded);
    imp_keyed_hash(accounts->self, "name", (imp_bytes){folded, length}, hash);
    return IMP_OK;
}

imp_status accounts_card_hash(struct accounts *accounts, const char *card,
                              uint8_t hash[IMP_HASH_SIZE])
{
    char plain[ACCOUNTS_SECRET_MAX];
    size_t length = 0;
    imp_status status = IMP_OK;
    for (const char *c = card; *c != '\0' && status == IMP_OK; c++) {
        if (*c == ' ' || *c == ':' || *c == '-' || *c == '\t')
            continue;
        if (length == sizeof plain)
            status = IMP_INVALID;
        else
            plain[length++] = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    }
    if (length == 0)
        status = IMP_INVALID;
    if (status == IMP_OK)
        imp_keyed_hash(accounts->self, "card", (imp_bytes){plain, length}, hash);
    imp_wipe(plain, sizeof plain);
    return status;
}

Imprimatur__Accounts__User *user_get_tx(struct accounts *accounts, imp_tx *tx, const imp_id *id,
                                        imp_status *status)
{
    return imp_message_get(tx, accounts->user, imp_id_bytes(id), USER_TYPE, status);
}

imp_status user_find_tx(struct accounts *accounts, imp_tx *tx, const char *name, imp_id *id)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_bytes key = {NULL, 0};
    if (accounts_name_hash(accounts, name, hash) == IMP_OK)
        key = (imp_bytes){hash, sizeof hash};
    return imp_index_find(tx, accounts->user, name, accounts->name, key, id);
}

imp_status user_find_card_tx(struct accounts *accounts, imp_tx *tx,
                             const uint8_t hash[IMP_HASH_SIZE], imp_id *id)
{
    return imp_index_get(tx, accounts->card, (imp_bytes){hash, IMP_HASH_SIZE}, id);
}

static imp_status index_remove(struct accounts *accounts, imp_tx *tx,
                               const Imprimatur__Accounts__User *user)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_id id = imp_id_of_field(user->id);
    if (accounts_name_hash(accounts, user->name, hash) != IMP_OK)
        return IMP_CORRUPT;
    /* The row is another's when `strip_domain` was changed in between; then it stays. */
    imp_status status = imp_index_remove(tx, accounts->name, (imp_bytes){hash, sizeof hash}, &id);
    for (size_t i = 0; status == IMP_OK && i < user->n_cards; i++)
        status = imp_index_remove(tx, accounts->card,
                                  (imp_bytes){user->cards[i].data, user->cards[i].len}, &id);
    return status;
}

static imp_status index_add(struct accounts *accounts, imp_tx *tx,
                            const Imprimatur__Accounts__User *user, imp_error *error)
{
    uint8_t hash[IMP_HASH_SIZE];
    imp_id id = imp_id_of_field(user->id);
    if (accounts_name_hash(accounts, user->name, hash) != IMP_OK)
        return IMP_INVALID;
    imp_status status = imp_index_add(tx, accounts->name, (imp_bytes){hash, sizeof hash}, &id);
    if (status == IMP_EXISTS)
        return imp_error_set(error, IMP_EXISTS, "a user of that name is there already");
    for (size_t i = 0; status == IMP_OK && i < user->n_cards; i++) {
        status = imp_index_add(tx, accounts->card,
                               (imp_bytes){user->cards[i].data, user->cards[i].len}, &id);
        if (status == IMP_EXISTS)
            return imp_error_set(error, IMP_EXISTS, "the card belongs to another user");
    }
    return status;
}

imp_status user_put_tx(struct accounts *accounts, imp_tx *tx,
                       const Imprimatur__Accounts__User *before,
                       const Imprimatur__Accounts__User *after, imp_error *error)
{
    imp_status status = before == NULL ? IMP_OK : index_remove(accounts, tx, before);
    if (status == IMP_OK)
        status = index_add(accounts, tx, after, error);
    if (status == IMP_EXISTS)
        return status; /* says why */
    if (status == IMP_OK)
        status =
            imp_message_put(tx, accounts->user, (imp_bytes){after->id.data, after->id.len}, after);
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "the user can't be written (%s)",
                                            imp_status_name(status));
}

imp_status user_remove_tx(struct accounts *accounts, imp_tx *tx,
                          const Imprimatur__Accounts__User *user, imp_error *error)
{
    imp_status status = index_remove(accounts, tx, user);
    if (status == IMP_OK)
        status = imp_tx_delete(tx, accounts->user, (imp_bytes){user->id.data, user->id.len});
    return status == IMP_OK ? IMP_OK
                            : imp_error_set(error, status, "the user can't be removed (%s)",
                                            imp_status_name(status));
}
