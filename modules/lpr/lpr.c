/* SPDX-License-Identifier: Apache-2.0 */
/* lpr.c - module lpr: descriptor, settings and start. */
#include "lpr.h"
#include "lpr-session.h"

#include <imprimatur/module.h>

#include <stdlib.h>

static const imp_option lpr_options[] = {
    IMP_OPT_STRING(struct lpr_conf, queue_default, "", IMP_LIVE,
                   "queue for jobs that name one which does not exist; empty: they are refused"),
    IMP_OPT_SIZE(struct lpr_conf, control_max, "64KiB", "1KiB", "1MiB", IMP_LIVE,
                 "largest control file"),
    IMP_OPT_DURATION(struct lpr_conf, idle_timeout, "5min", "1s", "24h", IMP_LIVE,
                     "a connection on which nothing moves is closed after this time"),
    IMP_OPT_DURATION(struct lpr_conf, upload_timeout, "6h", "1s", "30d", IMP_LIVE,
                     "longest time for one data file"),
    IMP_OPT_DURATION(struct lpr_conf, empty_file_wait, "500ms", "10ms", "30s", IMP_LIVE,
                     "silence behind a NUL after which a file announced with size 0 is empty"),
    IMP_OPT_INTEGER(struct lpr_conf, jobs_per_connection, "1000", "1", "1000000", IMP_LIVE,
                    "jobs that one connection may bring"),
    IMP_OPT_BOOL(struct lpr_conf, host_is_proof, "true", IMP_LIVE,
                 "a user name from the host that submitted proves ownership to lpq and lprm"),
    IMP_OPT_END};

static imp_status lpr_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    struct lpr *lpr = calloc(1, sizeof *lpr);
    if (lpr == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    lpr->self = self;
    lpr->conf = conf;
    lpr_looks_init(&lpr->looks, self);
    lpr->jobs = imp_metric_register(self, IMP_METRIC_COUNTER, "jobs_total", NULL,
                                    "jobs taken and acknowledged");
    lpr->retries = imp_metric_register(self, IMP_METRIC_COUNTER, "retries_total", NULL,
                                       "submissions that were here already");
    lpr->refused = imp_metric_register(self, IMP_METRIC_COUNTER, "refused_total", NULL,
                                       "connections answered with a refusal");
    lpr->aborted = imp_metric_register(self, IMP_METRIC_COUNTER, "aborted_total", NULL,
                                       "uploads that ended before they were complete");
    lpr->status_queries = imp_metric_register(self, IMP_METRIC_COUNTER, "status_queries_total",
                                              NULL, "commands 03 and 04");
    lpr->removed =
        imp_metric_register(self, IMP_METRIC_COUNTER, "remove_commands_total", NULL, "commands 05");
    const uint8_t refusal = LPR_ANSWER_RETRY;
    imp_status status = imp_listen(self, lpr_accepted, error);
    if (status == IMP_OK)
        status = imp_listen_refusal(self, &refusal, 1, error);
    if (status != IMP_OK) {
        lpr_looks_clear(&lpr->looks);
        free(lpr);
        return status;
    }
    *instance = lpr;
    return IMP_OK;
}

static void lpr_reconfigure(imp_self *self, void *instance, const void *conf)
{
    (void)self;
    ((struct lpr *)instance)->conf = conf;
}

static void lpr_stop(imp_self *self, void *instance)
{
    struct lpr *lpr = instance;
    (void)self;
    lpr_looks_clear(&lpr->looks);
    free(lpr);
}

IMP_MODULE(.name = "lpr", .version = "1.0.0", .summary = "LPD intake (RFC 1179)",
           .requires = IMP_REQUIRES(IMP_JOBS_V1), .options = lpr_options,
           .conf_size = sizeof(struct lpr_conf), .start = lpr_start, .reconfigure = lpr_reconfigure,
           .stop = lpr_stop);
IMP_MODULE_NOTE("lpr", "1.0.0", "jobs/1", "");
