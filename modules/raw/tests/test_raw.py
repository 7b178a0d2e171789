# SPDX-License-Identifier: Apache-2.0
"""Port to queue: what nc, CUPS's socket backend and drivers send, whose it is, and when it ends."""
import errno
import os
import subprocess
import unittest

from harness import peers
from harness.case import needs_programs
from harness.deadline import Deadline, scale
from harness.lpd import LpdClient, TcpClient
from harness.site import USER, PrintTest

UEL = b"\x1b%-12345X"
CUPS_SOCKET = "cups/usr/lib/cups/backend-available/socket"
NOBODY = "0" * 32
RESETS = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)  # by where a reset meets the client
HOSTS = [{"network": "192.0.2.0/24", "user": "eve"}, {"network": "127.0.0.0/8", "user": USER},
         {"network": "127.0.0.1", "user": "eve"}]


def pjl(content, user=USER, title="Quarterly report"):
    """A document as drivers wrap it; without `user` it names nobody."""
    lines = [b"@PJL", b'@PJL SET JOBNAME="%s"' % title.encode()]
    if user is not None:
        lines.append(b'@PJL SET USERNAME="%s"' % user.encode())
    return UEL + b"\r\n".join(lines) + b"\r\n@PJL ENTER LANGUAGE=PCL\r\n" + content + UEL


def binary(size):
    """Noise that can't be taken for white space."""
    return b"x" + os.urandom(size - 1)


def postscript(user, title="Quarterly report"):
    return (f"%!PS-Adobe-3.0\n%%Title: ({title})\n%%For: ({user})\n%%EndComments\n"
            "showpage\n").encode()


class RawClient(TcpClient):
    """A connection to a RAW port."""

    def answer(self, end=b"\f"):
        """Up to the form feed that ends an answer."""
        data = b""
        while not data.endswith(end):
            piece = self.socket.recv(1)
            assert piece, f"closed after {data!r}"
            data += piece
        return data


class RawTest(PrintTest):
    queues = {}

    def setUp(self):
        super().setUp()
        self.folder = peers.client_folder(self)

    def serve(self, **settings):
        self.server = self.print_server(
            queues={name: options for name, options in self.queues.items() if name != "hold"},
            modules={"raw": settings})
        self.port = self.server.port("raw", "raw")
        self.anna = self.server.ctl("user", "show", USER)["user"]

    def send(self, content, port=None):
        """One job by the book: when the server has closed, it is there."""
        with RawClient(port or self.port) as client:
            client.send(content)
            client.end()
            self.assertEqual(client.read_all(), b"")

    def file(self, content):
        path = self.folder / "document"
        path.write_bytes(content)
        return path

    def metric(self, name):
        status, text, error = self.server.ctl_run("metrics")
        self.assertEqual(status, 0, error)
        values = [line.split()[-1] for line in text.splitlines()
                  if not line.startswith("#") and name in line]
        self.assertEqual(len(values), 1, f"{name}: {text}")
        return float(values[0])

    def wait_metric(self, name, value):
        deadline = Deadline(10, f"{name} to be {value}")
        while self.metric(name) != value:
            deadline.pause()

    def assert_held_for(self, job, owner):
        reason = "job-held-for-review" if owner == NOBODY else "job-held-for-release"
        self.assertEqual((job["state"], job["reasons"], job["owner"]),
                         ("pending-held", reason, owner))

    def titles_of(self, user=USER):
        with LpdClient(self.server.port("lpr", "lpd")) as client:
            client.send(b"\3hold %s\n" % user.encode())
            return client.read_all().decode()


class Owners(RawTest):
    def test_pjl_names_owner_and_title(self):
        self.serve()
        self.send(pjl(b"content"))
        self.assert_held_for(self.only_job(self.server), self.anna)
        self.assertIn("Quarterly report", self.titles_of())

    def test_postscript_comments_name_owner_and_title(self):
        self.serve()
        self.send(postscript(USER))
        self.assert_held_for(self.only_job(self.server), self.anna)
        self.assertIn("Quarterly report", self.titles_of())

    def test_pjl_names_the_owner_in_front_of_postscript(self):
        self.serve()
        self.send(pjl(postscript("eve")))
        self.assert_held_for(self.only_job(self.server), self.anna)

    def test_a_host_rule_names_the_owner_of_what_names_none(self):
        self.serve(hosts=HOSTS)
        self.send(b"content")
        self.assert_held_for(self.only_job(self.server), self.anna)

    def test_the_document_counts_more_than_a_host_rule(self):
        self.serve(hosts=[{"network": "127.0.0.1", "user": "eve"}])
        self.send(pjl(b"content"))
        self.assert_held_for(self.only_job(self.server), self.anna)

    def test_a_user_whom_nobody_knows_owns_nothing(self):
        self.serve()
        self.send(pjl(b"content", user="mallory"))
        self.assert_held_for(self.only_job(self.server), NOBODY)

    def test_host_rules_can_be_changed_while_running(self):
        self.serve()
        self.send(b"before")
        self.server.set_module("raw", {**self.server.modules["raw"], "hosts": HOSTS})
        self.server.ctl("config", "reload")
        self.send(b"after")
        self.assertEqual([job["owner"] for job in self.jobs(self.server)], [NOBODY, self.anna])

    def test_a_host_rule_that_is_none_is_refused(self):
        self.serve()
        for rule in ({"network": "127.0.0.1/33", "user": USER}, {"network": "here", "user": USER},
                     {"network": "127.0.0.1", "user": ""}, {"network": "127.0.0.1"}):
            with self.subTest(rule=rule):
                self.server.set_module("raw", {**self.server.modules["raw"], "hosts": [rule]})
                self.assert_refused("hosts", self.server.ctl, "config", "reload")

    def test_a_job_of_nobody_waits_until_somebody_says_whose_it_is(self):
        if "transport-socket" not in self.build.modules():
            self.skipTest("not built: transport-socket")
        self.serve()
        printer = self.device(self.server)
        content = binary(5000)
        self.send(content)
        job = self.only_job(self.server)
        self.assert_held_for(job, NOBODY)
        with self.assertRaises(AssertionError):
            self.release(self.server, job["job-id"])
        self.server.ctl("job", "set-owner", str(job["job-id"]), USER)
        self.assert_held_for(self.only_job(self.server), self.anna)
        self.assertEqual(self.printed(self.server, job["job-id"], printer), content)
        self.assertEqual(printer.connections(), 1)


class Ends(RawTest):
    def test_the_server_closes_when_the_job_is_there(self):
        self.serve()
        for number, size in enumerate((1, 1000, 32768, 32769, 1000000), 1):
            with self.subTest(size=size):
                self.send(binary(size))
                self.assertEqual([job["bytes"] for job in self.jobs(self.server)][number - 1:],
                                 [size])

    def test_a_client_that_only_goes_silent_is_served(self):
        self.serve(job_idle="300ms")
        with RawClient(self.port) as client:
            client.send(pjl(b"content"))
            self.assertEqual(client.read_all(), b"")
            self.assert_held_for(self.only_job(self.server), self.anna)

    def test_bytes_that_keep_coming_are_one_job(self):
        self.serve(job_idle="2s")
        content = pjl(b"content" * 10)
        with RawClient(self.port) as client:
            for octet in content:
                client.send(bytes([octet]))
            client.end()
            client.read_all()
        job = self.only_job(self.server)
        self.assert_held_for(job, self.anna)
        self.assertEqual(job["bytes"], len(content))

    def test_a_reset_in_the_middle_leaves_nothing(self):
        self.serve()
        for number, content in enumerate((b"x", b"x" * 100, binary(500000)), 1):
            with self.subTest(size=len(content)):
                client = RawClient(self.port)
                client.send(content)
                client.reset()
                self.wait_metric("raw_aborted_total", number)
        self.assertEqual(self.jobs(self.server, "--all"), [])

    def test_a_client_that_leaves_before_the_server_has_closed_does_no_harm(self):
        self.serve()
        for number in range(50):
            client = RawClient(self.port)
            client.send(binary(100 if number % 2 else 70000))
            client.end()
            client.reset()
        self.send(b"whole")
        sizes = [job["bytes"] for job in self.jobs(self.server, "--all")]
        self.assertLessEqual(set(sizes), {100, 70000, 5})
        self.assertEqual(sizes.count(5), 1)

    def test_a_connection_that_takes_too_long_leaves_nothing(self):
        self.serve(job_timeout="1s")
        with RawClient(self.port) as client:
            client.send(b"content")
            try:
                self.assertEqual(client.read_all(), b"")
            except OSError as error:
                self.assertIn(error.errno, RESETS)
        self.wait_metric("raw_aborted_total", 1)
        self.assertEqual(self.jobs(self.server, "--all"), [])

    def test_a_kill_of_the_client_in_the_middle_is_not_more_than_what_came(self):
        """A close that is no reset can't be told from the end of the job: the protocol has no length."""
        self.serve()
        self.send(b"half of a docu")
        self.assertEqual(self.only_job(self.server)["bytes"], 14)

    def test_a_connection_without_a_byte_is_no_job(self):
        self.serve(job_idle="300ms")
        self.send(b"")
        with RawClient(self.port) as client:
            self.assertEqual(client.read_all(), b"")
        self.assertEqual(self.jobs(self.server, "--all"), [])


class Questions(RawTest):
    def setUp(self):
        super().setUp()
        self.serve()

    def test_drivers_get_answers(self):
        with RawClient(self.port) as client:
            client.send(UEL + b"@PJL INFO ID\r\n")
            self.assertRegex(client.answer(), rb'^@PJL INFO ID\r\n"[^"\r\n]+"\r\n\f$')
            client.send(b"@PJL INFO STATUS\r\n")
            self.assertRegex(client.answer(),
                             rb'^@PJL INFO STATUS\r\nCODE=10001\r\nDISPLAY="[^"]*"\r\n'
                             rb'ONLINE=TRUE\r\n\f$')
            client.send(b"@PJL ECHO 12:34 is it me?\r\n")
            self.assertEqual(client.answer(), b"@PJL ECHO 12:34 is it me?\r\n\f")
            client.send(b"@pjl inquire COPIES\n")
            self.assertEqual(client.answer(), b'@PJL INQUIRE COPIES\r\n"?"\r\n\f')
            client.send(b"@PJL INFO CONFIG\r\n")
            self.assertEqual(client.answer(), b"@PJL INFO CONFIG\r\n?\r\n\f")

    def test_questions_alone_are_no_job(self):
        with RawClient(self.port) as client:
            client.send(UEL + b"@PJL INFO STATUS\r\n@PJL ECHO x\r\n" + UEL)
            client.end()
            self.assertEqual(client.read_all().count(b"\f"), 2)
        self.assertEqual(self.jobs(self.server, "--all"), [])

    def test_a_job_may_follow_questions(self):
        with RawClient(self.port) as client:
            client.send(UEL + b"@PJL INFO STATUS\r\n")
            client.answer()
            client.send(pjl(b"content"))
            client.end()
            self.assertEqual(client.read_all(), b"")
        self.assert_held_for(self.only_job(self.server), self.anna)

    def test_questions_may_come_in_any_pieces(self):
        question = UEL + b"@PJL ECHO hello\r\n"
        for at in range(1, len(question)):
            with RawClient(self.port) as client:
                client.send(question[:at])
                client.send(question[at:])
                self.assertEqual(client.answer(), b"@PJL ECHO hello\r\n\f")

    def test_what_looks_like_a_question_in_a_document_is_not_answered(self):
        content = b"%!PS\n(@PJL INFO ID) show\n@PJL ECHO no\nshowpage\n"
        self.send(content)
        self.assertEqual(self.only_job(self.server)["bytes"], len(content))


class Doors(RawTest):
    queues = {"second": (), "closed": ("--accepting", "no")}

    def test_each_listener_feeds_its_queue(self):
        self.serve(listen=[self.listen("raw", queue="hold"), self.listen("other", queue="second"),
                           self.listen("default")], queue="second")
        for name in ("raw", "other", "default"):
            self.send(name.encode(), self.server.port("raw", name))
        self.assertEqual([job["queue"] for job in self.jobs(self.server)],
                         ["hold", "second", "second"])

    def serve_doors(self, **settings):
        self.serve(listen=[self.listen("raw", queue="hold"), self.listen("closed", queue="closed"),
                           self.listen("nowhere", queue="nowhere")], **settings)

    def open_door(self):
        self.server.ctl("queue", "set", "closed", "--accepting", "yes")

    def assert_reset(self, name):
        with self.assertRaises(OSError) as caught, RawClient(
                self.server.port("raw", name)) as client:
            client.send(b"x" * 1000)
            client.end()
            client.read_all()
        self.assertIn(caught.exception.errno, RESETS)

    def test_a_queue_that_does_not_exist_is_told_by_a_reset(self):
        self.serve_doors()
        self.assert_reset("nowhere")
        self.send(b"content")
        self.only_job(self.server, "--all")

    def test_a_queue_that_does_not_accept_is_told_by_a_reset_in_time(self):
        for wait, is_waiting in (("0s", 0), ("100ms", 1)):
            with self.subTest(wait=wait):
                self.serve_doors(door_wait=wait)
                self.assert_reset("closed")
                self.assertEqual(self.metric("raw_waits_total"), is_waiting)
                self.assertEqual(self.metric("raw_refused_total"), 1)
                self.assertEqual(self.jobs(self.server, "--all"), [])

    def test_a_connection_waits_for_its_queue(self):
        """A client that was done before the queue takes jobs, one that is not, and one that gave up."""
        self.serve_doors()
        port = self.server.port("raw", "closed")
        done, sends, leaves = (RawClient(port) for _ in range(3))
        for client in (done, sends, leaves):
            self.addCleanup(client.socket.close)
            client.send(b"early")
        done.end()
        leaves.reset()
        self.wait_metric("raw_waits_total", 3)
        self.assertEqual(self.jobs(self.server, "--all"), [])
        self.open_door()
        self.assertEqual(done.read_all(), b"")
        sends.send(b" and late")
        sends.end()
        self.assertEqual(sends.read_all(), b"")
        self.assertEqual([job["bytes"] for job in self.jobs(self.server, "--all")], [5, 14])

    @peers.needs_peer(CUPS_SOCKET)
    def test_what_cups_sends_to_a_closed_queue_is_not_lost(self):
        """Its backend would take a reset for success."""
        self.serve_doors()
        path = self.folder / "document"
        path.write_bytes(pjl(b"content"))
        backend = peers.CupsBackend(
            "socket", f"socket://127.0.0.1:{self.server.port('raw', 'closed')}", path)
        self.server.wait_log("raw.waiting", status="denied")
        self.open_door()
        backend.wait()
        self.assert_held_for(self.only_job(self.server), self.anna)

    def test_networks_that_are_not_allowed_are_not_served(self):
        self.serve(listen=[self.listen("raw", queue="hold", allow=["192.0.2.0/24"])])
        with RawClient(self.port) as client:
            try:
                client.send(b"content")
                client.end()
                self.assertEqual(client.read_all(), b"")
            except OSError as error:
                self.assertIn(error.errno, RESETS)
        self.assertEqual(self.jobs(self.server, "--all"), [])


class Clients(RawTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)

    def setUp(self):
        super().setUp()
        self.serve()
        self.printer = self.device(self.server)

    def assert_prints(self, content):
        job = self.only_job(self.server)
        self.assert_held_for(job, self.anna)
        self.assertEqual(self.printed(self.server, job["job-id"], self.printer), content)
        deadline = Deadline(10, "the job to be finished")
        while self.jobs(self.server):
            deadline.pause()

    @needs_programs("nc")
    def test_what_nc_sends_prints_as_sent(self):
        for size in (1, 1000, 1000000):
            with self.subTest(size=size):
                content = pjl(binary(size))
                with open(self.file(content), "rb") as file:
                    subprocess.run(["nc", "-q", "-1", "-N", "127.0.0.1", str(self.port)],
                                   stdin=file, timeout=30 * scale(), check=True)
                self.assert_prints(content)

    @peers.needs_peer(CUPS_SOCKET)
    def test_what_cups_sends_prints_as_sent(self):
        for size in (1, 1000, 1000000):
            for by_stdin in (False, True):
                with self.subTest(size=size, by_stdin=by_stdin):
                    content = pjl(binary(size))
                    peers.cups_backend("socket", f"socket://127.0.0.1:{self.port}",
                                       self.file(content), by_stdin=by_stdin)
                    self.assert_prints(content)

    @peers.needs_peer(CUPS_SOCKET)
    def test_cups_without_waiting_for_the_end(self):
        content = pjl(binary(1000))
        peers.cups_backend("socket", f"socket://127.0.0.1:{self.port}/?waiteof=false",
                           self.file(content))
        deadline = Deadline(10, "the job")
        while not self.jobs(self.server):
            deadline.pause()
        self.assert_prints(content)


if __name__ == "__main__":
    unittest.main()
