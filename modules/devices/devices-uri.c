/* SPDX-License-Identifier: Apache-2.0 */
/* devices-uri.c - which URIs a device may have (RFC 3986 section 3; RFC 3510 for ipp). */
#include "devices.h"

#include <string.h>

static const char *const schemes[] = {"socket", "lpd", "ipp", "ipps"};

imp_status device_uri_check(const char *uri, imp_error *error)
{
    size_t length = strlen(uri);
    const char *separator = strstr(uri, "://");
    if (length >= IMP_URI_MAX)
        return imp_error_set(error, IMP_LIMIT, "a device URI has at most %d bytes",
                             IMP_URI_MAX - 1);
    bool is_known = false;
    for (size_t i = 0; separator != NULL && i < sizeof schemes / sizeof *schemes; i++)
        is_known = is_known || (strlen(schemes[i]) == (size_t)(separator - uri) &&
                                strncmp(schemes[i], uri, strlen(schemes[i])) == 0);
    if (!is_known)
        return imp_error_set(error, IMP_INVALID,
                             "URI \"%s\": expected socket://, lpd://, ipp:// or ipps:// and a host",
                             uri);
    const char *host = separator + 3;
    size_t host_length = strcspn(host, "/?#");
    for (const char *c = uri; *c != '\0'; c++)
        if (*c <= ' ' || *c == 0x7f || *c == '"' || *c == '\\')
            return imp_error_set(error, IMP_INVALID,
                                 "a device URI holds no blanks, quotes or control characters");
    if (host_length == 0 || host[0] == ':')
        return imp_error_set(error, IMP_INVALID, "URI \"%s\": the host is missing", uri);
    if (memchr(host, '@', host_length) != NULL)
        return imp_error_set(error, IMP_INVALID, "a device URI holds no user name and no password");
    return IMP_OK;
}
