# SPDX-License-Identifier: Apache-2.0
"""The three processes: privileges, restarts with open sockets, crash records, refusals."""
import concurrent.futures
import os
import re
import shutil
import signal
import socket
import subprocess
import unittest

from harness import ServerTest, free_port, needs_programs, needs_root, not_under
from harness import processes
from harness.build import SOURCE_DIR
from harness.deadline import Deadline, scale

NOBODY = 65534


def status_of(pid):
    """/proc/PID/status as a dict."""
    with open(f"/proc/{pid}/status") as file:
        return {key: value.strip() for key, value in
                (line.split(":", 1) for line in file if ":" in line)}


def ask(port, word, seconds=20):
    """One connection to the echo module: what it answered until it closed."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds * scale()) as client:
        client.sendall(word)
        try:
            while True:
                piece = client.recv(4096)
                if not piece:
                    return answer
                answer += piece
        except ConnectionResetError:
            return None


class SupervisorTest(ServerTest):
    """Instances with the echo module of tests/modules."""

    def echo(self, start=True, core=None, **arguments):
        built = self.build.folder / "tests/modules/.libs/echo.so"
        self.assertTrue(built.exists(), f"{built} was not built")
        instance = self.instance(core={"restart_delay_max": "100ms", **(core or {})}, **arguments)
        folder = instance.folder / "modules"
        folder.mkdir(mode=0o755)
        shutil.copyfile(built, folder / "echo.so")
        os.chmod(folder / "echo.so", 0o644)
        instance.write_core(module_dir=str(folder))
        instance.set_module("echo", {"listen": [instance.listener("main")]})
        return instance.start() if start else instance


class Restarts(SupervisorTest):
    def test_clients_are_served_over_kill_9(self):
        server = self.echo()
        port = server.port("echo", "main")
        self.assertEqual(ask(port, b"before"), b"before")
        rounds = 5
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for number in range(rounds):
                first = server.server_pid()
                server.kill9()
                # The sockets are open: nobody is refused, whoever comes now waits for the next one.
                answers = [pool.submit(ask, port, b"word %d" % i) for i in range(8)]
                self.assertEqual([answer.result() for answer in answers],
                                 [b"word %d" % i for i in range(8)])
                server.wait_ready(number + 2)
                self.assertNotEqual(server.server_pid(), first)
        self.assertEqual(len(server.log.find("server.crashed", signal="SIGKILL")), rounds)

    def test_sockets_are_the_same_after_a_restart(self):
        server = self.echo()
        before = self.listening(server)
        server.kill9()
        server.wait_ready(2)
        self.assertEqual(self.listening(server), before)
        self.assertTrue(before)

    @staticmethod
    def listening(server):
        """Inodes of the sockets that listen on the echo module's port."""
        suffix = f":{server.port('echo', 'main'):04X}"
        with open("/proc/net/tcp") as file:
            rows = [line.split() for line in file][1:]
        return {row[9] for row in rows if row[1].endswith(suffix) and row[3] == "0A"}

    def test_a_lost_spawner_is_started_again(self):
        server = self.echo()
        first = server.role_pid("spawner")
        os.kill(first, signal.SIGKILL)
        server.wait_log("spawner.died", pid=str(first))
        second = server.wait_log("spawner.started", since=self.place_of(server, "spawner.died"))
        self.assertNotEqual(second.fields["pid"], str(first))
        self.assertEqual(ask(server.port("echo", "main"), b"still"), b"still")

    def test_a_spawner_that_keeps_dying_does_not_keep_the_server_down(self):
        server = self.echo(core={"restart_delay_max": "30s"})
        # At once, then after 0.2, 0.4 and 0.8 seconds; the next pause is longer than a start.
        for number in range(1, 6):
            os.kill(server.role_pid("spawner"), signal.SIGKILL)
            if number < 5:
                self.wait_count(server, "spawner.started", number + 1)
        self.wait_count(server, "spawner.died", 5)
        server.kill9()
        server.wait_ready(2)
        self.assertEqual(len(server.log.find("server.not_started")), 0)
        self.assertEqual(ask(server.port("echo", "main"), b"still"), b"still")

    @staticmethod
    def wait_count(server, event, count):
        deadline = Deadline(30, f"{event}, {count} times")
        while len(server.log.find(event)) < count:
            deadline.pause()

    @staticmethod
    def place_of(server, event):
        return next(i for i, line in enumerate(server.log.lines) if line.event == event)

    def test_the_server_ends_with_its_supervisor(self):
        server = self.echo()
        pids = [server.server_pid(), server.role_pid("spawner")]
        os.kill(server.supervisor_pid(), signal.SIGKILL)
        for pid in pids:
            processes.wait_gone(pid, 30)
            os.waitpid(pid, 0)  # orphans of the supervisor are ours
        server.wait_exit(status=-signal.SIGKILL)


class CrashRecord(SupervisorTest):
    @not_under("address", "its own handler ends the process")
    @not_under("thread", "its own handler ends the process")
    def test_a_fault_is_reported_with_module_and_object(self):
        server = self.echo()
        ask(server.port("echo", "main"), b"fault")
        line = server.wait_log("server.crashed")
        self.assertEqual(line.fields["signal"], "SIGSEGV")
        self.assertEqual(line.fields["module"], "echo")
        self.assertRegex(line.fields["generation"], r"^\d+$")
        self.assertRegex(line.fields["thread"], r"^loop-\d+$")
        self.assertEqual(line.fields["job"], "fa11" + "0" * 28)
        self.assertRegex(line.fields["image"], r"^echo\+0x[0-9a-f]+$")
        self.assertEqual(line.fields["address"], "0x8")
        server.wait_ready(2)
        self.assertEqual(ask(server.port("echo", "main"), b"again"), b"again")

    @not_under("address", "its own handler ends the process")
    @not_under("thread", "its own handler ends the process")
    def test_an_abort_is_reported_with_its_module(self):
        server = self.echo()
        ask(server.port("echo", "main"), b"abort")
        line = server.wait_log("server.crashed")
        self.assertEqual((line.fields["signal"], line.fields["module"]), ("SIGABRT", "echo"))
        server.wait_ready(2)

    def test_a_stalled_loop_is_killed_and_named(self):
        server = self.echo(core={"stall_timeout": "1s"})
        ask(server.port("echo", "main"), b"stall")
        line = server.wait_log("server.crashed", seconds=20)
        self.assertEqual(line.fields["signal"], "SIGKILL")
        self.assertEqual(line.fields["stalled"], "true")
        self.assertEqual(line.fields["module"], "echo")
        self.assertRegex(line.fields["thread"], r"^loop-\d+$")
        server.wait_ready(2)
        self.assertEqual(ask(server.port("echo", "main"), b"again"), b"again")

    def test_a_stopped_server_is_not_taken_for_stalled(self):
        server = self.echo(core={"stall_timeout": "1s"})
        pid = server.server_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            # Nothing may happen to it; three times the limit is a wait for the supervisor's ticks.
            with self.assertRaises(AssertionError):
                processes.wait_gone(pid, 3 / scale())
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual(ask(server.port("echo", "main"), b"goes on"), b"goes on")
        self.assertEqual(server.server_pid(), pid)

    def test_crashes_are_remembered_where_the_server_can_not_write(self):
        server = self.echo()
        server.kill9()
        server.wait_ready(2)
        text = (server.keys / "supervisor.state").read_text()
        self.assertRegex(text, r"(?m)^crash \d+ 9 ")
        server.stop()
        server.start()
        server.stop()
        self.assertRegex((server.keys / "supervisor.state").read_text(), r"(?m)^crash \d+ 9 ")


@needs_root
class Privileges(SupervisorTest):
    def test_root_keeps_four_capabilities_and_the_others_none(self):
        server = self.echo(as_root=True)
        supervisor = status_of(server.supervisor_pid())
        # CAP_KILL 5, CAP_SETGID 6, CAP_SETUID 7, CAP_NET_BIND_SERVICE 10
        kept = f"{1 << 5 | 1 << 6 | 1 << 7 | 1 << 10:016x}"
        self.assertEqual((supervisor["CapEff"], supervisor["CapPrm"]), (kept, kept))
        self.assertEqual(supervisor["NoNewPrivs"], "1")
        for role in ("server", "spawner"):
            status = status_of(server.role_pid(role))
            self.assertEqual(set(status["Uid"].split()), {str(NOBODY)}, role)
            self.assertEqual(set(status["Gid"].split()), {str(NOBODY)}, role)
            self.assertEqual(set(status["Groups"].split()), {str(NOBODY)}, role)
            for capabilities in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[capabilities], 16), 0, f"{role} {capabilities}")
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), role)

    def test_ports_below_1024_are_bound_for_an_unprivileged_server(self):
        instance = self.echo(start=False, as_root=True)
        port = next(number for number in range(600, 1024) if self.is_free(number))
        instance.set_module("echo", {"listen": [
            {"name": "main", "address": f"127.0.0.1:{port}", "tls": "none"}]})
        instance.start()
        self.assertEqual(ask(port, b"low"), b"low")
        instance.kill9()
        self.assertEqual(ask(port, b"low again"), b"low again")

    @staticmethod
    def is_free(port):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def test_the_server_holds_no_key_in_its_environment_or_arguments(self):
        server = self.echo(as_root=True, environment={"SECRET_OF_SOMEBODY": "swordfish"})
        key = (server.keys / "master.key").read_bytes()
        for role in ("server", "spawner"):
            pid = server.role_pid(role)
            for name in ("environ", "cmdline"):
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    text = file.read()
                self.assertNotIn(b"swordfish", text)
                self.assertNotIn(key, text)
                self.assertNotIn(key.hex().encode(), text)

    def test_the_state_of_the_supervisor_is_roots_alone(self):
        server = self.echo(as_root=True)
        server.kill9()
        server.wait_ready(2)
        own = server.folder / "state-supervisor"
        self.assertEqual((own.stat().st_uid, own.stat().st_mode & 0o7777), (0, 0o700))
        self.assertEqual((own / "supervisor.state").stat().st_uid, 0)

    def test_the_user_must_exist_and_not_be_root(self):
        for user, message in (("no-such-user", 'there is no user "no-such-user"'),
                              ("root", "may not run as root")):
            instance = self.echo(start=False, as_root=True, core={"user": user})
            instance.launch()
            instance.wait_exit(status=1)
            self.assertIn(message, instance.logs[-1].text())


class Sandbox(SupervisorTest):
    @not_under("address", "the symbolizer is a program")
    @not_under("thread", "the symbolizer is a program")
    def test_the_server_can_start_no_program(self):
        server = self.echo()
        self.assertEqual(ask(server.port("echo", "main"), b"exec"), b"refused")

    def test_check_sandbox_reaches_the_minimum(self):
        instance = self.instance()
        done = subprocess.run(instance.command("--check-sandbox"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                              env=instance.environ(), timeout=30 * scale(), text=True,
                              **instance._identity())
        self.assertEqual(done.returncode, 0, done.stdout)
        layers = dict(line.split()[:2] for line in done.stdout.splitlines()[:-1])
        for name in ("seccomp", "rlimits", "no-network", "not-root"):
            self.assertEqual(layers[name], "yes", done.stdout)
        self.assertIn("landlock", layers)
        self.assertIn("namespaces", layers)


class Refusals(SupervisorTest):
    def test_a_port_in_use_is_named_with_file_and_line(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            instance = self.echo(start=False)
            instance.set_module("echo", {"listen": [
                {"name": "main", "address": f"127.0.0.1:{port}", "tls": "none"}]})
            instance.launch()
            instance.wait_exit(status=1)
        lines = instance.logs[-1].text().strip().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], rf"echo\.conf:\d+: .*127\.0\.0\.1:{port}.*main.*"
                                   r"Address already in use")

    def test_a_second_instance_is_refused_and_the_first_goes_on(self):
        server = self.echo()
        second = subprocess.run(server.command("--foreground"), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                                env=server.environ(), timeout=30 * scale(), text=True,
                                **server._identity())
        self.assertEqual(second.returncode, 1)
        self.assertEqual(len(second.stdout.strip().splitlines()), 1, second.stdout)
        self.assertIn("another instance runs", second.stdout)
        self.assertEqual(ask(server.port("echo", "main"), b"first"), b"first")

    def test_bad_arguments_get_one_line_and_status_2(self):
        instance = self.instance()
        program = instance.command()[0]
        for arguments in ([], ["-c"], ["--nonsense"], ["-c", "x", "more"], ["--role=server"],
                          ["--role=spawner"], ["--role=nobody"]):
            done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                                  env=instance.environ(), timeout=30 * scale(), text=True)
            self.assertEqual(done.returncode, 2, (arguments, done.stdout))
            self.assertEqual(len(done.stdout.strip().splitlines()), 1, (arguments, done.stdout))

    def test_a_missing_configuration_is_named(self):
        instance = self.instance()
        done = subprocess.run([instance.command()[0], "-c", "/nonexistent/x.conf"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, cwd="/", env=instance.environ(),
                              timeout=30 * scale(), text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/x.conf", done.stdout)


class Signals(SupervisorTest):
    def test_term_ends_all_three_in_order(self):
        server = self.echo()
        pids = [server.server_pid(), server.role_pid("spawner")]
        server.stop(status=0)
        self.assertTrue(server.logs[-1].find("server.stopped"))
        self.assertEqual(len(server.logs[-1].find("server.crashed")), 0)
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"), pid)

    def test_a_connection_that_lingers_ends_with_the_server(self):
        server = self.echo()
        with socket.create_connection(("127.0.0.1", server.port("echo", "main"))) as client:
            client.settimeout(20 * scale())
            client.sendall(b"word")
            answer = b""
            while piece := client.recv(4096):
                answer += piece
            self.assertEqual(answer, b"word")
            # The server has ended its direction and waits for our end, which does not come.
            server.stop(status=0)

    def test_hup_reloads_and_says_so_to_the_manager(self):
        server = self.echo()
        os.kill(server.supervisor_pid(), signal.SIGHUP)
        self.assertTrue(server.notify.wait("RELOADING=1", server.process))
        server.wait_ready(2)
        self.assertEqual(ask(server.port("echo", "main"), b"reloaded"), b"reloaded")


@needs_programs("systemd-analyze")
class Units(SupervisorTest):
    def test_the_units_are_well_formed(self):
        for name, checked in (("imprimatur.service", "imprimatur.service"),
                              ("imprimatur@.service", "imprimatur@x.service")):
            unit = self.build.folder / "conf" / name
            self.assertTrue(unit.exists(), unit)
            instance = self.instance()
            text, count = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text())
            self.assertEqual(count, 1)
            copy = instance.folder / checked
            copy.write_text(text)
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=60 * scale())
            self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
