/* SPDX-License-Identifier: Apache-2.0 */
/* Registers a hook, a verb, a metric and a timer, then refuses to start. */
#include <imprimatur/control.h>
#include <imprimatur/hook.h>
#include <imprimatur/loop.h>
#include <imprimatur/metrics.h>

#include "tests/modules/t-plain.h"

static imp_hook_answer on_asked(imp_self *self, void *instance, imp_hook_run *run, void *argument,
                                imp_error *error)
{
    (void)self;
    (void)instance;
    (void)run;
    (void)argument;
    (void)error;
    return IMP_HOOK_DONE;
}

static void verb(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_request_finish(request, IMP_OK, NULL);
}

static void tick(void *arg)
{
    (void)arg;
}

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    const imp_hook_spec hook = {.size = sizeof(hook),
                                .point = "t-all.asked",
                                .phase = IMP_PHASE_FIRST,
                                .function = on_asked};
    const imp_verb_spec spec = {.size = sizeof(spec),
                                .words = "t-refuses verb",
                                .arguments = "",
                                .options = "",
                                .help = "must be gone",
                                .run = verb};
    (void)conf;
    (void)instance;
    (void)imp_hook_add(self, &hook, error);
    (void)imp_verb_add(self, &spec, error);
    (void)imp_metric_register(self, IMP_METRIC_GAUGE, "gauge", NULL, "must be gone");
    (void)imp_timer_start(self, IMP_MILLISECOND, true, tick, NULL);
    return imp_error_set(error, IMP_BUSY, "not in the mood");
}

IMP_MODULE(.name = "t-refuses", .version = "1.0.0", .summary = "refuses", .start = start,
           .stop = plain_stop);
IMP_MODULE_NOTE("t-refuses", "1.0.0", "", "");
