/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - the one TLS policy: certificate, key, versions, session tickets.
 *
 * All listeners share one server context: TLS 1.2 and later, one certificate and key. They are made
 * once (P-256, self-signed) below the state folder and stay; an administrator's own replace them by
 * settings, without restart. Session tickets are sealed with keys that change daily and are shared by
 * all loops; a ticket is taken for two days at most.
 */
#ifndef IMPRIMATUR_CORE_TLS_H
#define IMPRIMATUR_CORE_TLS_H

#include <imprimatur/base.h>

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

#define TLS_PIN_SIZE 32u /* SHA-256 of a SubjectPublicKeyInfo */

/* Makes STATE_DIR/tls/{certificate,key}.pem when they are not there (key 0600, both by rename), loads
 * them, or loads the two given files instead (both, or NULL both). `common_name` goes into a new
 * certificate (NULL: the host's name). */
imp_status tls_start(const char *state_dir, const char *certificate_path, const char *key_path,
                     const char *common_name, imp_error *error);
/* Loads certificate and key anew (NULL both: the self-made ones), which tls_take then lets all new
 * connections have; those that are there keep theirs. tls_take can't fail and owns what it gets; what
 * is not taken is given back by tls_context_free. Control thread. */
imp_status tls_prepare(const char *certificate_path, const char *key_path,
                       struct ssl_ctx_st **prepared, imp_error *error);
void tls_take(struct ssl_ctx_st *prepared);
/* Certificates that outgoing connections trust, instead of the system's (NULL: the system's). */
imp_status tls_set_client_ca(const char *ca_path, imp_error *error);
void tls_stop(void);

/* The contexts, with a reference that the caller returns by tls_context_free; NULL when TLS was not
 * started (server) or memory is short. Any thread. */
struct ssl_ctx_st *tls_server_context(void);
struct ssl_ctx_st *tls_client_context(void);
void tls_context_free(struct ssl_ctx_st *context);

/* SHA-256 of the server's SubjectPublicKeyInfo, for clients that pin it. Any thread. */
imp_status tls_server_pin(uint8_t pin[TLS_PIN_SIZE], imp_error *error);
/* When the server's certificate ends (wall clock, us); 0 = unknown. Any thread. */
int64_t tls_server_expiry(void);
/* Says what OpenSSL's error queue of this thread holds, as a constant string, and empties it. */
const char *tls_error_message(void);

#endif
