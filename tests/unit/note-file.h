/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note-file.h - the smallest file that the note reader takes, made in memory: an ELF header, two program
 * headers, a build id and a module note, a dynamic section of three rows.
 */
#ifndef TESTS_NOTE_FILE_H
#define TESTS_NOTE_FILE_H

#include <elf.h>
#include <imprimatur/module.h>
#include <stdint.h>
#include <string.h>

#define NOTE_FILE_TEXT "name=lpr\0version=1.2.3\0abi=1.0\0requires=jobs/1 devices/2\0provides=\0"
#define NOTE_FILE_SIZE 1024
#define NOTE_FILE_NOTES 0 /* program headers */
#define NOTE_FILE_DYNAMIC 1

struct note_file {
    size_t length;
    _Alignas(16) uint8_t bytes[NOTE_FILE_SIZE];
};

static inline Elf64_Ehdr *note_file_header(struct note_file *file)
{
    return (Elf64_Ehdr *)(void *)file->bytes;
}

static inline Elf64_Phdr *note_file_segment(struct note_file *file, int index)
{
    return (Elf64_Phdr *)(void *)(file->bytes + sizeof(Elf64_Ehdr)) + index;
}

static inline Elf64_Dyn *note_file_dynamic(struct note_file *file)
{
    return (Elf64_Dyn *)(void *)(file->bytes +
                                 note_file_segment(file, NOTE_FILE_DYNAMIC)->p_offset);
}

static inline size_t note_file_add(struct note_file *file, size_t at, uint32_t type,
                                   const char *owner, const void *text, size_t length)
{
    Elf64_Nhdr header = {
        .n_namesz = (uint32_t)strlen(owner) + 1, .n_descsz = (uint32_t)length, .n_type = type};
    memcpy(file->bytes + at, &header, sizeof(header));
    at += sizeof(header);
    memcpy(file->bytes + at, owner, strlen(owner) + 1);
    at += (strlen(owner) + 1 + 3) & ~(size_t)3;
    memcpy(file->bytes + at, text, length);
    return at + ((length + 3) & ~(size_t)3);
}

static inline void note_file_make_sized(struct note_file *file, const char *text, size_t length)
{
    Elf64_Ehdr *header = note_file_header(file);
    memset(file, 0, sizeof(*file));
    memcpy(header->e_ident, ELFMAG, SELFMAG);
    header->e_ident[EI_CLASS] = ELFCLASS64;
    header->e_ident[EI_DATA] =
        __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    header->e_type = ET_DYN;
#if defined(__aarch64__)
    header->e_machine = EM_AARCH64;
#elif defined(__riscv)
    header->e_machine = EM_RISCV;
#elif defined(__powerpc64__)
    header->e_machine = EM_PPC64;
#elif defined(__s390x__)
    header->e_machine = EM_S390;
#else
    header->e_machine = EM_X86_64;
#endif
    header->e_phoff = sizeof(*header);
    header->e_phentsize = sizeof(Elf64_Phdr);
    header->e_phnum = 2;

    size_t notes = sizeof(*header) + 2 * sizeof(Elf64_Phdr);
    size_t at = note_file_add(file, notes, NT_GNU_BUILD_ID, ELF_NOTE_GNU, "\x01\x02\x03\x04", 4);
    at = note_file_add(file, at, IMP_NOTE_TYPE, IMP_NOTE_OWNER, text, length);
    *note_file_segment(file, NOTE_FILE_NOTES) =
        (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = notes, .p_filesz = at - notes, .p_align = 4};
    at = (at + 7) & ~(size_t)7;
    *note_file_segment(file, NOTE_FILE_DYNAMIC) = (Elf64_Phdr){
        .p_type = PT_DYNAMIC, .p_offset = at, .p_filesz = 3 * sizeof(Elf64_Dyn), .p_align = 8};
    Elf64_Dyn *dynamic = note_file_dynamic(file);
    dynamic[0] = (Elf64_Dyn){.d_tag = DT_NEEDED};
    dynamic[1] = (Elf64_Dyn){.d_tag = DT_INIT_ARRAYSZ, .d_un.d_val = sizeof(Elf64_Addr)};
    dynamic[2] = (Elf64_Dyn){.d_tag = DT_NULL};
    file->length = at + 3 * sizeof(Elf64_Dyn);
}
#define note_file_make(file, text) note_file_make_sized((file), (text), sizeof(text))

#endif
