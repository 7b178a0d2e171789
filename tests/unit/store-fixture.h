/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-fixture.h - a folder of its own for each test, and a small store in it.
 */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/store.h"

/* A step this small keeps tests quick; growth is met in each of them. */
#define FIXTURE_STEP (UINT64_C(1) << 20)

static const uint8_t fixture_master[KEYS_MASTER_SIZE] = "a master key of thirty-two byte";

static inline char *fixture_folder(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    assert_true(asprintf(&path, "%s/imprimatur-test-XXXXXX", base != NULL ? base : "/tmp") > 0);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void fixture_remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    if (folder != NULL) {
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char *below = NULL;
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
                continue;
            }
            assert_true(asprintf(&below, "%s/%s", path, entry->d_name) > 0);
            fixture_remove_tree(below);
            free(below);
        }
        closedir(folder);
    }
    (void)remove(path);
}

static inline void fixture_end(char *path)
{
    fixture_remove_tree(path);
    free(path);
}

static inline struct store_options fixture_options(const char *folder, enum store_mode mode)
{
    return (struct store_options){.state_dir = folder,
                                  .master = fixture_master,
                                  .mode = mode,
                                  .map_size = UINT64_C(1) << 30,
                                  .extend_step = FIXTURE_STEP};
}

#define assert_ok(call, error)                                                                     \
    do {                                                                                           \
        imp_status status_ = (call);                                                               \
        if (status_ != IMP_OK) {                                                                   \
            print_error("%s: %s (%s)\n", #call, imp_status_name(status_), (error).message);        \
        }                                                                                          \
        assert_int_equal(status_, IMP_OK);                                                         \
    } while (0)

static inline struct store *fixture_open(const char *folder, enum store_mode mode)
{
    struct store *store = NULL;
    imp_error error = {.status = IMP_OK};
    const struct store_options options = fixture_options(folder, mode);
    assert_ok(store_open(&options, &store, &error), error);
    return store;
}

static inline imp_table *fixture_table(struct store *store, const char *name, uint32_t flags)
{
    const imp_table_spec specs[] = {{.name = name, .schema = 1, .flags = flags}, {.name = NULL}};
    char full_name[64];
    imp_error error = {.status = IMP_OK};
    assert_ok(store_table_declare(store, NULL, "test", specs, NULL, &error), error);
    snprintf(full_name, sizeof full_name, "test.%s", name);
    imp_table *table = store_table_find(store, full_name);
    assert_non_null(table);
    return table;
}

static inline imp_bytes fixture_text(const char *text)
{
    return (imp_bytes){text, strlen(text)};
}

/* A closure that puts one record, or deletes it when `value` is NULL. */
struct fixture_put {
    imp_table *table;
    const char *key, *value;
};

static inline imp_status fixture_put_in(imp_tx *tx, void *arg, imp_error *error)
{
    const struct fixture_put *put = arg;
    (void)error;
    return put->value != NULL
               ? imp_tx_put(tx, put->table, fixture_text(put->key), fixture_text(put->value))
               : imp_tx_delete(tx, put->table, fixture_text(put->key));
}

static inline void fixture_put(struct store *store, imp_table *table, const char *key,
                               const char *value)
{
    struct fixture_put put = {table, key, value};
    imp_error error = {.status = IMP_OK};
    assert_ok(store_write_sync(store, NULL, fixture_put_in, &put, &error), error);
}

/* The value as a string to be freed; NULL when it is not there. */
static inline char *fixture_get(struct store *store, imp_table *table, const char *key)
{
    imp_tx *tx = NULL;
    imp_bytes value;
    imp_error error = {.status = IMP_OK};
    char *text = NULL;
    assert_ok(store_read_begin(store, NULL, &tx, &error), error);
    imp_status status = imp_tx_get(tx, table, fixture_text(key), &value);
    if (status == IMP_OK) {
        text = calloc(1, value.length + 1);
        assert_non_null(text);
        memcpy(text, value.data, value.length);
    } else {
        assert_int_equal(status, IMP_NOT_FOUND);
    }
    imp_store_read_end(tx);
    return text;
}

static inline void fixture_assert(struct store *store, imp_table *table, const char *key,
                                  const char *expected)
{
    char *text = fixture_get(store, table, key);
    if (expected == NULL) {
        assert_null(text);
    } else {
        assert_non_null(text);
        assert_string_equal(text, expected);
    }
    free(text);
}

#endif
