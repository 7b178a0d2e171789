/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/version.h"

static void test_version_is_three_numbers(void **state)
{
    (void)state;
    const char *at = imp_version();
    for (int i = 0; i < 3; i++) {
        char *end;
        (void)strtoul(at, &end, 10);
        assert_true(end > at && *end == (i < 2 ? '.' : '\0'));
        at = end + 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_is_three_numbers),
    };
    return cmocka_run_group_tests_name("version", tests, NULL, NULL);
}
