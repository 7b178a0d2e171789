/* SPDX-License-Identifier: Apache-2.0 */
/* Calls service t-clock/1 in start, on the control loop and on a worker. */
#include <imprimatur/control.h>
#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/module.h>
#include <stdlib.h>

#include "tests/modules/t-clock.h"

static int64_t ask_clock(imp_self *self)
{
    imp_service_call call;
    const t_clock_v1 *clock = imp_service_enter(self, "t-clock", 1, &call);
    if (clock == NULL)
        return -1;
    int64_t value = clock->read(call.provider);
    imp_service_leave(&call);
    return value;
}

struct asking {
    imp_self *self;
    imp_request *request;
    int64_t value;
};

static void run(void *arg)
{
    struct asking *asking = arg;
    asking->value = ask_clock(asking->self);
}

static void done(void *arg, bool was_cancelled)
{
    struct asking *asking = arg;
    imp_row_begin(asking->request, true);
    imp_field_integer(asking->request, "control", ask_clock(asking->self));
    imp_field_integer(asking->request, "worker", was_cancelled ? -2 : asking->value);
    imp_request_finish(asking->request, IMP_OK, NULL);
    free(asking);
}

static void verb_read(imp_self *self, void *instance, imp_request *request)
{
    struct asking *asking = calloc(1, sizeof(*asking));
    (void)instance;
    if (asking != NULL)
        *asking = (struct asking){.self = self, .request = request};
    if (asking == NULL || imp_work(self, run, done, asking) == NULL) {
        free(asking);
        imp_request_finish(request, IMP_LIMIT, NULL);
    }
}

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    const imp_verb_spec verb = {.size = sizeof(verb),
                                .words = "t-watch read",
                                .arguments = "",
                                .options = "",
                                .help = "ask the clock",
                                .run = verb_read};
    (void)conf;
    (void)instance;
    imp_log(self, IMP_LOG_INFO, "t-watch.start", "clock=%lld", (long long)ask_clock(self));
    return imp_verb_add(self, &verb, error);
}

static void stop(imp_self *self, void *instance)
{
    (void)instance;
    imp_log(self, IMP_LOG_INFO, "t-watch.stop", "clock=%lld", (long long)ask_clock(self));
}

IMP_MODULE(.name = "t-watch", .version = "1.0.0", .summary = "calls a service",
           .requires = IMP_REQUIRES({"t-clock", 1}), .start = start, .stop = stop);
IMP_MODULE_NOTE("t-watch", "1.0.0", "t-clock/1", "");
