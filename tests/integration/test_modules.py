# SPDX-License-Identifier: Apache-2.0
"""The loader in a running server: what starts, what is refused with which words, and how it ends."""
import errno
import os
import shutil
import socket
import subprocess
import unittest

from harness import ServerTest, needs_root, not_under, tsan
from harness.deadline import Deadline
from harness.instance import CtlError, StartFailed


class ModuleTest(ServerTest):
    def folder_with(self, instance, *names):
        """A module folder of the instance's own, with these of tests/modules."""
        built = self.build.folder / "tests/modules/.libs"
        if not built.exists():
            raise unittest.SkipTest("tests/modules are not built (make check)")
        target = instance.folder / "modules"
        target.mkdir(mode=0o755, exist_ok=True)
        for name in names:
            shutil.copyfile(built / f"{name}.so", target / f"{name}.so")
            os.chmod(target / f"{name}.so", 0o755)
        instance.write_core(module_dir=str(target))
        return target

    def instance_with(self, *names, core=None, **settings):
        instance = self.instance(core={"module_start_timeout": "10s", "upgrade_deadline": "2s",
                                       "module_stop_timeout": "1s", **(core or {})},
                                 modules={name: settings.get(name.replace("-", "_"), {})
                                          for name in names})
        self.folder_with(instance, *names)
        return instance

    def failed(self, instance, module):
        """The reason that the log gives for a module that was left out: exactly one line."""
        # The log's thread may be behind the readiness that the supervisor tells.
        instance.wait_log("module.failed", module=module)
        lines = instance.log.find("module.failed", module=module)
        self.assertEqual(len(lines), 1, [line.text for line in lines])
        return lines[0].fields["reason"]


class Starting(ModuleTest):
    @tsan
    def test_everything_that_a_module_registers_works_and_goes(self):
        instance = self.instance_with("t-all", t_all={"listen": [self.listen("x")]})
        instance.start()
        state = instance.ctl("t-all", "state")
        state = state[0] if isinstance(state, list) else state
        self.assertEqual(state["loops"], state["loop_count"])
        self.assertEqual(state["greeting"], "hello")
        keys = instance.ctl("key", "status")
        keys = keys[0] if isinstance(keys, list) else keys
        self.assertEqual(keys["t-all_greeting"], "hello")
        self.assertIn("master_key", keys)
        with socket.create_connection(("127.0.0.1", instance.port("t-all", "x")), 10) as client:
            self.assertEqual(client.makefile().readline(), "hello\n")
            instance.ctl("t-all", "ask")
            instance.ctl_run("t-all", "write", "a note")
            status, out, err = instance.ctl_run("t-all", "read")
            self.assertEqual((status, out.strip()), (0, "a note"), err)
            state = instance.ctl("t-all", "state")
            state = state[0] if isinstance(state, list) else state
            self.assertEqual((state["hooked"], state["connections"]), (1, 1))
            # The open connection is cut at the end of the drain.
            instance.stop()
        log = instance.logs[-1]
        self.assertEqual(log.find("t-all.stop")[0].fields, {"loops": "0", "connections": "0"})
        self.assertEqual(log.find("server.ended")[0].fields["zombies"], "0")

    @tsan
    def test_a_service_is_there_before_the_module_that_needs_it(self):
        # By name t-clock would come first anyway; "t-watch" is to be stopped first, too.
        instance = self.instance_with("t-watch", "t-clock", t_clock={"value": 41})
        instance.start()
        self.assertEqual(instance.wait_log("t-watch.start").fields["clock"], "41")
        answer = instance.ctl("t-watch", "read")
        answer = answer[0] if isinstance(answer, list) else answer
        self.assertEqual((answer["control"], answer["worker"]), (41, 41))
        instance.stop()
        self.assertEqual(instance.logs[-1].find("t-watch.stop")[0].fields["clock"], "41")

    def test_list_and_info_show_what_is_there(self):
        instance = self.instance_with("t-all", "t-clock", "t-watch", "t-needy")
        instance.start()
        rows = {row["name"]: row for row in instance.ctl("module", "list")}
        self.assertEqual({name: row["state"] for name, row in rows.items()},
                         {"t-all": "started", "t-clock": "started", "t-watch": "started",
                          "t-needy": "failed"})
        self.assertIn("nowhere/1", rows["t-needy"]["reason"])
        info = instance.ctl("module", "info", "t-watch")
        info = info[0] if isinstance(info, list) else info
        self.assertEqual((info["requires"], info["version"]), ("t-clock/1", "1.0.0"))
        self.assertTrue(info["file"].endswith("/t-watch.so"))
        info = instance.ctl("module", "info", "t-all")
        info = info[0] if isinstance(info, list) else info
        self.assertIn("hook:t-all.asked", info["registered"])
        hooks = instance.ctl("hook", "list")
        self.assertEqual([(row["point"], row["module"]) for row in hooks],
                         [("t-all.asked", "t-all")])
        with self.assertRaises(CtlError):
            instance.ctl("module", "info", "nobody")

    def test_a_module_that_holds_on_becomes_a_zombie_and_the_end_still_comes(self):
        instance = self.instance_with("t-all", "t-holds", core={"upgrade_deadline": "1s"})
        instance.start()
        info = instance.ctl("module", "info", "t-holds")
        info = info[0] if isinstance(info, list) else info
        self.assertEqual((info["pins"], info["held_by"]), (1, "upload=1"))
        instance.stop()
        log = instance.logs[-1]
        self.assertIn("upload=1", log.find("module.zombie", module="t-holds")[0].fields["reason"])
        self.assertEqual(len(log.find("t-all.stop")), 1)


class Refused(ModuleTest):
    def check_refused(self, instance, **reasons):
        """All of `reasons` are refused with these words, t-all starts nevertheless."""
        status, output = instance.check()
        self.assertEqual(status, 1)
        instance.start()
        for name, words in reasons.items():
            name = name.replace("_", "-")
            self.assertIn(words, self.failed(instance, name))
            line = [line for line in output.splitlines() if line.startswith(f"module {name}: ")]
            self.assertEqual(len(line), 1, output)
            self.assertIn(words, line[0])
        instance.wait_log("module.started", module="t-all")
        instance.stop()

    def test_files_that_are_no_modules(self):
        names = ("t-text", "t-empty", "t-missing", "t-folder", "t-link", "t-no-note",
                 "t-no-descriptor", "t-cut")
        instance = self.instance(modules={name: {} for name in ("t-all", *names)})
        folder = self.folder_with(instance, "t-all", "t-no-note", "t-no-descriptor", "t-clock")
        (folder / "t-text.so").write_text("#!/bin/sh\necho not a module\n")
        (folder / "t-empty.so").write_bytes(b"")
        (folder / "t-folder.so").mkdir(mode=0o755)
        (folder / "t-link.so").symlink_to("t-clock.so")
        (folder / "t-cut.so").write_bytes((folder / "t-clock.so").read_bytes()[:3000])
        for name in ("t-text", "t-empty", "t-cut"):
            os.chmod(folder / f"{name}.so", 0o644)
        self.check_refused(instance, t_text="not an ELF file", t_empty="not an ELF file",
                           t_missing="there is no file", t_folder="is not a regular file",
                           t_link="is a symbolic link", t_no_note="without a module note",
                           t_no_descriptor="exports no descriptor", t_cut="that is cut off")

    def test_modules_that_do_not_fit(self):
        names = ("t-abi-major", "t-abi-minor", "t-needy", "t-misnamed", "t-differs", "t-a", "t-b",
                 "t-watch", "t-checks")
        instance = self.instance_with("t-all", *names, t_checks={"number": 3})
        self.check_refused(
            instance, t_abi_major="built for ABI 2.0, this server has 1.0",
            t_abi_minor="built for the newer ABI 1.9", t_needy="needs service nowhere/1, which no",
            t_misnamed='is module "t-other", not "t-misnamed"',
            t_differs='note and descriptor differ in "requires"',
            t_a="in a circle: t-a needs t-b needs t-a", t_b="in a circle",
            t_watch="needs service t-clock/1, which no enabled module offers",
            t_checks="number must be even")

    def test_a_failed_start_leaves_nothing_behind(self):
        instance = self.instance_with("t-all", "t-refuses", "t-late")
        instance.start()
        self.assertEqual(self.failed(instance, "t-refuses"), "its start failed: not in the mood")
        self.assertEqual(self.failed(instance, "t-late"),
                         "its loop_enter failed: one loop is enough")
        self.assertEqual(instance.wait_log("t-late.stop").fields["entered"], "0")
        self.assertEqual([row["module"] for row in instance.ctl("hook", "list")], ["t-all"])
        with self.assertRaises(CtlError):
            instance.ctl("t-refuses", "verb")
        self.assertNotIn("t_refuses", instance.ctl_run("metrics")[1])
        instance.ctl("t-all", "ask")
        state = instance.ctl("t-all", "state")
        state = state[0] if isinstance(state, list) else state
        self.assertEqual(state["hooked"], 1)  # the refused one would have said done
        instance.stop()

    def test_files_that_others_may_write(self):
        names = ("t-clock", "t-needy", "t-checks")
        instance = self.instance_with("t-all", *names)
        folder = instance.folder / "modules"
        os.chmod(folder / "t-clock.so", 0o666)
        os.chmod(folder / "t-needy.so", 0o775)
        self.check_refused(instance, t_clock="may be written by others (mode 0666)",
                           t_needy="may be written by others (mode 0775)")

    def test_a_folder_that_others_may_write(self):
        instance = self.instance_with("t-clock")
        os.chmod(instance.folder / "modules", 0o777)
        instance.start()
        self.assertIn("may be written by others", self.failed(instance, "t-clock"))
        instance.stop()

    @needs_root
    def test_a_file_of_another_user(self):
        instance = self.instance_with("t-all", "t-clock")
        os.chown(instance.folder / "modules/t-clock.so", 12345, 12345)
        self.check_refused(instance, t_clock="belongs to uid 12345 instead of root")

    @needs_root
    def test_without_developer_only_root_counts(self):
        instance = self.instance_with("t-all", "t-clock", core={"developer": False})
        os.chown(instance.folder / "modules/t-clock.so", instance.uid, instance.gid)
        self.check_refused(instance, t_clock="instead of root")

    def test_settings_of_no_module_are_one_line(self):
        instance = self.instance_with("t-all", "t-clock", t_clock={"value": "many"})
        self.check_refused(instance, t_clock="t-clock.value")

    def test_check_says_ok(self):
        instance = self.instance_with("t-all", "t-clock", "t-watch")
        self.assertEqual(instance.check(), (0, "OK\n"))


class FullDisk(ModuleTest):
    @needs_root
    def test_modules_start_without_room_for_a_mark(self):
        instance = self.instance_with("t-all", t_all={"listen": [self.listen("x")]})
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o",
             f"size=160m,mode=0700,uid={instance.uid},gid={instance.gid}",
             "imprimatur-test", str(instance.state)], stderr=subprocess.PIPE, text=True)
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(instance.state)], check=True)
        instance.start()
        instance.stop()
        with open(instance.state / "filler", "wb", buffering=0) as filler:
            with self.assertRaises(OSError) as full:
                while True:
                    filler.write(bytes(1 << 16))
        self.assertEqual(full.exception.errno, errno.ENOSPC)
        instance.start()
        instance.wait_log("module.unmarked", module="t-all")
        with socket.create_connection(("127.0.0.1", instance.port("t-all", "x")), 10) as client:
            self.assertEqual(client.makefile().readline(), "hello\n")
        instance.stop()


class Surviving(ModuleTest):
    def test_a_module_that_hangs_in_start_is_left_out_at_the_next_start(self):
        instance = self.instance_with("t-all", "t-hangs", core={"module_start_timeout": "1s"})
        instance.launch()
        line = instance.wait_log("module.timeout", 30)
        self.assertEqual((line.fields["module"], line.fields["in"]), ("t-hangs", "start"))
        instance.wait_ready(1, 30)
        self.assertIn("left out: it hung in its last start", self.failed(instance, "t-hangs"))
        rows = {row["name"]: row["state"] for row in instance.ctl("module", "list")}
        self.assertEqual(rows, {"t-all": "started", "t-hangs": "failed"})
        status = instance.ctl("status")
        status = status[0] if isinstance(status, list) else status
        self.assertIn("t-hangs (left out: it hung", status["failed"])
        instance.stop()

    @not_under("address", "its handler reports the crash, and that is not what is tested")
    @not_under("thread", "its handler reports the crash, and that is not what is tested")
    def test_a_module_that_crashes_in_start_is_left_out_after_the_second_time(self):
        instance = self.instance_with("t-all", "t-crashes")
        instance.launch()
        instance.wait_ready(1, 30)
        self.assertIn("left out: it crashed in its last start", self.failed(instance, "t-crashes"))
        rows = {row["name"]: row["state"] for row in instance.ctl("module", "list")}
        self.assertEqual(rows, {"t-all": "started", "t-crashes": "failed"})
        instance.stop()
        # Still so at a new start, until the mark is taken away; another build is tried as well.
        instance.start()
        self.assertIn("left out", self.failed(instance, "t-crashes"))
        instance.stop()

    def test_a_kill_during_start_is_not_held_against_the_module(self):
        instance = self.instance_with("t-all", "t-hangs", core={"module_start_timeout": "4s"})
        mark = instance.state / "module-starts/t-hangs"
        instance.launch()
        for start in (1, 2):
            instance.wait_log("module.started", 30, module="t-all", count=start)
            deadline = Deadline(30, "the mark of a start")
            while not mark.exists() or not mark.stat().st_size:
                deadline.remaining()
                os.sched_yield()
            instance.kill9()
            self.assertTrue(mark.read_text(encoding="ascii").startswith("S 0 "))
        # It is tried a third time, and only what it does itself counts.
        instance.wait_log("module.timeout", 30, module="t-hangs")
        instance.wait_ready(1, 30)
        self.assertIn("it hung", self.failed(instance, "t-hangs"))
        instance.stop()


class Reload(ModuleTest):
    def test_live_settings_are_taken_and_the_others_refused_as_a_whole(self):
        instance = self.instance_with("t-all", "t-clock", t_all={"greeting": "one"})
        instance.start()
        instance.set_module("t-all", {"greeting": "two"})
        instance.set_module("t-clock", {"value": 8})
        instance.ctl_run("config", "reload")
        self.assertEqual(self.state(instance)["greeting"], "two")
        self.assertEqual(self.state(instance)["reconfigured"], 1)

        instance.set_module("t-all", {"greeting": "three", "fixed": 5})
        status, _, err = instance.ctl_run("config", "reload")
        self.assertEqual(status, 1)
        self.assertIn("t-all.fixed", err)
        self.assertEqual(self.state(instance)["greeting"], "two")

        instance.set_module("t-all", {"greeting": "three", "fixd": 5})
        status, _, err = instance.ctl_run("config", "reload")
        self.assertEqual(status, 1)
        self.assertIn("fixd", err)
        self.assertEqual(self.state(instance)["greeting"], "two")

        instance.set_module("t-all", {"greeting": "three"})
        mark = instance.log.mark()
        os.kill(instance.supervisor_pid(), 1)  # SIGHUP
        instance.wait_log("config.reloaded", since=mark)
        self.assertEqual(self.state(instance)["greeting"], "three")
        instance.stop()

    def test_the_time_to_end_is_taken_while_running(self):
        instance = self.instance_with("t-all", t_all={"listen": [self.listen("x")]},
                                      core={"upgrade_deadline": "10min"})
        instance.start()
        # Drained when it is closed; it stays open.
        with socket.create_connection(("127.0.0.1", instance.port("t-all", "x")), 10) as client:
            self.assertEqual(client.makefile().readline(), "hello\n")
            instance.write_core(upgrade_deadline="100ms")
            instance.ctl_run("config", "reload")
            instance.wait_ready(2)  # the supervisor has heard of it
            instance.stop()
        log = instance.logs[-1]
        # module_stop_timeout and some slack on top
        self.assertEqual(log.find("supervisor.stopping")[0].fields["limit_ms"], "21100")
        self.assertEqual(len(log.find("module.cut", module="t-all")), 1)

    @staticmethod
    def state(instance):
        state = instance.ctl("t-all", "state")
        return state[0] if isinstance(state, list) else state


class Developer(ModuleTest):
    @needs_root
    def test_developer_is_refused_for_root(self):
        instance = self.instance_with("t-all", core={"developer": True})
        instance.as_root = True
        instance.write_core(user="root", group="root")
        with self.assertRaises(StartFailed):
            instance.start()
