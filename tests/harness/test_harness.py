# SPDX-License-Identifier: Apache-2.0
"""The harness itself, on a stand-in for imprimd: a test that can't fail would test nothing."""
import base64
import os
import shutil
import signal
import socket
import tempfile
import unittest
from pathlib import Path

from harness import privacy, runner
from harness import Instance, StartFailed, Strace, TcpSink, conf, find_in_files
from harness.build import Build
from harness.deadline import DeadlineExceeded
from harness.log import LogLine
from harness.tracing import Call

STAND_IN = """#!/usr/bin/python3
import os, signal, socket, sys, time
def log(event): print("2026-01-01T00:00:00.000000Z info core", event, flush=True)
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
mode = os.environ.get("STAND_IN", "")
if len(sys.argv) > 1 and sys.argv[1] == "server":
    log("core.server pid=%d" % os.getpid())
    say("READY=1\\nSTATUS=serving")
    signal.pause()
if mode == "refuses":
    log('core.refused reason="no \\\\"key\\\\""')
    sys.exit(3)
def serve():
    global pid
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    pid = os.fork()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    if pid == 0:
        os.execv("/usr/bin/python3", ["python3", sys.argv[0], "server"])
def end(*_):
    if mode != "leaves":
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if mode == "reports":
        print("==7==ERROR: AddressSanitizer: heap-use-after-free", flush=True)
    if mode == "leaks":
        open(os.environ["ASAN_OPTIONS"].split("log_path=")[1].split(":")[0] + ".1", "w").write("leak")
    os._exit(1 if mode == "fails" else 0)
signal.signal(signal.SIGTERM, end)
serve()
while True:
    os.waitpid(pid, 0)
    serve()
"""


class StandInTest(unittest.TestCase):
    def setUp(self):
        folder = Path(tempfile.mkdtemp(prefix="imprimatur-stand-in-"))
        self.addCleanup(lambda: remove(folder))
        (folder / "imprimd").write_text(STAND_IN)
        os.chmod(folder / "imprimd", 0o755)
        self.build = Build(folder)
        self.addCleanup(self.build.unstage)

    def instance(self, mode=""):
        instance = Instance(self.build, environment={"STAND_IN": mode})
        self.addCleanup(instance.close)
        return instance

    def test_an_instance_starts_and_stops(self):
        instance = self.instance().start()
        self.assertIn("STATUS=serving", instance.notify.messages)
        instance.stop()
        self.assertEqual(instance.status, 0)

    def test_a_refusal_to_start_is_reported_with_the_log(self):
        with self.assertRaises(StartFailed) as caught:
            self.instance("refuses").start()
        self.assertEqual(caught.exception.status, 3)
        self.assertIn("core.refused", caught.exception.log)

    def test_kill9_ends_the_server_process_only(self):
        instance = self.instance().start()
        first = instance.kill9()
        instance.wait_ready(2)
        self.assertNotEqual(instance.server_pid(), first)
        line = instance.log.wait("core.server", count=2)
        self.assertEqual(line.fields["pid"], str(instance.server_pid()))
        instance.stop()

    def test_a_wrong_exit_status_fails(self):
        instance = self.instance("fails").start()
        with self.assertRaisesRegex(AssertionError, "exit status 1"):
            instance.stop()

    def test_a_sanitizer_report_fails(self):
        instance = self.instance("leaks").start()
        with self.assertRaisesRegex(AssertionError, "sanitizer report"):
            instance.stop()

    def test_a_sanitizer_report_in_the_log_fails(self):
        instance = self.instance("reports").start()
        with self.assertRaisesRegex(AssertionError, "sanitizer report"):
            instance.stop()

    def test_a_process_left_behind_holds_up_the_end(self):
        instance = self.instance("leaves").start()
        server = instance.server_pid()
        os.environ["IMP_TEST_SLOWNESS"], before = "0.02", os.environ["IMP_TEST_SLOWNESS"]
        try:
            with self.assertRaises(DeadlineExceeded):
                instance.stop()
        finally:
            os.environ["IMP_TEST_SLOWNESS"] = before
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)  # ours since its parent ended

    def test_a_log_event_that_does_not_come_fails_in_time(self):
        instance = self.instance().start()
        with self.assertRaises(DeadlineExceeded):
            instance.log.wait("core.never", seconds=0.05)
        instance.stop()

    @unittest.skipUnless(Strace.is_there(), "not installed: strace")
    def test_strace_shows_the_calls_of_the_server(self):
        instance = Instance(self.build, strace="sendto,execve")
        self.addCleanup(instance.close)
        instance.start()
        instance.stop()
        sent = instance.trace.calls("sendto")
        self.assertTrue(any("READY=1" in call.arguments for call in sent), sent)


class PartsTest(unittest.TestCase):
    def test_settings_are_written_as_libconfig(self):
        text = conf.settings({"a": 1, "b": True, "c": 'x"y', "d": ["1.0.0.0/8"],
                              "e": [{"name": "lpd"}], "f": {"g": 2**40}})
        self.assertIn('a = 1;\nb = true;\nc = "x\\"y";\nd = [ "1.0.0.0/8" ];\n', text)
        self.assertIn('e = ( {\n        name = "lpd";\n    } );', text)
        self.assertIn("g = 1099511627776L;", text)

    def test_a_name_defined_twice_is_refused(self):
        folder = tempfile.mkdtemp(prefix="imprimatur-twice-")
        self.addCleanup(lambda: remove(folder))
        path = Path(folder) / "test_names.py"
        once = "class A:\n    def test_it(self):\n        pass\n\n\n"
        for text, is_fine in (
                (once + once, False),
                (once + once.replace("A:", "B:"), True),
                (once + "    def test_it(self):\n        pass\n", False),
                ("def test_it():\n    pass\n\n\n" * 2, False),
                ("class A:\n    @property\n    def it(self):\n        pass\n\n"
                 "    @it.setter\n    def it(self, value):\n        pass\n", True)):
            path.write_text(text)
            with self.subTest(text=text):
                if is_fine:
                    runner.load(path)
                else:
                    with self.assertRaisesRegex(ImportError, "defined twice"):
                        runner.load(path)

    def test_a_log_line_is_taken_apart(self):
        line = LogLine('2026-11-22T12:34:56.789012Z warning lpr lpr.refused source=7f0c '
                       'reason="too \\"many\\""')
        self.assertEqual((line.level, line.source, line.event), ("warning", "lpr", "lpr.refused"))
        self.assertEqual(line.fields, {"source": "7f0c", "reason": 'too "many"'})
        self.assertIsNone(LogLine("Segmentation fault").event)

    def test_a_sink_keeps_what_each_connection_sent(self):
        with TcpSink() as sink:
            for data in (b"first", b"second" * 100000):
                with socket.create_connection(("127.0.0.1", sink.port)) as client:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1)
            self.assertEqual(sink.wait_documents(2), [b"first", b"second" * 100000])

    def test_a_paused_sink_reads_nothing(self):
        with TcpSink(is_paused=True) as sink:
            with socket.create_connection(("127.0.0.1", sink.port)) as client:
                client.setblocking(False)
                sent = 0
                with self.assertRaises(BlockingIOError):
                    while True:
                        sent += client.send(b"x" * 65536)
                self.assertEqual(sink.bytes_received(), 0)
                sink.resume()
                sink.wait_bytes(sent)

    def test_needles_are_found_in_files(self):
        folder = tempfile.mkdtemp(prefix="imprimatur-needle-")
        self.addCleanup(lambda: remove(folder))
        (Path(folder) / "a").write_bytes(b"\0" * 5000 + b"secret title")
        self.assertEqual(find_in_files(folder, [b"secret", b"other"]),
                         [(os.path.join(folder, "a"), b"secret")])

    def test_private_text_is_found_in_every_form(self):
        folder = tempfile.mkdtemp(prefix="imprimatur-needle-")
        self.addCleanup(lambda: remove(folder))
        text = "Gehälter für Jürgen"
        search = privacy.Search([text, b"\x00\xffdocument"])
        self.assertEqual(search.folder(folder), [])
        for data in (text.encode(), text.encode("latin-1"), text.encode("utf-16-le")):
            for shown in (data, data.hex().encode(), data.hex().upper().encode(),
                          *(base64.b64encode(b"x" * shift + data + b"yz") for shift in range(3))):
                # Before, in the middle of and behind a border between two pieces.
                for at in (0, privacy.PIECE - 3, 2 * privacy.PIECE - len(shown) + 1):
                    path = Path(folder) / "file"
                    path.write_bytes(b"\0" * at + shown + b"\0" * privacy.PIECE)
                    self.assertNotEqual(search.folder(folder), [], (shown, at))
        path.write_bytes(b"\0" * 100 + b"\x00\xffdocument")
        self.assertEqual(len(search.folder(folder)), 1)
        path.unlink()
        (Path(folder) / f"of {text}").touch()
        self.assertEqual(len(search.folder(folder)), 1)
        with self.assertRaises(AssertionError):
            privacy.Search(["anna"])

    def test_interrupted_calls_of_a_trace_are_joined(self):
        folder = tempfile.mkdtemp(prefix="imprimatur-trace-")
        self.addCleanup(lambda: remove(folder))
        path = Path(folder) / "trace"
        path.write_text("7 1.5 fdatasync(9</x> <unfinished ...>\n"
                        "8 1.6 write(4<TCP:[a->b]>, \"\\0\", 1) = 1\n"
                        "7 1.7 <... fdatasync resumed>) = 0\n")
        calls = Strace(path).calls()
        self.assertIsInstance(calls[0], Call)
        self.assertEqual([(call.name, call.pid, call.end, call.result) for call in calls],
                         [("write", 8, 1.6, "1"), ("fdatasync", 7, 1.7, "0")])
        self.assertEqual(calls[1].arguments, "9</x>")


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
