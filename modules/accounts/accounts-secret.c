/* SPDX-License-Identifier: Apache-2.0 */
/* accounts-secret.c - argon2id for passwords and PINs (RFC 9106). */
#include "accounts.h"

#include <argon2.h>
#include <string.h>

#define SALT_SIZE 16
#define HASH_SIZE 32

imp_status secret_hash(const struct accounts_conf *conf, const char *secret,
                       char encoded[ACCOUNTS_PHC_SIZE])
{
    uint8_t salt[SALT_SIZE];
    imp_random(salt, sizeof salt);
    int result = argon2id_hash_encoded(
        (uint32_t)conf->hash_passes, (uint32_t)(conf->hash_memory / 1024), 1, secret,
        strlen(secret), salt, sizeof salt, HASH_SIZE, encoded, ACCOUNTS_PHC_SIZE);
    imp_wipe(salt, sizeof salt);
    return result == ARGON2_OK ? IMP_OK : IMP_LIMIT;
}

bool secret_matches(const char *encoded, const char *secret)
{
    return argon2id_verify(encoded, secret, strlen(secret)) == ARGON2_OK;
}
