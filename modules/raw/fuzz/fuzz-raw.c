/* SPDX-License-Identifier: Apache-2.0 */
/* The PJL reader takes every byte once, wherever the input is cut, and both ways give the same. */
#include <stdlib.h>
#include <string.h>

#include "modules/raw/raw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const uint8_t *data, size_t size, size_t step, struct raw_pjl *pjl,
                uint64_t *answers)
{
    memset(pjl, 0, sizeof *pjl);
    *answers = 0;
    for (size_t at = 0; at < size;) {
        char answer[RAW_PJL_ANSWER_MAX];
        size_t length, piece = size - at < step ? size - at : step;
        size_t taken = raw_pjl_feed(pjl, data + at, piece, answer, &length);
        if (taken == 0 || taken > piece || length >= sizeof answer)
            abort();
        for (size_t i = 0; i < length; i++)
            *answers = *answers * 31 + (uint8_t)answer[i];
        at += taken;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raw_pjl whole, cut;
    uint64_t whole_answers, cut_answers;
    run(data, size, size, &whole, &whole_answers);
    run(data, size, 1, &cut, &cut_answers);
    if (whole_answers != cut_answers || whole.has_payload != cut.has_payload ||
        whole.is_in_pjl != cut.is_in_pjl)
        abort();
    return 0;
}
