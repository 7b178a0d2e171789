/* SPDX-License-Identifier: Apache-2.0 */
/* seal.c - sealing and opening values with cipher contexts that each thread keeps ready. */
#include "core/seal.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Ready contexts per thread; a store's life shows few tables and few key ids at one time. Two that
 * want one slot re-key it in turn, which costs some microseconds. */
#define SLOT_COUNT 128u
#define NONCE_POOL_SIZE (SEAL_NONCE_SIZE * 32u)
#define AAD_MAX (128u + 1u + IMP_KEY_MAX)

struct slot {
    EVP_CIPHER_CTX *context; /* NULL until first used */
    uint64_t serial;         /* of the ring */
    uint32_t table_number;
    uint32_t key_id;
    bool is_sealing;
    bool is_ready;
};

struct cache {
    struct slot slots[SLOT_COUNT];
    uint8_t nonces[NONCE_POOL_SIZE];
    size_t nonces_left;
    uint32_t fork_count;
};

static pthread_once_t setup_once = PTHREAD_ONCE_INIT;
static pthread_key_t cache_key;
static EVP_CIPHER *gcm_method;
static _Atomic uint32_t fork_count; /* a child must not use the nonces its parent drew */
static _Thread_local struct cache *thread_cache;

static void cache_free(void *pointer)
{
    struct cache *cache = pointer;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        EVP_CIPHER_CTX_free(cache->slots[i].context); /* wipes the key schedule */
    }
    imp_wipe(cache, sizeof *cache);
    free(cache);
    thread_cache = NULL;
}

static void count_fork(void)
{
    atomic_fetch_add(&fork_count, 1);
}

static void setup(void)
{
    gcm_method = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (gcm_method == NULL || pthread_key_create(&cache_key, cache_free) != 0 ||
        pthread_atfork(NULL, NULL, count_fork) != 0) {
        abort(); /* no cipher, no store */
    }
}

static struct cache *cache_of_thread(void)
{
    if (thread_cache == NULL) {
        pthread_once(&setup_once, setup);
        struct cache *cache = calloc(1, sizeof *cache);
        if (cache == NULL || pthread_setspecific(cache_key, cache) != 0) {
            free(cache);
            return NULL;
        }
        thread_cache = cache;
    }
    return thread_cache;
}

void seal_forget(void)
{
    if (thread_cache != NULL) {
        struct cache *cache = thread_cache;
        (void)pthread_setspecific(cache_key, NULL);
        cache_free(cache);
    }
}

/* The context for this table, key and direction, keyed and waiting for a nonce. */
static imp_status ready_context(struct cache *cache, const struct seal_scope *scope,
                                uint32_t key_id, bool is_sealing, EVP_CIPHER_CTX **context)
{
    uint64_t serial = keyring_serial(scope->ring);
    uint32_t mixed = scope->number * 2654435761u + key_id * 40503u + (uint32_t)serial * 97u;
    struct slot *slot = &cache->slots[(((mixed >> 8) ^ mixed) * 2u + is_sealing) % SLOT_COUNT];
    if (slot->is_ready && slot->key_id == key_id && slot->table_number == scope->number &&
        slot->serial == serial && slot->is_sealing == is_sealing) {
        *context = slot->context;
        return IMP_OK;
    }
    uint8_t key[KEYS_ROOT_SIZE];
    imp_status status = keyring_table_key(scope->ring, scope->name, key_id, key);
    if (status != IMP_OK) {
        return IMP_CORRUPT; /* a key id that nobody made */
    }
    slot->is_ready = false;
    if (slot->context == NULL) {
        slot->context = EVP_CIPHER_CTX_new();
    }
    if (slot->context == NULL ||
        EVP_CipherInit_ex2(slot->context, gcm_method, key, NULL, is_sealing ? 1 : 0, NULL) != 1) {
        imp_wipe(key, sizeof key);
        return IMP_IO;
    }
    imp_wipe(key, sizeof key);
    slot->serial = serial;
    slot->table_number = scope->number;
    slot->key_id = key_id;
    slot->is_sealing = is_sealing;
    slot->is_ready = true;
    *context = slot->context;
    return IMP_OK;
}

static void next_nonce(struct cache *cache, uint8_t nonce[SEAL_NONCE_SIZE])
{
    uint32_t forks = atomic_load_explicit(&fork_count, memory_order_relaxed);
    if (cache->nonces_left == 0 || cache->fork_count != forks) {
        imp_random(cache->nonces, sizeof cache->nonces);
        cache->nonces_left = sizeof cache->nonces;
        cache->fork_count = forks;
    }
    cache->nonces_left -= SEAL_NONCE_SIZE;
    memcpy(nonce, cache->nonces + cache->nonces_left, SEAL_NONCE_SIZE);
}

/* Table name, NUL, record key. */
static bool add_associated(EVP_CIPHER_CTX *context, const struct seal_scope *scope, imp_bytes key)
{
    uint8_t text[AAD_MAX];
    size_t name_size = strlen(scope->name) + 1;
    int done = 0;
    if (name_size + key.length > sizeof text) {
        return false;
    }
    memcpy(text, scope->name, name_size);
    if (key.length > 0) {
        memcpy(text + name_size, key.data, key.length);
    }
    return EVP_CipherUpdate(context, NULL, &done, text, (int)(name_size + key.length)) == 1;
}

imp_status seal_value(const struct seal_scope *scope, imp_bytes key, imp_bytes plain, void *sealed)
{
    struct cache *cache = cache_of_thread();
    uint32_t key_id = keyring_current_id(scope->ring);
    EVP_CIPHER_CTX *context = NULL;
    if (cache == NULL || key_id == 0 || plain.length > INT32_MAX) {
        return IMP_IO;
    }
    imp_status status = ready_context(cache, scope, key_id, true, &context);
    if (status != IMP_OK) {
        return IMP_IO;
    }
    uint8_t *out = sealed;
    for (size_t i = 0; i < SEAL_KEY_ID_SIZE; i++) {
        out[i] = (uint8_t)(key_id >> (24 - 8 * i));
    }
    uint8_t *nonce = out + SEAL_KEY_ID_SIZE;
    uint8_t *text = nonce + SEAL_NONCE_SIZE;
    next_nonce(cache, nonce);
    int done = 0;
    if (EVP_CipherInit_ex2(context, NULL, NULL, nonce, 1, NULL) != 1 ||
        !add_associated(context, scope, key) ||
        (plain.length > 0 &&
         EVP_CipherUpdate(context, text, &done, plain.data, (int)plain.length) != 1) ||
        EVP_CipherFinal_ex(context, text + plain.length, &done) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, (int)SEAL_TAG_SIZE,
                            text + plain.length) != 1) {
        memset(sealed, 0, plain.length + SEAL_OVERHEAD);
        return IMP_IO;
    }
    return IMP_OK;
}

uint32_t seal_key_id(imp_bytes sealed)
{
    const uint8_t *bytes = sealed.data;
    if (sealed.length < SEAL_OVERHEAD) {
        return 0;
    }
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

imp_status seal_open(const struct seal_scope *scope, imp_bytes key, imp_bytes sealed, void *plain)
{
    uint32_t key_id = seal_key_id(sealed);
    if (key_id == 0 || sealed.length > INT32_MAX) {
        return IMP_CORRUPT;
    }
    struct cache *cache = cache_of_thread();
    EVP_CIPHER_CTX *context = NULL;
    if (cache == NULL) {
        return IMP_IO;
    }
    imp_status status = ready_context(cache, scope, key_id, false, &context);
    if (status != IMP_OK) {
        return status;
    }
    const uint8_t *nonce = (const uint8_t *)sealed.data + SEAL_KEY_ID_SIZE;
    const uint8_t *text = nonce + SEAL_NONCE_SIZE;
    size_t length = sealed.length - SEAL_OVERHEAD;
    uint8_t tag[SEAL_TAG_SIZE];
    uint8_t nothing[1];
    int done = 0;
    memcpy(tag, text + length, sizeof tag);
    if (EVP_CipherInit_ex2(context, NULL, NULL, nonce, 0, NULL) != 1 ||
        !add_associated(context, scope, key) ||
        (length > 0 && EVP_CipherUpdate(context, plain, &done, text, (int)length) != 1) ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, (int)SEAL_TAG_SIZE, tag) != 1 ||
        EVP_CipherFinal_ex(context, nothing, &done) != 1) {
        if (length > 0) {
            imp_wipe(plain, length); /* nobody may use what was not proven */
        }
        return IMP_CORRUPT;
    }
    return IMP_OK;
}
