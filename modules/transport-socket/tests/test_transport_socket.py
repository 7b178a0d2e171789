# SPDX-License-Identifier: Apache-2.0
"""Documents on RAW printers: what arrives, and what is known when something goes wrong."""
import os
import select
import socket
import threading
import time

from harness.case import tsan
from harness.deadline import Deadline
from harness.lpd import LpdClient, control_text, submit
from harness.net import free_port
from harness.silent import SilentSink
from harness.site import PrintTest

UEL = b"\033%-12345X"
ENTER = b"@PJL ENTER LANGUAGE=PCLXL\r\n"
PAGES = b") HP-PCL XL;3;0\n" + bytes(range(256)) * 40
HEADER = (UEL + b"@PJL COMMENT driver\r\n"
          b'@PJL SET USERNAME="anna"\r\n@PJL SET JOBNAME="Quarterly report"\r\n'
          b'@PJL SET HOLD=ON\r\n@PJL SET HOLDKEY="4711"\r\n@PJL SET COPIES=1\r\n')


class Transport(PrintTest):
    settings = {"stall_notice": "200ms"}

    def setUp(self):
        super().setUp()
        self.server = self.print_server(modules={
            "transport-socket": self.settings,
            "jobs": {"retry_first": "100ms", "retry_longest": "200ms"}})
        self.port = self.server.port("lpr", "lpd")

    def direct(self, name="direct", device="printer", *options):
        self.server.ctl("queue", "add", name, "--release", "direct", "--device", device, *options)

    def held(self, content, queue="hold", **more):
        """Submits a job to a hold queue; its number."""
        known = {job["job-id"] for job in self.jobs(self.server)}
        submit(self.port, content, queue, **more)
        return next(job["job-id"] for job in self.jobs(self.server) if job["job-id"] not in known)

    def held_copies(self, contents, copies):
        known = {job["job-id"] for job in self.jobs(self.server)}
        files = tuple(f"df{chr(ord('A') + i)}001client" for i in range(len(contents)))
        with LpdClient(self.port) as client:
            client.receive()
            client.control(control_text(files=files, copies=copies))
            for file, content in zip(files, contents):
                client.data_yes(content, file)
        return next(job["job-id"] for job in self.jobs(self.server) if job["job-id"] not in known)

    def metric(self, name):
        """The value of one of the module's metrics."""
        status, text, error = self.server.ctl_run("metrics")
        self.assertEqual(status, 0, error)
        values = [line.split()[-1] for line in text.splitlines() if name in line]
        self.assertEqual(len(values), 1, f"{name}: {text}")
        return float(values[0])

    def show(self, job):
        return self.server.ctl("job", "show", str(job))

    def wait_state(self, job, *states):
        """The job, when it has come to one of these states."""
        deadline = Deadline(20, f"job {job} in state {states}")
        while True:
            found = [item for item in self.jobs(self.server, "--all") if item["job-id"] == job]
            if found and found[0]["state"] in states:
                return found[0]
            deadline.pause()


@tsan
class Bytes(Transport):
    def test_what_was_sent_arrives_octet_by_octet(self):
        sink = self.device(self.server)
        for size in (0, 10240, 3 * 1024 * 1024):
            with self.subTest(size=size):
                content = os.urandom(size)
                job = self.held(content)
                self.assertEqual(self.printed(self.server, job, sink), content)
                self.assertEqual(self.wait_state(job, "completed")["reasons"], "queued-in-device")

    def test_a_header_stays_where_the_device_is_not_known_to_speak_pjl(self):
        sink = self.device(self.server)
        content = HEADER + ENTER + PAGES
        self.assertEqual(self.printed(self.server, self.held(content), sink), content)

    def test_copies_are_sent_one_behind_another(self):
        sink = self.device(self.server)
        job = self.held_copies((b"first", os.urandom(100000)), 3)
        received = self.printed(self.server, job, sink)
        self.assertEqual(len(received), 3 * 100005)
        self.assertEqual(received, received[:100005] * 3)

    def test_copies_of_one_document(self):
        sink = self.device(self.server)
        for content in (b"small", os.urandom(300000)):
            job = self.held_copies((content,), 2)
            self.assertEqual(self.printed(self.server, job, sink), content * 2)

    def test_copies_in_the_document_do_not_multiply(self):
        sink = self.device(self.server)
        start, end = UEL + b"@PJL COMMENT x\r\n", ENTER + PAGES
        job = self.held_copies((start + b"@PJL SET COPIES=5\r\n" + end,), 2)
        self.assertEqual(self.printed(self.server, job, sink), (start + end) * 2)

    def test_sides_that_the_device_can_not_be_told_are_said_to_be_lost(self):
        self.server.ctl("queue", "add", "sides", "--default", "sides=one-sided")
        sink = self.device(self.server)
        content = UEL + ENTER + PAGES
        self.assertEqual(self.printed(self.server, self.held(content, "sides"), sink), content)
        self.server.wait_log("transport-socket.lost", item="sides")

    def test_hold_and_driver_pin_are_dropped_where_the_queue_says_so(self):
        self.server.ctl("queue", "add", "strip", "--strip-pjl-hold", "yes")
        sink = self.device(self.server)
        job = self.held(HEADER + ENTER + PAGES, "strip")
        expected = HEADER.replace(b"@PJL SET HOLD=ON\r\n", b"")
        expected = expected.replace(b'@PJL SET HOLDKEY="4711"\r\n', b"")
        self.assertEqual(self.printed(self.server, job, sink), expected + ENTER + PAGES)


class Pjl(Transport):
    settings = {**Transport.settings, "identity_to_device": "full"}

    def setUp(self):
        super().setUp()
        self.sink = self.device(self.server, "printer", None, "--pjl", "yes")

    def test_names_and_copies_are_merged_into_the_header(self):
        start = UEL + b"@PJL COMMENT driver\r\n"
        job = self.held_copies((start + b"@PJL SET COPIES=5\r\n" + ENTER + PAGES,), 2)
        self.assertEqual(
            self.printed(self.server, job, self.sink),
            start + b'@PJL SET USERNAME="anna"\r\n@PJL SET JOBNAME="Quarterly report"\r\n'
            b"@PJL SET COPIES=2\r\n" + ENTER + PAGES)

    def test_an_unknown_language_is_sent_as_often_as_it_is_asked_for(self):
        job = self.held_copies((b"text\n", b"more\n"), 2)
        self.assertEqual(self.printed(self.server, job, self.sink),
                         b"text\ntext\nmore\nmore\n")

    def test_postscript_gets_a_header_of_its_own(self):
        job = self.held(b"%!PS\nshowpage\n")
        self.assertEqual(
            self.printed(self.server, job, self.sink),
            UEL + b'@PJL\r\n@PJL SET USERNAME="anna"\r\n@PJL SET JOBNAME="Quarterly report"\r\n'
            b"@PJL ENTER LANGUAGE=POSTSCRIPT\r\n%!PS\nshowpage\n" + UEL)


    def test_sides_are_said_where_the_device_understands(self):
        self.server.ctl("queue", "add", "sides", "--default", "sides=two-sided-short-edge")
        start = UEL + b"@PJL COMMENT driver\r\n"
        received = self.printed(self.server, self.held(
            start + b"@PJL SET DUPLEX=OFF\r\n@PJL SET BINDING=LONGEDGE\r\n" + ENTER + PAGES,
            "sides"), self.sink)
        self.assertTrue(received.endswith(b"@PJL SET DUPLEX=ON\r\n@PJL SET BINDING=SHORTEDGE\r\n"
                                          + ENTER + PAGES))
        self.assertEqual((received.count(b"DUPLEX"), received.count(b"BINDING")), (1, 1))

    def test_a_hold_stays_where_the_queue_does_not_say_that_it_goes(self):
        received = self.printed(self.server, self.held(HEADER + ENTER + PAGES), self.sink)
        self.assertIn(b'@PJL SET HOLD=ON\r\n@PJL SET HOLDKEY="4711"\r\n', received)

    def test_the_document_s_own_variable_counts_the_copies(self):
        job = self.held_copies((UEL + b"@PJL SET QTY=5\r\n" + ENTER + PAGES,), 2)
        received = self.printed(self.server, job, self.sink)
        self.assertTrue(received.endswith(b"@PJL SET QTY=2\r\n" + ENTER + PAGES))
        self.assertEqual(received.count(b"QTY"), 1)


class PjlQty(Transport):
    settings = {**Transport.settings, "pjl_copies": "qty"}

    def test_copies_are_sets_where_the_setting_says_so(self):
        sink = self.device(self.server, "printer", None, "--pjl", "yes")
        job = self.held_copies((UEL + ENTER + PAGES,), 3)
        self.assertEqual(self.printed(self.server, job, sink),
                         UEL + b"@PJL SET QTY=3\r\n" + ENTER + PAGES)


class NoNames(Transport):
    def test_a_document_without_names_stays_as_it_is(self):
        sink = self.device(self.server, "printer", None, "--pjl", "yes")
        for content in (UEL + ENTER + PAGES, b"%!PS\nshowpage\n", b"text\n", os.urandom(50000)):
            with self.subTest(content=content[:10]):
                self.assertEqual(self.printed(self.server, self.held(content), sink), content)

    def test_names_are_taken_out_of_the_header(self):
        sink = self.device(self.server, "printer", None, "--pjl", "yes")
        received = self.printed(self.server, self.held(HEADER + ENTER + PAGES), sink)
        self.assertNotIn(b"anna", received)
        self.assertNotIn(b"Quarterly", received)
        self.assertTrue(received.endswith(b"@PJL SET COPIES=1\r\n" + ENTER + PAGES))


class Pseudonym(Transport):
    settings = {**Transport.settings, "identity_to_device": "pseudonym"}

    def test_ids_stand_for_names(self):
        sink = self.device(self.server, "printer", None, "--pjl", "yes")
        job = self.held(HEADER + ENTER + PAGES)
        shown = self.show(job)
        received = self.printed(self.server, job, sink)
        self.assertNotIn(b"anna", received)
        self.assertIn(b'@PJL SET USERNAME="%s"\r\n' % shown["owner"][:8].encode(), received)
        self.assertIn(b'@PJL SET JOBNAME="%s"\r\n' % shown["id"][:8].encode(), received)


@tsan
class Busy(Transport):
    settings = {**Transport.settings, "connect_settle": "500ms"}

    def closed_port(self):
        port = free_port()
        return port, f"socket://127.0.0.1:{port}"

    def test_a_hold_queue_gets_its_job_back(self):
        port, uri = self.closed_port()
        self.server.ctl("device", "add", "printer", "--uri", uri)
        content = os.urandom(10240)
        job = self.held(content)
        self.release(self.server, job)
        self.server.wait_log("jobs.delivery-failed", job="held")
        self.assertEqual(self.wait_state(job, "pending-held")["reasons"], "job-held-for-release")
        sink = self.sink(port=port)
        self.assertEqual(self.printed(self.server, job, sink), content)

    def test_a_direct_queue_tries_again(self):
        port, uri = self.closed_port()
        self.server.ctl("device", "add", "printer", "--uri", uri)
        self.direct()
        content = os.urandom(10240)
        submit(self.port, content, "direct")
        self.server.wait_log("jobs.delivery-failed", job="queued")
        sink = self.sink(port=port)
        self.assertEqual(sink.wait_documents(1), [content])
        self.wait_state(self.jobs(self.server, "--all")[0]["job-id"], "completed")

    def test_a_direct_queue_gives_up_after_as_many_tries_as_the_setting_says(self):
        self.server.set_module("jobs", {**self.server.modules["jobs"], "retry_limit": 3})
        self.server.ctl("config", "reload")
        self.server.ctl("device", "add", "printer", "--uri", self.closed_port()[1])
        self.direct()
        submit(self.port, b"content", "direct")
        job = self.only_job(self.server, "--all")["job-id"]
        self.assertEqual(self.wait_state(job, "aborted")["uncertain"], False)
        self.assertEqual(self.metric('deliveries_total{result="not-started"}'), 3)

    def test_a_device_that_does_not_answer_is_busy_in_time(self):
        self.server.set_module("transport-socket", {**self.settings, "connect_timeout": "300ms"})
        self.server.ctl("config", "reload")
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(listener.close)
        waiting = []  # connections that nobody accepts, until the system drops the next ones
        while True:
            waiting.append(socket.socket())
            self.addCleanup(waiting[-1].close)
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
            if not select.select([], [waiting[-1]], [], 0.2)[1]:
                break
        self.server.ctl("device", "add", "printer", "--uri",
                        f"socket://127.0.0.1:{listener.getsockname()[1]}")
        job = self.held(b"content")
        self.release(self.server, job)
        self.server.wait_log("jobs.delivery-failed", job="held", status="timeout")
        self.assertFalse(self.wait_state(job, "pending-held")["uncertain"])

    def test_a_device_that_accepts_and_closes_is_busy(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def close_each():
            try:
                while True:
                    listener.accept()[0].close()
            except OSError:
                pass

        threading.Thread(target=close_each, daemon=True).start()
        self.server.ctl("device", "add", "printer", "--uri",
                        f"socket://127.0.0.1:{listener.getsockname()[1]}")
        job = self.held(b"content")
        self.release(self.server, job)
        self.server.wait_log("jobs.delivery-failed", job="held", status="busy")
        self.assertFalse(self.wait_state(job, "pending-held")["uncertain"])


@tsan
class Trouble(Transport):
    settings = {**Transport.settings, "close_wait": "200ms"}

    def test_a_device_that_closes_in_the_middle_leaves_the_job_uncertain(self):
        sink = self.device(self.server, "printer", self.sink(receive_limit=100000))
        job = self.held(os.urandom(8 * 1024 * 1024))
        self.release(self.server, job)
        self.server.wait_log("jobs.delivery-failed", job="delivery-uncertain")
        shown = self.wait_state(job, "pending-held")
        self.assertTrue(shown["uncertain"])
        self.assertEqual(shown["reasons"], "job-held-for-review")
        self.assertEqual(sink.connections(), 1)

    def test_a_slow_device_gets_everything(self):
        sink = self.device(self.server, "printer", self.sink(is_paused=True))
        content = os.urandom(24 * 1024 * 1024)
        job = self.held(content)
        self.release(self.server, job)
        # The system's buffers hold less than this, so the device stalls.
        self.assertEqual(self.wait_state(job, "processing-stopped")["reasons"], "printer-stopped")
        sink.resume()
        self.assertEqual(sink.wait_documents(1, 30)[0], content)
        self.wait_state(job, "completed")

    def given_up(self, setting, uri, size):
        """A device that takes nothing more is given up in time, and the job is in doubt."""
        self.server.set_module("transport-socket", {**self.settings, setting: "1s"})
        self.server.ctl("config", "reload")
        self.server.ctl("device", "add", "printer", "--uri", uri)
        job = self.held(os.urandom(size))
        self.release(self.server, job)
        self.server.wait_log("jobs.delivery-failed", job="delivery-uncertain", status="timeout")
        self.assertTrue(self.wait_state(job, "pending-held")["uncertain"])

    def test_a_device_that_takes_nothing_more_is_given_up(self):
        self.given_up("write_timeout", self.sink(is_paused=True).uri, 24 * 1024 * 1024)

    def test_a_device_that_does_not_take_the_rest_is_given_up(self):
        """All is handed over, and waits in our host's buffers."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.given_up("drain_timeout", f"socket://127.0.0.1:{listener.getsockname()[1]}", 30000)

    def test_a_job_that_is_canceled_while_the_device_stalls_ends(self):
        self.device(self.server, "printer", self.sink(is_paused=True))
        job = self.held(os.urandom(24 * 1024 * 1024))
        self.release(self.server, job)
        self.wait_state(job, "processing-stopped")
        self.server.ctl("job", "cancel", str(job))
        self.wait_state(job, "canceled")

    def test_what_the_device_says_back_is_dropped(self):
        sink = self.device(self.server, "printer", self.sink(reply=b"@PJL USTATUS\r\n" * 20000))
        content = os.urandom(200000)
        self.assertEqual(self.printed(self.server, self.held(content), sink), content)


class Slow(PrintTest):
    LEASE = 10  # the shortest that jobs takes

    def test_a_slow_device_outlasts_the_lease(self):
        server = self.print_server(modules={"jobs": {"lease": f"{self.LEASE}s"}})
        content = os.urandom(60000)
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(20)
        server.ctl("device", "add", "printer", "--uri",
                   f"socket://127.0.0.1:{listener.getsockname()[1]}")
        submit(server.port("lpr", "lpd"), content, "hold")
        self.release(server, self.only_job(server)["job-id"])
        device, _ = listener.accept()
        self.addCleanup(device.close)
        device.settimeout(20)
        # All is handed over at once and waits in our host's buffers. The silence is noticed a quarter of
        # the lease late.
        slow_until, taken = time.monotonic() + 1.4 * self.LEASE, b""
        while piece := device.recv(1500):
            taken += piece
            if time.monotonic() < slow_until:
                time.sleep(0.4)  # the device's own slowness
        self.assertGreater(time.monotonic(), slow_until)
        self.assertEqual(taken, content)
        self.assertFalse(server.log.find("jobs.lease-over"))


class Restart(Transport):
    settings = {**Transport.settings, "connect_settle": "500ms"}

    def test_a_crash_after_the_first_byte_never_prints_twice(self):
        sink = self.device(self.server, "printer", self.sink(is_paused=True))
        job = self.held(os.urandom(24 * 1024 * 1024))
        self.release(self.server, job)
        self.wait_state(job, "processing-stopped")
        self.server.kill9()
        self.server.wait_ready(2)
        found = self.wait_state(job, "pending-held")
        self.assertTrue(found["uncertain"])
        self.assertEqual(found["reasons"], "job-held-for-review")
        self.server.wait_log("jobs.recovered", uncertain="1", resumed="0")
        self.assertEqual(sink.connections(), 1)

    def test_a_crash_before_the_first_byte_goes_on_by_itself(self):
        sink = self.device(self.server)
        content = os.urandom(100000)
        job = self.held(content)
        self.release(self.server, job)
        sink.wait_connections(1)
        self.server.kill9()
        self.server.wait_ready(2)
        self.assertEqual(sink.wait_documents(2), [b"", content])
        self.wait_state(job, "completed")


@tsan
class Silent(Transport):
    settings = {**Transport.settings, "close_wait": "200ms"}

    def setUp(self):
        super().setUp()
        self.printer = SilentSink()
        self.addCleanup(self.printer.close)
        self.server.ctl("device", "add", "printer", "--uri", self.printer.uri)

    def test_the_second_job_of_a_hold_queue_does_not_wait(self):
        contents = [os.urandom(10240), os.urandom(10240)]
        jobs = [self.held(content, number=i + 1) for i, content in enumerate(contents)]
        for job in jobs:
            self.release(self.server, job)
        self.assertEqual(self.printer.wait(2), contents)
        for job in jobs:
            self.wait_state(job, "completed")

    def test_the_second_job_of_a_direct_queue_does_not_wait(self):
        self.direct()
        contents = [os.urandom(10240), os.urandom(10240)]
        for i, content in enumerate(contents):
            submit(self.port, content, "direct", number=i + 1)
        self.assertEqual(self.printer.wait(2), contents)


class Settings(PrintTest):
    def test_a_stall_is_noticed_before_it_is_given_up(self):
        server = self.print_server(start=False, modules={
            "transport-socket": {"stall_notice": "10s", "write_timeout": "5s"}})
        status, output = server.check()
        self.assertNotEqual(status, 0)
        self.assertIn("stall_notice", output)
