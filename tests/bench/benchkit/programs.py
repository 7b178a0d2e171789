# SPDX-License-Identifier: Apache-2.0
"""The C programs of tests/bench as objects."""
import mmap
import os
import select
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline


@dataclass(frozen=True)
class LoadResult:
    """What lprbench printed."""
    jobs: int  # acknowledged
    seconds: float
    jobs_per_s: float
    mb_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


class LoadFailed(AssertionError):
    """lprbench gave up: nothing moved for two minutes."""


class Load:
    """One run of lprbench; it has begun when this is made. `is_together`: no document ends before all
    are nearly there."""

    def __init__(self, bench, port, queue, clients, jobs, size, is_together=False):
        words = ["--together"] if is_together else []
        self.wanted = jobs
        self.process = subprocess.Popen(
            [str(bench.program("lprbench")), *words, "127.0.0.1", str(port), queue, str(clients),
             str(jobs), str(size)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def is_running(self):
        return self.process.poll() is None

    def finish(self):
        try:
            out, err = self.process.communicate()
        except BaseException:  # told to end: so is the generator
            self.close()
            raise
        words = out.decode().split()
        if len(words) != 7:
            raise LoadFailed(err.decode().strip() or f"lprbench: status {self.process.returncode}")
        result = LoadResult(int(words[0]), *(float(word) for word in words[1:6]), int(words[6]))
        assert result.jobs + result.failed == self.wanted, (result, self.wanted)
        return result

    def close(self):
        if self.is_running():
            self.process.kill()
        self.process.communicate()


@dataclass(frozen=True)
class SinkCount:
    documents: int
    distinct: int
    bytes: int
    seconds: float


class Sink:
    """sinkbench: a printer that takes everything. It begins held."""

    def __init__(self, bench):
        self.process = subprocess.Popen([str(bench.program("sinkbench"))], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self._text = b""
        self.port = int(self._answer(10, "sinkbench to listen").split()[1])
        self.uri = f"socket://127.0.0.1:{self.port}"

    def _order(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def _answer(self, seconds, what):
        deadline = Deadline(seconds, what)
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._text:
            if select.select([descriptor], [], [], deadline.remaining())[0]:
                piece = os.read(descriptor, 4096)
                assert piece, f"{what}: sinkbench ended"
                self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def _count(self, seconds, what):
        words = self._answer(seconds, what).split()
        return SinkCount(int(words[0]), int(words[1]), int(words[2]), float(words[3]))

    def hold(self):
        """Takes connections but reads nothing, and counts from zero."""
        self._order("hold")
        self.count()  # it has obeyed

    def go(self):
        self._order("go")

    def count(self):
        self._order("count")
        return self._count(10, "the count of the sink")

    def until(self, documents, seconds):
        self._order(f"until {documents}")
        return self._count(seconds, f"{documents} documents at the sink")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class SyncShim:
    """sync-shim.so for an Instance: its environment, and what it has counted."""

    COUNTS = struct.Struct("<QQ")

    def __init__(self, bench, folder, least_ms=0):
        self.library = bench.build.stage() / "lib/sync-shim.so"
        if not self.library.exists():
            self.library.write_bytes((bench.build.folder / "tests/bench/.libs/sync-shim.so")
                                     .read_bytes())
            os.chmod(self.library, 0o755)
        path = Path(folder) / "sync-counts"
        path.write_bytes(bytes(self.COUNTS.size))
        os.chmod(path, 0o666)
        with open(path, "r+b") as file:
            self._counts = mmap.mmap(file.fileno(), self.COUNTS.size)
        self.environment = {"LD_PRELOAD": str(self.library), "IMPRIMATUR_SYNC_COUNTS": str(path),
                            "IMPRIMATUR_SYNC_MS": str(least_ms)}

    def counts(self):
        """(sync calls, writes that are synced by themselves) so far."""
        return self.COUNTS.unpack_from(self._counts)
