# SPDX-License-Identifier: Apache-2.0
"""Deadlines: every wait of a test has one, longer under sanitizers and on a busy machine."""
import os
import threading
import time


class DeadlineExceeded(AssertionError):
    """What was waited for did not come."""


def scale():
    """How much longer than usual things may take (IMP_TEST_SLOWNESS, set by tests/run)."""
    return float(os.environ.get("IMP_TEST_SLOWNESS", "1"))


class Deadline:
    """Deadline(10, "the printer's connection"): remaining() raises when the time is over."""

    def __init__(self, seconds, what):
        self.what = what
        self.seconds = seconds * scale()
        self.end = time.monotonic() + self.seconds

    def remaining(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"{self.what}: not within {self.seconds:g} s")
        return left

    def pause(self):
        """A short wait between two looks at what tells no one when it changes (a file, /proc)."""
        threading.Event().wait(min(0.02, self.remaining()))
