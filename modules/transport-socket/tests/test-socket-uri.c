/* SPDX-License-Identifier: Apache-2.0 */
/* Device addresses, as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "modules/transport-socket/transport-socket.h"

static const struct {
    const char *uri, *host;
    uint16_t port;
} good[] = {
    {"socket://192.0.2.7", "192.0.2.7", 9100},
    {"socket://192.0.2.7:9101", "192.0.2.7", 9101},
    {"socket://printer.example:", "printer.example", 9100},
    {"socket://printer.example/", "printer.example", 9100},
    {"socket://printer.example:1/?waiteof=false", "printer.example", 1},
    {"socket://[2001:db8::7]", "2001:db8::7", 9100},
    {"socket://[2001:db8::7]:65535", "2001:db8::7", 65535},
};

static const char *const bad[] = {
    "",
    "socket:",
    "socket://",
    "socket:///x",
    "socket://:9100",
    "lpd://192.0.2.7",
    "socket://[2001:db8::7",
    "socket://[]:9100",
    "socket://2001:db8::7",
    "socket://host:0",
    "socket://host:65536",
    "socket://host:999999",
    "socket://host:91x",
    "socket://host:-1",
    "socket://user@host",
};

static void host_and_port_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char host[SOCKET_HOST_MAX];
        uint16_t port = 0;
        assert_int_equal(socket_uri_parse(good[i].uri, host, &port, NULL), IMP_OK);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char host[SOCKET_HOST_MAX];
        uint16_t port = 0;
        if (socket_uri_parse(bad[i], host, &port, NULL) != IMP_INVALID)
            fail_msg("%s was taken", bad[i]);
    }
}

static void a_host_that_is_too_long_is_refused(void **state)
{
    char uri[600] = "socket://", host[SOCKET_HOST_MAX];
    uint16_t port;
    (void)state;
    memset(uri + 9, 'a', SOCKET_HOST_MAX);
    assert_int_equal(socket_uri_parse(uri, host, &port, NULL), IMP_INVALID);
    uri[9 + SOCKET_HOST_MAX - 1] = '\0';
    assert_int_equal(socket_uri_parse(uri, host, &port, NULL), IMP_OK);
    assert_int_equal(strlen(host), SOCKET_HOST_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_and_port_are_found),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_host_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
