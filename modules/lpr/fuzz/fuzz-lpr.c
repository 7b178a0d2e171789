/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a client sends as a line or a control file is read within bounds, and what is read is clean
 * text. */
#include <stdlib.h>
#include <string.h>

#include "modules/lpr/lpr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_clean(const char *text)
{
    if (!imp_utf8_is_valid(text, strlen(text)))
        abort();
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ')
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lpr_control control;
    static struct lpr_command command;
    static struct lpr_file file;
    if (size <= LPR_LINE_MAX && lpr_command_parse(data, size, &command) == IMP_OK) {
        must_be_clean(command.queue);
        must_be_clean(command.agent);
        for (uint32_t i = 0; i < command.operand_count; i++)
            must_be_clean(command.operands[i]);
    }
    if (size <= LPR_LINE_MAX && lpr_file_parse(data, size, &file) == IMP_OK) {
        must_be_clean(file.name);
        if (file.number > 999)
            abort();
    }
    if (lpr_control_parse(data, size, &control) == IMP_OK) {
        must_be_clean(control.host);
        must_be_clean(control.user);
        must_be_clean(control.job_name);
        for (uint32_t i = 0; i < control.file_count; i++) {
            must_be_clean(control.files[i].name);
            must_be_clean(control.files[i].source);
            if (control.files[i].copies == 0)
                abort();
        }
    }
    lpr_control_clear(&control);
    return 0;
}
