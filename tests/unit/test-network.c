/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and networks: what is read, what lies in what, and that a form reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <imprimatur/network.h>

static imp_network network(const char *text)
{
    imp_network result;
    imp_error error;
    if (imp_network_parse(text, &result, &error) != IMP_OK)
        fail_msg("%s", error.message);
    return result;
}

static bool contains(const char *outer, const char *inner)
{
    imp_network a = network(outer), b = network(inner);
    return imp_network_contains(&a, &b);
}

static void test_an_address_lies_in_its_networks(void **state)
{
    (void)state;
    assert_true(contains("192.0.2.0/24", "192.0.2.7"));
    assert_false(contains("192.0.2.0/25", "192.0.2.200"));
    assert_true(contains("0.0.0.0/0", "203.0.113.9"));
    assert_false(contains("::/0", "203.0.113.9"));
    assert_true(contains("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(contains("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(contains("192.0.2.0/24", "::ffff:192.0.2.7"));
    assert_false(contains("192.0.2.7", "192.0.2.0/24"));
}

static void test_a_form_reads_back(void **state)
{
    (void)state;
    static const char *const forms[] = {"192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::1",
                                        "0.0.0.0/0"};
    char text[IMP_NETWORK_TEXT_SIZE];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        imp_network read = network(forms[i]);
        assert_string_equal(imp_network_format(&read, text), forms[i]);
    }
}

static void test_what_is_no_network_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "/24",
                                        "192.0.2.0/",
                                        "192.0.2.0/33",
                                        "192.0.2.7/24",
                                        "host",
                                        "192.0.2",
                                        "192.0.2.0/-1",
                                        "::/129",
                                        "fe80::1%eth0",
                                        "192.0.2.0/2x",
                                        "::/ 7",
                                        "1.2.3.4/99999999999999999999",
                                        "192.0.2.0/+8",
                                        "192.0.2.0/0024"};
    imp_network result;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(imp_network_parse(wrong[i], &result, NULL), IMP_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_lies_in_its_networks),
        cmocka_unit_test(test_a_form_reads_back),
        cmocka_unit_test(test_what_is_no_network_is_refused),
    };
    return cmocka_run_group_tests_name("network", tests, NULL, NULL);
}
