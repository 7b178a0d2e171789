/* SPDX-License-Identifier: Apache-2.0 */
/* Starts, is entered into the first loop, and refuses the second. */
#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/module.h>
#include <stdlib.h>

static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)self;
    (void)conf;
    *instance = calloc(1, sizeof(int));
    return *instance != NULL ? IMP_OK : imp_error_set(error, IMP_LIMIT, "memory is short");
}

static void stop(imp_self *self, void *instance)
{
    imp_log(self, IMP_LOG_INFO, "t-late.stop", "entered=%d", *(int *)instance);
    free(instance);
}

static imp_status loop_enter(imp_self *self, void *instance, imp_loop *loop, imp_error *error)
{
    (void)self;
    if (imp_loop_index(loop) > 0)
        return imp_error_set(error, IMP_BUSY, "one loop is enough");
    __atomic_add_fetch((int *)instance, 1, __ATOMIC_SEQ_CST);
    return IMP_OK;
}

static void loop_leave(imp_self *self, void *instance, imp_loop *loop)
{
    (void)self;
    (void)loop;
    __atomic_sub_fetch((int *)instance, 1, __ATOMIC_SEQ_CST);
}

IMP_MODULE(.name = "t-late", .version = "1.0.0", .summary = "fails late", .start = start,
           .stop = stop, .loop_enter = loop_enter, .loop_leave = loop_leave);
IMP_MODULE_NOTE("t-late", "1.0.0", "", "");
