/* SPDX-License-Identifier: Apache-2.0 */
#include "build-config.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/link.h"
#include "core/packet.h"
#include "core/spawner.h"

static int ends[2];

static int make_pair(void **state)
{
    (void)state;
    return packet_pair(ends, NULL) == IMP_OK && packet_set_nonblocking(ends[1], NULL) == IMP_OK
               ? 0
               : -1;
}

static int close_pair(void **state)
{
    (void)state;
    packet_close(ends, 2);
    return 0;
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void test_a_socket_arrives_with_its_names(void **state)
{
    (void)state;
    struct link_message message;
    struct stat sent, received;
    int passed = -1, file = open("/dev/null", O_RDONLY);
    link_message_set(&message, LINK_LISTENER, "lpr");
    memcpy(message.listener, "lpd", 4);
    message.serial = 9;
    assert_int_equal(link_send(ends[0], &message, file, NULL), IMP_OK);
    memset(&message, 0xff, sizeof message);
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_OK);
    assert_int_equal(message.kind, LINK_LISTENER);
    assert_int_equal(message.serial, 9);
    assert_string_equal(message.module, "lpr");
    assert_string_equal(message.listener, "lpd");
    assert_int_equal(fcntl(passed, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(file, &sent), 0);
    assert_int_equal(fstat(passed, &received), 0);
    assert_int_equal(sent.st_ino, received.st_ino);
    close(passed);
    close(file);
}

static void test_waiting_and_ending_are_told_apart(void **state)
{
    (void)state;
    struct link_message message;
    int passed;
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_BUSY);
    close(ends[0]);
    ends[0] = -1;
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_UNAVAILABLE);
    link_message_set(&message, LINK_READY, NULL);
    assert_int_equal(link_send(ends[1], &message, -1, NULL), IMP_UNAVAILABLE);
}

static void test_a_reader_that_sleeps_is_busy_not_waited_for(void **state)
{
    (void)state;
    struct link_message message;
    imp_status status;
    int sent = 0;
    link_message_set(&message, LINK_READY, NULL);
    while ((status = link_send(ends[1], &message, -1, NULL)) == IMP_OK)
        assert_in_range(++sent, 1, 100000);
    assert_int_equal(status, IMP_BUSY);
}

/* Each row spoils a good message in one way. */
static void spoil_magic(struct link_message *message)
{
    message->magic++;
}
static void spoil_version(struct link_message *message)
{
    message->version++;
}
static void spoil_kind(struct link_message *message)
{
    message->kind = 999;
}
static void spoil_status(struct link_message *message)
{
    message->status = IMP_UNAVAILABLE + 1;
}
static void spoil_negative_status(struct link_message *message)
{
    message->status = -1;
}
static void spoil_module_end(struct link_message *message)
{
    memset(message->module, 'a', sizeof message->module);
}
static void spoil_module_path(struct link_message *message)
{
    memcpy(message->module, "../etc", 7);
}
static void spoil_module_tail(struct link_message *message)
{
    message->module[LINK_NAME_SIZE - 1] = 'x';
}
static void spoil_module_missing(struct link_message *message)
{
    message->kind = LINK_LISTEN_DROP;
    memset(message->module, 0, sizeof message->module);
}
static void spoil_text_end(struct link_message *message)
{
    memset(message->text, 'a', sizeof message->text);
}
static void spoil_text_newline(struct link_message *message)
{
    memcpy(message->text, "READY\n", 7);
}
static void spoil_text_encoding(struct link_message *message)
{
    memcpy(message->text, "\xff\xfe", 3);
}

static void test_what_is_not_ours_is_refused(void **state)
{
    (void)state;
    static void (*const spoils[])(struct link_message *) = {
        spoil_magic,           spoil_version,    spoil_kind,         spoil_status,
        spoil_negative_status, spoil_module_end, spoil_module_path,  spoil_module_tail,
        spoil_module_missing,  spoil_text_end,   spoil_text_newline, spoil_text_encoding,
    };
    struct link_message good, parsed;
    link_message_set(&good, LINK_LISTEN, "lpr");
    link_text_set(&good, "said \"%s\"", "so");
    assert_int_equal(link_message_parse(&good, sizeof good, &parsed), IMP_OK);
    assert_int_equal(link_message_parse(&good, sizeof good - 1, &parsed), IMP_CORRUPT);
    assert_int_equal(link_message_parse(&good, 0, &parsed), IMP_CORRUPT);
    for (size_t i = 0; i < sizeof spoils / sizeof spoils[0]; i++) {
        struct link_message bad = good;
        spoils[i](&bad);
        assert_int_equal(link_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
    }
}

static void test_long_packets_are_refused_not_cut(void **state)
{
    (void)state;
    struct {
        struct link_message message;
        char more[8];
    } packet;
    struct link_message message;
    int passed;
    memset(&packet, 0, sizeof packet);
    link_message_set(&packet.message, LINK_READY, NULL);
    assert_int_equal(packet_send(ends[0], &packet, sizeof packet, NULL, 0, NULL), IMP_OK);
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_CORRUPT);
    assert_int_equal(passed, -1);
}

static void test_descriptors_that_nobody_asked_for_are_closed(void **state)
{
    (void)state;
    struct link_message message;
    int passed, before = open_descriptors();
    const int given[2] = {ends[0], ends[1]};
    /* One with a message that has none; two with one that has one; none with one that has one. */
    link_message_set(&message, LINK_READY, NULL);
    assert_int_equal(packet_send(ends[0], &message, sizeof message, given, 1, NULL), IMP_OK);
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_CORRUPT);
    link_message_set(&message, LINK_LISTENER, "lpr");
    message.listener[0] = 'a';
    assert_int_equal(packet_send(ends[0], &message, sizeof message, given, 2, NULL), IMP_OK);
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_CORRUPT);
    link_message_set(&message, LINK_LISTENER, "lpr");
    message.listener[0] = 'a';
    assert_int_equal(packet_send(ends[0], &message, sizeof message, NULL, 0, NULL), IMP_OK);
    assert_int_equal(link_receive(ends[1], &message, &passed, NULL), IMP_CORRUPT);
    assert_int_equal(open_descriptors(), before);
}

static void test_requests_to_the_spawner_stay_within_bounds(void **state)
{
    (void)state;
    struct spawner_message good, bad, parsed;
    spawner_message_set(&good, SPAWNER_START, 4);
    good.limits = (struct spawner_limits){.memory_bytes = 1 << 20,
                                          .output_bytes = 1 << 20,
                                          .cpu_seconds = 1,
                                          .wall_ms = 1000,
                                          .open_files = 16};
    assert_int_equal(spawner_message_parse(&good, sizeof good, &parsed), IMP_OK);
    assert_int_equal(spawner_message_parse(&good, sizeof good - 1, &parsed), IMP_CORRUPT);
    bad = good;
    bad.program = SPAWNER_PROGRAMS;
    assert_int_equal(spawner_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
    bad = good;
    bad.limits.memory_bytes = SPAWNER_MEMORY_LIMIT + 1;
    assert_int_equal(spawner_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
    bad = good;
    bad.limits.wall_ms = 0;
    assert_int_equal(spawner_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
    bad = good;
    bad.limits.open_files = SPAWNER_FILES_LEAST - 1;
    assert_int_equal(spawner_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
    bad = good;
    bad.kind = LINK_READY + 900;
    assert_int_equal(spawner_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
    bad = good;
    memset(bad.text, 'a', sizeof bad.text);
    assert_int_equal(spawner_message_parse(&bad, sizeof bad, &parsed), IMP_CORRUPT);
}

static void test_a_start_needs_both_of_its_descriptors(void **state)
{
    (void)state;
    struct spawner_message message;
    int passed[SPAWNER_PASSED_MAX], before = open_descriptors();
    const int given[2] = {ends[0], ends[1]};
    size_t count;
    spawner_message_set(&message, SPAWNER_START, 4);
    message.limits = (struct spawner_limits){1 << 20, 1 << 20, 1, 1000, 16, 0};
    assert_int_equal(spawner_send(ends[0], &message, given, 1, NULL), IMP_OK);
    assert_int_equal(spawner_receive(ends[1], &message, passed, &count, NULL), IMP_CORRUPT);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(spawner_send(ends[0], &message, given, 2, NULL), IMP_OK);
    assert_int_equal(spawner_receive(ends[1], &message, passed, &count, NULL), IMP_OK);
    assert_int_equal(count, 2);
    packet_close(passed, count);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_socket_arrives_with_its_names),
        TEST(test_waiting_and_ending_are_told_apart),
        TEST(test_a_reader_that_sleeps_is_busy_not_waited_for),
        TEST(test_what_is_not_ours_is_refused),
        TEST(test_long_packets_are_refused_not_cut),
        TEST(test_descriptors_that_nobody_asked_for_are_closed),
        TEST(test_requests_to_the_spawner_stay_within_bounds),
        TEST(test_a_start_needs_both_of_its_descriptors),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
