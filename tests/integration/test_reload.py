# SPDX-License-Identifier: Apache-2.0
"""A reload takes everything or nothing, and calls into modules are watched in it as in a start."""
import os
import shutil
import signal
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
