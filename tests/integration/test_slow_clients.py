# SPDX-License-Identifier: Apache-2.0
"""A client that sends a byte now and then does not keep its connection; one that waits for us does."""
import os
import select
import shutil
import socket
import time

from harness import ServerTest
from harness.deadline import Deadline


class SlowClients(ServerTest):
    def greeted(self, port):
        client = socket.create_connection(("127.0.0.1", port), 10)
        self.addCleanup(client.close)
        greeting = b""
        while not greeting.endswith(b"\n"):
            greeting += client.recv(100)
        return client

    def test_a_client_that_trickles_is_cut_and_one_that_waits_is_not(self):
        instance = self.instance(core={"min_rate": "1KiB", "min_rate_window": "1s"}, modules={
            "t-all": {"listen": [{**self.listen("slow"), "expects": "input"}, self.listen("calm")]}})
        folder = instance.folder / "modules"
        folder.mkdir(mode=0o755)
        shutil.copyfile(self.build.folder / "tests/modules/.libs/t-all.so", folder / "t-all.so")
        os.chmod(folder / "t-all.so", 0o755)
        instance.write_core(module_dir=str(folder))
        instance.start()
        calm = self.greeted(instance.port("t-all", "calm"))
        trickling = self.greeted(instance.port("t-all", "slow"))
        began = time.monotonic()
        deadline = Deadline(20, "the end of a connection that trickles")
        while not select.select([trickling], [], [], 0.05)[0]:
            trickling.sendall(b"x")
            deadline.remaining()
        self.assertGreaterEqual(time.monotonic() - began, 0.9)  # a whole window
        try:
            self.assertEqual(trickling.recv(1), b"")
        except ConnectionResetError:
            pass
        instance.wait_log("listener.slow", module="t-all", listener="slow")
        self.assertIn("imprimatur_connections_slow_total 1\n", instance.ctl_run("metrics")[1])
        self.assertEqual(select.select([calm], [], [], 0)[0], [])
        calm.close()
        instance.stop()
