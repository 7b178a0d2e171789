/* SPDX-License-Identifier: Apache-2.0 */
/* raw.c - module raw: descriptor, settings and start. */
#include "raw.h"

#include <imprimatur/module.h>

#include <stdlib.h>

static const imp_option host_options[] = {
    IMP_OPT_(IMP_OPTION_STRING, const char *, struct raw_host_rule, network, NULL, NULL, NULL, NULL,
             IMP_REQUIRED, "address or network"),
    IMP_OPT_(IMP_OPTION_STRING, const char *, struct raw_host_rule, user, NULL, NULL, NULL, NULL,
             IMP_REQUIRED, "user name"),
    IMP_OPT_END};

static const imp_option raw_options[] = {
    IMP_OPT_STRING(struct raw_conf, queue, "hold", IMP_LIVE,
                   "queue of listeners that name none themselves"),
    IMP_OPT_DURATION(struct raw_conf, job_idle, "30s", "100ms", "24h", IMP_LIVE,
                     "a job is over when no byte has come for this time"),
    IMP_OPT_DURATION(struct raw_conf, job_timeout, "6h", "1s", "30d", IMP_LIVE,
                     "longest time for one connection"),
    IMP_OPT_DURATION(struct raw_conf, door_wait, "5min", "0s", "1d", IMP_LIVE,
                     "how long a connection waits, unread, for a queue that takes no jobs now; "
                     "0s: it is reset at once"),
    IMP_OPT_GROUPS(struct raw_conf, hosts, struct raw_host_rule, host_options, IMP_LIVE,
                   "owners of jobs that name none, by the address they come from"),
    IMP_OPT_END};

static imp_status raw_check(const void *settings, imp_error *error)
{
    const struct raw_conf *conf = settings;
    const struct raw_host_rule *rules = conf->hosts.items;
    imp_network network;
    for (uint32_t i = 0; i < conf->hosts.count; i++) {
        imp_error reason;
        if (imp_network_parse(rules[i].network, &network, &reason) != IMP_OK)
            return imp_error_set(error, IMP_INVALID, "hosts: %s", reason.message);
        if (!imp_name_is_valid(rules[i].user))
            return imp_error_set(error, IMP_INVALID, "hosts: the user of %s is not a valid name",
                                 rules[i].network);
    }
    return IMP_OK;
}

static imp_status raw_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    struct raw *raw = calloc(1, sizeof *raw);
    if (raw == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    raw->self = self;
    raw->conf = conf;
    raw->jobs =
        imp_metric_register(self, IMP_METRIC_COUNTER, "jobs_total", NULL, "jobs taken and durable");
    raw->refused = imp_metric_register(self, IMP_METRIC_COUNTER, "refused_total", NULL,
                                       "connections that were reset");
    raw->aborted =
        imp_metric_register(self, IMP_METRIC_COUNTER, "aborted_total", NULL, "jobs that broke off");
    raw->queries = imp_metric_register(self, IMP_METRIC_COUNTER, "pjl_answers_total", NULL,
                                       "PJL questions that were answered");
    raw->waits = imp_metric_register(self, IMP_METRIC_COUNTER, "waits_total", NULL,
                                     "connections that waited for a queue to take jobs");
    imp_status status = imp_listen(self, raw_accepted, error);
    if (status != IMP_OK) {
        free(raw);
        return status;
    }
    *instance = raw;
    return IMP_OK;
}

static void raw_reconfigure(imp_self *self, void *instance, const void *conf)
{
    (void)self;
    ((struct raw *)instance)->conf = conf;
}

static void raw_stop(imp_self *self, void *instance)
{
    (void)self;
    free(instance);
}

IMP_MODULE(.name = "raw", .version = "1.0.0", .summary = "RAW intake (port 9100)",
           .requires = IMP_REQUIRES(IMP_JOBS_V1), .options = raw_options,
           .conf_size = sizeof(struct raw_conf), .check = raw_check, .start = raw_start,
           .reconfigure = raw_reconfigure, .stop = raw_stop);
IMP_MODULE_NOTE("raw", "1.0.0", "jobs/1", "");
