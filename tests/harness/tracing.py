# SPDX-License-Identifier: Apache-2.0
"""System calls of a server, by strace.

    server = self.server(strace="fdatasync,write,pwrite64")
    ...
    server.stop()
    for call in server.trace.calls(): ...
"""
import re
import shutil
from pathlib import Path

CALL = re.compile(r"^(?:(\d+) +)?(\d+\.\d+) (\w+)\((.*)$")
RESUMED = re.compile(r"^(?:(\d+) +)?(\d+\.\d+) <\.\.\. (\w+) resumed>(.*)$")
RESULT = re.compile(r"^(.*)\) += (\S+)(?: (.*))?$", re.DOTALL)


class Call:
    def __init__(self, pid, start, end, name, arguments, result):
        self.pid, self.start, self.end = pid, start, end
        self.name, self.arguments, self.result = name, arguments, result

    def __repr__(self):
        return f"{self.pid} {self.end:.6f} {self.name}({self.arguments}) = {self.result}"


class Strace:
    """A trace file; `calls()` gives the completed calls in the order in which they ended."""

    def __init__(self, path):
        self.path = Path(path)

    @staticmethod
    def is_there():
        return shutil.which("strace") is not None

    def command(self, expression):
        return ["strace", "-f", "-ttt", "-s", "256", "-yy", "-e", f"trace={expression}",
                "-e", "signal=none", "-o", str(self.path)]

    def calls(self, *names):
        pending = {}
        done = []
        for line in self.path.read_text(errors="replace").splitlines():
            match = RESUMED.match(line)
            if match:
                pid, end, name, rest = match.groups()
                start, first = pending.pop((pid, name), (float(end), ""))
                rest = first + rest
            else:
                match = CALL.match(line)
                if not match:
                    continue
                pid, start, name, rest = match.groups()
                start = end = float(start)
                if rest.endswith("<unfinished ...>"):
                    pending[(pid, name)] = (start, rest[:-len("<unfinished ...>")].rstrip())
                    continue
            result = RESULT.match(rest)
            if result and (not names or name in names):
                done.append(Call(int(pid or 0), float(start), float(end), name, result.group(1),
                                 result.group(2)))
        return done
