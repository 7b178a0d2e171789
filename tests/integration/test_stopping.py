# SPDX-License-Identifier: Apache-2.0
"""The end of the processes: bounded, whatever else is going on, and clean."""
import os
import signal
import threading
import unittest

from harness import ServerTest, not_under
from harness.deadline import Deadline


class Spawner(ServerTest):
    def test_a_spawner_that_does_not_end_holds_nobody_up(self):
        server = self.server(modules={})
        spawner = server.role_pid("spawner")
        os.kill(spawner, signal.SIGSTOP)
        mark = server.log.mark()
        server.stop()  # status 0, and no process is left
        self.assertTrue(server.logs[-1].find("spawner.killed", since=mark, pid=str(spawner)))


class Works(ServerTest):
    @not_under("address", "its runtime wants to be the first that is loaded")
    @not_under("thread", "its runtime wants to be the first that is loaded")
    def test_a_backup_that_does_not_end_holds_nobody_up(self):
        shim = self.build.folder / "tests/integration/.libs/stall-write.so"
        if not shim.exists():
            raise unittest.SkipTest("tests/integration/stall-write is not built (make check)")
        server = self.server(modules={}, environment={"LD_PRELOAD": str(shim)})
        target = server.run / "backup-stalls"
        asking = threading.Thread(target=server.ctl_run, args=("backup", "create", str(target)))
        asking.start()
        deadline = Deadline(20, "a work that runs")
        while server.ctl("status")["works_running"] == 0:
            deadline.pause()
        server.stop()  # status 0
        line = server.logs[-1].find("server.ended")[0]
        self.assertEqual(line.fields["works"], "1")
        asking.join()
        # The store is whole, and its lock is free.
        del server.environment["LD_PRELOAD"]
        server.start()
        server.ctl("backup", "create", str(server.run / "backup"))
        server.stop()
