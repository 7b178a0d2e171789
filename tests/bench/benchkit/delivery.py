# SPDX-License-Identifier: Apache-2.0
"""One direct queue to a printer that takes everything: ours, ours on a disk with slow flushes, and
cupsd with its socket backend. And whether intake slows down while jobs are delivered.

Jobs collect while the printer reads nothing; then it reads, and the clock runs until the last one
has come."""
import contextlib

from harness.deadline import DeadlineExceeded

from . import machine, parties
from .cups import Cups
from .daemon import PartyMissing, wait_at_rest
from .options import SMALL
from .ours import Ours
from .programs import LoadFailed, Sink

CLIENTS = 16
WAIT_SECONDS, WORST_RATE = 30, 10  # a printer that gets less than 10 jobs a second gets none


class Delivering:
    """A party with a queue `direct` to a sink of its own."""

    def __init__(self, party, sink, name, jobs):
        self.party, self.sink, self.name, self.jobs = party, sink, name, jobs
        party.add_printer(sink)
        self.is_peer = party.is_peer
        self.root_pids, self.is_running = party.root_pids, party.is_running

    def collect(self, jobs):
        """So many jobs that wait for the printer."""
        self.sink.hold()
        result = self.party.load(CLIENTS, jobs, SMALL, "direct")
        if result.failed:
            raise LoadFailed(f"{result.failed} of {jobs} jobs were not acknowledged")

    def finish(self, jobs):
        """Seconds for all of them, each one once and whole."""
        try:
            count = self.sink.until(jobs, WAIT_SECONDS + jobs / WORST_RATE)
        except DeadlineExceeded as late:
            raise LoadFailed(f"{late}; {self.sink.count()}") from late
        assert (count.documents, count.distinct, count.bytes) == (jobs, jobs, jobs * SMALL), count
        return count.seconds

    def deliver(self):
        """Jobs a second."""
        self.collect(self.jobs)
        self.sink.go()
        return self.jobs / self.finish(self.jobs)

    def drain(self):
        wait_at_rest(f"{self.name}: queue direct to be empty",
                     lambda: self.party.jobs_in("direct"))

    def restart(self):
        self.party.restart()
        self.party.add_printer(self.sink)


def run(bench):
    if "transport-socket" not in bench.build.modules():
        bench.say("left-out delivery reason=\"transport-socket is not built\"")
        return
    deliver(bench)
    intake(bench)


def deliver(bench):
    options = bench.options
    with contextlib.ExitStack() as stack:
        def ready(party, name, jobs):
            stack.callback(party.close)
            sink = Sink(bench)
            stack.callback(sink.close)
            return Delivering(party, sink, name, jobs)

        found = [ready(Ours(bench), "ours", options.delivered_jobs),
                 ready(Ours(bench, flush_ms=options.flush_ms), "ours-slow-flush",
                       options.delivered_jobs)]
        cups = parties.start_peer(bench, Cups)
        if cups is not None:
            try:
                found.append(ready(cups, "cupsd", options.peer_delivered_jobs))
            except PartyMissing as why:
                bench.say(f"left-out party=cupsd reason=\"{why}\"")
        turns = parties.Turns(bench, found)
        turns.take(Delivering.deliver, options.rounds)
        for one in found[:2]:
            one.party.stop()
    for one in found:
        if not turns.results[one.name]:
            bench.say(f"delivery party={one.name} rounds=0")
            continue
        low, high = turns.spread(one.name, float)
        flush = f" flush_ms={options.flush_ms}" if one.name == "ours-slow-flush" else ""
        bench.say(f"delivery party={one.name} jobs={one.jobs} bytes={SMALL}{flush} "
                  f"jobs_per_s={turns.median(one.name, float):.1f} low={low:.1f} high={high:.1f} "
                  f"rounds={len(turns.results[one.name])} "
                  f"other_cores={turns.other_cores(one.name):.2f}")
    ratios = turns.ratios(float) + turns.ratios(float, "ours-slow-flush")
    if ratios:
        bench.say(f"ratio delivery{ratios}")


def intake(bench):
    """Jobs taken into queue `hold`, turn about with and without deliveries from queue `direct`."""
    options = bench.options
    rates = {False: [], True: []}  # by whether deliveries go on
    delivered, others = [], []
    ours = Ours(bench)
    sink = Sink(bench)
    try:
        printer = Delivering(ours, sink, "ours", options.backlog_jobs)
        # The first jobs make what the others find.
        ours.load(CLIENTS, options.intake_jobs // 10, SMALL)
        for number in range(options.rounds):
            printer.collect(options.backlog_jobs)  # waits: the sink reads nothing
            for is_delivering in ((False, True) if number % 2 == 0 else (True, False)):
                machine.settle()
                other = machine.OtherWork(ours.root_pids())
                if is_delivering:
                    sink.go()
                rates[is_delivering].append(
                    ours.load(CLIENTS, options.intake_jobs, SMALL).jobs_per_s)
                others.append(other.cores())
                if is_delivering:
                    delivered.append(sink.count().documents)
                    printer.finish(options.backlog_jobs)
                    printer.drain()
        ours.stop()
    finally:
        sink.close()
        ours.close()
    say_intake(bench, rates, delivered, others)


def say_intake(bench, rates, delivered, others):
    backlog = bench.options.backlog_jobs
    alone, beside = bench.median(rates[False]), bench.median(rates[True])
    bench.say(f"intake clients={CLIENTS} bytes={SMALL} jobs_per_s_alone={alone:.1f} "
              f"jobs_per_s_while_delivering={beside:.1f} "
              f"delivered_meanwhile={bench.median(delivered):.0f} of={backlog} "
              f"rounds={len(delivered)} other_cores={bench.median(others):.2f}")
    if max(delivered) >= backlog:
        bench.say("note intake: deliveries had ended before the intake; the ratio says too much")
    bench.say(f"ratio intake while_delivering/alone={beside / alone:.2f}")
