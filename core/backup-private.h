/* SPDX-License-Identifier: Apache-2.0 */
/* backup-private.h - what writing and reading a backup share. */
#ifndef CORE_BACKUP_PRIVATE_H
#define CORE_BACKUP_PRIVATE_H

#include "core/backup-format.h"
#include "core/keys.h"

/* The seal over the hash of everything before it. */
void backup_seal(struct keyring *ring, const uint8_t hash[BACKUP_HASH_SIZE],
                 uint8_t seal[BACKUP_HASH_SIZE]);

/* Before each record: IMP_UNAVAILABLE when the work that this runs in was cancelled. */
imp_status backup_go_on(imp_error *error);

/* Runs the checks that modules have added, on the restored store (backup-check.c). */
struct store;
imp_status backup_checks_run(struct store *store, uint64_t *passed, imp_error *error);

/* Reads a whole backup from memory as a restore's first pass does: the fuzz target's door. */
struct backup_report;
imp_status backup_look_at(imp_bytes bytes, struct backup_report *report, imp_error *error);

#endif
