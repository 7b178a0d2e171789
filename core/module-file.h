/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module-file.h - a module's file on disk: whose it is, and what its note says.
 *
 * Code of such a file runs with all of the server's keys at hand, so the file and every folder above
 * it must belong to root and be writable by nobody else. A folder with the sticky bit (/tmp) passes:
 * there only root can replace what belongs to root. With `developer = true` our own user counts as
 * root does; that is refused while we run as root, and for files in the installed place.
 */
#ifndef CORE_MODULE_FILE_H
#define CORE_MODULE_FILE_H

#include <sys/types.h>

#include "core/module.h"
#include "core/note.h"

struct module_file {
    int fd;     /* open until module_file_close; -1 = none */
    char *path; /* canonical: no symbolic link in it */
    dev_t device;
    ino_t inode;
    int64_t size, modified_us;
    struct note note;
};

/* Whether `developer` may be what it is: IMP_DENIED with the reason. */
imp_status module_file_check_developer(const struct module_settings *settings, imp_error *error);
/* Opens MODULE_DIR/NAME.so without following links, checks owners and modes, reads the note and holds
 * it against the name and the ABI of this core. */
imp_status module_file_open(const struct module_settings *settings, const char *name,
                            struct module_file *file, imp_error *error);
void module_file_close(struct module_file *file);

/* The version rule: same major, minor at most the core's. Pure. */
imp_status module_file_check_abi(uint16_t major, uint16_t minor, imp_error *error);

#endif
