# SPDX-License-Identifier: Apache-2.0
"""Memory, idle and while many large documents come at once. lprbench holds back the ends of all
documents until all are nearly there, so all uploads are open at the same time."""
import tempfile
import threading
from dataclasses import astuple

from . import machine, parties
from .ours import Ours
from .programs import LoadFailed

LOOK_SECONDS = 0.05


def run(bench):
    options = bench.options
    clients, size = options.upload_clients, options.upload_bytes
    if machine.free_bytes(tempfile.gettempdir()) < clients * size * 2:
        bench.say("left-out memory uploads reason=\"needs "
                  f"{clients * size * 2 / 1e9:.0f} GB of free disk\"")
        return
    ours = Ours(bench)
    try:
        bench.say(f"memory party=ours idle {text(memory_of(ours))}")
        load = ours.begin_load(clients, clients, size, is_together=True)
        other = machine.OtherWork(ours.root_pids())
        most, looks = watch(ours, load)
        result = ours.finish_load(load)
        ours.acknowledged += result.jobs
        ours.assert_held()
        bench.say(f"memory party=ours clients={clients} bytes={size} {text(most)} looks={looks} "
                  f"MB_per_s={result.mb_per_s:.1f} other_cores={other.cores():.2f}")
        ours.stop()
    finally:
        ours.close()
    with parties.peers(bench) as peers:
        for peer in peers:
            measure_peer(bench, peer, clients, size)


def measure_peer(bench, peer, clients, size):
    idle = memory_of(peer)
    bench.say(f"memory party={peer.name} idle pss_MiB={idle.proportional:.1f} "
              f"processes={idle.processes}")
    machine.settle()
    # Not held back: a peer that serves fewer at once would wait for ever for the others.
    load = peer.begin_load(clients, clients, size)
    most, looks = watch(peer, load)
    try:
        result = peer.finish_load(load)
    except LoadFailed as why:
        bench.say(f"left-out memory party={peer.name} reason=\"{why}\"")
        return
    bench.say(f"memory party={peer.name} clients={clients} bytes={size} "
              f"pss_MiB={most.proportional:.1f} processes={most.processes} looks={looks} "
              f"acknowledged={result.jobs} failed={result.failed} MB_per_s={result.mb_per_s:.1f}")


def memory_of(party):
    return machine.memory_of(None if party.is_peer else party.server_pid(), party.root_pids())


def watch(party, load):
    """The most that was seen of each kind while the load ran, and how often was looked."""
    most, looks = memory_of(party), 1
    pause = threading.Event()
    try:
        while load.is_running():
            now = memory_of(party)
            most = machine.Memory(*(max(pair) for pair in zip(astuple(most), astuple(now))))
            looks += 1
            pause.wait(LOOK_SECONDS)
    except BaseException:
        load.close()
        raise
    return most, looks


def text(memory):
    return (f"anon_and_shmem_MiB={memory.anonymous:.1f} rss_MiB={memory.resident:.1f} "
            f"pss_of_all_MiB={memory.proportional:.1f}")
