# SPDX-License-Identifier: Apache-2.0
"""An LPD client (RFC 1179) that does exactly what a test says, the wrong things too."""
import socket

from .deadline import scale


class Refused(AssertionError):
    """The server answered with another octet than zero, or closed."""

    def __init__(self, step, octet):
        super().__init__(f"{step}: {'connection closed' if octet == b'' else octet!r}")
        self.octet = octet


class TcpClient:
    """A connection that sends and ends as a test says."""

    def __init__(self, port, seconds=10, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), seconds * scale())
        self.socket.settimeout(seconds * scale())

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def end(self):
        """Ends our direction; answers can still come."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def read_all(self):
        """Up to the end of the connection."""
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
        return data


class LpdClient(TcpClient):
    def octet(self):
        try:
            return self.socket.recv(1)
        except ConnectionResetError:
            return b""

    def expect_yes(self, step):
        octet = self.octet()
        if octet != b"\0":
            raise Refused(step, octet)

    def expect_closed(self):
        assert self.octet() == b"", "the server did not close"

    # ---- steps of a job ----

    def receive(self, queue="hold"):
        self.send(b"\2" + queue.encode() + b"\n")
        self.expect_yes("receive job")

    def control(self, text, name="cfA001client", end=b"\0"):
        self.send(b"\2%d %s\n" % (len(text), name.encode()))
        self.expect_yes("control file")
        self.send(text + end)
        self.expect_yes("control data")

    def data(self, content, name="dfA001client", size=None, end=b"\0"):
        self.send(b"\3%d %s\n" % (len(content) if size is None else size, name.encode()))
        self.expect_yes("data file")
        self.send(content + end)

    def data_yes(self, content, name="dfA001client", **more):
        self.data(content, name, **more)
        self.expect_yes("data")


def control_text(user="anna", title="Quarterly report", files=("dfA001client",), copies=1,
                 host="client", letter="l"):
    lines = [f"H{host}", f"P{user}", f"J{title}"]
    for file in files:
        lines += [letter + file] * copies + [f"U{file}", f"N{file}.pdf"]
    return "\n".join(lines).encode() + b"\n"


def submit(port, content, queue="hold", user="anna", title="Quarterly report", number=1,
           data_first=False):
    """One job, by the book; returns when it is acknowledged."""
    data, control = f"dfA{number:03}client", f"cfA{number:03}client"
    text = control_text(user, title, (data,))
    with LpdClient(port, 30) as client:
        client.receive(queue)
        if not data_first:
            client.control(text, control)
        client.data_yes(content, data)
        if data_first:
            client.control(text, control)
