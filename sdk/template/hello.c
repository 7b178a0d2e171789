/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hello.c - the smallest complete module: it greets who says a name, and counts.
 *
 *     setting   hello.greeting        taken by `imprimctl config reload`
 *     listener  a name a line in, "GREETING, NAME: visit N" out
 *     table     hello.visit           visits of each name, under a keyed hash of the name
 *     hook      job.received          counts the jobs that come in
 *     metrics   imprimatur_hello_greetings_total, imprimatur_hello_jobs_total
 *     verb      imprimctl hello show  how many names are known
 */
#include <imprimatur/control.h>
#include <imprimatur/hook.h>
#include <imprimatur/jobs.h>
#include <imprimatur/log.h>
#include <imprimatur/metrics.h>
#include <imprimatur/module.h>
#include <imprimatur/stream.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hello_conf {
    const char *greeting;
};

static const imp_option hello_options[] = {
    IMP_OPT_STRING(struct hello_conf, greeting, "Hello", IMP_LIVE, "what a guest is greeted with"),
    IMP_OPT_END,
};

static const imp_table_spec hello_tables[] = {{.name = "visit", .schema = 1}, {.name = NULL}};
/* One generation of the module. */
struct hello {
    imp_self *self;
    _Atomic(const struct hello_conf *) conf; /* set by the control thread, read by loops */
    imp_table *visits;
    imp_metric *greetings, *jobs;
};

/* One connection; freed when it is closed and nothing of it is on its way to the disk. */
struct guest {
    struct hello *hello;
    imp_stream *stream; /* NULL: closed */
    bool is_writing;
    char name[IMP_NAME_MAX];
    uint64_t visits;
};

/* ---- table ---- */

/* Runs on the writer, perhaps again after a failed attempt: it reads and writes tables, no more. */
static imp_status count_visit(imp_tx *tx, void *arg, imp_error *error)
{
    struct guest *guest = arg;
    struct hello *hello = guest->hello;
    uint8_t hash[IMP_HASH_SIZE]; /* keys are not sealed, so a name never stands in one */
    imp_bytes key = {hash, sizeof hash}, value;

    imp_keyed_hash(hello->self, "guest", (imp_bytes){guest->name, strlen(guest->name)}, hash);
    guest->visits = 0;
    imp_status status = imp_tx_get(tx, hello->visits, key, &value);
    if (status == IMP_OK && value.length == sizeof guest->visits)
        memcpy(&guest->visits, value.data, sizeof guest->visits);
    else if (status != IMP_NOT_FOUND)
        return imp_error_set(error, IMP_CORRUPT, "a record of hello.visit can't be read");
    guest->visits++;
    return imp_tx_put(tx, hello->visits, key, (imp_bytes){&guest->visits, sizeof guest->visits});
}

/* ---- listener ---- */

/* The status is of no use: a stream that can't be written to is about to be closed. */
static void say(struct guest *guest, const char *text)
{
    (void)imp_stream_write(guest->stream, text, strlen(text));
}

/* Back on the connection's loop, after the commit: what is said now is on disk. */
static void visit_counted(imp_status status, const imp_error *error, void *arg)
{
    struct guest *guest = arg;
    struct hello *hello = guest->hello;
    char answer[IMP_NAME_MAX + 512];

    guest->is_writing = false;
    if (guest->stream == NULL) {
        free(guest);
        return;
    }
    if (status == IMP_OK) {
        snprintf(answer, sizeof answer, "%.400s, %s: visit %" PRIu64 "\n",
                 atomic_load(&hello->conf)->greeting, guest->name, guest->visits);
        imp_metric_add(hello->greetings, 1);
    } else {
        snprintf(answer, sizeof answer, "Sorry: %s\n", error->message);
    }
    say(guest, answer);
    imp_stream_resume(guest->stream); /* the next line may be there already */
}

static void greet(struct guest *guest)
{
    imp_status status =
        imp_store_write(guest->hello->self, IMP_WRITE_BULK, count_visit, visit_counted, guest);
    guest->is_writing = status == IMP_OK;
    if (guest->is_writing)
        imp_stream_pause(guest->stream); /* one line at a time */
    else
        say(guest, "Sorry: too busy, come again\n");
}

static void on_readable(imp_stream *stream, void *arg)
{
    struct guest *guest = arg;
    imp_bytes input = imp_stream_input(stream);
    const char *end = memchr(input.data, '\n', input.length);

    while (end != NULL && !guest->is_writing) {
        size_t length = (size_t)(end - (const char *)input.data);
        /* What a client sends is hostile: made clean UTF-8 here, judged two lines below. */
        imp_text_clean(guest->name, sizeof guest->name, input.data, length);
        imp_stream_consume(stream, length + 1);
        if (imp_name_is_valid(guest->name))
            greet(guest);
        else
            say(guest, "Sorry: that is no name\n");
        input = imp_stream_input(stream);
        end = memchr(input.data, '\n', input.length);
    }
    if (end == NULL && input.length >= IMP_NAME_MAX) {
        say(guest, "Sorry: that is too long\n");
        imp_stream_close(stream);
    }
}

static void on_closed(imp_stream *stream IMP_UNUSED, imp_close_reason reason IMP_UNUSED, void *arg)
{
    struct guest *guest = arg;
    guest->stream = NULL;
    if (!guest->is_writing)
        free(guest); /* else visit_counted does it */
}

static const imp_stream_events guest_events = {
    .size = sizeof(imp_stream_events), .readable = on_readable, .closed = on_closed};

static imp_status on_accepted(imp_self *self IMP_UNUSED, void *instance,
                              const char *listener IMP_UNUSED, imp_stream *stream)
{
    struct guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL)
        return IMP_LIMIT;
    guest->hello = instance;
    guest->stream = stream;
    imp_stream_set_idle_timeout(stream, 60 * IMP_SECOND);
    imp_stream_set_events(stream, &guest_events, guest);
    return IMP_OK;
}

/* ---- hook ---- */

/* Asked before a job is committed. IMP_HOOK_REFUSE, with a reason in `error`, would refuse it. */
static imp_hook_answer on_job(imp_self *self, void *instance, imp_hook_run *run IMP_UNUSED,
                              void *argument, imp_error *error IMP_UNUSED)
{
    const imp_job_received_argument *received = argument;
    struct hello *hello = instance;
    char id[IMP_ID_TEXT_SIZE];
    imp_metric_add(hello->jobs, 1);
    imp_log(self, IMP_LOG_INFO, "hello.job", "job=%s bytes=%" PRIu64,
            imp_id_format(received->job, id), received->document_bytes);
    return IMP_HOOK_CONTINUE;
}

static const imp_hook_spec hello_hook = {.size = sizeof(imp_hook_spec),
                                         .point = "job.received",
                                         .phase = IMP_PHASE_LAST,
                                         .function = on_job};

/* ---- verb ---- */

static void verb_show(imp_self *self, void *instance, imp_request *request)
{
    struct hello *hello = instance;
    imp_error error = {.status = IMP_OK};
    uint64_t names = 0;
    imp_tx *tx;
    imp_status status = imp_store_read_begin(self, &tx, &error);
    if (status == IMP_OK) {
        status = imp_tx_count(tx, hello->visits, &names);
        imp_store_read_end(tx);
    }
    if (status == IMP_OK) {
        imp_row_begin(request, true);
        imp_field_integer(request, "names", (int64_t)names);
    }
    imp_request_finish(request, status, &error);
}

static const imp_verb_spec hello_verb = {.size = sizeof(imp_verb_spec),
                                         .words = "hello show",
                                         .help = "show how many names are known",
                                         .run = verb_show};

/* ---- life ---- */

static imp_status hello_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    struct hello *hello = calloc(1, sizeof *hello);
    if (hello == NULL)
        return imp_error_set(error, IMP_LIMIT, "memory is short");
    hello->self = self;
    atomic_init(&hello->conf, conf);
    hello->visits = imp_table_open(self, "visit"); /* never NULL: hello_tables names it */
    hello->greetings =
        imp_metric_register(self, IMP_METRIC_COUNTER, "greetings_total", NULL, "greetings given");
    hello->jobs = imp_metric_register(self, IMP_METRIC_COUNTER, "jobs_total", NULL, "jobs seen");
    imp_status status = imp_hook_add(self, &hello_hook, error);
    if (status == IMP_OK)
        status = imp_verb_add(self, &hello_verb, error);
    if (status == IMP_OK)
        status = imp_listen(self, on_accepted, error);
    if (status == IMP_OK)
        *instance = hello;
    else
        free(hello); /* what was registered is swept by the core */
    return status;
}

static void hello_reconfigure(imp_self *self IMP_UNUSED, void *instance, const void *conf)
{
    struct hello *hello = instance;
    atomic_store(&hello->conf, conf); /* the old block lives until every thread has left it */
}

static void hello_stop(imp_self *self IMP_UNUSED, void *instance)
{
    free(instance); /* connections and writes are over: the core has waited for them */
}

IMP_MODULE(.name = "hello", .version = "1.0.0", .summary = "greets and counts",
           .options = hello_options, .conf_size = sizeof(struct hello_conf), .tables = hello_tables,
           .start = hello_start, .reconfigure = hello_reconfigure, .stop = hello_stop);
IMP_MODULE_NOTE("hello", "1.0.0", "", "");
