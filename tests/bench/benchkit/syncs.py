# SPDX-License-Identifier: Apache-2.0
"""Sync calls of a job, and writes that are synced by themselves (O_DSYNC: LMDB's meta page), by two
methods: strace, which slows the server and so changes how many jobs share a commit, and the shim,
which does not. Beside them what the disk counts as flushes, whoever caused them."""
from harness.tracing import Strace

from . import machine
from .ours import Ours

SYNCS = ("fsync", "fdatasync", "syncfs", "sync_file_range", "msync")
WRITES = ("pwrite64", "pwritev", "pwritev2")
EXPRESSION = ",".join((*SYNCS, *WRITES, "openat"))


class ByStrace:
    name = "strace"

    def __init__(self, bench):
        self.ours = Ours(bench, strace=EXPRESSION)

    def counts(self):
        return count_calls(Strace(self.ours.instance.trace.path).calls())


class ByShim:
    name = "shim"

    def __init__(self, bench):
        self.ours = Ours(bench, counts_syncs=True)

    def counts(self):
        return self.ours.shim.counts()


def count_calls(calls):
    """(sync calls, writes that are synced by themselves). What a descriptor was opened for stands in
    the call that opened it; two with the same file differ by their numbers."""
    durable = set()
    syncs = writes = 0
    for call in calls:
        if call.result.startswith("-"):
            continue
        if call.name == "openat":
            if "O_DSYNC" in call.arguments or "O_SYNC" in call.arguments:
                durable.add(call.result)
            else:
                durable.discard(call.result)
        elif call.name in WRITES:
            words = call.arguments.split(",")
            writes += words[0] in durable or "RWF_DSYNC" in words[-1] or "RWF_SYNC" in words[-1]
        elif call.name in SYNCS:
            syncs += 1
    return syncs, writes


def run(bench):
    methods = [ByShim]
    if Strace.is_there():
        methods.insert(0, ByStrace)
    else:
        bench.say("left-out syncs method=strace reason=\"not installed: strace\"")
    for clients, size in bench.options.sync_cases:
        for method in methods:
            measure(bench, method, clients, size)


def measure(bench, method, clients, size):
    jobs = bench.options.synced_jobs
    counter = method(bench)
    ours = counter.ours
    try:
        machine.settle()
        disk = machine.flushes_below(ours.state)
        before = counter.counts()
        other = machine.OtherWork(ours.root_pids())
        rate = ours.load(clients, jobs, size).jobs_per_s
        cores = other.cores()
        after = counter.counts()
        beside = ("unknown" if disk is None else
                  f"{(machine.flushes_below(ours.state) - disk) / jobs:.3f}")
        ours.stop()
    finally:
        ours.close()
    assert after[0] > before[0], f"{method.name} has seen no sync at all"
    bench.say(f"syncs method={method.name} clients={clients} bytes={size} jobs={jobs} "
              f"calls_per_job={(after[0] - before[0]) / jobs:.3f} "
              f"durable_writes_per_job={(after[1] - before[1]) / jobs:.3f} "
              f"disk_flushes_per_job={beside} jobs_per_s={rate:.1f} other_cores={cores:.2f}")
