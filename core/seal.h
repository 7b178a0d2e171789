/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h - sealed values: key id (4, big endian), nonce (12, random), AES-256-GCM ciphertext, tag (16).
 *
 * The table's name, a NUL and the record key are the associated data: a value that was moved to
 * another key or table, cut or changed does not open. Each thread keeps its own ready cipher contexts,
 * one per table and key id, so that neither a key schedule nor a fetch is paid per value.
 */
#ifndef CORE_SEAL_H
#define CORE_SEAL_H

#include "core/keys.h"

#define SEAL_KEY_ID_SIZE 4u
#define SEAL_NONCE_SIZE 12u
#define SEAL_TAG_SIZE 16u
#define SEAL_OVERHEAD (SEAL_KEY_ID_SIZE + SEAL_NONCE_SIZE + SEAL_TAG_SIZE)

/* What is sealed for: `name` is the table's full name ("jobs.job"), `number` tells tables of one ring
 * apart without comparing names. */
struct seal_scope {
    struct keyring *ring;
    const char *name;
    uint32_t number;
};

/* Seals `plain` into `sealed`, which has plain.length + SEAL_OVERHEAD bytes, under the ring's current
 * key. IMP_IO when the cipher fails (memory). */
imp_status seal_value(const struct seal_scope *scope, imp_bytes key, imp_bytes plain, void *sealed)
    IMP_MUST_CHECK;
/* Opens into `plain`, which has sealed.length - SEAL_OVERHEAD bytes. IMP_CORRUPT when anything does
 * not fit: then `plain` holds zeros. */
imp_status seal_open(const struct seal_scope *scope, imp_bytes key, imp_bytes sealed, void *plain)
    IMP_MUST_CHECK;
/* The key id a sealed value names; 0 when it is too short to be one. */
uint32_t seal_key_id(imp_bytes sealed);

/* Wipes and frees what the calling thread keeps; also done when a thread ends. */
void seal_forget(void);

#endif
