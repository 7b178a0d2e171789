/* SPDX-License-Identifier: Apache-2.0 */
/* Hook `job.release`: asks two questions, changes the ticket by the answers, denies by one; answers the
 * second later, from a timer. */
#include <imprimatur/hook.h>
#include <imprimatur/jobs.h>
#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/module.h>
#include <stdlib.h>
#include <string.h>

static const char *const copies_choices[] = {"once", "twice", "never"};
static const char *const sure_choices[] = {"yes"};

static imp_hook_answer ask_copies(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                                  imp_error *error)
{
    imp_job_release_argument *release = argument;
    const imp_release_question question = {
        .size = sizeof question,
        .id = "t-asks.copies",
        .text = "How many times?",
        .choices = copies_choices,
        .choice_count = 3,
    };
    uint32_t choice;
    (void)instance;
    (void)run;
    if (release->session == NULL && release->document_bytes >= 1000) /* direct: no question */
        return imp_release_change(release, IMP_TICKET_RULE, "copies", "2", error) == IMP_OK
                   ? IMP_HOOK_CONTINUE
                   : IMP_HOOK_REFUSE;
    imp_hook_answer answer = imp_release_ask(release, &question, &choice, error);
    if (answer != IMP_HOOK_CONTINUE || choice == 0)
        return answer;
    if (choice == 2) {
        imp_error_set(error, IMP_DENIED, "then not");
        return IMP_HOOK_REFUSE;
    }
    const char *before = imp_ticket_get(&release->ticket, "copies");
    if (imp_release_change(release, IMP_TICKET_RULE, "copies", "2", error) != IMP_OK)
        return IMP_HOOK_REFUSE;
    imp_log(self, IMP_LOG_INFO, "t-asks.changed", "before=%s after=%s documents=%u",
            before == NULL ? "none" : before, imp_ticket_get(&release->ticket, "copies"),
            release->document_count);
    return IMP_HOOK_CONTINUE;
}

struct later {
    imp_hook_run *run;
    imp_job_release_argument *argument;
};

static void ask_sure_later(void *arg)
{
    struct later *later = arg;
    const imp_release_question question = {
        .size = sizeof question,
        .id = "t-asks.sure",
        .text = "Are you sure?",
        .choices = sure_choices,
        .choice_count = 1,
    };
    uint32_t choice;
    imp_error error = {0};
    imp_hook_answer answer = imp_release_ask(later->argument, &question, &choice, &error);
    imp_hook_resume(later->run, answer, &error);
    free(later);
}

static imp_hook_answer ask_sure(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                                imp_error *error)
{
    const imp_job_release_argument *release = argument;
    (void)instance;
    if (release->session == NULL)
        return IMP_HOOK_CONTINUE;
    struct later *later = malloc(sizeof *later);
    if (later != NULL) {
        *later = (struct later){run, argument};
        if (imp_timer_start(self, IMP_MILLISECOND, false, ask_sure_later, later) != NULL)
            return IMP_HOOK_SUSPEND;
    }
    free(later);
    imp_error_set(error, IMP_LIMIT, "not enough memory");
    return IMP_HOOK_REFUSE;
}

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    const imp_hook_spec copies = {
        .size = sizeof copies,
        .point = "job.release",
        .phase = IMP_PHASE_POLICY,
        .function = ask_copies,
    };
    const imp_hook_spec sure = {
        .size = sizeof sure,
        .point = "job.release",
        .phase = IMP_PHASE_LAST,
        .function = ask_sure,
    };
    (void)conf;
    (void)instance;
    imp_status status = imp_hook_add(self, &copies, error);
    return status == IMP_OK ? imp_hook_add(self, &sure, error) : status;
}

static void stop(imp_self *self, void *instance)
{
    (void)self;
    (void)instance;
}

IMP_MODULE(.name = "t-asks", .version = "1.0.0", .summary = "asks before a job goes out",
           .start = start, .stop = stop);
IMP_MODULE_NOTE("t-asks", "1.0.0", "", "");
