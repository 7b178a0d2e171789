/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-image.h - a module's file mapped into the process, and truly taken out of it again.
 *
 * glibc knows a mapped object by the path it was opened with, then by device and inode. So each image
 * is opened under a spelling of its path that no other one uses (/a/b/./x.so), and a file that was
 * overwritten in place (same inode as an image that is mapped) is refused: files are replaced by
 * rename. Libraries that a module links are pinned in the process: they keep thread keys and exit
 * handlers that outlive the module.
 */
#ifndef CORE_MODULE_IMAGE_H
#define CORE_MODULE_IMAGE_H

#include "core/module-file.h"

struct module_image {
    void *handle;             /* NULL = not mapped */
    const imp_module *symbol; /* the descriptor inside of the image */
    imp_module descriptor;    /* our copy: what an older SDK did not have is zero */
    uintptr_t start, end;     /* addresses */
    char *spelling;           /* the path as it was opened */
    uint32_t spelling_number; /* how many "./" it has */
    dev_t device;
    ino_t inode;
    bool is_kept;              /* opened so that dlclose does not unmap */
    struct module_image *next; /* of the list of mapped images */
};

/* Maps an opened file and holds its descriptor against the note that was read. Runs the file's
 * constructors, so the caller names the module in the crash record before. */
imp_status module_image_open(const struct module_file *file, bool is_kept, struct imp_self *self,
                             struct module_image *image, imp_error *error);
/* True when the image is gone; false when something keeps it mapped. Nothing of it may be used any
 * more either way. */
bool module_image_close(struct module_image *image, struct imp_self *self);

/* Frees what is known of an image that stays mapped after its close, at the end of the process. */
void module_image_forget(struct module_image *image);

/* The descriptor against the note. Pure. */
imp_status module_image_check_descriptor(const imp_module *descriptor, const struct note *note,
                                         imp_error *error);

/* An image that is gone: a program counter that strays into its place is named by it. */
struct module_epitaph {
    char name[SELF_NAME_SIZE];
    uint32_t generation;
    uintptr_t start, end;
    char build_id[2 * NOTE_BUILD_ID_MAX + 1];
};
#define MODULE_EPITAPH_MAX 32u
/* The newest epitaph whose range holds `address`, or NULL. */
const struct module_epitaph *module_epitaph_find(uintptr_t address);

#endif
