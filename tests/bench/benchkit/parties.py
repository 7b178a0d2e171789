# SPDX-License-Identifier: Apache-2.0
"""All who are measured side by side, and the rounds in which they take turns."""
import contextlib
import statistics

from . import machine
from .cups import Cups
from .daemon import PartyMissing, Stuck
from .lprng import Lprng
from .programs import LoadFailed

PEERS = (Lprng, Cups)


@contextlib.contextmanager
def peers(bench, kinds=PEERS):
    """The peers that can be measured here, started. The others are named, with the reason."""
    with contextlib.ExitStack() as stack:
        found = []
        for kind in kinds:
            peer = start_peer(bench, kind)
            if peer is not None:
                stack.callback(peer.close)
                found.append(peer)
        yield found


def start_peer(bench, kind):
    try:
        if not machine.is_private():
            raise PartyMissing("needs root and namespaces of its own")
        return kind(bench)
    except PartyMissing as reason:
        bench.say(f"left-out party={kind.name} reason=\"{reason}\"")
        return None


class Turns:
    """What each party reached in its turns."""

    def __init__(self, bench, parties):
        self.bench, self.parties = bench, parties
        self.results = {party.name: [] for party in parties}
        self.others = {party.name: [] for party in parties}

    def take(self, measure, rounds):
        """measure(party) for each, turn about; another begins each round. Before its turn everything
        that came before is written out, after it the party comes to rest. A peer that fails is
        started anew; when ours does, the bench ends."""
        for number in range(rounds):
            first = number % len(self.parties)
            for party in self.parties[first:] + self.parties[:first]:
                try:
                    self._turn(party, measure)
                except (LoadFailed, Stuck) as why:
                    if not party.is_peer:
                        raise
                    self.bench.say(f"restarted party={party.name} round={number + 1} "
                                   f"reason=\"{why}\"")
                    self._restart(party)

    def _restart(self, party):
        try:
            party.restart()
        except PartyMissing as why:
            self.bench.say(f"left-out party={party.name} reason=\"{why}\"")

    def _turn(self, party, measure):
        if not party.is_running():
            raise LoadFailed("it has ended")
        machine.settle()
        other = machine.OtherWork(party.root_pids())
        result = measure(party)
        self.others[party.name].append(other.cores())
        self.results[party.name].append(result)
        party.drain()

    def median(self, name, value):
        """The median of value(result); None when there is no result."""
        values = [value(result) for result in self.results[name]]
        return statistics.median(values) if values else None

    def spread(self, name, value):
        values = [value(result) for result in self.results[name]]
        return min(values), max(values)

    def other_cores(self, name):
        return statistics.median(self.others[name])

    def ratios(self, value, of="ours"):
        """' ours/lprng=9.3 ours/cups-lpd=20.1': of medians, to each peer; "" when there is none."""
        own = self.median(of, value)
        text = ""
        for party in self.parties:
            if party.is_peer:
                theirs = self.median(party.name, value)
                text += f" {of}/{party.name}=" + (f"{own / theirs:.2f}" if theirs else "unknown")
        return text
