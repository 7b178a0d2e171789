/* SPDX-License-Identifier: Apache-2.0 */
/* A module's note is read from whole and from damaged files, and nothing of a damaged one is believed. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* after the headers above */
#include <cmocka.h>
#include <imprimatur/module.h>

#include "core/note.h"
#include "note-file.h"

static void a_whole_file_gives_its_identity(void **state)
{
    struct note_file file;
    struct note note;
    imp_error error;
    (void)state;
    note_file_make(&file, NOTE_FILE_TEXT);
    assert_int_equal(note_read_memory(file.bytes, file.length, &note, &error), IMP_OK);
    assert_string_equal(note.name, "lpr");
    assert_string_equal(note.version, "1.2.3");
    assert_int_equal(note.abi_major, 1);
    assert_int_equal(note.abi_minor, 0);
    assert_string_equal(note.requires, "jobs/1 devices/2");
    assert_string_equal(note.provides, "");
    assert_int_equal(note.build_id_length, 4);
    assert_memory_equal(note.build_id, "\x01\x02\x03\x04", 4);
    assert_int_equal(note.constructor_count, 1);
}

static void services_come_off_the_list_one_by_one(void **state)
{
    const char *list = "jobs/1 devices/2";
    char name[NOTE_NAME_SIZE];
    uint32_t major;
    (void)state;
    assert_true(note_next_service(&list, name, &major));
    assert_string_equal(name, "jobs");
    assert_int_equal(major, 1);
    assert_true(note_next_service(&list, name, &major));
    assert_string_equal(name, "devices");
    assert_int_equal(major, 2);
    assert_false(note_next_service(&list, name, &major));
}

struct refused {
    const char *text;
    size_t length; /* 0: strlen and NUL */
    const char *message;
};
#define TEXT(t) t, sizeof(t)

static void a_note_that_says_nonsense_is_refused(void **state)
{
    static const struct refused rows[] = {
        {TEXT("name=lpr\0version=1.0.0"), "its note does not say \"abi\""},
        {TEXT("version=1.0.0\0abi=1.0"), "its note does not say \"name\""},
        {TEXT("name=Lpr\0version=1.0.0\0abi=1.0"), "its note has no valid module name"},
        {TEXT("name=../x\0version=1.0.0\0abi=1.0"), "its note has no valid module name"},
        {TEXT("name=\0version=1.0.0\0abi=1.0"), "its note has no valid module name"},
        {TEXT("name=lpr\0version=1.0\0abi=1.0"), "its note has no valid module version"},
        {TEXT("name=lpr\0version=01.0.0\0abi=1.0"), "its note has no valid module version"},
        {TEXT("name=lpr\0version=1.0.0\0abi=1"), "its note has no valid ABI version"},
        {TEXT("name=lpr\0version=1.0.0\0abi=99999.0"), "its note has no valid ABI version"},
        {TEXT("name=lpr\0name=raw\0version=1.0.0\0abi=1.0"), "its note says \"name\" twice"},
        {TEXT("name=lpr\0version=1.0.0\0abi=1.0\0requires=jobs"),
         "its note has no valid list of services in \"requires\""},
        {TEXT("name=lpr\0version=1.0.0\0abi=1.0\0provides=jobs/1x"),
         "its note has no valid list of services in \"provides\""},
        {"name=lpr", 8, "its note is cut off"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct note note;
        imp_error error;
        memset(&note, 0, sizeof(note));
        assert_int_equal(note_parse_text(rows[i].text, rows[i].length, &note, &error), IMP_INVALID);
        assert_string_equal(error.message, rows[i].message);
    }
}

static void words_of_a_newer_minor_are_passed_over(void **state)
{
    static const char text[] = "name=lpr\0version=1.0.0\0abi=1.0\0colour=blue\0flag";
    struct note note;
    (void)state;
    memset(&note, 0, sizeof(note));
    assert_int_equal(note_parse_text(text, sizeof(text), &note, NULL), IMP_OK);
}

static void expect(const struct note_file *file, const char *message)
{
    struct note note;
    imp_error error;
    assert_int_equal(note_read_memory(file->bytes, file->length, &note, &error), IMP_INVALID);
    assert_string_equal(error.message, message);
}

static void what_is_no_module_is_told_apart(void **state)
{
    struct note_file file;
    (void)state;
    file.length = 12;
    memcpy(file.bytes, "#!/bin/true\n", 12);
    expect(&file, "not an ELF file");

    note_file_make(&file, NOTE_FILE_TEXT);
    file.length = 20;
    expect(&file, "an ELF file that is cut off");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_header(&file)->e_machine = EM_386;
    expect(&file, "an ELF file for another machine");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_header(&file)->e_ident[EI_CLASS] = ELFCLASS32;
    expect(&file, "an ELF file for another machine");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_header(&file)->e_type = ET_EXEC;
    expect(&file, "an ELF file, but not a shared object");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_header(&file)->e_phoff = UINT64_MAX - 8;
    expect(&file, "an ELF file that is cut off");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_segment(&file, NOTE_FILE_NOTES)->p_type = PT_NULL;
    expect(&file, "a shared object without a module note (IMP_MODULE_NOTE): not a module");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_segment(&file, NOTE_FILE_NOTES)->p_filesz = UINT64_C(1) << 40;
    expect(&file, "an ELF file with damaged notes");

    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_segment(&file, NOTE_FILE_NOTES)->p_offset = UINT64_MAX;
    expect(&file, "an ELF file that is cut off");

    note_file_make(&file, NOTE_FILE_TEXT);
    *note_file_segment(&file, NOTE_FILE_DYNAMIC) = *note_file_segment(&file, NOTE_FILE_NOTES);
    expect(&file, "it has two module notes");
}

static void what_could_never_be_unloaded_is_refused(void **state)
{
    struct note_file file;
    (void)state;
    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_dynamic(&file)[0] = (Elf64_Dyn){.d_tag = DT_RUNPATH};
    expect(&file, "it brings a library path (DT_RPATH or DT_RUNPATH) of its own; link it without "
                  "-rpath");
    note_file_make(&file, NOTE_FILE_TEXT);
    note_file_dynamic(&file)[0] = (Elf64_Dyn){.d_tag = DT_FLAGS, .d_un.d_val = DF_STATIC_TLS};
    expect(&file, "it needs static thread-local storage (DF_STATIC_TLS); build it without "
                  "-ftls-model=initial-exec");
}

/* Any length of a whole file, and any one byte of it changed: an answer, and no access outside (the
 * copy has exactly the length, for the sanitizers). */
static void every_cut_and_every_wrong_byte_ends_well(void **state)
{
    struct note_file file;
    struct note note;
    (void)state;
    note_file_make(&file, NOTE_FILE_TEXT);
    for (size_t length = 0; length <= file.length; length++) {
        uint8_t *copy = malloc(length + 1);
        assert_non_null(copy);
        memcpy(copy, file.bytes, length);
        imp_status status = note_read_memory(copy, length, &note, NULL);
        assert_true(length == file.length ? status == IMP_OK : status == IMP_INVALID);
        free(copy);
    }
    for (size_t at = 0; at < file.length; at++)
        for (unsigned value = 0; value < 256; value += 51) {
            struct note_file changed = file;
            changed.bytes[at] = (uint8_t)value;
            (void)note_read_memory(changed.bytes, changed.length, &note, NULL);
            assert_true(memchr(note.name, '\0', sizeof(note.name)) != NULL);
        }
}

static void a_file_that_can_not_be_read_says_so(void **state)
{
    struct note note;
    imp_error error;
    (void)state;
    assert_int_equal(note_read_file(-1, &note, &error), IMP_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file_gives_its_identity),
        cmocka_unit_test(services_come_off_the_list_one_by_one),
        cmocka_unit_test(a_note_that_says_nonsense_is_refused),
        cmocka_unit_test(words_of_a_newer_minor_are_passed_over),
        cmocka_unit_test(what_is_no_module_is_told_apart),
        cmocka_unit_test(what_could_never_be_unloaded_is_refused),
        cmocka_unit_test(every_cut_and_every_wrong_byte_ends_well),
        cmocka_unit_test(a_file_that_can_not_be_read_says_so),
    };
    return cmocka_run_group_tests_name("note", tests, NULL, NULL);
}
