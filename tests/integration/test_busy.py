# SPDX-License-Identifier: Apache-2.0
"""A server that works all the time is not taken for one that stands still."""
import threading
import time

from harness.deadline import scale
from harness.lpd import submit
from harness.site import PrintTest


class Busy(PrintTest):
    def test_a_busy_server_outlives_the_stall_timeout(self):
        limit = 2 * max(1, int(scale()))
        server = self.print_server(core={"stall_timeout": f"{limit}s"})
        pid = server.server_pid()
        end = time.monotonic() + 2.5 * limit
        failures = []

        def work(number):
            try:
                while time.monotonic() < end:
                    submit(server.port("lpr", "lpd"), b"x" * 100, number=number)
            except (AssertionError, OSError) as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(server.server_pid(), pid, "the server was killed and started again")
