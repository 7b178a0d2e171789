# SPDX-License-Identifier: Apache-2.0
"""Time from the start to readiness with many held jobs; all of them are there after each start."""
import statistics
import time

from . import machine
from .ours import Ours

CLIENTS, BYTES = 128, 1000


def run(bench):
    jobs = bench.options.held_jobs
    ours = Ours(bench)
    try:
        ours.load(CLIENTS, jobs, BYTES)
        ours.stop()
        times, others = [], []
        for _ in range(bench.options.starts):
            machine.settle()
            busy, own = machine.busy_seconds(), machine.own_seconds()
            began = time.monotonic()
            ours.start_again()
            times.append(time.monotonic() - began)
            busy = machine.busy_seconds() - busy - machine.tree_seconds(ours.root_pids())
            others.append(max(0.0, busy - (machine.own_seconds() - own)) / times[-1])
            ours.assert_held()
            ours.stop()
        bench.say(f"start held_jobs={jobs} seconds={statistics.median(times):.3f} "
                  f"low={min(times):.3f} high={max(times):.3f} starts={len(times)} "
                  f"other_cores={statistics.median(others):.2f}")
    finally:
        ours.close()
