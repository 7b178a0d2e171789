/* SPDX-License-Identifier: Apache-2.0 */
/* backup-restore.c - checking a backup, and making a store from it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/backup-private.h"
#include "core/backup.h"
#include "core/record.h"
#include "core/store-private.h"

/* Key records in a backup: three roots, a check and a salt a start; 100,000 starts are decades. */
#define KEY_RECORDS_MAX 100000u
#define VERIFY_FOLDER "backup-verify"
#define VERIFY_EXTEND_STEP (UINT64_C(8) << 20)

/* What a walk over a backup finds. */
struct contents {
    struct backup_report *report;
    struct keys_record *keys;
    size_t key_count, key_room;
    uint8_t hash[BACKUP_HASH_SIZE], seal[BACKUP_HASH_SIZE];

    struct store *into; /* NULL: only look */
    imp_table *table;
    uint64_t table_records;
};

static imp_status bad(imp_error *error, const char *what)
{
    return imp_error_set(error, IMP_CORRUPT, "the backup is damaged: %s", what);
}

/* ---- the frames ---- */

static imp_status take_header(struct contents *contents, imp_bytes payload, imp_error *error)
{
    struct record_reader reader = record_reader_of(payload);
    uint32_t format = record_read_u32(&reader);
    imp_bytes id = record_read_bytes(&reader, sizeof contents->report->store_id);
    contents->report->sequence = record_read_u64(&reader);
    contents->report->made = (int64_t)record_read_u64(&reader);
    uint32_t store_format = record_read_u32(&reader);
    if (reader.is_failed) {
        return bad(error, "its header");
    }
    memcpy(&contents->report->store_id, id.data, id.length);
    if (format > BACKUP_FORMAT || store_format > STORE_FORMAT) {
        return imp_error_set(error, IMP_UNSUPPORTED,
                             "the backup has format %u of a store of format %u, this program knows "
                             "up to %u and %u; use a newer version",
                             format, store_format, BACKUP_FORMAT, STORE_FORMAT);
    }
    return IMP_OK;
}

static imp_status take_key(struct contents *contents, imp_bytes payload, imp_error *error)
{
    struct record_reader reader = record_reader_of(payload);
    struct keys_record record = {.length = 0};
    record_read_text(&reader, record.name, sizeof record.name);
    imp_bytes value = record_read_rest(&reader);
    if (reader.is_failed || value.length > sizeof record.value ||
        contents->key_count >= KEY_RECORDS_MAX) {
        return bad(error, "a key record");
    }
    if (value.length > 0) {
        memcpy(record.value, value.data, value.length);
    }
    record.length = (uint32_t)value.length;
    if (contents->key_count == contents->key_room) {
        size_t room = contents->key_room == 0 ? 16 : contents->key_room * 2;
        struct keys_record *keys = realloc(contents->keys, room * sizeof *keys);
        if (keys == NULL) {
            return imp_error_set(error, IMP_LIMIT, "no memory to read a backup");
        }
        contents->keys = keys;
        contents->key_room = room;
    }
    contents->keys[contents->key_count++] = record;
    return IMP_OK;
}

static imp_status take_table(struct contents *contents, imp_bytes payload, imp_error *error)
{
    struct record_reader reader = record_reader_of(payload);
    char name[STORE_TABLE_NAME_MAX];
    record_read_text(&reader, name, sizeof name);
    uint32_t schema = record_read_u32(&reader);
    uint32_t flags = record_read_u32(&reader);
    uint64_t number = record_read_u64(&reader);
    if (reader.is_failed || name[0] == '\0' || schema == 0 || strncmp(name, "core.", 5) == 0) {
        return bad(error, "a table's head");
    }
    contents->table_records = 0;
    if (contents->into == NULL) {
        contents->report->tables++;
        return IMP_OK;
    }
    return store_restore_table(contents->into, name, schema, flags, number, &contents->table,
                               error);
}

static imp_status take_record(struct contents *contents, imp_bytes payload, imp_error *error)
{
    struct record_reader reader = record_reader_of(payload);
    imp_bytes key = record_read_short(&reader, IMP_KEY_MAX);
    imp_bytes value = record_read_rest(&reader);
    if (reader.is_failed || key.length == 0) {
        return bad(error, "a record");
    }
    contents->table_records++;
    imp_status status = backup_go_on(error);
    if (status != IMP_OK) {
        return status;
    }
    if (contents->into == NULL) {
        contents->report->records++;
        return IMP_OK;
    }
    return store_restore_put(contents->into, contents->table, key, value, error);
}

static imp_status take_table_end(struct contents *contents, imp_bytes payload, imp_error *error)
{
    struct record_reader reader = record_reader_of(payload);
    uint64_t count = record_read_u64(&reader);
    return reader.is_failed || count != contents->table_records ? bad(error, "records are missing")
                                                                : IMP_OK;
}

static imp_status take_totals(struct contents *contents, imp_bytes payload, imp_error *error)
{
    struct record_reader reader = record_reader_of(payload);
    uint64_t tables = record_read_u64(&reader);
    uint64_t records = record_read_u64(&reader);
    return reader.is_failed || tables != contents->report->tables ||
                   records != contents->report->records
               ? bad(error, "tables or records are missing")
               : IMP_OK;
}

static imp_status take_seal(struct contents *contents, imp_bytes payload, imp_error *error)
{
    if (payload.length != sizeof contents->seal) {
        return bad(error, "its seal");
    }
    memcpy(contents->seal, payload.data, payload.length);
    return IMP_OK;
}

/* Which frames may follow which; a row each: the frame, what may stand before it. */
struct frame_rule {
    enum backup_frame type;
    unsigned before; /* bits of frames; bit 0 = the start */
    imp_status (*take)(struct contents *contents, imp_bytes payload, imp_error *error);
};
#define AFTER(type) (1u << (type))
static const struct frame_rule rules[] = {
    {BACKUP_HEADER, 1u, take_header},
    {BACKUP_KEY, AFTER(BACKUP_HEADER) | AFTER(BACKUP_KEY), take_key},
    {BACKUP_TABLE, AFTER(BACKUP_KEY) | AFTER(BACKUP_TABLE_END), take_table},
    {BACKUP_RECORD, AFTER(BACKUP_TABLE) | AFTER(BACKUP_RECORD), take_record},
    {BACKUP_TABLE_END, AFTER(BACKUP_TABLE) | AFTER(BACKUP_RECORD), take_table_end},
    {BACKUP_TOTALS, AFTER(BACKUP_KEY) | AFTER(BACKUP_TABLE_END), take_totals},
    {BACKUP_SEAL, AFTER(BACKUP_TOTALS), take_seal},
};

/* Reads all frames in their order. */
static imp_status walk(struct backup_reader *reader, struct contents *contents, imp_error *error)
{
    unsigned last = 1u;
    enum backup_frame type;
    imp_bytes payload;
    imp_status status;
    while ((status = backup_read_frame(reader, &type, &payload, error)) == IMP_OK) {
        const struct frame_rule *rule = &rules[type - 1];
        if ((rule->before & last) == 0) {
            return bad(error, "its parts are out of order");
        }
        last = AFTER(type);
        if (type == BACKUP_SEAL) {
            backup_reader_hash(reader, contents->hash);
        }
        status = rule->take(contents, payload, error);
        if (status != IMP_OK) {
            return status;
        }
    }
    if (status != IMP_NOT_FOUND) {
        return status;
    }
    return last == AFTER(BACKUP_SEAL) ? IMP_OK : bad(error, "it ends too early");
}

/* ---- checking the whole before anything is made ---- */

static imp_status open_ring(const struct contents *contents, const uint8_t *master,
                            const struct keyring *like, struct keyring **ring, imp_error *error)
{
    imp_status status = keyring_open_begin(ring, error);
    for (size_t i = 0; status == IMP_OK && i < contents->key_count; i++) {
        const struct keys_record *record = &contents->keys[i];
        status = keyring_open_add(*ring, record->name, (imp_bytes){record->value, record->length},
                                  error);
    }
    if (status == IMP_OK) {
        status = like != NULL ? keyring_open_like(*ring, like, error)
                              : keyring_open_end(*ring, master, error);
    }
    return status;
}

static imp_status check_seal(const struct contents *contents, const uint8_t *master,
                             const struct keyring *like, imp_error *error)
{
    struct keyring *ring = NULL;
    uint8_t seal[BACKUP_HASH_SIZE];
    imp_status status = open_ring(contents, master, like, &ring, error);
    if (status == IMP_OK) {
        backup_seal(ring, contents->hash, seal);
        if (!imp_equal_constant_time(seal, contents->seal, sizeof seal)) {
            status = like != NULL
                         ? imp_error_set(error, IMP_DENIED,
                                         "the backup's seal does not hold: it was changed, or it "
                                         "belongs to another store")
                         : imp_error_set(error, IMP_CORRUPT,
                                         "the backup's seal does not hold: it was changed");
        }
    }
    keyring_close(ring);
    return status;
}

static imp_status look(int fd, struct contents *contents, imp_error *error)
{
    struct backup_reader *reader = NULL;
    imp_status status = backup_reader_new(fd, &reader, error);
    if (status == IMP_OK) {
        status = walk(reader, contents, error);
        contents->report->bytes = backup_reader_bytes(reader);
        backup_reader_free(reader);
    }
    return status;
}

/* ---- making ---- */

static void remove_store(const char *state_dir)
{
    static const char *const files[] = {STORE_FILE, "lock.mdb"};
    char path[STORE_PATH_MAX + 32];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/" STORE_FOLDER "/%s", state_dir, files[i]);
        (void)unlink(path);
    }
    snprintf(path, sizeof path, "%s/" STORE_FOLDER, state_dir);
    (void)rmdir(path);
}

/* Leaves the new store open in *out. */
static imp_status restore_into(int fd, const struct store_options *options,
                               const struct keyring *like, struct backup_report *report,
                               struct store **out, imp_error *error)
{
    struct stat about;
    struct store *store = NULL;
    memset(report, 0, sizeof *report);
    struct contents first = {.report = report};
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        return imp_error_set(error, IMP_INVALID, "a backup is read from a file, not from a pipe");
    }
    if (store_exists(options->state_dir)) {
        return imp_error_set(error, IMP_EXISTS,
                             "there is a store in %s already; restore into an empty folder",
                             options->state_dir);
    }
    imp_status status = look(fd, &first, error);
    if (status == IMP_OK) {
        status = check_seal(&first, options->master, like, error);
    }
    if (status != IMP_OK) {
        free(first.keys);
        return status;
    }
    const struct store_preset preset = {.keys = first.keys,
                                        .key_count = first.key_count,
                                        .sequence = report->sequence,
                                        .like = like};
    status = store_open_preset(options, &preset, &store, error);
    bool is_made = status == IMP_OK;
    struct backup_report unused = *report;
    struct contents second = {.report = &unused, .into = store};
    if (status == IMP_OK) {
        status = look(fd, &second, error);
    }
    if (status == IMP_OK && memcmp(first.hash, second.hash, sizeof first.hash) != 0) {
        status = imp_error_set(error, IMP_CORRUPT, "the backup was changed while it was read");
    }
    if (status == IMP_OK) {
        status = store_restore_end(store, error);
    }
    free(first.keys);
    free(second.keys);
    if (status != IMP_OK) {
        store_close(store);
        if (is_made || status == IMP_NO_SPACE) {
            remove_store(options->state_dir);
        }
        return status;
    }
    *out = store;
    return IMP_OK;
}

imp_status backup_restore(int fd, const char *state_dir, const uint8_t master[KEYS_MASTER_SIZE],
                          struct backup_report *report, imp_error *error)
{
    struct store *store = NULL;
    const struct store_options options = {
        .state_dir = state_dir, .master = master, .mode = STORE_INLINE};
    imp_status status = restore_into(fd, &options, NULL, report, &store, error);
    store_close(store);
    return status;
}

/* ---- verifying ---- */

static imp_status open_every_seal(struct store *store, struct backup_report *report,
                                  imp_error *error)
{
    imp_tx *tx = NULL;
    uint64_t records = 0;
    imp_status status = store_read_begin_long(store, &tx, error);
    if (status != IMP_OK) {
        return status;
    }
    for (imp_table *table = store->tables; status == IMP_OK && table != NULL; table = table->next) {
        if (strncmp(table->name, "core.", 5) == 0) {
            continue;
        }
        imp_cursor *cursor = NULL;
        imp_bytes key, value;
        status = imp_cursor_open(tx, table, (imp_bytes){NULL, 0}, &cursor);
        while (status == IMP_OK && (status = imp_cursor_next(cursor, &key, &value)) == IMP_OK) {
            records++;
            report->seals += (table->flags & IMP_TABLE_PLAIN) == 0 ? 1 : 0;
            status = backup_go_on(error);
        }
        imp_cursor_close(cursor);
        if (status == IMP_NOT_FOUND) {
            status = IMP_OK;
        } else if (status != IMP_UNAVAILABLE) {
            status =
                imp_error_set(error, status, "table %s: record %llu can't be opened: %s",
                              table->name, (unsigned long long)records, imp_status_name(status));
        }
    }
    imp_store_read_end(tx);
    if (status == IMP_OK && records != report->records) {
        status = imp_error_set(error, IMP_CORRUPT, "%llu records were restored of %llu",
                               (unsigned long long)records, (unsigned long long)report->records);
    }
    return status;
}

/* Makes the scratch folder, and empties it of what a verification that was cut short has left. */
static imp_status prepare_scratch(const char *folder, imp_error *error)
{
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return imp_error_set(error, store_status(errno), "folder %s can't be made: %s", folder,
                             strerror(errno));
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return imp_error_set(error, store_status(errno), "folder %s: %s", folder, strerror(errno));
    }
    bool is_ours = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (is_ours) {
        remove_store(folder);
    }
    close(fd);
    return is_ours ? IMP_OK : imp_error_set(error, IMP_BUSY, "another verification is running");
}

static imp_status verify(int fd, const char *scratch_dir, const uint8_t *master,
                         const struct keyring *like, struct backup_report *report, imp_error *error)
{
    char folder[STORE_PATH_MAX];
    struct store *store = NULL;
    int length = snprintf(folder, sizeof folder, "%s/" VERIFY_FOLDER, scratch_dir);
    if (length < 0 || (size_t)length >= sizeof folder - 32) {
        return imp_error_set(error, IMP_INVALID, "the folder's path is too long");
    }
    imp_status status = prepare_scratch(folder, error);
    if (status != IMP_OK) {
        return status;
    }
    const struct store_options options = {.state_dir = folder,
                                          .master = master,
                                          .mode = STORE_INLINE,
                                          .extend_step = VERIFY_EXTEND_STEP};
    status = restore_into(fd, &options, like, report, &store, error);
    if (status == IMP_OK) {
        status = open_every_seal(store, report, error);
    }
    if (status == IMP_OK) {
        status = backup_checks_run(store, &report->checks, error);
    }
    store_close(store);
    remove_store(folder);
    (void)rmdir(folder);
    return status;
}

imp_status backup_verify(int fd, const char *scratch_dir, const uint8_t master[KEYS_MASTER_SIZE],
                         struct backup_report *report, imp_error *error)
{
    return verify(fd, scratch_dir, master, NULL, report, error);
}

imp_status backup_verify_with(int fd, const char *scratch_dir, struct store *store,
                              struct backup_report *report, imp_error *error)
{
    return verify(fd, scratch_dir, NULL, store_keyring(store), report, error);
}

/* ---- fuzzing ---- */

imp_status backup_look_at(imp_bytes bytes, struct backup_report *report, imp_error *error)
{
    struct backup_reader *reader = NULL;
    memset(report, 0, sizeof *report);
    struct contents contents = {.report = report};
    imp_status status = backup_reader_of(bytes, &reader, error);
    if (status == IMP_OK) {
        status = walk(reader, &contents, error);
        backup_reader_free(reader);
    }
    struct keyring *ring = NULL;
    if (status == IMP_OK) {
        const uint8_t master[KEYS_MASTER_SIZE] = {0};
        status = open_ring(&contents, master, NULL, &ring, error);
    }
    keyring_close(ring);
    free(contents.keys);
    return status;
}
