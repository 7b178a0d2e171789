/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams over real sockets: back-pressure, pausing, both half-closes, deadlines, what becomes of the
 * last bytes, resets in every state, and outgoing connections.
 */
#include "net-fixture.h"

#include <netinet/tcp.h>

static imp_self *self;

static int up(void **state)
{
    imp_error error;
    (void)state;
    self = self_new_for_test("tester");
    assert_int_equal(loop_setup_for_test(&error), IMP_OK);
    return 0;
}

static int down(void **state)
{
    (void)state;
    worker_stop();
    loop_stop();
    assert_int_equal(loop_load(imp_loop_control()), 0);
    self_free_for_test(self);
    loop_teardown();
    time_thaw_for_test();
    return 0;
}

static struct seen *adopt(int fd)
{
    struct seen *seen = test_calloc(1, sizeof *seen);
    seen->stream = stream_adopt(self, fd, &seen_events, seen);
    assert_non_null(seen->stream);
    return seen;
}

static void send_all(int fd, const void *data, size_t length)
{
    assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(fd);
}

static void echo(struct seen *seen)
{
    imp_stream_write(seen->stream, seen->input, seen->input_length);
    seen->input_length = 0;
}

static void bytes_come_and_go(void **state)
{
    int fds[2];
    char answer[6] = "";
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    seen->on_readable = echo;
    assert_string_equal(imp_stream_peer(seen->stream)->address, "127.0.0.1");
    assert_string_equal(imp_stream_local(seen->stream)->address, "127.0.0.1");
    assert_ptr_equal(imp_stream_loop(seen->stream), imp_loop_control());
    assert_false(imp_stream_is_tls(seen->stream));
    send_all(fds[1], "hello", 5);
    TURN_UNTIL(seen->readable == 1);
    assert_int_equal(recv(fds[1], answer, 5, MSG_WAITALL), 5);
    assert_string_equal(answer, "hello");
    close(fds[1]);
    TURN_UNTIL(seen->ended);
    assert_int_equal(seen->closed, 0); /* our direction is still open */
    imp_stream_close(seen->stream);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_BY_US);
    test_free(seen);
}

static void close_it(struct seen *seen)
{
    imp_stream_close(seen->stream);
}

static void end_it(struct seen *seen)
{
    imp_stream_end(seen->stream);
}

static void both_directions_ended_close_the_stream(void **state)
{
    int fds[2];
    char byte;
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    seen->on_ended = end_it;
    send_all(fds[1], "last", 4);
    shutdown(fds[1], SHUT_WR);
    TURN_UNTIL(seen->closed);
    assert_string_equal(seen->input, "last");
    assert_int_equal(seen->reason, IMP_CLOSED_BY_PEER);
    assert_int_equal(recv(fds[1], &byte, 1, 0), 0);
    close(fds[1]);
    test_free(seen);
}

static void our_end_leaves_reading_open(void **state)
{
    int fds[2];
    char byte;
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    imp_stream_end(seen->stream);
    assert_int_equal(imp_stream_write(seen->stream, "x", 1), IMP_UNAVAILABLE);
    turn_idle();
    assert_int_equal(recv(fds[1], &byte, 1, 0), 0);
    send_all(fds[1], "more", 4);
    TURN_UNTIL(seen->input_length == 4);
    assert_int_equal(seen->closed, 0);
    close(fds[1]);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->ended, 1);
    assert_int_equal(seen->reason, IMP_CLOSED_BY_PEER);
    test_free(seen);
}

static void without_ended_the_stream_closes_itself_after_its_output(void **state)
{
    imp_stream_events events = seen_events;
    int fds[2];
    char answer[3] = "";
    (void)state;
    events.ended = NULL;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    imp_stream_set_events(seen->stream, &events, seen);
    assert_int_equal(imp_stream_write(seen->stream, "ok", 2), IMP_OK);
    shutdown(fds[1], SHUT_WR);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_BY_PEER);
    assert_int_equal(recv(fds[1], answer, 2, MSG_WAITALL), 2);
    close(fds[1]);
    test_free(seen);
}

static void reading_stops_at_the_bound_and_goes_on(void **state)
{
    int fds[2];
    static char block[1 << 20];
    (void)state;
    tcp_pair(fds);
    set_nonblocking(fds[1]);
    struct seen *seen = adopt(fds[0]);
    seen->keeps_input = true;
    imp_stream_set_input_max(seen->stream, 10000);
    uint64_t sent = 0;
    for (int idle = 0; idle < 3;) {
        ssize_t count = send(fds[1], block, sizeof block, MSG_NOSIGNAL);
        idle = count > 0 ? 0 : idle + 1;
        sent += count > 0 ? (uint64_t)count : 0;
        turn_idle();
    }
    assert_int_equal(imp_stream_input(seen->stream).length, 10000);
    uint64_t taken = 0;
    seen->keeps_input = false;
    imp_stream_consume(seen->stream, 9999);
    taken += 9999;
    TURN_UNTIL(seen->received + taken == sent);
    close(fds[1]);
    TURN_UNTIL(seen->ended);
    assert_int_equal(seen->received + taken, sent);
    imp_stream_close(seen->stream);
    TURN_UNTIL(seen->closed);
    test_free(seen);
}

static void a_paused_stream_is_told_nothing(void **state)
{
    int fds[2];
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    imp_stream_pause(seen->stream);
    send_all(fds[1], "abc", 3);
    close(fds[1]);
    turn_idle();
    turn_idle();
    assert_int_equal(seen->readable + seen->ended, 0);
    imp_stream_resume(seen->stream);
    assert_int_equal(seen->readable, 0);
    TURN_UNTIL(seen->ended);
    assert_string_equal(seen->input, "abc");
    imp_stream_close(seen->stream);
    TURN_UNTIL(seen->closed);
    test_free(seen);
}

static void pause_it(struct seen *seen)
{
    imp_stream_pause(seen->stream);
}

static void resuming_shows_input_that_was_left(void **state)
{
    int fds[2];
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    seen->keeps_input = true;
    seen->on_readable = pause_it;
    send_all(fds[1], "abc", 3);
    TURN_UNTIL(seen->readable == 1);
    assert_memory_equal(imp_stream_input(seen->stream).data, "abc", 3);
    seen->on_readable = NULL;
    seen->keeps_input = false;
    imp_stream_resume(seen->stream);
    TURN_UNTIL(seen->readable == 2);
    assert_string_equal(seen->input, "abc");
    imp_stream_abort(seen->stream);
    TURN_UNTIL(seen->closed);
    close(fds[1]);
    test_free(seen);
}

static void output_is_bounded_and_drains(void **state)
{
    int fds[2];
    static char block[1 << 18], sink[1 << 18];
    (void)state;
    tcp_pair(fds);
    set_nonblocking(fds[1]);
    struct seen *seen = adopt(fds[0]);
    uint64_t written = 0, got = 0;
    imp_status status;
    bool was_busy = false;
    do {
        status = imp_stream_write(seen->stream, block, sizeof block);
        if (status != IMP_LIMIT)
            written += sizeof block;
        was_busy = was_busy || status == IMP_BUSY;
    } while (status != IMP_LIMIT);
    assert_true(was_busy);
    assert_true(imp_stream_output_pending(seen->stream) <= STREAM_OUTPUT_MAX);
    assert_true(imp_stream_unacknowledged(seen->stream) > 0);
    assert_int_equal(seen->writable, 0);
    imp_stream_flush_notify(seen->stream);
    while (got < written) {
        ssize_t count = recv(fds[1], sink, sizeof sink, 0);
        if (count > 0)
            got += (uint64_t)count;
        turn_idle();
    }
    turn_idle();
    uint32_t told = seen->writable; /* below the low mark, and empty: once if at once */
    assert_in_range(told, 1, 2);
    assert_int_equal(imp_stream_output_pending(seen->stream), 0);
    imp_stream_flush_notify(seen->stream);
    assert_int_equal(seen->writable, told);
    TURN_UNTIL(seen->writable == told + 1);
    imp_stream_close(seen->stream);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_BY_US);
    close(fds[1]);
    test_free(seen);
}

static void last_bytes_are_not_lost_to_unread_input(void **state)
{
    int fds[2];
    static char block[200000], answer[100001];
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    imp_stream_pause(seen->stream);
    send_all(fds[1], block, sizeof block); /* never read by the module */
    memset(block, 'a', sizeof block);
    assert_int_not_equal(imp_stream_write(seen->stream, block, 100000), IMP_LIMIT);
    imp_stream_close(seen->stream);
    assert_int_equal(seen->closed, 0);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_BY_US);
    assert_int_equal(loop_object_count(self, LOOP_OBJECT_STREAM), 0);
    assert_int_equal(loop_load(imp_loop_control()), 1); /* lingers, as the core's */
    send_all(fds[1], block, 1000);
    turn_idle();
    assert_int_equal(recv(fds[1], answer, 100000, MSG_WAITALL), 100000);
    assert_int_equal(recv(fds[1], answer, 1, 0), 0);
    close(fds[1]);
    TURN_UNTIL(loop_load(imp_loop_control()) == 0);
    test_free(seen);
}

static void lingering_ends(void **state)
{
    int fds[2];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    imp_stream_close(seen->stream);
    TURN_UNTIL(seen->closed);
    assert_int_equal(loop_load(imp_loop_control()), 1);
    time_advance_for_test(STREAM_LINGER_TIMEOUT);
    TURN_UNTIL(loop_load(imp_loop_control()) == 0);
    close(fds[1]);
    test_free(seen);
}

static void idle_and_overall_deadlines_close(void **state)
{
    int fds[2], others[2];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    tcp_pair(others);
    struct seen *idle = adopt(fds[0]), *limited = adopt(others[0]);
    imp_stream_set_idle_timeout(idle->stream, 10 * IMP_SECOND);
    imp_stream_set_idle_timeout(limited->stream, 10 * IMP_SECOND);
    imp_stream_set_deadline(limited->stream, 25 * IMP_SECOND);
    for (int i = 0; i < 3; i++) {
        time_advance_for_test(8 * IMP_SECOND);
        turn_idle();
        assert_int_equal(idle->closed + limited->closed, 0);
        uint32_t before = idle->readable + limited->readable;
        send_all(fds[1], "x", 1);
        send_all(others[1], "x", 1);
        TURN_UNTIL(idle->readable + limited->readable == before + 2);
    }
    time_advance_for_test(2 * IMP_SECOND);
    TURN_UNTIL(limited->closed);
    assert_int_equal(limited->reason, IMP_CLOSED_TIMEOUT);
    assert_int_equal(idle->closed, 0);
    time_advance_for_test(8 * IMP_SECOND);
    TURN_UNTIL(idle->closed);
    assert_int_equal(idle->reason, IMP_CLOSED_TIMEOUT);
    close(fds[1]);
    close(others[1]);
    test_free(idle);
    test_free(limited);
}

/* A stream that wants 10 bytes a second, on the average of 10 seconds. */
static struct seen *adopt_expecting(int fd)
{
    struct seen *seen = adopt(fd);
    imp_stream_set_min_rate(seen->stream, 10, 10 * IMP_SECOND);
    imp_stream_expect(seen->stream, true);
    return seen;
}

static void pass_seconds(int count)
{
    for (int i = 0; i < count; i++) {
        time_advance_for_test(IMP_SECOND);
        turn_idle();
    }
}

static void who_sends_too_slowly_is_cut(void **state)
{
    int fds[2];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    struct seen *seen = adopt_expecting(fds[0]);
    imp_stream_set_idle_timeout(seen->stream, 11 * IMP_SECOND); /* which a byte puts off */
    static const char enough[100];
    for (int window = 0; window < 3; window++) {
        send_all(fds[1], enough, sizeof enough);
        pass_seconds(10);
        assert_int_equal(seen->closed, 0);
    }
    int passed = 0;
    while (!seen->closed && passed++ < 100) {
        send_all(fds[1], "xxxxxxxxx", 9);
        pass_seconds(1);
    }
    assert_int_equal(seen->reason, IMP_CLOSED_TIMEOUT);
    assert_true(passed <= 20); /* two windows at the latest */
    close(fds[1]);
    test_free(seen);
}

static void bytes_that_we_were_too_slow_to_take_count(void **state)
{
    int fds[2];
    static const char enough[100];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    struct seen *seen = adopt_expecting(fds[0]);
    turn_idle();
    for (int window = 0; window < 3; window++) {
        /* The loop was away meanwhile; it looks at timers and sockets in one turn. */
        send_all(fds[1], enough, sizeof enough);
        time_advance_for_test(11 * IMP_SECOND);
        turn_idle();
        assert_int_equal(seen->closed, 0);
    }
    close(fds[1]);
    imp_stream_abort(seen->stream);
    TURN_UNTIL(seen->closed);
    test_free(seen);
}

static void who_waits_for_us_is_not_cut(void **state)
{
    int fds[2];
    static const char block[1000];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    struct seen *seen = adopt_expecting(fds[0]);
    /* Paused for most of each window: it can't send. */
    for (int i = 0; i < 6; i++) {
        pass_seconds(4);
        imp_stream_pause(seen->stream);
        pass_seconds(100);
        send_all(fds[1], "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", 50);
        imp_stream_resume(seen->stream);
        turn_idle();
        assert_int_equal(seen->closed, 0);
    }
    /* A full input: the same without a pause. */
    seen->keeps_input = true;
    imp_stream_set_input_max(seen->stream, 1000);
    send_all(fds[1], block, 1000 - imp_stream_input(seen->stream).length);
    TURN_UNTIL(imp_stream_input(seen->stream).length == 1000);
    pass_seconds(100);
    assert_int_equal(seen->closed, 0);
    seen->keeps_input = false;
    imp_stream_set_input_max(seen->stream, 1 << 20);
    imp_stream_consume(seen->stream, 1000);
    pass_seconds(9);
    assert_int_equal(seen->closed, 0);
    /* Nothing is expected any more: it waits for an answer. */
    imp_stream_expect(seen->stream, false);
    pass_seconds(100);
    assert_int_equal(seen->closed, 0);
    imp_stream_expect(seen->stream, true);
    pass_seconds(9);
    imp_stream_expect(seen->stream, true); /* the same again is no new window */
    assert_int_equal(seen->closed, 0);
    pass_seconds(1);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_TIMEOUT);
    close(fds[1]);
    test_free(seen);
}

static void time_before_a_pause_is_not_forgotten(void **state)
{
    int fds[2];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    struct seen *seen = adopt_expecting(fds[0]);
    for (int i = 0; i < 3; i++) { /* 4 seconds of 10 each time, and nothing comes */
        assert_int_equal(seen->closed, 0);
        pass_seconds(4);
        if (seen->closed)
            break;
        imp_stream_pause(seen->stream);
        pass_seconds(100);
        imp_stream_resume(seen->stream);
    }
    assert_int_equal(seen->closed, 1);
    assert_int_equal(seen->reason, IMP_CLOSED_TIMEOUT);
    close(fds[1]);
    test_free(seen);
}

static void a_peer_that_takes_nothing_does_not_hold_a_closing_stream(void **state)
{
    int fds[2];
    static char block[STREAM_OUTPUT_MAX];
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    for (int i = 0; i < 4; i++)
        (void)!imp_stream_write(seen->stream, block, sizeof block);
    imp_stream_close(seen->stream);
    turn_idle();
    assert_int_equal(seen->closed, 0);
    time_advance_for_test(STREAM_CLOSE_TIMEOUT);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_TIMEOUT);
    close(fds[1]);
    test_free(seen);
}

static void a_reset_is_seen_in_every_state(void **state)
{
    static char block[STREAM_OUTPUT_MAX];
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        int fds[2];
        tcp_pair(fds);
        struct seen *seen = adopt(fds[0]);
        turn_idle();
        if (kind == 1)
            imp_stream_pause(seen->stream);
        if (kind == 2) {
            seen->keeps_input = true;
            imp_stream_set_input_max(seen->stream, 100);
            send_all(fds[1], block, 1000);
            TURN_UNTIL(imp_stream_input(seen->stream).length == 100);
        }
        if (kind == 3 || kind == 4)
            for (int i = 0; i < 4; i++)
                (void)!imp_stream_write(seen->stream, block, sizeof block);
        if (kind == 4)
            imp_stream_close(seen->stream);
        if (kind == 5)
            imp_stream_end(seen->stream);
        turn_idle();
        assert_int_equal(seen->closed, 0);
        reset(fds[1]);
        TURN_UNTIL(seen->closed);
        assert_int_equal(seen->reason, IMP_CLOSED_BY_PEER);
        assert_int_equal(loop_load(imp_loop_control()), 0);
        test_free(seen);
    }
}

static void an_abort_resets_the_peer(void **state)
{
    int fds[2];
    char byte;
    (void)state;
    tcp_pair(fds);
    struct seen *seen = adopt(fds[0]);
    imp_stream_abort(seen->stream);
    assert_int_equal(seen->closed, 0);
    TURN_UNTIL(seen->closed);
    assert_int_equal(recv(fds[1], &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fds[1]);
    test_free(seen);
}

static void closing_from_within_every_event_is_safe(void **state)
{
    int fds[2];
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        tcp_pair(fds);
        struct seen *seen = adopt(fds[0]);
        if (kind == 0)
            seen->on_readable = close_it;
        else if (kind == 1)
            seen->on_ended = close_it;
        else
            seen->on_writable = close_it;
        send_all(fds[1], "x", 1);
        shutdown(fds[1], SHUT_WR);
        imp_stream_flush_notify(seen->stream);
        TURN_UNTIL(seen->closed);
        assert_int_equal(seen->reason, IMP_CLOSED_BY_US);
        close(fds[1]);
        TURN_UNTIL(loop_load(imp_loop_control()) == 0);
        test_free(seen);
    }
}

static void the_end_of_the_generation_closes_its_streams(void **state)
{
    int fds[2], others[2];
    char answer[4] = "";
    (void)state;
    tcp_pair(fds);
    tcp_pair(others);
    struct seen *seen = adopt(fds[0]), *cores = test_calloc(1, sizeof *cores);
    cores->stream = stream_adopt(NULL, others[0], &seen_events, cores);
    assert_int_equal(imp_stream_write(seen->stream, "bye", 3), IMP_OK);
    self_end(self, SELF_CUT);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_SHUTDOWN);
    assert_int_equal(self_left(self, NULL, NULL), 0);
    assert_int_equal(cores->closed, 0);
    assert_int_equal(recv(fds[1], answer, 3, MSG_WAITALL), 3);
    assert_null(stream_adopt(self, fds[1], &seen_events, seen));
    close(fds[1]);
    close(others[1]);
    TURN_UNTIL(cores->ended);
    imp_stream_close(cores->stream);
    TURN_UNTIL(cores->closed);
    test_free(seen);
    test_free(cores);
}

/* ---- outgoing ---- */

static uint16_t listen_somewhere(int *listening)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(*listening, 8), 0);
    assert_int_equal(getsockname(*listening, (struct sockaddr *)&address, &size), 0);
    return ntohs(address.sin_port);
}

static struct seen *connect_to(const char *host, uint16_t port)
{
    imp_error error;
    imp_stream *stream;
    struct seen *seen = test_calloc(1, sizeof *seen);
    const imp_connect_options options = {.size = sizeof options, .host = host, .port = port};
    assert_int_equal(imp_stream_connect(self, &options, &seen_events, seen, &stream, &error),
                     IMP_OK);
    assert_int_equal(seen->connected + seen->closed, 0);
    return seen;
}

static void connections_are_made_by_number_and_name(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    int listening;
    (void)state;
    uint16_t port = listen_somewhere(&listening);
    for (size_t i = 0; i < 2; i++) {
        char text[3] = "";
        struct seen *seen = connect_to(hosts[i], port);
        TURN_UNTIL(seen->connected);
        int fd = accept(listening, NULL, NULL), on = 0;
        socklen_t size = sizeof on;
        assert_int_equal(imp_stream_write(seen->stream, "hi", 2), IMP_OK);
        assert_int_equal(recv(fd, text, 2, MSG_WAITALL), 2);
        assert_int_equal(imp_stream_peer(seen->stream)->port, port);
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
        close(fd);
        TURN_UNTIL(seen->ended);
        imp_stream_close(seen->stream);
        TURN_UNTIL(seen->closed);
        test_free(seen);
    }
    close(listening);
}

static void the_time_of_connecting_is_not_the_peer_s(void **state)
{
    int listening;
    imp_error error;
    imp_stream *stream;
    (void)state;
    time_freeze_for_test(1, IMP_SECOND);
    struct seen *seen = test_calloc(1, sizeof *seen);
    const imp_connect_options options = {
        .size = sizeof options, .host = "127.0.0.1", .port = listen_somewhere(&listening)};
    assert_int_equal(imp_stream_connect(self, &options, &seen_events, seen, &stream, &error),
                     IMP_OK);
    imp_stream_set_min_rate(stream, 10, 10 * IMP_SECOND);
    imp_stream_expect(stream, true);
    time_advance_for_test(25 * IMP_SECOND);
    TURN_UNTIL(seen->connected);
    pass_seconds(9);
    assert_int_equal(seen->closed, 0);
    pass_seconds(2);
    assert_int_equal(seen->closed, 1);
    assert_int_equal(seen->reason, IMP_CLOSED_TIMEOUT);
    close(listening);
    test_free(seen);
}

static void failing_connections_say_why(void **state)
{
    int listening;
    (void)state;
    uint16_t port = listen_somewhere(&listening);
    close(listening);
    struct seen *refused = connect_to("127.0.0.1", port);
    struct seen *unknown = connect_to("no-such-host.invalid", 9100);
    struct seen *dropped = connect_to("also-not.invalid", 9100);
    struct seen *swept = connect_to("127.0.0.1", port);
    (void)swept;
    TURN_UNTIL(refused->closed);
    assert_int_equal(refused->reason, IMP_CLOSED_ERROR);
    assert_string_equal(refused->message, "Connection refused");
    TURN_UNTIL(unknown->closed && swept->closed && dropped->closed);
    assert_int_equal(unknown->reason, IMP_CLOSED_ERROR);
    assert_int_equal(unknown->connected, 0);
    test_free(refused);
    test_free(unknown);
    test_free(dropped);
    test_free(swept);
    imp_error error;
    imp_stream *stream;
    const imp_connect_options options = {.size = sizeof options, .host = "", .port = 1};
    assert_int_equal(imp_stream_connect(self, &options, &seen_events, NULL, &stream, &error),
                     IMP_INVALID);
}

static void a_stream_may_be_closed_while_its_name_is_looked_up(void **state)
{
    imp_error error;
    imp_stream *stream;
    struct seen *seen = test_calloc(1, sizeof *seen);
    const imp_connect_options options = {.size = sizeof options, .host = "localhost", .port = 9};
    (void)state;
    assert_int_equal(imp_stream_connect(self, &options, &seen_events, seen, &stream, &error),
                     IMP_OK);
    imp_stream_close(stream);
    assert_int_equal(seen->closed, 0);
    TURN_UNTIL(seen->closed);
    assert_int_equal(seen->reason, IMP_CLOSED_BY_US);
    turn_idle();
    test_free(seen);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, up, down)
    const struct CMUnitTest tests[] = {
        TEST(bytes_come_and_go),
        TEST(both_directions_ended_close_the_stream),
        TEST(our_end_leaves_reading_open),
        TEST(without_ended_the_stream_closes_itself_after_its_output),
        TEST(reading_stops_at_the_bound_and_goes_on),
        TEST(a_paused_stream_is_told_nothing),
        TEST(resuming_shows_input_that_was_left),
        TEST(output_is_bounded_and_drains),
        TEST(last_bytes_are_not_lost_to_unread_input),
        TEST(lingering_ends),
        TEST(idle_and_overall_deadlines_close),
        TEST(who_sends_too_slowly_is_cut),
        TEST(bytes_that_we_were_too_slow_to_take_count),
        TEST(who_waits_for_us_is_not_cut),
        TEST(time_before_a_pause_is_not_forgotten),
        TEST(a_peer_that_takes_nothing_does_not_hold_a_closing_stream),
        TEST(a_reset_is_seen_in_every_state),
        TEST(an_abort_resets_the_peer),
        TEST(closing_from_within_every_event_is_safe),
        TEST(the_end_of_the_generation_closes_its_streams),
        TEST(connections_are_made_by_number_and_name),
        TEST(the_time_of_connecting_is_not_the_peer_s),
        TEST(failing_connections_say_why),
        TEST(a_stream_may_be_closed_while_its_name_is_looked_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
