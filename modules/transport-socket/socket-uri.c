/* SPDX-License-Identifier: Apache-2.0 */
/* socket-uri.c - socket://HOST[:PORT] (the authority of RFC 3986 section 3.2, without userinfo). */
#include "transport-socket.h"

#include <string.h>

static const char scheme[] = "socket://";

imp_status socket_uri_parse(const char *uri, char host[SOCKET_HOST_MAX], uint16_t *port,
                            imp_error *error)
{
    const char *start, *end, *rest;
    uint32_t number = 0;

    if (strncmp(uri, scheme, sizeof scheme - 1) != 0)
        goto invalid;
    start = uri + sizeof scheme - 1;
    if (*start == '[') {
        start++;
        end = start + strcspn(start, "]/?#");
        if (*end != ']')
            goto invalid;
        rest = end + 1;
    } else {
        end = start + strcspn(start, ":/?#@[]");
        rest = end;
    }
    if (end == start || (size_t)(end - start) >= SOCKET_HOST_MAX)
        goto invalid;
    *port = SOCKET_PORT_DEFAULT;
    if (*rest == ':') {
        const char *digits = ++rest;
        while (*rest >= '0' && *rest <= '9' && rest - digits < 5)
            number = number * 10 + (uint32_t)(*rest++ - '0');
        /* RFC 3986 section 3.2.3: an empty port is the default one. */
        if (rest != digits && (number == 0 || number > UINT16_MAX))
            goto invalid;
        if (rest != digits)
            *port = (uint16_t)number;
    }
    if (*rest != '\0' && *rest != '/' && *rest != '?')
        goto invalid;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    return IMP_OK;

invalid:
    return imp_error_set(error, IMP_INVALID, "the device's address is not socket://HOST[:PORT]");
}
