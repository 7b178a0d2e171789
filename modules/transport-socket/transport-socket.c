/* SPDX-License-Identifier: Apache-2.0 */
/* transport-socket.c - module transport-socket: descriptor, settings and start. */
#include "transport-socket.h"

#include <imprimatur/module.h>

#include <stdlib.h>

static const imp_option socket_options[] = {
    IMP_OPT_DURATION(struct socket_conf, connect_timeout, "30s", "10ms", "1h", IMP_LIVE,
                     "longest time for look-up and connection; then the device is busy"),
    IMP_OPT_DURATION(struct socket_conf, connect_settle, "0s", "0s", "1min", IMP_LIVE,
                     "wait before the first byte, for devices that accept and close when busy"),
    IMP_OPT_DURATION(struct socket_conf, stall_notice, "30s", "10ms", "1d", IMP_LIVE,
                     "a device that takes nothing for this time is said to be in trouble"),
    IMP_OPT_DURATION(struct socket_conf, write_timeout, "30min", "10ms", "30d", IMP_LIVE,
                     "a device that takes nothing for this time is given up"),
    IMP_OPT_DURATION(struct socket_conf, drain_timeout, "10min", "10ms", "30d", IMP_LIVE,
                     "as write_timeout, for what waits in the connection after the last byte"),
    IMP_OPT_DURATION(struct socket_conf, close_wait, "2s", "0s", "1d", IMP_LIVE,
                     "wait for the device to close after it took everything"),
    IMP_OPT_ENUM(struct socket_conf, identity_to_device, "full|pseudonym|none", "none", IMP_LIVE,
                 "names that devices which speak PJL get to see"),
    IMP_OPT_ENUM(struct socket_conf, pjl_copies, "copies|qty", "copies", IMP_LIVE,
                 "PJL variable for copies where the document has neither"),
    IMP_OPT_END};

static imp_status socket_check(const void *settings, imp_error *error)
{
    const struct socket_conf *conf = settings;
    if (conf->stall_notice > conf->write_timeout || conf->stall_notice > conf->drain_timeout)
        return imp_error_set(error, IMP_INVALID,
                             "stall_notice is longer than write_timeout or drain_timeout");
    return IMP_OK;
}

static void take_settings(struct socket_settings *settings, const struct socket_conf *conf)
{
    atomic_store(&settings->connect_timeout, conf->connect_timeout);
    atomic_store(&settings->connect_settle, conf->connect_settle);
    atomic_store(&settings->stall_notice, conf->stall_notice);
    atomic_store(&settings->write_timeout, conf->write_timeout);
    atomic_store(&settings->drain_timeout, conf->drain_timeout);
    atomic_store(&settings->close_wait, conf->close_wait);
    atomic_store(&settings->identity_to_device, conf->identity_to_device);
    atomic_store(&settings->pjl_copies, conf->pjl_copies);
}

static imp_status socket_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    struct socket_transport *transport = calloc(1, sizeof *transport);
    if (transport == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    transport->self = self;
    take_settings(&transport->settings, conf);
    transport->taken = imp_metric_register(self, IMP_METRIC_COUNTER, "deliveries_total",
                                           "result=\"taken\"", "deliveries by how they ended");
    transport->not_started =
        imp_metric_register(self, IMP_METRIC_COUNTER, "deliveries_total", "result=\"not-started\"",
                            "deliveries by how they ended");
    transport->uncertain =
        imp_metric_register(self, IMP_METRIC_COUNTER, "deliveries_total", "result=\"uncertain\"",
                            "deliveries by how they ended");
    transport->bytes = imp_metric_register(self, IMP_METRIC_COUNTER, "sent_bytes_total", NULL,
                                           "bytes handed to devices");
    transport->replies = imp_metric_register(self, IMP_METRIC_COUNTER, "reply_bytes_total", NULL,
                                             "bytes that devices sent back, which are dropped");
    *instance = transport;
    return IMP_OK;
}

static void socket_reconfigure(imp_self *self, void *instance, const void *conf)
{
    (void)self;
    take_settings(&((struct socket_transport *)instance)->settings, conf);
}

static void socket_stop(imp_self *self, void *instance)
{
    (void)self;
    free(instance);
}

static const imp_transport_v1 socket_service = {
    .size = sizeof socket_service,
    .deliver = socket_deliver,
};

IMP_MODULE(.name = "transport-socket", .version = "1.0.0",
           .summary = "delivery to RAW printers (port 9100)", .requires = IMP_REQUIRES(IMP_JOBS_V1),
           .provides = IMP_PROVIDES({"transport.socket", 1, &socket_service}),
           .options = socket_options, .conf_size = sizeof(struct socket_conf),
           .check = socket_check, .start = socket_start, .reconfigure = socket_reconfigure,
           .stop = socket_stop);
IMP_MODULE_NOTE("transport-socket", "1.0.0", "jobs/1", "transport.socket/1");
