/* SPDX-License-Identifier: Apache-2.0 */
/* One of everything that a module can register, and verbs that show that it works. */
#include <imprimatur/control.h>
#include <imprimatur/hook.h>
#include <imprimatur/log.h>
#include <imprimatur/loop.h>
#include <imprimatur/metrics.h>
#include <imprimatur/module.h>
#include <imprimatur/service.h>
#include <imprimatur/store.h>
#include <imprimatur/stream.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct conf {
    const char *greeting;
    int64_t interval;
    int64_t fixed;
};

static const imp_option options[] = {
    IMP_OPT_STRING(struct conf, greeting, "hello", IMP_LIVE, "what a connection is sent"),
    IMP_OPT_DURATION(struct conf, interval, "10ms", "1ms", "1h", IMP_LIVE, "between two ticks"),
    IMP_OPT_INTEGER(struct conf, fixed, "1", "0", "9", 0, "can't change while running"),
    IMP_OPT_END};

static const imp_table_spec tables[] = {{.name = "note", .schema = 1}, {.name = NULL}};

struct instance {
    imp_self *self;
    _Atomic(const char *) greeting;
    imp_table *notes;
    imp_metric *ticks;
    _Atomic uint32_t loops, hooked, connections, reconfigured;
};

/* ---- listener ---- */

static void on_readable(imp_stream *stream, void *arg)
{
    (void)arg;
    imp_stream_consume(stream, imp_stream_input(stream).length);
}

static void on_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    struct instance *instance = arg;
    (void)stream;
    (void)reason;
    atomic_fetch_sub(&instance->connections, 1);
}

static const imp_stream_events stream_events = {
    .size = sizeof(stream_events), .readable = on_readable, .closed = on_closed};

static imp_status accepted(imp_self *self, void *instance_, const char *listener,
                           imp_stream *stream)
{
    struct instance *instance = instance_;
    const char *greeting = atomic_load(&instance->greeting);
    atomic_fetch_add(&instance->connections, 1);
    imp_stream_set_events(stream, &stream_events, instance);
    if (imp_listener_setting(self, listener, "expects") != NULL)
        imp_stream_expect(stream, true);
    (void)imp_stream_write(stream, greeting, strlen(greeting));
    (void)imp_stream_write(stream, "\n", 1);
    return IMP_OK;
}

/* ---- hook ---- */

static imp_hook_answer on_asked(imp_self *self, void *instance_, imp_hook_run *run, void *argument,
                                imp_error *error)
{
    struct instance *instance = instance_;
    (void)self;
    (void)run;
    (void)argument;
    (void)error;
    atomic_fetch_add(&instance->hooked, 1);
    return IMP_HOOK_CONTINUE;
}

/* ---- verbs ---- */

static void verb_state(imp_self *self, void *instance_, imp_request *request)
{
    struct instance *instance = instance_;
    imp_row_begin(request, true);
    imp_field_integer(request, "loops", atomic_load(&instance->loops));
    imp_field_integer(request, "loop_count", imp_loop_count());
    imp_field_integer(request, "hooked", atomic_load(&instance->hooked));
    imp_field_integer(request, "connections", atomic_load(&instance->connections));
    imp_field_integer(request, "reconfigured", atomic_load(&instance->reconfigured));
    imp_field_bool(request, "ticked", imp_metric_value(instance->ticks) > 0);
    imp_field_text(request, "greeting", atomic_load(&instance->greeting));
    imp_field_integer(request, "generation", imp_self_generation(self));
    imp_request_finish(request, IMP_OK, NULL);
}

static void asked(imp_status status, const imp_error *error, void *arg)
{
    imp_request_finish(arg, status, error);
}

static void verb_ask(imp_self *self, void *instance, imp_request *request)
{
    (void)instance;
    imp_hook_ask(self, "t-all.asked", NULL, asked, request);
}

struct writing {
    struct instance *instance;
    imp_request *request;
    uint64_t count;
};

static imp_status write_note(imp_tx *tx, void *arg, imp_error *error)
{
    struct writing *writing = arg;
    const char *text = imp_request_value(writing->request, "TEXT", 0);
    imp_status status = imp_tx_put(tx, writing->instance->notes, (imp_bytes){"note", 4},
                                   (imp_bytes){text, strlen(text)});
    if (status != IMP_OK)
        return imp_error_set(error, status, "the note can't be written");
    return imp_tx_count(tx, writing->instance->notes, &writing->count);
}

static void written(imp_status status, const imp_error *error, void *arg)
{
    struct writing *writing = arg;
    if (status == IMP_OK)
        imp_request_say(writing->request, "notes: %llu", (unsigned long long)writing->count);
    imp_request_finish(writing->request, status, error);
    free(writing);
}

static void verb_write(imp_self *self, void *instance, imp_request *request)
{
    imp_error error = {.status = IMP_OK};
    struct writing *writing = calloc(1, sizeof(*writing));
    imp_status status = writing == NULL ? IMP_LIMIT : IMP_OK;
    if (status == IMP_OK) {
        *writing = (struct writing){.instance = instance, .request = request};
        status = imp_store_write(self, IMP_WRITE_CONTROL, write_note, written, writing);
    }
    if (status != IMP_OK) {
        free(writing);
        imp_error_set(&error, status, "the note can't be queued");
        imp_request_finish(request, status, &error);
    }
}

static void verb_read(imp_self *self, void *instance_, imp_request *request)
{
    struct instance *instance = instance_;
    imp_error error = {.status = IMP_OK};
    imp_bytes value;
    imp_tx *tx;
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = imp_tx_get(tx, instance->notes, (imp_bytes){"note", 4}, &value);
        if (status == IMP_OK)
            imp_request_say(request, "%.*s", (int)value.length, (const char *)value.data);
        else
            imp_error_set(&error, status, "there is no note");
        imp_store_read_end(tx);
    }
    imp_request_finish(request, status, &error);
}

static const imp_verb_spec verbs[] = {
    {.size = sizeof(imp_verb_spec),
     .words = "t-all state",
     .arguments = "",
     .options = "",
     .help = "show what was counted",
     .run = verb_state},
    {.size = sizeof(imp_verb_spec),
     .words = "t-all ask",
     .arguments = "",
     .options = "",
     .help = "ask the hooks",
     .run = verb_ask},
    {.size = sizeof(imp_verb_spec),
     .words = "t-all write",
     .arguments = "TEXT",
     .options = "",
     .help = "write the note",
     .run = verb_write},
    {.size = sizeof(imp_verb_spec),
     .words = "t-all read",
     .arguments = "",
     .options = "",
     .help = "read the note",
     .run = verb_read},
};

static void fill_key_status(imp_self *self, void *instance_, imp_request *request)
{
    struct instance *instance = instance_;
    (void)self;
    imp_field_text(request, "t-all_greeting", atomic_load(&instance->greeting));
}

/* ---- life ---- */

static void tick(void *arg)
{
    struct instance *instance = arg;
    imp_metric_add(instance->ticks, 1);
}

static imp_status take_conf(struct instance *instance, const struct conf *conf)
{
    char *greeting = strdup(conf->greeting);
    if (greeting == NULL)
        return IMP_LIMIT;
    /* The one before may be in use on a loop; this is a test's module, so it is just kept. */
    atomic_store(&instance->greeting, greeting);
    return IMP_OK;
}

static imp_status start(imp_self *self, const void *conf_, void **instance_, imp_error *error)
{
    const struct conf *conf = conf_;
    const imp_hook_spec hook = {.size = sizeof(hook),
                                .point = "t-all.asked",
                                .phase = IMP_PHASE_POLICY,
                                .function = on_asked};
    struct instance *instance = calloc(1, sizeof(*instance));
    if (instance == NULL || take_conf(instance, conf) != IMP_OK) {
        free(instance);
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    }
    instance->self = self;
    instance->notes = imp_table_open(self, "note");
    instance->ticks =
        imp_metric_register(self, IMP_METRIC_COUNTER, "ticks_total", NULL, "ticks of the timer");
    imp_status status =
        instance->notes == NULL ? imp_error_set(error, IMP_NOT_FOUND, "no table") : IMP_OK;
    if (status == IMP_OK)
        status = imp_hook_add(self, &hook, error);
    for (size_t i = 0; status == IMP_OK && i < sizeof(verbs) / sizeof(verbs[0]); i++)
        status = imp_verb_add(self, &verbs[i], error);
    if (status == IMP_OK)
        status = imp_fields_add(self, "key status", fill_key_status, error);
    if (status == IMP_OK && imp_fields_add(self, "job list", fill_key_status, NULL) == IMP_OK)
        status = imp_error_set(error, IMP_INVALID, "a list takes no fields");
    if (status == IMP_OK)
        status = imp_listen(self, accepted, error);
    if (status == IMP_OK && imp_timer_start(self, conf->interval, true, tick, instance) == NULL)
        status = imp_error_set(error, IMP_LIMIT, "no timer");
    if (status != IMP_OK) {
        free((char *)(uintptr_t)atomic_load(&instance->greeting));
        free(instance);
        return status;
    }
    *instance_ = instance;
    return IMP_OK;
}

static void reconfigure(imp_self *self, void *instance_, const void *conf)
{
    struct instance *instance = instance_;
    (void)self;
    char *old = (char *)(uintptr_t)atomic_load(&instance->greeting);
    if (take_conf(instance, conf) == IMP_OK)
        free(old); /* the tests have no connection meanwhile */
    atomic_fetch_add(&instance->reconfigured, 1);
}

static imp_status loop_enter(imp_self *self, void *instance_, imp_loop *loop, imp_error *error)
{
    struct instance *instance = instance_;
    (void)self;
    if (loop != imp_loop_current())
        return imp_error_set(error, IMP_INVALID, "called on another loop");
    atomic_fetch_add(&instance->loops, 1);
    return IMP_OK;
}

static void loop_leave(imp_self *self, void *instance_, imp_loop *loop)
{
    struct instance *instance = instance_;
    (void)self;
    (void)loop;
    atomic_fetch_sub(&instance->loops, 1);
}

static void drain(imp_self *self, void *instance)
{
    (void)instance;
    imp_log(self, IMP_LOG_INFO, "t-all.drain", "result=ok");
}

static void stop(imp_self *self, void *instance_)
{
    struct instance *instance = instance_;
    imp_log(self, IMP_LOG_INFO, "t-all.stop", "loops=%u connections=%u",
            atomic_load(&instance->loops), atomic_load(&instance->connections));
    free((char *)(uintptr_t)atomic_load(&instance->greeting));
    free(instance);
}

IMP_MODULE(.name = "t-all", .version = "1.0.0", .summary = "one of everything", .options = options,
           .conf_size = sizeof(struct conf), .tables = tables, .start = start,
           .reconfigure = reconfigure, .drain = drain, .stop = stop, .loop_enter = loop_enter,
           .loop_leave = loop_leave);
IMP_MODULE_NOTE("t-all", "1.0.0", "", "");
