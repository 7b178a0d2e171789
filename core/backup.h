/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup.h - logical backups: all tables that are not volatile, still sealed, with the wrapped keys.
 *
 * A backup is one file of frames (backup-format.h): header, key table, tables with their records,
 * totals, and an HMAC-SHA256 over everything before it under a key derived from the store root key.
 * It opens with the master key alone, which it never holds. It is written from one read transaction;
 * when the store grows past a bound meanwhile (a long reader keeps freed pages from being used again)
 * it is given up and tried again.
 */
#ifndef CORE_BACKUP_H
#define CORE_BACKUP_H

#include "core/store.h"

#define BACKUP_GROWTH_DEFAULT (UINT64_C(1) << 30) /* what the store may grow during one attempt */
#define BACKUP_ATTEMPTS 3u

struct backup_report {
    imp_id store_id;   /* of the store that was backed up */
    uint64_t sequence; /* its last commit in the backup */
    int64_t made;      /* wall clock */
    uint64_t tables, records, bytes;
    uint64_t attempts; /* create: 1 unless it was given up meanwhile */
    uint64_t seals;    /* verify: values that were opened */
    uint64_t checks;   /* verify: module checks that passed */
};

/* Writes a backup to `fd`, a regular file open for writing (it is cut to zero first), and syncs it.
 * `growth_max` 0 = default. Blocks: worker threads or offline. */
imp_status backup_create(struct store *store, int fd, uint64_t growth_max,
                         struct backup_report *report, imp_error *error) IMP_MUST_CHECK;

/* Reads a backup from `fd` (a regular file, reading) into an empty or missing store folder of
 * `state_dir`, which must have no store: everything is checked before anything is made. The restored
 * store has a new store id and a new sealing salt. Blocks; offline. */
imp_status backup_restore(int fd, const char *state_dir, const uint8_t master[KEYS_MASTER_SIZE],
                          struct backup_report *report, imp_error *error) IMP_MUST_CHECK;

/* Restores into a new folder below `scratch_dir`, opens every seal, compares counts, runs the
 * modules' checks (imp_backup_check_add; none offline), and removes the folder. Blocks. */
imp_status backup_verify(int fd, const char *scratch_dir, const uint8_t master[KEYS_MASTER_SIZE],
                         struct backup_report *report, imp_error *error) IMP_MUST_CHECK;
/* The same inside the server, where the master key is gone: the running store's root keys are used, so
 * only backups of this store or its ancestors can be verified (IMP_DENIED otherwise). */
imp_status backup_verify_with(int fd, const char *scratch_dir, struct store *store,
                              struct backup_report *report, imp_error *error) IMP_MUST_CHECK;

/* Registers `backup create`, `backup verify` and `key status` for the current store. Control thread,
 * after the loops are set up. */
imp_status backup_verbs_register(imp_error *error) IMP_MUST_CHECK;
/* Asks what is under way for those verbs to give up. Control thread. */
void backup_verbs_cancel(void);

#endif
