# SPDX-License-Identifier: Apache-2.0
"""A peer's daemon: a process and those below it, a folder, a log."""
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import processes
from harness.deadline import Deadline

DRAIN_SECONDS = 20  # without any progress


class PartyMissing(Exception):
    """A peer can't be measured here; the message says why."""


class Stuck(Exception):
    """A peer doesn't come to rest."""


def make_folder():
    folder = Path(tempfile.mkdtemp(prefix="imprimatur-peer-"))
    os.chmod(folder, 0o755)
    return folder


class Daemon:
    def __init__(self, folder, name, command, environment=None):
        self.log = Path(folder) / f"{name}.log"
        self.name = name
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd="/", env={**os.environ, "LC_ALL": "C.UTF-8", "TMPDIR": str(folder),
                              "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})})
        self.pid = self.process.pid

    def wait_port(self, port, seconds=20):
        deadline = Deadline(seconds, f"{self.name} to listen on port {port}")
        while True:
            if self.process.poll() is not None:
                raise PartyMissing(f"{self.name} ended: {self.log.read_text(errors='replace')[-500:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                deadline.pause()

    def close(self):
        """Ends it and all that it has started."""
        pids = processes.descendants(self.pid)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        processes.kill_all(pid for pid in pids if is_alive_below(pid))


def is_alive_below(pid):
    """A descendant that outlived its parent has init's or our own for a parent: never somebody else."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(text[text.rindex(")") + 2:].split()[1]) in (1, os.getpid())


def wait_at_rest(what, left):
    """Until left() is 0; Stuck when it has stayed the same for long."""
    last, deadline = None, None
    while now := left():
        if now != last:
            last, deadline = now, Deadline(DRAIN_SECONDS, what)
        try:
            deadline.pause()
        except AssertionError as late:
            raise Stuck(f"{late}: {now} left") from late


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
