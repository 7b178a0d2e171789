/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include "core/module-image.h"

#include <dlfcn.h>
#include <elf.h>
#include <imprimatur/log.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crash-record.h"

/* A descriptor must at least reach here: the first release's last member. */
#define DESCRIPTOR_SIZE_MIN (offsetof(imp_module, migrate) + sizeof(((imp_module *)0)->migrate))

static struct module_image *images; /* mapped ones, zombies included; control thread */
static struct module_epitaph epitaphs[MODULE_EPITAPH_MAX];
static uint32_t epitaph_count; /* ever written */

/* ---- descriptor and note ---- */

static imp_status check_services(const char *what, const char *list, const imp_service_need *needs,
                                 const imp_service_offer *offers, imp_error *error)
{
    char name[NOTE_NAME_SIZE];
    uint32_t major;
    bool is_equal = true;
    while (is_equal && note_next_service(&list, name, &major)) {
        const char *other = needs != NULL ? needs->name : offers != NULL ? offers->name : NULL;
        uint32_t other_major = needs != NULL ? needs->major : offers != NULL ? offers->major : 0;
        is_equal = other != NULL && strcmp(other, name) == 0 && other_major == major;
        if (needs != NULL && other != NULL)
            needs++;
        if (offers != NULL && other != NULL)
            offers++;
    }
    if (!is_equal || (needs != NULL && needs->name != NULL) ||
        (offers != NULL && offers->name != NULL))
        return imp_error_set(error, IMP_INVALID, "note and descriptor differ in \"%s\"", what);
    return IMP_OK;
}

imp_status module_image_check_descriptor(const imp_module *descriptor, const struct note *note,
                                         imp_error *error)
{
    if (descriptor->size < DESCRIPTOR_SIZE_MIN)
        return imp_error_set(error, IMP_INVALID, "its descriptor is too short");
    if (descriptor->abi_major != note->abi_major || descriptor->abi_minor != note->abi_minor)
        return imp_error_set(error, IMP_INVALID, "note and descriptor differ in \"abi\"");
    if (descriptor->name == NULL || strcmp(descriptor->name, note->name) != 0)
        return imp_error_set(error, IMP_INVALID, "note and descriptor differ in \"name\"");
    if (descriptor->version == NULL || strcmp(descriptor->version, note->version) != 0)
        return imp_error_set(error, IMP_INVALID, "note and descriptor differ in \"version\"");
    imp_status status =
        check_services("requires", note->requires, descriptor->requires, NULL, error);
    if (status == IMP_OK)
        status = check_services("provides", note->provides, NULL, descriptor->provides, error);
    if (status != IMP_OK)
        return status;
    if (descriptor->start == NULL || descriptor->stop == NULL)
        return imp_error_set(error, IMP_INVALID, "its descriptor has no start or no stop");
    return IMP_OK;
}

/* ---- what the system knows of a mapped object ---- */

struct segments {
    uintptr_t base;
    uintptr_t start, end;
    const uint8_t *build_id;
    uint32_t build_id_length;
};

static void find_build_id(struct segments *found, const char *notes, size_t length)
{
    size_t at = 0;
    while (length - at >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) header;
        memcpy(&header, notes + at, sizeof(header));
        at += sizeof(header);
        size_t owner = ((size_t)header.n_namesz + 3) & ~(size_t)3;
        size_t text = ((size_t)header.n_descsz + 3) & ~(size_t)3;
        if (owner > length - at || text > length - at - owner)
            return;
        if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == sizeof(ELF_NOTE_GNU) &&
            memcmp(notes + at, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0) {
            found->build_id = (const uint8_t *)notes + at + owner;
            found->build_id_length = header.n_descsz;
        }
        at += owner + text;
    }
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct segments *found = arg;
    (void)size;
    if ((uintptr_t)info->dlpi_addr != found->base)
        return 0;
    for (uint32_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = found->base + segment->p_vaddr;
        if (segment->p_type == PT_LOAD) {
            if (found->end == 0 || start < found->start)
                found->start = start;
            if (start + segment->p_memsz > found->end)
                found->end = start + segment->p_memsz;
        } else if (segment->p_type == PT_NOTE && segment->p_align != 8) {
            find_build_id(found, (const char *)start, segment->p_memsz);
        }
    }
    return 1;
}

static void hex(char *text, const uint8_t *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", bytes[i]);
    text[2 * (size_t)length] = '\0';
}

/* ---- libraries stay ---- */

static void pin_libraries(const struct link_map *map)
{
    const char *strings = NULL;
    for (const ElfW(Dyn) *row = map->l_ld; row->d_tag != DT_NULL; row++)
        if (row->d_tag == DT_STRTAB)
            strings = (const char *)row->d_un.d_ptr; /* glibc has made an address of it */
    for (const ElfW(Dyn) *row = map->l_ld; strings != NULL && row->d_tag != DT_NULL; row++) {
        if (row->d_tag != DT_NEEDED)
            continue;
        /* What a pinned library needs is kept with it. */
        void *library = dlopen(strings + row->d_un.d_val, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
        if (library != NULL)
            dlclose(library);
    }
}

/* ---- map and unmap ---- */

/* "/a/b/x.so" with `number` times "./" in front of the file's name. */
static char *spell(const char *path, uint32_t number)
{
    const char *name = strrchr(path, '/') + 1;
    size_t folder = (size_t)(name - path);
    char *spelling = malloc(strlen(path) + 2 * (size_t)number + 1);
    if (spelling == NULL)
        return NULL;
    memcpy(spelling, path, folder);
    for (uint32_t i = 0; i < number; i++)
        memcpy(spelling + folder + 2 * (size_t)i, "./", 2);
    memcpy(spelling + folder + 2 * (size_t)number, name, strlen(name) + 1);
    return spelling;
}

static imp_status choose_spelling(const struct module_file *file, struct module_image *image,
                                  imp_error *error)
{
    uint32_t number = 0;
    for (;;) {
        struct module_image *other = images;
        image->spelling = spell(file->path, number);
        if (image->spelling == NULL)
            return imp_error_set(error, IMP_LIMIT, "memory is short");
        while (other != NULL && strcmp(other->spelling, image->spelling) != 0)
            other = other->next;
        if (other == NULL)
            break;
        free(image->spelling);
        number++;
    }
    image->spelling_number = number;
    return IMP_OK;
}

static imp_status check_not_mapped(const struct module_file *file, imp_error *error)
{
    for (struct module_image *other = images; other != NULL; other = other->next)
        if (other->device == file->device && other->inode == file->inode)
            return imp_error_set(error, IMP_EXISTS,
                                 "%s is mapped already: it was overwritten in place; install "
                                 "modules by rename",
                                 file->path);
    return IMP_OK;
}

static imp_status check_build_id(const struct module_file *file, const struct segments *segments,
                                 imp_error *error)
{
    if (file->note.build_id_length != segments->build_id_length ||
        (segments->build_id_length != 0 &&
         memcmp(file->note.build_id, segments->build_id, segments->build_id_length) != 0))
        return imp_error_set(error, IMP_INVALID, "%s changed while it was being loaded",
                             file->path);
    return IMP_OK;
}

static imp_status take_descriptor(const struct module_file *file, struct module_image *image,
                                  imp_error *error)
{
    const imp_module *symbol = dlsym(image->handle, "imp_module");
    imp_error reason;
    uint32_t size;
    /* A library that the module links might have one as well. */
    if (symbol == NULL || (uintptr_t)symbol < image->start || (uintptr_t)symbol >= image->end)
        return imp_error_set(error, IMP_INVALID,
                             "%s exports no descriptor (imp_module): it lacks IMP_MODULE, or hides "
                             "it",
                             file->path);
    memcpy(&size, symbol, sizeof(size));
    memset(&image->descriptor, 0, sizeof(image->descriptor));
    memcpy(&image->descriptor, symbol,
           size < sizeof(image->descriptor) ? size : sizeof(image->descriptor));
    image->symbol = symbol;
    if (module_image_check_descriptor(&image->descriptor, &file->note, &reason) != IMP_OK)
        return imp_error_set(error, reason.status, "%s: %s", file->path, reason.message);
    return IMP_OK;
}

/* A new image may lie where an old one lay. */
static void drop_epitaphs(uintptr_t start, uintptr_t end)
{
    for (uint32_t i = 0; i < MODULE_EPITAPH_MAX; i++)
        if (epitaphs[i].start < end && epitaphs[i].end > start) {
            crash_image_remove(epitaphs[i].start);
            epitaphs[i] = (struct module_epitaph){.start = 0};
        }
}

imp_status module_image_open(const struct module_file *file, bool is_kept, struct imp_self *self,
                             struct module_image *image, imp_error *error)
{
    struct segments segments = {.base = 0};
    struct link_map *map = NULL;

    *image = (struct module_image){.device = file->device, .inode = file->inode};
    imp_status status = check_not_mapped(file, error);
    if (status != IMP_OK)
        return status;
    status = choose_spelling(file, image, error);
    if (status != IMP_OK)
        return status;
    image->is_kept = is_kept;
    image->handle = dlopen(image->spelling, RTLD_NOW | RTLD_LOCAL | (is_kept ? RTLD_NODELETE : 0));
    if (image->handle == NULL) {
        const char *reason = dlerror();
        status = imp_error_set(error, IMP_INVALID, "%s",
                               reason != NULL ? reason : "the file can't be mapped");
        goto failed;
    }
    for (struct module_image *other = images; other != NULL; other = other->next)
        if (other->handle == image->handle) {
            status = imp_error_set(error, IMP_EXISTS, "%s is mapped already", file->path);
            goto failed;
        }
    if (dlinfo(image->handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) {
        status = imp_error_set(error, IMP_INVALID, "%s has no link map", file->path);
        goto failed;
    }
    segments.base = (uintptr_t)map->l_addr;
    dl_iterate_phdr(look_at_object, &segments);
    image->start = segments.start;
    image->end = segments.end;
    status = check_build_id(file, &segments, error);
    if (status == IMP_OK)
        status = take_descriptor(file, image, error);
    if (status != IMP_OK)
        goto failed;
    pin_libraries(map);
    drop_epitaphs(image->start, image->end);
    crash_image_add(&self->crash, image->start, image->end);
    image->next = images;
    images = image;
    return IMP_OK;

failed:
    if (image->handle != NULL)
        dlclose(image->handle);
    free(image->spelling);
    *image = (struct module_image){.handle = NULL};
    return status;
}

static void write_epitaph(const struct module_image *image, const struct imp_self *self,
                          const uint8_t *build_id, uint32_t build_id_length)
{
    struct module_epitaph *epitaph = &epitaphs[epitaph_count++ % MODULE_EPITAPH_MAX];
    struct crash_module name;
    if (epitaph->start != 0)
        crash_image_remove(epitaph->start);
    *epitaph = (struct module_epitaph){
        .generation = self->generation, .start = image->start, .end = image->end};
    memcpy(epitaph->name, self->name, sizeof(epitaph->name));
    hex(epitaph->build_id, build_id, build_id_length);
    /* So that the fault handler, which knows ranges only, can say it as well. */
    char text[SELF_NAME_SIZE + sizeof("-unloaded")];
    snprintf(text, sizeof(text), "%.*s-unloaded", (int)(CRASH_MODULE_SIZE - sizeof("-unloaded")),
             self->name);
    crash_module_set(&name, text, self->generation);
    crash_image_add(&name, image->start, image->end);
}

bool module_image_close(struct module_image *image, struct imp_self *self)
{
    uint8_t build_id[NOTE_BUILD_ID_MAX];
    struct link_map *map = NULL;
    struct segments segments = {.base = 0};
    uint32_t build_id_length = 0;

    if (image->handle == NULL)
        return true;
    if (dlinfo(image->handle, RTLD_DI_LINKMAP, &map) == 0 && map != NULL) {
        segments.base = (uintptr_t)map->l_addr;
        dl_iterate_phdr(look_at_object, &segments);
        if (segments.build_id_length <= sizeof(build_id))
            build_id_length = segments.build_id_length;
        if (build_id_length > 0)
            memcpy(build_id, segments.build_id, build_id_length);
    }
    dlclose(image->handle);
    void *still = dlopen(image->spelling, RTLD_LAZY | RTLD_NOLOAD);
    if (still != NULL) {
        /* It stays in the list, so that nothing else takes its spelling or inode. */
        dlclose(still);
        return image->is_kept;
    }
    crash_image_remove(image->start);
    write_epitaph(image, self, build_id, build_id_length);
    module_image_forget(image);
    return true;
}

void module_image_forget(struct module_image *image)
{
    for (struct module_image **at = &images; *at != NULL; at = &(*at)->next)
        if (*at == image) {
            *at = image->next;
            break;
        }
    free(image->spelling);
    *image = (struct module_image){.handle = NULL};
}

const struct module_epitaph *module_epitaph_find(uintptr_t address)
{
    const struct module_epitaph *found = NULL;
    for (uint32_t i = 0; i < MODULE_EPITAPH_MAX; i++) {
        const struct module_epitaph *row = &epitaphs[i];
        if (row->start != 0 && address >= row->start && address < row->end &&
            (found == NULL || row->generation > found->generation))
            found = row;
    }
    return found;
}
