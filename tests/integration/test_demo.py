# SPDX-License-Identifier: Apache-2.0
"""The demo: what a newcomer runs first must work, and say what it did."""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest
from pathlib import Path

from harness import processes
from harness.build import SOURCE_DIR
from harness.case import needs_programs
from harness.deadline import scale
from harness.lpd import submit
from harness.site import PrintTest

SECONDS = 90


@needs_programs("rlpr", "p910nd", "unshare")
class Demo(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)
    deadline = 2 * SECONDS

    def demo(self, *arguments):
        """The demo, started; it and what it started are gone at the end of the test at the latest."""
        process = subprocess.Popen(
            [sys.executable, str(SOURCE_DIR / "tests/demo/run"), "--build", str(self.build.folder),
             *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(lambda: processes.kill_all(
            [process.pid, *processes.descendants(process.pid)] if process.poll() is None else []))
        return process

    def test_it_shows_the_main_job_to_its_end(self):
        process = self.demo()
        output, _ = process.communicate(timeout=SECONDS * scale())
        self.assertEqual(process.returncode, 0, output)
        sent, printed = re.search(
            r"^sent (\d+) bytes, the printer received (\d+): byte-identical$", output,
            re.MULTILINE).groups()
        self.assertEqual(sent, printed)
        self.assertRegex(output, r"(?m)^searched [1-9]\d* files .*: none found$")
        self.assertRegex(output, r"job-held-for-release.*\n(?s:.*)\bcompleted\b")
        for action in ("user.add", "job.receive", "job.release", "delivery.end"):
            self.assertRegex(output, rf"(?m)^ +\d+ +\S+ +{re.escape(action)} +ok ")
        self.assertRegex(output, r"(?m)^ +trail +holds$")
        self.assertIn("Where to go next", output)

    def test_with_keep_it_names_its_addresses_and_stays_until_it_is_ended(self):
        process = self.demo("--keep")
        bell = threading.Timer(SECONDS * scale(), process.kill)
        bell.start()
        self.addCleanup(bell.cancel)
        output = []
        for line in process.stdout:
            output.append(line.rstrip("\n"))
            if output[-1] == "ready":
                break
        self.assertIn("ready", output)
        addresses = dict(line.split(" ", 2)[1:] for line in output if line.startswith("address "))
        self.assertRegex(addresses["lpr"], r"^lpd://127\.0\.0\.1:\d+/hold$")
        self.assertRegex(addresses["raw"], r"^socket://127\.0\.0\.1:\d+/hold$")
        control = [Path(line.split(" ", 1)[1]) for line in output if line.startswith("socket ")]
        self.assertEqual(len(control), 1, output)
        self.assertTrue(control[0].is_socket())
        self.assertLess(max(number for number, line in enumerate(output)
                            if line.startswith(("address ", "socket "))), output.index("ready"))

        submit(int(re.search(r":(\d+)/", addresses["lpr"]).group(1)), b"content")
        listed = subprocess.run(
            [str(self.build.stage() / "imprimctl"), "--socket", str(control[0]), "job", "list"],
            env={**os.environ, "LD_LIBRARY_PATH": str(self.build.stage() / "lib")},
            stdout=subprocess.PIPE, timeout=30 * scale(), check=True).stdout.decode()
        self.assertIn("pending-held", listed)

        started = processes.descendants(process.pid)
        self.assertTrue(started)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=SECONDS * scale())
        self.assertEqual(process.returncode, 0, rest)
        for pid in started:
            processes.wait_gone(pid)
        self.assertFalse(control[0].exists())
        with socket.socket() as probe:
            port = int(re.search(r":(\d+)/", addresses["raw"]).group(1))
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)


if __name__ == "__main__":
    unittest.main()
