/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accounts-failures.c - counting failed attempts, for a user and for a place, and locking both.
 *
 * A count starts anew when `lock_time` has passed since the last failure. Wall clock: it must outlive
 * a restart.
 */
#include "accounts.h"

#include <string.h>

void failures_hash_user(struct accounts *accounts, const imp_id *user, uint8_t hash[IMP_HASH_SIZE])
{
    imp_keyed_hash(accounts->self, "failures-user", (imp_bytes){user->bytes, sizeof user->bytes},
                   hash);
}

void failures_hash_presented(struct accounts *accounts, const char *purpose,
                             const uint8_t presented[IMP_HASH_SIZE], uint8_t hash[IMP_HASH_SIZE])
{
    imp_keyed_hash(accounts->self, purpose, (imp_bytes){presented, IMP_HASH_SIZE}, hash);
}

void failures_hash_place(struct accounts *accounts, const imp_id *device, const char *address,
                         uint8_t hash[IMP_HASH_SIZE])
{
    if (!imp_id_is_zero(*device))
        imp_keyed_hash(accounts->self, "failures-device",
                       (imp_bytes){device->bytes, sizeof device->bytes}, hash);
    else
        imp_keyed_hash(accounts->self, "failures-address", (imp_bytes){address, strlen(address)},
                       hash);
}

static imp_status row_get(struct accounts *accounts, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                          Imprimatur__Accounts__Failures *row)
{
    imp_bytes value;
    imprimatur__accounts__failures__init(row);
    imp_status status =
        imp_tx_get(tx, accounts->failures, (imp_bytes){hash, IMP_HASH_SIZE}, &value);
    if (status != IMP_OK)
        return status == IMP_NOT_FOUND ? IMP_OK : status;
    Imprimatur__Accounts__Failures *read =
        imprimatur__accounts__failures__unpack(NULL, value.length, value.data);
    if (read == NULL)
        return IMP_CORRUPT;
    row->count = read->count;
    row->last = read->last;
    row->locked_until = read->locked_until;
    imprimatur__accounts__failures__free_unpacked(read, NULL);
    return IMP_OK;
}

imp_status failures_check_tx(struct accounts *accounts, imp_tx *tx,
                             const uint8_t hash[IMP_HASH_SIZE])
{
    Imprimatur__Accounts__Failures row;
    imp_status status = row_get(accounts, tx, hash, &row);
    if (status != IMP_OK)
        return status;
    return row.locked_until > imp_now() ? IMP_LIMIT : IMP_OK;
}

imp_status failures_add_tx(struct accounts *accounts, imp_tx *tx, const uint8_t hash[IMP_HASH_SIZE],
                           int64_t most, bool *is_locked_now)
{
    Imprimatur__Accounts__Failures row;
    int64_t now = imp_now();
    imp_status status = row_get(accounts, tx, hash, &row);
    if (status != IMP_OK)
        return status;
    if (now - row.last > accounts->conf->lock_time)
        row.count = 0;
    row.count++;
    row.last = now;
    *is_locked_now = row.count >= most;
    if (*is_locked_now) {
        row.locked_until = now + accounts->conf->lock_time;
        row.count = 0;
    }
    uint8_t packed[64];
    size_t length = imprimatur__accounts__failures__pack(&row, packed);
    return imp_tx_put(tx, accounts->failures, (imp_bytes){hash, IMP_HASH_SIZE},
                      (imp_bytes){packed, length});
}

imp_status failures_clear_tx(struct accounts *accounts, imp_tx *tx,
                             const uint8_t hash[IMP_HASH_SIZE])
{
    imp_status status = imp_tx_delete(tx, accounts->failures, (imp_bytes){hash, IMP_HASH_SIZE});
    return status == IMP_NOT_FOUND ? IMP_OK : status;
}
