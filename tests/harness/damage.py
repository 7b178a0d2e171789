# SPDX-License-Identifier: Apache-2.0
"""Damage to a store, done behind the server's back."""
import subprocess
import unittest

from .deadline import scale


def tear_row(test, server, table, key):
    """Makes one row unreadable; `key` in hexadecimal digits. The server must not run."""
    program = test.build.folder / "tests/integration/tear-row"
    if not program.exists():
        raise unittest.SkipTest("tests/integration/tear-row is not built")
    done = subprocess.run([str(program), str(server.state), str(server.keys / "master.key"), table,
                           key], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60 * scale())
    test.assertEqual(done.returncode, 0, done.stdout)
