/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-fixture.h - a loop turned by hand, a store and a generation, for tests of code that runs as a
 * module; its verbs are run without a socket.
 */
#ifndef TESTS_UNIT_MODULE_FIXTURE_H
#define TESTS_UNIT_MODULE_FIXTURE_H

#include "tests/unit/store-fixture.h"

#include "core/control.h"
#include "core/loop.h"
#include "core/self.h"
#include "core/store-private.h"

struct module_fixture {
    char *folder;
    struct store *store;
    struct imp_self *self;
};

static inline void module_fixture_settle(void)
{
    while (loop_run_once(imp_loop_control(), false)) /* closures and works run inside it */
        continue;
}

/* `folder` NULL: a new one. */
static inline void module_fixture_open(struct module_fixture *fixture, char *folder,
                                       const char *name, const imp_table_spec *tables)
{
    imp_error error = {0};
    fixture->folder = folder == NULL ? fixture_folder() : folder;
    assert_ok(loop_setup_for_test(&error), error);
    fixture->self = self_new_for_test(name);
    fixture->store = fixture_open(fixture->folder, STORE_INLINE);
    store_set_current(fixture->store);
    assert_ok(store_table_declare(fixture->store, fixture->self, name, tables, NULL, &error),
              error);
}

/* Leaves the folder. */
static inline void module_fixture_close(struct module_fixture *fixture)
{
    self_end(fixture->self, SELF_CUT);
    module_fixture_settle();
    control_sweep(fixture->self);
    store_set_current(NULL);
    store_close(fixture->store);
    module_fixture_settle();
    self_free_for_test(fixture->self);
    loop_stop();
    loop_teardown();
}

static inline void module_fixture_end(struct module_fixture *fixture)
{
    module_fixture_close(fixture);
    fixture_end(fixture->folder);
}

/* ---- verbs ---- */

struct module_fixture_answer {
    char *frames; /* JSON array of frames; freed by module_fixture_forget */
    int exit_status;
};

static inline void module_fixture_answered(const char *frames, int exit_status, void *arg)
{
    struct module_fixture_answer *answer = arg;
    answer->frames = strdup(frames);
    answer->exit_status = exit_status;
}

/* Runs a command line, NULL-terminated words, as uid 7. */
static inline struct module_fixture_answer module_fixture_run(const char *const *words)
{
    struct module_fixture_answer answer = {NULL, -1};
    uint32_t count = 0;
    while (words[count] != NULL)
        count++;
    control_run_for_test(words, count, 7, module_fixture_answered, &answer);
    module_fixture_settle();
    assert_non_null(answer.frames);
    return answer;
}
#define module_fixture_verb(...) module_fixture_run((const char *const[]){__VA_ARGS__, NULL})

/* ---- damage ---- */

struct module_fixture_damage {
    imp_table *table;
    imp_bytes key;
};

static inline imp_status module_fixture_damage_in(imp_tx *tx, void *arg, imp_error *error)
{
    struct module_fixture_damage *damage = arg;
    MDB_val key = {damage->key.length, (void *)(uintptr_t)damage->key.data}, data;
    (void)error;
    assert_int_equal(mdb_get(tx->txn, damage->table->dbi, &key, &data), 0);
    char *copy = malloc(data.mv_size);
    assert_non_null(copy);
    memcpy(copy, data.mv_data, data.mv_size);
    copy[data.mv_size - 1] ^= 1;
    data.mv_data = copy;
    assert_int_equal(mdb_put(tx->txn, damage->table->dbi, &key, &data, 0), 0);
    free(copy);
    tx->changes++;
    return IMP_OK;
}

/* Flips a bit of a sealed value as it stands in the store, as a bad disk would. */
static inline void module_fixture_damage(struct module_fixture *fixture, imp_table *table,
                                         imp_bytes key)
{
    struct module_fixture_damage damage = {table, key};
    imp_error error = {0};
    assert_ok(
        store_write_sync(fixture->store, fixture->self, module_fixture_damage_in, &damage, &error),
        error);
}

#endif
