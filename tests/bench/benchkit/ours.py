# SPDX-License-Identifier: Apache-2.0
"""Our server as a party: what it was sent and acknowledged is counted against what it holds."""
import tempfile
from pathlib import Path

from harness.instance import Instance

from . import machine
from .programs import Load, SyncShim


class Ours:
    """A server with the queue `hold`. `flush_ms`: each sync takes at least that; `counts_syncs`: by
    the shim, `strace`: by strace."""

    is_peer = False
    name = "ours"

    def __init__(self, bench, flush_ms=0, counts_syncs=False, strace=None):
        self.bench = bench
        self.queue = "hold"
        self.acknowledged = 0
        folder = Path(tempfile.mkdtemp(prefix="imprimatur-bench-"))
        self.shim = SyncShim(bench, folder, flush_ms) if flush_ms or counts_syncs else None
        modules = {"audit": {}, "devices": {}, "accounts": {}, "jobs": {"evidence_timeout": "0s"},
                   "lpr": {"listen": [Instance.listener("lpd")]}}
        if "transport-socket" in bench.build.modules():
            modules["transport-socket"] = {}
        self.instance = Instance(bench.build, modules=modules, folder=folder, strace=strace,
                                 environment=self.shim.environment if self.shim else None)
        try:
            self.instance.start(60)
            self.ctl("queue", "add", "hold")
        except BaseException:
            self.close()
            raise
        self.port = self.instance.port("lpr", "lpd")

    def ctl(self, *arguments):
        return self.instance.ctl(*arguments, seconds=120)

    @property
    def state(self):
        return self.instance.state

    def is_running(self):
        return self.instance.process is not None

    def root_pids(self):
        """The processes below which all others are."""
        return [self.instance.process.pid]

    def server_pid(self):
        """The process whose memory is held to a bound; supervisor and spawner are small."""
        return self.instance.server_pid()

    def add_printer(self, sink):
        """A queue `direct` to that sink."""
        self.ctl("device", "add", "printer", "--uri", sink.uri)
        self.ctl("queue", "add", "direct", "--release", "direct", "--device", "printer")

    def jobs_in(self, queue):
        return int(self.ctl("queue", "show", queue)["jobs"])

    def begin_load(self, clients, jobs, size, queue="hold", is_together=False):
        return Load(self.bench, self.port, queue, clients, jobs, size, is_together)

    def finish_load(self, load):
        """Every job acknowledged, and held where they are held."""
        result = load.finish()
        assert result.failed == 0, f"{result.failed} of {load.wanted} jobs were not acknowledged"
        return result

    def load(self, clients, jobs, size, queue="hold"):
        result = self.finish_load(self.begin_load(clients, jobs, size, queue))
        if queue == "hold":
            self.acknowledged += result.jobs
            self.assert_held()
        return result

    def assert_held(self):
        held = self.jobs_in("hold")
        assert held == self.acknowledged, f"{self.acknowledged} acknowledged, {held} held"

    def drain(self):
        machine.settle()

    def start_again(self):
        """Until it is ready."""
        self.instance.start(120)

    def stop(self):
        self.instance.stop(120)

    def close(self):
        self.instance.close()
