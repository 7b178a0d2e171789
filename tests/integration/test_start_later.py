# SPDX-License-Identifier: Apache-2.0
"""A server that could take nothing does not say that it is ready: it is started again until it can."""
import os
import shutil

from harness import ServerTest
from harness.deadline import Deadline
from harness.site import PrintTest


class StartLater(ServerTest):
    def with_modules(self, names, **settings):
        instance = self.instance(core={"restart_delay_max": "200ms", "upgrade_deadline": "2s"}, modules={
            name: settings.get(name.replace("-", "_"), {}) for name in names})
        folder = instance.folder / "modules"
        folder.mkdir(mode=0o755)
        for name in names:
            shutil.copyfile(self.build.folder / f"tests/modules/.libs/{name}.so", folder / f"{name}.so")
            os.chmod(folder / f"{name}.so", 0o755)
        instance.write_core(module_dir=str(folder))
        return instance

    def wait_count(self, server, event, count):
        deadline = Deadline(30, f"{event}, {count} times")
        while len(server.log.find(event)) < count:
            deadline.pause()

    def check_waits(self, how, words):
        # t-all starts before and is ended again, each time.
        server = self.with_modules(("t-all", "t-clock", "t-watch"), t_clock={"start": how},
                                   t_all={"listen": [self.listen("x")]})
        server.launch()
        self.wait_count(server, "server.started", 8)  # more often than a server may die at the start
        line = server.wait_log("server.waits")
        self.assertEqual(line.fields["reason"], f"module t-clock: its start failed: {words}")
        self.assertEqual(server.log.find("server.ready"), [])
        self.assertEqual(server.log.find("module.failed"), [])  # one line a start is enough
        self.assertEqual(server.log.find("server.crashed"), [])
        # The service manager's patience is asked for each time: 200 ms, and a server's time to start.
        self.assertTrue(server.notify.wait("EXTEND_TIMEOUT_USEC=900200000", server.process, count=7))
        server.set_module("t-clock", {})
        server.wait_ready(1)
        asked = server.notify.count("EXTEND_TIMEOUT_USEC=900200000")
        self.assertEqual(len(server.log.find("server.waits")), 1)
        refused = server.log.find("server.refused")
        self.assertEqual({line.fields["reason"] for line in refused}, {line.fields["reason"]})
        self.assertEqual(server.ctl("status")["modules_started"], 3)
        # The same for a server that dies later, and said once again.
        server.set_module("t-clock", {"start": how})
        server.kill9()
        server.wait_log("server.waits", count=2)
        server.set_module("t-clock", {})
        server.wait_ready(2)
        # One that was ready is under no limit any more.
        self.assertEqual(server.notify.count("EXTEND_TIMEOUT_USEC=900200000"), asked)
        server.stop()

    def test_a_service_without_space_is_tried_until_there_is_some(self):
        self.check_waits("no-space", "there is no room for the clock")

    def test_a_service_that_a_disk_fails_is_tried_until_it_does_not(self):
        self.check_waits("io", "the clock can't be read")

    def test_what_nobody_needs_or_waits_for_is_left_out_as_ever(self):
        server = self.with_modules(("t-all", "t-clock"), t_clock={"start": "io"})
        server.start()
        self.assertEqual(len(server.log.find("module.failed", module="t-clock")), 1)
        self.assertEqual(server.ctl("status")["modules_started"], 1)
        server.stop()

    def test_a_server_that_waits_can_be_stopped(self):
        server = self.with_modules(("t-clock", "t-watch"), t_clock={"start": "no-space"})
        server.launch()
        server.wait_log("server.waits")
        server.stop()


class WrongSetting(PrintTest):
    def test_a_wrong_setting_is_not_taken_for_a_disk_that_fails(self):
        server = self.print_server(start=False, modules={"jobs": {"key_pool": "/nonexistent/pool"}})
        server.start()
        line = server.wait_log("module.failed", module="jobs")
        self.assertIn("/nonexistent/pool", line.text)
        self.assertEqual(server.log.find("server.waits"), [])
        server.stop()
