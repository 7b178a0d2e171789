# SPDX-License-Identifier: Apache-2.0
"""A reload takes everything or nothing, and calls into modules are watched in it as in a start."""
import os
import shutil
import signal
import socket
import threading

from harness import ServerTest


class Reload(ServerTest):
    def with_modules(self, *names, core=None, **settings):
        """An instance with modules of tests/modules."""
        instance = self.instance(core=core or {}, modules={
            name: settings.get(name.replace("-", "_"), {}) for name in names})
        target = instance.folder / "modules"
        target.mkdir(mode=0o755)
        for name in names:
            shutil.copyfile(self.build.folder / f"tests/modules/.libs/{name}.so",
                            target / f"{name}.so")
            os.chmod(target / f"{name}.so", 0o755)
        instance.write_core(module_dir=str(target))
        return instance

    def test_a_check_that_hangs_in_a_reload_is_ended_by_its_limit(self):
        server = self.with_modules("t-checks", core={"module_start_timeout": "10min"})
        server.start()
        server.set_module("t-checks", {"number": 66})
        server.write_core(module_start_timeout="1s")  # the new limit counts
        asking = threading.Thread(target=server.ctl_run, args=("config", "reload"))
        asking.start()
        line = server.wait_log("module.timeout", 30)
        self.assertEqual({name: line.fields[name] for name in ("module", "in", "limit_ms")},
                         {"module": "t-checks", "in": "check", "limit_ms": "1000"})
        asking.join()
        # Started with those settings it hangs again, and is left out.
        server.wait_log("module.timeout", 30, **{"in": "start"})
        server.wait_ready(2)
        server.stop()

    def test_a_certificate_that_can_t_be_loaded_leaves_the_log_where_it_is(self):
        server = self.with_modules("t-clock")
        server.start()
        shutil.rmtree(server.state / "tls")
        (server.state / "tls").write_bytes(b"no folder")
        elsewhere = server.folder / "other.log"
        server.write_core(log_target="file", log_file=str(elsewhere))
        os.kill(server.supervisor_pid(), signal.SIGHUP)
        self.assertIn("tls", server.wait_log("config.refused").fields["reason"])
        status, _, err = server.ctl_run("config", "reload")
        self.assertEqual(status, 1, err)
        self.assertFalse(elsewhere.exists() and elsewhere.read_text())
        (server.state / "tls").unlink()
        server.write_core(log_target="stderr")
        server.ctl_run("config", "reload")
        server.stop()

    def test_a_module_that_is_no_longer_enabled_keeps_its_settings(self):
        server = self.with_modules("t-all", "t-clock", t_all={"greeting": "one", "fixed": 5})
        server.start()
        server.set_module("t-all", {"greeting": "other"}, is_enabled=False)
        server.set_module("t-clock", {"value": 8})
        status, out, err = server.ctl_run("config", "reload")
        self.assertEqual(status, 0, err)
        self.assertIn("module t-all is no longer enabled; it runs on until the next start", out)
        state = server.ctl("t-all", "state")
        state = state[0] if isinstance(state, list) else state
        self.assertEqual((state["greeting"], state["reconfigured"]), ("one", 0))
        server.stop()

    def test_a_module_s_file_that_was_taken_away_may_come_back(self):
        listener = self.listen("lpd")
        server = self.with_modules("t-all", t_all={"greeting": "one", "listen": [listener]})
        server.start()
        server.set_module("t-all", {"greeting": "one", "listen": [listener]}, is_enabled=False)
        self.assertEqual(server.ctl_run("config", "reload")[0], 0)
        # With another address it would have to listen elsewhere.
        server.set_module("t-all", {"greeting": "one", "listen": [self.listen("lpd")]})
        status, _, err = server.ctl_run("config", "reload")
        self.assertNotEqual(status, 0)
        self.assertIn("can't get another address", err)
        # And the settings that came back are those that count.
        server.set_module("t-all", {"greeting": "two", "listen": [{**listener, "allow": ["192.0.2.1"]}]})
        status, out, err = server.ctl_run("config", "reload")
        self.assertEqual(status, 0, err)
        self.assertIn("module t-all is enabled again; it runs on", out)
        state = server.ctl("t-all", "state")
        state = state[0] if isinstance(state, list) else state
        self.assertEqual(state["greeting"], "two")
        with socket.create_connection(("127.0.0.1", server.port("t-all", "lpd")), 10) as client:
            server.wait_log("listener.refused", module="t-all", reason="network")
            self.assertEqual(client.recv(1), b"")
        server.stop()
