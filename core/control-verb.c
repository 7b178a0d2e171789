/* SPDX-License-Identifier: Apache-2.0 */
/* control-verb.c - see control-verb.h. */
#include "build-config.h"

#include "core/control-verb.h"
#include "core/control.h"
#include "core/self.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARAMETERS_MAX 64u /* of one verb; rows are code */

static struct control_verb *verbs;

const struct control_verb *control_verbs(void)
{
    return verbs;
}

/* ---- a verb's row ---- */

static void verb_free(struct control_verb *verb)
{
    if (verb == NULL)
        return;
    for (uint32_t i = 0; i < verb->parameter_count; i++) {
        free(verb->parameters[i].name);
        free(verb->parameters[i].placeholder);
    }
    free(verb->parameters);
    free(verb->words);
    free(verb->help);
    free(verb);
}

/* "<FILE" and ">FILE" are files; what is left is the name. */
static const char *take_file_mark(const char *text, enum control_file *file)
{
    *file = *text == '<'   ? CONTROL_FILE_READ
            : *text == '>' ? CONTROL_FILE_CREATE
                           : CONTROL_FILE_NONE;
    return *file == CONTROL_FILE_NONE ? text : text + 1;
}

/* "JOB", "[JOB]", "<FILE", "NAME...", "[NAME...]". */
static bool parse_argument(const char *word, size_t length, struct control_parameter *parameter)
{
    parameter->is_required = true;
    if (length > 2 && word[0] == '[' && word[length - 1] == ']') {
        parameter->is_required = false;
        word++;
        length -= 2;
    }
    const char *name = take_file_mark(word, &parameter->file);
    length -= (size_t)(name - word);
    if (length > 3 && memcmp(name + length - 3, "...", 3) == 0) {
        parameter->is_repeated = true;
        length -= 3;
    }
    parameter->name = strndup(name, length);
    return parameter->name != NULL && length > 0;
}

/* "device=DEVICE", "out=>FILE", "card". */
static bool parse_option(const char *word, size_t length, struct control_parameter *parameter)
{
    const char *equals = memchr(word, '=', length);
    parameter->is_option = true;
    parameter->is_repeated = true; /* the same option may be given several times */
    parameter->name = strndup(word, equals == NULL ? length : (size_t)(equals - word));
    if (parameter->name == NULL || *parameter->name == '\0')
        return false;
    if (equals == NULL)
        return true;
    const char *value = take_file_mark(equals + 1, &parameter->file);
    parameter->placeholder = strndup(value, (size_t)(word + length - value));
    return parameter->placeholder != NULL;
}

static bool parse_parameters(struct control_verb *verb, const char *text,
                             bool (*parse)(const char *word, size_t length,
                                           struct control_parameter *parameter))
{
    for (const char *p = text == NULL ? "" : text; *p != '\0';) {
        p += strspn(p, " ");
        size_t length = strcspn(p, " ");
        if (length == 0)
            break;
        if (verb->parameter_count == PARAMETERS_MAX)
            return false;
        struct control_parameter *parameter = &verb->parameters[verb->parameter_count++];
        if (!parse(p, length, parameter))
            return false;
        p += length;
    }
    return true;
}

static bool words_are_valid(const char *words)
{
    size_t length = strlen(words);
    return length > 0 && length < 128 && words[0] != ' ' && words[length - 1] != ' ' &&
           strstr(words, "  ") == NULL &&
           strspn(words, "abcdefghijklmnopqrstuvwxyz0123456789- ") == length;
}

imp_status imp_verb_add(imp_self *self, const imp_verb_spec *spec, imp_error *error)
{
    if (spec->words == NULL || !words_are_valid(spec->words) || spec->run == NULL)
        return imp_error_set(error, IMP_INVALID, "a verb needs words in lower case and a function");
    struct control_verb **place = &verbs;
    for (; *place != NULL; place = &(*place)->next) {
        int order = strcmp((*place)->words, spec->words);
        if (order > 0)
            break;
        /* The next generation of a module registers beside the one that still runs; that one's verb
         * stands in front until it is swept. */
        imp_self *owner = (*place)->self;
        if (order == 0 && (owner == NULL || self == NULL || owner == self ||
                           strcmp(owner->name, self->name) != 0))
            return imp_error_set(error, IMP_EXISTS, "the verb \"%s\" is taken by %s", spec->words,
                                 owner == NULL ? "the core" : owner->name);
    }
    struct control_verb *verb = calloc(1, sizeof *verb);
    if (verb == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    verb->self = self;
    verb->run = spec->run;
    verb->words = strdup(spec->words);
    verb->help = strdup(spec->help == NULL ? "" : spec->help);
    verb->parameters = calloc(PARAMETERS_MAX, sizeof *verb->parameters);
    if (verb->words == NULL || verb->help == NULL || verb->parameters == NULL ||
        !parse_parameters(verb, spec->arguments, parse_argument) ||
        !parse_parameters(verb, spec->options, parse_option)) {
        verb_free(verb);
        return imp_error_set(error, IMP_INVALID,
                             "the verb \"%s\": its arguments or options can't be read",
                             spec->words);
    }
    verb->next = *place;
    *place = verb;
    return IMP_OK;
}

static void remove_verbs(const imp_self *self, bool are_all)
{
    for (struct control_verb **place = &verbs; *place != NULL;) {
        struct control_verb *verb = *place;
        if (!are_all && verb->self != self) {
            place = &verb->next;
            continue;
        }
        *place = verb->next;
        verb_free(verb);
    }
}

void control_sweep(const imp_self *self)
{
    if (self != NULL)
        remove_verbs(self, false);
}

void control_clear(void)
{
    remove_verbs(NULL, true);
}

/* ---- finding ---- */

/* How many words of the line the verb's words are; 0 when the line does not begin with them. */
static uint32_t words_matched(const char *verb_words, const char *const *words, uint32_t count)
{
    uint32_t used = 0;
    for (const char *p = verb_words; *p != '\0';) {
        size_t length = strcspn(p, " ");
        if (used == count || strlen(words[used]) != length || memcmp(words[used], p, length) != 0)
            return 0;
        used++;
        p += length;
        p += *p == ' ';
    }
    return used;
}

const struct control_verb *control_verb_find(const char *const *words, uint32_t count,
                                             uint32_t *used)
{
    const struct control_verb *best = NULL;
    *used = 0;
    for (const struct control_verb *verb = verbs; verb != NULL; verb = verb->next) {
        uint32_t matched = words_matched(verb->words, words, count);
        if (matched > *used) {
            *used = matched;
            best = verb;
        }
    }
    return best;
}

bool control_verb_matches(const struct control_verb *verb, const char *const *words, uint32_t count)
{
    const char *p = verb->words;
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strcspn(p, " ");
        if (length == 0 || strlen(words[i]) != length || memcmp(words[i], p, length) != 0)
            return false;
        p += length;
        p += *p == ' ';
    }
    return true;
}

void control_unknown_verb(const char *const *words, uint32_t count, imp_error *error)
{
    char list[IMP_ERROR_MESSAGE_MAX] = "";
    size_t used = 0;
    if (count > 0)
        for (const struct control_verb *verb = verbs; verb != NULL; verb = verb->next)
            if (control_verb_matches(verb, words, 1) && used + strlen(verb->words) + 3 < 160) {
                int length = snprintf(list + used, sizeof list - used, "%s%s",
                                      used == 0 ? "" : ", ", verb->words);
                used += length < 0 ? 0 : (size_t)length;
            }
    if (used > 0)
        imp_error_set(error, IMP_INVALID, "no such command: %s %s; there is: %s", words[0],
                      count > 1 ? words[1] : "", list);
    else
        imp_error_set(
            error, IMP_INVALID, "%s%s; see: imprimctl help",
            count == 0 ? "no command was given" : "no such command: ", count == 0 ? "" : words[0]);
}

char *control_verb_usage(const struct control_verb *verb)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    fprintf(out, "imprimctl %s", verb->words);
    for (uint32_t i = 0; i < verb->parameter_count; i++) {
        const struct control_parameter *parameter = &verb->parameters[i];
        if (parameter->is_option)
            fprintf(out, " [--%s%s%s]", parameter->name, parameter->placeholder == NULL ? "" : " ",
                    parameter->placeholder == NULL ? "" : parameter->placeholder);
        else
            fprintf(out, " %s%s%s%s", parameter->is_required ? "" : "[", parameter->name,
                    parameter->is_repeated ? "..." : "", parameter->is_required ? "" : "]");
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- reading a line ---- */

static imp_status usage_error(const struct control_verb *verb, imp_error *error, const char *what,
                              const char *name)
{
    char *usage = control_verb_usage(verb);
    imp_error_set(error, IMP_INVALID, "%s%s; usage: %s", what, name,
                  usage == NULL ? verb->words : usage);
    free(usage);
    return IMP_INVALID;
}

static bool add_value(struct control_values *values, const struct control_parameter *parameter,
                      const char *text)
{
    struct control_value *items =
        realloc(values->items, (values->count + 1) * sizeof *values->items);
    if (items == NULL)
        return false;
    values->items = items;
    struct control_value *value = &items[values->count];
    *value = (struct control_value){
        .name = strdup(parameter->name), .text = strdup(text), .file = parameter->file, .fd = -1};
    values->count++;
    return value->name != NULL && value->text != NULL;
}

static const struct control_parameter *find_option(const struct control_verb *verb,
                                                   const char *name, size_t length)
{
    for (uint32_t i = 0; i < verb->parameter_count; i++) {
        const struct control_parameter *parameter = &verb->parameters[i];
        if (parameter->is_option && strlen(parameter->name) == length &&
            memcmp(parameter->name, name, length) == 0)
            return parameter;
    }
    return NULL;
}

/* The next positional argument to be filled; a repeated one stays. */
static const struct control_parameter *next_argument(const struct control_verb *verb,
                                                     uint32_t *position)
{
    if (*position >= verb->parameter_count || verb->parameters[*position].is_option)
        return NULL;
    const struct control_parameter *parameter = &verb->parameters[*position];
    if (!parameter->is_repeated)
        (*position)++;
    return parameter;
}

static imp_status parse_values(const struct control_verb *verb, const char *const *words,
                               uint32_t count, struct control_values *values, imp_error *error)
{
    uint32_t position = 0;
    bool are_options = true;
    for (uint32_t i = 0; i < count; i++) {
        const char *word = words[i], *text;
        const struct control_parameter *parameter;
        if (are_options && strcmp(word, "--") == 0) {
            are_options = false;
            continue;
        }
        if (are_options && strncmp(word, "--", 2) == 0) {
            const char *name = word + 2, *equals = strchr(name, '=');
            parameter =
                find_option(verb, name, equals == NULL ? strlen(name) : (size_t)(equals - name));
            if (parameter == NULL)
                return usage_error(verb, error, "unknown option ", word);
            if (parameter->placeholder == NULL) {
                if (equals != NULL)
                    return usage_error(verb, error, "an option that takes no value: --",
                                       parameter->name);
                text = "";
            } else if (equals != NULL) {
                text = equals + 1;
            } else if (i + 1 < count) {
                text = words[++i];
            } else {
                return usage_error(verb, error, "an option without its value: --", parameter->name);
            }
        } else {
            parameter = next_argument(verb, &position);
            if (parameter == NULL)
                return usage_error(verb, error, "one argument too many: ", word);
            text = word;
        }
        if (!add_value(values, parameter, text))
            return imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    for (uint32_t i = 0; i < verb->parameter_count; i++) {
        const struct control_parameter *parameter = &verb->parameters[i];
        if (!parameter->is_option && parameter->is_required &&
            control_values_find(values, parameter->name, 0) == NULL)
            return usage_error(verb, error, "an argument is missing: ", parameter->name);
    }
    return IMP_OK;
}

imp_status control_values_parse(const struct control_verb *verb, const char *const *words,
                                uint32_t count, struct control_values *values, imp_error *error)
{
    *values = (struct control_values){0};
    imp_status status = parse_values(verb, words, count, values, error);
    if (status != IMP_OK)
        control_values_free(values);
    return status;
}

void control_values_free(struct control_values *values)
{
    for (uint32_t i = 0; i < values->count; i++) {
        struct control_value *value = &values->items[i];
        if (value->fd >= 0)
            close(value->fd);
        free(value->name);
        free(value->text);
    }
    free(values->items);
    *values = (struct control_values){0};
}

const struct control_value *control_values_find(const struct control_values *values,
                                                const char *name, uint32_t index)
{
    for (uint32_t i = 0; i < values->count; i++)
        if (strcmp(values->items[i].name, name) == 0 && index-- == 0)
            return &values->items[i];
    return NULL;
}
