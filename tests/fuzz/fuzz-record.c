/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-record.c - what the store reads back from disk: sealed values, key records, descriptions of
 * tables, and whole backups. The first byte chooses.
 *
 * Without libFuzzer (-DMAKE_SEEDS) the program writes the corpus: fuzz-record FOLDER.
 */
#include "build-config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backup-private.h"
#include "core/backup.h"
#include "core/record.h"
#include "core/store-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { KIND_SEALED, KIND_KEY, KIND_TABLE, KIND_BACKUP, KIND_COUNT };

static const uint8_t master[KEYS_MASTER_SIZE];

static imp_status ignore(void *arg, const struct keys_record *record, imp_error *error)
{
    (void)arg;
    (void)record;
    (void)error;
    return IMP_OK;
}

static struct keyring *ring_once(void)
{
    static struct keyring *ring;
    imp_error error;
    if (ring == NULL && (keyring_make(master, ignore, NULL, &ring, &error) != IMP_OK ||
                         keyring_salt_new(ring, &error) != IMP_OK))
        abort();
    return ring;
}

/* Nobody knows the random key, so whatever opens was not sealed by us. */
static void open_sealed(imp_bytes input)
{
    const struct seal_scope scope = {ring_once(), "test.fuzz", 1};
    size_t key_length = input.length > 0 ? ((const uint8_t *)input.data)[0] % 32u : 0;
    if (input.length < 1 + key_length)
        return;
    const uint8_t *bytes = (const uint8_t *)input.data + 1;
    const imp_bytes sealed = {bytes + key_length, input.length - 1 - key_length};
    uint8_t *plain = malloc(sealed.length + 1);
    if (plain == NULL)
        return;
    if (seal_open(&scope, (imp_bytes){bytes, key_length}, sealed, plain) == IMP_OK)
        abort();
    free(plain);
}

static void add_key(imp_bytes input)
{
    struct record_reader reader = record_reader_of(input);
    struct keyring *ring = NULL;
    imp_error error;
    if (keyring_open_begin(&ring, &error) != IMP_OK)
        return;
    while (!reader.is_failed) {
        char name[KEYS_RECORD_NAME_MAX];
        record_read_text(&reader, name, sizeof name);
        imp_bytes value = record_read_short(&reader, KEYS_RECORD_VALUE_MAX);
        if (!reader.is_failed && keyring_open_add(ring, name, value, &error) != IMP_OK)
            break;
    }
    (void)keyring_open_end(ring, master, &error);
    keyring_close(ring);
}

static void read_table(imp_bytes input)
{
    struct store_table_record record;
    if (store_table_record_read(input, &record) == IMP_OK && record.schema == 0)
        abort();
}

static void look_at_backup(imp_bytes input)
{
    struct backup_report report;
    imp_error error;
    (void)backup_look_at(input, &report, &error);
    if (report.records > input.length || report.tables > input.length)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[KIND_COUNT])(imp_bytes input) = {
        [KIND_SEALED] = open_sealed,
        [KIND_KEY] = add_key,
        [KIND_TABLE] = read_table,
        [KIND_BACKUP] = look_at_backup,
    };
    if (size > 0 && data[0] < KIND_COUNT)
        targets[data[0]]((imp_bytes){data + 1, size - 1});
    return 0;
}

#ifdef MAKE_SEEDS

static FILE *seed(const char *folder, const char *name, enum kind kind)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fputc((int)kind, file) == EOF)
        exit(1);
    return file;
}

static void write_short(FILE *file, const void *data, size_t length)
{
    fputc((int)(length >> 8), file);
    fputc((int)(length & 0xff), file);
    fwrite(data, 1, length, file);
}

static imp_status write_key(void *arg, const struct keys_record *record, imp_error *error)
{
    (void)error;
    write_short(arg, record->name, strlen(record->name));
    write_short(arg, record->value, record->length);
    return IMP_OK;
}

static imp_status put_some(imp_tx *tx, void *arg, imp_error *error)
{
    uint64_t number;
    (void)error;
    for (char key = 'a'; key < 'f'; key++)
        if (imp_tx_put(tx, arg, (imp_bytes){&key, 1}, (imp_bytes){"value", 5}) != IMP_OK)
            return IMP_IO;
    return imp_tx_next_number(tx, arg, &number);
}

static void copy_backup(const char *folder, const char *name, struct store *store)
{
    struct backup_report report;
    imp_error error;
    FILE *backup = tmpfile();
    FILE *file = seed(folder, name, KIND_BACKUP);
    if (backup == NULL || backup_create(store, fileno(backup), 0, &report, &error) != IMP_OK)
        exit(1);
    rewind(backup);
    for (int byte; (byte = fgetc(backup)) != EOF;)
        fputc(byte, file);
    fclose(backup);
    fclose(file);
}

int main(int argc, char **argv)
{
    static const imp_table_spec specs[] = {
        {.name = "sealed", .schema = 1},
        {.name = "plain", .schema = 2, .flags = IMP_TABLE_PLAIN},
        {.name = "documents", .schema = 1, .flags = IMP_TABLE_VOLATILE},
        {.name = NULL}};
    char state[] = "/tmp/fuzz-record-XXXXXX";
    struct keyring *ring = NULL;
    struct store *store = NULL;
    imp_error error;
    if (argc != 2 || mkdtemp(state) == NULL)
        return 2;
    FILE *file = seed(argv[1], "keys", KIND_KEY);
    if (keyring_make(master, write_key, file, &ring, &error) != IMP_OK ||
        keyring_salt_new(ring, &error) != IMP_OK ||
        keyring_salt_write(ring, write_key, file, &error) != IMP_OK)
        return 1;
    fclose(file);
    file = seed(argv[1], "sealed", KIND_SEALED);
    uint8_t sealed[5 + SEAL_OVERHEAD];
    const struct seal_scope scope = {ring, "test.fuzz", 1};
    if (seal_value(&scope, (imp_bytes){"key", 3}, (imp_bytes){"value", 5}, sealed) != IMP_OK)
        return 1;
    fputc(3, file);
    fwrite("key", 1, 3, file);
    fwrite(sealed, 1, sizeof sealed, file);
    fclose(file);
    file = seed(argv[1], "table", KIND_TABLE);
    fwrite("\0\0\0\1\0\0\0\2", 1, 8, file);
    fclose(file);
    const struct store_options options = {.state_dir = state,
                                          .master = master,
                                          .mode = STORE_INLINE,
                                          .map_size = 16 << 20,
                                          .extend_step = 1 << 20};
    if (store_open(&options, &store, &error) != IMP_OK)
        return 1;
    copy_backup(argv[1], "backup-empty", store);
    if (store_table_declare(store, NULL, "test", specs, NULL, &error) != IMP_OK)
        return 1;
    copy_backup(argv[1], "backup-tables", store);
    if (store_write_sync(store, NULL, put_some, store_table_find(store, "test.sealed"), &error) !=
            IMP_OK ||
        store_write_sync(store, NULL, put_some, store_table_find(store, "test.plain"), &error) !=
            IMP_OK)
        return 1;
    copy_backup(argv[1], "backup-records", store);
    store_close(store);
    keyring_close(ring);
    return 0;
}

#endif
