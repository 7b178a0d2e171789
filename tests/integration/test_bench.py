# SPDX-License-Identifier: Apache-2.0
"""The tools of tests/bench count what happened: a wrong count would pass for a fast server."""
import os
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from types import SimpleNamespace

from harness.build import SOURCE_DIR
from harness.case import current_build
from harness.tracing import Call

sys.path.insert(0, str(SOURCE_DIR / "tests/bench"))

from benchkit import syncs  # noqa: E402 (the path is set above)
from benchkit.programs import Load, LoadFailed, Sink, SyncShim  # noqa: E402

DIGITS = 20  # of the number at the head of lprbench's documents


class Tools:
    """What the objects of benchkit ask a bench for."""

    def __init__(self, stage=None):
        self.build = SimpleNamespace(folder=current_build().folder, stage=lambda: stage)

    def program(self, name):
        return self.build.folder / "tests/bench" / name


class LpdHandler(socketserver.StreamRequestHandler):
    """Takes jobs by the book; says no to the data of those that the server is told to refuse."""

    def handle(self):
        self.rfile.readline()  # receive job
        self._say(b"\0")
        while line := self.rfile.readline():
            self._say(b"\0")
            length = int(line[1:].split()[0]) + 1
            content = self.server.read_begin(self.rfile, line, length)
            content += self.rfile.read(length - len(content))
            if line[0] == 3 and self.server.refuses(int(content[:DIGITS])):
                self._say(b"\1")
                return
            if line[0] == 3:
                self.server.take(content[:-1])
            self._say(b"\0")

    def _say(self, octet):
        self.wfile.write(octet)


class LpdServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64

    def __init__(self, refused=()):
        super().__init__(("127.0.0.1", 0), LpdHandler)
        self.refused, self.documents, self.lock = refused, [], threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def read_begin(self, _file, _line, _length):
        """Where a test wants to know how far a document is: its begin."""
        return b""

    def refuses(self, number):
        return number in self.refused

    def take(self, content):
        with self.lock:
            self.documents.append(content)


class GatedServer(LpdServer):
    """Reads nothing of its first document before all others have come up to what lprbench holds back;
    notes how many were whole then."""

    HELD_BACK = 256 << 10  # at most

    def __init__(self, clients):
        self.others, self.is_first = clients - 1, True
        self.gate = threading.Event()
        self.whole_at_gate = None
        super().__init__()

    def read_begin(self, file, line, length):
        if line[0] != 3:
            return b""
        with self.lock:
            is_first, self.is_first = self.is_first, False
        if is_first:
            self.gate.wait(30)
            return b""
        content = file.read(length - 1 - self.HELD_BACK)
        with self.lock:
            self.others -= 1
            if self.others == 0:
                self.whole_at_gate = len(self.documents)
                self.gate.set()
        return content


class LprbenchTest(unittest.TestCase):
    def lpd(self, **arguments):
        server = LpdServer(**arguments)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def test_every_job_is_another_document_of_the_asked_size(self):
        server = self.lpd()
        result = Load(Tools(), server.port, "hold", 4, 30, 5000).finish()
        self.assertEqual((result.jobs, result.failed), (30, 0))
        self.assertEqual({len(content) for content in server.documents}, {5000})
        self.assertEqual({int(content[:DIGITS]) for content in server.documents}, set(range(30)))

    def test_a_job_that_is_refused_counts_as_failed(self):
        result = Load(Tools(), self.lpd(refused=(3, 7)).port, "hold", 4, 20, 5000).finish()
        self.assertEqual((result.jobs, result.failed), (18, 2))

    def test_a_server_that_is_not_there_acknowledges_nothing(self):
        server = self.lpd()
        port = server.port
        server.shutdown()
        server.server_close()
        result = Load(Tools(), port, "hold", 2, 5, 100).finish()
        self.assertEqual((result.jobs, result.failed), (0, 5))

    def test_together_has_all_documents_open_at_once(self):
        server = GatedServer(8)  # 12 MiB do not fit into what lies between two sockets
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        result = Load(Tools(), server.port, "hold", 8, 8, 12 << 20, is_together=True).finish()
        self.assertEqual((result.jobs, result.failed), (8, 0))
        self.assertEqual(server.whole_at_gate, 0)

    def test_together_ends_all_documents_and_goes_on_with_more_jobs_than_clients(self):
        server = self.lpd()
        result = Load(Tools(), server.port, "hold", 8, 20, 3 << 20, is_together=True).finish()
        self.assertEqual((result.jobs, result.failed), (20, 0))
        self.assertEqual({len(content) for content in server.documents}, {3 << 20})

    def test_together_does_not_wait_for_a_client_that_was_refused(self):
        server = self.lpd(refused=(0,))
        result = Load(Tools(), server.port, "hold", 3, 3, 100, is_together=True).finish()
        self.assertEqual((result.jobs, result.failed), (2, 1))

    def test_a_generator_that_ends_without_figures_is_a_failure(self):
        with self.assertRaises(LoadFailed):
            Load(Tools(), 1, "hold", 2000, 5, 100).finish()  # more clients than it can have


class SinkTest(unittest.TestCase):
    def setUp(self):
        self.sink = Sink(Tools())
        self.addCleanup(self.sink.close)

    def send(self, content):
        connection = socket.create_connection(("127.0.0.1", self.sink.port), 10)
        self.addCleanup(connection.close)
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return connection

    def test_documents_that_came_twice_are_told_from_different_ones(self):
        self.sink.go()
        for number in (1, 2, 2):
            self.assertEqual(self.send(b"%020d and more" % number).recv(1), b"")
        self.send(b"no number at all").recv(1)
        count = self.sink.until(4, 10)
        self.assertEqual((count.documents, count.distinct, count.bytes), (4, 2, 3 * 29 + 16))

    def test_a_held_sink_counts_nothing_until_it_goes(self):
        self.sink.hold()
        connection = self.send(b"%020d" % 5)
        self.assertEqual(self.sink.count().documents, 0)
        self.sink.go()
        self.assertEqual(self.sink.until(1, 10).distinct, 1)
        self.assertEqual(connection.recv(1), b"")
        self.sink.hold()
        self.assertEqual(self.sink.count().documents, 0)


@unittest.skipIf(current_build().sanitizer, "a sanitizer's library wants to be the first preloaded")
class SyncShimTest(unittest.TestCase):
    PROGRAM = """
import os, sys
plain = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
durable = os.open(sys.argv[1], os.O_RDWR | os.O_DSYNC)
for _ in range(3):
    os.pwrite(plain, b"x", 0)
    os.pwrite(durable, b"x", 0)
    os.pwritev(durable, [b"x"], 0)
for _ in range(2):
    os.fdatasync(plain)
    os.fsync(plain)
"""

    def run_with(self, least_ms):
        """(what it counted, seconds)"""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "lib").mkdir()
            shim = SyncShim(Tools(Path(folder)), folder, least_ms)
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", self.PROGRAM, f"{folder}/file"], check=True,
                           env={**os.environ, **shim.environment})
            return shim.counts(), time.monotonic() - began

    def test_syncs_and_writes_that_sync_themselves_are_counted_apart(self):
        self.assertEqual(self.run_with(0)[0], (4, 6))

    def test_each_takes_its_least_time(self):
        counts, seconds = self.run_with(50)
        self.assertEqual(counts, (4, 6))
        self.assertGreaterEqual(seconds, 10 * 0.05)


class CountCallsTest(unittest.TestCase):
    @staticmethod
    def call(name, arguments, result="0"):
        return Call(1, 0.0, 0.0, name, arguments, result)

    def test_a_write_counts_as_synced_only_where_its_descriptor_is(self):
        calls = [self.call("openat", 'AT_FDCWD</>, "/s/d", O_RDWR|O_CREAT, 0600', "7</s/d>"),
                 self.call("openat", 'AT_FDCWD</>, "/s/d", O_WRONLY|O_DSYNC|O_CLOEXEC', "8</s/d>"),
                 self.call("pwrite64", '7</s/d>, "x"..., 4096, 0', "4096"),
                 self.call("pwrite64", '8</s/d>, "x"..., 64, 0', "64"),
                 self.call("pwritev2", '7</s/d>, [{iov_base="x"}], 1, 0, RWF_DSYNC', "1"),
                 self.call("fdatasync", "7</s/d>"),
                 self.call("fdatasync", "7</s/d>", "-1")]
        self.assertEqual(syncs.count_calls(calls), (1, 2))

    def test_a_descriptor_that_is_opened_anew_is_what_it_is_now(self):
        calls = [self.call("openat", '0</>, "d", O_WRONLY|O_SYNC', "8</s/d>"),
                 self.call("openat", '0</>, "d", O_WRONLY', "8</s/d>"),
                 self.call("pwrite64", '8</s/d>, "x", 1, 0', "1")]
        self.assertEqual(syncs.count_calls(calls), (0, 0))
