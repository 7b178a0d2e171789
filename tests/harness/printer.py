# SPDX-License-Identifier: Apache-2.0
"""A printer from Debian's packages: p910nd, which copies what comes to port 9100 into a file."""
import os
import random
import subprocess
from pathlib import Path

from .deadline import Deadline


class P910nd:
    """Listens on port 9100 of an address of its own in 127/8 and appends to `file`.

    p910nd wants a lock folder that only its package's init script makes; it gets one in a mount
    namespace of its own, so nothing of the machine is touched.
    """

    def __init__(self, folder, seconds=10):
        self.file = Path(folder) / "printed"
        self.file.touch()
        self.log = Path(folder) / "p910nd.log"
        self.address = ".".join(["127"] + [str(random.randrange(1, 250)) for _ in range(3)])
        self.uri = f"socket://{self.address}:9100"
        script = ('mount -t tmpfs tmpfs /run/lock && mkdir /run/lock/p910nd && '
                  'exec p910nd -d -f "$0" -i "$1" 0')
        command = ["unshare", "--mount"]
        if os.geteuid() != 0:
            command += ["--user", "--map-root-user"]
        environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command + ["sh", "-c", script, self.file, self.address],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)
        self._wait_listening(seconds)

    def _wait_listening(self, seconds):
        """Looks for the socket in /proc: a probe by connecting would be a print job."""
        wanted = "".join(f"{int(part):02X}" for part in reversed(self.address.split(".")))
        deadline = Deadline(seconds, "p910nd to listen")
        while True:
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1] == f"{wanted}:238C" and fields[3] == "0A":
                    return
            assert self.process.poll() is None, f"p910nd ended: {self.log.read_text()}"
            deadline.pause()

    def printed(self):
        return self.file.read_bytes()

    def wait_printed(self, count, seconds=10):
        """Until `count` bytes have been printed; all bytes."""
        deadline = Deadline(seconds, f"{count} bytes in what p910nd printed")
        while len(self.printed()) < count:
            deadline.pause()
        return self.printed()

    def close(self):
        self.process.terminate()
        self.process.wait()
