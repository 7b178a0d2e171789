/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-address.c - the erasable table of network addresses.
 *
 * The chain can't forget, so an event holds the random id of a row here, and the row is erased when
 * the address was not seen for `address_retention`, or when an administrator says so. An address that
 * comes again then gets another id: old and new events can't be brought together.
 *
 * An erased row is gone from the running store; a backup that was made before holds it until the backup
 * is deleted, as it holds everything else.
 */
#include "audit.h"

#include <imprimatur/log.h>

#include <inttypes.h>
#include <string.h>

/* How exact the time of the last use is: a tenth of the retention, at most this. So an address that
 * sends jobs all day costs a write in an hour, not one a job. */
#define TOUCH_MAX (3600 * IMP_SECOND)
#define ERASE_MAX 256 /* rows that one closure erases */

/* The one form of an address in which it is hashed and kept. */
static bool address_normalize(const char *address, char text[IMP_NETWORK_TEXT_SIZE])
{
    imp_network network;
    if (strchr(address, '/') != NULL || imp_network_parse(address, &network, NULL) != IMP_OK)
        return false;
    imp_network_format(&network, text);
    return true;
}

static bool use_is_over(const Imprimatur__Audit__AddressUse *use, int64_t retention, int64_t now)
{
    return now - use->last >= retention;
}

bool address_text_tx(struct audit *audit, imp_tx *tx, const imp_id *id,
                     char text[IMP_NETWORK_TEXT_SIZE])
{
    imp_status status;
    const Imprimatur__Audit__Address *record =
        imp_message_get(tx, audit->address, imp_id_bytes(id), ADDRESS_TYPE, &status);
    if (record == NULL)
        return false;
    imp_text_clean(text, IMP_NETWORK_TEXT_SIZE, record->address, strlen(record->address));
    return true;
}

imp_status address_id_tx(struct audit *audit, imp_tx *tx, const char *address, imp_id *id)
{
    const struct audit_conf *conf = audit->conf;
    char text[IMP_NETWORK_TEXT_SIZE];
    uint8_t hash[IMP_HASH_SIZE];
    const imp_bytes key = {hash, sizeof hash};
    int64_t now = imp_now();
    imp_status status;
    uint64_t count;
    *id = (imp_id){{0}};
    if (conf->address_retention == 0 || !address_normalize(address, text))
        return IMP_OK;
    imp_keyed_hash(audit->self, "address", (imp_bytes){text, strlen(text)}, hash);
    Imprimatur__Audit__AddressUse *use =
        imp_message_get(tx, audit->address_use, key, ADDRESS_USE_TYPE, &status);
    if (use == NULL && status != IMP_NOT_FOUND && status != IMP_CORRUPT)
        return status;
    if (use != NULL && !use_is_over(use, conf->address_retention, now)) {
        int64_t touch = conf->address_retention / 10;
        *id = imp_id_of_field(use->id);
        if (now - use->last < (touch < TOUCH_MAX ? touch : TOUCH_MAX))
            return IMP_OK;
        if (address_text_tx(audit, tx, id, text)) {
            use->last = now;
            return imp_message_put(tx, audit->address_use, key, use);
        } /* else its row was torn, and it gets a new one */
    }
    if (use != NULL) { /* over before the sweep has come by, or torn */
        status = imp_tx_delete(tx, audit->address, (imp_bytes){use->id.data, use->id.len});
        if (status != IMP_OK && status != IMP_NOT_FOUND)
            return status;
    }
    status = imp_tx_count(tx, audit->address, &count);
    if (status != IMP_OK)
        return status;
    if (count >= (uint64_t)conf->addresses_max) {
        imp_metric_add(audit->addresses_dropped, 1);
        return IMP_OK;
    }
    *id = imp_id_new();
    Imprimatur__Audit__Address record = IMPRIMATUR__AUDIT__ADDRESS__INIT;
    record.address = text;
    record.hash = (ProtobufCBinaryData){sizeof hash, hash};
    record.first = now;
    Imprimatur__Audit__AddressUse fresh = IMPRIMATUR__AUDIT__ADDRESS_USE__INIT;
    fresh.id = imp_id_field(id);
    fresh.last = now;
    status = imp_message_put(tx, audit->address, imp_id_bytes(id), &record);
    return status == IMP_OK ? imp_message_put(tx, audit->address_use, key, &fresh) : status;
}

imp_status address_forget_tx(struct audit *audit, imp_tx *tx, const char *address, imp_id *id)
{
    char text[IMP_NETWORK_TEXT_SIZE];
    uint8_t hash[IMP_HASH_SIZE];
    const imp_bytes key = {hash, sizeof hash};
    imp_status status;
    if (!address_normalize(address, text))
        return IMP_INVALID;
    imp_keyed_hash(audit->self, "address", (imp_bytes){text, strlen(text)}, hash);
    const Imprimatur__Audit__AddressUse *use =
        imp_message_get(tx, audit->address_use, key, ADDRESS_USE_TYPE, &status);
    if (use == NULL)
        return status;
    *id = imp_id_of_field(use->id);
    status = imp_tx_delete(tx, audit->address, imp_id_bytes(id));
    if (status == IMP_OK || status == IMP_NOT_FOUND)
        status = imp_tx_delete(tx, audit->address_use, key);
    return status;
}

/* ---- the sweep ---- */

/* A walk over one of the two tables: first over the uses, which say what is over, then over the
 * addresses, for those that no use leads to (any more). */
struct sweep {
    struct audit *audit;
    imp_table *table;
    uint8_t after[IMP_KEY_MAX]; /* key of the last row seen */
    size_t after_length;
    bool is_at_end;
    uint32_t count; /* of what is to be erased */
    uint8_t over[ERASE_MAX][IMP_HASH_SIZE];
    size_t key_length;
};

/* Whether a use is to go, and *id with it. One that does not read says nothing any more. */
static imp_status judge_use_tx(struct audit *audit, imp_tx *tx, imp_bytes key, bool *is_over,
                               imp_id *id)
{
    const struct audit_conf *conf = audit->conf;
    imp_status status;
    const Imprimatur__Audit__AddressUse *use =
        imp_message_get(tx, audit->address_use, key, ADDRESS_USE_TYPE, &status);
    *is_over = use == NULL || use_is_over(use, conf->address_retention, imp_now());
    *id = use == NULL ? (imp_id){{0}} : imp_id_of_field(use->id);
    return status == IMP_CORRUPT ? IMP_OK : status;
}

/* Whether an address is to go: it does not read, or its use leads elsewhere. */
static imp_status judge_address_tx(struct audit *audit, imp_tx *tx, imp_bytes key, bool *is_over,
                                   imp_id *id)
{
    imp_status status;
    const Imprimatur__Audit__Address *record =
        imp_message_get(tx, audit->address, key, ADDRESS_TYPE, &status);
    memcpy(id->bytes, key.data, sizeof id->bytes);
    *is_over = true;
    if (record == NULL)
        return status == IMP_CORRUPT ? IMP_OK : status;
    const Imprimatur__Audit__AddressUse *use =
        imp_message_get(tx, audit->address_use, (imp_bytes){record->hash.data, record->hash.len},
                        ADDRESS_USE_TYPE, &status);
    if (use == NULL)
        return status == IMP_CORRUPT || status == IMP_NOT_FOUND ? IMP_OK : status;
    *is_over = !imp_id_equal(imp_id_of_field(use->id), *id);
    return IMP_OK;
}

static imp_status judge_tx(struct sweep *sweep, imp_tx *tx, imp_bytes key, bool *is_over,
                           imp_id *id)
{
    return sweep->table == sweep->audit->address_use
               ? judge_use_tx(sweep->audit, tx, key, is_over, id)
               : judge_address_tx(sweep->audit, tx, key, is_over, id);
}

static imp_status erase_tx(imp_tx *tx, void *arg, imp_error *error)
{
    struct sweep *sweep = arg;
    (void)error;
    for (uint32_t i = 0; i < sweep->count; i++) {
        const imp_bytes key = {sweep->over[i], sweep->key_length};
        bool is_over = false;
        imp_id id;
        imp_status status = judge_tx(sweep, tx, key, &is_over, &id); /* it may be in use again */
        if (status == IMP_NOT_FOUND || (status == IMP_OK && !is_over))
            continue;
        if (status == IMP_OK)
            status = imp_tx_delete(tx, sweep->audit->address, imp_id_bytes(&id));
        if (sweep->table == sweep->audit->address_use &&
            (status == IMP_OK || status == IMP_NOT_FOUND))
            status = imp_tx_delete(tx, sweep->table, key);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}

/* Collects what is over from AUDIT_STEP_ROWS rows, or until there is enough for a closure. */
static imp_status collect(struct sweep *sweep, imp_error *error)
{
    imp_tx *tx;
    imp_cursor *cursor = NULL;
    imp_bytes key;
    imp_id id;
    sweep->count = 0;
    imp_status status = imp_store_read_begin(sweep->audit->self, &tx, error);
    if (status != IMP_OK)
        return status;
    status =
        imp_cursor_open(tx, sweep->table, (imp_bytes){sweep->after, sweep->after_length}, &cursor);
    for (int i = 0; status == IMP_OK && i < AUDIT_STEP_ROWS && sweep->count < ERASE_MAX; i++) {
        bool is_over = false;
        status = imp_cursor_next(cursor, &key, NULL);
        if (status != IMP_OK)
            break;
        memcpy(sweep->after, key.data, key.length);
        sweep->after_length = key.length;
        if (key.length != sweep->key_length)
            continue; /* nobody's */
        status = judge_tx(sweep, tx, key, &is_over, &id);
        if (status == IMP_OK && is_over)
            memcpy(sweep->over[sweep->count++], key.data, key.length);
    }
    sweep->is_at_end = status == IMP_NOT_FOUND;
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
    return sweep->is_at_end ? IMP_OK : status;
}

static imp_status sweep_table(struct audit *audit, imp_table *table, size_t key_length,
                              uint64_t *erased)
{
    struct sweep sweep = {.audit = audit, .table = table, .key_length = key_length};
    imp_error error = {0};
    imp_status status = IMP_OK;
    while (status == IMP_OK && !sweep.is_at_end) {
        status = collect(&sweep, &error);
        if (status == IMP_OK && sweep.count > 0)
            status = imp_store_write_sync(audit->self, erase_tx, &sweep, &error);
        if (status == IMP_OK)
            *erased += sweep.count;
    }
    return status;
}

void address_sweep(struct audit *audit)
{
    uint64_t erased = 0;
    imp_status status = sweep_table(audit, audit->address_use, IMP_HASH_SIZE, &erased);
    if (status == IMP_OK)
        status = sweep_table(audit, audit->address, sizeof(imp_id), &erased);
    if (erased > 0)
        imp_log(audit->self, IMP_LOG_INFO, "audit.addresses-erased", "count=%" PRIu64, erased);
    if (status != IMP_OK && status != IMP_UNAVAILABLE)
        imp_log(audit->self, IMP_LOG_ERROR, "audit.sweep-failed", "status=%s",
                imp_status_name(status));
}
