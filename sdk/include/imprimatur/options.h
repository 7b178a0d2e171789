/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - a module's settings as rows of a table.
 *
 * A module names its settings once, as const rows; the core reads the libconfig group of the
 * module's name into a fresh zeroed block of `conf_size` bytes, applies defaults, checks types,
 * ranges and choices, and refuses unknown names with file and line. The block belongs to the core;
 * the module gets it as `const void *conf` in check, start and reconfigure, and it stays valid until
 * the next reconfigure has returned (or stop), and for a call on another thread until that call has
 * returned: so a module without reconfigure may keep the pointer, and one with it may replace an
 * atomic pointer that calls load once.
 *
 *     struct lpr_conf { const char *queue_default; int64_t idle_timeout; bool host_is_proof; };
 *     static const imp_option lpr_options[] = {
 *         IMP_OPT_STRING(struct lpr_conf, queue_default, "hold", IMP_LIVE, "queue when none fits"),
 *         IMP_OPT_DURATION(struct lpr_conf, idle_timeout, "60s", "1s", "1h", IMP_LIVE, "..."),
 *         IMP_OPT_BOOL(struct lpr_conf, host_is_proof, "true", IMP_LIVE, "..."),
 *         IMP_OPT_END};
 *
 * Defaults and bounds are text in the syntax of the file, so that `config show` and the manual
 * pages print what a person would type. The setting `listen` needs no row: it belongs to the core.
 */
#ifndef IMPRIMATUR_OPTIONS_H
#define IMPRIMATUR_OPTIONS_H

#include <imprimatur/base.h>

typedef int32_t imp_option_type;
#define IMP_OPTION_END ((imp_option_type)0)
#define IMP_OPTION_BOOL ((imp_option_type)1)     /* bool; true | false */
#define IMP_OPTION_INTEGER ((imp_option_type)2)  /* int64_t; libconfig int or int64 */
#define IMP_OPTION_SIZE ((imp_option_type)3)     /* int64_t bytes; "32KiB" "1MiB" "2GiB" "500B" */
#define IMP_OPTION_DURATION ((imp_option_type)4) /* int64_t us; "50ms" "60s" "5min" "2h" "30d" */
#define IMP_OPTION_STRING ((imp_option_type)5)   /* const char *, UTF-8 without control bytes */
#define IMP_OPTION_ENUM ((imp_option_type)6)     /* int64_t index into choices "a|b|c" */
#define IMP_OPTION_STRINGS ((imp_option_type)7)  /* imp_string_list; [ "a", "b" ] */
#define IMP_OPTION_SECRET ((imp_option_type)8)   /* imp_secret; "file:PATH" "credential:NAME" ... */
#define IMP_OPTION_GROUPS ((imp_option_type)9)   /* imp_group_list; ( { ... }, { ... } ) */

/* Flags. Without IMP_LIVE a changed value needs a new generation of the module. */
#define IMP_LIVE 0x1u     /* reconfigure() takes it while running */
#define IMP_ETC_ONLY 0x2u /* can't be overlaid by API or portal (paths, rights, keys) */
#define IMP_REQUIRED 0x4u /* no default: the file must say it */

typedef struct imp_string_list {
    const char *const *items;
    uint32_t count;
} imp_string_list;

/* Elements lie one behind another, each of the row's `element_size`. */
typedef struct imp_group_list {
    const void *items;
    uint32_t count;
} imp_group_list;

/* A secret's source; the value is fetched when needed and never shown. */
typedef struct imp_secret {
    const char *source; /* "file:/etc/imprimatur/x" | "credential:NAME" | "store:NAME" | "" */
} imp_secret;

typedef struct imp_option {
    uint32_t size; /* sizeof(imp_option) of the module */
    imp_option_type type;
    uint32_t flags;
    uint32_t offset; /* in the conf struct */
    const char *name;
    const char *default_text; /* as typed in the file, without quotes; NULL with IMP_REQUIRED */
    const char *minimum;      /* INTEGER, SIZE, DURATION: bounds; NULL = none */
    const char *maximum;
    const char *choices; /* ENUM: "hold|direct" */
    const char *help;    /* one sentence; shown by `config show --help` and in the manual */
    const struct imp_option *rows; /* GROUPS: the rows of an element */
    uint32_t element_size;         /* GROUPS */
    uint32_t count_max;            /* STRINGS, GROUPS: most elements; 0 = 1,000 */
} imp_option;

/* A row fails to compile when the field's type does not fit the option's. */
#define IMP_OPT_CHECK_(conf, field, type_)                                                         \
    ((uint32_t)(offsetof(conf, field) +                                                            \
                0 * sizeof(                                                                        \
                        char[__builtin_types_compatible_p(__typeof__(((conf *)0)->field), type_)   \
                                 ? 1                                                               \
                                 : -1])))
#define IMP_OPT_(type_, ctype, conf, field, def, lo, hi, ch, flags_, help_)                        \
    {                                                                                              \
        .size = sizeof(imp_option), .type = (type_), .flags = (flags_),                            \
        .offset = IMP_OPT_CHECK_(conf, field, ctype), .name = #field, .default_text = (def),       \
        .minimum = (lo), .maximum = (hi), .choices = (ch), .help = (help_),                        \
    }
#define IMP_OPT_BOOL(conf, field, def, flags, help)                                                \
    IMP_OPT_(IMP_OPTION_BOOL, bool, conf, field, def, NULL, NULL, NULL, flags, help)
#define IMP_OPT_INTEGER(conf, field, def, lo, hi, flags, help)                                     \
    IMP_OPT_(IMP_OPTION_INTEGER, int64_t, conf, field, def, lo, hi, NULL, flags, help)
#define IMP_OPT_SIZE(conf, field, def, lo, hi, flags, help)                                        \
    IMP_OPT_(IMP_OPTION_SIZE, int64_t, conf, field, def, lo, hi, NULL, flags, help)
#define IMP_OPT_DURATION(conf, field, def, lo, hi, flags, help)                                    \
    IMP_OPT_(IMP_OPTION_DURATION, int64_t, conf, field, def, lo, hi, NULL, flags, help)
#define IMP_OPT_STRING(conf, field, def, flags, help)                                              \
    IMP_OPT_(IMP_OPTION_STRING, const char *, conf, field, def, NULL, NULL, NULL, flags, help)
#define IMP_OPT_ENUM(conf, field, choices, def, flags, help)                                       \
    IMP_OPT_(IMP_OPTION_ENUM, int64_t, conf, field, def, NULL, NULL, choices, flags, help)
#define IMP_OPT_STRINGS(conf, field, flags, help)                                                  \
    IMP_OPT_(IMP_OPTION_STRINGS, imp_string_list, conf, field, "", NULL, NULL, NULL, flags, help)
#define IMP_OPT_SECRET(conf, field, flags, help)                                                   \
    IMP_OPT_(IMP_OPTION_SECRET, imp_secret, conf, field, "", NULL, NULL, NULL, flags, help)
#define IMP_OPT_GROUPS(conf, field, element, rows_, flags_, help_)                                 \
    {                                                                                              \
        .size = sizeof(imp_option), .type = IMP_OPTION_GROUPS, .flags = (flags_),                  \
        .offset = IMP_OPT_CHECK_(conf, field, imp_group_list), .name = #field, .help = (help_),    \
        .rows = (rows_), .element_size = sizeof(element),                                          \
    }
#define IMP_OPT_END                                                                                \
    {                                                                                              \
        .size = sizeof(imp_option), .type = IMP_OPTION_END                                         \
    }

#endif
