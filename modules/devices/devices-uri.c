/* SPDX-License-Identifier: Apache-2.0 */
/* devices-uri.c - which URIs a device may have (RFC 3986 section 3; RFC 3510 for ipp). */
#include "devices.h"

#include <string.h>

#define PORT_DIGITS 5

static const char *const schemes[] = {"socket", "lpd", "ipp", "ipps"};

/* True for a host, or an IPv6 address in brackets (RFC 3986 section 3.2.2), and a port if any. */
static bool host_is_sound(const char *host, size_t length)
{
    const char *end = host + length, *port;
    if (length > 0 && host[0] == '[') {
        char address[IMP_NETWORK_TEXT_SIZE];
        imp_network network;
        const char *bracket = memchr(host, ']', length);
        size_t inner = bracket == NULL ? 0 : (size_t)(bracket - host) - 1;
        if (inner == 0 || inner >= sizeof address)
            return false;
        memcpy(address, host + 1, inner);
        address[inner] = '\0';
        if (strchr(address, ':') == NULL || strchr(address, '/') != NULL ||
            imp_network_parse(address, &network, NULL) != IMP_OK)
            return false;
        port = bracket + 1;
    } else {
        port = memchr(host, ':', length);
        if (port == NULL)
            port = end;
        if (port == host || memchr(host, '[', length) != NULL || memchr(host, ']', length) != NULL)
            return false;
    }
    if (port == end)
        return true;
    unsigned number = 0;
    if (*port++ != ':' || port == end || end - port > PORT_DIGITS)
        return false;
    for (; port < end; port++) {
        if (*port < '0' || *port > '9')
            return false;
        number = number * 10 + (unsigned)(*port - '0');
    }
    return number >= 1 && number <= UINT16_MAX;
}

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
    if (!host_is_sound(host, host_length))
        return imp_error_set(error, IMP_INVALID,
                             "URI \"%s\": expected a host or an [IPv6 address], and a port from 1 "
                             "to 65535 if any",
                             uri);
    return IMP_OK;
}
