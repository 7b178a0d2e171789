# SPDX-License-Identifier: Apache-2.0
"""The other end of $NOTIFY_SOCKET (sd_notify): readiness as an event instead of a guess."""
import os
import select
import socket

from .deadline import Deadline


class NotifySocket:
    def __init__(self, path):
        self.path = str(path)
        self.messages = []  # every KEY=VALUE that came, in order
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o666)

    def close(self):
        self._socket.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _receive(self):
        data, descriptors, _, _ = socket.recv_fds(self._socket, 8192, 16)
        for descriptor in descriptors:  # FDSTORE: systemd would keep them; we only count them
            os.close(descriptor)
        self.messages += data.decode("utf-8", "replace").split("\n")

    def count(self, message):
        return self.messages.count(message)

    def receive_all(self):
        """Takes in what has come, without waiting."""
        while select.select([self._socket], [], [], 0)[0]:
            self._receive()

    def wait(self, message, process, seconds=20, count=1):
        """Until `message` has come `count` times. False when `process` (a Popen) ended before."""
        deadline = Deadline(seconds, f"{message} on the notify socket")
        process_fd = os.pidfd_open(process.pid)
        try:
            while self.count(message) < count:
                ready, _, _ = select.select([self._socket, process_fd], [], [],
                                            deadline.remaining())
                if self._socket in ready:
                    self._receive()
                elif process_fd in ready:
                    return False
            return True
        finally:
            os.close(process_fd)
