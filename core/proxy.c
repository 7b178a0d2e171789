/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.c - the header that a proxy puts in front of a connection, to say who the client is: PROXY
 * protocol, version 1 (text) and 2 (binary). Read strictly: whoever may not be understood is refused.
 */
#include "build-config.h"

#include "core/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define V1_LENGTH_MAX 107u /* with CR LF */
#define V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2_SIGNATURE_SIZE 12u
#define V2_FIXED_SIZE 16u
#define V2_IPV4_SIZE 12u
#define V2_IPV6_SIZE 36u
#define V2_UNIX_SIZE 216u

static void address_v4(struct sockaddr_storage *address, const void *bytes, uint16_t port_network)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port_network};
    memcpy(&v4.sin_addr, bytes, sizeof v4.sin_addr);
    memcpy(address, &v4, sizeof v4);
}

static void address_v6(struct sockaddr_storage *address, const void *bytes, uint16_t port_network)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port_network};
    memcpy(&v6.sin6_addr, bytes, sizeof v6.sin6_addr);
    memcpy(address, &v6, sizeof v6);
}

/* ---- version 1 ---- */

/* Takes one word and the one character behind it, which must be `end`. NULL when it is not so. */
static char *word_take(char **rest, char end)
{
    char *word = *rest, *behind = strchr(word, end);
    if (behind == NULL || behind == word)
        return NULL;
    *behind = '\0';
    *rest = behind + 1;
    return word;
}

/* "0" to "65535", without sign and leading zeros. */
static bool port_parse(const char *text, uint16_t *port_network)
{
    uint32_t value = 0;
    size_t length = strlen(text);
    if (length == 0 || length > 5 || strspn(text, "0123456789") != length ||
        (length > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < length; i++)
        value = value * 10 + (uint32_t)(text[i] - '0');
    if (value > UINT16_MAX)
        return false;
    *port_network = htons((uint16_t)value);
    return true;
}

static bool address_parse(int family, const char *text, const char *port,
                          struct sockaddr_storage *address)
{
    uint8_t bytes[16];
    uint16_t port_network = 0;
    if (!port_parse(port, &port_network) || inet_pton(family, text, bytes) != 1)
        return false;
    if (family == AF_INET)
        address_v4(address, bytes, port_network);
    else
        address_v6(address, bytes, port_network);
    return true;
}

static imp_status parse_v1(const uint8_t *data, size_t available, struct sockaddr_storage *source,
                           struct sockaddr_storage *destination, size_t *length)
{
    char line[V1_LENGTH_MAX + 1];
    size_t seen = available < V1_LENGTH_MAX ? available : V1_LENGTH_MAX;
    const uint8_t *end = memchr(data, '\n', seen);

    if (end == NULL)
        return available < V1_LENGTH_MAX ? IMP_BUSY : IMP_INVALID;
    size_t size = (size_t)(end - data);
    if (size < 1 || data[size - 1] != '\r' || memchr(data, '\0', size) != NULL)
        return IMP_INVALID;
    memcpy(line, data, size - 1);
    line[size - 1] = '\0';
    *length = size + 1;

    char *rest = line + strlen("PROXY ");
    if (strcmp(rest, "UNKNOWN") == 0 || strncmp(rest, "UNKNOWN ", 8) == 0)
        return IMP_OK;
    char *protocol = word_take(&rest, ' ');
    if (protocol == NULL)
        return IMP_INVALID;
    int family = strcmp(protocol, "TCP4") == 0   ? AF_INET
                 : strcmp(protocol, "TCP6") == 0 ? AF_INET6
                                                 : AF_UNSPEC;
    char *from = word_take(&rest, ' ');
    char *to = from != NULL ? word_take(&rest, ' ') : NULL;
    char *from_port = to != NULL ? word_take(&rest, ' ') : NULL;
    struct sockaddr_storage client = {0}, server = {0};
    if (family == AF_UNSPEC || from_port == NULL ||
        !address_parse(family, from, from_port, &client) ||
        !address_parse(family, to, rest, &server))
        return IMP_INVALID;
    *source = client;
    *destination = server;
    return IMP_OK;
}

/* ---- version 2 ---- */

static imp_status parse_v2(const uint8_t *data, size_t available, struct sockaddr_storage *source,
                           struct sockaddr_storage *destination, size_t *length)
{
    if (available < V2_FIXED_SIZE)
        return IMP_BUSY;
    uint8_t version = data[12] >> 4, command = data[12] & 0x0f;
    uint8_t family = data[13] >> 4, transport = data[13] & 0x0f;
    size_t size = (size_t)data[14] << 8 | data[15];
    const uint8_t *block = data + V2_FIXED_SIZE;

    if (version != 2 || command > 1 || family > 3 || transport > 2 ||
        V2_FIXED_SIZE + size > PROXY_HEADER_MAX)
        return IMP_INVALID;
    if (available < V2_FIXED_SIZE + size)
        return IMP_BUSY;
    *length = V2_FIXED_SIZE + size;
    if (command == 0) /* LOCAL: the proxy itself, for its health checks; what follows is skipped */
        return IMP_OK;
    if (family == 1 && transport == 1) {
        if (size < V2_IPV4_SIZE)
            return IMP_INVALID;
        uint16_t ports[2];
        memcpy(ports, block + 8, sizeof ports);
        address_v4(source, block, ports[0]);
        address_v4(destination, block + 4, ports[1]);
    } else if (family == 2 && transport == 1) {
        if (size < V2_IPV6_SIZE)
            return IMP_INVALID;
        uint16_t ports[2];
        memcpy(ports, block + 32, sizeof ports);
        address_v6(source, block, ports[0]);
        address_v6(destination, block + 16, ports[1]);
    } else if (family == 3 && size < V2_UNIX_SIZE) {
        return IMP_INVALID;
    } /* else UNSPEC, or what no TCP client has: the socket's own address is kept */
    return IMP_OK;
}

imp_status proxy_parse(const uint8_t *data, size_t available, struct sockaddr_storage *source,
                       struct sockaddr_storage *destination, size_t *length)
{
    static const char v1[] = "PROXY ";

    memset(source, 0, sizeof *source);
    memset(destination, 0, sizeof *destination);
    *length = 0;
    size_t compared = available < V2_SIGNATURE_SIZE ? available : V2_SIGNATURE_SIZE;
    if (memcmp(data, V2_SIGNATURE, compared) == 0)
        return parse_v2(data, available, source, destination, length);
    compared = available < sizeof v1 - 1 ? available : sizeof v1 - 1;
    if (memcmp(data, v1, compared) != 0)
        return IMP_INVALID;
    if (available < sizeof v1 - 1)
        return IMP_BUSY;
    return parse_v1(data, available, source, destination, length);
}
