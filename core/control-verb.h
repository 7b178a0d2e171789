/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control-verb.h - the registry of verbs, and reading a command line by a verb's row.
 *
 * Control thread only.
 */
#ifndef CORE_CONTROL_VERB_H
#define CORE_CONTROL_VERB_H

#include <imprimatur/control.h>

enum control_file { CONTROL_FILE_NONE, CONTROL_FILE_READ, CONTROL_FILE_CREATE };

/* One positional argument or option of a verb. */
struct control_parameter {
    char *name;        /* "JOB", "device" */
    char *placeholder; /* options: what stands for the value ("DEVICE"); NULL for a flag */
    bool is_option, is_required, is_repeated;
    enum control_file file;
};

struct control_verb {
    struct control_verb *next; /* sorted by words; the older generation's first */
    imp_self *self;
    char *words, *help;
    struct control_parameter *parameters; /* arguments first, in order */
    uint32_t parameter_count;
    void (*run)(imp_self *self, void *instance, imp_request *request);
};

/* First verb in order of words. */
const struct control_verb *control_verbs(void);
/* The verb whose words are the longest beginning of the command line; *used says how many words.
 * NULL when there is none. */
const struct control_verb *control_verb_find(const char *const *words, uint32_t count,
                                             uint32_t *used);
/* Fills `error` for a line that begins with no verb: what there is that begins likewise. */
void control_unknown_verb(const char *const *words, uint32_t count, imp_error *error);
/* "imprimctl job release JOB [--device DEVICE] [--card]"; the caller frees. NULL: no memory. */
char *control_verb_usage(const struct control_verb *verb);
/* True when `words` begins with the words of the line, as far as there are any. */
bool control_verb_matches(const struct control_verb *verb, const char *const *words,
                          uint32_t count);

struct control_value {
    char *name, *text;
    enum control_file file;
    int fd; /* -1 until it came */
};
struct control_values {
    struct control_value *items;
    uint32_t count;
};
/* Reads what stands behind the verb's words. IMP_INVALID with a sentence that ends in the usage. */
imp_status control_values_parse(const struct control_verb *verb, const char *const *words,
                                uint32_t count, struct control_values *values, imp_error *error);
/* Closes descriptors and frees. */
void control_values_free(struct control_values *values);
/* The index-th value of that name, or NULL. */
const struct control_value *control_values_find(const struct control_values *values,
                                                const char *name, uint32_t index);

#endif
