/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c - the key ring: root keys, salts, and what is derived from them. */
#include "core/keys.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Format of the key table's records; the first byte of each. */
#define RECORD_FORMAT 1u
#define WRAP_NONCE_SIZE 12u
#define WRAP_TAG_SIZE 16u
#define WRAP_SIZE (1u + WRAP_NONCE_SIZE + KEYS_ROOT_SIZE + WRAP_TAG_SIZE)
#define MASTER_NAME_BYTES ((KEYS_MASTER_NAME_SIZE - 1) / 2)
#define CHECK_VALUE_BYTES 16u
#define CHECK_SIZE (1u + MASTER_NAME_BYTES + CHECK_VALUE_BYTES)
#define SALT_RECORD_SIZE (1u + KEYS_SALT_SIZE + 8u)
#define TABLE_NAME_MAX 128u

static const char *const root_names[KEYS_ROOT_COUNT] = {"root.store", "root.index", "root.spool"};

struct secrets {
    uint8_t root[KEYS_ROOT_COUNT][KEYS_ROOT_SIZE];
};

struct salt {
    uint32_t id;
    uint8_t bytes[KEYS_SALT_SIZE];
};

struct keyring {
    struct secrets *secrets; /* pages of their own */
    size_t secrets_size;
    bool is_locked;
    uint64_t serial;
    char master_name[KEYS_MASTER_NAME_SIZE]; /* under the lock once the ring is open, as is check */

    /* While opening: records that need the master key. */
    uint8_t wrapped[KEYS_ROOT_COUNT][WRAP_SIZE];
    bool has_wrapped[KEYS_ROOT_COUNT];
    uint8_t check[CHECK_SIZE];
    bool has_check;

    pthread_mutex_t lock; /* salts: written by one thread, looked up by any on a cache miss */
    struct salt *salts;   /* by id, ascending */
    uint32_t salt_count, salt_room;
    int64_t salt_made;
    _Atomic uint32_t current_id;
    _Atomic bool is_salt_new;
    _Atomic uint64_t seals; /* under the current id */
};

static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;
static EVP_KDF *hkdf_method;
static EVP_MAC *hmac_method;
static EVP_CIPHER *gcm_method;
static _Atomic uint64_t next_serial = 1;

/* Deriving can only fail when memory or the library is broken; going on without keys can't be right. */
static void crypto_broken(const char *what)
{
    dprintf(STDERR_FILENO, "imprimatur: the cryptographic library failed in %s\n", what);
    abort();
}

static void fetch_methods(void)
{
    hkdf_method = EVP_KDF_fetch(NULL, "HKDF", NULL);
    hmac_method = EVP_MAC_fetch(NULL, "HMAC", NULL);
    gcm_method = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (hkdf_method == NULL || hmac_method == NULL || gcm_method == NULL) {
        crypto_broken("fetching HKDF, HMAC and AES-256-GCM");
    }
}

static char *no_const(const void *pointer)
{
    /* OSSL_PARAM takes what it only reads as non-const. */
    union {
        const void *in;
        char *out;
    } cast = {.in = pointer};
    return cast.out;
}

void keys_hkdf(imp_bytes secret, imp_bytes salt, imp_bytes info, void *key, size_t length)
{
    pthread_once(&fetch_once, fetch_methods);
    static const uint8_t nothing[1] = {0};
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(hkdf_method);
    OSSL_PARAM parameters[5];
    size_t count = 0;
    parameters[count++] = OSSL_PARAM_construct_utf8_string("digest", no_const("SHA256"), 0);
    parameters[count++] =
        OSSL_PARAM_construct_octet_string("key", no_const(secret.data), secret.length);
    if (salt.length > 0) {
        parameters[count++] =
            OSSL_PARAM_construct_octet_string("salt", no_const(salt.data), salt.length);
    }
    parameters[count++] = OSSL_PARAM_construct_octet_string(
        "info", no_const(info.length > 0 ? info.data : nothing), info.length);
    parameters[count] = OSSL_PARAM_construct_end();
    if (context == NULL || EVP_KDF_derive(context, key, length, parameters) != 1) {
        crypto_broken("HKDF");
    }
    EVP_KDF_CTX_free(context);
}

void keys_hmac(imp_bytes key, const imp_bytes *parts, size_t count, uint8_t mac[32])
{
    pthread_once(&fetch_once, fetch_methods);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(hmac_method);
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string("digest", no_const("SHA256"), 0),
        OSSL_PARAM_construct_end(),
    };
    size_t length = 0;
    bool is_good = context != NULL && EVP_MAC_init(context, key.data, key.length, parameters) == 1;
    for (size_t i = 0; is_good && i < count; i++) {
        is_good =
            parts[i].length == 0 || EVP_MAC_update(context, parts[i].data, parts[i].length) == 1;
    }
    if (!is_good || EVP_MAC_final(context, mac, &length, 32) != 1 || length != 32) {
        crypto_broken("HMAC");
    }
    EVP_MAC_CTX_free(context);
}

static imp_bytes text_bytes(const char *text)
{
    return (imp_bytes){text, strlen(text)};
}

/* ---- wrapping ---- */

/* The master key never touches data: one derived key wraps, another value names and checks it. */
static void derive_check(const uint8_t *master, uint8_t check[CHECK_SIZE])
{
    check[0] = RECORD_FORMAT;
    keys_hkdf((imp_bytes){master, KEYS_MASTER_SIZE}, (imp_bytes){NULL, 0},
              text_bytes("imprimatur master key check"), check + 1, CHECK_SIZE - 1);
}

static void master_name(const uint8_t check[CHECK_SIZE], char name[KEYS_MASTER_NAME_SIZE])
{
    for (size_t i = 0; i < MASTER_NAME_BYTES; i++) {
        snprintf(name + 2 * i, 3, "%02x", check[1 + i]);
    }
}

/* Seals or opens a root key; AAD is "core.key", NUL and the record's name. */
static bool wrap(bool is_wrapping, const uint8_t *master, const char *name, const uint8_t *nonce,
                 const uint8_t *input, uint8_t *output, uint8_t *tag)
{
    static const char table[] = "core.key"; /* its NUL is the separator */
    uint8_t key[KEYS_ROOT_SIZE];
    int done = 0;
    keys_hkdf((imp_bytes){master, KEYS_MASTER_SIZE}, (imp_bytes){NULL, 0},
              text_bytes("imprimatur master key wrap"), key, sizeof key);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context == NULL) {
        crypto_broken("wrapping a key");
    }
    bool is_good =
        EVP_CipherInit_ex2(context, gcm_method, key, nonce, is_wrapping, NULL) == 1 &&
        EVP_CipherUpdate(context, NULL, &done, (const uint8_t *)table, sizeof table) == 1 &&
        EVP_CipherUpdate(context, NULL, &done, (const uint8_t *)name, (int)strlen(name)) == 1 &&
        EVP_CipherUpdate(context, output, &done, input, KEYS_ROOT_SIZE) == 1;
    if (!is_wrapping) {
        is_good = is_good &&
                  EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, (int)WRAP_TAG_SIZE, tag) == 1;
    }
    is_good = is_good && EVP_CipherFinal_ex(context, output + KEYS_ROOT_SIZE, &done) == 1;
    if (is_wrapping) {
        is_good = is_good &&
                  EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, (int)WRAP_TAG_SIZE, tag) == 1;
    }
    EVP_CIPHER_CTX_free(context);
    imp_wipe(key, sizeof key);
    return is_good;
}

static imp_status write_wrapped(struct keyring *ring, const uint8_t *master,
                                keys_record_write write, void *arg, imp_error *error)
{
    struct keys_record record = {.name = "check", .length = CHECK_SIZE};
    derive_check(master, record.value);
    imp_status status = write(arg, &record, error);
    for (size_t i = 0; status == IMP_OK && i < KEYS_ROOT_COUNT; i++) {
        record = (struct keys_record){.length = WRAP_SIZE};
        snprintf(record.name, sizeof record.name, "%s", root_names[i]);
        record.value[0] = RECORD_FORMAT;
        uint8_t *nonce = record.value + 1;
        uint8_t *sealed = nonce + WRAP_NONCE_SIZE;
        imp_random(nonce, WRAP_NONCE_SIZE);
        if (!wrap(true, master, root_names[i], nonce, ring->secrets->root[i], sealed,
                  sealed + KEYS_ROOT_SIZE)) {
            crypto_broken("wrapping a key");
        }
        status = write(arg, &record, error);
    }
    return status;
}

/* ---- life ---- */

static imp_status ring_new(struct keyring **out, imp_error *error)
{
    pthread_once(&fetch_once, fetch_methods);
    struct keyring *ring = calloc(1, sizeof *ring);
    if (ring == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory for the keys");
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ring->secrets_size = (sizeof(struct secrets) + page - 1) / page * page;
    void *pages =
        mmap(NULL, ring->secrets_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        free(ring);
        return imp_error_set(error, IMP_LIMIT, "no memory for the keys");
    }
    ring->secrets = pages;
    ring->is_locked = mlock(pages, ring->secrets_size) == 0;
    (void)madvise(pages, ring->secrets_size, MADV_DONTDUMP);
    (void)madvise(pages, ring->secrets_size, MADV_WIPEONFORK);
    pthread_mutex_init(&ring->lock, NULL);
    ring->serial = atomic_fetch_add(&next_serial, 1);
    *out = ring;
    return IMP_OK;
}

void keyring_close(struct keyring *ring)
{
    if (ring == NULL) {
        return;
    }
    imp_wipe(ring->secrets, ring->secrets_size);
    munmap(ring->secrets, ring->secrets_size);
    pthread_mutex_destroy(&ring->lock);
    free(ring->salts);
    free(ring);
}

imp_status keyring_make(const uint8_t master[KEYS_MASTER_SIZE], keys_record_write write, void *arg,
                        struct keyring **out, imp_error *error)
{
    struct keyring *ring = NULL;
    imp_status status = ring_new(&ring, error);
    if (status != IMP_OK) {
        return status;
    }
    imp_random(ring->secrets, sizeof *ring->secrets);
    derive_check(master, ring->check);
    master_name(ring->check, ring->master_name);
    status = write_wrapped(ring, master, write, arg, error);
    if (status != IMP_OK) {
        keyring_close(ring);
        return status;
    }
    *out = ring;
    return IMP_OK;
}

imp_status keyring_open_begin(struct keyring **ring, imp_error *error)
{
    return ring_new(ring, error);
}

static imp_status add_salt(struct keyring *ring, uint32_t id, const uint8_t *bytes)
{
    imp_status status = IMP_OK;
    pthread_mutex_lock(&ring->lock);
    if (ring->salt_count == ring->salt_room) {
        uint32_t room = ring->salt_room == 0 ? 16 : ring->salt_room * 2;
        struct salt *salts = realloc(ring->salts, room * sizeof *salts);
        if (salts == NULL) {
            status = IMP_LIMIT;
            goto done;
        }
        ring->salts = salts;
        ring->salt_room = room;
    }
    uint32_t place = ring->salt_count;
    while (place > 0 && ring->salts[place - 1].id > id) {
        ring->salts[place] = ring->salts[place - 1];
        place--;
    }
    if (place > 0 && ring->salts[place - 1].id == id) {
        memmove(&ring->salts[place], &ring->salts[place + 1],
                (ring->salt_count - place) * sizeof *ring->salts);
        status = IMP_EXISTS;
        goto done;
    }
    ring->salts[place].id = id;
    memcpy(ring->salts[place].bytes, bytes, KEYS_SALT_SIZE);
    ring->salt_count++;
done:
    pthread_mutex_unlock(&ring->lock);
    return status;
}

static imp_status bad_record(const char *name, imp_error *error)
{
    return imp_error_set(error, IMP_CORRUPT, "the key table's record \"%s\" is damaged", name);
}

imp_status keyring_open_add(struct keyring *ring, const char *name, imp_bytes value,
                            imp_error *error)
{
    const uint8_t *bytes = value.data;
    if (value.length < 1 || bytes[0] != RECORD_FORMAT) {
        return bad_record(name, error);
    }
    if (strcmp(name, "check") == 0) {
        if (value.length != CHECK_SIZE) {
            return bad_record(name, error);
        }
        memcpy(ring->check, bytes, CHECK_SIZE);
        ring->has_check = true;
        return IMP_OK;
    }
    for (size_t i = 0; i < KEYS_ROOT_COUNT; i++) {
        if (strcmp(name, root_names[i]) == 0) {
            if (value.length != WRAP_SIZE) {
                return bad_record(name, error);
            }
            memcpy(ring->wrapped[i], bytes, WRAP_SIZE);
            ring->has_wrapped[i] = true;
            return IMP_OK;
        }
    }
    uint32_t id = 0;
    if (strlen(name) == 13 && strncmp(name, "salt.", 5) == 0 &&
        strspn(name + 5, "0123456789abcdef") == 8)
        id = (uint32_t)strtoul(name + 5, NULL, 16);
    if (id > 0 && value.length == SALT_RECORD_SIZE) {
        imp_status status = add_salt(ring, id, bytes + 1);
        if (status == IMP_LIMIT) {
            return imp_error_set(error, status, "no memory for the keys");
        }
        return status == IMP_OK ? IMP_OK : bad_record(name, error);
    }
    return bad_record(name, error);
}

imp_status keyring_open_end(struct keyring *ring, const uint8_t master[KEYS_MASTER_SIZE],
                            imp_error *error)
{
    uint8_t check[CHECK_SIZE];
    if (!ring->has_check) {
        return bad_record("check", error);
    }
    master_name(ring->check, ring->master_name);
    derive_check(master, check);
    if (!imp_equal_constant_time(check, ring->check, CHECK_SIZE)) {
        char given[KEYS_MASTER_NAME_SIZE];
        master_name(check, given);
        return imp_error_set(error, IMP_DENIED,
                             "this store needs master key %s, but the one given is %s; put the "
                             "right key file back (nothing was changed)",
                             ring->master_name, given);
    }
    for (size_t i = 0; i < KEYS_ROOT_COUNT; i++) {
        uint8_t *nonce = ring->wrapped[i] + 1;
        uint8_t *sealed = nonce + WRAP_NONCE_SIZE;
        if (!ring->has_wrapped[i] || !wrap(false, master, root_names[i], nonce, sealed,
                                           ring->secrets->root[i], sealed + KEYS_ROOT_SIZE)) {
            imp_wipe(ring->secrets, sizeof *ring->secrets);
            return bad_record(root_names[i], error);
        }
    }
    if (ring->salt_count > 0) {
        atomic_store(&ring->current_id, ring->salts[ring->salt_count - 1].id);
    }
    return IMP_OK;
}

imp_status keyring_open_like(struct keyring *ring, const struct keyring *source, imp_error *error)
{
    if (!ring->has_check) {
        return bad_record("check", error);
    }
    memcpy(ring->secrets, source->secrets, sizeof *ring->secrets);
    master_name(ring->check, ring->master_name);
    if (ring->salt_count > 0) {
        atomic_store(&ring->current_id, ring->salts[ring->salt_count - 1].id);
    }
    return IMP_OK;
}

/* ---- salts ---- */

imp_status keyring_salt_new(struct keyring *ring, imp_error *error)
{
    uint8_t bytes[KEYS_SALT_SIZE];
    uint32_t id = ring->salt_count > 0 ? ring->salts[ring->salt_count - 1].id : 0;
    if (id == UINT32_MAX) {
        return imp_error_set(error, IMP_LIMIT, "all key ids are used up");
    }
    imp_random(bytes, sizeof bytes);
    imp_status status = add_salt(ring, id + 1, bytes);
    if (status != IMP_OK) {
        return imp_error_set(error, status, "no memory for the keys");
    }
    ring->salt_made = imp_now();
    atomic_store(&ring->seals, 0);
    atomic_store(&ring->is_salt_new, true);
    atomic_store(&ring->current_id, id + 1);
    return IMP_OK;
}

imp_status keyring_salt_write(struct keyring *ring, keys_record_write write, void *arg,
                              imp_error *error)
{
    struct keys_record record = {.length = SALT_RECORD_SIZE};
    pthread_mutex_lock(&ring->lock);
    const struct salt *salt = &ring->salts[ring->salt_count - 1];
    snprintf(record.name, sizeof record.name, "salt.%08x", salt->id);
    record.value[0] = RECORD_FORMAT;
    memcpy(record.value + 1, salt->bytes, KEYS_SALT_SIZE);
    pthread_mutex_unlock(&ring->lock);
    for (size_t i = 0; i < 8; i++) {
        record.value[1 + KEYS_SALT_SIZE + i] = (uint8_t)((uint64_t)ring->salt_made >> (56 - 8 * i));
    }
    return write(arg, &record, error);
}

imp_status keyring_rewrap(struct keyring *ring, const uint8_t master[KEYS_MASTER_SIZE],
                          keys_record_write write, void *arg, imp_error *error)
{
    return write_wrapped(ring, master, write, arg, error);
}

void keyring_rewrapped(struct keyring *ring, const uint8_t master[KEYS_MASTER_SIZE])
{
    uint8_t check[CHECK_SIZE];
    derive_check(master, check);
    pthread_mutex_lock(&ring->lock);
    memcpy(ring->check, check, sizeof check);
    master_name(check, ring->master_name);
    pthread_mutex_unlock(&ring->lock);
}

/* ---- use ---- */

imp_status keyring_table_key(struct keyring *ring, const char *table, uint32_t key_id,
                             uint8_t key[KEYS_ROOT_SIZE])
{
    uint8_t salt[KEYS_SALT_SIZE];
    bool is_found = false;
    pthread_mutex_lock(&ring->lock);
    uint32_t low = 0;
    uint32_t high = ring->salt_count;
    while (low < high && !is_found) {
        uint32_t middle = low + (high - low) / 2;
        if (ring->salts[middle].id == key_id) {
            memcpy(salt, ring->salts[middle].bytes, sizeof salt);
            is_found = true;
        } else if (ring->salts[middle].id < key_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    pthread_mutex_unlock(&ring->lock);
    if (!is_found) {
        return IMP_NOT_FOUND;
    }
    char info[TABLE_NAME_MAX];
    int length = snprintf(info, sizeof info, "table %s", table);
    uint8_t table_key[KEYS_ROOT_SIZE];
    keyring_derive(ring, KEYS_ROOT_STORE, (imp_bytes){NULL, 0}, (imp_bytes){info, (size_t)length},
                   table_key, sizeof table_key);
    keys_hkdf((imp_bytes){table_key, sizeof table_key}, (imp_bytes){salt, sizeof salt},
              text_bytes("seal"), key, KEYS_ROOT_SIZE);
    imp_wipe(table_key, sizeof table_key);
    return IMP_OK;
}

void keyring_keyed_hash(struct keyring *ring, const char *module, const char *purpose,
                        imp_bytes data, uint8_t hash[IMP_HASH_SIZE])
{
    const imp_bytes parts[] = {{module, strlen(module) + 1}, {purpose, strlen(purpose) + 1}, data};
    keys_hmac((imp_bytes){ring->secrets->root[KEYS_ROOT_INDEX], KEYS_ROOT_SIZE}, parts, 3, hash);
}

void keyring_derive(struct keyring *ring, enum keys_root root, imp_bytes salt, imp_bytes info,
                    void *key, size_t length)
{
    keys_hkdf((imp_bytes){ring->secrets->root[root], KEYS_ROOT_SIZE}, salt, info, key, length);
}

uint32_t keyring_current_id(const struct keyring *ring)
{
    return atomic_load_explicit(&ring->current_id, memory_order_relaxed);
}

uint32_t keyring_salt_count(struct keyring *ring)
{
    pthread_mutex_lock(&ring->lock);
    uint32_t count = ring->salt_count;
    pthread_mutex_unlock(&ring->lock);
    return count;
}

bool keyring_salt_is_new(const struct keyring *ring)
{
    return atomic_load(&ring->is_salt_new);
}

void keyring_salt_is_durable(struct keyring *ring)
{
    atomic_store(&ring->is_salt_new, false);
}

bool keyring_count_seals(struct keyring *ring, uint64_t seals)
{
    return atomic_fetch_add(&ring->seals, seals) + seals >= KEYS_SEALS_MAX;
}

uint64_t keyring_seals(const struct keyring *ring)
{
    return atomic_load(&ring->seals);
}

uint64_t keyring_serial(const struct keyring *ring)
{
    return ring->serial;
}

const char *keyring_master_name(struct keyring *ring, char name[KEYS_MASTER_NAME_SIZE])
{
    pthread_mutex_lock(&ring->lock);
    memcpy(name, ring->master_name, KEYS_MASTER_NAME_SIZE);
    pthread_mutex_unlock(&ring->lock);
    return name;
}

bool keyring_is_locked(const struct keyring *ring)
{
    return ring->is_locked;
}
