/* SPDX-License-Identifier: Apache-2.0 */
/* backup.c - writing a backup from one read transaction. */
#include "core/backup.h"

#include <errno.h>
#include <imprimatur/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/backup-format.h"
#include "core/backup-private.h"
#include "core/crash-point.h"
#include "core/record.h"
#include "core/store-private.h"

/* How often the growth of the store is looked at, in records. */
#define LOOK_EVERY 1024u

struct attempt {
    struct store *store;
    imp_tx *tx;
    struct backup_writer *writer;
    struct backup_report *report;
    uint64_t used_at_start, growth_max;
};

imp_status backup_go_on(imp_error *error)
{
    return imp_work_is_cancelled()
               ? imp_error_set(error, IMP_UNAVAILABLE, "the server is ending: given up")
               : IMP_OK;
}

static void seal_key(struct keyring *ring, uint8_t key[KEYS_ROOT_SIZE])
{
    static const char info[] = "imprimatur backup";
    keyring_derive(ring, KEYS_ROOT_STORE, (imp_bytes){NULL, 0}, (imp_bytes){info, sizeof info - 1},
                   key, KEYS_ROOT_SIZE);
}

void backup_seal(struct keyring *ring, const uint8_t hash[BACKUP_HASH_SIZE],
                 uint8_t seal[BACKUP_HASH_SIZE])
{
    uint8_t key[KEYS_ROOT_SIZE];
    const imp_bytes part = {hash, BACKUP_HASH_SIZE};
    seal_key(ring, key);
    keys_hmac((imp_bytes){key, sizeof key}, &part, 1, seal);
    imp_wipe(key, sizeof key);
}

static imp_status write_header(struct attempt *attempt, imp_error *error)
{
    uint8_t bytes[40];
    struct backup_report *report = attempt->report;
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    imp_bytes value;
    report->store_id = attempt->store->id;
    report->made = imp_now();
    report->sequence = 0;
    if (store_meta_get(attempt->store, attempt->tx->txn, STORE_META_SEQUENCE, &value) == IMP_OK) {
        struct record_reader reader = record_reader_of(value);
        report->sequence = record_read_u64(&reader);
    }
    record_write_u32(&writer, BACKUP_FORMAT);
    record_write_bytes(&writer, (imp_bytes){&report->store_id, sizeof report->store_id});
    record_write_u64(&writer, report->sequence);
    record_write_u64(&writer, (uint64_t)report->made);
    record_write_u32(&writer, STORE_FORMAT);
    const imp_bytes part = record_written(&writer);
    return backup_write_frame(attempt->writer, BACKUP_HEADER, &part, 1, error);
}

/* A frame of a short name and the rest. */
static imp_status write_pair(struct attempt *attempt, enum backup_frame type, MDB_val name,
                             MDB_val rest, imp_error *error)
{
    uint8_t length[2] = {(uint8_t)(name.mv_size >> 8), (uint8_t)name.mv_size};
    const imp_bytes parts[] = {
        {length, sizeof length}, {name.mv_data, name.mv_size}, {rest.mv_data, rest.mv_size}};
    return backup_write_frame(attempt->writer, type, parts, 3, error);
}

/* Every record of one dbi, as it is stored. */
static imp_status write_all(struct attempt *attempt, MDB_dbi dbi, enum backup_frame type,
                            uint64_t *count, imp_error *error)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    imp_status status = IMP_OK;
    *count = 0;
    int code = mdb_cursor_open(attempt->tx->txn, dbi, &cursor);
    while (code == 0 && status == IMP_OK) {
        code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (code != 0) {
            break;
        }
        if (++*count % LOOK_EVERY == 0) {
            uint64_t used = atomic_load(&attempt->store->used_bytes);
            if (used > attempt->used_at_start + attempt->growth_max) {
                status = IMP_BUSY;
                break;
            }
        }
        status = backup_go_on(error);
        if (status == IMP_OK) {
            status = write_pair(attempt, type, key, value, error);
        }
    }
    mdb_cursor_close(cursor);
    if (status == IMP_OK && code != MDB_NOTFOUND) {
        status = store_error(error, code, "reading for a backup");
    }
    return status;
}

static imp_status write_table(void *arg, const char *name, const struct store_table_record *record,
                              imp_error *error)
{
    struct attempt *attempt = arg;
    uint8_t bytes[2 + STORE_TABLE_NAME_MAX + 16];
    uint8_t total[8];
    uint64_t number = 0;
    uint64_t count = 0;
    imp_bytes value;
    imp_table *table = store_table_find(attempt->store, name);
    if (table == NULL) {
        return imp_error_set(error, IMP_CORRUPT, "table %s can't be opened", name);
    }
    imp_status status =
        imp_tx_get(attempt->tx, attempt->store->numbers, (imp_bytes){name, strlen(name)}, &value);
    if (status == IMP_OK) {
        struct record_reader reader = record_reader_of(value);
        number = record_read_u64(&reader);
    } else if (status != IMP_NOT_FOUND) {
        return imp_error_set(error, status, "the number of table %s can't be read", name);
    }
    struct record_writer writer = record_writer_of(bytes, sizeof bytes);
    record_write_short(&writer, (imp_bytes){name, strlen(name)});
    record_write_u32(&writer, record->schema);
    record_write_u32(&writer, record->flags);
    record_write_u64(&writer, number);
    imp_bytes part = record_written(&writer);
    status = backup_write_frame(attempt->writer, BACKUP_TABLE, &part, 1, error);
    /* A volatile table is made anew by a restore, empty. */
    if (status == IMP_OK && (record->flags & IMP_TABLE_VOLATILE) == 0) {
        status = write_all(attempt, table->dbi, BACKUP_RECORD, &count, error);
    }
    writer = record_writer_of(total, sizeof total);
    record_write_u64(&writer, count);
    part = record_written(&writer);
    if (status == IMP_OK) {
        status = backup_write_frame(attempt->writer, BACKUP_TABLE_END, &part, 1, error);
    }
    attempt->report->tables++;
    attempt->report->records += count;
    IMP_CRASH_POINT("backup.table-written");
    return status;
}

static imp_status write_end(struct attempt *attempt, imp_error *error)
{
    uint8_t totals[16];
    uint8_t hash[BACKUP_HASH_SIZE];
    uint8_t seal[BACKUP_HASH_SIZE];
    struct record_writer writer = record_writer_of(totals, sizeof totals);
    record_write_u64(&writer, attempt->report->tables);
    record_write_u64(&writer, attempt->report->records);
    imp_bytes part = record_written(&writer);
    imp_status status = backup_write_frame(attempt->writer, BACKUP_TOTALS, &part, 1, error);
    if (status != IMP_OK) {
        return status;
    }
    backup_writer_hash(attempt->writer, hash);
    backup_seal(attempt->store->ring, hash, seal);
    part = (imp_bytes){seal, sizeof seal};
    status = backup_write_frame(attempt->writer, BACKUP_SEAL, &part, 1, error);
    return status == IMP_OK ? backup_writer_flush(attempt->writer, error) : status;
}

/* IMP_BUSY when the store has grown too much meanwhile. */
static imp_status try_once(struct attempt *attempt, int fd, imp_error *error)
{
    uint64_t key_count = 0;
    attempt->report->tables = attempt->report->records = 0;
    if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        return imp_error_set(error, IMP_IO, "the backup can't be started: %s", strerror(errno));
    }
    attempt->writer = backup_writer_new(fd);
    if (attempt->writer == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory to write a backup");
    }
    imp_status status = store_read_begin_long(attempt->store, &attempt->tx, error);
    if (status == IMP_OK) {
        attempt->used_at_start = atomic_load(&attempt->store->used_bytes);
        status = write_header(attempt, error);
        if (status == IMP_OK) {
            status = write_all(attempt, attempt->store->keys->dbi, BACKUP_KEY, &key_count, error);
        }
        if (status == IMP_OK) {
            status = store_table_each(attempt->tx, write_table, attempt, error);
        }
        imp_store_read_end(attempt->tx);
    }
    if (status == IMP_OK) {
        status = write_end(attempt, error);
    }
    attempt->report->bytes = backup_writer_bytes(attempt->writer);
    backup_writer_free(attempt->writer);
    return status;
}

imp_status backup_create(struct store *store, int fd, uint64_t growth_max,
                         struct backup_report *report, imp_error *error)
{
    struct stat about;
    memset(report, 0, sizeof *report);
    struct attempt attempt = {.store = store,
                              .report = report,
                              .growth_max = growth_max != 0 ? growth_max : BACKUP_GROWTH_DEFAULT};
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        return imp_error_set(error, IMP_INVALID,
                             "a backup is written to a local file, not to a pipe or device");
    }
    /* Tables of modules that do not run now belong to it as well. */
    imp_status status = store_table_open_all(store, error);
    if (status != IMP_OK) {
        return status;
    }
    do {
        report->attempts++;
        status = try_once(&attempt, fd, error);
    } while (status == IMP_BUSY && report->attempts < BACKUP_ATTEMPTS);
    if (status == IMP_BUSY) {
        return imp_error_set(error, IMP_BUSY,
                             "the store grew too fast during %u attempts of a backup; try again "
                             "when less is printed",
                             BACKUP_ATTEMPTS);
    }
    if (status == IMP_OK && fsync(fd) != 0) {
        status = imp_error_set(error, IMP_IO, "the backup can't be synced: %s", strerror(errno));
    }
    IMP_CRASH_POINT("backup.synced");
    return status;
}
