/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PROXY header and the networks of an allow list: whatever comes, the parsers stay within it, a
 * header's length lies within what was given, and a prefix of a good header is "more", never "bad".
 */
#include "core/config-listen.h"
#include "core/listener.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sockaddr_storage source, destination;
    struct config_network network;
    size_t length = 0;
    /* A copy of its own, so that a read past the end is seen. */
    uint8_t *copy = malloc(size + 1);

    if (copy == NULL)
        return 0;
    memcpy(copy, data, size);
    copy[size] = '\0';
    if (size > 0 && proxy_parse(copy, size, &source, &destination, &length) == IMP_OK) {
        check(length > 0 && length <= size && length <= PROXY_HEADER_MAX);
        for (size_t part = 0; part < length; part++) {
            size_t unused;
            check(proxy_parse(copy, part, &source, &destination, &unused) == IMP_BUSY);
        }
    }
    if (config_parse_network((const char *)copy, &network) == IMP_OK)
        check(network.prefix <= 128);
    free(copy);
    return 0;
}
