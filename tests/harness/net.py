# SPDX-License-Identifier: Apache-2.0
"""Ports, and printers that take what they are sent."""
import random
import socket
import threading

from .deadline import Deadline


def free_port():
    """A TCP port that nobody listens on, below the range that outgoing connections use."""
    for _ in range(1000):
        port = random.randrange(10000, 32000)
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(("::", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port between 10000 and 32000")


class TcpSink:
    """A RAW printer: takes connections, keeps what each one sent.

    reply          bytes that are sent to each new connection
    receive_limit  after so many bytes the connection is closed by the printer
    is_paused      with True nothing is read until resume(): the client meets back-pressure
    """

    def __init__(self, reply=b"", receive_limit=None, is_paused=False, backlog=16, port=0):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(backlog)
        self.port = self._socket.getsockname()[1]
        self.uri = f"socket://127.0.0.1:{self.port}"
        self._reply = reply
        self._limit = receive_limit
        self._changed = threading.Condition()
        self._open = []
        self._documents = []  # [bytearray, is_complete] in the order of accept
        self._running = threading.Event()
        if not is_paused:
            self._running.set()
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def resume(self):
        self._running.set()

    def pause(self):
        self._running.clear()

    def close(self):
        """Refuses from now on, and cuts what is open."""
        with self._changed:
            self._is_closed = True
            connections = list(self._open)
        self._running.set()
        for connection in [self._socket] + connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._socket.close()

    def connections(self):
        with self._changed:
            return len(self._documents)

    def documents(self):
        """What each finished connection sent."""
        with self._changed:
            return [bytes(data) for data, is_complete in self._documents if is_complete]

    def bytes_received(self):
        with self._changed:
            return sum(len(data) for data, _ in self._documents)

    def wait_connections(self, count, seconds=10):
        self._wait(lambda: len(self._documents) >= count, f"{count} connections", seconds)

    def wait_documents(self, count, seconds=10):
        """Until `count` connections have been ended by the client; all their documents."""
        self._wait(lambda: sum(done for _, done in self._documents) >= count,
                   f"{count} documents", seconds)
        return self.documents()

    def wait_bytes(self, count, seconds=10):
        self._wait(lambda: sum(len(data) for data, _ in self._documents) >= count,
                   f"{count} bytes", seconds)

    def _wait(self, is_there, what, seconds):
        deadline = Deadline(seconds, f"{what} at the printer on port {self.port}")
        with self._changed:
            while not is_there():
                self._changed.wait(deadline.remaining())

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._changed:
                if self._is_closed:
                    connection.close()
                    return
                document = [bytearray(), False]
                self._documents.append(document)
                self._open.append(connection)
                self._changed.notify_all()
            threading.Thread(target=self._take, args=(connection, document), daemon=True).start()

    def _take(self, connection, document):
        is_ended = False
        try:
            if self._reply:
                connection.sendall(self._reply)
            while True:
                self._running.wait()
                data = connection.recv(65536)
                with self._changed:
                    document[0] += data
                    self._changed.notify_all()
                if not data:
                    is_ended = True
                    break
                if self._limit is not None and len(document[0]) >= self._limit:
                    break
        except OSError:
            pass
        with self._changed:
            self._open.remove(connection)
            document[1] = is_ended
            self._changed.notify_all()
        connection.close()
