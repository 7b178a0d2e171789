# SPDX-License-Identifier: Apache-2.0
"""Whose an LPD job is, who may know, when a second submission is the same job, and what is too much."""
import re
import socket
import unittest

from harness.deadline import Deadline
from harness.lpd import LpdClient, Refused, control_text, submit
from harness.site import USER, PrintTest

NOBODY = "0" * 32
OTHER_HOST = "127.0.0.2"  # loopback is a network: another source address is another host
NO, RETRY = b"\1", b"\2"  # refused; refused for now


class LprTest(PrintTest):
    def serve(self, queues=None, **modules):
        self.server = self.print_server(queues=queues, modules=modules)
        self.port = self.server.port("lpr", "lpd")
        self.anna = self.server.ctl("user", "show", USER)["user"]

    def client(self):
        client = LpdClient(self.port)
        self.addCleanup(client.socket.close)
        return client

    def send(self, control, content=b"content", queue="hold"):
        client = self.client()
        client.receive(queue)
        client.control(control)
        client.data_yes(content)

    def ask(self, command, source=None):
        with socket.create_connection(("127.0.0.1", self.port), 10,
                                      source and (source, 0)) as connection:
            connection.sendall(command)
            data = b""
            while piece := connection.recv(65536):
                data += piece
        return data.decode()

    def assert_owner(self, owner):
        job = self.only_job(self.server)
        reason = "job-held-for-review" if owner == NOBODY else "job-held-for-release"
        self.assertEqual((job["state"], job["reasons"], job["owner"]),
                         ("pending-held", reason, owner))


class Owners(LprTest):
    PJL = (b'\x1b%-12345X@PJL SET USERNAME="anna"\r\n@PJL SET JOBNAME="Title in the stream"\r\n'
           b"@PJL ENTER LANGUAGE=PCL\r\ncontent")

    def test_a_user_in_windows_1252_is_the_user_in_utf8(self):
        self.serve()
        self.server.ctl("user", "add", "jürgen")
        self.send(control_text(user="USER").replace(b"USER", b"j\xfcrgen"))
        self.assert_owner(self.server.ctl("user", "show", "jürgen")["user"])

    def test_a_job_without_a_user_is_kept_for_review(self):
        self.serve()
        self.send(b"Hclient\nldfA001client\n")
        self.assert_owner(NOBODY)

    def test_a_user_whom_nobody_knows_is_kept_for_review(self):
        self.serve()
        self.send(control_text(user="DOMAIN\\mallory"))
        self.assert_owner(NOBODY)

    def test_pjl_names_owner_and_title_where_the_queue_says_so(self):
        self.serve(queues={"pjl": ("--owner-from-pjl", "yes")})
        self.send(control_text(user="mallory", title="Title of the client"), self.PJL, "pjl")
        self.assert_owner(self.anna)
        seen = self.ask(b"\4pjl anna\n")
        self.assertIn("Title in the stream", seen)
        self.assertNotIn("Title of the client", seen)

    def test_the_control_file_names_them_everywhere_else(self):
        self.serve()
        self.send(control_text(user="mallory"), self.PJL)
        self.assert_owner(NOBODY)

    def test_a_document_that_names_nobody_leaves_it_to_the_control_file(self):
        self.serve(queues={"pjl": ("--owner-from-pjl", "yes")})
        self.send(control_text(), b"content", "pjl")
        self.assert_owner(self.anna)


class Proof(LprTest):
    def setUp(self):
        super().setUp()
        self.serve()
        submit(self.port, b"content", number=11)

    def test_the_user_s_name_from_another_host_proves_nothing(self):
        for command in (b"\3hold anna\n", b"\4hold anna\n"):
            self.assertIn("Quarterly report", self.ask(command))
            seen = self.ask(command, OTHER_HOST)
            self.assertIn("1 job", seen)
            for hidden in ("Quarterly", "anna", "011"):
                self.assertNotIn(hidden, seen)

    def test_the_user_s_name_from_another_host_removes_nothing(self):
        for command in (b"\5hold anna 11\n", b"\5hold anna\n", b"\5hold anna -\n"):
            self.assertIn("no job", self.ask(command, OTHER_HOST))
        self.only_job(self.server)
        self.assertIn("011 removed", self.ask(b"\5hold anna -\n"))
        self.assertEqual(self.jobs(self.server), [])

    def test_questions_about_no_queue_are_answered(self):
        for code in (b"\3", b"\4", b"\5"):
            for rest in (b"\n", b"nowhere\n", b" \n", b"nowhere anna 11\n"):
                with self.subTest(code=code, rest=rest):
                    self.assertIn("unknown queue", self.ask(code + rest))
        self.only_job(self.server)


class Retries(LprTest):
    """A crash right behind the octet leaves it open whether the octet was written. A client that did not
    get it sends again: then there is one job. What the next commit takes with it is that it was."""

    def setUp(self):
        super().setUp()
        self.serve()

    def crash(self, runs=2):
        self.server.kill9()
        self.server.wait_ready(runs)

    def count(self):
        return len(self.jobs(self.server))

    def wait_first_sweep(self):
        """It takes with it what was acknowledged, and must not come between a job and the crash."""
        deadline = Deadline(10, "the first sweep")
        swept = re.compile(r"^imprimatur_jobs_sweeps_total [1-9]", re.M)
        while not swept.search(self.server.ctl_run("metrics")[1]):
            deadline.pause()

    def test_a_retry_after_a_crash_is_the_same_job(self):
        self.wait_first_sweep()
        submit(self.port, b"content", number=7)
        self.crash()
        submit(self.port, b"content", number=7)
        self.assertEqual(self.count(), 1)
        submit(self.port, b"content", number=7)  # that octet was written: the third is another job
        self.assertEqual(self.count(), 2)

    def test_what_differs_is_another_job(self):
        submit(self.port, b"content", number=7)
        self.crash()
        for content, number in ((b"Content", 7), (b"content", 8)):
            submit(self.port, content, number=number)
        with socket.create_connection(("127.0.0.1", self.port), 10, (OTHER_HOST, 0)) as other:
            text = control_text(files=("dfA007client",))
            for message in (b"\2hold\n", b"\2%d cfA007client\n" % len(text), text + b"\0",
                            b"\0037 dfA007client\n", b"content\0"):
                other.sendall(message)
                self.assertEqual(other.recv(1), b"\0")
        self.assertEqual(self.count(), 4)

    def test_a_submission_that_was_acknowledged_before_the_crash_is_over(self):
        submit(self.port, b"content", number=7)
        submit(self.port, b"other", number=8)
        self.crash()
        submit(self.port, b"content", number=7)
        self.assertEqual(self.count(), 3)

    def test_a_retry_that_comes_too_late_is_another_job(self):
        self.server.set_module("jobs", {**self.server.modules["jobs"], "submission_window": "0s"})
        self.server.ctl("config", "reload")
        submit(self.port, b"content", number=7)
        self.crash()
        submit(self.port, b"content", number=7)
        self.assertEqual(self.count(), 2)

    def test_without_a_crash_the_same_again_is_another_job(self):
        for _ in range(2):
            submit(self.port, b"content", number=7)
        self.assertEqual(self.count(), 2)


class Bounds(LprTest):
    def assert_refused(self, octet, function, *arguments, **named):
        with self.assertRaises(Refused) as caught:
            function(*arguments, **named)
        self.assertEqual(caught.exception.octet, octet)

    def test_too_many_jobs_from_one_address_are_refused_at_the_door(self):
        self.serve(queues={"slow": ("--source-rate", "2")})
        for number in (1, 2):
            submit(self.port, b"content", "slow", number=number)
        self.assert_refused(RETRY, self.client().receive, "slow")
        submit(self.port, b"content", "hold")  # the bound is the queue's
        self.assertEqual(len(self.jobs(self.server)), 3)

    def test_a_full_queue_is_refused_at_the_door(self):
        self.serve(queues={"small": ("--jobs-max", "1")})
        submit(self.port, b"content", "small")
        self.assert_refused(RETRY, self.client().receive, "small")

    def test_a_job_that_is_too_large_is_refused(self):
        self.serve(queues={"small": ("--bytes-max", "1KiB")})
        client = self.client()
        client.receive("small")
        client.control(control_text())
        self.assert_refused(RETRY, client.data_yes, b"x" * 2000)
        client.expect_closed()
        self.assertEqual(self.jobs(self.server, "--all"), [])

    def test_a_file_announced_too_large_is_refused_before_it_is_sent(self):
        self.serve(queues={"small": ("--bytes-max", "1KiB")})
        client = self.client()
        client.receive("small")
        client.send(b"\x032000 dfA001client\n")
        self.assert_refused(RETRY, client.expect_yes, "data file")
        client.expect_closed()

    def test_who_may_not_print_on_a_queue_is_told_by_the_last_octet(self):
        self.serve(queues={"own": ("--allow-user", USER)})
        self.server.ctl("user", "add", "eve")
        client = self.client()
        client.receive("own")
        client.control(control_text(user="eve"))
        self.assert_refused(NO, client.data_yes, b"content")
        client.expect_closed()
        self.assertEqual(self.jobs(self.server, "--all"), [])
        self.send(control_text(), queue="own")
        self.assert_owner(self.anna)

    def test_one_connection_brings_a_bounded_number_of_jobs(self):
        self.serve(lpr={"jobs_per_connection": 2})
        client = self.client()
        client.receive()
        for number in (1, 2):
            client.control(control_text())
            client.data_yes(b"content")
        client.control(control_text())
        self.assert_refused(RETRY, client.data, b"content")
        self.assertEqual(len(self.jobs(self.server)), 2)

    def test_a_control_file_is_bounded(self):
        self.serve(lpr={"control_max": "1KiB"})
        for announced in (1025, 0, 125899906843000):
            with self.subTest(announced=announced):
                client = self.client()
                client.receive()
                client.send(b"\2%d cfA001client\n" % announced)
                self.assertEqual(client.octet(), RETRY)
                client.expect_closed()

    def test_a_queue_that_does_not_exist_has_a_default_where_the_setting_says_so(self):
        self.serve(lpr={"queue_default": "hold"})
        for queue in ("nowhere", "", "printers/nowhere"):
            submit(self.port, b"content", queue)
        self.assertEqual([job["queue"] for job in self.jobs(self.server)], ["hold"] * 3)


class Octets(LprTest):
    def setUp(self):
        super().setUp()
        self.serve()

    def test_peers_that_put_lf_behind_their_octets_are_understood(self):
        client = self.client()
        client.receive()
        for number in (1, 2):
            client.control(control_text(), end=b"\0\n")
            client.data_yes(b"content", end=b"\0\r\n")
        client.end()
        client.expect_closed()
        self.assertEqual([job["bytes"] for job in self.jobs(self.server)], [7, 7])

    def test_a_lone_nul_between_jobs_is_tolerated(self):
        client = self.client()
        client.receive()
        for number in (1, 2):
            client.control(control_text())
            client.data_yes(b"content")
            client.send(b"\0")
        client.end()
        client.expect_closed()
        self.assertEqual(len(self.jobs(self.server)), 2)

    def test_an_unknown_size_before_any_control_file_ends_by_closing(self):
        for number, size in enumerate((125899906843000, 999999999999, 2147483647, 4294967295), 1):
            with self.subTest(size=size):
                client = self.client()
                client.receive()
                client.data(b"content", f"dfA{number:03}client", size=size, end=b"")
                client.end()
                client.expect_yes("data")
                client.expect_closed()
                jobs = self.jobs(self.server)
                self.assertEqual((len(jobs), jobs[-1]["bytes"], jobs[-1]["reasons"]),
                                 (number, 7, "job-held-for-review"))

    def test_a_size_of_0_before_the_end_is_an_empty_file(self):
        client = self.client()
        client.receive()
        client.control(control_text())
        client.data(b"", size=0)
        client.end()
        client.expect_yes("data")
        self.assertEqual(self.only_job(self.server)["bytes"], 0)

    def test_a_size_of_0_before_silence_is_an_empty_file(self):
        client = self.client()
        client.receive()
        client.control(control_text())
        client.data_yes(b"", size=0)
        self.assertEqual(self.only_job(self.server)["bytes"], 0)


class CoreBounds(PrintTest):
    def test_a_client_too_many_is_told_to_come_again(self):
        server = self.print_server(core={"connections_per_source_max": 1})
        first = LpdClient(server.port("lpr", "lpd"))
        self.addCleanup(first.socket.close)
        first.receive()
        second = LpdClient(server.port("lpr", "lpd"))
        self.addCleanup(second.socket.close)
        self.assertEqual(second.socket.recv(2), b"\2")

    def test_a_control_file_that_trickles_is_cut_off(self):
        server = self.print_server(core={"min_rate": "1KiB", "min_rate_window": "1s"})
        client = LpdClient(server.port("lpr", "lpd"))
        self.addCleanup(client.socket.close)
        client.receive()
        client.send(b"\x02400 cfA001host\n")
        client.expect_yes("control file")
        client.send(b"Hhost\n")
        server.wait_log("listener.slow", module="lpr")
        client.expect_closed()
        self.assertEqual(self.jobs(server), [])


if __name__ == "__main__":
    unittest.main()
