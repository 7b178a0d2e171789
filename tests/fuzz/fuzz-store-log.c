/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-store-log.c - the text of a record of the commit log. What is read must read the same again. */
#include "build-config.h"

#include <stdlib.h>
#include <string.h>

#include "core/store-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record_reader reader = record_reader_of((imp_bytes){data, size});
    struct store_log_item item;
    while (store_log_item_next(&reader, &item)) {
        require(item.table[0] != '\0' && memchr(item.table, 0, sizeof item.table) != NULL);
        require(item.key.length > 0 && item.key.length <= IMP_KEY_MAX);
        require((const uint8_t *)item.key.data >= data &&
                (const uint8_t *)item.key.data + item.key.length <= data + size);
        require(item.is_delete
                    ? item.value.data == NULL
                    : (const uint8_t *)item.value.data + item.value.length <= data + size);
    }
    require(reader.is_failed || reader.at == reader.end);
    return 0;
}
