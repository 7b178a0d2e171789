/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool-strings.c - a job's personal strings: nonce (12), text, tag (16), under a key of their own.
 *
 * The nonce is random, so that strings may change under one key; the few changes of one job are far
 * from where random nonces of 96 bits meet.
 */
#include <openssl/evp.h>
#include <string.h>

#include "modules/jobs/spool-private.h"

enum { NONCE_SIZE = 12, TAG_SIZE = 16, STRINGS_MAX = 1 << 20 };
_Static_assert(NONCE_SIZE + TAG_SIZE == SPOOL_STRINGS_OVERHEAD, "overhead of sealed strings");

static bool strings_seal(const uint8_t key[SEGMENT_KEY], imp_bytes plain, uint8_t *sealed)
{
    int length = 0, rest = 0;
    bool is_sealed = false;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();

    imp_random(sealed, NONCE_SIZE);
    if (cipher != NULL && plain.length <= STRINGS_MAX &&
        EVP_EncryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, sealed) == 1 &&
        (plain.length == 0 || EVP_EncryptUpdate(cipher, sealed + NONCE_SIZE, &length, plain.data,
                                                (int)plain.length) == 1) &&
        EVP_EncryptFinal_ex(cipher, sealed + NONCE_SIZE + length, &rest) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE,
                            sealed + NONCE_SIZE + plain.length) == 1)
        is_sealed = true;
    EVP_CIPHER_CTX_free(cipher);
    return is_sealed;
}

imp_status spool_strings_seal(struct spool *spool, imp_bytes plain, struct spool_key *key,
                              uint8_t *sealed, imp_error *error)
{
    struct key_slot slot;
    uint8_t secret[SEGMENT_KEY];

    imp_status status = spool_slots_take(spool, &slot, error);
    if (status != IMP_OK)
        return status;
    key->id = imp_id_new();
    key->pool = spool->keys.number;
    key->slot = slot.number;
    key->generation = slot.generation;
    spool_key_derive(spool, SPOOL_PURPOSE_STRINGS, &slot, key->id, secret);
    if (!strings_seal(secret, plain, sealed)) {
        status = imp_error_set(error, IMP_IO, "strings of a job can't be sealed");
        spool_slots_give(spool, &slot);
    }
    imp_wipe(secret, sizeof secret);
    imp_wipe(&slot, sizeof slot);
    return status;
}

imp_status spool_strings_reseal(struct spool *spool, imp_bytes plain, const struct spool_key *key,
                                uint8_t *sealed, imp_error *error)
{
    uint8_t secret[SEGMENT_KEY];

    imp_status status = spool_key_open(spool, SPOOL_PURPOSE_STRINGS, key, secret, error);
    if (status == IMP_OK && !strings_seal(secret, plain, sealed))
        status = imp_error_set(error, IMP_IO, "strings of a job can't be sealed");
    imp_wipe(secret, sizeof secret);
    return status;
}

imp_status spool_strings_open(struct spool *spool, const struct spool_key *key, imp_bytes sealed,
                              uint8_t *plain, size_t *length, imp_error *error)
{
    uint8_t secret[SEGMENT_KEY], tag[TAG_SIZE], nothing[TAG_SIZE];
    const uint8_t *bytes = sealed.data;
    int out = 0, rest = 0;

    *length = 0;
    if (sealed.length < SPOOL_STRINGS_OVERHEAD ||
        sealed.length > STRINGS_MAX + SPOOL_STRINGS_OVERHEAD)
        return imp_error_set(error, IMP_CORRUPT, "strings of a job are damaged");
    imp_status status = spool_key_open(spool, SPOOL_PURPOSE_STRINGS, key, secret, error);
    if (status != IMP_OK)
        return status;
    size_t text = sealed.length - SPOOL_STRINGS_OVERHEAD;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    memcpy(tag, bytes + NONCE_SIZE + text, sizeof tag);
    if (cipher == NULL || EVP_DecryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, secret, bytes) != 1 ||
        (text > 0 && EVP_DecryptUpdate(cipher, plain, &out, bytes + NONCE_SIZE, (int)text) != 1) ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) != 1 ||
        EVP_DecryptFinal_ex(cipher, nothing, &rest) != 1) {
        imp_wipe(plain, text);
        status = imp_error_set(error, IMP_CORRUPT, "strings of a job are damaged");
    } else {
        *length = text;
    }
    EVP_CIPHER_CTX_free(cipher);
    imp_wipe(secret, sizeof secret);
    return status;
}

imp_status spool_key_put_tx(struct spool *spool, imp_tx *tx, const struct spool_key *key,
                            imp_error *error)
{
    return spool_chunk_mark_tx(tx, spool->table_slot, key->slot, error);
}

void spool_key_release(struct spool *spool, const struct spool_key *key)
{
    struct key_slot slot;

    /* The secret is not kept beside the key. The slot was read lately, so this comes from the cache. */
    if (key->pool == spool->keys.number &&
        key_pool_get(&spool->keys, key->slot, &slot, NULL) == IMP_OK &&
        slot.generation == key->generation)
        spool_slots_give(spool, &slot);
    imp_wipe(&slot, sizeof slot);
}
