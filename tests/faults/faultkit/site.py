# SPDX-License-Identifier: Apache-2.0
"""The server that a fault test is made on."""
import os
import subprocess
import threading
from pathlib import Path

from harness import processes
from harness.deadline import Deadline, DeadlineExceeded
from harness.instance import Instance
from harness.net import TcpSink

CHEAP_HASH = {"hash_memory": "64KiB", "hash_passes": 1, "failure_delay": "10ms"}


class Job:
    """A job as job-check read it from the state folder."""

    def __init__(self, line):
        _, number, self.situation, size, self.digest, keys, self.title = line.split(" ")
        self.number, self.size = int(number), int(size)
        self.keys = [] if keys == "-" else keys.split(",")

    def __repr__(self):
        return f"<job {self.number} {self.situation} {self.digest[:16]}>"


class Site:
    """A server with queue `hold` and, where transport-socket is built, queue `direct` to a printer."""

    def __init__(self, build, core=None, jobs=None, **instance):
        self.build = build
        self.has_delivery = "transport-socket" in build.modules()
        modules = {
            "audit": {}, "devices": {}, "accounts": dict(CHEAP_HASH),
            "jobs": {"evidence_timeout": "0s", "retry_first": "50ms", "retry_longest": "1s",
                     **(jobs or {})},
            "lpr": {"listen": [Instance.listener("lpd")]},
        }
        if self.has_delivery:
            modules["transport-socket"] = {}
        self.instance = Instance(build, modules=modules,
                                 core={"restart_delay_max": "100ms", **(core or {})}, **instance)
        self.printer = None

    @property
    def port(self):
        return self.instance.port("lpr", "lpd")

    def furnish(self):
        """Queues and a printer, in a server that runs."""
        self.instance.ctl("queue", "add", "hold")
        if self.has_delivery:
            self.printer = TcpSink(backlog=128)
            self.instance.ctl("device", "add", "printer", "--uri", self.printer.uri)
            self.instance.ctl("queue", "add", "direct", "--release", "direct", "--device", "printer")
        return self

    def queues(self):
        return ("hold", "direct") if self.has_delivery else ("hold",)

    def wait_answers(self, seconds=60):
        """Until the server answers on its control socket; it may just be starting again."""
        deadline = Deadline(seconds, "an answer on the control socket")
        while self.instance.ctl_run("status")[0] != 0:
            deadline.pause()

    def jobs_in(self, queue, page=10000):
        """All jobs of a queue; a list shows so many at most."""
        jobs, after = [], ()
        while True:
            more = self.instance.ctl("job", "list", "--queue", queue, "--limit", str(page),
                                     *after) or []
            jobs += more
            if len(more) < page:
                return jobs
            after = ("--after", str(more[-1]["job-id"]))

    def wait_drained(self, seconds=60):
        """Until nothing waits on the direct queue but what a person must decide; in `seconds` at least
        one job must have left it."""
        self.wait_answers()
        deadline, least = Deadline(seconds, "a job to leave the direct queue"), None
        while self.has_delivery:
            waiting = [job for job in self.jobs_in("direct") if not job["uncertain"]]
            if not waiting:
                return
            if least is None or len(waiting) < least:
                least = len(waiting)
                deadline = Deadline(seconds, "a job to leave the direct queue")
            try:
                deadline.pause()
            except DeadlineExceeded as late:
                shown = [self.instance.ctl_run("job", "show", job["id"])[1] for job in waiting[:3]]
                bad = [line for line in self.instance.log.text().splitlines() if " jobs." in line]
                raise AssertionError("\n".join([str(late), *shown, *bad[-40:]])) from late

    def printed(self):
        """title -> what the printer received of it, whole or not."""
        found = {}
        if self.printer is not None:
            with self.printer._changed:
                documents = [bytes(data) for data, _ in self.printer._documents]
            for document in documents:
                if document:
                    title = document.split(b"\n", 1)[0].decode("utf-8", "replace")
                    found.setdefault(title, []).append(document)
        return found

    def server_pid(self):
        """The server's process; None while there is none."""
        try:
            return self.instance.server_pid()
        except AssertionError:
            return None

    def wait_server(self, but_not, seconds=30):
        """The pid of a server process that is another one than `but_not`."""
        deadline = Deadline(seconds, "a new server process")
        while (pid := self.server_pid()) in (None, but_not):
            deadline.remaining()
            threading.Event().wait(0.001)
        return pid

    def check(self, state=None):
        """All jobs of a state folder that no server runs on."""
        return [Job(line) for line in self._job_check(state).splitlines()]

    def keys(self, keys, state=None):
        """key -> destroyed | readable | damaged"""
        text = self._job_check(state, "--keys", text="".join(f"{key}\n" for key in keys))
        return dict(line.split(" ")[1:] for line in text.splitlines())

    def _job_check(self, state, *options, text=""):
        program = self.build.folder / "tests/faults/job-check"
        master = self.instance.keys / "master.key"
        done = subprocess.run([str(program), str(state or self.instance.state), str(master), *options],
                              input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              cwd="/")
        if done.returncode != 0:
            raise AssertionError(f"job-check: {done.stderr.decode('utf-8', 'replace')}")
        return done.stdout.decode("utf-8", "replace")

    def close(self):
        if self.printer is not None:
            self.printer.close()
        self.instance.close()


def below_tests():
    """Lets a program in tests/faults import the harness."""
    return str(Path(__file__).resolve().parents[2])


def use_processes():
    processes.become_subreaper()
    os.environ.setdefault("IMP_TEST_SLOWNESS", "1")
