/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.h - what a module is: one exported const descriptor and an ELF note that repeats its
 * identity, so that the loader knows what a file is before any code of it runs.
 *
 *     IMP_MODULE(.summary = "LPD intake (RFC 1179)", .options = lpr_options,
 *                .conf_size = sizeof(struct lpr_conf), .check = lpr_check, .start = lpr_start,
 *                .reconfigure = lpr_reconfigure, .drain = lpr_drain, .stop = lpr_stop,
 *                .name = "lpr", .version = "1.0.0",
 *                .requires = IMP_REQUIRES(IMP_JOBS_V1, IMP_DEVICES_V1));
 *     IMP_MODULE_NOTE("lpr", "1.0.0", "jobs/1 devices/1", "");
 *
 * Rules for a module's file: no constructors, no static mutable data, no thread keys, atexit
 * handlers or thread-local destructors, hidden visibility, no RPATH; undefined symbols are only
 * those of libimprimatur.so.1 and of the libraries it links.
 *
 * Life: found -> verified -> mapped -> started -> draining -> stopped -> unmapped; failed and
 * zombie beside it. check, start, reconfigure, drain and stop run on the control thread, and each
 * has a time limit (`module_start_timeout`, `module_stop_timeout`).
 */
#ifndef IMPRIMATUR_MODULE_H
#define IMPRIMATUR_MODULE_H

#include <imprimatur/base.h>
#include <imprimatur/options.h>
#include <imprimatur/store.h>

#define IMP_ABI_MAJOR 1
#define IMP_ABI_MINOR 0

typedef struct imp_loop imp_loop;

/* A service that a module calls: name and major version. */
typedef struct imp_service_need {
    const char *name; /* NULL ends the list */
    uint32_t major;
} imp_service_need;

/* A service that a module offers. `vtable` starts with a uint32_t `size`; each of its functions
 * takes the provider's imp_self first. */
typedef struct imp_service_offer {
    const char *name; /* NULL ends the list */
    uint32_t major;
    const void *vtable;
} imp_service_offer;

#define IMP_REQUIRES(...) ((const imp_service_need[]){__VA_ARGS__, {NULL, 0}})
#define IMP_PROVIDES(...) ((const imp_service_offer[]){__VA_ARGS__, {NULL, 0, NULL}})

typedef struct imp_module {
    uint32_t size; /* sizeof(imp_module) at build time; the core reads no further */
    uint16_t abi_major, abi_minor;
    const char *name;    /* [a-z][a-z0-9-]*, at most 31 */
    const char *version; /* MAJOR.MINOR.PATCH */
    const char *summary;
    const imp_service_need *requires; /* must be there before start */
    const imp_service_need *wants;    /* used when there; else calls answer IMP_UNAVAILABLE */
    const imp_service_offer *provides;
    const imp_option *options;
    uint64_t conf_size;
    const imp_table_spec *tables;

    /* Pure: looks at settings alone, touches nothing. Optional. */
    imp_status (*check)(const void *conf, imp_error *error);
    /* Makes the instance and registers everything it offers. What it registered before an error is
     * swept by the core; what it allocated it frees itself. Required. */
    imp_status (*start)(imp_self *self, const void *conf, void **instance, imp_error *error);
    /* Takes live settings that check has passed; can't fail. Optional. */
    void (*reconfigure)(imp_self *self, void *instance, const void *conf);
    /* No new work comes from now on; finish what is there. Optional. */
    void (*drain)(imp_self *self, void *instance);
    /* Frees the instance; after it returns nothing may refer to the module's code. Required. */
    void (*stop)(imp_self *self, void *instance);
    /* Called once on every loop after start and before stop. Optional. */
    imp_status (*loop_enter)(imp_self *self, void *instance, imp_loop *loop, imp_error *error);
    void (*loop_leave)(imp_self *self, void *instance, imp_loop *loop);
    /* Brings one of its tables from schema `from` to `from + 1`, in the transaction that start runs
     * in front of start(). Required when a table's schema is over 1. */
    imp_status (*migrate)(imp_self *self, imp_tx *tx, const imp_table_spec *table, uint32_t from,
                          imp_error *error);
} imp_module;

#define IMP_MODULE(...)                                                                            \
    extern const imp_module imp_module_descriptor __asm__("imp_module");                           \
    __attribute__((visibility("default"), used))                                                   \
    const imp_module imp_module_descriptor = {.size = sizeof(imp_module),                          \
                                              .abi_major = IMP_ABI_MAJOR,                          \
                                              .abi_minor = IMP_ABI_MINOR,                          \
                                              __VA_ARGS__}

#define IMP_NOTE_OWNER "Imprimatur"
#define IMP_NOTE_TYPE 1
#define IMP_STRING_(x) #x
#define IMP_STRING(x) IMP_STRING_(x)
/* Clang's AddressSanitizer would put a red zone behind the note, into the middle of the section. */
#ifdef __clang__
#define IMP_NOTE_PLACE_                                                                            \
    __attribute__((section(".note.imprimatur"), used, aligned(4), no_sanitize("address")))
#else
#define IMP_NOTE_PLACE_ __attribute__((section(".note.imprimatur"), used, aligned(4)))
#endif
#define IMP_NOTE_TEXT_(name, version, requires_, provides_)                                        \
    "name=" name "\0version=" version                                                              \
    "\0abi=" IMP_STRING(IMP_ABI_MAJOR) "." IMP_STRING(IMP_ABI_MINOR) "\0requires=" requires_       \
                                                                     "\0provides=" provides_ "\0"

/* The identity as an ELF note (section .note.imprimatur, owner "Imprimatur", type 1; the descriptor
 * holds NUL-separated key=value). requires and provides are "service/MAJOR" separated by blanks. The
 * loader refuses a file whose note and descriptor differ. */
#define IMP_MODULE_NOTE(name, version, requires_, provides_)                                       \
    static const struct {                                                                          \
        uint32_t owner_size, text_size, type;                                                      \
        char owner[12];                                                                            \
        char text[sizeof(IMP_NOTE_TEXT_(name, version, requires_, provides_))];                    \
    } imp_module_note IMP_NOTE_PLACE_ = {                                                          \
        sizeof IMP_NOTE_OWNER, sizeof(IMP_NOTE_TEXT_(name, version, requires_, provides_)),        \
        IMP_NOTE_TYPE, IMP_NOTE_OWNER, IMP_NOTE_TEXT_(name, version, requires_, provides_)}

#endif
