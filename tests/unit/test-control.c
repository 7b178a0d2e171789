/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-control.c - verbs and command lines, and whole conversations with the real imprimctl: the
 * server's side runs in this process on a loop turned by hand, imprimctl as a child.
 */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/control-frame.h"
#include "core/control-request.h"
#include "core/control.h"
#include "core/loop.h"
#include "core/metrics.h"
#include "core/self.h"
#include "core/time.h"

#define DEADLINE_MS 20000

static char folder[64], program[512];
static imp_error error;

/* ---- verbs of the tests ---- */

static imp_request *parked;
static char answers[256];
static bool was_abandoned;

static void verb_rows(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_id id = {{0xAB}};
    imp_row_begin(request, false);
    imp_field_text(request, "name", "M\xC3\xBCller");
    imp_field_integer(request, "pages", 7);
    imp_field_bool(request, "held", true);
    imp_row_begin(request, false);
    imp_field_text(request, "name", "\xE5\x8D\xB0"); /* two columns wide */
    imp_field_integer(request, "pages", 1234);
    imp_field_bool(request, "held", false);
    imp_field_id(request, "id", id);
    imp_request_finish(request, IMP_OK, NULL);
}

static void verb_one(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_row_begin(request, true);
    imp_field_text(request, "job", imp_request_value(request, "JOB", 0));
    imp_field_text(request, "second", imp_request_value(request, "MORE", 1));
    imp_field_text(request, "device", imp_request_value(request, "device", 0));
    imp_field_bool(request, "card", imp_request_value(request, "card", 0) != NULL);
    imp_field_time(request, "when", INT64_C(1795350896789012));
    imp_field_time(request, "never", 0);
    imp_field_text(request, "dirty", "a\nb\x1b[2J");
    imp_field_integer(request, "uid", imp_request_uid(request));
    imp_request_finish(request, IMP_OK, NULL);
}

static void verb_refuse(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_error reason;
    imp_request_say(request, "looking for it");
    imp_error_set(&reason, IMP_NOT_FOUND, "there is no such job");
    imp_request_finish(request, IMP_NOT_FOUND, &reason);
}

static void answered(imp_request *request, const char *const *values, uint32_t count, void *arg)
{
    assert_ptr_equal(arg, answers);
    was_abandoned = values == NULL;
    answers[0] = '\0';
    for (uint32_t i = 0; values != NULL && i < count; i++) {
        size_t length = strlen(answers);
        snprintf(answers + length, sizeof answers - length, "%s|", values[i]);
    }
    if (values == NULL) {
        imp_request_finish(request, IMP_DENIED, NULL);
        return;
    }
    imp_request_say(request, "released");
    imp_request_finish(request, IMP_OK, NULL);
}

static void verb_ask(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    imp_request_ask(request, "card pin", answered, answers);
}

static void verb_copy(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    char buffer[64];
    imp_error reason;
    int in = imp_request_file(request, "FROM"), out = imp_request_file(request, "TO");
    ssize_t length = read(in, buffer, sizeof buffer);
    if (length < 0 || write(out, buffer, (size_t)length) != length) {
        imp_error_set(&reason, IMP_IO, "copying failed");
        imp_request_finish(request, IMP_IO, &reason);
        return;
    }
    imp_request_finish(request, IMP_OK, NULL);
}

static void verb_park(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    parked = request;
}

static pthread_t elsewhere;

static void *finish_elsewhere(void *request)
{
    imp_request_say(request, "from another thread");
    imp_request_finish(request, IMP_OK, NULL);
    return NULL;
}

static void verb_thread(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    assert_int_equal(pthread_create(&elsewhere, NULL, finish_elsewhere, request), 0);
}

static void verb_many(imp_self *self, void *instance, imp_request *request)
{
    (void)self;
    (void)instance;
    for (int i = 0; i < 3000; i++) {
        imp_row_begin(request, false);
        imp_field_integer(request, "n", i);
        imp_field_printf(request, "text", "%0300d", i);
    }
    imp_request_finish(request, IMP_OK, NULL);
}

static void add_verb(imp_self *self, const char *words, const char *arguments, const char *options,
                     void (*run)(imp_self *, void *, imp_request *))
{
    const imp_verb_spec spec = {.size = sizeof spec,
                                .words = words,
                                .arguments = arguments,
                                .options = options,
                                .help = "for tests",
                                .run = run};
    assert_int_equal(imp_verb_add(self, &spec, &error), IMP_OK);
}

/* ---- the server's side ---- */

static struct config *config;
static imp_status reload_status;

static const struct config *get_config(void *arg)
{
    (void)arg;
    return config;
}

static const struct config_block *get_block(void *arg, const char *module)
{
    (void)arg;
    return strcmp(module, "core2") == 0 ? config_core_block(config) : NULL;
}

static imp_status reload(void *arg, imp_request *request, imp_error *reason)
{
    (void)arg;
    if (reload_status != IMP_OK)
        return imp_error_set(reason, reload_status, "imprimatur.conf:3: x: found y, expected z");
    imp_request_say(request, "lpr takes idle_timeout while running");
    return IMP_OK;
}

static void more_status(void *arg, imp_request *request)
{
    (void)arg;
    imp_field_text(request, "extra", "here");
}

static int set_up(void **state)
{
    (void)state;
    char path[128];
    snprintf(folder, sizeof folder, "/tmp/imprimatur-test-ctl-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/modules-enabled", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/imprimatur.conf", folder);
    FILE *out = fopen(path, "w");
    fprintf(out, "run_dir = \"%s\";\nlog_level = \"notice\";\n", folder);
    fclose(out);
    chmod(path, 0644);
    assert_int_equal(config_load(path, &config, &error), IMP_OK);
    assert_int_equal(loop_setup_for_test(&error), IMP_OK);
    const struct control_core core = {
        .config = get_config, .block = get_block, .reload = reload, .status = more_status};
    assert_int_equal(control_add_core_verbs(&core, &error), IMP_OK);
    add_verb(NULL, "test rows", "", "", verb_rows);
    add_verb(NULL, "test one", "JOB [MORE...]", "device=DEVICE card", verb_one);
    add_verb(NULL, "test refuse", "", "", verb_refuse);
    add_verb(NULL, "test ask", "", "", verb_ask);
    add_verb(NULL, "test copy", "<FROM >TO", "", verb_copy);
    add_verb(NULL, "test park", "", "", verb_park);
    add_verb(NULL, "test thread", "", "", verb_thread);
    add_verb(NULL, "test many", "", "", verb_many);
    assert_int_equal(control_start(folder, "", &error), IMP_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"control.sock", "imprimatur.conf", "modules-enabled",
                                        "from", "to"};
    char path[128];
    control_stop();
    while (loop_run_once(imp_loop_control(), false))
        continue;
    control_clear();
    loop_stop();
    loop_teardown();
    config_free(config);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

/* ---- imprimctl as a child ---- */

static char out[1 << 21], err[8192];

struct child {
    pid_t pid;
    int in, out, err;
};

/* `input` is its standard input; -1: a pipe. */
static void start_child_on(struct child *child, int input, const char *const *words)
{
    const char *argv[32] = {program};
    int in[2], output[2], errors[2], count = 1;
    for (; words[count - 1] != NULL; count++)
        argv[count] = words[count - 1];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    assert_int_equal(pipe2(errors, O_CLOEXEC), 0);
    child->pid = fork();
    assert_true(child->pid >= 0);
    if (child->pid == 0) {
        dup2(input >= 0 ? input : in[0], 0);
        dup2(output[1], 1);
        dup2(errors[1], 2);
        execv(program, (char *const *)argv);
        _exit(99);
    }
    close(in[0]);
    close(output[1]);
    close(errors[1]);
    child->in = in[1];
    child->out = output[0];
    child->err = errors[0];
    fcntl(child->out, F_SETFL, O_NONBLOCK);
    fcntl(child->err, F_SETFL, O_NONBLOCK);
}

static void start_child(struct child *child, const char *const *words)
{
    start_child_on(child, -1, words);
}

static bool drain(int fd, char *text, size_t size, size_t *used)
{
    ssize_t length;
    while ((length = read(fd, text + *used, size - 1 - *used)) > 0)
        *used += (size_t)length;
    text[*used] = '\0';
    return length != 0;
}

/* Turns the loop until the child has ended; the loop's own timers bound each turn's sleep. */
static int finish_child(struct child *child)
{
    size_t out_used = 0, err_used = 0;
    bool out_open = true, err_open = true;
    int status;
    for (int waited = 0; out_open || err_open; waited++) {
        assert_true(waited < DEADLINE_MS);
        while (loop_run_once(imp_loop_control(), false))
            continue;
        struct pollfd fds[] = {{.fd = out_open ? child->out : -1, .events = POLLIN},
                               {.fd = err_open ? child->err : -1, .events = POLLIN}};
        poll(fds, 2, 1);
        out_open = out_open && drain(child->out, out, sizeof out, &out_used);
        err_open = err_open && drain(child->err, err, sizeof err, &err_used);
    }
    close(child->in);
    close(child->out);
    close(child->err);
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    while (loop_run_once(imp_loop_control(), false))
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void turn_until(const bool *flag)
{
    for (int waited = 0; !*flag; waited++) {
        assert_true(waited < DEADLINE_MS);
        while (loop_run_once(imp_loop_control(), false))
            continue;
        poll(NULL, 0, *flag ? 0 : 1);
    }
}

/* Runs imprimctl against our socket with `input` as its standard input. */
static int run_with(const char *input, const char *const *words)
{
    struct child child;
    char path[128];
    const char *argv[32] = {"--socket", path};
    int count = 2;
    snprintf(path, sizeof path, "%s/control.sock", folder);
    for (int i = 0; words[i] != NULL; i++)
        argv[count++] = words[i];
    start_child(&child, argv);
    assert_int_equal(write(child.in, input, strlen(input)), (ssize_t)strlen(input));
    close(child.in);
    child.in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return finish_child(&child);
}
#define RUN(...) run_with("", (const char *const[]){__VA_ARGS__, NULL})

/* ---- printing ---- */

static void test_rows_are_an_aligned_table(void **state)
{
    (void)state;
    assert_int_equal(RUN("test", "rows"), 0);
    assert_string_equal(out, "NAME    PAGES  HELD  ID\n"
                             "M\xC3\xBCller      7  yes   -\n"
                             "\xE5\x8D\xB0       1234  no    ab000000000000000000000000000000\n");
    assert_string_equal(err, "");
}

static void test_rows_are_a_json_array(void **state)
{
    (void)state;
    assert_int_equal(RUN("--json", "test", "rows"), 0);
    json_t *json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    assert_true(json_is_array(json));
    assert_int_equal(json_array_size(json), 2);
    const json_t *row = json_array_get(json, 0);
    assert_string_equal(json_string_value(json_object_get(row, "name")), "M\xC3\xBCller");
    assert_int_equal(json_integer_value(json_object_get(row, "pages")), 7);
    assert_true(json_is_true(json_object_get(row, "held")));
    json_decref(json);
}

static void test_single_row_is_a_list_of_names_and_values(void **state)
{
    (void)state;
    char expected[512];
    assert_int_equal(RUN("test", "one", "J1", "a", "b", "--device=D", "--card"), 0);
    snprintf(expected, sizeof expected,
             "job     J1\nsecond  b\ndevice  D\ncard    yes\nwhen    2026-11-22T12:34:56.789012Z\n"
             "never   -\ndirty   a?b?[2J\nuid     %u\n",
             (unsigned)getuid());
    assert_string_equal(out, expected);
    assert_int_equal(RUN("--json", "test", "one", "--", "--card"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "job")), "--card");
    assert_true(json_is_null(json_object_get(json, "device")));
    assert_true(json_is_null(json_object_get(json, "never")));
    json_decref(json);
}

static void test_long_answers_arrive_whole(void **state)
{
    (void)state;
    assert_int_equal(RUN("--json", "test", "many"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(json), 3000);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 2999), "n")), 2999);
    json_decref(json);
}

/* ---- refusals ---- */

static void test_refusal_goes_to_standard_error_with_status_1(void **state)
{
    (void)state;
    assert_int_equal(RUN("test", "refuse"), 1);
    assert_string_equal(out, "looking for it\n");
    assert_string_equal(err, "imprimctl: there is no such job\n");
    assert_int_equal(RUN("--json", "test", "refuse"), 1);
    assert_non_null(strstr(out, "\"messages\""));
}

static void test_wrong_use_has_status_2_and_the_usage_line(void **state)
{
    (void)state;
    static const char usage[] =
        "usage: imprimctl test one JOB [MORE...] [--device DEVICE] [--card]\n";
    static const struct {
        const char *words[6], *what;
    } rows[] = {
        {{"test", "one", NULL}, "imprimctl: an argument is missing: JOB; "},
        {{"test", "one", "J", "--nope", NULL}, "imprimctl: unknown option --nope; "},
        {{"test", "one", "J", "--device", NULL},
         "imprimctl: an option without its value: --device; "},
        {{"test", "one", "J", "--card=1", NULL},
         "imprimctl: an option that takes no value: --card; "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(run_with("", rows[i].words), 2);
        assert_ptr_equal(strstr(err, rows[i].what), err);
        assert_string_equal(err + strlen(rows[i].what), usage);
        assert_string_equal(out, "");
    }
    assert_int_equal(RUN("test", "rows", "x"), 2);
    assert_string_equal(err, "imprimctl: one argument too many: x; usage: imprimctl test rows\n");
}

static void test_unknown_commands_name_what_there_is(void **state)
{
    (void)state;
    assert_int_equal(RUN("nonsense"), 2);
    assert_string_equal(err, "imprimctl: no such command: nonsense; see: imprimctl help\n");
    assert_int_equal(RUN("config", "shew"), 2);
    assert_string_equal(
        err, "imprimctl: no such command: config shew; there is: config reload, config show\n");
}

static void test_own_options_are_checked(void **state)
{
    (void)state;
    struct child child;
    start_child(&child, (const char *const[]){"--nope", NULL});
    assert_int_equal(finish_child(&child), 2);
    assert_non_null(strstr(err, "usage: imprimctl [--socket PATH]"));
    start_child(&child, (const char *const[]){NULL});
    assert_int_equal(finish_child(&child), 2);
    start_child(&child, (const char *const[]){"--help", NULL});
    assert_int_equal(finish_child(&child), 0);
    assert_non_null(strstr(out, "usage: imprimctl [--socket PATH]"));
}

static void test_missing_server_is_one_line_and_status_1(void **state)
{
    (void)state;
    struct child child;
    start_child(&child, (const char *const[]){"--socket", "/nowhere/s", "status", NULL});
    assert_int_equal(finish_child(&child), 1);
    assert_string_equal(err, "imprimctl: no server answers at /nowhere/s (No such file or "
                             "directory)\n");
    assert_string_equal(out, "");
}

static void test_socket_is_found_by_config_and_variable(void **state)
{
    (void)state;
    struct child child;
    char path[128];
    snprintf(path, sizeof path, "%s/imprimatur.conf", folder);
    start_child(&child, (const char *const[]){"--config", path, "test", "rows", NULL});
    assert_int_equal(finish_child(&child), 0);
    snprintf(path, sizeof path, "%s/control.sock", folder);
    setenv("IMPRIMATUR_SOCKET", path, 1);
    start_child(&child, (const char *const[]){"test", "rows", NULL});
    unsetenv("IMPRIMATUR_SOCKET");
    assert_int_equal(finish_child(&child), 0);
}

/* ---- secrets and files ---- */

static void test_secrets_come_one_a_line_in_order(void **state)
{
    (void)state;
    const char *const words[] = {"test", "ask", NULL};
    assert_int_equal(run_with("c\xC3\xA4rd\r\n1234\nrest\n", words), 0);
    assert_string_equal(answers, "c\xC3\xA4rd|1234|");
    assert_string_equal(out, "released\n");
    assert_int_equal(run_with("only\n", words), 2);
    assert_string_equal(err, "imprimctl: standard input ended before pin came (one secret a "
                             "line)\n");
    turn_until(&was_abandoned);
    assert_int_equal(run_with("\xFF\nx\n", words), 2);
    assert_non_null(strstr(err, "the secrets that were asked for did not come, or are no UTF-8"));
}

/* On a terminal each secret is asked for, and what is typed is not shown. */
static void test_secrets_are_prompted_for_without_echo(void **state)
{
    (void)state;
    static const char *const prompts[] = {"card: ", "pin: "}, *const typed[] = {"c4rd\n", "9876\n"};
    struct child child;
    char path[128], shown[1024];
    size_t typed_count = 0, err_used = 0, shown_used = 0;
    snprintf(path, sizeof path, "%s/control.sock", folder);
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    assert_true(terminal >= 0);
    assert_int_equal(grantpt(terminal), 0);
    assert_int_equal(unlockpt(terminal), 0);
    int slave = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    start_child_on(&child, slave, (const char *const[]){"--socket", path, "test", "ask", NULL});
    for (int waited = 0; typed_count < 2; waited++) {
        assert_true(waited < DEADLINE_MS);
        while (loop_run_once(imp_loop_control(), false))
            continue;
        struct pollfd wait = {.fd = child.err, .events = POLLIN};
        poll(&wait, 1, 1);
        assert_true(drain(child.err, err, sizeof err, &err_used));
        if (strstr(err, prompts[typed_count]) != NULL) {
            size_t length = strlen(typed[typed_count]);
            assert_int_equal(write(terminal, typed[typed_count], length), (ssize_t)length);
            typed_count++;
        }
    }
    assert_int_equal(finish_child(&child), 0);
    assert_string_equal(answers, "c4rd|9876|");
    drain(terminal, shown, sizeof shown, &shown_used);
    assert_null(strstr(shown, "c4rd"));
    assert_null(strstr(shown, "9876"));
    close(slave);
    close(terminal);
}

static void test_files_are_opened_by_the_caller(void **state)
{
    (void)state;
    char from[128], to[128], text[64];
    struct stat status;
    snprintf(from, sizeof from, "%s/from", folder);
    snprintf(to, sizeof to, "%s/to", folder);
    FILE *file = fopen(from, "w");
    fputs("content", file);
    fclose(file);
    assert_int_equal(RUN("test", "copy", from, to), 0);
    file = fopen(to, "r");
    assert_int_equal(fread(text, 1, sizeof text, file), 7);
    fclose(file);
    assert_memory_equal(text, "content", 7);
    assert_int_equal(stat(to, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    /* What is there is never overwritten. */
    assert_int_equal(RUN("test", "copy", from, to), 1);
    assert_non_null(strstr(err, "File exists"));
    assert_int_equal(RUN("test", "copy", "/nowhere/x", to), 1);
    assert_non_null(strstr(err, "can't open /nowhere/x: No such file or directory"));
    remove(to);
    assert_int_equal(RUN("test", "copy", from, "-"), 0);
    assert_string_equal(out, "content");
}

/* ---- life of requests ---- */

static void test_request_may_be_finished_by_another_thread(void **state)
{
    (void)state;
    assert_int_equal(RUN("test", "thread"), 0);
    assert_string_equal(out, "from another thread\n");
    assert_int_equal(pthread_join(elsewhere, NULL), 0);
}

static void test_client_that_leaves_does_not_end_the_request(void **state)
{
    (void)state;
    struct child child;
    char path[128];
    snprintf(path, sizeof path, "%s/control.sock", folder);
    parked = NULL;
    start_child(&child, (const char *const[]){"--socket", path, "test", "park", NULL});
    for (int waited = 0; parked == NULL; waited++) {
        assert_true(waited < DEADLINE_MS);
        while (loop_run_once(imp_loop_control(), false))
            continue;
        poll(NULL, 0, 1);
    }
    kill(child.pid, SIGKILL);
    assert_int_equal(finish_child(&child), -1);
    imp_request_say(parked, "nobody hears this");
    imp_request_finish(parked, IMP_OK, NULL);
    imp_request_finish(parked, IMP_OK,
                       NULL); /* once is enough, twice does no harm before the turn */
    while (loop_run_once(imp_loop_control(), false))
        continue;
    assert_int_equal(RUN("test", "rows"), 0);
}

static void test_generations_share_a_verb_until_the_old_one_is_swept(void **state)
{
    (void)state;
    struct imp_self *old = self_new_for_test("lpr"), *next = self_new_for_test("lpr"),
                    *other = self_new_for_test("raw");
    const imp_verb_spec spec = {.size = sizeof spec, .words = "lpr x", .run = verb_rows};
    uint32_t used;
    assert_int_equal(imp_verb_add(old, &spec, &error), IMP_OK);
    assert_int_equal(imp_verb_add(old, &spec, &error), IMP_EXISTS);
    assert_int_equal(imp_verb_add(other, &spec, &error), IMP_EXISTS);
    assert_string_equal(error.message, "the verb \"lpr x\" is taken by lpr");
    assert_int_equal(imp_verb_add(NULL, &spec, &error), IMP_EXISTS);
    assert_int_equal(imp_verb_add(next, &spec, &error), IMP_OK);
    const char *const words[] = {"lpr", "x"};
    assert_ptr_equal(control_verb_find(words, 2, &used)->self, old);
    control_sweep(old);
    assert_ptr_equal(control_verb_find(words, 2, &used)->self, next);
    control_sweep(next);
    assert_null(control_verb_find(words, 2, &used));
    self_free_for_test(old);
    self_free_for_test(next);
    self_free_for_test(other);
}

static void test_verbs_with_bad_rows_are_refused(void **state)
{
    (void)state;
    static const char *const words[] = {"", "Upper", " x", "x ", "a  b", "a/b"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const imp_verb_spec spec = {.size = sizeof spec, .words = words[i], .run = verb_rows};
        assert_int_equal(imp_verb_add(NULL, &spec, &error), IMP_INVALID);
    }
    const imp_verb_spec bad = {
        .size = sizeof bad, .words = "bad", .arguments = "[]", .options = "=X", .run = verb_rows};
    assert_int_equal(imp_verb_add(NULL, &bad, &error), IMP_INVALID);
}

/* ---- the core's own verbs ---- */

static void test_status_shows_server_and_what_others_add(void **state)
{
    (void)state;
    assert_int_equal(RUN("status"), 0);
    assert_non_null(strstr(out, "version          " PACKAGE_VERSION "\n"));
    assert_non_null(strstr(out, "extra            here\n"));
}

static void test_metrics_are_printed_as_they_are(void **state)
{
    (void)state;
    assert_int_equal(RUN("metrics"), 0);
    assert_ptr_equal(strstr(out, "# HELP imprimatur_info "), out);
    assert_non_null(strstr(out, "\nprocess_open_fds "));
}

static void test_config_show_names_origins_and_help(void **state)
{
    (void)state;
    assert_int_equal(RUN("config", "show", "--origin", "core"), 0);
    assert_ptr_equal(strstr(out, "SETTING "), out);
    assert_non_null(strstr(out, "\"notice\""));
    assert_non_null(strstr(out, "imprimatur.conf:2\n"));
    assert_non_null(strstr(out, "default\n"));
    assert_int_equal(RUN("config", "show"), 0);
    assert_null(strstr(out, "imprimatur.conf:2"));
    assert_int_equal(RUN("--json", "config", "show", "--help", "core2"), 0);
    assert_non_null(strstr(out, "\"setting\": \"core2.log_level\""));
    assert_non_null(strstr(out, "while running"));
    assert_int_equal(RUN("config", "show", "nope"), 1);
    assert_string_equal(err, "imprimctl: module nope is not enabled\n");
}

static void test_config_reload_says_what_changed_or_why_not(void **state)
{
    (void)state;
    reload_status = IMP_OK;
    assert_int_equal(RUN("config", "reload"), 0);
    assert_string_equal(out, "lpr takes idle_timeout while running\nconfiguration reloaded\n");
    reload_status = IMP_INVALID;
    assert_int_equal(RUN("config", "reload"), 1);
    assert_string_equal(err, "imprimctl: imprimatur.conf:3: x: found y, expected z\n");
}

static void test_help_lists_commands(void **state)
{
    (void)state;
    assert_int_equal(RUN("help"), 0);
    assert_non_null(strstr(out, "imprimctl config show [MODULE] [--origin] [--help]"));
    assert_non_null(strstr(out, "imprimctl test one JOB [MORE...] [--device DEVICE] [--card]"));
    assert_int_equal(RUN("help", "config"), 0);
    assert_null(strstr(out, "imprimctl test"));
    assert_int_equal(RUN("help", "nothing"), 2);
}

/* ---- the socket ---- */

static int connect_raw(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends bytes and reads until the server hangs up. */
static const char *converse_raw(const void *bytes, size_t length)
{
    static char text[8192];
    size_t used = 0;
    int fd = connect_raw();
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
    for (int waited = 0;; waited++) {
        assert_true(waited < DEADLINE_MS);
        while (loop_run_once(imp_loop_control(), false))
            continue;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, 1);
        if (!drain(fd, text, sizeof text, &used))
            break;
    }
    close(fd);
    return used > CONTROL_HEADER_SIZE ? text + CONTROL_HEADER_SIZE : "";
}

static void test_socket_is_private_and_owned(void **state)
{
    (void)state;
    char path[128];
    struct stat status;
    snprintf(path, sizeof path, "%s/control.sock", folder);
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(status.st_mode & 07777, 0660);
}

static void test_second_server_is_refused_and_a_dead_ones_socket_replaced(void **state)
{
    (void)state;
    assert_int_equal(control_start(folder, "", &error), IMP_EXISTS);
    assert_non_null(strstr(error.message, "another server answers at "));
    control_stop();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    assert_int_equal(control_start(folder, "", &error), IMP_OK);
    assert_int_equal(RUN("test", "rows"), 0);
}

static void test_too_long_run_dir_is_explained(void **state)
{
    (void)state;
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    control_stop();
    assert_int_equal(control_start(path, "", &error), IMP_INVALID);
    assert_non_null(strstr(error.message, "run_dir: found"));
}

/* What the server says to a client of a strange user with these groups, that asks
 * for help. */
static const char *greeting(gid_t group, gid_t supplementary)
{
    static char text[1024];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t used = 0;
    int ends[2];
    snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", folder);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const char help[] = "\0\0\0\x12\1{\"argv\":[\"help\"]}";
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (setgroups(1, &supplementary) != 0 || setgid(group) != 0 || setuid(65533) != 0 ||
            connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
            _exit(1);
        /* Refused ones may find it closed already. */
        (void)!send(fd, help, sizeof help - 1, MSG_NOSIGNAL);
        ssize_t length;
        while ((length = read(fd, text, sizeof text)) > 0)
            if (write(ends[1], text, (size_t)length) != length)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    for (int waited = 0;; waited++) {
        char part[1024];
        size_t part_used = 0;
        assert_true(waited < DEADLINE_MS);
        while (loop_run_once(imp_loop_control(), false))
            continue;
        struct pollfd wait = {.fd = ends[0], .events = POLLIN};
        poll(&wait, 1, 1);
        bool is_open = drain(ends[0], part, sizeof part, &part_used);
        size_t room = sizeof text - 1 - used;
        memcpy(text + used, part, part_used < room ? part_used : room);
        used += part_used < room ? part_used : room;
        if (!is_open)
            break;
    }
    text[used] = '\0';
    close(ends[0]);
    waitpid(pid, NULL, 0);
    return used > CONTROL_HEADER_SIZE ? text + CONTROL_HEADER_SIZE : "";
}

static void test_credentials_decide_who_may(void **state)
{
    (void)state;
    char path[128];
    struct group *group = getgrnam("nogroup");
    struct stat status;
    if (getuid() != 0 || group == NULL) {
        skip();
        return;
    }
    control_stop();
    assert_int_equal(control_start(folder, "nogroup", &error), IMP_OK);
    snprintf(path, sizeof path, "%s/control.sock", folder);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_gid, group->gr_gid);
    /* Mode and folder let everybody in here, so that the check of credentials is what refuses. */
    chmod(folder, 0755);
    chmod(path, 0666);
    assert_non_null(strstr(greeting(65532, 65531), "only root and members of the control group"));
    assert_non_null(strstr(greeting(group->gr_gid, 65531), "imprimctl help"));
    assert_non_null(strstr(greeting(65532, group->gr_gid), "imprimctl help"));
    /* A group that is not there lets nobody in. */
    control_stop();
    assert_int_equal(control_start(folder, "no-such-group-here", &error), IMP_OK);
    chmod(path, 0666);
    assert_non_null(
        strstr(greeting(group->gr_gid, 65531), "only root and members of the control group"));
}

static void test_silent_client_is_hung_up_on(void **state)
{
    (void)state;
    char byte;
    time_freeze_for_test(imp_now(), imp_ticks());
    int fd = connect_raw();
    while (loop_run_once(imp_loop_control(), false))
        continue;
    time_advance_for_test(9 * IMP_SECOND);
    while (loop_run_once(imp_loop_control(), false))
        continue;
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    time_advance_for_test(2 * IMP_SECOND);
    while (loop_run_once(imp_loop_control(), false))
        continue;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    time_thaw_for_test();
}

static void test_broken_frames_are_answered_and_end_the_connection(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        const char *answer;
    } rows[] = {
        {"\xFF\xFF\xFF\xFF\x01", 5, "can't be read"}, /* longer than allowed */
        {"\0\0\0\0\x01", 5, "can't be read"},         /* no kind */
        {"\0\0\0\1\x09", 5, "can't be read"},         /* unknown kind */
        {"\0\0\0\2\1{", 6, "no JSON"},                /* cut JSON */
        {"\0\0\0\3\1[]", 7, "no JSON object"},        /* no object */
        {"\0\0\0\x0F\1{\"a\":1,\"a\":1}", 19, "no JSON: duplicate"},
        {"\0\0\0\3\1{}", 7, "has no argv"},
        {"\0\0\0\x0D\1{\"argv\":[1]}", 17, "something else than strings"},
        {"\0\0\0\x0C\1{\"argv\":[]}", 16, "no command was given"},
        {"\0\0\0\3\3a\0", 7, "was not asked for"}, /* secrets nobody asked for */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *answer = converse_raw(rows[i].bytes, rows[i].length);
        if (strstr(answer, rows[i].answer) == NULL)
            fail_msg("row %zu: %s", i, answer);
    }
    assert_int_equal(RUN("test", "rows"), 0);
}

static size_t add_frame(char *bytes, char kind, const char *payload, size_t length)
{
    const char header[] = {0, 0, (char)((length + 1) >> 8), (char)(length + 1), kind};
    memcpy(bytes, header, sizeof header);
    memcpy(bytes + sizeof header, payload, length);
    return sizeof header + length;
}

static void test_frames_out_of_turn_end_the_connection_not_the_request(void **state)
{
    (void)state;
    static const char park[] = "{\"argv\":[\"test\",\"park\"]}";
    char bytes[256];
    size_t length = add_frame(bytes, CONTROL_FRAME_JSON, park, sizeof park - 1);
    length += add_frame(bytes + length, CONTROL_FRAME_JSON, park, sizeof park - 1);
    parked = NULL;
    assert_non_null(strstr(converse_raw(bytes, length), "was not asked for"));
    assert_non_null(parked);
    imp_request_finish(parked, IMP_OK, NULL);
    parked = NULL;
    length = add_frame(bytes, CONTROL_FRAME_JSON, park, sizeof park - 1);
    length += add_frame(bytes + length, 9, park, sizeof park - 1);
    assert_non_null(strstr(converse_raw(bytes, length), "can't be read"));
    imp_request_finish(parked, IMP_OK, NULL);
}

static void test_files_that_do_not_come_are_a_refusal(void **state)
{
    (void)state;
    static const char copy[] = "{\"argv\":[\"test\",\"copy\",\"a\",\"b\"]}";
    char bytes[256];
    for (size_t marks = 0; marks < 4; marks++) {
        size_t length = add_frame(bytes, CONTROL_FRAME_JSON, copy, sizeof copy - 1);
        length += add_frame(bytes + length, CONTROL_FRAME_FILES, "\0\0\0\0", marks);
        const char *answer = converse_raw(bytes, length);
        /* Behind the frame that asks for the files. */
        assert_non_null(strstr(answer, "\"files\":[{\"name\":\"FROM\",\"path\":\"a\""));
        answer += strlen(answer);
        while (*answer != '{')
            answer++;
        assert_non_null(strstr(answer, "did not come"));
    }
}

static void test_secrets_of_the_wrong_number_are_a_refusal(void **state)
{
    (void)state;
    static const char ask[] = "{\"argv\":[\"test\",\"ask\"]}";
    static const struct {
        const char *payload;
        size_t length;
    } rows[] = {{"", 0}, {"a\0", 2}, {"a\0b", 3}, {"a\0b\0c\0", 6}};
    char bytes[256];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t length = add_frame(bytes, CONTROL_FRAME_JSON, ask, sizeof ask - 1);
        length += add_frame(bytes + length, CONTROL_FRAME_SECRETS, rows[i].payload, rows[i].length);
        was_abandoned = false;
        const char *answer = converse_raw(bytes, length);
        answer += strlen(answer);
        while (*answer != '{')
            answer++;
        assert_non_null(strstr(answer, "did not come"));
        turn_until(&was_abandoned);
    }
}

static void test_deep_json_never_reaches_the_parser(void **state)
{
    (void)state;
    char payload[4096];
    memset(payload, '[', sizeof payload);
    assert_null(control_frame_parse(payload, sizeof payload, &error));
    assert_string_equal(error.message, "a frame on the control socket is nested too deep");
}

static void local_done(const char *frames, int exit_status, void *arg)
{
    assert_int_equal(exit_status, *(int *)arg);
    *(int *)arg = -1;
    assert_non_null(strstr(frames, "\"done\""));
}

static void test_local_runs_give_frames_and_status(void **state)
{
    (void)state;
    const char *const rows[] = {"test", "rows"}, *const bad[] = {"test", "one"},
                      *const ask[] = {"test", "ask"};
    int expected = 0;
    control_run_for_test(rows, 2, 0, local_done, &expected);
    while (loop_run_once(imp_loop_control(), false))
        continue;
    assert_int_equal(expected, -1);
    expected = 2;
    control_run_for_test(bad, 2, 0, local_done, &expected);
    assert_int_equal(expected, -1);
    expected = 1;
    control_run_for_test(ask, 2, 0, local_done, &expected);
    while (loop_run_once(imp_loop_control(), false))
        continue;
    assert_int_equal(expected, -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const char *top = getenv("top_builddir");
    snprintf(program, sizeof program, "%s/imprimctl", top == NULL ? "." : top);
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(test_rows_are_an_aligned_table),
        TEST(test_rows_are_a_json_array),
        TEST(test_single_row_is_a_list_of_names_and_values),
        TEST(test_long_answers_arrive_whole),
        TEST(test_refusal_goes_to_standard_error_with_status_1),
        TEST(test_wrong_use_has_status_2_and_the_usage_line),
        TEST(test_unknown_commands_name_what_there_is),
        TEST(test_own_options_are_checked),
        TEST(test_missing_server_is_one_line_and_status_1),
        TEST(test_socket_is_found_by_config_and_variable),
        TEST(test_secrets_come_one_a_line_in_order),
        TEST(test_secrets_are_prompted_for_without_echo),
        TEST(test_files_are_opened_by_the_caller),
        TEST(test_request_may_be_finished_by_another_thread),
        TEST(test_client_that_leaves_does_not_end_the_request),
        TEST(test_generations_share_a_verb_until_the_old_one_is_swept),
        TEST(test_verbs_with_bad_rows_are_refused),
        TEST(test_status_shows_server_and_what_others_add),
        TEST(test_metrics_are_printed_as_they_are),
        TEST(test_config_show_names_origins_and_help),
        TEST(test_config_reload_says_what_changed_or_why_not),
        TEST(test_help_lists_commands),
        TEST(test_socket_is_private_and_owned),
        TEST(test_second_server_is_refused_and_a_dead_ones_socket_replaced),
        TEST(test_too_long_run_dir_is_explained),
        TEST(test_credentials_decide_who_may),
        TEST(test_silent_client_is_hung_up_on),
        TEST(test_broken_frames_are_answered_and_end_the_connection),
        TEST(test_frames_out_of_turn_end_the_connection_not_the_request),
        TEST(test_files_that_do_not_come_are_a_refusal),
        TEST(test_secrets_of_the_wrong_number_are_a_refusal),
        TEST(test_deep_json_never_reaches_the_parser),
        TEST(test_local_runs_give_frames_and_status),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
