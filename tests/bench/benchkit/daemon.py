# SPDX-License-Identifier: Apache-2.0
"""A peer's daemon: a process and those below it, a folder, a log."""
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import processes
from harness.deadline import Deadline, DeadlineExceeded

from .programs import LoadFailed

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
    """Has a process namespace of its own: whatever it starts, in whatever session, ends with it."""

    NAMESPACE = ("unshare", "--pid", "--fork")

    def __init__(self, folder, name, command, environment=None):
        self.log = Path(folder) / f"{name}.log"
        self.name = name
        variables = {**os.environ, "LC_ALL": "C.UTF-8", "TMPDIR": str(folder),
                     "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.NAMESPACE, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd="/", start_new_session=True, env=variables)
        self.pid = self.process.pid

    def wait_port(self, port, seconds=20):
        deadline = Deadline(seconds, f"{self.name} to listen on port {port}")
        while True:
            if self.process.poll() is not None:
                text = self.log.read_text(errors="replace")
                raise PartyMissing(f"{self.name} ended: {text[-500:].strip()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                pass
            try:
                deadline.pause()
            except DeadlineExceeded as late:
                raise PartyMissing(str(late)) from late

    def is_running(self):
        return self.process.poll() is None

    def first_pids(self):
        """The daemon itself; [] when it has ended."""
        return processes.children(self.pid)

    def children(self):
        """What the daemon itself has started."""
        return [child for first in self.first_pids() for child in processes.children(first)]

    def close(self):
        """Ends it and all that it has started: the kernel does that when the first process of the
        namespace ends (--kill-child of unshare does not reach a daemon that changed its user)."""
        pids = processes.descendants(self.pid)
        processes.kill_all(self.first_pids())
        self.process.kill()
        self.process.wait()
        for pid in pids:
            processes.wait_gone(pid)


def finish_load(load):
    """What a peer reached; that it refuses some is its answer, that it takes none is no figure."""
    result = load.finish()
    if result.jobs == 0:
        raise LoadFailed("no job was acknowledged")
    return result


def wait_at_rest(what, left):
    """Until left() is 0; Stuck when it has stayed the same for long."""
    last, deadline = None, None
    while now := left():
        if now != last:
            last, deadline = now, Deadline(DRAIN_SECONDS, what)
        try:
            deadline.pause()
        except DeadlineExceeded as late:
            raise Stuck(f"{late}: {now} left") from late


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
