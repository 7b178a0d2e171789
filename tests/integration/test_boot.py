# SPDX-License-Identifier: Apache-2.0
"""An instance starts, serves, comes back and ends, whoever starts it; what it can't do it says."""
import os
import re
import stat

from harness import CtlError, ServerTest, StartFailed, find_in_files, needs_root, tsan


@tsan
class Boot(ServerTest):
    def test_an_instance_says_that_it_is_ready_and_ends_in_order(self):
        server = self.server()
        self.assertFalse(server.ctl("status")["stopping"])
        server.stop()
        server.log.wait("server.stopped")

    def test_three_processes_run_and_none_is_root(self):
        server = self.server()
        for pid in (server.role_pid("server"), server.role_pid("spawner")):
            with open(f"/proc/{pid}/status") as file:
                status = file.read()
            uids = re.search(r"^Uid:\t(.*)$", status, re.M)[1].split("\t")
            self.assertEqual(uids, [str(server.uid)] * 4)
            self.assertRegex(status, r"(?m)^CapEff:\t0+$")
            self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")

    def test_a_killed_server_comes_back_and_the_state_is_good(self):
        server = self.server()
        first = server.ctl("status")["pid"]
        self.assertEqual(server.kill9(), first)
        server.wait_ready(2)
        self.assertEqual(server.ctl("status")["pid"], server.server_pid())
        self.assertNotEqual(server.server_pid(), first)
        server.log.wait("server.crashed", pid=first, signal="SIGKILL")

    def test_the_master_key_is_made_once_and_is_private(self):
        server = self.server()
        key = server.keys / "master.key"
        first = key.read_bytes() if os.access(key, os.R_OK) else None
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o400)
        server.stop()
        server.start()
        if first is not None:
            self.assertEqual(key.read_bytes(), first)
            self.assertEqual(find_in_files(server.state, [first]), [])

    @needs_root
    def test_root_starts_it_and_the_server_is_someone_else(self):
        server = self.server(as_root=True)
        with open(f"/proc/{server.server_pid()}/status") as file:
            self.assertRegex(file.read(), rf"(?m)^Uid:\t{server.uid}\t{server.uid}\t{server.uid}")


class Refusals(ServerTest):
    def test_check_accepts_a_good_configuration(self):
        status, text = self.instance().check()
        self.assertEqual(status, 0, text)

    def test_check_names_file_line_and_setting(self):
        instance = self.instance(core={"loops": "many"})
        line = instance.conf.read_text().split("\n").index('loops = "many";') + 1
        status, text = instance.check()
        self.assertEqual(status, 1, text)
        self.assertIn(f"imprimatur.conf:{line}: loops: found \"many\"", text)

    def test_a_broken_configuration_is_refused_in_one_line(self):
        instance = self.instance(core={"stall_timeout": "5 parsecs"})
        with self.assertRaises(StartFailed) as caught:
            instance.start()
        self.assertEqual(caught.exception.status, 1)
        lines = [line for line in caught.exception.log.splitlines() if "5 parsecs" in line]
        self.assertEqual(len(lines), 1, caught.exception.log)

    def test_a_second_instance_on_the_same_state_is_refused(self):
        first = self.server()
        second = self.instance(core={"state_dir": str(first.state),
                                     "master_key": str(first.keys / "master.key")})
        with self.assertRaises(StartFailed):
            second.start()
        self.assertFalse(first.ctl("status")["stopping"])

    def test_an_unknown_command_is_refused_by_imprimctl(self):
        with self.assertRaises(CtlError) as caught:
            self.server().ctl("no-such-command")
        self.assertEqual(caught.exception.status, 2)
