/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/jobs-terms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_OCTETS 63u   /* of an IPP attribute name that a change may have */
#define VALUE_MAX_OCTETS 255u /* RFC 8011 section 5.1.3: name(255) */
#define TEXT_MAX_OCTETS 400u  /* of a question */

struct terms_text {
    struct terms_text *next;
    char bytes[];
};

static const char *keep(struct release_terms *terms, const char *text)
{
    size_t size = strlen(text) + 1;
    struct terms_text *copy = malloc(sizeof *copy + size);
    if (copy == NULL)
        return NULL;
    memcpy(copy->bytes, text, size);
    copy->next = terms->texts;
    terms->texts = copy;
    return copy->bytes;
}

static bool is_word(const char *text, size_t longest)
{
    size_t length = text == NULL ? 0 : strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-_");
    return length != 0 && length <= longest && text[length] == '\0';
}

static bool is_value(const char *text)
{
    size_t length = text == NULL ? 0 : strlen(text);
    if (length == 0 || length > VALUE_MAX_OCTETS || !imp_utf8_is_valid(text, length))
        return false;
    for (size_t i = 0; i < length; i++) {
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    return true;
}

/* ---- the ticket ---- */

static void resolve(struct release_terms *terms)
{
    memcpy(terms->resolved, terms->base, terms->base_count * sizeof *terms->base);
    memcpy(terms->resolved + terms->base_count, terms->change,
           terms->change_count * sizeof *terms->change);
    terms->argument.ticket = (imp_ticket){
        terms->resolved, ticket_resolve(terms->resolved, terms->base_count + terms->change_count)};
}

static imp_status add_change(struct release_terms *terms, imp_ticket_layer layer, const char *name,
                             const char *value, imp_error *error)
{
    if (layer != IMP_TICKET_RULE && layer != IMP_TICKET_RELEASER)
        return imp_error_set(error, IMP_INVALID, "a release changes layers rule and releaser only");
    if (!is_word(name, NAME_MAX_OCTETS) || !is_value(value))
        return imp_error_set(error, IMP_INVALID, "that is no value of a ticket");
    if (terms->change_count == IMP_TICKET_VALUES_MAX)
        return imp_error_set(error, IMP_LIMIT, "a release changes at most %d values",
                             IMP_TICKET_VALUES_MAX);
    imp_ticket_value change = {
        .layer = layer,
        .name = keep(terms, name),
        .value = keep(terms, value),
        .source = layer == IMP_TICKET_RULE ? "rule" : "releaser",
    };
    if (change.name == NULL || change.value == NULL)
        return imp_error_set(error, IMP_LIMIT, "not enough memory to release a job");
    terms->change[terms->change_count++] = change;
    return IMP_OK;
}

static imp_status hook_changes(imp_job_release_argument *argument, imp_ticket_layer layer,
                               const char *name, const char *value, imp_error *error)
{
    struct release_terms *terms = (struct release_terms *)argument;
    imp_status status = add_change(terms, layer, name, value, error);
    if (status == IMP_OK)
        resolve(terms);
    return status;
}

/* ---- questions ---- */

/* The sentence for whoever has no other place for it: text and choices. */
static imp_hook_answer refuse_with_question(const imp_release_question *question, imp_error *error)
{
    char choices[160] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < question->choice_count && used < sizeof choices; i++)
        used += (size_t)snprintf(choices + used, sizeof choices - used, "%s%s", i == 0 ? "" : ", ",
                                 question->choices[i]);
    imp_error_set(error, IMP_DENIED, "%s (%s: %s)", question->text, question->id, choices);
    return IMP_HOOK_REFUSE;
}

static bool is_question(const imp_release_question *question)
{
    bool is_good = question->choice_count != 0 &&
                   question->choice_count <= IMP_RELEASE_CHOICES_MAX &&
                   is_word(question->id, IMP_RELEASE_WORD_MAX) && question->text != NULL &&
                   strlen(question->text) <= TEXT_MAX_OCTETS &&
                   imp_utf8_is_valid(question->text, strlen(question->text));
    for (uint32_t i = 0; is_good && i < question->choice_count; i++)
        is_good = is_word(question->choices[i], IMP_RELEASE_WORD_MAX);
    return is_good;
}

/* The hook's own strings need not outlive its call. */
static bool keep_question(struct release_terms *terms, const imp_release_question *question)
{
    terms->question = (imp_release_question){
        .size = sizeof terms->question,
        .id = keep(terms, question->id),
        .text = keep(terms, question->text),
        .choices = terms->choices,
        .choice_count = question->choice_count,
    };
    bool is_kept = terms->question.id != NULL && terms->question.text != NULL;
    for (uint32_t i = 0; is_kept && i < question->choice_count; i++)
        is_kept = (terms->choices[i] = keep(terms, question->choices[i])) != NULL;
    return is_kept;
}

static imp_hook_answer hook_asks(imp_job_release_argument *argument,
                                 const imp_release_question *question, uint32_t *choice,
                                 imp_error *error)
{
    struct release_terms *terms = (struct release_terms *)argument;
    if (!is_question(question)) {
        imp_error_set(error, IMP_UNSUPPORTED, "a module asks what is no question");
        return IMP_HOOK_REFUSE;
    }
    for (uint32_t i = 0; i < terms->answer_count; i++) {
        if (strcmp(terms->answers[i].question, question->id) != 0)
            continue;
        for (uint32_t c = 0; c < question->choice_count; c++) {
            if (strcmp(terms->answers[i].choice, question->choices[c]) == 0) {
                *choice = c;
                return IMP_HOOK_CONTINUE;
            }
        }
    }
    if (!keep_question(terms, question)) {
        imp_error_set(error, IMP_LIMIT, "not enough memory to release a job");
        return IMP_HOOK_REFUSE;
    }
    terms->is_asked = true;
    return refuse_with_question(&terms->question, error);
}

static const struct imp_release_ops operations = {
    .size = sizeof operations,
    .ask = hook_asks,
    .change = hook_changes,
};

/* ---- life ---- */

static imp_status take_answers(struct release_terms *terms, const imp_release_request *request,
                               imp_error *error)
{
    if (request->answer_count > IMP_RELEASE_ANSWERS_MAX)
        return imp_error_set(error, IMP_LIMIT, "a release takes at most %u answers",
                             IMP_RELEASE_ANSWERS_MAX);
    for (uint32_t i = 0; i < request->answer_count; i++) {
        const imp_release_answer *answer = &request->answers[i];
        if (!is_word(answer->question, IMP_RELEASE_WORD_MAX) ||
            !is_word(answer->choice, IMP_RELEASE_WORD_MAX))
            return imp_error_set(error, IMP_INVALID,
                                 "an answer is the name of a question and one of "
                                 "its choices");
        terms->answers[i] = (imp_release_answer){
            .question = keep(terms, answer->question),
            .choice = keep(terms, answer->choice),
        };
        if (terms->answers[i].question == NULL || terms->answers[i].choice == NULL)
            return imp_error_set(error, IMP_LIMIT, "not enough memory to release a job");
        terms->answer_count++;
    }
    return IMP_OK;
}

imp_status terms_init(struct release_terms *terms, const imp_release_request *request,
                      imp_error *error)
{
    imp_status status = IMP_OK;
    terms->argument.size = sizeof terms->argument;
    terms->argument.ops = &operations;
    if (request == NULL)
        return IMP_OK;
    for (uint32_t i = 0; status == IMP_OK && i < request->change.count; i++)
        status = add_change(terms, IMP_TICKET_RELEASER, request->change.values[i].name,
                            request->change.values[i].value, error);
    return status == IMP_OK ? take_answers(terms, request, error) : status;
}

imp_status terms_describe(struct release_terms *terms, const Job *job, const imp_device *device,
                          imp_error *error)
{
    imp_job_release_argument *argument = &terms->argument;
    imp_ticket_value values[2 * IMP_TICKET_VALUES_MAX];
    uint32_t count =
        record_ticket_add(job->ticket, job->n_ticket, values, 0, 2 * IMP_TICKET_VALUES_MAX);
    argument->job = imp_id_of_field(job->id);
    argument->device = device->id;
    argument->device_capabilities = device->capabilities;
    argument->queue = imp_id_of_field(job->queue);
    argument->queue_release = job->was_hold ? IMP_QUEUE_HOLD : IMP_QUEUE_DIRECT;
    argument->owner_id = imp_id_of_field(job->owner);
    argument->document_bytes = job->bytes;
    argument->document_count = (uint32_t)job->n_documents;
    for (uint32_t i = 0; i < count; i++) {
        imp_ticket_value *kept = &terms->base[terms->base_count];
        *kept = (imp_ticket_value){
            .layer = values[i].layer,
            .name = keep(terms, values[i].name),
            .value = keep(terms, values[i].value),
            .source = keep(terms, values[i].source),
        };
        if (kept->name == NULL || kept->value == NULL || kept->source == NULL)
            return imp_error_set(error, IMP_LIMIT, "not enough memory to release a job");
        terms->base_count++;
    }
    resolve(terms);
    return IMP_OK;
}

void terms_free(struct release_terms *terms)
{
    while (terms->texts != NULL) {
        struct terms_text *text = terms->texts;
        terms->texts = text->next;
        free(text);
    }
}
