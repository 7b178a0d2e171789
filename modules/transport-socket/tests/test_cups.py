# SPDX-License-Identifier: Apache-2.0
"""CUPS's own backends with two jobs in a row: the second never waits, whatever the printer does."""
import os

from harness import peers
from harness.case import needs_root
from harness.silent import SilentSink
from harness.site import PrintTest


@needs_root
@peers.needs_peer("cups/usr/lib/cups/backend-available/socket")
class TwoInARow(PrintTest):
    def setUp(self):
        super().setUp()
        self.printer = SilentSink()
        self.addCleanup(self.printer.close)
        self.server = self.print_server(start=False, modules={
            "raw": {"listen": [self.listen("raw", queue="hold"),
                               self.listen("direct", queue="direct")]},
            "transport-socket": {"close_wait": "200ms"}})
        self.server.start()
        self.furnish(self.server)
        self.server.ctl("device", "add", "printer", "--uri", self.printer.uri)
        self.server.ctl("queue", "add", "direct", "--release", "direct", "--device", "printer",
                        "--owner-from-pjl", "yes")

    def print(self, uri):
        """Two jobs by CUPS's backend, each of which has to come back by itself."""
        contents = [b'@PJL SET USERNAME="anna"\r\n' + os.urandom(10240) for _ in range(2)]
        for i, content in enumerate(contents):
            path = self.server.folder / f"job-{i}"
            path.write_bytes(content)
            peers.cups_backend(uri.split(":")[0], uri, path, number=i + 1)
        return contents

    def assert_direct(self, uri):
        contents = self.print(uri)
        self.assertEqual(self.printer.wait(2), contents)

    def assert_held(self, uri):
        contents = self.print(uri)
        jobs = sorted(job["job-id"] for job in self.jobs(self.server))
        self.assertEqual(len(jobs), 2)
        self.assertEqual(self.printer.connections(), 0)
        return contents, jobs

    def lpd(self, queue):
        return f"lpd://127.0.0.1:{self.server.port('lpr', 'lpd')}/{queue}?reserve=none"

    def test_lpd_to_a_direct_queue(self):
        self.assert_direct(self.lpd("direct"))

    def test_socket_to_a_direct_queue(self):
        self.assert_direct(f"socket://127.0.0.1:{self.server.port('raw', 'direct')}")

    def test_lpd_to_a_hold_queue(self):
        contents, jobs = self.assert_held(self.lpd("hold"))
        for job in jobs:
            self.release(self.server, job)
        self.assertEqual(self.printer.wait(2), contents)

    def test_socket_to_a_hold_queue(self):
        self.assert_held(f"socket://127.0.0.1:{self.server.port('raw', 'raw')}")
