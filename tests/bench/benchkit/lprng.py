# SPDX-License-Identifier: Apache-2.0
"""LPRng's lpd, unpacked below build/peers, with one queue to /dev/null."""
import os
import shutil

from harness.net import free_port
from harness.peers import ETC_FILES, LPRNG

from .daemon import Daemon, PartyMissing, finish_load, make_folder, remove, wait_at_rest
from .programs import Load

USER = "daemon"


class Lprng:
    """It reads /etc/printcap and /etc/lprng and nothing else, so it has an /etc of its own, in a mount
    namespace that goes with it."""

    is_peer = True
    name = "lprng"

    def __init__(self, bench):
        if not (LPRNG / "usr/sbin/lpd").exists():
            raise PartyMissing("not in build/peers (./quickstart deps check)")
        self.bench = bench
        self.queue = "sink"
        self.port = free_port()
        self.folder = make_folder()
        self.spool = self.folder / "spool/sink"
        self.daemon = None
        try:
            self._write_etc()
            self._start()
        except BaseException:
            self.close()
            raise

    def _write_etc(self):
        etc, run = self.folder / "etc", self.folder / "run"
        self.spool.mkdir(parents=True)
        run.mkdir()
        etc.mkdir()
        shutil.copytree(LPRNG / "etc/lprng", etc / "lprng")
        for name in ETC_FILES:
            source = os.path.join("/etc", name)
            if os.path.exists(source):
                shutil.copy(source, etc / name)
        # mx=0: no limit to a job's size; sh, sf: neither banner nor form feeds
        (etc / "printcap").write_text(f"sink:lp=/dev/null:sd={self.spool}:mx=0:sh:sf\n")
        (etc / "lprng/lpd.perms").write_text("DEFAULT ACCEPT\n")
        (etc / "lprng/lpd.conf").write_text("".join(f"{line}\n" for line in (
            f"lpd_port=127.0.0.1%{self.port}", f"lpd_listen_port=127.0.0.1%{self.port}",
            f"unix_socket_path={run}/socket", f"lockfile={run}/lpd",
            "printcap_path=/etc/printcap", "lpd_printcap_path=/etc/printcap",
            f"user={USER}", f"group={USER}", "send_try=1", "max_servers_active=200",
            "done_jobs=0")))
        for path in (self.spool.parent, self.spool, run):
            shutil.chown(path, USER, USER)
        os.chmod(self.spool, 0o700)

    def _start(self):
        script = 'mount --bind "$0" /etc && exec "$@"'
        libraries = f"{LPRNG}/usr/lib:{LPRNG}/usr/lib/x86_64-linux-gnu"
        self.daemon = Daemon(self.folder, self.name,
                             ["unshare", "--mount", "sh", "-c", script, self.folder / "etc",
                              LPRNG / "usr/sbin/lpd", "-F"], {"LD_LIBRARY_PATH": libraries})
        self.daemon.wait_port(self.port)

    def is_running(self):
        return self.daemon.is_running()

    def root_pids(self):
        return self.daemon.first_pids()

    def begin_load(self, clients, jobs, size, is_together=False):
        return Load(self.bench, self.port, self.queue, clients, jobs, size, is_together)

    finish_load = staticmethod(finish_load)

    def load(self, clients, jobs, size):
        return self.finish_load(self.begin_load(clients, jobs, size))

    def drain(self):
        """Until all that it took has been printed."""
        wait_at_rest("LPRng's spool to be empty", lambda: sum(
            name[:2] in ("df", "hf") for name in os.listdir(self.spool)))

    def restart(self):
        """Anew, with an empty spool."""
        self.daemon.close()
        for name in os.listdir(self.spool):
            (self.spool / name).unlink(missing_ok=True)
        self._start()

    def close(self):
        if self.daemon is not None:
            self.daemon.close()
        remove(self.folder)
