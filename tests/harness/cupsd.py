# SPDX-License-Identifier: Apache-2.0
"""A print server of CUPS as clients' machines have one: private to a test, with queues that send to us."""
import grp
import os
import shutil
import socket
import subprocess
from pathlib import Path

from . import peers
from .deadline import Deadline, scale

BACKENDS = ("lpd", "socket")

FILES = """
ServerRoot {folder}/etc
ServerBin {folder}/lib
StateDir {folder}/run
CacheDir {folder}/cache
RequestRoot {folder}/spool
TempDir {folder}/spool/tmp
DocumentRoot {folder}/doc
Printcap {folder}/run/printcap
AccessLog {folder}/log/access
ErrorLog {folder}/log/error
PageLog {folder}/log/page
"""

# Whoever reaches the socket below the test's folder may do all: it is the test.
SETTINGS = """
LogLevel debug
Listen {folder}/run/cups.sock
Browsing No
WebInterface No
DefaultAuthType None
JobKillDelay 1
JobRetryInterval 1
<Location />
  Order allow,deny
  Allow all
</Location>
<Policy default>
  JobPrivateAccess all
  JobPrivateValues none
  SubscriptionPrivateAccess all
  SubscriptionPrivateValues none
  <Limit All>
    Order deny,allow
  </Limit>
</Policy>
"""

PRINTER = """
<Printer {name}>
DeviceURI {uri}
State Idle
Accepting Yes
ErrorPolicy retry-current-job
</Printer>
"""


class Cupsd:
    """cupsd in the foreground, with raw queues {name: device URI}; ends with the test."""

    def __init__(self, test, queues):
        self.folder = Path(peers.client_folder(test))
        for name in ("etc", "lib/backend", "lib/daemon", "lib/filter", "run", "cache", "spool/tmp",
                     "doc", "log"):
            (self.folder / name).mkdir(parents=True)
        for name in BACKENDS:  # by all to be run: then cupsd does not run them as root
            shutil.copy(peers.CUPS_BACKENDS / name, self.folder / "lib/backend")
            os.chmod(self.folder / "lib/backend" / name, 0o755)
        (self.folder / "lib/daemon/cups-exec").symlink_to("/usr/lib/cups/daemon/cups-exec")
        files = FILES
        if os.geteuid() == 0:
            files += "User lp\nGroup lp\n"
            for name in ("spool", "spool/tmp"):
                os.chown(self.folder / name, -1, grp.getgrnam("lp").gr_gid)
                os.chmod(self.folder / name, 0o770)
        etc = self.folder / "etc"
        (etc / "cups-files.conf").write_text(files.format(folder=self.folder))
        (etc / "cupsd.conf").write_text(SETTINGS.format(folder=self.folder))
        (etc / "printers.conf").write_text("".join(
            PRINTER.format(name=name, uri=uri) for name, uri in queues.items()))
        self.process = subprocess.Popen(
            ["/usr/sbin/cupsd", "-f", "-c", str(etc / "cupsd.conf"), "-s",
             str(etc / "cups-files.conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        test.addCleanup(self.stop)
        self._wait_ready()

    def _wait_ready(self):
        deadline = Deadline(20, "cupsd")
        while True:
            assert self.process.poll() is None, f"cupsd ended:\n{self.log()}"
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.folder / "run/cups.sock"))
                    return
                except OSError:
                    deadline.pause()

    def log(self):
        path = self.folder / "log/error"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10 * scale())
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    # ---- its clients ----

    def client(self, program, *arguments):
        return peers.run([program, *arguments],
                         environment={"CUPS_SERVER": str(self.folder / "run/cups.sock")})

    def lp(self, queue, file, *options, user=None):
        """Prints as a person does; the job's name in CUPS ("queue-1")."""
        as_user = [] if user is None else ["-U", user]
        output = self.client("lp", *as_user, "-d", queue, *options, str(file))
        assert output.startswith("request id is "), output
        return output.split()[3]

    def cancel(self, job):
        self.client("cancel", job)

    def jobs(self, which="not-completed"):
        """Names of its jobs in their order: "not-completed" or "completed"."""
        lines = self.client("lpstat", "-W", which, "-o").splitlines()
        return [line.split()[0] for line in lines]

    def wait_idle(self, seconds=30):
        """Until it has nothing left to send."""
        deadline = Deadline(seconds, "cupsd to be done")
        while left := self.jobs():
            try:
                deadline.pause()
            except AssertionError as late:
                raise AssertionError(f"{left} wait still:\n{self.log()[-8000:]}") from late
