# SPDX-License-Identifier: Apache-2.0
"""The base of the integration tests."""
import functools
import os
import shutil
import unittest
from pathlib import Path

from .build import Build
from .instance import Instance

_build = None


def current_build():
    """The build that tests/run was given."""
    global _build
    if _build is None:
        _build = Build(os.environ.get("IMP_TEST_BUILD", "build"))
    return _build


def needs_programs(*names):
    """Skips where a program is not installed."""
    missing = [name for name in names if shutil.which(name, path=os.environ.get(
        "PATH", "") + ":/usr/sbin:/sbin") is None]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)}")


def needs_root(test):
    return unittest.skipIf(os.geteuid() != 0, "needs root")(test)


def needs_testdata(path=""):
    """Skips where the real inputs (IMPRIMATUR_TESTDATA) are not there; see ServerTest.testdata."""
    base = os.environ.get("IMPRIMATUR_TESTDATA")
    if not base:
        return unittest.skip("IMPRIMATUR_TESTDATA is not set")
    return unittest.skipIf(not (Path(base) / path).exists(), f"not in IMPRIMATUR_TESTDATA: {path}")


def not_under(sanitizer, why):
    """Skips in a build with that sanitizer ("address" or "thread")."""
    return unittest.skipIf(current_build().sanitizer == sanitizer, f"{sanitizer} sanitizer: {why}")


def tsan(item):
    """Marks a test or a class that also runs in the short ThreadSanitizer suite."""
    item.in_tsan_suite = True
    return item


class ServerTest(unittest.TestCase):
    """Gives server(); ends, checks and removes what the test started, and prints the server's log
    when it failed. `deadline`: seconds that one test may take.

    `modules_needed`: skipped when the build has not all of these.
    """
    deadline = 60
    modules_needed = ()

    @classmethod
    def setUpClass(cls):
        missing = [name for name in cls.modules_needed if name not in current_build().modules()]
        if missing:
            raise unittest.SkipTest(f"not built: {', '.join(missing)}")

    def setUp(self):
        self.instances = []

    @property
    def build(self):
        return current_build()

    def instance(self, **arguments):
        """An instance that is not started."""
        instance = Instance(current_build(), **arguments)
        self.instances.append(instance)
        self.addCleanup(functools.partial(self._end, instance))
        return instance

    def server(self, **arguments):
        """An instance that runs."""
        return self.instance(**arguments).start()

    listen = staticmethod(Instance.listener)

    @staticmethod
    def testdata(path):
        return Path(os.environ["IMPRIMATUR_TESTDATA"]) / path

    def check_ended(self, instance):
        """Called for every instance when it has ended, before its folder is removed."""

    def _end(self, instance):
        try:
            if instance.process is not None:
                instance.stop()
            else:
                instance.assert_no_reports()
            self.check_ended(instance)
        finally:
            if os.environ.get("IMP_TEST_KEEP"):
                instance.kill()
                print(f"# kept: {instance.folder}")
            else:
                instance.close()

    def logs(self):
        """What all instances of this test wrote, for the report of a failure."""
        return "".join(log.text() for instance in self.instances for log in instance.logs)
