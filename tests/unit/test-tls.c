/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS: the self-made pair, connections between two of our streams, STARTTLS and what is smuggled
 * behind it, cuts, and OpenSSL's own client.
 */
#include "net-fixture.h"

#include "core/tls.h"

#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static imp_self *self;
static char folder[] = "/tmp/imprimatur-test-tls-XXXXXX";
static char certificate[64], key[64];

static int group_up(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(certificate, sizeof certificate, "%s/tls/certificate.pem", folder);
    snprintf(key, sizeof key, "%s/tls/key.pem", folder);
    return 0;
}

static int group_down(void **state)
{
    char path[64];
    (void)state;
    unlink(certificate);
    unlink(key);
    snprintf(path, sizeof path, "%s/tls", folder);
    rmdir(path);
    return rmdir(folder);
}

static int up(void **state)
{
    imp_error error;
    (void)state;
    self = self_new_for_test("tester");
    assert_int_equal(loop_setup_for_test(&error), IMP_OK);
    assert_int_equal(tls_start(folder, NULL, NULL, "printserver.example", &error), IMP_OK);
    return 0;
}

static int down(void **state)
{
    (void)state;
    loop_stop();
    assert_int_equal(loop_load(imp_loop_control()), 0);
    self_free_for_test(self);
    loop_teardown();
    tls_stop();
    return 0;
}

/* ---- a server of one listening socket, and a client ---- */

static int listening;
static uint16_t port;
static struct seen server, client;

static void listen_now(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listening, 8), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    port = ntohs(address.sin_port);
    memset(&server, 0, sizeof server);
    memset(&client, 0, sizeof client);
}

static imp_status server_opened(imp_stream *stream, void *arg)
{
    (void)arg;
    assert_true(stream_give(stream, self));
    server.stream = stream;
    imp_stream_set_events(stream, &seen_events, &server);
    return IMP_OK;
}

static uint32_t released;

static void server_released(imp_stream *stream, void *arg)
{
    (void)stream;
    (void)arg;
    released++;
}

static void accept_now(bool tls)
{
    const struct stream_opening opening = {.tls = tls,
                                           .handshake_timeout_us = IMP_SECOND * 20,
                                           .opened = server_opened,
                                           .released = server_released};
    struct sockaddr_storage peer = {.ss_family = AF_INET};
    int fd = -1;
    TURN_UNTIL((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    assert_non_null(stream_accept(fd, &peer, &opening));
}

static void connect_now(const char *name, const uint8_t *pin)
{
    imp_error error;
    const imp_connect_options options = {.size = sizeof options,
                                         .host = "127.0.0.1",
                                         .port = port,
                                         .tls = true,
                                         .tls_name = name,
                                         .tls_pin = pin};
    assert_int_equal(
        imp_stream_connect(self, &options, &seen_events, &client, &client.stream, &error), IMP_OK);
}

static void close_both(void)
{
    if (client.stream != NULL && !client.closed)
        imp_stream_abort(client.stream);
    TURN_UNTIL(client.closed);
    if (server.stream != NULL && !server.closed)
        imp_stream_abort(server.stream);
    TURN_UNTIL(loop_load(imp_loop_control()) == 0);
    close(listening);
}

/* ---- tests ---- */

static imp_status load_anew(const char *certificate_path, const char *key_path, imp_error *error)
{
    struct ssl_ctx_st *prepared = NULL;
    imp_status status = tls_prepare(certificate_path, key_path, &prepared, error);
    if (status == IMP_OK)
        tls_take(prepared);
    else
        assert_null(prepared);
    return status;
}

static void the_pair_is_made_once_and_stays(void **state)
{
    imp_error error;
    struct stat before, after;
    uint8_t pin[TLS_PIN_SIZE], again[TLS_PIN_SIZE];
    (void)state;
    assert_int_equal(stat(key, &before), 0);
    assert_int_equal(before.st_mode & 07777, 0600);
    assert_int_equal(tls_server_pin(pin, &error), IMP_OK);
    assert_true(tls_server_expiry() > imp_now());
    tls_stop();
    assert_int_equal(tls_server_pin(again, &error), IMP_UNAVAILABLE);
    assert_int_equal(tls_start(folder, NULL, NULL, "other.example", &error), IMP_OK);
    assert_int_equal(stat(key, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(tls_server_pin(again, &error), IMP_OK);
    assert_memory_equal(pin, again, sizeof pin);
    /* A cut between key and certificate: the key stays. */
    assert_int_equal(unlink(certificate), 0);
    assert_int_equal(load_anew(NULL, NULL, &error), IMP_OK);
    assert_int_equal(tls_server_pin(again, &error), IMP_OK);
    assert_memory_equal(pin, again, sizeof pin);
    assert_int_equal(unlink(certificate), 0);
    tls_stop();
    assert_int_equal(tls_start(folder, NULL, NULL, "printserver.example", &error), IMP_OK);
}

static void wrong_files_are_refused_and_the_old_ones_stay(void **state)
{
    imp_error error;
    uint8_t pin[TLS_PIN_SIZE];
    (void)state;
    assert_int_equal(load_anew(certificate, NULL, &error), IMP_INVALID);
    assert_int_equal(load_anew(certificate, certificate, &error), IMP_DENIED);
    assert_int_equal(load_anew("/nowhere/c.pem", "/nowhere/k.pem", &error), IMP_INVALID);
    assert_non_null(strstr(error.message, "/nowhere/c.pem"));
    assert_int_equal(chmod(key, 0604), 0);
    assert_int_equal(load_anew(certificate, key, &error), IMP_DENIED);
    assert_int_equal(chmod(key, 0600), 0);
    assert_int_equal(load_anew(certificate, key, &error), IMP_OK);
    assert_int_equal(tls_server_pin(pin, &error), IMP_OK);
}

static void echo(struct seen *seen)
{
    assert_int_not_equal(imp_stream_write(seen->stream, seen->input, seen->input_length),
                         IMP_LIMIT);
    seen->input_length = 0;
}

static void a_pinned_server_is_trusted_and_a_stranger_is_not(void **state)
{
    imp_error error;
    uint8_t pin[TLS_PIN_SIZE];
    (void)state;
    assert_int_equal(tls_server_pin(pin, &error), IMP_OK);
    listen_now();
    server.on_readable = echo;
    connect_now(NULL, pin);
    accept_now(true);
    TURN_UNTIL(client.connected);
    assert_true(imp_stream_is_tls(client.stream));
    assert_int_equal(imp_stream_write(client.stream, "hello", 5), IMP_OK);
    TURN_UNTIL(client.input_length == 5);
    assert_true(imp_stream_is_tls(server.stream));
    imp_stream_end(client.stream); /* close_notify */
    TURN_UNTIL(server.ended);
    imp_stream_close(server.stream);
    TURN_UNTIL(server.closed && client.closed);
    assert_int_equal(client.ended, 1);
    assert_int_equal(client.reason, IMP_CLOSED_BY_PEER);
    close_both();
    pin[0] ^= 1;
    listen_now();
    connect_now(NULL, pin);
    accept_now(true);
    TURN_UNTIL(client.closed);
    assert_int_equal(client.connected, 0);
    assert_string_equal(client.message, "the peer's key is not the pinned one");
    close_both();
}

static void names_are_verified_against_trusted_certificates(void **state)
{
    imp_error error;
    (void)state;
    assert_int_equal(tls_set_client_ca("/nowhere/ca.pem", &error), IMP_INVALID);
    for (int kind = 0; kind < 3; kind++) {
        assert_int_equal(tls_set_client_ca(kind == 2 ? NULL : certificate, &error), IMP_OK);
        listen_now();
        connect_now(kind == 1 ? "wrong.example" : "printserver.example", NULL);
        accept_now(true);
        TURN_UNTIL(client.connected || client.closed);
        if (kind == 0) {
            assert_int_equal(client.connected, 1);
        } else {
            assert_int_equal(client.reason, IMP_CLOSED_ERROR);
            assert_string_equal(client.message,
                                kind == 1 ? "hostname mismatch" : "self-signed certificate");
        }
        close_both();
    }
}

static void large_amounts_pass_both_ways(void **state)
{
    enum { TOTAL = 8 << 20, CHUNK = 50000 };
    static char block[CHUNK];
    imp_error error;
    uint8_t pin[TLS_PIN_SIZE];
    uint64_t sent = 0;
    (void)state;
    assert_int_equal(tls_server_pin(pin, &error), IMP_OK);
    listen_now();
    server.on_readable = echo;
    connect_now(NULL, pin);
    accept_now(true);
    TURN_UNTIL(client.connected);
    while (sent < TOTAL) {
        imp_status status = imp_stream_write(client.stream, block, CHUNK);
        if (status != IMP_LIMIT)
            sent += CHUNK;
        while (sent - client.received > 500000)
            loop_run_once(imp_loop_control(), false);
        server.input_length = client.input_length = 0;
    }
    TURN_UNTIL(client.received == sent);
    assert_int_equal(server.received, sent);
    close_both();
}

static void answer_and_start(struct seen *seen)
{
    if (strcmp(seen->input, "STARTTLS\n") == 0) {
        assert_int_equal(imp_stream_write(seen->stream, "go\n", 3), IMP_OK);
        assert_int_equal(imp_stream_start_tls(seen->stream), IMP_OK);
        assert_int_equal(imp_stream_start_tls(seen->stream), IMP_INVALID);
        assert_int_equal(imp_stream_write(seen->stream, "secret hello\n", 13), IMP_OK);
        seen->on_readable = NULL;
    }
}

static int dial(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static imp_status pipelined_status;

static void refuse_pipelined(struct seen *seen)
{
    imp_stream_consume(seen->stream, 9);
    pipelined_status = imp_stream_start_tls(seen->stream);
    imp_stream_close(seen->stream);
}

static void bytes_behind_starttls_are_refused(void **state)
{
    (void)state;
    listen_now();
    int fd = dial();
    accept_now(false);
    server.keeps_input = true;
    server.on_readable = refuse_pipelined;
    pipelined_status = IMP_OK;
    assert_int_equal(send(fd, "STARTTLS\nEVIL\n", 14, MSG_NOSIGNAL), 14);
    TURN_UNTIL(server.closed);
    assert_int_equal(pipelined_status, IMP_INVALID);
    close(fd);
    TURN_UNTIL(loop_load(imp_loop_control()) == 0);
    close(listening);
}

static void clear_bytes_after_starttls_end_the_connection(void **state)
{
    char answer[4] = "";
    (void)state;
    listen_now();
    int fd = dial();
    accept_now(false);
    server.on_readable = answer_and_start;
    assert_int_equal(send(fd, "STARTTLS\n", 9, MSG_NOSIGNAL), 9);
    TURN_UNTIL(recv(fd, answer, 3, MSG_DONTWAIT) == 3);
    assert_string_equal(answer, "go\n");
    assert_int_equal(send(fd, "EVIL COMMAND\n", 13, MSG_NOSIGNAL), 13);
    TURN_UNTIL(server.closed);
    assert_int_equal(server.reason, IMP_CLOSED_ERROR);
    assert_int_equal(server.received, 9); /* never shown to the module */
    close(fd);
    close(listening);
}

static void starttls_only_where_it_is_allowed(void **state)
{
    (void)state;
    listen_now();
    int fd = dial();
    accept_now(false);
    TURN_UNTIL(server.stream != NULL);
    stream_allow_start_tls(server.stream, false);
    assert_int_equal(imp_stream_start_tls(server.stream), IMP_UNSUPPORTED);
    imp_stream_abort(server.stream);
    TURN_UNTIL(server.closed);
    close(fd);
    close(listening);
}

static void a_cut_is_not_an_end(void **state)
{
    imp_error error;
    uint8_t pin[TLS_PIN_SIZE];
    (void)state;
    assert_int_equal(tls_server_pin(pin, &error), IMP_OK);
    listen_now();
    connect_now(NULL, pin);
    accept_now(true);
    TURN_UNTIL(client.connected && server.stream != NULL);
    imp_stream_abort(client.stream);
    TURN_UNTIL(server.closed);
    assert_int_equal(server.ended, 0);
    assert_int_equal(server.reason, IMP_CLOSED_BY_PEER);
    close_both();
    /* A peer that says nothing, or nonsense, in the handshake. */
    for (int kind = 0; kind < 2; kind++) {
        listen_now();
        released = 0;
        int fd = dial();
        accept_now(true);
        if (kind == 1)
            assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
        turn_idle();
        close(fd);
        TURN_UNTIL(released == 1);
        assert_null(server.stream);
        close(listening);
    }
}

/* Runs openssl s_client with more arguments; its output in `text`. */
static void run_client(const char *const more[], char *text, size_t size)
{
    char where[32], *arguments[16] = {"openssl", "s_client", "-connect", where};
    int output[2], input[2], status = 0;
    size_t count = 4, length = 0;
    posix_spawn_file_actions_t actions;
    pid_t child;

    snprintf(where, sizeof where, "127.0.0.1:%u", port);
    for (; *more != NULL; more++)
        arguments[count++] = (char *)(uintptr_t)*more;
    arguments[count] = NULL;
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input[0], 0);
    posix_spawn_file_actions_adddup2(&actions, output[1], 1);
    posix_spawn_file_actions_adddup2(&actions, output[1], 2);
    assert_int_equal(posix_spawnp(&child, "openssl", &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(output[1]);
    close(input[0]);
    assert_int_equal(write(input[1], "hello\n", 6), 6);
    set_nonblocking(output[0]);
    accept_now(true);
    double end = seconds() + TEST_DEADLINE_S;
    while (waitpid(child, &status, WNOHANG) == 0) {
        loop_run_once(imp_loop_control(), false);
        if (server.received >= 6 && input[1] >= 0) {
            close(input[1]);
            input[1] = -1;
        }
        assert_true(seconds() < end);
    }
    for (;;) {
        ssize_t got = read(output[0], text + length, size - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    text[length] = '\0';
    close(output[0]);
    if (input[1] >= 0)
        close(input[1]);
    TURN_UNTIL(loop_load(imp_loop_control()) == 0);
}

static void end_it(struct seen *seen)
{
    imp_stream_close(seen->stream);
}

static void other_clients_can_talk_and_resume(void **state)
{
    static char text[65536];
    char session[64];
    (void)state;
    snprintf(session, sizeof session, "%s/session", folder);
    const char *const runs[][8] = {
        {"-tls1_3", "-sess_out", session, NULL},        {"-tls1_3", "-sess_in", session, NULL},
        {"-tls1_2", "-sess_out", session, NULL},        {"-tls1_2", "-sess_in", session, NULL},
        {"-tls1_1", "-cipher", "ALL@SECLEVEL=0", NULL},
    };
    static const char *const expected[] = {"New, TLSv1.3", "Reused, TLSv1.3", "New, TLSv1.2",
                                           "Reused, TLSv1.2", "alert protocol version"};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        listen_now();
        server.on_readable = echo;
        server.on_ended = end_it;
        run_client(runs[i], text, sizeof text);
        if (strstr(text, expected[i]) == NULL)
            fail_msg("run %zu: no \"%s\" in:\n%s", i, expected[i], text);
        assert_int_equal(server.received, i < 4 ? 6 : 0);
        close(listening);
    }
    unlink(session);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, up, down)
    const struct CMUnitTest tests[] = {
        TEST(the_pair_is_made_once_and_stays),
        TEST(wrong_files_are_refused_and_the_old_ones_stay),
        TEST(a_pinned_server_is_trusted_and_a_stranger_is_not),
        TEST(names_are_verified_against_trusted_certificates),
        TEST(large_amounts_pass_both_ways),
        TEST(bytes_behind_starttls_are_refused),
        TEST(clear_bytes_after_starttls_end_the_connection),
        TEST(starttls_only_where_it_is_allowed),
        TEST(a_cut_is_not_an_end),
        TEST(other_clients_can_talk_and_resume),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
