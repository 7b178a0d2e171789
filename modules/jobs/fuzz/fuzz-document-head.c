/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a document's head: nothing is read beyond them, spans lie within, texts are clean. */
#include <stdlib.h>
#include <string.h>

#include "modules/jobs/document-head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    imp_document_head head = {.size = sizeof head};
    document_head_read((imp_bytes){data, size}, &head);
    if (head.span_count > IMP_DOCUMENT_SPANS_MAX || head.copies > IMP_COPIES_MAX ||
        !imp_utf8_is_valid(head.user_name, strlen(head.user_name)) ||
        !imp_utf8_is_valid(head.job_name, strlen(head.job_name)) ||
        strnlen(head.format, sizeof head.format) == 0)
        abort();
    for (uint32_t i = 0; i < head.span_count; i++) {
        if (head.spans[i].offset > size || head.spans[i].length > size - head.spans[i].offset)
            abort();
    }
    return 0;
}
