# SPDX-License-Identifier: Apache-2.0
"""CUPS prints job after job: its backends end when we have a job, whatever the printer does.

A backend that waits keeps its whole client queue waiting; so a job is taken when it is durable, not
when it is printed.
"""
import os
import unittest

from harness import peers
from harness.deadline import Deadline
from harness.site import PrintTest

LARGE = 8 << 20  # more than all socket buffers between us and a silent printer
FORMS = ("lpd", "socket")


def document(name, number):
    """A job of anna's for both ways in: PJL names her, as LPD's control file does."""
    head = ('\x1b%-12345X@PJL SET USERNAME="anna"\r\n'
            f'@PJL SET JOBNAME="{name} {number}"\r\n@PJL ENTER LANGUAGE=PCL\r\n')
    return head.encode() + os.urandom(LARGE)


@peers.needs_peer("cups/usr/lib/cups/backend-available/lpd")
class TwoInARow(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)
    deadline = 120

    def setUp(self):
        super().setUp()
        self.folder = peers.client_folder(self)
        self.server = self.print_server(core={"upgrade_deadline": "1s"}, modules={"raw": {"listen": [
            self.listen("hold", queue="hold"), self.listen("direct", queue="direct")]}})
        self.printer = self.sink(is_paused=True)
        self.device(self.server, "silent", self.printer)
        self.server.ctl("queue", "add", "direct", "--release", "direct", "--device", "silent")
        self.owner = self.server.ctl("user", "show", "anna")["user"]

    def uri(self, form, queue):
        if form == "lpd":
            return f"lpd://127.0.0.1:{self.server.port('lpr', 'lpd')}/{queue}"
        return f"socket://127.0.0.1:{self.server.port('raw', queue)}"

    def send(self, form, queue, content):
        path = self.folder / "document"
        path.write_bytes(content)
        peers.cups_backend(form, self.uri(form, queue), path, title="Quarterly report")

    def states(self, queue):
        return [(job["owner"], job["state"], job["bytes"])
                for job in self.jobs(self.server, "--queue", queue)]

    def test_on_a_hold_queue(self):
        for count, form in enumerate(FORMS):
            with self.subTest(backend=form):
                contents = [document(form, number) for number in (1, 2)]
                for content in contents:
                    self.send(form, "hold", content)
                self.assertEqual(self.states("hold")[2 * count:],
                                 [(self.owner, "pending-held", len(content)) for content in contents])

    def test_on_a_direct_queue_to_a_silent_printer(self):
        sent = []
        for form in FORMS:
            with self.subTest(backend=form):
                for number in (1, 2):
                    sent.append(document(form, number))
                    self.send(form, "direct", sent[-1])
                    # the printer has taken a connection, but nothing of what comes over it
                    self.printer.wait_connections(1)
                    self.assertEqual(self.printer.bytes_received(), 0)
                states = self.states("direct")
                self.assertEqual([(owner, size) for owner, _, size in states],
                                 [(self.owner, len(content)) for content in sent])
                self.assertEqual(states[0][1], "processing")
        self.printer.resume()
        self.assertEqual(self.printer.wait_documents(len(sent), 60), sent)
        deadline = Deadline(10, "all jobs to be finished")
        while self.jobs(self.server):
            deadline.pause()

    def test_on_a_hold_queue_while_one_is_released_at_a_silent_printer(self):
        for count, form in enumerate(FORMS):
            with self.subTest(backend=form):
                before = [job["job-id"] for job in self.jobs(self.server)]
                self.send(form, "hold", document(form, 1))
                if count == 0:
                    self.release(self.server, self.only_job(self.server)["job-id"], "silent")
                    self.printer.wait_connections(1)
                self.send(form, "hold", document(form, 2))
                self.assertEqual(len(self.jobs(self.server)), len(before) + 2)
                self.assertEqual(self.states("hold")[0][1], "processing")

    def test_a_silent_printer_does_not_keep_the_server_from_ending(self):
        """What it had begun is in doubt then, and said to be: it is never sent again by itself."""
        self.send("lpd", "hold", document("lpd", 1))
        self.release(self.server, self.only_job(self.server)["job-id"], "silent")
        self.printer.wait_connections(1)
        self.server.stop(10)
        self.printer.resume()
        self.server.start()
        job = self.only_job(self.server)
        self.assertEqual((job["state"], job["uncertain"]), ("pending-held", True))
        self.assertEqual(self.printer.connections(), 1)


if __name__ == "__main__":
    unittest.main()
