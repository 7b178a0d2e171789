/* SPDX-License-Identifier: Apache-2.0 */
/* test-config.c - reading, refusing, overlaying and reloading; every kind of message is here. */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"

/* ---- a sample module ---- */

struct rule {
    const char *host;
    int64_t weight;
    imp_string_list tags;
};

struct sample {
    const char *queue;
    bool is_on;
    int64_t count, bound, idle, mode;
    imp_string_list names;
    imp_secret password;
    imp_group_list rules;
    const char *fixed;
};

static const imp_option rule_rows[] = {
    IMP_OPT_STRING(struct rule, host, NULL, IMP_REQUIRED, "host"),
    IMP_OPT_INTEGER(struct rule, weight, "1", "0", "9", 0, "weight"),
    IMP_OPT_STRINGS(struct rule, tags, 0, "tags"),
    IMP_OPT_END,
};

static const imp_option sample_rows[] = {
    IMP_OPT_STRING(struct sample, queue, "hold", IMP_LIVE, "queue when none fits"),
    IMP_OPT_BOOL(struct sample, is_on, "true", IMP_LIVE, "whether"),
    IMP_OPT_INTEGER(struct sample, count, "5", "1", "100", IMP_LIVE, "how many"),
    IMP_OPT_SIZE(struct sample, bound, "32KiB", "1KiB", "1GiB", 0, "how much"),
    IMP_OPT_DURATION(struct sample, idle, "60s", "1s", "1h", IMP_LIVE, "how long"),
    IMP_OPT_ENUM(struct sample, mode, "hold|direct", "hold", IMP_LIVE, "what"),
    IMP_OPT_STRINGS(struct sample, names, IMP_LIVE, "names"),
    IMP_OPT_SECRET(struct sample, password, IMP_LIVE, "password"),
    IMP_OPT_GROUPS(struct sample, rules, struct rule, rule_rows, IMP_LIVE, "rules"),
    IMP_OPT_STRING(struct sample, fixed, "", IMP_ETC_ONLY, "from the files alone"),
    IMP_OPT_END,
};

static imp_status sample_check(const void *conf, imp_error *error)
{
    const struct sample *sample = conf;
    if (strcmp(sample->queue, "forbidden") == 0)
        return imp_error_set(error, IMP_INVALID, "lpr.queue: there is no queue \"forbidden\"");
    return IMP_OK;
}

static const imp_module sample_module = {.size = sizeof(imp_module),
                                         .name = "lpr",
                                         .options = sample_rows,
                                         .conf_size = sizeof(struct sample),
                                         .check = sample_check};

/* ---- a folder with files ---- */

static char folder[64], main_path[96];
static imp_error error;

static void write_text(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void remove_file(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
}

static int make_folder(void **state)
{
    (void)state;
    char path[96];
    snprintf(folder, sizeof folder, "/tmp/imprimatur-test-config-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/modules-enabled", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(chmod(path, 0755), 0);
    snprintf(main_path, sizeof main_path, "%s/imprimatur.conf", folder);
    write_text("imprimatur.conf", "");
    memset(&error, 0, sizeof error);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"imprimatur.conf",
                                        "more.conf",
                                        "secret",
                                        "modules-enabled/lpr.conf",
                                        "modules-enabled/raw.conf",
                                        "modules-enabled/a.conf",
                                        "modules-enabled/Bad.conf",
                                        "modules-enabled/lpr.conf.dpkg-old",
                                        "modules-enabled"};
    char path[160];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static void assert_refused(imp_status status)
{
    struct config *config;
    assert_int_equal(config_load(main_path, &config, &error), status);
    assert_null(config);
    assert_null(strchr(error.message, '\n'));
}

static void refuses_main(const char *text, const char *message)
{
    write_text("imprimatur.conf", text);
    assert_refused(IMP_INVALID);
    assert_string_equal(error.message, message);
}

/* Reads `text` as the inside of lpr's group, from line 2 on; NULL when it is refused. */
static struct config_block *read_sample_overlaid(const char *text,
                                                 const struct config_overlay *overlay)
{
    struct config *config;
    struct config_block *block;
    char file[2048];
    snprintf(file, sizeof file, "lpr: {\n%s\n};\n", text);
    write_text("modules-enabled/lpr.conf", file);
    error.message[0] = '\0';
    if (config_load_overlaid(main_path, overlay, &config, &error) != IMP_OK)
        return NULL;
    imp_status status = config_module_settings(config, &sample_module, "lpr", &block, &error);
    config_free(config); /* a block stands alone */
    assert_true((status == IMP_OK) == (block != NULL));
    return block;
}

static struct config_block *read_sample(const char *text)
{
    struct config_block *block = read_sample_overlaid(text, NULL);
    if (block == NULL)
        print_message("%s\n", error.message);
    assert_non_null(block);
    return block;
}

static void refuses_sample(const char *text, const char *message)
{
    struct config_block *block = read_sample_overlaid(text, NULL);
    assert_null(block);
    assert_string_equal(error.message, message);
}

static const struct config_entry *entry(const struct config_block *block, const char *path)
{
    for (uint32_t i = 0; i < config_block_entry_count(block); i++)
        if (strcmp(config_block_entry(block, i)->path, path) == 0)
            return config_block_entry(block, i);
    fail_msg("no entry %s", path);
    return NULL;
}

/* ---- the core's settings ---- */

static void test_empty_main_file_gives_defaults(void **state)
{
    (void)state;
    struct config *config;
    char path[128];
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    const struct config_core *core = config_core(config);
    assert_string_equal(core->run_dir, "/run/imprimatur");
    snprintf(path, sizeof path, "%s/modules-enabled", folder);
    assert_string_equal(core->modules_dir, path);
    assert_int_equal(core->worker_queue, 4096);
    assert_int_equal(core->quarantine_window, 600 * IMP_SECOND);
    assert_int_equal(core->map_size, INT64_C(64) << 30);
    assert_int_equal(config_log_level(core), IMP_LOG_INFO);
    assert_false(core->developer);
    assert_int_equal(config_module_count(config), 0);
    assert_int_equal(config_listeners(config)->count, 0);
    assert_string_equal(config_main_file(config), main_path);
    config_free(config);
}

static void test_main_file_is_read_and_origins_are_named(void **state)
{
    (void)state;
    struct config *config;
    write_text("imprimatur.conf", "state_dir = \"/x/state\";\n# more\nlog_level = \"debug\";\n"
                                  "developer = true;\nloops = 3;\n");
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    assert_string_equal(config_core(config)->state_dir, "/x/state");
    assert_int_equal(config_log_level(config_core(config)), IMP_LOG_DEBUG);
    assert_true(config_core(config)->developer);
    assert_int_equal(config_core(config)->loops, 3);
    const struct config_block *block = config_core_block(config);
    assert_string_equal(entry(block, "log_level")->origin, "imprimatur.conf:3");
    assert_string_equal(entry(block, "log_level")->value, "\"debug\"");
    assert_string_equal(entry(block, "workers")->origin, "default");
    config_free(config);
}

static void test_instance_name_moves_the_default_paths(void **state)
{
    (void)state;
    struct config *config;
    write_text("imprimatur.conf", "instance = \"north\"; state_dir = \"/srv/n\";");
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    assert_string_equal(config_core(config)->run_dir, "/run/imprimatur-north");
    assert_string_equal(config_core(config)->state_dir, "/srv/n");
    assert_non_null(strstr(config_core(config)->master_key, "/imprimatur-north-keys/master.key"));
    assert_string_equal(entry(config_core_block(config), "run_dir")->value,
                        "\"/run/imprimatur-north\"");
    config_free(config);
    refuses_main("instance = \"No!\";",
                 "imprimatur.conf:1: instance: found \"No!\", expected at most 23 of a-z, 0-9 and "
                 "\"-\", a letter first");
}

static void test_core_refusals_name_file_line_and_setting(void **state)
{
    (void)state;
    refuses_main("\nloops = 900;", "imprimatur.conf:2: loops: found 900, expected an integer (0 to "
                                   "64)");
    refuses_main("state_dir = \"var\";",
                 "imprimatur.conf:1: state_dir: found \"var\", expected an absolute path such as "
                 "\"/var/lib/imprimatur\"");
    refuses_main("master_key = \"key\";",
                 "imprimatur.conf:1: master_key: found \"key\", expected an absolute path or "
                 "\"credential:NAME\"");
    refuses_main("log_level = \"loud\";",
                 "imprimatur.conf:1: log_level: found \"loud\", expected one of \"critical\", "
                 "\"error\", \"warning\", \"notice\", \"info\", \"debug\"");
    refuses_main("tls_key = \"/k.pem\";",
                 "imprimatur.conf: tls_certificate: found nothing, expected a PEM file: "
                 "tls_certificate and tls_key go together");
    refuses_main("lpr: { };",
                 "imprimatur.conf:1: lpr: found an unknown setting, expected one of "
                 "instance state_dir run_dir master_key module_dir modules_dir user "
                 "group control_group developer loops workers worker_queue connections_max ...");
}

static void test_missing_main_file_is_said(void **state)
{
    (void)state;
    struct config *config;
    assert_int_equal(config_load("/nowhere/i.conf", &config, &error), IMP_NOT_FOUND);
    assert_string_equal(error.message, "can't read /nowhere/i.conf: No such file or directory");
}

/* ---- files and folder ---- */

static void test_syntax_error_names_file_and_line(void **state)
{
    (void)state;
    write_text("modules-enabled/lpr.conf", "lpr: {\n  queue = \"a\"\n  = 5;\n};\n");
    assert_refused(IMP_INVALID);
    assert_non_null(strstr(error.message, "modules-enabled/lpr.conf:3: found a syntax error"));
}

static void test_setting_twice_is_refused(void **state)
{
    (void)state;
    write_text("modules-enabled/lpr.conf", "lpr: {\n  queue = \"a\";\n  queue = \"b\";\n};\n");
    assert_refused(IMP_INVALID);
    assert_string_equal(error.message, "modules-enabled/lpr.conf:3: duplicate setting name");
}

static void test_group_must_be_named_like_its_file(void **state)
{
    (void)state;
    write_text("modules-enabled/lpr.conf", "\nraw: { };\n");
    assert_refused(IMP_INVALID);
    assert_string_equal(error.message,
                        "modules-enabled/lpr.conf:2: raw: found another name than the file's, "
                        "expected one group lpr: { ... }; and nothing else");
    write_text("modules-enabled/lpr.conf", "lpr: { };\nx = 1;\n");
    assert_refused(IMP_INVALID);
    assert_non_null(strstr(error.message, "modules-enabled/lpr.conf:2: x: found another name"));
    write_text("modules-enabled/lpr.conf", "lpr = 5;\n");
    assert_refused(IMP_INVALID);
    assert_non_null(strstr(error.message, "lpr.conf:1: lpr: found no group"));
    write_text("modules-enabled/lpr.conf", "# nothing\n");
    assert_refused(IMP_INVALID);
    assert_string_equal(error.message, "modules-enabled/lpr.conf:1: lpr: found nothing, expected "
                                       "one group lpr: { ... };");
}

static void test_dangling_symlink_is_explained(void **state)
{
    (void)state;
    char path[160];
    snprintf(path, sizeof path, "%s/modules-enabled/lpr.conf", folder);
    assert_int_equal(symlink("../modules.d/lpr.conf", path), 0);
    assert_refused(IMP_INVALID);
    assert_string_equal(error.message,
                        "modules-enabled/lpr.conf: found a symlink to a file that is not there, "
                        "expected ../modules.d/lpr.conf (or run: imprimctl module disable lpr)");
}

static void test_symlink_to_a_file_is_followed(void **state)
{
    (void)state;
    struct config *config;
    char path[160];
    write_text("more.conf", "lpr: { };");
    snprintf(path, sizeof path, "%s/modules-enabled/lpr.conf", folder);
    assert_int_equal(symlink("../more.conf", path), 0);
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    assert_true(config_module_is_enabled(config, "lpr"));
    config_free(config);
}

static void test_modules_come_in_name_order_and_other_files_are_left(void **state)
{
    (void)state;
    struct config *config;
    write_text("modules-enabled/raw.conf", "raw: { };");
    write_text("modules-enabled/a.conf", "a: { };");
    write_text("modules-enabled/lpr.conf", "lpr: { };");
    write_text("modules-enabled/lpr.conf.dpkg-old", "nonsense");
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    assert_int_equal(config_module_count(config), 3);
    assert_string_equal(config_module_name(config, 0), "a");
    assert_string_equal(config_module_name(config, 1), "lpr");
    assert_string_equal(config_module_name(config, 2), "raw");
    assert_null(config_module_name(config, 3));
    assert_false(config_module_is_enabled(config, "ipp"));
    struct config_block *block;
    assert_int_equal(config_module_settings(config, &sample_module, "ipp", &block, &error),
                     IMP_NOT_FOUND);
    assert_int_equal(config_default_settings(config, &sample_module, "ipp", &block, &error),
                     IMP_OK);
    config_block_free(block);
    config_free(config);
}

static void test_bad_module_name_is_refused(void **state)
{
    (void)state;
    write_text("modules-enabled/Bad.conf", "Bad: { };");
    assert_refused(IMP_INVALID);
    assert_string_equal(error.message, "modules-enabled/Bad.conf: found the module name \"Bad\", "
                                       "expected at most 31 of a-z, 0-9 and \"-\", a letter first");
}

static void test_missing_folder_is_said(void **state)
{
    (void)state;
    write_text("imprimatur.conf", "modules_dir = \"/nowhere/m\";");
    assert_refused(IMP_NOT_FOUND);
    assert_string_equal(error.message, "can't read the folder /nowhere/m (modules_dir): No such "
                                       "file or directory");
}

static void test_files_that_others_can_write_are_refused(void **state)
{
    (void)state;
    char path[160];
    assert_int_equal(chmod(main_path, 0664), 0);
    assert_refused(IMP_DENIED);
    assert_non_null(strstr(error.message, "imprimatur.conf: found mode 0664, expected one that "
                                          "only the owner may write (such as 0644)"));
    assert_int_equal(chmod(main_path, 0644), 0);
    snprintf(path, sizeof path, "%s/modules-enabled", folder);
    assert_int_equal(chmod(path, 0777), 0);
    assert_refused(IMP_DENIED);
    assert_non_null(strstr(error.message, "modules-enabled: found mode 0777"));
}

static void test_files_of_another_owner_are_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(main_path, 12345, (gid_t)-1), 0);
    assert_refused(IMP_DENIED);
    assert_non_null(strstr(error.message, "found owner uid 12345, expected root or our own user"));
}

static void test_a_folder_in_place_of_the_file_is_refused(void **state)
{
    (void)state;
    struct config *config;
    assert_int_equal(config_load(folder, &config, &error), IMP_INVALID);
    assert_non_null(strstr(error.message, "found no regular file, expected one"));
}

static void test_huge_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(truncate(main_path, 2 << 20), 0);
    assert_refused(IMP_LIMIT);
    assert_non_null(strstr(error.message, "found 2097152 bytes, expected at most 1048576"));
}

/* ---- a module's settings ---- */

static void test_defaults_fill_the_struct(void **state)
{
    (void)state;
    struct config_block *block = read_sample("");
    const struct sample *sample = config_block_data(block);
    assert_string_equal(sample->queue, "hold");
    assert_true(sample->is_on);
    assert_int_equal(sample->count, 5);
    assert_int_equal(sample->bound, 32768);
    assert_int_equal(sample->idle, 60 * IMP_SECOND);
    assert_int_equal(sample->mode, 0);
    assert_int_equal(sample->names.count, 0);
    assert_string_equal(sample->password.source, "");
    assert_int_equal(sample->rules.count, 0);
    config_block_free(block);
}

static void test_every_type_is_read(void **state)
{
    (void)state;
    struct config_block *block = read_sample(
        "queue = \"a\\\"b\\\\\"; is_on = false; count = 7L; bound = \"1MiB\"; idle = \"5min\";\n"
        "mode = \"direct\"; names = [ \"x\", \"y\" ]; password = \"file:/etc/p\";\n"
        "rules = ( { host = \"h1\"; }, { host = \"h2\"; weight = 9; tags = [ \"t\" ]; } );");
    const struct sample *sample = config_block_data(block);
    assert_string_equal(sample->queue, "a\"b\\");
    assert_false(sample->is_on);
    assert_int_equal(sample->count, 7);
    assert_int_equal(sample->bound, 1 << 20);
    assert_int_equal(sample->idle, 300 * IMP_SECOND);
    assert_int_equal(sample->mode, 1);
    assert_int_equal(sample->names.count, 2);
    assert_string_equal(sample->names.items[1], "y");
    assert_string_equal(sample->password.source, "file:/etc/p");
    const struct rule *rules = sample->rules.items;
    assert_int_equal(sample->rules.count, 2);
    assert_string_equal(rules[0].host, "h1");
    assert_int_equal(rules[0].weight, 1);
    assert_string_equal(rules[1].host, "h2");
    assert_int_equal(rules[1].weight, 9);
    assert_string_equal(rules[1].tags.items[0], "t");

    assert_string_equal(entry(block, "queue")->value, "\"a\\\"b\\\\\"");
    assert_string_equal(entry(block, "bound")->value, "\"1MiB\"");
    assert_string_equal(entry(block, "idle")->value, "\"5min\"");
    assert_string_equal(entry(block, "names")->value, "[ \"x\", \"y\" ]");
    assert_string_equal(entry(block, "rules")->value, "( 2 groups )");
    assert_string_equal(entry(block, "rules[1].weight")->value, "9");
    assert_string_equal(entry(block, "rules[1].weight")->origin, "modules-enabled/lpr.conf:4");
    assert_string_equal(entry(block, "rules[0].weight")->origin, "default");
    assert_string_equal(entry(block, "password")->value, "\"file:/etc/p\"");
    config_block_free(block);
}

static void test_wrong_values_say_what_would_be_right(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"idle = \"5 parsecs\";", "lpr.idle: found \"5 parsecs\", expected a duration such as "
                                  "\"60s\" (1s to 1h)"},
        {"idle = 60;", "lpr.idle: found 60, expected a duration such as \"60s\" (1s to 1h)"},
        {"idle = \"2h\";",
         "lpr.idle: found \"2h\", expected a duration such as \"60s\" (1s to 1h)"},
        {"bound = \"1KB\";",
         "lpr.bound: found \"1KB\", expected a size such as \"32KiB\" (1KiB to 1GiB)"},
        {"bound = \"9999999999999TiB\";", "lpr.bound: found \"9999999999999TiB\", expected a size "
                                          "such as \"32KiB\" (1KiB to 1GiB)"},
        {"count = 0;", "lpr.count: found 0, expected an integer (1 to 100)"},
        {"count = 1.5;", "lpr.count: found 1.5, expected an integer (1 to 100)"},
        {"count = \"7\";", "lpr.count: found \"7\", expected an integer (1 to 100)"},
        {"is_on = \"yes\";", "lpr.is_on: found \"yes\", expected true or false"},
        {"is_on = 1;", "lpr.is_on: found 1, expected true or false"},
        {"mode = \"Hold\";", "lpr.mode: found \"Hold\", expected one of \"hold\", \"direct\""},
        {"queue = 5;",
         "lpr.queue: found 5, expected a string in quotes, UTF-8 without control characters"},
        {"queue = \"a\\nb\";", "lpr.queue: found \"a?b\", expected a string in quotes, UTF-8 "
                               "without control characters"},
        {"queue = { };", "lpr.queue: found a group { ... }, expected a string in quotes, UTF-8 "
                         "without control characters"},
        {"names = \"x\";", "lpr.names: found \"x\", expected an array of at most 1000 strings such "
                           "as [ \"a\", \"b\" ]"},
        {"names = [ 1 ];", "lpr.names: found 1, expected an array of at most 1000 strings such as "
                           "[ \"a\", \"b\" ]"},
        {"rules = { };", "lpr.rules: found a group { ... }, expected a list of at most 1000 groups "
                         "such as ( { ... } )"},
        {"rules = ( 5 );",
         "lpr.rules: found 5, expected a list of at most 1000 groups such as ( { ... } )"},
        {"rules = ( { host = \"h\"; weight = 10; } );",
         "lpr.rules[0].weight: found 10, expected an integer (0 to 9)"},
        {"rules = ( { host = \"h\"; }, { } );", "lpr.rules[1].host: found nothing, expected a "
                                                "string in quotes, UTF-8 without control "
                                                "characters"},
        {"rules = ( { host = \"h\"; wait = 1; } );",
         "lpr.rules[0].wait: found an unknown setting, expected one of host weight tags"},
        {"idel = \"60s\";", "lpr.idel: found an unknown setting, expected idle"},
        {"colour = 1;", "lpr.colour: found an unknown setting, expected one of queue is_on count "
                        "bound idle mode names password rules fixed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char message[512];
        snprintf(message, sizeof message, "modules-enabled/lpr.conf:2: %s", rows[i][1]);
        refuses_sample(rows[i][0], message);
    }
}

static void test_a_secret_typed_into_the_file_is_not_repeated(void **state)
{
    (void)state;
    refuses_sample("password = \"hunter2\";",
                   "modules-enabled/lpr.conf:2: lpr.password: found something else (not shown), "
                   "expected \"file:/PATH\", \"credential:NAME\" or \"store:NAME\"");
    refuses_sample("password = \"file:relative\";",
                   "modules-enabled/lpr.conf:2: lpr.password: found something else (not shown), "
                   "expected \"file:/PATH\", \"credential:NAME\" or \"store:NAME\"");
}

static void test_included_file_is_named_in_messages(void **state)
{
    (void)state;
    static const char text[] = "@include \"../more.conf\"";
    write_text("more.conf", "\n\ncount = 0;\n");
    refuses_sample(text, "more.conf:3: lpr.count: found 0, expected an integer (1 to 100)");
    char path[160];
    snprintf(path, sizeof path, "%s/more.conf", folder);
    assert_int_equal(chmod(path, 0666), 0);
    assert_null(read_sample_overlaid(text, NULL));
    assert_non_null(strstr(error.message, "more.conf: found mode 0666"));
}

static void test_rows_that_do_not_fit_their_struct_are_refused(void **state)
{
    (void)state;
    struct config *config;
    struct config_block *block;
    imp_module small = sample_module;
    small.conf_size = 8;
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    assert_int_equal(config_default_settings(config, &small, "lpr", &block, &error), IMP_INVALID);
    assert_null(block);
    assert_string_equal(error.message, "module: lpr.is_on: found a row that does not fit its "
                                       "struct, expected a rebuild");
    imp_module none = {.size = sizeof none, .name = "lpr"};
    assert_int_equal(config_default_settings(config, &none, "lpr", &block, &error), IMP_OK);
    assert_int_equal(config_block_entry_count(block), 0);
    config_block_free(block);
    config_free(config);
}

/* ---- overlay ---- */

static void test_overlay_stands_above_the_file(void **state)
{
    (void)state;
    struct config_overlay *overlay = config_overlay_new();
    assert_int_equal(config_overlay_set(overlay, "lpr", "idle", "\"30s\"", &error), IMP_OK);
    assert_int_equal(config_overlay_set(overlay, "lpr", "count", "8", &error), IMP_OK);
    assert_int_equal(config_overlay_set(overlay, "lpr", "count", "9", &error), IMP_OK);
    assert_int_equal(config_overlay_set(overlay, "lpr", "rules", "( { host = \"o\"; } )", &error),
                     IMP_OK);
    assert_int_equal(config_overlay_set(overlay, "", "connections_max", "77", &error), IMP_OK);
    struct config_block *block = read_sample_overlaid("idle = \"10s\"; queue = \"f\";", overlay);
    assert_non_null(block);
    const struct sample *sample = config_block_data(block);
    assert_int_equal(sample->idle, 30 * IMP_SECOND);
    assert_int_equal(sample->count, 9);
    assert_string_equal(sample->queue, "f");
    assert_string_equal(((const struct rule *)sample->rules.items)[0].host, "o");
    assert_string_equal(entry(block, "idle")->origin, "overlay");
    assert_string_equal(entry(block, "rules[0].host")->origin, "overlay");
    assert_string_equal(entry(block, "queue")->origin, "modules-enabled/lpr.conf:2");
    config_block_free(block);

    struct config *config;
    assert_int_equal(config_load_overlaid(main_path, overlay, &config, &error), IMP_OK);
    assert_int_equal(config_core(config)->connections_max, 77);
    config_free(config);

    assert_true(config_overlay_unset(overlay, "lpr", "idle"));
    assert_false(config_overlay_unset(overlay, "lpr", "idle"));
    block = read_sample_overlaid("idle = \"10s\";", overlay);
    assert_int_equal(((const struct sample *)config_block_data(block))->idle, 10 * IMP_SECOND);
    config_block_free(block);
    config_overlay_free(overlay);
}

static void overlay_refused(const char *module, const char *name, const char *value,
                            const char *message)
{
    struct config_overlay *overlay = config_overlay_new();
    assert_int_equal(config_overlay_set(overlay, module, name, value, &error), IMP_OK);
    assert_null(read_sample_overlaid("", overlay));
    assert_string_equal(error.message, message);
    config_overlay_free(overlay);
}

static void test_overlay_cannot_reach_everything(void **state)
{
    (void)state;
    overlay_refused("lpr", "fixed", "\"x\"",
                    "overlay: lpr.fixed: found a value, expected none: this setting is taken from "
                    "the files alone");
    overlay_refused("", "state_dir", "\"/x\"",
                    "overlay: state_dir: found a value, expected none: this setting is taken from "
                    "the files alone");
    overlay_refused(
        "lpr", "listen", "( )",
        "overlay: lpr.listen: found a setting of the files alone, expected one of queue "
        "is_on count bound idle mode names password rules fixed");
    overlay_refused("lpr", "count", "1000",
                    "overlay: lpr.count: found 1000, expected an integer (1 to 100)");
    overlay_refused("lpr", "cuont", "5",
                    "overlay: lpr.cuont: found an unknown setting, expected count");
}

static void test_overlay_value_is_one_value(void **state)
{
    (void)state;
    struct config_overlay *overlay = config_overlay_new();
    static const char *const bad[] = {"",
                                      "30s",
                                      "1; fixed = \"x\"",
                                      "\"a",
                                      "{",
                                      "\"a\"\n@include \"/etc/passwd\"",
                                      "@include \"/x\"\r1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(config_overlay_set(overlay, "lpr", "count", bad[i], &error), IMP_INVALID);
        assert_non_null(strstr(error.message, "overlay: lpr.count: found "));
    }
    assert_false(config_overlay_unset(overlay, "lpr", "count"));
    config_overlay_free(overlay);
}

/* ---- comparing and reloading ---- */

static void changes(const char *from, const char *to, enum config_change change,
                    const char *expected_path)
{
    const char *path;
    struct config_block *a = read_sample(from), *b = read_sample(to);
    assert_int_equal(config_block_compare(a, b, &path), change);
    if (expected_path == NULL)
        assert_null(path);
    else
        assert_string_equal(path, expected_path);
    config_block_free(a);
    config_block_free(b);
}

static void test_compare_tells_live_changes_from_others(void **state)
{
    (void)state;
    changes("idle = \"60s\";", "\n\nidle = \"1min\";", CONFIG_SAME, NULL);
    changes("", "count = 6;", CONFIG_LIVE, "count");
    changes("", "bound = \"2KiB\";", CONFIG_RESTART, "bound");
    changes("", "count = 6; bound = \"2KiB\";", CONFIG_RESTART, "bound");
    changes("", "bound = \"2KiB\"; count = 6;", CONFIG_RESTART, "bound");
    changes("", "rules = ( { host = \"a\"; } );", CONFIG_LIVE, "rules");
    changes("rules = ( { host = \"a\"; } );", "rules = ( { host = \"b\"; } );", CONFIG_LIVE,
            "rules[0].host");
    changes("rules = ( { host = \"a\"; }, { host = \"b\"; } );", "rules = ( { host = \"a\"; } );",
            CONFIG_LIVE, "rules");
    changes("names = [ \"a\" ];", "names = [ \"a\", \"b\" ];", CONFIG_LIVE, "names");
    changes("password = \"file:/a\";", "password = \"file:/b\";", CONFIG_LIVE, "password");
    changes("", "listen = ( { name = \"l\"; address = \"*:515\"; } );", CONFIG_LIVE,
            "listen[0].name");
}

static void test_compare_of_other_rows_needs_a_restart(void **state)
{
    (void)state;
    static const imp_option fewer_rows[] = {
        IMP_OPT_STRING(struct sample, queue, "hold", IMP_LIVE, "queue when none fits"),
        IMP_OPT_END,
    };
    imp_module fewer = sample_module;
    struct config *config;
    struct config_block *a, *b;
    const char *path;
    fewer.options = fewer_rows;
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    assert_int_equal(config_default_settings(config, &sample_module, "lpr", &a, &error), IMP_OK);
    assert_int_equal(config_default_settings(config, &fewer, "lpr", &b, &error), IMP_OK);
    assert_int_equal(config_block_compare(a, b, &path), CONFIG_RESTART);
    assert_string_equal(path, "is_on");
    assert_int_equal(config_block_compare(b, a, &path), CONFIG_RESTART);
    config_block_free(a);
    config_block_free(b);
    config_free(config);
}

static uint32_t checks_seen;

static imp_status count_check(const struct config_subject *subject, const struct config *next,
                              imp_error *reason)
{
    assert_true(config_module_is_enabled(next, subject->name));
    checks_seen++;
    return subject->module->check(config_block_data(subject->next), reason);
}

static void test_reload_is_all_or_nothing(void **state)
{
    (void)state;
    struct config *config, *next;
    write_text("modules-enabled/lpr.conf", "lpr: { count = 5; };");
    write_text("modules-enabled/raw.conf", "raw: { };");
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    struct config_block *lpr, *raw;
    assert_int_equal(config_module_settings(config, &sample_module, "lpr", &lpr, &error), IMP_OK);
    assert_int_equal(config_module_settings(config, &sample_module, "raw", &raw, &error), IMP_OK);
    struct config_subject subjects[] = {
        {.module = &sample_module, .name = "lpr", .current = lpr},
        {.module = &sample_module, .name = "raw", .current = raw},
    };

    write_text("modules-enabled/lpr.conf", "lpr: { count = 6; };");
    write_text("modules-enabled/raw.conf", "raw: { queue = \"forbidden\"; };");
    assert_int_equal(config_reload(config, NULL, subjects, 2, &next, &error), IMP_INVALID);
    assert_string_equal(error.message,
                        "modules-enabled/raw.conf: lpr.queue: there is no queue \"forbidden\"");
    assert_null(next);
    assert_null(subjects[0].next);
    assert_null(subjects[1].next);

    write_text("modules-enabled/raw.conf", "raw: { count = 1000; };");
    assert_int_equal(config_reload(config, NULL, subjects, 2, &next, &error), IMP_INVALID);
    assert_null(next);
    assert_null(subjects[0].next);

    write_text("modules-enabled/raw.conf", "raw: { };");
    assert_int_equal(config_reload(config, NULL, subjects, 2, &next, &error), IMP_OK);
    assert_int_equal(subjects[0].change, CONFIG_LIVE);
    assert_string_equal(subjects[0].changed, "count");
    assert_int_equal(subjects[1].change, CONFIG_SAME);
    assert_null(subjects[1].changed);
    assert_true(subjects[0].is_enabled);
    assert_int_equal(((const struct sample *)config_block_data(subjects[0].next))->count, 6);
    for (size_t i = 0; i < 2; i++)
        config_block_free(subjects[i].next);
    config_free(next);

    /* One that has no file any more keeps what it has, settings that can't change included. */
    remove_file("modules-enabled/lpr.conf");
    checks_seen = 0;
    subjects[1].check = count_check;
    assert_int_equal(config_reload(config, NULL, subjects, 2, &next, &error), IMP_OK);
    assert_false(subjects[0].is_enabled);
    assert_int_equal(subjects[0].change, CONFIG_SAME);
    assert_null(subjects[0].next);
    assert_int_equal(checks_seen, 1); /* what the caller has around a call is used */
    config_block_free(subjects[1].next);
    config_block_free(lpr);
    config_block_free(raw);
    config_free(next);
    config_free(config);
}

/* ---- secrets ---- */

static imp_status fetch(const char *source, char *value, size_t size)
{
    imp_secret secret = {.source = source};
    char *fetched;
    size_t length;
    imp_status status = config_secret_fetch(&secret, &fetched, &length, &error);
    if (status == IMP_OK) {
        assert_true(length < size);
        memcpy(value, fetched, length + 1);
        assert_int_equal(strlen(fetched), length);
    } else {
        assert_null(fetched);
    }
    config_secret_free(fetched, length);
    return status;
}

static void test_secret_from_a_file_is_private_and_cut(void **state)
{
    (void)state;
    char path[128], source[160], value[64];
    snprintf(path, sizeof path, "%s/secret", folder);
    snprintf(source, sizeof source, "file:%s", path);
    assert_int_equal(fetch(source, value, sizeof value), IMP_NOT_FOUND);
    write_text("secret", "s3cret\n");
    assert_int_equal(fetch(source, value, sizeof value), IMP_DENIED);
    assert_non_null(strstr(error.message, "found mode 0644, expected 0400 or 0600"));
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(fetch(source, value, sizeof value), IMP_OK);
    assert_string_equal(value, "s3cret");
    chmod(path, 0600);
    write_text("secret", "a\n\n");
    chmod(path, 0600);
    assert_int_equal(fetch(source, value, sizeof value), IMP_OK);
    assert_string_equal(value, "a\n");
    assert_int_equal(truncate(path, CONFIG_SECRET_MAX + 1), 0);
    assert_int_equal(fetch(source, value, sizeof value), IMP_LIMIT);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
        assert_int_equal(fetch(source, value, sizeof value), IMP_DENIED);
        assert_non_null(strstr(error.message, "found owner uid 12345"));
    }
}

static void test_secret_from_a_credential(void **state)
{
    (void)state;
    char path[128], value[64];
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(fetch("credential:secret", value, sizeof value), IMP_NOT_FOUND);
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    write_text("secret", "c");
    snprintf(path, sizeof path, "%s/secret", folder);
    chmod(path, 0440);
    assert_int_equal(fetch("credential:secret", value, sizeof value), IMP_OK);
    assert_string_equal(value, "c");
    assert_int_equal(fetch("credential:../x", value, sizeof value), IMP_INVALID);
    unsetenv("CREDENTIALS_DIRECTORY");
}

static imp_status store_fetch(void *arg, const char *name, char *buffer, size_t size,
                              size_t *length, imp_error *reason)
{
    assert_string_equal(arg, "store");
    if (strcmp(name, "known") != 0)
        return imp_error_set(reason, IMP_NOT_FOUND, "no secret \"%s\" is set", name);
    assert_true(size > 4);
    memcpy(buffer, "fromstore", 9);
    *length = 9;
    return IMP_OK;
}

static void test_secret_from_the_store(void **state)
{
    (void)state;
    char value[64];
    assert_int_equal(fetch("store:known", value, sizeof value), IMP_UNAVAILABLE);
    config_secret_set_store(store_fetch, "store");
    assert_int_equal(fetch("store:known", value, sizeof value), IMP_OK);
    assert_string_equal(value, "fromstore");
    assert_int_equal(fetch("store:other", value, sizeof value), IMP_NOT_FOUND);
    config_secret_set_store(NULL, NULL);
    assert_int_equal(fetch("", value, sizeof value), IMP_NOT_FOUND);
    assert_int_equal(fetch("hunter2", value, sizeof value), IMP_INVALID);
    assert_null(strstr(error.message, "hunter2"));
}

/* ---- documents ---- */

static char *read_document(const char *name)
{
    char path[512];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/%s", top == NULL ? ".." : top, name);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        fail_msg("can't read %s", path);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, in) < 65535);
    fclose(in);
    return text;
}

static void test_manual_and_sample_name_every_setting(void **state)
{
    (void)state;
    struct config *config;
    char wanted[160];
    char *manual = read_document("docs/man/imprimatur.conf.5");
    char *sample = read_document("conf/imprimatur.conf");
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    const struct config_block *block = config_core_block(config);
    for (uint32_t i = 0; i < config_block_entry_count(block); i++) {
        const char *name = config_block_entry(block, i)->path;
        snprintf(wanted, sizeof wanted, "\n.BR %s \" = ", name);
        if (strstr(manual, wanted) == NULL)
            fail_msg("imprimatur.conf(5) does not name %s", name);
        snprintf(wanted, sizeof wanted, "\n#%s = ", name);
        if (strstr(sample, wanted) == NULL)
            fail_msg("conf/imprimatur.conf does not name %s", name);
    }
    config_free(config);

    /* The sample is a file that can be read as it is, and with every "#" of a setting taken away. */
    write_text("imprimatur.conf", sample);
    assert_int_equal(config_load(main_path, &config, &error), IMP_OK);
    config_free(config);
    for (char *p = sample; (p = strstr(p, "\n#")) != NULL; p += 2)
        if (p[2] >= 'a' && p[2] <= 'z')
            p[1] = ' ';
    write_text("imprimatur.conf", sample);
    if (config_load(main_path, &config, &error) != IMP_OK)
        fail_msg("%s", error.message);
    config_free(config);
    free(manual);
    free(sample);
}

/* ---- units ---- */

static void test_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
        imp_status status;
    } durations[] = {{"0", 0, IMP_OK},
                     {"7us", 7, IMP_OK},
                     {"50ms", 50000, IMP_OK},
                     {"60s", 60000000, IMP_OK},
                     {"5min", 300000000, IMP_OK},
                     {"2h", INT64_C(7200000000), IMP_OK},
                     {"30d", INT64_C(2592000000000), IMP_OK},
                     {"5", 0, IMP_INVALID},
                     {"s", 0, IMP_INVALID},
                     {"-1s", 0, IMP_INVALID},
                     {" 1s", 0, IMP_INVALID},
                     {"1 s", 0, IMP_INVALID},
                     {"1.5s", 0, IMP_INVALID},
                     {"1sec", 0, IMP_INVALID},
                     {"", 0, IMP_INVALID},
                     {"99999999999999999999s", 0, IMP_LIMIT},
                     {"9223372036854775807d", 0, IMP_LIMIT}},
      sizes[] = {{"500B", 500, IMP_OK},
                 {"32KiB", 32768, IMP_OK},
                 {"1MiB", 1 << 20, IMP_OK},
                 {"2GiB", INT64_C(2) << 30, IMP_OK},
                 {"1TiB", INT64_C(1) << 40, IMP_OK},
                 {"1kB", 0, IMP_INVALID},
                 {"1M", 0, IMP_INVALID},
                 {"8388608TiB", 0, IMP_LIMIT}};
    int64_t value;
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        assert_int_equal(config_parse_duration(durations[i].text, &value), durations[i].status);
        if (durations[i].status == IMP_OK)
            assert_int_equal(value, durations[i].value);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(config_parse_size(sizes[i].text, &value), sizes[i].status);
        if (sizes[i].status == IMP_OK)
            assert_int_equal(value, sizes[i].value);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_empty_main_file_gives_defaults),
        TEST(test_main_file_is_read_and_origins_are_named),
        TEST(test_instance_name_moves_the_default_paths),
        TEST(test_core_refusals_name_file_line_and_setting),
        TEST(test_missing_main_file_is_said),
        TEST(test_syntax_error_names_file_and_line),
        TEST(test_setting_twice_is_refused),
        TEST(test_group_must_be_named_like_its_file),
        TEST(test_dangling_symlink_is_explained),
        TEST(test_symlink_to_a_file_is_followed),
        TEST(test_modules_come_in_name_order_and_other_files_are_left),
        TEST(test_bad_module_name_is_refused),
        TEST(test_missing_folder_is_said),
        TEST(test_files_that_others_can_write_are_refused),
        TEST(test_files_of_another_owner_are_refused),
        TEST(test_a_folder_in_place_of_the_file_is_refused),
        TEST(test_huge_file_is_refused),
        TEST(test_defaults_fill_the_struct),
        TEST(test_every_type_is_read),
        TEST(test_wrong_values_say_what_would_be_right),
        TEST(test_a_secret_typed_into_the_file_is_not_repeated),
        TEST(test_included_file_is_named_in_messages),
        TEST(test_rows_that_do_not_fit_their_struct_are_refused),
        TEST(test_overlay_stands_above_the_file),
        TEST(test_overlay_cannot_reach_everything),
        TEST(test_overlay_value_is_one_value),
        TEST(test_compare_tells_live_changes_from_others),
        TEST(test_compare_of_other_rows_needs_a_restart),
        TEST(test_reload_is_all_or_nothing),
        TEST(test_secret_from_a_file_is_private_and_cut),
        TEST(test_secret_from_a_credential),
        TEST(test_secret_from_the_store),
        TEST(test_manual_and_sample_name_every_setting),
        TEST(test_units),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
