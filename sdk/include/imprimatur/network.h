/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h - addresses and networks as people write them ("192.0.2.7", "192.0.2.0/24").
 *
 * A source address is a filter, never an identity.
 */
#ifndef IMPRIMATUR_NETWORK_H
#define IMPRIMATUR_NETWORK_H

#include <imprimatur/base.h>

#define IMP_NETWORK_TEXT_SIZE 64

typedef struct imp_network {
    uint8_t family; /* 4 or 6 */
    uint8_t length; /* bits of the prefix; 32 or 128 for one address */
    uint8_t prefix[16];
} imp_network;

/* Reads an address or a network in CIDR form (RFC 4632, RFC 4291 section 2.3). Bits behind the prefix
 * must be zero; an IPv4-mapped IPv6 address counts as IPv4. Any thread. */
IMP_PUBLIC imp_status imp_network_parse(const char *text, imp_network *network, imp_error *error);
/* The network of the same address with a shorter prefix. Any thread. */
IMP_PUBLIC void imp_network_shorten(imp_network *network, uint8_t length);
/* True when `inner` (an address, or a network) lies in `outer` as a whole. Any thread. */
IMP_PUBLIC bool imp_network_contains(const imp_network *outer, const imp_network *inner);
/* The form that imp_network_parse reads. Returns `text`. Any thread. */
IMP_PUBLIC char *imp_network_format(const imp_network *network, char text[IMP_NETWORK_TEXT_SIZE]);

#endif
