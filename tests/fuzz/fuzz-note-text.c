/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-note-text.c - the text of a module's note, without the ELF file around it. */
#include <stdlib.h>

#include "core/note.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct note note;
    imp_error error;
    if (note_parse_text((const char *)data, size, &note, &error) == IMP_OK &&
        !note_name_is_valid(note.name))
        abort();
    return 0;
}
