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
#include <imprimatur/sweep.h>

#include <inttypes.h>
#include <string.h>

/* How exact the time of the last use is: a tenth of the retention, at most this. So an address that
 * sends jobs all day costs a write in an hour, not one a job. */
#define TOUCH_MAX (3600 * IMP_SECOND)

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

/* Rows looked at to make room: a walk over all would hold up the writer. */
#define EVICT_ROWS 16

/* Erases the longest unused of EVICT_ROWS addresses. Keys are keyed hashes, so those behind a random one
 * are a fair sample, and nobody outside can choose them. A use that does not read goes first. */
static imp_status evict_tx(struct audit *audit, imp_tx *tx, uint32_t *evicted)
{
    uint8_t from[IMP_HASH_SIZE], oldest_key[IMP_KEY_MAX];
    size_t oldest_length = 0;
    int64_t oldest = INT64_MAX;
    imp_id oldest_id = {{0}};
    imp_cursor *cursor = NULL;
    bool has_wrapped = false;
    imp_random(from, sizeof from);
    imp_status status =
        imp_cursor_open(tx, audit->address_use, (imp_bytes){from, sizeof from}, &cursor);
    for (int i = 0; status == IMP_OK && i < EVICT_ROWS; i++) {
        imp_bytes key = {NULL, 0}, value = {NULL, 0};
        status = imp_cursor_next(cursor, &key, &value);
        if (status == IMP_NOT_FOUND && !has_wrapped) {
            has_wrapped = true;
            imp_cursor_close(cursor);
            cursor = NULL;
            status = imp_cursor_open(tx, audit->address_use, (imp_bytes){NULL, 0}, &cursor);
            continue;
        }
        if ((status != IMP_OK && status != IMP_CORRUPT) || key.data == NULL)
            break;
        const Imprimatur__Audit__AddressUse *use =
            status == IMP_OK ? imp_message_decode(tx, ADDRESS_USE_TYPE, value) : NULL;
        int64_t last = use == NULL ? INT64_MIN : use->last;
        status = IMP_OK;
        if (last >= oldest)
            continue;
        oldest = last;
        memset(&oldest_id, 0, sizeof oldest_id);
        if (use != NULL)
            oldest_id = imp_id_of_field(use->id);
        memcpy(oldest_key, key.data, key.length);
        oldest_length = key.length;
    }
    imp_cursor_close(cursor);
    if (status == IMP_NOT_FOUND)
        status = IMP_OK;
    if (status != IMP_OK || oldest_length == 0)
        return status;
    status = imp_tx_delete(tx, audit->address_use, (imp_bytes){oldest_key, oldest_length});
    if (status == IMP_OK && !imp_id_is_zero(oldest_id))
        status = imp_tx_delete(tx, audit->address, imp_id_bytes(&oldest_id));
    if (status != IMP_OK && status != IMP_NOT_FOUND)
        return status;
    ++*evicted;
    imp_metric_add(audit->addresses_dropped, 1);
    return IMP_OK;
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
    /* Two at a time, so that a bound that was lowered is reached. */
    uint64_t most = (uint64_t)conf->addresses_max;
    uint32_t evicted = 0;
    for (int i = 0; i < 2 && count >= most + (uint64_t)i; i++) {
        status = evict_tx(audit, tx, &evicted);
        if (status != IMP_OK)
            return status;
    }
    if (count >= most &&
        evicted == 0) { /* what is there has lost its uses, and goes with the sweep */
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

/* A use that does not read says nothing any more. */
static imp_status use_is_over_tx(imp_tx *tx, imp_bytes key, imp_bytes value, bool *is_over,
                                 void *arg)
{
    const struct audit_conf *conf = ((struct audit *)arg)->conf;
    const Imprimatur__Audit__AddressUse *use =
        value.data == NULL ? NULL : imp_message_decode(tx, ADDRESS_USE_TYPE, value);
    (void)key;
    *is_over = use == NULL || use_is_over(use, conf->address_retention, imp_now());
    return IMP_OK;
}

static imp_status use_erase_more_tx(imp_tx *tx, imp_bytes key, imp_bytes value, void *arg)
{
    const Imprimatur__Audit__AddressUse *use =
        value.data == NULL ? NULL : imp_message_decode(tx, ADDRESS_USE_TYPE, value);
    (void)key;
    if (use == NULL)
        return IMP_OK;
    imp_status status =
        imp_tx_delete(tx, ((struct audit *)arg)->address, (imp_bytes){use->id.data, use->id.len});
    return status == IMP_NOT_FOUND || status == IMP_INVALID ? IMP_OK : status;
}

/* An address goes by itself when it does not read, or no use leads to it. */
static imp_status address_is_over_tx(imp_tx *tx, imp_bytes key, imp_bytes value, bool *is_over,
                                     void *arg)
{
    imp_status status;
    const Imprimatur__Audit__Address *record =
        value.data == NULL ? NULL : imp_message_decode(tx, ADDRESS_TYPE, value);
    *is_over = true;
    if (record == NULL)
        return IMP_OK;
    const Imprimatur__Audit__AddressUse *use = imp_message_get(
        tx, ((struct audit *)arg)->address_use, (imp_bytes){record->hash.data, record->hash.len},
        ADDRESS_USE_TYPE, &status);
    if (use == NULL)
        return status == IMP_CORRUPT || status == IMP_NOT_FOUND ? IMP_OK : status;
    *is_over = use->id.len != key.length || memcmp(use->id.data, key.data, key.length) != 0;
    return IMP_OK;
}

void address_sweep(struct audit *audit)
{
    /* First the uses, which say what is over, then the addresses that are left alone. */
    const imp_sweep_rule uses = {.size = sizeof uses,
                                 .table = audit->address_use,
                                 .is_over_tx = use_is_over_tx,
                                 .erase_more_tx = use_erase_more_tx,
                                 .arg = audit};
    const imp_sweep_rule addresses = {.size = sizeof addresses,
                                      .table = audit->address,
                                      .is_over_tx = address_is_over_tx,
                                      .arg = audit};
    uint64_t erased = 0;
    imp_status status = imp_sweep(audit->self, &uses, &erased, NULL);
    if (status == IMP_OK)
        status = imp_sweep(audit->self, &addresses, &erased, NULL);
    if (erased > 0)
        imp_log(audit->self, IMP_LOG_INFO, "audit.addresses-erased", "count=%" PRIu64, erased);
    if (status != IMP_OK && status != IMP_UNAVAILABLE)
        imp_log(audit->self, IMP_LOG_ERROR, "audit.sweep-failed", "status=%s",
                imp_status_name(status));
}
