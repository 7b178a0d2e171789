/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners: who may connect, the bounds, the PROXY header, the balance between loops, and a new
 * generation that takes over while clients connect.
 */
#include "net-fixture.h"

#include "core/listener.h"
#include "core/log.h"

#include <semaphore.h>
#include <stdio.h>
#include <sys/resource.h>

#define FIRST_CLIENTS 20

static imp_self *self;
static struct listener_limits limits;

/* ---- a module that counts ---- */

struct counts {
    atomic_uint accepted, closed, shut_down;
    atomic_uint on_loop[8];
    bool refuses;
    char peer[46];
    uint16_t peer_port;
};
static struct counts first, second;
static imp_stream *last_stream;

static void client_readable(imp_stream *stream, void *arg)
{
    imp_bytes input = imp_stream_input(stream);
    (void)arg;
    imp_stream_write(stream, input.data, input.length);
    imp_stream_consume(stream, input.length);
}

static void client_closed(imp_stream *stream, imp_close_reason reason, void *arg)
{
    struct counts *counts = arg;
    (void)stream;
    counts->closed++;
    counts->shut_down += reason == IMP_CLOSED_SHUTDOWN;
}

static const imp_stream_events client_events = {
    .size = sizeof client_events, .readable = client_readable, .closed = client_closed};

static imp_status client_accepted(struct counts *counts, const char *listener, imp_stream *stream)
{
    assert_string_equal(listener, "main");
    if (counts->refuses)
        return IMP_BUSY;
    if (imp_loop_count() == 1) { /* else several threads are here */
        memcpy(counts->peer, imp_stream_peer(stream)->address, sizeof counts->peer);
        counts->peer_port = imp_stream_peer(stream)->port;
        last_stream = stream;
    }
    counts->on_loop[imp_loop_index(imp_stream_loop(stream)) % 8]++;
    imp_stream_set_events(stream, &client_events, counts);
    counts->accepted++;
    return IMP_OK;
}

static imp_status first_accepted(imp_self *module, void *instance, const char *listener,
                                 imp_stream *stream)
{
    (void)module;
    (void)instance;
    return client_accepted(&first, listener, stream);
}

static imp_status second_accepted(imp_self *module, void *instance, const char *listener,
                                  imp_stream *stream)
{
    (void)module;
    (void)instance;
    return client_accepted(&second, listener, stream);
}

/* ---- set up ---- */

static struct config_listener config;
static uint16_t port;

static void note_port(const struct listener_info *info, void *arg)
{
    (void)arg;
    port = info->port;
}

static void configure(const char *text)
{
    memset(&config, 0, sizeof config);
    strcpy(config.module, "tester");
    strcpy(config.name, "main");
    config.address_text = text;
    assert_int_equal(
        config_parse_address(text, &config.address, &config.address_length, &config.is_any),
        IMP_OK);
    /* Any port: only tests want that, so the syntax does not have it. */
    if (config.address.ss_family == AF_INET)
        ((struct sockaddr_in *)(void *)&config.address)->sin_port = 0;
    else
        ((struct sockaddr_in6 *)(void *)&config.address)->sin6_port = 0;
}

static void add(void)
{
    imp_error error;
    int fd;
    assert_int_equal(listener_bind(&config, LISTENER_BACKLOG, &fd, &error), IMP_OK);
    assert_int_equal(listener_table_add(&config, fd, &error), IMP_OK);
    listener_each(note_port, NULL);
    assert_int_not_equal(port, 0);
}

static void common_up(void)
{
    imp_error error;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    limits = (struct listener_limits)LISTENER_LIMITS_DEFAULT;
    assert_int_equal(listener_start(&limits, &error), IMP_OK);
    assert_int_equal(imp_listen(self, first_accepted, &error), IMP_OK);
    assert_int_equal(imp_listen(self, first_accepted, &error), IMP_EXISTS);
    configure("127.0.0.1:1");
}

static int up(void **state)
{
    imp_error error;
    (void)state;
    self = self_new_for_test("tester");
    assert_int_equal(loop_setup_for_test(&error), IMP_OK);
    common_up();
    return 0;
}

static int threads_up(void **state)
{
    imp_error error;
    (void)state;
    self = self_new_for_test("tester");
    assert_int_equal(loop_setup(3, &error), IMP_OK);
    assert_int_equal(loop_start(&error), IMP_OK);
    common_up();
    return 0;
}

/* Loops that accept nothing themselves, beside those that do. */
static int many_threads_up(void **state)
{
    imp_error error;
    (void)state;
    self = self_new_for_test("tester");
    assert_int_equal(loop_setup(LISTENER_LOOPS_MAX + 1, &error), IMP_OK);
    assert_int_equal(loop_start(&error), IMP_OK);
    common_up();
    return 0;
}

static int down(void **state)
{
    (void)state;
    loop_stop();
    assert_int_equal(listener_connections(), 0);
    listener_withdraw(self);
    listener_stop();
    assert_int_equal(self_left(self, NULL, NULL), 0);
    self_free_for_test(self);
    loop_teardown();
    time_thaw_for_test();
    return 0;
}

static void publish(void)
{
    imp_error error;
    assert_int_equal(listener_publish(self, &error), IMP_OK);
}

static int dial_family(int family)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = TEST_DEADLINE_S};
    v4.sin_port = v6.sin6_port = htons(port);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int result = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof v4)
                                   : connect(fd, (struct sockaddr *)&v6, sizeof v6);
    assert_int_equal(result, 0);
    return fd;
}

static int dial(void)
{
    return dial_family(AF_INET);
}

static bool is_gone(int fd)
{
    char byte;
    ssize_t count = recv(fd, &byte, 1, MSG_DONTWAIT);
    return count == 0 || (count < 0 && errno == ECONNRESET);
}

static void expect_refused(int fd)
{
    TURN_UNTIL(is_gone(fd));
    assert_int_equal(first.accepted, 0);
    close(fd);
    TURN_UNTIL(listener_connections() == 0);
}

static void expect_echo(int fd)
{
    char answer[3] = "";
    assert_int_equal(send(fd, "hi", 2, MSG_NOSIGNAL), 2);
    TURN_UNTIL(recv(fd, answer, 2, MSG_DONTWAIT | MSG_PEEK) == 2);
    assert_int_equal(recv(fd, answer, 2, 0), 2);
    assert_string_equal(answer, "hi");
}

/* ---- tests ---- */

static void clients_wait_until_a_generation_is_published(void **state)
{
    (void)state;
    add();
    int fd = dial();
    turn_idle();
    assert_int_equal(listener_connections(), 0);
    publish();
    expect_echo(fd);
    assert_int_equal(first.accepted, 1);
    assert_string_equal(first.peer, "127.0.0.1");
    listener_withdraw(self);
    listener_withdraw(self);
    int waiting = dial();
    turn_idle();
    assert_int_equal(listener_connections(), 1);
    expect_echo(fd); /* what it has goes on */
    close(fd);
    close(waiting);
    TURN_UNTIL(listener_connections() == 0);
}

static void only_allowed_networks_come_in(void **state)
{
    struct config_network networks[2];
    imp_error error;
    (void)state;
    configure("*:1");
    assert_int_equal(config_parse_network("10.0.0.0/8", &networks[0]), IMP_OK);
    assert_int_equal(config_parse_network("::1", &networks[1]), IMP_OK);
    config.allow = networks;
    config.allow_count = 2;
    add();
    publish();
    expect_refused(dial());
    int fd = dial_family(AF_INET6);
    expect_echo(fd);
    assert_string_equal(first.peer, "::1");
    close(fd);
    /* IPv4 on the IPv6 socket is matched, and shown, as IPv4. */
    assert_int_equal(config_parse_network("127.0.0.0/8", &networks[0]), IMP_OK);
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    fd = dial();
    expect_echo(fd);
    assert_string_equal(first.peer, "127.0.0.1");
    close(fd);
}

static void bounds_refuse_and_free_again(void **state)
{
    (void)state;
    add();
    publish();
    limits.connections_max = 2;
    listener_set_limits(&limits);
    int a = dial(), b = dial();
    expect_echo(a);
    expect_echo(b);
    int c = dial();
    TURN_UNTIL(is_gone(c));
    close(c);
    close(a);
    TURN_UNTIL(listener_connections() == 1);
    c = dial();
    expect_echo(c);
    limits.connections_max = 100;
    limits.connections_per_source_max = 2;
    listener_set_limits(&limits);
    int d = dial();
    TURN_UNTIL(is_gone(d));
    close(d);
    close(b);
    close(c);
    TURN_UNTIL(listener_connections() == 0);
    assert_int_equal(first.accepted, 3);
}

static void a_module_may_refuse(void **state)
{
    (void)state;
    add();
    publish();
    first.refuses = true;
    expect_refused(dial());
    assert_int_equal(first.closed, 0);
}

static void settings_of_a_group_are_found(void **state)
{
    const struct config_listener_setting settings[] = {{"queue", "hold"}},
                                         others[] = {{"queue", "x"}};
    imp_error error;
    (void)state;
    config.settings = settings;
    config.settings_count = 1;
    add();
    assert_string_equal(imp_listener_setting(self, "main", "queue"), "hold");
    assert_string_equal(imp_listener_setting(self, "main", "tls"), "none");
    assert_null(imp_listener_setting(self, "main", "color"));
    assert_null(imp_listener_setting(self, "other", "queue"));
    config.settings = others;
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    assert_string_equal(imp_listener_setting(self, "main", "queue"), "x");
    listener_table_remove("tester", NULL);
    assert_null(imp_listener_setting(self, "main", "queue"));
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_INVALID);
    assert_int_equal(listener_table_add(&config, STDERR_FILENO, &error), IMP_INVALID);
}

static void removing_an_entry_refuses_new_clients_and_keeps_old_ones(void **state)
{
    (void)state;
    add();
    publish();
    int fd = dial();
    expect_echo(fd);
    listener_table_remove("tester", "main");
    turn_idle();
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int other = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(other, (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(other);
    expect_echo(fd);
    close(fd);
    TURN_UNTIL(first.closed == 1);
}

static void a_new_generation_takes_over_without_a_gap(void **state)
{
    imp_error error;
    int clients[FIRST_CLIENTS], others[FIRST_CLIENTS];
    (void)state;
    add();
    publish();
    for (int i = 0; i < FIRST_CLIENTS; i++)
        expect_echo(clients[i] = dial());
    imp_self *next = self_new_for_test("tester");
    assert_int_equal(imp_listen(next, second_accepted, &error), IMP_OK);
    for (int i = 0; i < FIRST_CLIENTS / 2; i++)
        others[i] = dial();
    assert_int_equal(listener_publish(next, &error), IMP_OK);
    self_end(self, SELF_INTAKE);
    for (int i = FIRST_CLIENTS / 2; i < FIRST_CLIENTS; i++)
        others[i] = dial();
    for (int i = 0; i < FIRST_CLIENTS; i++) {
        expect_echo(others[i]);
        expect_echo(clients[i]);
    }
    assert_int_equal(first.accepted + second.accepted, 2 * FIRST_CLIENTS);
    assert_true(second.accepted >= FIRST_CLIENTS / 2);
    self_end(self, SELF_CUT);
    TURN_UNTIL(self_left(self, NULL, NULL) == 0);
    assert_int_equal(first.closed, first.accepted);
    assert_int_equal(first.shut_down, first.accepted);
    expect_echo(others[FIRST_CLIENTS - 1]);
    for (int i = 0; i < FIRST_CLIENTS; i++) {
        close(clients[i]);
        close(others[i]);
    }
    TURN_UNTIL(listener_connections() == 0);
    self_end(next, SELF_INTAKE);
    TURN_UNTIL(self_left(next, NULL, NULL) == 0);
    self_free_for_test(next);
}

static void without_descriptors_accepting_pauses_and_goes_on(void **state)
{
    struct rlimit before, none;
    (void)state;
    add();
    publish();
    turn_idle();
    int fd = dial();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd; /* the next descriptor would be above */
    int filler[64], fillers = 0;
    while (fillers < 64 && (filler[fillers] = dup(0)) < fd && filler[fillers] >= 0)
        fillers++;
    if (fillers < 64 && filler[fillers] >= 0)
        close(filler[fillers]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    uint32_t turns = 0;
    double end = seconds() + 0.05;
    while (seconds() < end)
        turns += loop_run_once(imp_loop_control(), false);
    assert_int_equal(first.accepted, 0);
    assert_true(turns < 10); /* it does not spin */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (fillers > 0)
        close(filler[--fillers]);
    expect_echo(fd);
    close(fd);
}

/* Refused, having been told these words. */
static void expect_told(int fd, const char *words)
{
    char told[IMP_REFUSAL_MAX + 1] = "";
    size_t length = strlen(words);
    ssize_t count = 0;
    TURN_UNTIL((count = recv(fd, told, sizeof told - 1, MSG_DONTWAIT | MSG_PEEK)) >= 0);
    assert_int_equal(count, length);
    assert_int_equal(recv(fd, told, sizeof told - 1, 0), length);
    assert_string_equal(told, words);
    TURN_UNTIL(is_gone(fd));
    assert_int_equal(recv(fd, told, 1, 0), 0); /* in order: no reset takes the words away */
    close(fd);
}

static void whoever_is_refused_at_a_bound_is_told_so(void **state)
{
    static const char words[] = "421 not now\r\n";
    struct config_network network;
    imp_error error;
    (void)state;
    assert_int_equal(imp_listen_refusal(self, words, IMP_REFUSAL_MAX + 1, &error), IMP_INVALID);
    assert_int_equal(imp_listen_refusal(self, words, sizeof words - 1, &error), IMP_OK);
    add();
    publish();
    limits.connections_max = 1;
    listener_set_limits(&limits);
    int fd = dial();
    expect_echo(fd);
    int refused = dial();
    assert_int_equal(send(refused, "early words", 11, MSG_NOSIGNAL), 11);
    expect_told(refused, words);
    limits.connections_max = 100;
    limits.connections_per_source_max = 1;
    listener_set_limits(&limits);
    expect_told(dial(), words);
    /* Those who are told so are few, whatever comes. */
    int many[LISTENER_TOLD_MAX + 4];
    uint32_t told = 0;
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        many[i] = dial();
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++) {
        char byte;
        ssize_t count = -1;
        TURN_UNTIL((count = recv(many[i], &byte, 1, MSG_DONTWAIT)) >= 0 || errno == ECONNRESET);
        told += count == 1;
    }
    assert_int_equal(told, LISTENER_TOLD_MAX);
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        close(many[i]);
    turn_idle();
    first.refuses = true;
    limits.connections_per_source_max = 0;
    listener_set_limits(&limits);
    expect_told(dial(), words);
    /* Who may not come at all learns nothing; nor does who expects TLS. */
    assert_int_equal(config_parse_network("192.0.2.0/24", &network), IMP_OK);
    config.allow = &network;
    config.allow_count = 1;
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    turn_idle();
    expect_told(dial(), "");
    config.allow_count = 0;
    config.tls = CONFIG_TLS_IMPLICIT;
    limits.connections_max = 1;
    listener_set_limits(&limits);
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    turn_idle();
    expect_told(dial(), "");
    close(fd);
}

static uint32_t lines_seen;
static char last_line[256];

static void keep_line(const char *line, void *arg)
{
    (void)arg;
    lines_seen++;
    snprintf(last_line, sizeof last_line, "%s", line);
}

static void each_reason_is_logged_once_an_interval(void **state)
{
    struct config_network network;
    imp_error error;
    (void)state;
    time_freeze_for_test(1, 1000000 * IMP_SECOND); /* long after what other tests have logged */
    assert_int_equal(config_parse_network("192.0.2.0/24", &network), IMP_OK);
    config.allow = &network;
    config.allow_count = 1;
    add();
    publish();
    lines_seen = 0;
    log_capture_for_test(keep_line, NULL);
    for (int i = 0; i < 3; i++)
        expect_refused(dial());
    assert_int_equal(lines_seen, 1);
    assert_non_null(
        strstr(last_line, "listener.refused module=tester listener=main reason=network"));
    config.allow_count = 0;
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    limits.connections_max = 0;
    listener_set_limits(&limits);
    turn_idle();
    expect_refused(dial());
    assert_int_equal(lines_seen, 2);
    assert_non_null(strstr(last_line, "reason=limit"));
    time_advance_for_test(10 * IMP_SECOND);
    config.allow_count = 1;
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    turn_idle();
    expect_refused(dial());
    assert_int_equal(lines_seen, 3);
    assert_non_null(strstr(last_line, "reason=network suppressed=2"));
    log_capture_for_test(NULL, NULL);
}

static struct config_network loopback, their_clients[2];

static void expect_proxies(void)
{
    assert_int_equal(config_parse_network("127.0.0.1", &loopback), IMP_OK);
    config.proxy = true;
    config.proxies = &loopback;
    config.proxies_count = 1;
}

static int dial_with(const void *header, size_t length)
{
    int fd = dial();
    assert_int_equal(send(fd, header, length, MSG_NOSIGNAL), (ssize_t)length);
    return fd;
}

static void only_proxies_are_believed_and_allow_is_about_their_clients(void **state)
{
    static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 515\r\n",
                      other[] = "PROXY TCP4 192.0.3.7 198.51.100.1 51234 515\r\n",
                      unknown[] = "PROXY UNKNOWN\r\n";
    static const uint8_t local[] = {13,  10,  13,  10, 0,    13,   10, 'Q',
                                    'U', 'I', 'T', 10, 0x20, 0x00, 0,  0};
    imp_error error;
    (void)state;
    expect_proxies();
    assert_int_equal(config_parse_network("192.0.2.0/24", &their_clients[0]), IMP_OK);
    config.allow = their_clients;
    config.allow_count = 1;
    add();
    publish();
    /* The proxy itself is not among the clients; whom it speaks for is what counts. */
    expect_refused(dial_with(other, sizeof other - 1));
    expect_refused(dial_with(unknown, sizeof unknown - 1));
    expect_refused(dial_with(local, sizeof local));
    int fd = dial_with(header, sizeof header - 1);
    expect_echo(fd);
    assert_string_equal(first.peer, "192.0.2.7");
    close(fd);
    TURN_UNTIL(listener_connections() == 0);
    /* A proxy's health check has the address of the proxy, which `allow` may name. */
    assert_int_equal(config_parse_network("127.0.0.1", &their_clients[1]), IMP_OK);
    config.allow_count = 2;
    limits.connections_per_source_max = 1;
    listener_set_limits(&limits);
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    turn_idle();
    fd = dial_with(local, sizeof local);
    expect_echo(fd);
    assert_string_equal(first.peer, "127.0.0.1");
    uint32_t accepted = first.accepted;
    int second_one =
        dial_with(unknown, sizeof unknown - 1); /* the bound of a source is for it too */
    TURN_UNTIL(is_gone(second_one));
    assert_int_equal(first.accepted, accepted);
    close(second_one);
    close(fd);
    TURN_UNTIL(listener_connections() == 0);
    /* Anybody else could say anything. */
    first.accepted = 0;
    assert_int_equal(config_parse_network("192.0.2.4", &loopback), IMP_OK);
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    turn_idle();
    fd = dial();
    (void)send(fd, header, sizeof header - 1, MSG_NOSIGNAL);
    expect_refused(fd);
    fd = dial();
    (void)send(fd, local, sizeof local, MSG_NOSIGNAL);
    expect_refused(fd);
}

static void who_is_refused_behind_a_proxy_keeps_no_place(void **state)
{
    static const char words[] = "421 not now\r\n",
                      header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 515\r\n",
                      other[] = "PROXY TCP4 192.0.2.8 198.51.100.1 51234 515\r\n";
    int many[LISTENER_TOLD_MAX + 4], told = 0;
    imp_error error;
    (void)state;
    assert_int_equal(imp_listen_refusal(self, words, sizeof words - 1, &error), IMP_OK);
    expect_proxies();
    add();
    publish();
    limits.connections_max = 3;
    limits.connections_per_source_max = 1;
    listener_set_limits(&limits);
    int fd = dial_with(header, sizeof header - 1);
    expect_echo(fd);
    /* One after the other, and each stays: those who are told are few, and the others are cut. */
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++) {
        char byte;
        ssize_t count = -1;
        many[i] = dial_with(header, sizeof header - 1);
        TURN_UNTIL((count = recv(many[i], &byte, 1, MSG_DONTWAIT)) >= 0 || errno == ECONNRESET);
        told += count == 1;
        assert_int_equal(listener_connections(), 1);
    }
    assert_int_equal(told, LISTENER_TOLD_MAX);
    int second_one = dial_with(other, sizeof other - 1);
    expect_echo(second_one);
    assert_int_equal(first.accepted, 2);
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        close(many[i]);
    turn_idle();
    /* Whoever is done with makes room for others to be told. */
    expect_told(dial_with(header, sizeof header - 1), words);
    close(fd);
    close(second_one);
    TURN_UNTIL(listener_connections() == 0);
}

static void the_proxy_header_tells_the_client(void **state)
{
    static const char v1[] = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 515\r\nhi";
    static const uint8_t v2[] = {13,  10,   13,   10,   0,  13,  10, 'Q', 'U', 'I', 'T',
                                 10,  0x21, 0x11, 0,    15, 203, 0,  113, 5,   198, 51,
                                 100, 1,    0x30, 0x39, 2,  3,   4,  0,   0,   'h', 'i'};
    char answer[3] = "";
    (void)state;
    expect_proxies();
    add();
    publish();
    int fd = dial();
    for (size_t i = 0; i < sizeof v1 - 1; i++) { /* byte by byte */
        assert_int_equal(send(fd, v1 + i, 1, MSG_NOSIGNAL), 1);
        turn_idle();
    }
    TURN_UNTIL(recv(fd, answer, 2, MSG_DONTWAIT) == 2);
    assert_string_equal(answer, "hi");
    assert_string_equal(first.peer, "192.0.2.7");
    assert_int_equal(first.peer_port, 51234);
    assert_string_equal(imp_stream_local(last_stream)->address, "198.51.100.1");
    close(fd);
    fd = dial();
    assert_int_equal(send(fd, v2, sizeof v2, MSG_NOSIGNAL), (ssize_t)sizeof v2);
    TURN_UNTIL(recv(fd, answer, 2, MSG_DONTWAIT) == 2);
    assert_string_equal(first.peer, "203.0.113.5");
    assert_int_equal(first.peer_port, 12345);
    close(fd);
    TURN_UNTIL(listener_connections() == 0);
    first.accepted = 0;
    fd = dial();
    assert_int_equal(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
    expect_refused(fd);
}

static void a_silent_proxy_is_cut(void **state)
{
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    limits.proxy_timeout = 5 * IMP_SECOND;
    limits.handshake_timeout = 20 * IMP_SECOND;
    listener_set_limits(&limits);
    config.tls = CONFIG_TLS_IMPLICIT; /* whose time comes on top, with the header */
    expect_proxies();
    add();
    publish();
    int fd = dial();
    TURN_UNTIL(listener_connections() == 1);
    turn_idle();
    time_advance_for_test(4 * IMP_SECOND);
    turn_idle();
    assert_false(is_gone(fd));
    time_advance_for_test(1 * IMP_SECOND);
    expect_refused(fd);
}

static void connections_are_spread_over_the_loops(void **state)
{
    enum { CLIENTS = 1000 };
    static int clients[CLIENTS];
    struct rlimit files;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    add();
    publish();
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = dial();
    TURN_UNTIL(first.accepted == CLIENTS);
    assert_int_equal(listener_connections(), CLIENTS);
    for (int i = 0; i < 3; i++)
        assert_in_range(first.on_loop[i], CLIENTS / 3 - 50, CLIENTS / 3 + 50);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(send(clients[i], "hi", 2, MSG_NOSIGNAL), 2);
    for (int i = 0; i < CLIENTS; i++) {
        char answer[2];
        assert_int_equal(recv(clients[i], answer, 2, MSG_WAITALL), 2);
    }
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    TURN_UNTIL(first.closed == CLIENTS && listener_connections() == 0);
}

/* A loop that waits between taking its posts and looking at its sockets. */
struct held_loop {
    struct loop_timer timer; /* first: its address is the struct's */
    sem_t *held, *may_go;
};

static void held_timer(struct loop_timer *timer)
{
    struct held_loop *loop = (struct held_loop *)(void *)timer;
    sem_post(loop->held);
    sem_wait(loop->may_go);
}

static void hold_here(void *arg)
{
    struct held_loop *loop = arg;
    loop->timer.fn = held_timer;
    assert_true(loop_timer_arm(imp_loop_current(), &loop->timer, loop_ticks(imp_loop_current())));
}

static void was_here(void *arg)
{
    sem_post(arg);
}

static void settings_that_change_on_a_connection_s_way_believe_nobody(void **state)
{
    static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 515\r\nhi";
    struct held_loop holds[LISTENER_LOOPS_MAX];
    sem_t held, may_go;
    imp_error error;
    (void)state;
    limits.imbalance = 0;
    listener_set_limits(&limits);
    add();
    publish();
    assert_int_equal(sem_init(&held, 0, 0), 0);
    assert_int_equal(sem_init(&may_go, 0, 0), 0);
    /* Those that accept are busy, and will hand on what they accept. */
    for (uint32_t i = 0; i < LISTENER_LOOPS_MAX; i++) {
        memset(&holds[i], 0, sizeof holds[i]);
        holds[i].held = &held;
        holds[i].may_go = &may_go;
        loop_load_add(imp_loop_at(i), 10);
        assert_int_equal(loop_post_core(imp_loop_at(i), hold_here, &holds[i]), IMP_OK);
    }
    for (uint32_t i = 0; i < LISTENER_LOOPS_MAX; i++)
        sem_wait(&held);
    int fd = dial_with(header, sizeof header - 1);
    /* The one that gets it has the new settings first. */
    expect_proxies();
    assert_int_equal(listener_table_add(&config, -1, &error), IMP_OK);
    assert_int_equal(loop_post_core(imp_loop_at(LISTENER_LOOPS_MAX), was_here, &held), IMP_OK);
    sem_wait(&held);
    for (uint32_t i = 0; i < LISTENER_LOOPS_MAX; i++)
        sem_post(&may_go);
    TURN_UNTIL(is_gone(fd));
    assert_int_equal(first.accepted, 0);
    close(fd);
    TURN_UNTIL(listener_connections() == 0);
    for (uint32_t i = 0; i < LISTENER_LOOPS_MAX; i++) {
        loop_load_add(imp_loop_at(i), -10);
        assert_int_equal(loop_post_core(imp_loop_at(i), was_here, &held), IMP_OK);
        sem_wait(&held); /* so it has the new settings */
    }
    fd = dial_with(header, sizeof header - 1); /* from now on it is one */
    char answer[3] = "";
    TURN_UNTIL(recv(fd, answer, 2, MSG_DONTWAIT) == 2);
    assert_string_equal(answer, "hi");
    close(fd);
    TURN_UNTIL(listener_connections() == 0);
    sem_destroy(&held);
    sem_destroy(&may_go);
}

static void streams_end_with_their_generation_on_all_loops(void **state)
{
    int clients[FIRST_CLIENTS];
    (void)state;
    add();
    publish();
    for (int i = 0; i < FIRST_CLIENTS; i++)
        clients[i] = dial();
    TURN_UNTIL(first.accepted == FIRST_CLIENTS);
    self_end(self, SELF_INTAKE);
    self_end(self, SELF_CUT);
    TURN_UNTIL(self_left(self, NULL, NULL) == 0);
    assert_int_equal(first.shut_down, FIRST_CLIENTS);
    for (int i = 0; i < FIRST_CLIENTS; i++)
        close(clients[i]);
    TURN_UNTIL(listener_connections() == 0);
}

/* ---- the PROXY parser ---- */

static void proxy_headers_are_read_strictly(void **state)
{
    static const struct {
        const char *text;
        imp_status status;
        size_t length;
        const char *address;
    } rows[] = {
        {"PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\nx", IMP_OK, 36, "1.2.3.4"},
        {"PROXY TCP6 2001:db8::1 ::1 80 443\r\n", IMP_OK, 35, "2001:db8::1"},
        {"PROXY UNKNOWN\r\n", IMP_OK, 15, ""},
        {"PROXY UNKNOWN ffff:f:f 1 2 3\r\n", IMP_OK, 30, ""},
        {"P", IMP_BUSY, 0, NULL},
        {"PROXY TCP4 1.2.3.4", IMP_BUSY, 0, NULL},
        {"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", IMP_INVALID, 0, NULL},
        {"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", IMP_INVALID, 0, NULL},
        {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", IMP_INVALID, 0, NULL},
        {"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", IMP_INVALID, 0, NULL},
        {"PROXY TCP4 ::1 ::1 1 2\r\n", IMP_INVALID, 0, NULL},
        {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", IMP_INVALID, 0, NULL},
        {"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", IMP_INVALID, 0, NULL},
        {"PROXY \r\n", IMP_INVALID, 0, NULL},
        {"PROXX", IMP_INVALID, 0, NULL},
        {"\r\n\r\n", IMP_BUSY, 0, NULL},
        {"\r\n\r\nx", IMP_INVALID, 0, NULL},
    };
    char text[256];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sockaddr_storage source, destination;
        imp_peer peer;
        size_t length;
        assert_int_equal(proxy_parse((const uint8_t *)rows[i].text, strlen(rows[i].text), &source,
                                     &destination, &length),
                         rows[i].status);
        if (rows[i].status != IMP_OK)
            continue;
        assert_int_equal(length, rows[i].length);
        stream_peer_format(&source, &peer);
        assert_string_equal(peer.address, rows[i].address);
    }
    struct sockaddr_storage source, destination;
    size_t length;
    memset(text, 'x', sizeof text);
    memcpy(text, "PROXY ", 6);
    assert_int_equal(proxy_parse((uint8_t *)text, 106, &source, &destination, &length), IMP_BUSY);
    assert_int_equal(proxy_parse((uint8_t *)text, 107, &source, &destination, &length),
                     IMP_INVALID);
    uint8_t v2[60] = {13, 10, 13, 10, 0, 13, 10, 'Q', 'U', 'I', 'T', 10, 0x20, 0x11, 0, 12};
    assert_int_equal(proxy_parse(v2, 27, &source, &destination, &length), IMP_BUSY);
    assert_int_equal(proxy_parse(v2, 28, &source, &destination, &length), IMP_OK); /* LOCAL */
    assert_int_equal(source.ss_family, AF_UNSPEC);
    v2[12] = 0x21;
    v2[15] = 11; /* too short for its addresses */
    assert_int_equal(proxy_parse(v2, 60, &source, &destination, &length), IMP_INVALID);
    v2[12] = 0x31; /* version 3 */
    assert_int_equal(proxy_parse(v2, 60, &source, &destination, &length), IMP_INVALID);
    v2[12] = 0x21;
    v2[14] = 0xff; /* 64 KiB of TLVs */
    assert_int_equal(proxy_parse(v2, 60, &source, &destination, &length), IMP_INVALID);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, up, down)
#define THREADS(test) cmocka_unit_test_setup_teardown(test, threads_up, down)
    const struct CMUnitTest tests[] = {
        TEST(clients_wait_until_a_generation_is_published),
        TEST(only_allowed_networks_come_in),
        TEST(bounds_refuse_and_free_again),
        TEST(a_module_may_refuse),
        TEST(settings_of_a_group_are_found),
        TEST(removing_an_entry_refuses_new_clients_and_keeps_old_ones),
        TEST(a_new_generation_takes_over_without_a_gap),
        TEST(without_descriptors_accepting_pauses_and_goes_on),
        TEST(whoever_is_refused_at_a_bound_is_told_so),
        TEST(each_reason_is_logged_once_an_interval),
        TEST(only_proxies_are_believed_and_allow_is_about_their_clients),
        TEST(who_is_refused_behind_a_proxy_keeps_no_place),
        TEST(the_proxy_header_tells_the_client),
        TEST(a_silent_proxy_is_cut),
        THREADS(connections_are_spread_over_the_loops),
        THREADS(streams_end_with_their_generation_on_all_loops),
        cmocka_unit_test_setup_teardown(settings_that_change_on_a_connection_s_way_believe_nobody,
                                        many_threads_up, down),
        cmocka_unit_test(proxy_headers_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
