# SPDX-License-Identifier: Apache-2.0
"""The end of the processes: bounded, whatever else is going on, and clean."""
import os
import signal

from harness import ServerTest


class Spawner(ServerTest):
    def test_a_spawner_that_does_not_end_holds_nobody_up(self):
        server = self.server(modules={})
        spawner = server.role_pid("spawner")
        os.kill(spawner, signal.SIGSTOP)
        mark = server.log.mark()
        server.stop()  # status 0, and no process is left
        self.assertTrue(server.logs[-1].find("spawner.killed", since=mark, pid=str(spawner)))
