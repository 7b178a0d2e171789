# SPDX-License-Identifier: Apache-2.0
"""CUPS: a private cupsd with a raw queue to file:///dev/null, and cups-lpd in front of it, started
for each connection by inetbench. Limits that would only stop the load are lifted; all else is as
shipped, except that no files of finished jobs are kept."""
import os
import shutil
import subprocess

from harness.net import free_port
from harness.peers import CUPS_BACKENDS, PEERS

from .daemon import Daemon, PartyMissing, finish_load, make_folder, remove, wait_at_rest
from .programs import Load

CUPS_LPD = PEERS / "cups/usr/lib/cups/daemon/cups-lpd"
HELPERS = "/usr/lib/cups/daemon"
USER = "lp"

FILES_CONF = """SystemGroup root
User lp
Group lp
FileDevice Yes
ServerRoot {folder}/etc
ServerBin {folder}/lib
RequestRoot {folder}/spool
TempDir {folder}/spool/tmp
CacheDir {folder}/cache
StateDir {folder}/state
ServerKeychain {folder}/ssl
AccessLog {folder}/access_log
ErrorLog {folder}/error_log
PageLog {folder}/page_log
"""
CUPSD_CONF = """LogLevel warn
MaxLogSize 0
Listen 127.0.0.1:{port}
Browsing No
WebInterface No
DefaultAuthType None
MaxJobs 0
MaxClients 1000
MaxClientsPerHost 1000
PreserveJobHistory No
PreserveJobFiles No
<Location />
Order allow,deny
Allow localhost
</Location>
<Policy default>
<Limit All>
Order deny,allow
</Limit>
</Policy>
"""


class Cups:
    is_peer = True
    name = "cups-lpd"

    def __init__(self, bench):
        for program in ("cupsd", "lpadmin", "lpstat"):
            if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
                raise PartyMissing(f"not installed: {program}")
        if not CUPS_LPD.exists():
            raise PartyMissing("not in build/peers (./quickstart deps check)")
        self.bench = bench
        self.queue = "sink"
        self.port, self.ipp_port = free_port(), free_port()
        self.folder = make_folder()
        self.scheduler = self.inetd = None
        try:
            self._configure()
            self._start()
        except BaseException:
            self.close()
            raise

    def _configure(self):
        for name in ("etc", "lib/backend", "lib/filter", "spool/tmp", "cache", "state", "ssl"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("spool", "spool/tmp", "cache", "state"):
            shutil.chown(self.folder / name, USER, USER)
        if (CUPS_BACKENDS / "socket").exists():
            shutil.copy(CUPS_BACKENDS / "socket", self.folder / "lib/backend/socket")
            os.chmod(self.folder / "lib/backend/socket", 0o755)
        helpers = self.folder / "lib/daemon"  # cups-exec, through which cupsd starts a backend
        if not helpers.is_symlink():
            helpers.symlink_to(HELPERS)
        (self.folder / "etc/cups-files.conf").write_text(FILES_CONF.format(folder=self.folder))
        (self.folder / "etc/cupsd.conf").write_text(CUPSD_CONF.format(port=self.ipp_port))

    def _start(self):
        self.scheduler = Daemon(self.folder, "cupsd",
                                ["cupsd", "-f", "-c", self.folder / "etc/cupsd.conf", "-s",
                                 self.folder / "etc/cups-files.conf"])
        self.scheduler.wait_port(self.ipp_port)
        self.add_queue("sink", "file:///dev/null")
        self.inetd = Daemon(self.folder, "inetbench",
                            [self.bench.program("inetbench"), self.port, CUPS_LPD, "-h",
                             self._address(), "-o", "document-format=application/vnd.cups-raw"])
        self.inetd.wait_port(self.port)

    def _address(self):
        return f"127.0.0.1:{self.ipp_port}"

    def _run(self, *words):
        done = subprocess.run([words[0], "-h", self._address(), *words[1:]], check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def add_queue(self, name, uri):
        status, _, err = self._run("lpadmin", "-p", name, "-E", "-v", uri, "-m", "raw")
        if status != 0:
            raise PartyMissing(f"lpadmin: {err.strip()}")

    def add_printer(self, sink):
        """A queue `direct` to that sink, by cupsd's socket backend."""
        if not (self.folder / "lib/backend/socket").exists():
            raise PartyMissing("the socket backend is not in build/peers")
        self.add_queue("direct", sink.uri)

    def is_running(self):
        return all(daemon is not None and daemon.is_running()
                   for daemon in (self.scheduler, self.inetd))

    def root_pids(self):
        return self.scheduler.first_pids() + self.inetd.first_pids()

    def begin_load(self, clients, jobs, size, queue="sink", is_together=False):
        return Load(self.bench, self.port, queue, clients, jobs, size, is_together)

    finish_load = staticmethod(finish_load)

    def load(self, clients, jobs, size, queue="sink"):
        return self.finish_load(self.begin_load(clients, jobs, size, queue))

    def jobs_in(self, queue):
        """Jobs of a queue that are not finished."""
        return len(self._run("lpstat", "-o", queue)[1].splitlines())

    def drain(self):
        """Until every connection has ended, and every job that came by one is finished."""
        wait_at_rest("CUPS to have no jobs", lambda: (
            len(self.inetd.children()) + self.jobs_in("sink")))

    def restart(self):
        """Anew, without jobs."""
        self._stop()
        remove(self.folder / "spool")
        remove(self.folder / "cache")
        self._configure()
        self._start()

    def _stop(self):
        for daemon in (self.inetd, self.scheduler):
            if daemon is not None:
                daemon.close()
        self.inetd = self.scheduler = None

    def close(self):
        self._stop()
        remove(self.folder)
