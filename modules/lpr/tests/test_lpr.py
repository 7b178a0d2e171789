# SPDX-License-Identifier: Apache-2.0
"""RFC 1179 as clients really speak it, octet by octet."""
import os
import threading
import unittest

from harness.deadline import Deadline
from harness.lpd import LpdClient, Refused, control_text, submit
from harness.site import PrintTest

UNKNOWN_SIZES = (125899906843000, 999999999999, 2147483647)


class Intake(PrintTest):
    def setUp(self):
        super().setUp()
        self.server = self.print_server()
        self.port = self.server.port("lpr", "lpd")

    def client(self):
        client = LpdClient(self.port)
        self.addCleanup(client.socket.close)
        return client

    def assert_prints(self, *contents):
        """There is one job, and a printer receives exactly these documents from it."""
        sink = self.device(self.server)
        self.assertEqual(self.printed(self.server, self.only_job(self.server)["job-id"], sink),
                         b"".join(contents))

    def test_control_file_first(self):
        content = os.urandom(10240)
        submit(self.port, content)
        self.assertEqual(self.only_job(self.server)["state"], "pending-held")
        self.assert_prints(content)

    def test_data_file_first(self):
        content = os.urandom(10240)
        submit(self.port, content, data_first=True)
        self.assert_prints(content)

    def test_a_job_exists_only_when_all_its_files_are_in(self):
        client = self.client()
        client.receive()
        client.control(control_text(files=("dfA001client", "dfB001client")))
        client.data_yes(b"first")
        self.assertEqual(self.jobs(self.server), [])
        client.data_yes(b"second", "dfB001client")
        self.assert_prints(b"first", b"second")

    def test_a_connection_goes_on_after_files_that_fill_the_buffers(self):
        contents = [os.urandom(1000000 + number) for number in range(20)]
        client = self.client()
        client.receive()
        for number, content in enumerate(contents, 1):
            data = f"dfA{number:03}client"
            client.control(control_text(files=(data,)), f"cfA{number:03}client")
            client.data_yes(content, data)
        client.end()
        client.expect_closed()
        self.assertEqual([job["bytes"] for job in self.jobs(self.server)],
                         [len(content) for content in contents])

    def test_data_files_before_their_control_file_make_one_job(self):
        client = self.client()
        client.receive()
        client.data_yes(b"first", "dfa777other")
        client.data_yes(b"second", "dfb777other")
        self.assertEqual(self.jobs(self.server), [])
        client.control(control_text(files=("dfa777other", "dfb777other")), "cfA777other")
        self.assert_prints(b"first", b"second")

    def test_data_files_go_on_when_the_spool_was_short_at_their_end(self):
        server = self.print_server(modules={"jobs": {"spool_buffers": "1MiB"}})
        # One size that takes buffers, and one that ends, with its NUL, in the piece that has to wait.
        contents = os.urandom(1000000), os.urandom(65530)
        clients, text = [], control_text()
        for number in range(64):
            content = contents[number % 2]
            client = LpdClient(server.port("lpr", "lpd"), seconds=30)
            self.addCleanup(client.socket.close)
            client.receive()
            client.send(b"\3%d dfA001client\n" % len(content))
            client.expect_yes("data file")
            clients.append((client, content + b"\0"))
        threads = [threading.Thread(target=client.send, args=(data,)) for client, data in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client, _ in clients:
            client.expect_yes("data")
            client.control(text)
        self.assertEqual(len(self.jobs(server)), len(clients))

    def test_several_jobs_on_one_connection(self):
        client = self.client()
        client.receive()
        for number in range(1, 6):
            data = f"dfA{number:03}client"
            client.control(control_text(files=(data,)), f"cfA{number:03}client")
            client.data_yes(b"job %d" % number, data)
        self.assertEqual(len(self.jobs(self.server)), 5)

    def test_several_control_files_before_their_data(self):
        client = self.client()
        client.receive()
        for number in (1, 2, 3):
            client.control(control_text(files=(f"dfA{number:03}client",)), f"cfA{number:03}client")
        for number in (2, 1, 3):
            client.data_yes(b"job %d" % number, f"dfA{number:03}client")
        self.assertEqual(len(self.jobs(self.server)), 3)

    def test_data_of_two_jobs_before_their_control_files_is_two_jobs(self):
        contents = {"001": os.urandom(1000), "002": os.urandom(70000)}
        for order in (("001", "002"), ("002", "001")):
            with self.subTest(order=order):
                client = self.client()
                client.receive()
                for number, content in contents.items():
                    client.data_yes(content, f"dfA{number}client")
                for number in order:
                    client.control(control_text(title=f"Title {number}",
                                                files=(f"dfA{number}client",)),
                                   f"cfA{number}client")
                jobs = self.jobs(self.server)
                self.assertEqual([job["bytes"] for job in jobs],
                                 [len(contents[number]) for number in order])
                sink = self.device(self.server, "printer" + order[0])
                for job, number in zip(jobs, order):
                    self.assertEqual(self.printed(self.server, job["job-id"], sink,
                                                  "printer" + order[0]), contents[number])
                deadline = Deadline(10, "the jobs to be finished")
                while self.jobs(self.server):
                    deadline.pause()

    def test_data_of_the_same_name_twice_is_two_jobs(self):
        client = self.client()
        client.receive()
        for content in (b"one", b"number two"):
            client.data_yes(content)
        for _ in range(2):
            client.control(control_text())
        self.assertEqual([job["bytes"] for job in self.jobs(self.server)], [3, 10])

    def test_a_connection_collects_a_few_jobs_only(self):
        client = self.client()
        client.receive()
        for number in range(8):
            client.data_yes(b"content", f"dfA{number:03}client")
        with self.assertRaises(Refused):
            client.data_yes(b"content", "dfA008client")
        client.expect_closed()
        self.assertEqual(self.jobs(self.server, "--all"), [])

    def test_names_and_numbers_of_files_need_not_match(self):
        client = self.client()
        client.receive()
        client.control(control_text(files=("dfA001client",)), "cfA001client")
        client.data_yes(b"content", "dfA999somewhere.else")
        self.assert_prints(b"content")

    def test_unknown_sizes_end_by_closing(self):
        for number, size in enumerate(UNKNOWN_SIZES + (0,), 1):
            with self.subTest(size=size):
                content = b"%d\0" % size + os.urandom(70000)
                client = self.client()
                client.receive()
                client.control(control_text(files=(f"dfA{number:03}client",)),
                               f"cfA{number:03}client")
                client.data(content, f"dfA{number:03}client", size=size, end=b"")
                client.end()
                client.expect_yes("data")
                client.expect_closed()
                jobs = self.jobs(self.server)
                self.assertEqual((len(jobs), jobs[-1]["bytes"]), (number, len(content)))

    def test_a_stream_without_control_file_is_a_job_of_nobody(self):
        client = self.client()
        client.receive()
        client.data(b"from a host of few words", size=125899906843000, end=b"")
        client.end()
        client.expect_yes("data")
        job = self.only_job(self.server)
        self.assertEqual((job["state"], job["reasons"]), ("pending-held", "job-held-for-review"))

    def test_a_file_of_size_0_is_empty_before_a_subcommand(self):
        client = self.client()
        client.receive()
        client.data_yes(b"", size=0)
        client.control(control_text())
        self.assertEqual(self.only_job(self.server)["bytes"], 0)

    def test_a_file_of_size_0_is_a_stream_when_data_follows(self):
        client = self.client()
        client.receive()
        client.control(control_text())
        client.data(b"\0\0binary that starts like an empty file", size=0, end=b"")
        client.end()
        client.expect_yes("data")
        self.assertEqual(self.only_job(self.server)["bytes"], 39)

    def test_a_missing_nul_is_tolerated_at_close(self):
        client = self.client()
        client.receive()
        client.control(control_text())
        client.data(b"content", end=b"")
        client.end()
        client.expect_yes("data")
        self.assert_prints(b"content")

    def test_a_lone_nul_behind_the_files_is_tolerated(self):
        client = self.client()
        client.receive()
        client.control(control_text())
        client.data_yes(b"content")
        client.send(b"\0")
        client.end()
        client.expect_closed()
        self.assert_prints(b"content")

    def test_a_queue_may_be_a_path(self):
        submit(self.port, b"content", queue="printers/hold")
        self.assertEqual(self.only_job(self.server)["queue"], "hold")

    def test_copies_are_repeated_lines(self):
        client = self.client()
        client.receive()
        client.control(control_text(copies=3))
        client.data_yes(b"content")
        job = self.only_job(self.server)["job-id"]
        ticket = self.server.ctl("job", "show", str(job))
        self.assertEqual(str(ticket.get("copies")), "3")

    def test_names_in_windows_1252_are_understood(self):
        client = self.client()
        client.receive()
        client.control(control_text(title="TITLE").replace(b"TITLE", b"Pr\xfcfung \x80"))
        client.data_yes(b"content")
        query = self.client()
        query.send(b"\3hold anna\n")
        self.assertIn("Prüfung €", query.read_all().decode())

    def test_bytes_may_come_in_any_pieces(self):
        content = os.urandom(50)
        text = control_text()
        steps = [b"\2hold\n", b"\2%d cfA001client\n" % len(text), text + b"\0",
                 b"\3%d dfA001client\n" % len(content), content + b"\0"]
        count = 0
        for index, step in enumerate(steps):
            for at in range(1, len(step)):
                client = LpdClient(self.port)
                for number, whole in enumerate(steps):
                    if number == index:
                        client.send(whole[:at])
                        whole = whole[at:]
                    client.send(whole)
                    client.expect_yes(f"step {number}, cut at {index}:{at}")
                client.socket.close()
                count += 1
        jobs = self.jobs(self.server, "--limit", "1000")
        self.assertEqual(len(jobs), count)
        self.assertEqual({job["bytes"] for job in jobs}, {50})

    def test_a_client_that_does_not_wait_for_octets_is_served(self):
        text = control_text()
        client = self.client()
        client.send(b"\2hold\n\2%d cfA001client\n%s\0\3%d dfA001client\n%s\0"
                    % (len(text), text, 7, b"content"))
        client.end()
        self.assertEqual(client.read_all(), b"\0" * 5)
        self.assert_prints(b"content")


class Refusals(PrintTest):
    def setUp(self):
        super().setUp()
        self.server = self.print_server(queues={"closed": ("--accepting=no",)})
        self.port = self.server.port("lpr", "lpd")

    def refused(self, data):
        with LpdClient(self.port) as client:
            client.send(data)
            octet = client.octet()
            self.assertNotIn(octet, (b"\0", b""))
            client.expect_closed()

    def test_an_unknown_queue_is_refused_at_the_door(self):
        self.refused(b"\2nowhere\n")

    def test_a_queue_that_does_not_accept_is_refused_at_the_door(self):
        self.refused(b"\2closed\n")

    def test_noise_is_refused(self):
        for data in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\0",
                     b"\2" + b"q" * 2000):
            with self.subTest(data=data[:10]):
                self.refused(data)

    def test_wrong_subcommands_are_refused(self):
        text = control_text()
        for data in (b"\7x\n", b"\3many dfA001x\n", b"\2 cfA\n", b"\2%d cfA001c\n" % 10**9,
                     b"\2%d cfA001c\n%s\5" % (len(text), text), b"\2" + b"9" * 2000):
            with self.subTest(data=data[:10]), LpdClient(self.port) as client:
                client.receive()
                client.send(data)
                answers = client.read_all()
                self.assertNotEqual(answers.strip(b"\0"), b"")
        self.assertEqual(self.jobs(self.server), [])

    def test_an_aborted_upload_leaves_nothing(self):
        text = control_text()
        beginnings = [
            (b"\2%d cfA001client\n" % len(text), text[:5]),
            (b"\3" b"100 dfA001client\n", b"x" * 99),
            (b"\3" b"100 dfA001client\n", b"x" * 100 + b"\0"),
            (b"\3" b"0 dfA001client\n", b""),
            (b"\3" b"1000000 dfA001client\n", b"x" * 500000),
        ]
        for reset in (False, True):
            for line, data in beginnings:
                client = LpdClient(self.port)
                client.receive()
                client.send(line)
                client.expect_yes("file")
                client.send(data)
                if reset:
                    client.reset()
                else:
                    client.end()
                    client.read_all()
                    client.socket.close()
        submit(self.port, b"whole")
        self.only_job(self.server, "--all")

    def test_a_client_that_leaves_before_the_last_octet_leaves_whole_jobs_only(self):
        """The commit outlives the connection; there is a job or there is none, and the server goes on."""
        text = control_text()
        for number in range(50):
            client = LpdClient(self.port)
            client.receive()
            client.control(text)
            content = b"x" * (100 if number % 2 else 70000)
            client.send(b"\3%d dfA001client\n" % len(content))
            client.expect_yes("data file")
            client.send(content + b"\0")
            client.reset()
        submit(self.port, b"whole")
        sizes = [job["bytes"] for job in self.jobs(self.server, "--all")]
        self.assertLessEqual(set(sizes), {100, 70000, 5})
        self.assertEqual(sizes.count(5), 1)

    def test_the_abort_subcommand_drops_what_came(self):
        with LpdClient(self.port) as client:
            client.receive()
            client.data_yes(b"dropped")
            client.send(b"\1\n")
            client.expect_yes("abort")
            client.control(control_text())
            client.data_yes(b"kept")
        self.assertEqual(self.only_job(self.server)["bytes"], 4)

    def test_a_silent_client_is_let_go(self):
        self.server.set_module("lpr", {**self.server.modules["lpr"], "idle_timeout": "1s"})
        self.server.ctl("config", "reload")
        with LpdClient(self.port) as client:
            client.receive()
            client.expect_closed()

    def test_networks_that_are_not_allowed_are_not_served(self):
        listener = self.listen("lpd", allow=["192.0.2.0/24"])
        server = self.print_server(modules={"lpr": {"listen": [listener]}})
        with LpdClient(server.port("lpr", "lpd")) as client:
            self.assertRaises((Refused, OSError), client.receive)


class Queries(PrintTest):
    def setUp(self):
        super().setUp()
        self.server = self.print_server()
        self.port = self.server.port("lpr", "lpd")
        for number, title in ((11, "Secret plan"), (12, "Another plan")):
            submit(self.port, b"x" * 1234, title=title, number=number)

    def ask(self, data, host="127.0.0.1"):
        with LpdClient(self.port, host=host) as client:
            client.send(data)
            return client.read_all().decode()

    def test_without_proof_count_and_position_only(self):
        for code in (b"\3", b"\4"):
            for operands in (b"", b" eve", b" 12"):
                answer = self.ask(code + b"hold" + operands + b"\n")
                self.assertIn("2 jobs", answer)
                for hidden in ("Secret", "Another", "anna", "1234"):
                    self.assertNotIn(hidden, answer)
        self.assertIn("2nd", self.ask(b"\3hold 12\n"))

    def test_the_submitting_host_and_user_prove_ownership(self):
        answer = self.ask(b"\3hold anna\n")
        for shown in ("Secret plan", "Another plan", "011", "012", "1234 bytes", "1st", "2nd"):
            self.assertIn(shown, answer)
        self.assertIn("Secret plan", self.ask(b"\4hold anna\n"))

    def rows_seen(self):
        text = self.server.ctl_run("metrics")[1]
        return next(int(line.split()[-1]) for line in text.splitlines() if "view_rows_total" in line
                    and not line.startswith("#"))

    def test_a_command_looks_through_the_queue_once_for_all_numbers(self):
        before = self.rows_seen()
        answer = self.ask(b"\3hold " + b" ".join(b"%d" % number for number in range(60)) + b"\n")
        self.assertIn("1st", answer)
        self.assertIn("2nd", answer)
        self.assertEqual(self.rows_seen() - before, 2)

    def test_a_command_is_answered_for_a_few_names_only(self):
        answer = self.ask(b"\3hold " + b" ".join(b"user%d" % number for number in range(4)) +
                          b" anna\n")
        self.assertIn("only 4 names", answer)
        self.assertNotIn("1st", answer)  # anna is behind those

    def test_many_questions_at_one_time_wait_or_are_told_to_come_again(self):
        clients = [LpdClient(self.port) for _ in range(200)]
        for client in clients:
            self.addCleanup(client.socket.close)
        for number, client in enumerate(clients):
            client.send(b"\5hold anna 77\n" if number % 2 else b"\3hold anna\n")
        answers = [client.read_all().decode() for client in clients]
        answered = 0
        for number, answer in enumerate(answers):
            if "busy, try again later" not in answer:
                self.assertIn("no job" if number % 2 else "Secret plan", answer)
                answered += 1
        self.assertGreaterEqual(answered, 65)  # one looks, 64 wait
        self.assertIn("Secret plan", self.ask(b"\3hold anna\n"))

    def test_who_leaves_before_the_answer_leaves_nothing_behind(self):
        for _ in range(50):
            for command in (b"\3hold anna 11\n", b"\5hold anna 77\n"):
                with LpdClient(self.port) as client:
                    client.send(command)
                    client.reset()
        deadline = Deadline(20, "the end of the looks that nobody waits for")
        while "busy" in (answer := self.ask(b"\3hold anna\n")):
            deadline.pause()
        self.assertIn("Secret plan", answer)

    def test_an_unknown_queue_is_said_to_be_unknown(self):
        self.assertIn("unknown", self.ask(b"\3nowhere\n"))

    def test_the_owner_removes_and_nobody_else(self):
        self.assertIn("no job", self.ask(b"\5hold eve 11\n"))
        self.assertIn("no job", self.ask(b"\5hold root 11\n"))
        self.assertEqual(len(self.jobs(self.server)), 2)
        self.assertIn("011 removed", self.ask(b"\5hold anna 11\n"))
        self.assertIn("012 removed", self.ask(b"\5hold anna\n"))
        self.assertEqual(self.jobs(self.server), [])

    def test_host_is_no_proof_where_the_setting_says_so(self):
        self.server.set_module("lpr", {**self.server.modules["lpr"], "host_is_proof": False})
        self.server.ctl("config", "reload")
        self.assertNotIn("Secret", self.ask(b"\3hold anna\n"))
        self.assertIn("no job", self.ask(b"\5hold anna 11\n"))

    def test_print_waiting_jobs_is_accepted(self):
        self.assertEqual(self.ask(b"\1hold\n"), "\0")


if __name__ == "__main__":
    unittest.main()
