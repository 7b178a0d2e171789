# SPDX-License-Identifier: Apache-2.0
"""A private instance of the server: folders, settings, processes.

Everything lies in one temporary folder: etc/ (imprimatur.conf, modules.d, modules-enabled), state/,
run/, keys/. As root the processes run as `nobody` unless `as_root` is asked for.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from . import conf, processes
from .deadline import scale
from .log import Log
from .net import free_port
from .notify import NotifySocket
from .tracing import Strace

NOBODY = 65534
SANITIZER_REPORT = re.compile(r"(?:ERROR|WARNING): \w+Sanitizer|: runtime error: ")


class StartFailed(AssertionError):
    """The server ended before it was ready; `status` and `log` say how."""

    def __init__(self, status, log):
        super().__init__(f"the server ended with status {status} before it was ready:\n{log}")
        self.status, self.log = status, log


class CtlError(AssertionError):
    """imprimctl refused."""

    def __init__(self, arguments, status, message):
        super().__init__(f"imprimctl {' '.join(arguments)}: status {status}: {message}")
        self.status, self.message = status, message


class Instance:
    """
    modules  {"lpr": {setting: value, ...}, ...}: written to modules.d/NAME.conf and enabled
    core     settings of imprimatur.conf beside those that the instance needs itself
    as_root  imprimd is started as root and drops its privileges itself
    strace   system calls to record (an expression of strace -e trace=), see tracing.py
    """

    def __init__(self, build, modules=None, core=None, as_root=False, strace=None,
                 environment=None, folder=None):
        self.build = build
        self.stage = build.stage()
        self.as_root = as_root
        self.uid = NOBODY if os.geteuid() == 0 else os.geteuid()
        self.gid = NOBODY if os.geteuid() == 0 else os.getegid()
        self.folder = Path(folder or tempfile.mkdtemp(prefix="imprimatur-test-"))
        os.chmod(self.folder, 0o755)
        self.etc, self.state = self.folder / "etc", self.folder / "state"
        self.run, self.keys = self.folder / "run", self.folder / "keys"
        self.conf = self.etc / "imprimatur.conf"
        self.socket = self.run / "control.sock"
        self.module_dir = self.stage / "modules"
        for path in (self.etc, self.etc / "modules.d", self.etc / "modules-enabled"):
            path.mkdir(mode=0o755, exist_ok=True)
        for path, mode in ((self.state, 0o700), (self.run, 0o755), (self.keys, 0o700)):
            path.mkdir(mode=mode, exist_ok=True)
            if os.geteuid() == 0 and not (as_root and path == self.keys):
                os.chown(path, self.uid, self.gid)
        self.reports = self.folder / "reports"  # of the sanitizers, whoever runs
        self.reports.mkdir(exist_ok=True)
        os.chmod(self.reports, 0o1777)
        self.core = {
            "state_dir": str(self.state), "run_dir": str(self.run),
            "master_key": str(self.keys / "master.key"), "module_dir": str(self.module_dir),
            "modules_dir": str(self.etc / "modules-enabled"),
        }
        if as_root:
            self.core.update(user="nobody", group="nogroup")
        else:
            self.core["developer"] = True
        self.core.update(core or {})
        self.modules = {}
        self.environment = dict(environment or {})
        self.process = self.log = self.notify = None
        self.logs = []  # of every start
        self.status = None
        self._strace = strace
        self.trace = Strace(self.folder / "trace") if strace else None
        self.write_core()
        for name, settings in (modules or {}).items():
            self.set_module(name, settings)

    # ---- settings ----

    def write_core(self, **changes):
        self.core.update(changes)
        self._write(self.conf, conf.settings(self.core))

    def set_module(self, name, settings, is_enabled=True):
        """Writes modules.d/NAME.conf; a str is taken as the file's text."""
        if not isinstance(settings, str):
            self.modules[name] = settings
            settings = f"{name} = {conf.value(settings)};\n"
        self._write(self.etc / "modules.d" / f"{name}.conf", settings)
        link = self.etc / "modules-enabled" / f"{name}.conf"
        if is_enabled and not link.is_symlink():
            link.symlink_to(f"../modules.d/{name}.conf")
        elif not is_enabled and link.is_symlink():
            link.unlink()

    @staticmethod
    def _write(path, text):
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        os.chmod(new, 0o644)
        os.replace(new, path)

    @staticmethod
    def listener(name, tls="none", **more):
        """A listener on a free port of 127.0.0.1, for a module's `listen`."""
        return {"name": name, "address": f"127.0.0.1:{free_port()}", "tls": tls, **more}

    def port(self, module, listener):
        for item in self.modules[module]["listen"]:
            if item["name"] == listener:
                return int(item["address"].rsplit(":", 1)[1])
        raise KeyError(f"{module} has no listener {listener}")

    # ---- processes ----

    def environ(self):
        reports = self.reports / "sanitizer"
        library = str(self.stage / "lib")
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
            "LD_LIBRARY_PATH": library, "TMPDIR": str(self.folder),
            "ASAN_OPTIONS": f"log_path={reports}:detect_leaks=1:abort_on_error=0:"
                            "detect_stack_use_after_return=1:strict_string_checks=1",
            "UBSAN_OPTIONS": f"log_path={reports}:print_stacktrace=1",
            "TSAN_OPTIONS": f"log_path={reports}:second_deadlock_stack=1:exitcode=66",
            "LSAN_OPTIONS": "print_suppressions=0",
            "NO_PROXY": "*",
        }
        if self.build.sanitizer:
            # A leak report of an unmapped module has no names.
            environment["IMPRIMATUR_KEEP_MODULES"] = "1"
        if self.build.has_coverage and "IMP_TEST_GCOV" in os.environ:
            environment["GCOV_PREFIX"] = os.environ["IMP_TEST_GCOV"]  # see tests/coverage
        environment.update(self.environment)
        return environment

    def command(self, *arguments):
        return [str(self.stage / "imprimd"), "-c", str(self.conf), *arguments]

    def _identity(self):
        if os.geteuid() != 0 or self.as_root:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def start(self, seconds=20):
        """Starts imprimd and waits until it says that it is ready."""
        self.launch()
        if not self.notify.wait("READY=1", self.process, seconds):
            status = self.process.wait()
            self.log.wait_end()
            text = self.log.text()
            self._forget()
            self.status = status
            raise StartFailed(status, text)
        return self

    def launch(self):
        """Starts imprimd without waiting."""
        assert self.process is None, "runs already"
        self.notify = NotifySocket(self.folder / "notify.sock")
        command = self.command("--foreground")
        if self.trace:
            # strace, as root, follows into the unprivileged user by -u.
            prefix = self.trace.command(self._strace)
            if self._identity():
                prefix += ["-u", "nobody"]
            command = prefix + command
        identity = {} if self.trace else self._identity()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd="/", env={**self.environ(), "NOTIFY_SOCKET": self.notify.path},
            start_new_session=True, **identity)
        self.log = Log(self.process.stdout)
        self.logs.append(self.log)

    def wait_ready(self, count, seconds=20):
        """Until READY=1 has come `count` times since the start (restarts and reloads say it)."""
        assert self.notify.wait("READY=1", self.process, seconds, count), "the server ended"

    def check(self):
        """imprimd --check: (exit status, output)."""
        done = subprocess.run(self.command("--check"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                              env=self.environ(), timeout=30 * scale(), **self._identity())
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def supervisor_pid(self):
        if self.trace:
            return processes.children(self.process.pid)[0]
        return self.process.pid

    def role_pid(self, role):
        """The pid of the child of the supervisor that has the word `role` among its arguments."""
        for pid in processes.children(self.supervisor_pid()):
            if any(word.strip("-").split("=")[-1] == role for word in
                   processes.arguments(pid)):
                return pid
        raise AssertionError(f"no process {role} below {self.supervisor_pid()}")

    def server_pid(self):
        return self.role_pid("server")

    def kill9(self):
        """kill -9 of the server process alone; waits until it is gone, returns its pid."""
        pid = self.server_pid()
        os.kill(pid, signal.SIGKILL)
        processes.wait_gone(pid)
        return pid

    def stop(self, seconds=30, status=0):
        """SIGTERM, the end awaited, and the leak check: exit status, reports, processes left."""
        assert self.process is not None, "does not run"
        os.kill(self.supervisor_pid(), signal.SIGTERM)
        return self.wait_exit(seconds, status)

    def wait_exit(self, seconds=30, status=0):
        processes.wait_gone(self.process.pid, seconds)
        self.status = self.process.wait()
        self.log.wait_end()
        log = self.log.text()
        self._forget()
        self.assert_no_reports()
        if status is not None:
            assert self.status == status, f"imprimd: exit status {self.status}\n{log}"
        return self.status

    def kill(self):
        """Ends all processes of the instance at once, whatever state they are in."""
        if self.process is not None:
            pids = [self.process.pid] + processes.descendants(self.process.pid)
            processes.kill_all(pids)
            self.process.wait()
            self._forget()

    def _forget(self):
        self.notify.close()
        self.process = None

    def assert_no_reports(self):
        """No sanitizer has written a report, to its file or (where it can't open one) to the log."""
        for report in sorted(self.reports.glob("sanitizer.*")):
            text = report.read_text(errors="replace")
            if text.strip():
                raise AssertionError(f"sanitizer report {report.name}:\n{text[:20000]}")
        for log in self.logs:
            if SANITIZER_REPORT.search(log.text()):
                raise AssertionError(f"sanitizer report in the log:\n{log.text()[-20000:]}")

    def close(self):
        """Ends and removes everything."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- administration ----

    def ctl(self, *arguments, stdin=None, seconds=30):
        """imprimctl --json ARGUMENTS: what it answered, parsed. CtlError when it refused."""
        status, out, err = self.ctl_run("--json", *arguments, stdin=stdin, seconds=seconds)
        if status != 0:
            raise CtlError(arguments, status, err.strip() or out.strip())
        return json.loads(out) if out.strip() else None

    def ctl_run(self, *arguments, stdin=None, seconds=30):
        """imprimctl ARGUMENTS: (exit status, standard output, standard error)."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run(
            [str(self.stage / "imprimctl"), "--socket", str(self.socket), *arguments],
            input=stdin if stdin is not None else b"", stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd="/", env=self.environ(), timeout=seconds * scale(),
            **self._identity())
        return (done.returncode, done.stdout.decode("utf-8", "replace"),
                done.stderr.decode("utf-8", "replace"))

    def wait_log(self, event, seconds=10, since=0, **fields):
        return self.log.wait(event, seconds, since, **fields)
