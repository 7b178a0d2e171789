# SPDX-License-Identifier: Apache-2.0
"""A printer that never ends a connection."""
import socket
import threading

from .deadline import Deadline


class SilentSink:
    """A printer that reads, says nothing and never closes."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.uri = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._changed = threading.Condition()
        self._taken = []
        self._connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()
        except OSError:
            pass

    def _read(self, connection):
        data = b""
        try:
            while piece := connection.recv(65536):
                data += piece
        except OSError:
            pass
        with self._changed:
            self._taken.append(data)
            self._changed.notify_all()

    def wait(self, count, seconds=10):
        deadline = Deadline(seconds, f"{count} jobs at the silent printer")
        with self._changed:
            while len(self._taken) < count:
                self._changed.wait(deadline.remaining())
            return list(self._taken)

    def connections(self):
        return len(self._connections)

    def close(self):
        self._listener.close()
        for connection in self._connections:
            connection.close()
