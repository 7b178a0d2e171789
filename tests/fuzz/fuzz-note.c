/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-note.c - the reader of ELF notes: what is accepted obeys the header's promises. */
#include <stdlib.h>
#include <string.h>

#include "core/note.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_services(const char *list)
{
    char name[NOTE_NAME_SIZE];
    uint32_t major;
    while (note_next_service(&list, name, &major))
        if (!note_service_is_valid(name))
            abort();
}

static void check_note(const struct note *note)
{
    if (!note_name_is_valid(note->name) || note->build_id_length > NOTE_BUILD_ID_MAX)
        abort();
    if (memchr(note->version, 0, sizeof note->version) == NULL)
        abort();
    check_services(note->requires);
    check_services(note->provides);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct note note;
    imp_error error;
    if (note_read_memory(data, size, &note, &error) == IMP_OK)
        check_note(&note);
    return 0;
}
