# SPDX-License-Identifier: Apache-2.0
"""Options that all fault tests have."""
import argparse
import random
import time


def parse(doc, count_long, count_short, extend=None):
    """--build, --short (what CI runs), --count, --seed; `extend` adds more to the parser."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--build", default="build-faults", help="build folder with crash points")
    parser.add_argument("--short", action="store_true", help="the short form, as CI runs it")
    parser.add_argument("--count", type=int, help=f"default: {count_long}, short {count_short}")
    parser.add_argument("--seed", type=int, help="of all that is random; printed when not given")
    if extend:
        extend(parser)
    options = parser.parse_args()
    if options.count is None:
        options.count = count_short if options.short else count_long
    if options.seed is None:
        options.seed = random.randrange(2**32)
    print(f"seed {options.seed}", flush=True)
    return options


class Progress:
    """A line every few seconds."""

    def __init__(self, seconds=5):
        self._interval = seconds
        self._next = time.monotonic() + seconds

    def say(self, text):
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            print(text, flush=True)
