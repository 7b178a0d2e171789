# SPDX-License-Identifier: Apache-2.0
"""Jobs and octets a second by LPR, beside LPRng's lpd and CUPS's cups-lpd."""
import tempfile

from . import machine, parties
from .ours import Ours

SPACE_FACTOR = 1.3


def run(bench):
    with parties.peers(bench) as peers:
        for case in bench.options.lpr_cases:
            run_case(bench, case, peers)


def run_case(bench, case, peers):
    rounds = min(bench.options.rounds, case.rounds_max)
    about = f"clients={case.clients} bytes={case.bytes}"
    needed = (case.jobs * rounds + case.peer_jobs) * case.bytes * SPACE_FACTOR
    if machine.free_bytes(tempfile.gettempdir()) < needed:
        bench.say(f"left-out lpr {about} reason=\"needs {needed / 1e9:.0f} GB of free disk\"")
        return
    ours = Ours(bench)
    try:
        turns = parties.Turns(bench, [ours, *peers])
        turns.take(lambda party: party.load(
            case.clients, case.jobs if party is ours else case.peer_jobs, case.bytes), rounds)
        ours.assert_held()
        ours.stop()
    finally:
        ours.close()
    for party in turns.parties:
        say_party(bench, turns, party.name, about)
    ratios = turns.ratios(lambda result: result.jobs_per_s)
    if ratios:
        bench.say(f"ratio lpr {about}{ratios}")


def say_party(bench, turns, name, about):
    results = turns.results[name]
    if not results:
        bench.say(f"lpr party={name} {about} rounds=0")
        return
    low, high = turns.spread(name, lambda result: result.jobs_per_s)
    bench.say(f"lpr party={name} {about} "
              f"jobs_per_s={turns.median(name, lambda result: result.jobs_per_s):.1f} "
              f"low={low:.1f} high={high:.1f} "
              f"MB_per_s={turns.median(name, lambda result: result.mb_per_s):.1f} "
              f"p50_ms={turns.median(name, lambda result: result.p50_ms):.2f} "
              f"p99_ms={turns.median(name, lambda result: result.p99_ms):.2f} "
              f"acknowledged={sum(result.jobs for result in results)} "
              f"failed={sum(result.failed for result in results)} rounds={len(results)} "
              f"other_cores={turns.other_cores(name):.2f}")
