# SPDX-License-Identifier: Apache-2.0
"""What tests/bench/run is made of.

    options.py    what is measured and how much of it, at length and in the short form
    machine.py    namespaces of our own; memory, processor time and flushes of the disk
    programs.py   the C programs: the generator, the printer, the counting and delaying shim
    ours.py       our server as a party; lprng.py and cups.py: the peers
    parties.py    starting all of them, and saying who is not there and why
    lpr.py, memory.py, start.py, delivery.py, syncs.py   the benches
"""
