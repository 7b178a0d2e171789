/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c - the contexts: certificate and key, protocol versions, session tickets.
 */
#include "build-config.h"

#include "core/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A self-made certificate is pinned or trusted by hand, so it must not run out by itself. */
#define TLS_SELF_SIGNED_DAYS 7300
#define TLS_TICKET_KEY_AGE (IMP_SECOND * 3600 * 24)
#define TLS_TICKET_LIFETIME_S (24 * 3600L)
/* Forward-secret AEAD suites of TLS 1.2; those of 1.3 are all right as they are. */
#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
#define TLS_PATH_SIZE ((size_t)PATH_MAX)

struct ticket_key {
    uint8_t name[16];
    uint8_t cipher[32];
    uint8_t mac[32];
    int64_t made; /* ticks; 0 = there is none */
};

static struct {
    pthread_mutex_t lock;
    SSL_CTX *server, *client;
    struct ticket_key tickets[2]; /* today's, and yesterday's */
    char directory[TLS_PATH_SIZE];
    char *client_ca;
    uint8_t pin[TLS_PIN_SIZE];
    int64_t expiry;
} tls = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *tls_error_message(void)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return reason != NULL ? reason : "TLS error";
}

/* ---- tickets ---- */

/* Under the lock. Makes today's key and lets yesterday's fall. */
static void tickets_rotate(void)
{
    int64_t now = imp_ticks();
    struct ticket_key *today = &tls.tickets[0];

    if (today->made != 0 && now - today->made < TLS_TICKET_KEY_AGE)
        return;
    bool is_usable = today->made != 0 && now - today->made < 2 * TLS_TICKET_KEY_AGE;
    imp_wipe(&tls.tickets[1], sizeof tls.tickets[1]);
    if (is_usable)
        tls.tickets[1] = *today;
    imp_random(today->name, sizeof today->name);
    imp_random(today->cipher, sizeof today->cipher);
    imp_random(today->mac, sizeof today->mac);
    today->made = now != 0 ? now : 1;
}

static bool ticket_init(const struct ticket_key *key, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                        EVP_MAC_CTX *mac, int is_sealing)
{
    char digest[] = "SHA256";
    uint8_t mac_key[sizeof key->mac];
    memcpy(mac_key, key->mac, sizeof mac_key);
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, mac_key, sizeof mac_key),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    bool is_ready =
        EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, is_sealing) == 1 &&
        EVP_MAC_CTX_set_params(mac, parameters) == 1;
    imp_wipe(mac_key, sizeof mac_key);
    return is_ready;
}

/* RFC 5077 section 4: name of the key, IV, sealed state, MAC. 0: no ticket is made or taken; 2: taken,
 * and a new one is made because its key is of yesterday. */
static int ticket_key(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                      EVP_MAC_CTX *mac, int is_sealing)
{
    struct ticket_key key = {0};
    int answer = 0;

    (void)ssl;
    pthread_mutex_lock(&tls.lock);
    tickets_rotate();
    if (is_sealing) {
        key = tls.tickets[0];
        answer = 1;
    } else {
        for (int i = 0; i < 2 && answer == 0; i++) {
            if (tls.tickets[i].made != 0 &&
                imp_equal_constant_time(name, tls.tickets[i].name, sizeof key.name)) {
                key = tls.tickets[i];
                answer = i + 1;
            }
        }
    }
    pthread_mutex_unlock(&tls.lock);
    if (answer == 0)
        return 0;
    if (is_sealing) {
        memcpy(name, key.name, sizeof key.name);
        imp_random(iv, (size_t)EVP_CIPHER_get_iv_length(EVP_aes_256_cbc()));
    }
    if (!ticket_init(&key, iv, cipher, mac, is_sealing))
        answer = -1;
    imp_wipe(&key, sizeof key);
    return answer;
}

/* ---- contexts ---- */

static void context_policy(SSL_CTX *context)
{
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, TLS12_CIPHERS);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Renegotiation is a way to make us work; compression a way to listen in. */
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    ERR_clear_error();
}

/* A public key, or a chain, that OpenSSL would ask a password for is refused, not asked for. */
static int no_password(char *buffer, int size, int is_writing, void *arg)
{
    (void)buffer;
    (void)size;
    (void)is_writing;
    (void)arg;
    return 0;
}

static imp_status server_context(const char *certificate_path, const char *key_path,
                                 SSL_CTX **context, imp_error *error)
{
    static const unsigned char session_context[] = "imprimatur";
    SSL_CTX *made = SSL_CTX_new(TLS_server_method());
    struct stat status;

    if (made == NULL)
        return imp_error_set(error, IMP_LIMIT, "can't make a TLS context: %s", tls_error_message());
    context_policy(made);
    SSL_CTX_set_default_passwd_cb(made, no_password);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF); /* tickets alone */
    SSL_CTX_set_session_id_context(made, session_context, sizeof session_context - 1);
    SSL_CTX_set_timeout(made, TLS_TICKET_LIFETIME_S);
    SSL_CTX_set_num_tickets(made, 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(made, ticket_key);
    if (stat(key_path, &status) == 0 && (status.st_mode & 0007) != 0) {
        SSL_CTX_free(made);
        return imp_error_set(error, IMP_DENIED,
                             "TLS key %s must not be accessible to others (mode %04o)", key_path,
                             (unsigned)status.st_mode & 07777u);
    }
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(made, certificate_path) != 1) {
        SSL_CTX_free(made);
        return imp_error_set(error, IMP_INVALID, "can't use TLS certificate %s: %s",
                             certificate_path, tls_error_message());
    }
    if (SSL_CTX_use_PrivateKey_file(made, key_path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(made) != 1) {
        SSL_CTX_free(made);
        return imp_error_set(error, IMP_INVALID, "can't use TLS key %s with certificate %s: %s",
                             key_path, certificate_path, tls_error_message());
    }
    *context = made;
    return IMP_OK;
}

static imp_status client_context(SSL_CTX **context, imp_error *error)
{
    SSL_CTX *made = SSL_CTX_new(TLS_client_method());
    int is_loaded = 0;

    if (made == NULL)
        return imp_error_set(error, IMP_LIMIT, "can't make a TLS context: %s", tls_error_message());
    context_policy(made);
    ERR_clear_error();
    if (tls.client_ca != NULL)
        is_loaded = SSL_CTX_load_verify_file(made, tls.client_ca);
    else
        is_loaded = SSL_CTX_set_default_verify_paths(made);
    if (is_loaded != 1) {
        SSL_CTX_free(made);
        return imp_error_set(error, IMP_INVALID, "can't read trusted certificates%s%s: %s",
                             tls.client_ca != NULL ? " from " : "",
                             tls.client_ca != NULL ? tls.client_ca : "", tls_error_message());
    }
    *context = made;
    return IMP_OK;
}

static int64_t certificate_expiry(const X509 *certificate)
{
    struct tm end = {0};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1)
        return 0;
    return (int64_t)timegm(&end) * IMP_SECOND;
}

/* Puts a new server context in the place of the old one. */
static void server_install(SSL_CTX *context)
{
    X509 *certificate = SSL_CTX_get0_certificate(context);
    unsigned char *encoded = NULL;
    unsigned int length = 0;
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);

    if (size > 0)
        EVP_Digest(encoded, (size_t)size, digest, &length, EVP_sha256(), NULL);
    OPENSSL_free(encoded);
    pthread_mutex_lock(&tls.lock);
    SSL_CTX *old = tls.server;
    tls.server = context;
    memcpy(tls.pin, digest, sizeof tls.pin);
    tls.expiry = certificate_expiry(certificate);
    pthread_mutex_unlock(&tls.lock);
    SSL_CTX_free(old);
}

/* ---- the self-made pair ---- */

/* Writes a PEM file under a name of its own, syncs it and moves it into place. */
static imp_status pem_write(const char *path, mode_t mode, int (*write_pem)(BIO *bio, void *object),
                            void *object, imp_error *error)
{
    char temporary[TLS_PATH_SIZE + 8];
    imp_status status = IMP_OK;
    BIO *bio = NULL;

    snprintf(temporary, sizeof temporary, "%s.new", path);
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return imp_error_set(error, IMP_IO, "can't make %s: %s", temporary, strerrordesc_np(errno));
    bio = BIO_new_fd(fd, BIO_NOCLOSE);
    if (bio == NULL || write_pem(bio, object) != 1)
        status = imp_error_set(error, IMP_IO, "can't write %s: %s", temporary, tls_error_message());
    else if (fsync(fd) != 0)
        status =
            imp_error_set(error, IMP_IO, "can't write %s: %s", temporary, strerrordesc_np(errno));
    BIO_free(bio);
    close(fd);
    if (status == IMP_OK && rename(temporary, path) != 0)
        status = imp_error_set(error, IMP_IO, "can't move %s into place: %s", temporary,
                               strerrordesc_np(errno));
    if (status != IMP_OK)
        unlink(temporary);
    return status;
}

static int write_key(BIO *bio, void *object)
{
    return PEM_write_bio_PKCS8PrivateKey(bio, object, NULL, NULL, 0, NULL, NULL);
}

static int write_certificate(BIO *bio, void *object)
{
    return PEM_write_bio_X509(bio, object);
}

static bool add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool is_added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

/* Letters, digits, dots and hyphens only: the name goes into OpenSSL's own little language. */
static bool is_host_name(const char *name)
{
    return name[0] != '\0' && strlen(name) <= 64 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") ==
               strlen(name);
}

static X509 *certificate_make(EVP_PKEY *key, const char *name)
{
    uint8_t serial[16];
    char names[160];
    X509 *certificate = X509_new();
    BIGNUM *number = NULL;
    bool is_made = false;

    if (certificate == NULL)
        return NULL;
    /* RFC 5280 section 4.1.2.2: positive, at most 20 bytes. */
    imp_random(serial, sizeof serial);
    serial[0] &= 0x7f;
    serial[0] |= 0x40;
    number = BN_bin2bn(serial, sizeof serial, NULL);
    snprintf(names, sizeof names, "DNS:%s,DNS:localhost", name);
    X509_NAME *subject = X509_get_subject_name(certificate);
    is_made =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL &&
        X509_set_version(certificate, X509_VERSION_3) == 1 &&
        /* a day back: clocks of devices are often behind */
        X509_gmtime_adj(X509_getm_notBefore(certificate), -86400L) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), TLS_SELF_SIGNED_DAYS * 86400L) != NULL &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
                                   -1, 0) == 1 &&
        X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
        add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
        add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
        add_extension(certificate, NID_subject_alt_name, names) &&
        add_extension(certificate, NID_subject_key_identifier, "hash") &&
        X509_sign(certificate, key, EVP_sha256()) > 0;
    BN_free(number);
    if (!is_made) {
        X509_free(certificate);
        return NULL;
    }
    return certificate;
}

static EVP_PKEY *key_read(const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    return key;
}

/* Makes what is missing. The key comes first, and a certificate is made for the key that is there, so
 * a cut between the two leaves nothing that does not fit. */
static imp_status pair_make(const char *certificate_path, const char *key_path, const char *name,
                            imp_error *error)
{
    imp_status status = IMP_OK;
    EVP_PKEY *key = NULL;
    X509 *certificate = NULL;

    if (access(key_path, F_OK) == 0 && access(certificate_path, F_OK) == 0)
        return IMP_OK;
    ERR_clear_error();
    if (access(key_path, F_OK) == 0) {
        key = key_read(key_path);
        if (key == NULL)
            return imp_error_set(error, IMP_CORRUPT, "can't read TLS key %s: %s", key_path,
                                 tls_error_message());
    } else {
        key = EVP_EC_gen("P-256");
        if (key == NULL)
            return imp_error_set(error, IMP_IO, "can't make a TLS key: %s", tls_error_message());
        status = pem_write(key_path, 0600, write_key, key, error);
    }
    if (status == IMP_OK) {
        certificate = certificate_make(key, name);
        if (certificate == NULL)
            status = imp_error_set(error, IMP_IO, "can't make a TLS certificate: %s",
                                   tls_error_message());
    }
    if (status == IMP_OK)
        status = pem_write(certificate_path, 0644, write_certificate, certificate, error);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return status;
}

/* The paths that are meant: both given, or the self-made ones. */
static imp_status pair_paths(const char *certificate_path, const char *key_path,
                             char certificate[TLS_PATH_SIZE], char key[TLS_PATH_SIZE],
                             imp_error *error)
{
    bool has_certificate = certificate_path != NULL && certificate_path[0] != '\0';
    bool has_key = key_path != NULL && key_path[0] != '\0';
    int written[2];

    if (has_certificate != has_key)
        return imp_error_set(error, IMP_INVALID,
                             "tls_certificate and tls_key must be given together");
    if (has_key) {
        written[0] = snprintf(certificate, TLS_PATH_SIZE, "%s", certificate_path);
        written[1] = snprintf(key, TLS_PATH_SIZE, "%s", key_path);
    } else {
        written[0] = snprintf(certificate, TLS_PATH_SIZE, "%s/certificate.pem", tls.directory);
        written[1] = snprintf(key, TLS_PATH_SIZE, "%s/key.pem", tls.directory);
    }
    if (written[0] < 0 || (size_t)written[0] >= TLS_PATH_SIZE || written[1] < 0 ||
        (size_t)written[1] >= TLS_PATH_SIZE)
        return imp_error_set(error, IMP_INVALID, "the path of a TLS file is too long");
    return IMP_OK;
}

static void sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

/* The self-made pair is there, or is made now. */
static imp_status pair_ensure(const char *name, imp_error *error)
{
    char certificate[TLS_PATH_SIZE], key[TLS_PATH_SIZE], host[HOST_NAME_MAX + 1] = "";

    if (name == NULL) {
        if (gethostname(host, sizeof host - 1) != 0 || !is_host_name(host))
            memcpy(host, "localhost", sizeof "localhost");
        name = host;
    }
    if (!is_host_name(name))
        return imp_error_set(error, IMP_INVALID, "\"%s\" is not a host name", name);
    if (mkdir(tls.directory, 0700) != 0 && errno != EEXIST)
        return imp_error_set(error, IMP_IO, "can't make %s: %s", tls.directory,
                             strerrordesc_np(errno));
    imp_status status = pair_paths(NULL, NULL, certificate, key, error);
    if (status == IMP_OK)
        status = pair_make(certificate, key, name, error);
    if (status == IMP_OK)
        sync_directory(tls.directory);
    return status;
}

static imp_status load(const char *certificate_path, const char *key_path, const char *name,
                       SSL_CTX **context, imp_error *error)
{
    char certificate[TLS_PATH_SIZE], key[TLS_PATH_SIZE];

    imp_status status = pair_paths(certificate_path, key_path, certificate, key, error);
    if (status == IMP_OK && (key_path == NULL || key_path[0] == '\0'))
        status = pair_ensure(name, error);
    if (status == IMP_OK)
        status = server_context(certificate, key, context, error);
    return status;
}

/* ---- life ---- */

imp_status tls_start(const char *state_dir, const char *certificate_path, const char *key_path,
                     const char *common_name, imp_error *error)
{
    SSL_CTX *context = NULL;
    int written = snprintf(tls.directory, sizeof tls.directory, "%s/tls", state_dir);
    if (written < 0 || (size_t)written >= sizeof tls.directory)
        return imp_error_set(error, IMP_INVALID, "the state folder's path is too long");
    imp_status status = load(certificate_path, key_path, common_name, &context, error);
    if (status == IMP_OK)
        server_install(context);
    return status;
}

imp_status tls_prepare(const char *certificate_path, const char *key_path,
                       struct ssl_ctx_st **prepared, imp_error *error)
{
    *prepared = NULL;
    return load(certificate_path, key_path, NULL, prepared, error);
}

void tls_take(struct ssl_ctx_st *prepared)
{
    server_install(prepared);
}

imp_status tls_set_client_ca(const char *ca_path, imp_error *error)
{
    SSL_CTX *context = NULL;
    char *copy = ca_path != NULL ? strdup(ca_path) : NULL;

    if (ca_path != NULL && copy == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    pthread_mutex_lock(&tls.lock);
    char *old = tls.client_ca;
    tls.client_ca = copy;
    imp_status status = client_context(&context, error);
    if (status == IMP_OK) {
        SSL_CTX_free(tls.client);
        tls.client = context;
        copy = old;
    } else {
        tls.client_ca = old;
    }
    pthread_mutex_unlock(&tls.lock);
    free(copy);
    return status;
}

void tls_stop(void)
{
    pthread_mutex_lock(&tls.lock);
    SSL_CTX_free(tls.server);
    SSL_CTX_free(tls.client);
    free(tls.client_ca);
    tls.server = tls.client = NULL;
    tls.client_ca = NULL;
    tls.expiry = 0;
    imp_wipe(tls.tickets, sizeof tls.tickets);
    pthread_mutex_unlock(&tls.lock);
}

SSL_CTX *tls_server_context(void)
{
    pthread_mutex_lock(&tls.lock);
    SSL_CTX *context = tls.server;
    if (context != NULL)
        SSL_CTX_up_ref(context);
    pthread_mutex_unlock(&tls.lock);
    return context;
}

SSL_CTX *tls_client_context(void)
{
    pthread_mutex_lock(&tls.lock);
    /* Made when first wanted: most servers never connect out by TLS. */
    if (tls.client == NULL)
        (void)client_context(&tls.client, NULL);
    SSL_CTX *context = tls.client;
    if (context != NULL)
        SSL_CTX_up_ref(context);
    pthread_mutex_unlock(&tls.lock);
    return context;
}

void tls_context_free(SSL_CTX *context)
{
    SSL_CTX_free(context);
}

imp_status tls_server_pin(uint8_t pin[TLS_PIN_SIZE], imp_error *error)
{
    pthread_mutex_lock(&tls.lock);
    bool is_there = tls.server != NULL;
    memcpy(pin, tls.pin, TLS_PIN_SIZE);
    pthread_mutex_unlock(&tls.lock);
    return is_there ? IMP_OK : imp_error_set(error, IMP_UNAVAILABLE, "TLS was not started");
}

int64_t tls_server_expiry(void)
{
    pthread_mutex_lock(&tls.lock);
    int64_t expiry = tls.expiry;
    pthread_mutex_unlock(&tls.lock);
    return expiry;
}
