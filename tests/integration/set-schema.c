/* SPDX-License-Identifier: Apache-2.0 */
/*
 * set-schema.c - makes a store look as if another version had written it. No server may run on it.
 *
 *     set-schema STATE MASTER-KEY TABLE SCHEMA    e.g. jobs.queue 99
 *     set-schema STATE MASTER-KEY format NUMBER   the format of the whole store
 *
 * Prints the number that stood there. A store of a newer format is not opened, so that there is no way
 * back from the second form.
 */
#include "build-config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/keys.h"
#include "core/record.h"
#include "core/store-private.h"

struct change {
    const char *table;
    uint32_t number, before;
};

static void fail(const char *what, const imp_error *error)
{
    fprintf(stderr, "set-schema: %s: %s\n", what, error->message);
    exit(1);
}

static imp_status set_format(imp_tx *tx, struct change *change, imp_error *error)
{
    uint8_t bytes[4];
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u32(&writer, change->number);
    change->before = STORE_FORMAT;
    return store_meta_put(tx->store, tx->txn, STORE_META_FORMAT, bytes, sizeof bytes, error);
}

static imp_status set_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct change *change = arg;
    imp_bytes value;
    struct store_table_record record;
    uint8_t bytes[8];
    tx->changes++;
    if (strcmp(change->table, "format") == 0)
        return set_format(tx, change, error);
    const imp_bytes name = {change->table, strlen(change->table)};
    imp_status status = imp_tx_get(tx, tx->store->table_list, name, &value);
    if (status == IMP_OK)
        status = store_table_record_read(value, &record);
    if (status != IMP_OK)
        return imp_error_set(error, status, "no good table %s", change->table);
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_u32(&writer, change->number);
    record_write_u32(&writer, record.flags);
    change->before = record.schema;
    const imp_bytes written = record_written(&writer);
    return store_apply(tx, tx->store->table_list, name, &written, false, false);
}

int main(int count, char **words)
{
    uint8_t master[KEYS_MASTER_SIZE];
    struct store *store = NULL;
    imp_error error = {.status = IMP_OK};
    char *end = NULL;
    unsigned long number = count == 5 ? strtoul(words[4], &end, 10) : 0;
    if (count != 5 || *end != '\0' || number == 0 || number > UINT32_MAX) {
        fprintf(stderr, "usage: set-schema STATE MASTER-KEY TABLE|format NUMBER\n");
        return 2;
    }
    if (keys_master_load_or_make(words[2], false, master, &error) != IMP_OK)
        fail("master key", &error);
    const struct store_options options = {
        .state_dir = words[1], .master = master, .mode = STORE_INLINE, .must_exist = true};
    if (store_open(&options, &store, &error) != IMP_OK)
        fail("store", &error);
    imp_wipe(master, sizeof master);
    struct change change = {.table = words[3], .number = (uint32_t)number};
    imp_status status = store_write_exclusive(store, NULL, set_in, &change, &error);
    store_close(store);
    if (status != IMP_OK)
        fail(change.table, &error);
    printf("%" PRIu32 "\n", change.before);
    return fflush(stdout) == 0 ? 0 : 1;
}
