/* SPDX-License-Identifier: Apache-2.0 */
#include "note.h"

#include <elf.h>
#include <errno.h>
#include <imprimatur/module.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bounds of what is looked at; a linker's output stays far below each. */
#define PROGRAM_HEADER_MAX 64u
#define NOTE_SEGMENT_MAX ((size_t)64 * 1024)
#define NOTE_TEXT_MAX ((size_t)4 * 1024)
#define DYNAMIC_MAX ((size_t)64 * 1024)

#if defined(__x86_64__)
#define HOST_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define HOST_MACHINE EM_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define HOST_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define HOST_MACHINE EM_PPC64
#elif defined(__s390x__)
#define HOST_MACHINE EM_S390
#else
#error "name this machine's ELF number here"
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_DATA ELFDATA2LSB
#else
#define HOST_DATA ELFDATA2MSB
#endif

/* ---- words of the note ---- */

bool note_service_is_valid(const char *name)
{
    size_t length = strnlen(name, NOTE_NAME_SIZE);
    bool is_start = true; /* of a word */
    if (length == NOTE_NAME_SIZE)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool is_letter = c >= 'a' && c <= 'z';
        if (is_start ? !is_letter : !is_letter && !(c >= '0' && c <= '9') && c != '-' && c != '.')
            return false;
        is_start = c == '.';
    }
    return !is_start;
}

bool note_name_is_valid(const char *name)
{
    return note_service_is_valid(name) && strchr(name, '.') == NULL;
}

/* A decimal number of at most `maximum` without sign or leading zero; moves *text behind it. */
static bool take_number(const char **text, uint32_t maximum, uint32_t *number)
{
    const char *c = *text;
    uint64_t value = 0;
    if (*c < '0' || *c > '9' || (*c == '0' && c[1] >= '0' && c[1] <= '9'))
        return false;
    for (; *c >= '0' && *c <= '9'; c++) {
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > maximum)
            return false;
    }
    *text = c;
    *number = (uint32_t)value;
    return true;
}

static bool take_letter(const char **text, char letter)
{
    if (**text != letter)
        return false;
    (*text)++;
    return true;
}

static bool version_is_valid(const char *version)
{
    uint32_t number;
    return take_number(&version, UINT16_MAX, &number) && take_letter(&version, '.') &&
           take_number(&version, UINT16_MAX, &number) && take_letter(&version, '.') &&
           take_number(&version, UINT16_MAX, &number) && *version == '\0';
}

bool note_next_service(const char **list, char name[NOTE_NAME_SIZE], uint32_t *major)
{
    const char *text = *list;
    while (*text == ' ')
        text++;
    size_t length = strcspn(text, "/ ");
    if (text[length] != '/' || length == 0 || length >= NOTE_NAME_SIZE)
        return false;
    memcpy(name, text, length);
    name[length] = '\0';
    text += length + 1;
    if (!note_service_is_valid(name) || !take_number(&text, UINT16_MAX, major) ||
        (*text != ' ' && *text != '\0'))
        return false;
    *list = text;
    return true;
}

static bool services_are_valid(const char *list)
{
    char name[NOTE_NAME_SIZE];
    uint32_t major;
    while (note_next_service(&list, name, &major))
        ;
    return list[strspn(list, " ")] == '\0';
}

static imp_status parse_abi(const char *value, struct note *note, imp_error *error)
{
    uint32_t major, minor;
    if (!take_number(&value, UINT16_MAX, &major) || !take_letter(&value, '.') ||
        !take_number(&value, UINT16_MAX, &minor) || *value != '\0')
        return imp_error_set(error, IMP_INVALID, "its note has no valid ABI version");
    note->abi_major = (uint16_t)major;
    note->abi_minor = (uint16_t)minor;
    return IMP_OK;
}

enum { KEY_NAME, KEY_VERSION, KEY_ABI, KEY_REQUIRES, KEY_PROVIDES, KEY_COUNT };
static const char *const KEYS[KEY_COUNT] = {"name", "version", "abi", "requires", "provides"};

/* One value into the note. `value` is a string inside of the text. */
static imp_status take_value(int key, const char *value, struct note *note, imp_error *error)
{
    size_t length = strlen(value);
    switch (key) {
    case KEY_NAME:
        if (!note_name_is_valid(value))
            return imp_error_set(error, IMP_INVALID, "its note has no valid module name");
        memcpy(note->name, value, length + 1);
        return IMP_OK;
    case KEY_VERSION:
        if (length >= sizeof(note->version) || !version_is_valid(value))
            return imp_error_set(error, IMP_INVALID, "its note has no valid module version");
        memcpy(note->version, value, length + 1);
        return IMP_OK;
    case KEY_ABI: return parse_abi(value, note, error);
    default:
        if (length >= NOTE_SERVICES_SIZE || !services_are_valid(value))
            return imp_error_set(error, IMP_INVALID,
                                 "its note has no valid list of services in \"%s\"", KEYS[key]);
        memcpy(key == KEY_REQUIRES ? note->requires : note->provides, value, length + 1);
        return IMP_OK;
    }
}

imp_status note_parse_text(const char *text, size_t length, struct note *note, imp_error *error)
{
    bool is_seen[KEY_COUNT] = {false};
    /* The last string must end inside of the text; after this every strlen below is bounded. */
    if (length == 0 || text[length - 1] != '\0')
        return imp_error_set(error, IMP_INVALID, "its note is cut off");
    for (size_t at = 0; at < length;) {
        const char *pair = text + at;
        size_t pair_length = strlen(pair);
        at += pair_length + 1;
        const char *equals = memchr(pair, '=', pair_length);
        if (equals == NULL)
            continue; /* the padding, or a word of a newer minor */
        for (int key = 0; key < KEY_COUNT; key++) {
            size_t key_length = (size_t)(equals - pair);
            if (strlen(KEYS[key]) != key_length || memcmp(pair, KEYS[key], key_length) != 0)
                continue;
            if (is_seen[key])
                return imp_error_set(error, IMP_INVALID, "its note says \"%s\" twice", KEYS[key]);
            is_seen[key] = true;
            imp_status status = take_value(key, equals + 1, note, error);
            if (status != IMP_OK)
                return status;
        }
    }
    for (int key = KEY_NAME; key <= KEY_ABI; key++)
        if (!is_seen[key])
            return imp_error_set(error, IMP_INVALID, "its note does not say \"%s\"", KEYS[key]);
    return IMP_OK;
}

/* ---- the ELF file around it ---- */

static bool read_at(const struct note_source *source, uint64_t offset, void *buffer, size_t length)
{
    if (offset > source->length || length > source->length - offset)
        return false;
    return source->read(source, offset, buffer, length);
}

static imp_status check_header(const Elf64_Ehdr *header, imp_error *error)
{
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return imp_error_set(error, IMP_INVALID, "not an ELF file");
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != HOST_DATA ||
        header->e_machine != HOST_MACHINE)
        return imp_error_set(error, IMP_INVALID, "an ELF file for another machine");
    if (header->e_type != ET_DYN)
        return imp_error_set(error, IMP_INVALID, "an ELF file, but not a shared object");
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
        header->e_phnum > PROGRAM_HEADER_MAX)
        return imp_error_set(error, IMP_INVALID, "an ELF file with damaged program headers");
    return IMP_OK;
}

struct reading {
    struct note *note;
    bool has_identity;
};

/* One note, its parts inside of the segment's bytes. */
static imp_status take_note(struct reading *reading, const char *owner, size_t owner_length,
                            uint32_t type, const char *text, size_t text_length, imp_error *error)
{
    struct note *note = reading->note;
    if (type == IMP_NOTE_TYPE && owner_length == sizeof(IMP_NOTE_OWNER) &&
        memcmp(owner, IMP_NOTE_OWNER, owner_length) == 0) {
        if (reading->has_identity)
            return imp_error_set(error, IMP_INVALID, "it has two module notes");
        if (text_length > NOTE_TEXT_MAX)
            return imp_error_set(error, IMP_INVALID, "its note is too long");
        reading->has_identity = true;
        return note_parse_text(text, text_length, note, error);
    }
    if (type == NT_GNU_BUILD_ID && owner_length == sizeof(ELF_NOTE_GNU) &&
        memcmp(owner, ELF_NOTE_GNU, owner_length) == 0 && text_length <= NOTE_BUILD_ID_MAX) {
        memcpy(note->build_id, text, text_length);
        note->build_id_length = (uint32_t)text_length;
    }
    return IMP_OK;
}

/* Walks the notes of a segment. Name and text are each padded to the segment's alignment (4; 8 only
 * in segments that say so). */
static imp_status walk_notes(struct reading *reading, const char *bytes, size_t length,
                             size_t alignment, imp_error *error)
{
    size_t at = 0;
    while (length - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr header;
        memcpy(&header, bytes + at, sizeof(header));
        at += sizeof(header);
        size_t owner_length = header.n_namesz, text_length = header.n_descsz;
        if (owner_length > length - at)
            return imp_error_set(error, IMP_INVALID, "an ELF file with damaged notes");
        const char *owner = bytes + at;
        /* Offsets count from the segment's start, whose address is aligned. */
        size_t text_at = (at + owner_length + alignment - 1) & ~(alignment - 1);
        if (text_at > length || text_length > length - text_at)
            return imp_error_set(error, IMP_INVALID, "an ELF file with damaged notes");
        imp_status status = take_note(reading, owner, owner_length, header.n_type, bytes + text_at,
                                      text_length, error);
        if (status != IMP_OK)
            return status;
        size_t next = (text_at + text_length + alignment - 1) & ~(alignment - 1);
        if (next > length)
            break;
        at = next;
    }
    return IMP_OK;
}

static imp_status read_notes(const struct note_source *source, const Elf64_Phdr *segment,
                             struct reading *reading, imp_error *error)
{
    imp_status status = IMP_OK;
    char *bytes = NULL;
    if (segment->p_filesz == 0)
        return IMP_OK;
    if (segment->p_filesz > NOTE_SEGMENT_MAX)
        return imp_error_set(error, IMP_INVALID, "an ELF file with damaged notes");
    size_t length = (size_t)segment->p_filesz;
    bytes = malloc(length);
    if (bytes == NULL)
        return imp_error_set(error, IMP_IO, "memory is short");
    if (!read_at(source, segment->p_offset, bytes, length)) {
        status = imp_error_set(error, IMP_INVALID, "an ELF file that is cut off");
        goto done;
    }
    status = walk_notes(reading, bytes, length, segment->p_align == 8 ? 8 : 4, error);
done:
    free(bytes);
    return status;
}

static imp_status read_dynamic(const struct note_source *source, const Elf64_Phdr *segment,
                               struct note *note, imp_error *error)
{
    if (segment->p_filesz > DYNAMIC_MAX)
        return imp_error_set(error, IMP_INVALID, "an ELF file with a damaged dynamic section");
    for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= segment->p_filesz; at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn row;
        if (segment->p_offset > UINT64_MAX - at ||
            !read_at(source, segment->p_offset + at, &row, sizeof(row)))
            return imp_error_set(error, IMP_INVALID, "an ELF file that is cut off");
        switch (row.d_tag) {
        case DT_NULL: return IMP_OK;
        case DT_RPATH:
        case DT_RUNPATH:
            return imp_error_set(
                error, IMP_INVALID,
                "it brings a library path (DT_RPATH or DT_RUNPATH) of its own; link "
                "it without -rpath");
        case DT_FLAGS:
            /* Static TLS never comes back when an object is unmapped: some replacements later
             * nothing could be loaded any more. */
            if ((row.d_un.d_val & DF_STATIC_TLS) != 0)
                return imp_error_set(
                    error, IMP_INVALID,
                    "it needs static thread-local storage (DF_STATIC_TLS); build it "
                    "without -ftls-model=initial-exec");
            break;
        case DT_INIT_ARRAYSZ: {
            uint64_t rows = row.d_un.d_val / sizeof(Elf64_Addr);
            note->constructor_count = rows > UINT32_MAX ? UINT32_MAX : (uint32_t)rows;
            break;
        }
        default: break;
        }
    }
    return IMP_OK;
}

imp_status note_read(const struct note_source *source, struct note *note, imp_error *error)
{
    Elf64_Ehdr header;
    struct reading reading = {.note = note};
    bool has_dynamic = false;

    memset(note, 0, sizeof(*note));
    if (source->length < SELFMAG || !read_at(source, 0, &header, sizeof(header))) {
        /* Too short for a header: say which of the two mistakes it is. */
        char magic[SELFMAG];
        if (read_at(source, 0, magic, sizeof(magic)) && memcmp(magic, ELFMAG, SELFMAG) == 0)
            return imp_error_set(error, IMP_INVALID, "an ELF file that is cut off");
        return imp_error_set(error, IMP_INVALID, "not an ELF file");
    }
    imp_status status = check_header(&header, error);
    for (uint32_t i = 0; status == IMP_OK && i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        uint64_t offset = (uint64_t)i * sizeof(segment);
        if (header.e_phoff > UINT64_MAX - offset ||
            !read_at(source, header.e_phoff + offset, &segment, sizeof(segment)))
            return imp_error_set(error, IMP_INVALID, "an ELF file that is cut off");
        if (segment.p_type == PT_NOTE) {
            status = read_notes(source, &segment, &reading, error);
        } else if (segment.p_type == PT_DYNAMIC) {
            has_dynamic = true;
            status = read_dynamic(source, &segment, note, error);
        }
    }
    if (status != IMP_OK)
        return status;
    if (!reading.has_identity)
        return imp_error_set(
            error, IMP_INVALID,
            "a shared object without a module note (IMP_MODULE_NOTE): not a module");
    if (!has_dynamic)
        return imp_error_set(error, IMP_INVALID, "an ELF file without a dynamic section");
    return IMP_OK;
}

static bool read_file(const struct note_source *source, uint64_t offset, void *buffer,
                      size_t length)
{
    char *to = buffer;
    while (length > 0) {
        ssize_t got = pread(source->fd, to, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        to += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return true;
}

imp_status note_read_file(int fd, struct note *note, imp_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return imp_error_set(error, IMP_IO, "can't be examined: %s", strerror(errno));
    struct note_source source = {
        .read = read_file, .fd = fd, .length = status.st_size < 0 ? 0 : (uint64_t)status.st_size};
    return note_read(&source, note, error);
}

static bool read_memory(const struct note_source *source, uint64_t offset, void *buffer,
                        size_t length)
{
    memcpy(buffer, (const char *)source->data + offset, length);
    return true;
}

imp_status note_read_memory(const void *data, size_t length, struct note *note, imp_error *error)
{
    struct note_source source = {.read = read_memory, .data = data, .length = length, .fd = -1};
    return note_read(&source, note, error);
}
