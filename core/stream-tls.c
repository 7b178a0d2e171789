/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream-tls.c - TLS on a stream's socket. With tls.c the only code that touches OpenSSL's SSL.
 *
 * OpenSSL reads and writes the socket itself. After any call it may want either direction, so a ready
 * descriptor sets both `can_read` and `can_write` of a stream with TLS.
 */
#include "build-config.h"

#include "core/stream-private.h"
#include "core/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

static imp_status tls_begin(imp_stream *stream, SSL_CTX *context)
{
    if (context == NULL)
        return IMP_UNAVAILABLE;
    ERR_clear_error();
    stream->ssl = SSL_new(context);
    tls_context_free(context);
    if (stream->ssl == NULL)
        return IMP_LIMIT;
    if (SSL_set_fd(stream->ssl, stream->fd) != 1)
        return IMP_LIMIT;
    stream->can_read = stream->can_write = true;
    return IMP_OK;
}

imp_status stream_tls_begin_server(imp_stream *stream)
{
    imp_status status = tls_begin(stream, tls_server_context());
    if (status == IMP_OK)
        SSL_set_accept_state(stream->ssl);
    return status;
}

imp_status stream_tls_begin_client(imp_stream *stream, const char *name, bool has_pin)
{
    imp_status status = tls_begin(stream, tls_client_context());
    if (status != IMP_OK)
        return status;
    SSL_set_connect_state(stream->ssl);
    /* A number is no server name (RFC 6066 section 3), and is matched against other fields. */
    X509_VERIFY_PARAM *verify = SSL_get0_param(stream->ssl);
    bool is_number = X509_VERIFY_PARAM_set1_ip_asc(verify, name) == 1;
    ERR_clear_error();
    if (!is_number && SSL_set_tlsext_host_name(stream->ssl, name) != 1)
        return IMP_INVALID;
    if (has_pin) {
        /* The pin says all; a self-signed certificate has neither issuer nor right name. */
        SSL_set_verify(stream->ssl, SSL_VERIFY_NONE, NULL);
        return IMP_OK;
    }
    if (!is_number && SSL_set1_host(stream->ssl, name) != 1)
        return IMP_INVALID;
    SSL_set_hostflags(stream->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_set_verify(stream->ssl, SSL_VERIFY_PEER, NULL);
    return IMP_OK;
}

/* What a call that returned `result` <= 0 means. */
static enum stream_io tls_outcome(imp_stream *stream, int result)
{
    int saved = errno;
    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ: stream->can_read = false; return STREAM_IO_LATER;
    case SSL_ERROR_WANT_WRITE: stream->can_write = false; return STREAM_IO_LATER;
    case SSL_ERROR_ZERO_RETURN: stream->can_read = false; return STREAM_IO_END;
    case SSL_ERROR_SYSCALL:
        stream->is_tls_dead = true;
        ERR_clear_error();
        stream_fail_errno(stream, saved != 0 ? saved : ECONNRESET);
        return STREAM_IO_FAILED;
    default: break;
    }
    stream->is_tls_dead = true;
    unsigned long code = ERR_peek_error();
    if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        /* An end without close_notify may be an attacker's cut: it never counts as `ended`. */
        ERR_clear_error();
        stream_fail(stream, IMP_CLOSED_BY_PEER, "the peer closed without ending TLS");
        return STREAM_IO_FAILED;
    }
    long verify = SSL_get_verify_result(stream->ssl);
    const char *message = tls_error_message();
    if (verify != X509_V_OK && !SSL_is_server(stream->ssl))
        message = X509_verify_cert_error_string(verify);
    stream_fail(stream, IMP_CLOSED_ERROR, message);
    return STREAM_IO_FAILED;
}

enum stream_io stream_tls_handshake(imp_stream *stream)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(stream->ssl);
    if (result == 1)
        return STREAM_IO_BYTES;
    enum stream_io io = tls_outcome(stream, result);
    if (io == STREAM_IO_END)
        stream_fail(stream, IMP_CLOSED_BY_PEER, "the peer ended the TLS handshake");
    return io;
}

enum stream_io stream_tls_read(imp_stream *stream, void *data, size_t size, size_t *done)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(stream->ssl, data, size, done);
    if (result == 1)
        return STREAM_IO_BYTES;
    *done = 0;
    enum stream_io io = tls_outcome(stream, result);
    if (io == STREAM_IO_LATER)
        stream->can_read = false;
    return io;
}

enum stream_io stream_tls_write(imp_stream *stream, const void *data, size_t size, size_t *done)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(stream->ssl, data, size, done);
    if (result == 1)
        return STREAM_IO_BYTES;
    *done = 0;
    enum stream_io io = tls_outcome(stream, result);
    if (io == STREAM_IO_LATER)
        stream->can_write = false;
    return io == STREAM_IO_END ? STREAM_IO_LATER : io;
}

enum stream_io stream_tls_end(imp_stream *stream)
{
    ERR_clear_error();
    errno = 0;
    if (!SSL_is_init_finished(stream->ssl))
        return STREAM_IO_BYTES; /* nothing to end */
    int result = SSL_shutdown(stream->ssl);
    if (result >= 0)
        return STREAM_IO_BYTES; /* ours is sent; the peer's comes as its end of stream */
    int error = SSL_get_error(stream->ssl, result);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_WRITE) {
        stream->can_write = false;
        return STREAM_IO_LATER;
    }
    stream->is_tls_dead = error == SSL_ERROR_SYSCALL || error == SSL_ERROR_SSL;
    return STREAM_IO_FAILED;
}

bool stream_tls_fits_pin(imp_stream *stream, const uint8_t *pin)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    unsigned char *encoded = NULL;
    X509 *certificate = SSL_get1_peer_certificate(stream->ssl);
    bool fits = false;

    if (certificate == NULL)
        return false;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
    if (size > 0 && EVP_Digest(encoded, (size_t)size, digest, &length, EVP_sha256(), NULL) == 1 &&
        length == TLS_PIN_SIZE)
        fits = imp_equal_constant_time(digest, pin, TLS_PIN_SIZE);
    OPENSSL_free(encoded);
    X509_free(certificate);
    return fits;
}

void stream_tls_free(imp_stream *stream)
{
    if (stream->ssl == NULL)
        return;
    /* A connection that was cut still makes a good ticket; a fatal error does not. */
    if (!stream->is_tls_dead)
        SSL_set_shutdown(stream->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(stream->ssl);
    stream->ssl = NULL;
    ERR_clear_error();
}
