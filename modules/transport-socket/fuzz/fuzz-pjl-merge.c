/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes with any spans in them: pieces lie within the head or the text, in order, and a head that
 * nothing is asked of stays as it is. The input: flags, copies, a count of spans, each as kind, offset
 * and length in 16 bits, then a user name up to a NUL, then the head.
 */
#include <stdlib.h>
#include <string.h>

#include "modules/transport-socket/pjl-merge.h"

static uint32_t take(const uint8_t **data, size_t *size)
{
    uint32_t byte = *size == 0 ? 0 : **data;
    if (*size != 0) {
        (*data)++;
        (*size)--;
    }
    return byte;
}

static const char *const formats[] = {"application/octet-stream", "application/postscript",
                                      "application/pdf", "application/vnd.hp-PCL"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pjl_merge merge;
    imp_document_head found = {.size = sizeof found};
    char name[128] = "";
    uint32_t flags = take(&data, &size);
    struct pjl_wanted wanted = {
        .speaks_pjl = (flags & 1) != 0,
        .drops_hold = (flags & 2) != 0,
        .replaces_names = (flags & 4) != 0,
        .copies_are_qty = (flags & 8) != 0,
        .sides = (pjl_sides)(flags >> 6),
        .copies = take(&data, &size),
        .user_name = name,
        .job_name = name,
    };
    found.has_pjl = (flags & 16) != 0;
    uint32_t format = take(&data, &size);
    memcpy(found.format, formats[format % 4], strlen(formats[format % 4]));
    found.span_count = take(&data, &size) % (IMP_DOCUMENT_SPANS_MAX + 1);
    for (uint32_t i = 0; i < found.span_count; i++) {
        imp_document_span *span = &found.spans[i];
        span->kind = (int32_t)(take(&data, &size) % 10);
        span->offset = take(&data, &size) << 8 | take(&data, &size);
        span->length = take(&data, &size) << 8 | take(&data, &size);
    }
    for (size_t i = 0; i + 1 < sizeof name && size != 0; i++) {
        name[i] = (char)take(&data, &size);
        if (name[i] == '\0')
            break;
    }

    pjl_merge((imp_bytes){data, size}, &found, &wanted, &merge);
    const uint8_t *at = data;
    if (merge.count > PJL_PIECES_MAX || merge.text_length > sizeof merge.text)
        abort();
    size_t total = 0;
    for (uint32_t i = 0; i < merge.count; i++) {
        const uint8_t *start = merge.pieces[i].data;
        total += merge.pieces[i].length;
        if (merge.pieces[i].data == merge.text) {
            if (merge.pieces[i].length != merge.text_length)
                abort();
            continue;
        }
        if (start < at || merge.pieces[i].length > (size_t)(data + size - start))
            abort();
        at = start + merge.pieces[i].length;
    }
    if (!merge.is_changed && total != size)
        abort();
    bool is_asked = wanted.copies != 0 || wanted.drops_hold ||
                    (wanted.speaks_pjl && (wanted.replaces_names || wanted.sides != 0));
    if (!is_asked && merge.is_changed)
        abort();
    /* A name can't end its line or start a command: each line of ours begins with @PJL or UEL. */
    for (size_t i = 0; i < merge.text_length; i++) {
        if (merge.text[i] == '\033' && i != 0)
            abort();
        if (merge.text[i] == '\n' && i + 1 < merge.text_length && merge.text[i + 1] != '@')
            abort();
    }
    return 0;
}
