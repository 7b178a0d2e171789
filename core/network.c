/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - addresses and networks in CIDR form. */
#include <imprimatur/network.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t family_bits(uint8_t family)
{
    return family == 4 ? 32 : 128;
}

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

imp_status imp_network_parse(const char *text, imp_network *network, imp_error *error)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t length = slash == NULL ? strlen(text) : (size_t)(slash - text);
    if (length == 0 || length >= sizeof address)
        goto bad;
    memcpy(address, text, length);
    address[length] = '\0';
    memset(network, 0, sizeof *network);
    if (inet_pton(AF_INET, address, network->prefix) == 1)
        network->family = 4;
    else if (inet_pton(AF_INET6, address, network->prefix) == 1)
        network->family = 6;
    else
        goto bad;
    long bits = family_bits(network->family);
    if (slash != NULL) {
        size_t digits = strspn(slash + 1, "0123456789");
        if (digits == 0 || digits > 3 || slash[1 + digits] != '\0')
            goto bad;
        bits = strtol(slash + 1, NULL, 10);
        if (bits > family_bits(network->family))
            goto bad;
    }
    if (network->family == 6 && bits >= 96 &&
        memcmp(network->prefix, mapped_prefix, sizeof mapped_prefix) == 0) {
        memmove(network->prefix, network->prefix + 12, 4);
        memset(network->prefix + 4, 0, 12);
        network->family = 4;
        bits -= 96;
    }
    imp_network whole = *network;
    network->length = family_bits(network->family);
    imp_network_shorten(network, (uint8_t)bits);
    if (memcmp(whole.prefix, network->prefix, sizeof whole.prefix) != 0)
        return imp_error_set(error, IMP_INVALID,
                             "network \"%s\": bits behind the prefix are set; expected a form such "
                             "as 192.0.2.0/24",
                             text);
    return IMP_OK;
bad:
    return imp_error_set(error, IMP_INVALID,
                         "network \"%s\": expected an address such as 192.0.2.7 or 192.0.2.0/24",
                         text);
}

void imp_network_shorten(imp_network *network, uint8_t length)
{
    for (unsigned bit = length; bit < 128; bit++)
        network->prefix[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
    network->length = length;
}

bool imp_network_contains(const imp_network *outer, const imp_network *inner)
{
    imp_network cut = *inner;
    if (outer->family != inner->family || outer->length > inner->length)
        return false;
    imp_network_shorten(&cut, outer->length);
    return memcmp(cut.prefix, outer->prefix, sizeof cut.prefix) == 0;
}

char *imp_network_format(const imp_network *network, char text[IMP_NETWORK_TEXT_SIZE])
{
    char address[INET6_ADDRSTRLEN];
    inet_ntop(network->family == 4 ? AF_INET : AF_INET6, network->prefix, address, sizeof address);
    if (network->length == family_bits(network->family))
        snprintf(text, IMP_NETWORK_TEXT_SIZE, "%s", address);
    else
        snprintf(text, IMP_NETWORK_TEXT_SIZE, "%s/%u", address, network->length);
    return text;
}
