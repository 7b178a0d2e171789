# SPDX-License-Identifier: Apache-2.0
"""What the integration tests stand on: a private instance of the server, printers and clients.

    from harness import ServerTest, TcpSink, free_port

    class Lpr(ServerTest):
        def test_status_names_the_queue(self):
            server = self.server(modules={"lpr": {"listen": [self.listen("lpd")]}})
            ...

See case.py for what ServerTest gives, instance.py for the server itself. Nothing here sleeps: every
wait is for an event, with a deadline.
"""
from .case import ServerTest, needs_programs, needs_root, needs_testdata, not_under, tsan
from .files import find_in_files
from .instance import CtlError, Instance, StartFailed
from .log import LogLine
from .net import TcpSink, free_port
from .tracing import Strace

__all__ = ["CtlError", "Instance", "LogLine", "ServerTest", "StartFailed", "Strace", "TcpSink",
           "find_in_files", "free_port", "needs_programs", "needs_root", "needs_testdata",
           "not_under", "tsan"]
