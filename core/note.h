/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note.h - what a module's file says of itself, read before any code of it runs.
 *
 * A bounded reader of ELF files (elf(5)): file header, program headers, notes and the dynamic section,
 * nothing else; section headers may be stripped. Every offset and count comes from a file that may be
 * hostile or cut off, and is checked. Refused are files that could never be unloaded again or that
 * would look for libraries in places of their own: another class, byte order, machine or type,
 * DT_RPATH, DT_RUNPATH, DF_STATIC_TLS.
 */
#ifndef CORE_NOTE_H
#define CORE_NOTE_H

#include <imprimatur/base.h>

#define NOTE_NAME_SIZE 32
#define NOTE_VERSION_SIZE 32
#define NOTE_SERVICES_SIZE 1024
#define NOTE_BUILD_ID_MAX 64

struct note {
    char name[NOTE_NAME_SIZE];       /* [a-z][a-z0-9-]* */
    char version[NOTE_VERSION_SIZE]; /* MAJOR.MINOR.PATCH */
    uint16_t abi_major, abi_minor;
    char requires[NOTE_SERVICES_SIZE]; /* "jobs/1 devices/1": checked words, one blank between */
    char provides[NOTE_SERVICES_SIZE];
    uint8_t build_id[NOTE_BUILD_ID_MAX];
    uint32_t build_id_length; /* 0: the file has none */
    uint32_t
        constructor_count; /* rows of the init array; the compiler's own start code makes one */
};

/* Where the bytes come from: reads exactly `length` bytes at `offset`, or false. */
struct note_source {
    bool (*read)(const struct note_source *source, uint64_t offset, void *buffer, size_t length);
    const void *data; /* for sources in memory */
    uint64_t length;
    int fd; /* for files */
};

/* Reads and checks; IMP_INVALID with a sentence that names what is wrong ("not an ELF file"), IMP_IO
 * when the file can't be read. Any thread. */
imp_status note_read(const struct note_source *source, struct note *note, imp_error *error);
imp_status note_read_file(int fd, struct note *note, imp_error *error);
imp_status note_read_memory(const void *data, size_t length, struct note *note, imp_error *error);

/* Reads the text of a note: NUL-separated key=value. */
imp_status note_parse_text(const char *text, size_t length, struct note *note, imp_error *error);

/* Takes the next "service/MAJOR" off `*list`; false at the end. The list was checked by note_read. */
bool note_next_service(const char **list, char name[NOTE_NAME_SIZE], uint32_t *major);

/* [a-z][a-z0-9-]*, at most 31 letters: names of modules. */
bool note_name_is_valid(const char *name);
/* The same, or several such words with dots between ("transport.socket"): names of services. */
bool note_service_is_valid(const char *name);

#endif
