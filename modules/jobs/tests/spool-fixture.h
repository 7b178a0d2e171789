/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-fixture.h - a spool on a real store and loop in a folder of its own, for tests, fuzzing and
 * measuring.
 */
#ifndef JOBS_TESTS_SPOOL_FIXTURE_H
#define JOBS_TESTS_SPOOL_FIXTURE_H

#include "modules/jobs/spool-private.h"

struct spool_fixture {
    char folder[64];
    struct spool_settings settings;
    const struct spool_io *io;
    imp_self *self;
    struct store *store;
    struct spool *spool;
    bool has_workers;
};

/* A folder below /tmp (or TMPDIR), a store, a spool. False with a line on standard error. */
bool fixture_make(struct spool_fixture *fixture, bool has_workers);
/* Opens what fixture_close has closed, as a new process would. */
bool fixture_open(struct spool_fixture *fixture);
void fixture_close(struct spool_fixture *fixture);
/* Closes, and removes the folder. */
void fixture_remove(struct spool_fixture *fixture);

/* Turns the loop until *flag, at most 30 seconds; false when it did not come. */
bool fixture_wait(const bool *flag);
/* Turns the loop until nothing runs in the spool. */
void fixture_settle(struct spool_fixture *fixture);

/* Byte `at` of a document that is known by its seed. */
uint8_t fixture_byte(uint32_t seed, uint64_t at);
/* Writes, finishes and commits a document in pieces of `piece` bytes. */
imp_status fixture_write(struct spool_fixture *fixture, uint32_t seed, uint64_t size, size_t piece,
                         struct spool_document *document, imp_error *error);
/* Reads it and compares; IMP_INVALID when it came with other bytes. */
imp_status fixture_read(struct spool_fixture *fixture, const struct spool_document *document,
                        uint32_t seed, imp_error *error);
imp_status fixture_condemn(struct spool_fixture *fixture, const struct spool_document *document);
/* spool_shred, and waits for its word. */
imp_status fixture_shred(struct spool_fixture *fixture);

#endif
