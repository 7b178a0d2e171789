/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-control.c - what comes in on the control socket: frames, commands, and their words. */
#include <stdlib.h>
#include <string.h>

#include "core/control-frame.h"
#include "core/control-verb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    (void)request;
}

static void add_verbs(void)
{
    static const imp_verb_spec verbs[] = {
        {.size = sizeof(imp_verb_spec), .words = "job", .arguments = "[ID...]", .run = run},
        {.size = sizeof(imp_verb_spec),
         .words = "job release",
         .arguments = "JOB [NOTE]",
         .options = "device=DEVICE card user=USER",
         .run = run},
        {.size = sizeof(imp_verb_spec),
         .words = "backup create",
         .arguments = "[>FILE]",
         .options = "in=<FILE",
         .run = run},
    };
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (imp_verb_add(NULL, &verbs[i], NULL) != IMP_OK)
            abort();
}

/* What was read obeys the verb's row. */
static void check_values(const struct control_verb *verb, const struct control_values *values)
{
    for (uint32_t i = 0; i < values->count; i++) {
        const struct control_value *value = &values->items[i];
        bool is_known = false;
        for (uint32_t j = 0; j < verb->parameter_count; j++)
            is_known = is_known || (strcmp(verb->parameters[j].name, value->name) == 0 &&
                                    verb->parameters[j].file == value->file);
        if (!is_known || value->fd != -1 || control_values_find(values, value->name, 0) == NULL)
            abort();
    }
    for (uint32_t j = 0; j < verb->parameter_count; j++)
        if (verb->parameters[j].is_required && !verb->parameters[j].is_option &&
            control_values_find(values, verb->parameters[j].name, 0) == NULL)
            abort();
}

static void take_command(const struct control_frame *frame)
{
    struct control_command command;
    struct control_values values;
    imp_error error = {0};
    uint32_t used;
    if (control_command_parse(frame->payload, frame->length, &command, &error) != IMP_OK) {
        if (error.message[0] == '\0')
            abort();
        return;
    }
    const struct control_verb *verb = control_verb_find(command.words, command.count, &used);
    if (used > command.count || (verb == NULL) != (used == 0))
        abort();
    if (verb == NULL) {
        control_unknown_verb(command.words, command.count, &error);
    } else if (control_values_parse(verb, command.words + used, command.count - used, &values,
                                    &error) == IMP_OK) {
        check_values(verb, &values);
        control_values_free(&values);
    }
    /* Every refusal is a line that can be shown. */
    if (!imp_utf8_is_valid(error.message, strlen(error.message)))
        abort();
    control_command_free(&command);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_buffer buffer = {0};
    struct control_frame frame;
    if (control_verbs() == NULL)
        add_verbs();
    if (!control_buffer_add(&buffer, data, size))
        abort();
    while (control_frame_next(&buffer, CONTROL_COMMAND_MAX, &frame) == IMP_OK) {
        if (frame.whole > buffer.used || frame.length > CONTROL_COMMAND_MAX)
            abort();
        if (frame.kind == CONTROL_FRAME_JSON)
            take_command(&frame);
        control_buffer_consume(&buffer, frame.whole);
    }
    control_buffer_free(&buffer);
    return 0;
}
