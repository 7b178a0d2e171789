/* SPDX-License-Identifier: Apache-2.0 */
/* test-config-listen.c - `listen`: addresses, networks, refusals, and the supervisor's way to it. */
#include "build-config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"

static char folder[64], main_path[96];
static imp_error error;

static void write_text(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    assert_int_equal(chmod(path, 0644), 0);
}

static int make_folder(void **state)
{
    (void)state;
    char path[96];
    snprintf(folder, sizeof folder, "/tmp/imprimatur-test-listen-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/modules-enabled", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    chmod(path, 0755);
    snprintf(main_path, sizeof main_path, "%s/imprimatur.conf", folder);
    write_text("imprimatur.conf", "");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"imprimatur.conf", "modules-enabled/lpr.conf",
                                        "modules-enabled/raw.conf", "modules-enabled"};
    char path[160];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static void write_listen(const char *module, const char *listen)
{
    char name[64], text[4096];
    snprintf(name, sizeof name, "modules-enabled/%s.conf", module);
    snprintf(text, sizeof text, "%s: {\nlisten = %s;\n};\n", module, listen);
    write_text(name, text);
}

static struct config_listeners *read_listen(const char *listen)
{
    struct config_listeners *listeners;
    write_listen("lpr", listen);
    if (config_listen_read(main_path, "lpr", &listeners, &error) != IMP_OK)
        fail_msg("%s", error.message);
    return listeners;
}

static void refuses(const char *listen, const char *message)
{
    struct config_listeners *listeners;
    struct config *config;
    char expected[512];
    write_listen("lpr", listen);
    snprintf(expected, sizeof expected, "modules-enabled/lpr.conf:2: lpr.listen%s", message);
    assert_int_equal(config_listen_read(main_path, "lpr", &listeners, &error), IMP_INVALID);
    assert_null(listeners);
    assert_string_equal(error.message, expected);
    /* The server refuses the same with the same words. */
    assert_int_equal(config_load(main_path, &config, &error), IMP_INVALID);
    assert_string_equal(error.message, expected);
}

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage address = {0};
    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr) == 1) {
        address.ss_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&address)->sin6_addr),
                         1);
        address.ss_family = AF_INET6;
    }
    return address;
}

static void test_everything_is_read(void **state)
{
    (void)state;
    struct config_listeners *listeners = read_listen(
        "( { name = \"lpd\"; address = \"*:515\"; },\n"
        "  { name = \"tls\"; address = \"[::1]:5515\"; tls = \"starttls\"; proxy = true;\n"
        "    proxies = [ \"192.0.2.4\", \"2001:db8::/64\" ];\n"
        "    allow = [ \"10.0.0.0/8\", \"2001:db8::/32\" ]; queue = \"hold\"; limit = 5;\n"
        "    flag = false; } )");
    assert_int_equal(listeners->count, 2);
    const struct config_listener *lpd = config_listener_find(listeners, "lpr", "lpd");
    assert_true(lpd->is_any);
    assert_int_equal(lpd->port, 515);
    assert_int_equal(lpd->tls, CONFIG_TLS_NONE);
    assert_false(lpd->proxy);
    assert_int_equal(lpd->allow_count, 0);
    assert_int_equal(lpd->address.ss_family, AF_INET6);
    assert_string_equal(lpd->origin, "modules-enabled/lpr.conf:2");
    const struct config_listener *tls = config_listener_find(listeners, "lpr", "tls");
    assert_false(tls->is_any);
    assert_int_equal(tls->port, 5515);
    assert_int_equal(tls->tls, CONFIG_TLS_STARTTLS);
    assert_true(tls->proxy);
    assert_int_equal(tls->proxies_count, 2);
    assert_string_equal(tls->proxies[1].text, "2001:db8::/64");
    assert_int_equal(lpd->proxies_count, 0);
    assert_int_equal(tls->allow_count, 2);
    assert_string_equal(config_listener_setting_value(tls, "queue"), "hold");
    assert_string_equal(config_listener_setting_value(tls, "limit"), "5");
    assert_string_equal(config_listener_setting_value(tls, "flag"), "false");
    assert_null(config_listener_setting_value(tls, "address"));
    assert_null(config_listener_find(listeners, "lpr", "other"));
    assert_null(config_listener_find(listeners, "raw", "lpd"));
    config_listen_free(listeners);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int family; /* 0: refused */
        uint16_t port;
    } rows[] = {
        {"*:515", AF_INET6, 515},
        {"* 515", AF_INET6, 515},
        {"127.0.0.1:515", AF_INET, 515},
        {"127.0.0.1 515", AF_INET, 515},
        {"[::1]:515", AF_INET6, 515},
        {"::1 515", AF_INET6, 515},
        {"[::1] 65535", AF_INET6, 65535},
        {"0.0.0.0:1", AF_INET, 1},
        {"::1:515", 0, 0},
        {"localhost:515", 0, 0},
        {"*", 0, 0},
        {"*:", 0, 0},
        {"*:0", 0, 0},
        {"*:65536", 0, 0},
        {"*:99999999999999999999", 0, 0},
        {"*:5x", 0, 0},
        {":515", 0, 0},
        {"515", 0, 0},
        {"1.2.3:515", 0, 0},
        {"1.2.3.4.5:515", 0, 0},
        {"[127.0.0.1]:515", 0, 0},
        {"[::1:515", 0, 0},
        {"", 0, 0},
        {"*:-1", 0, 0},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx:1", 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sockaddr_storage address;
        socklen_t length;
        bool is_any;
        imp_status status = config_parse_address(rows[i].text, &address, &length, &is_any);
        if (status != (rows[i].family == 0 ? IMP_INVALID : IMP_OK))
            fail_msg("%s", rows[i].text);
        if (status != IMP_OK)
            continue;
        assert_int_equal(address.ss_family, rows[i].family);
        assert_int_equal(is_any, rows[i].text[0] == '*');
        assert_int_equal(ntohs(rows[i].family == AF_INET
                                   ? ((struct sockaddr_in *)&address)->sin_port
                                   : ((struct sockaddr_in6 *)&address)->sin6_port),
                         rows[i].port);
    }
}

static void test_networks(void **state)
{
    (void)state;
    static const struct {
        const char *network, *inside, *outside; /* inside NULL: refused */
    } rows[] = {
        {"10.0.0.0/8", "10.255.1.2", "11.0.0.0"},
        {"192.0.2.7", "192.0.2.7", "192.0.2.6"},
        {"192.0.2.4/30", "192.0.2.7", "192.0.2.8"},
        {"0.0.0.0/0", "203.0.113.5", "2001:db8::1"},
        {"10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"}, /* one socket for both families */
        {"2001:db8::/32", "2001:db8:1::5", "2001:db9::1"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"},
        {"::1", "::1", "::2"},
        {"::/0", "2001:db8::1", NULL},
        {"::ffff:10.0.0.0/104", "10.1.1.1", "11.0.0.0"},
        {"10.1.0.0/8", NULL, NULL},
        {"10.0.0.0/0008", NULL, NULL},
        {"fe80::1%eth0", NULL, NULL},
        {"10.0.0.0/33", NULL, NULL},
        {"::/129", NULL, NULL},
        {"10.0.0.0/", NULL, NULL},
        {"10.0.0.0/8x", NULL, NULL},
        {"10.0.0.0/-1", NULL, NULL},
        {"10.0.0/8", NULL, NULL},
        {"example.org", NULL, NULL},
        {"", NULL, NULL},
        {"2001:db8::1/32", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_network network;
        imp_status status = config_parse_network(rows[i].network, &network);
        if (status != (rows[i].inside == NULL ? IMP_INVALID : IMP_OK))
            fail_msg("%s", rows[i].network);
        if (rows[i].inside != NULL) {
            struct sockaddr_storage in = address_of(rows[i].inside);
            assert_true(config_network_contains(&network, (struct sockaddr *)&in));
        }
        if (rows[i].outside != NULL) {
            struct sockaddr_storage out = address_of(rows[i].outside);
            assert_false(config_network_contains(&network, (struct sockaddr *)&out));
        }
    }
    struct sockaddr_storage local = {.ss_family = AF_UNIX};
    struct config_network all;
    assert_int_equal(config_parse_network("::/0", &all), IMP_OK);
    assert_false(config_network_contains(&all, (struct sockaddr *)&local));
}

static void test_allow_decides(void **state)
{
    (void)state;
    struct config_listeners *listeners = read_listen(
        "( { name = \"a\"; address = \"*:1\"; }, { name = \"b\"; address = \"*:2\"; allow = [ "
        "\"10.0.0.0/8\", \"::1\" ]; } )");
    struct sockaddr_storage ten = address_of("10.1.1.1"), eleven = address_of("11.1.1.1"),
                            one = address_of("::1");
    assert_true(config_listener_allows(&listeners->items[0], (struct sockaddr *)&eleven));
    assert_true(config_listener_allows(&listeners->items[1], (struct sockaddr *)&ten));
    assert_true(config_listener_allows(&listeners->items[1], (struct sockaddr *)&one));
    assert_false(config_listener_allows(&listeners->items[1], (struct sockaddr *)&eleven));
    config_listen_free(listeners);
}

static void test_refusals_say_where_and_what(void **state)
{
    (void)state;
    refuses("5", ": found 5, expected a list of groups such as ( { name = \"lpd\"; address = "
                 "\"*:515\"; } )");
    refuses("{ }", ": found a group { ... }, expected a list of groups such as ( { name = "
                   "\"lpd\"; address = \"*:515\"; } )");
    refuses("( 5 )", ": found 5, expected a list of groups such as ( { name = \"lpd\"; address = "
                     "\"*:515\"; } )");
    refuses("( { address = \"*:515\"; } )", "[0].name: found nothing, expected name = \"lpd\";");
    refuses("( { name = \"lpd\"; } )",
            "[0].address: found nothing, expected \"*:PORT\", \"192.0.2.7:PORT\" or "
            "\"[2001:db8::7]:PORT\" with a port from 1 to 65535");
    refuses("( { name = \"Lpd\"; address = \"*:515\"; } )",
            "[0].name: found \"Lpd\", expected a name such as \"lpd\": at most 31 of a-z, 0-9 and "
            "\"-\", a letter first");
    refuses("( { name = \"lpd\"; address = \"host:515\"; } )",
            "[0].address: found \"host:515\", expected \"*:PORT\", \"192.0.2.7:PORT\" or "
            "\"[2001:db8::7]:PORT\" with a port from 1 to 65535");
    refuses("( { name = \"lpd\"; address = 515; } )",
            "[0].address: found 515, expected \"*:PORT\", \"192.0.2.7:PORT\" or "
            "\"[2001:db8::7]:PORT\" with a port from 1 to 65535");
    refuses("( { name = \"lpd\"; address = \"*:515\"; tls = \"ssl\"; } )",
            "[0].tls: found \"ssl\", expected one of \"none\", \"implicit\", \"starttls\"");
    refuses("( { name = \"lpd\"; address = \"*:515\"; proxy = \"no\"; } )",
            "[0].proxy: found \"no\", expected true or false");
    refuses("( { name = \"lpd\"; address = \"*:515\"; proxy = true; } )",
            "[0].proxies: found nothing, expected the addresses of the proxies whose header is "
            "believed, such as [ \"192.0.2.4\" ]: proxy is true");
    refuses("( { name = \"lpd\"; address = \"*:515\"; proxies = [ \"192.0.2.4\" ]; } )",
            "[0].proxy: found false, expected true: proxies are given");
    refuses("( { name = \"lpd\"; address = \"*:515\"; proxy = true; proxies = [ ]; } )",
            "[0].proxies: found no network, expected networks such as [ \"10.0.0.0/8\", "
            "\"2001:db8::/32\" ]");
    refuses("( { name = \"lpd\"; address = \"*:515\"; allow = \"10.0.0.0/8\"; } )",
            "[0].allow: found \"10.0.0.0/8\", expected networks such as [ \"10.0.0.0/8\", "
            "\"2001:db8::/32\" ]");
    refuses("( { name = \"lpd\"; address = \"*:515\"; allow = [ ]; } )",
            "[0].allow: found no network, expected networks such as [ \"10.0.0.0/8\", "
            "\"2001:db8::/32\" ]; leave it out to allow everybody");
    refuses("( { name = \"lpd\"; address = \"*:515\"; allow = [ \"10.1.0.0/8\" ]; } )",
            "[0].allow: found \"10.1.0.0/8\", expected networks such as [ \"10.0.0.0/8\", "
            "\"2001:db8::/32\" ], no bits set behind the prefix");
    refuses("( { name = \"lpd\"; address = \"*:515\"; queue = [ \"a\" ]; } )",
            "[0].queue: found an array [ ... ], expected a string, a number, true or false");
    refuses("( { name = \"a\"; address = \"*:1\"; }, { name = \"a\"; address = \"*:2\"; } )",
            "[1].name: found \"a\" a second time (also at modules-enabled/lpr.conf:2), expected a "
            "name of its own for each listener");
}

static void test_too_many_networks_are_refused(void **state)
{
    (void)state;
    char text[20000];
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "lpr: {\nlisten = ( { name = \"a\"; address = "
                                   "\"*:1\"; allow = [ \"10.0.0.0/8\"");
    for (unsigned i = 0; i < CONFIG_NETWORKS_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, ", \"10.0.0.1\"");
    snprintf(text + used, sizeof text - used, " ]; } );\n};\n");
    write_text("modules-enabled/lpr.conf", text);
    struct config *config;
    assert_int_equal(config_load(main_path, &config, &error), IMP_INVALID);
    assert_string_equal(error.message, "modules-enabled/lpr.conf:2: lpr.listen[0].allow: found "
                                       "1025 networks, expected at most 1024");
}

static void test_too_many_listeners_are_refused(void **state)
{
    (void)state;
    char text[20000];
    size_t used = (size_t)snprintf(text, sizeof text, "lpr: {\nlisten = (");
    for (unsigned i = 0; i <= CONFIG_LISTENERS_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s { name = \"n%u\"; address = \"*:%u\"; }", i == 0 ? "" : ",", i,
                                 1000 + i);
    snprintf(text + used, sizeof text - used, " );\n};\n");
    write_text("modules-enabled/lpr.conf", text);
    struct config *config;
    assert_int_equal(config_load(main_path, &config, &error), IMP_INVALID);
    assert_string_equal(error.message, "modules-enabled/lpr.conf:2: lpr.listen: found more "
                                       "listeners than fit, expected at most 256 in all");
}

static void test_one_address_belongs_to_one_module(void **state)
{
    (void)state;
    struct config_listeners *listeners;
    write_listen("lpr", "( { name = \"lpd\"; address = \"127.0.0.1:9100\"; } )");
    write_listen("raw", "( { name = \"raw\"; address = \"127.0.0.1 9100\"; } )");
    assert_int_equal(config_listen_read(main_path, "raw", &listeners, &error), IMP_INVALID);
    assert_string_equal(error.message,
                        "modules-enabled/raw.conf:2: raw.listen[0].address: found \"127.0.0.1 "
                        "9100\", which lpr listens on (modules-enabled/lpr.conf:2), expected an "
                        "address that is free");
}

static void test_supervisor_reads_one_module_or_all(void **state)
{
    (void)state;
    struct config_listeners *listeners;
    /* What else stands in the blocks is none of its business. */
    write_text("modules-enabled/lpr.conf",
               "lpr: { whatever = 5; listen = ( { name = \"lpd\"; address = \"*:515\"; } ); };");
    write_listen("raw", "( { name = \"one\"; address = \"*:9100\"; }, { name = \"two\"; address = "
                        "\"*:9101\"; } )");
    assert_int_equal(config_listen_read(main_path, NULL, &listeners, &error), IMP_OK);
    assert_int_equal(listeners->count, 3);
    config_listen_free(listeners);
    assert_int_equal(config_listen_read(main_path, "raw", &listeners, &error), IMP_OK);
    assert_int_equal(listeners->count, 2);
    assert_string_equal(listeners->items[0].module, "raw");
    assert_string_equal(listeners->items[1].name, "two");
    config_listen_free(listeners);
    assert_int_equal(config_listen_read(main_path, "ipp", &listeners, &error), IMP_NOT_FOUND);
    assert_string_equal(error.message, "module ipp is not enabled");
    config_listen_free(NULL);
}

static void test_no_listen_is_no_listener(void **state)
{
    (void)state;
    struct config_listeners *listeners;
    write_text("modules-enabled/lpr.conf", "lpr: { };");
    assert_int_equal(config_listen_read(main_path, "lpr", &listeners, &error), IMP_OK);
    assert_int_equal(listeners->count, 0);
    config_listen_free(listeners);
    listeners = read_listen("( )");
    assert_int_equal(listeners->count, 0);
    config_listen_free(listeners);
}

#define BEHIND_PROXY "proxy = true; proxies = [ \"192.0.2.4\" ];"

static void test_equal_looks_at_everything(void **state)
{
    (void)state;
    static const char *const others[] = {
        "( { name = \"b\"; address = \"*:1\"; allow = [ \"::1\" ]; q = \"x\"; } )",
        "( { name = \"a\"; address = \"*:2\"; allow = [ \"::1\" ]; q = \"x\"; } )",
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::2\" ]; q = \"x\"; } )",
        "( { name = \"a\"; address = \"*:1\"; q = \"x\"; } )",
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::1\" ]; q = \"y\"; } )",
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::1\" ]; r = \"x\"; } )",
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::1\" ]; } )",
        /* NOLINTNEXTLINE(bugprone-suspicious-missing-comma): one string, with the macro's words */
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::1\" ]; q = \"x\"; " BEHIND_PROXY " } )",
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::1\" ]; q = \"x\"; tls = \"implicit\";})",
    };
    static const char base[] =
        "( { name = \"a\"; address = \"*:1\"; allow = [ \"::1\" ]; q = \"x\"; } )";
    struct config_listeners *a = read_listen(base), *same = read_listen(base);
    assert_true(config_listener_equal(&a->items[0], &same->items[0]));
    config_listen_free(same);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct config_listeners *b = read_listen(others[i]);
        assert_false(config_listener_equal(&a->items[0], &b->items[0]));
        config_listen_free(b);
    }
    config_listen_free(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_everything_is_read),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_networks),
        TEST(test_allow_decides),
        TEST(test_refusals_say_where_and_what),
        TEST(test_too_many_networks_are_refused),
        TEST(test_too_many_listeners_are_refused),
        TEST(test_one_address_belongs_to_one_module),
        TEST(test_supervisor_reads_one_module_or_all),
        TEST(test_no_listen_is_no_listener),
        TEST(test_equal_looks_at_everything),
    };
    return cmocka_run_group_tests_name("config-listen", tests, NULL, NULL);
}
