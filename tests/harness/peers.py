# SPDX-License-Identifier: Apache-2.0
"""Clients of other print systems: those that are installed, and those that `./quickstart deps check`
unpacks below build/peers because they conflict with the installed ones."""
import os
import shutil
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from .build import SOURCE_DIR
from .deadline import scale

PEERS = SOURCE_DIR / "build/peers"
CUPS_BACKENDS = PEERS / "cups/usr/lib/cups/backend-available"
LPRNG = PEERS / "lprng"

# What stands in the /etc that run_as makes, beside LPRng's settings: nothing of that may come to be on
# the machine.
ETC_FILES = ("passwd", "group", "hosts", "nsswitch.conf", "resolv.conf", "services", "protocols",
             "host.conf", "gai.conf")


class ClientFailed(AssertionError):
    def __init__(self, command, status, output):
        super().__init__(f"{' '.join(map(str, command))}: status {status}:\n{output}")
        self.status, self.output = status, output


def needs_peer(path):
    """Skips where a program is not unpacked below build/peers."""
    return unittest.skipIf(not (PEERS / path).exists(),
                           f"not in build/peers (./quickstart deps check): {path}")


def client_folder(test):
    """A folder for what the clients of a test have: apart from the server's, which is searched for
    private text."""
    folder = Path(test.enterContext(tempfile.TemporaryDirectory(prefix="imprimatur-client-")))
    os.chmod(folder, 0o755)
    return folder


def run(command, seconds=30, environment=None, stdin=subprocess.DEVNULL):
    """A client to its end; its output. ClientFailed when it ends with another status than 0."""
    done = subprocess.run([str(word) for word in command], stdin=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds * scale(),
                          env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})})
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise ClientFailed(command, done.returncode, output)
    return output


class CupsBackend:
    """A backend of CUPS, started as cupsd starts it: descriptor 3 the back channel, 4 the side
    channel, the document as its last argument or on standard input."""

    def __init__(self, name, uri, file, user="anna", title="Title", copies=1, options="", number=42,
                 by_stdin=False):
        self.arguments = [str(CUPS_BACKENDS / name), str(number), user, title, str(copies), options]
        if not by_stdin:
            self.arguments.append(str(file))
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEVICE_URI": uri, "PRINTER": "peer",
                       "CONTENT_TYPE": "application/vnd.cups-raw", "CHARSET": "utf-8"}
        if by_stdin:  # then cupsd says what filters have made
            environment["FINAL_CONTENT_TYPE"] = "printer/peer"
        self._side, side = socket.socketpair()
        script = 'input=$1; shift; exec "$@" 3<>/dev/null 4<&0 <"$input"'
        self.process = subprocess.Popen(
            ["sh", "-c", script, "sh", str(file) if by_stdin else "/dev/null", *self.arguments],
            stdin=side, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        side.close()

    def wait(self, seconds=30):
        """Until the backend has ended; what it wrote."""
        try:
            output, _ = self.process.communicate(timeout=seconds * scale())
        except subprocess.TimeoutExpired as late:
            self.process.kill()
            output, _ = self.process.communicate()
            raise ClientFailed(self.arguments, "none in time",
                               output.decode("utf-8", "replace")) from late
        finally:
            self._side.close()
        output = output.decode("utf-8", "replace")
        if self.process.returncode != 0:
            raise ClientFailed(self.arguments, self.process.returncode, output)
        return output


def cups_backend(name, uri, file, seconds=30, **arguments):
    """One job through a backend of CUPS, to its end; what it wrote."""
    return CupsBackend(name, uri, file, **arguments).wait(seconds)


def run_as(user, folder, command):
    """A client that asks the system who runs it (rlprm, LPRng), run by `user`: in a mount namespace
    of its own, with an /etc below `folder` in which our user has that name."""
    etc = Path(folder) / f"etc-of-{user}"
    if not etc.exists():
        etc.mkdir()
        if (LPRNG / "etc/lprng").exists():
            shutil.copytree(LPRNG / "etc/lprng", etc / "lprng")
        for name in ETC_FILES:
            if (Path("/etc") / name).exists():
                shutil.copy(Path("/etc") / name, etc / name)
        users = (etc / "passwd").read_text()
        (etc / "passwd").write_text(f"{user}:x:0:0::/:/bin/sh\n{users}")
        (etc / "printcap").touch()
    unshare = ["unshare", "--mount"] + (["--map-root-user"] if os.geteuid() != 0 else [])
    return run(unshare + ["sh", "-c", 'mount --bind "$0" /etc && exec "$@"', etc, *command],
               environment={"USER": user, "LOGNAME": user})
