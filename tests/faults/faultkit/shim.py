# SPDX-License-Identifier: Apache-2.0
"""The file that the shim in the server and the tests share; see tests/faults/shim-log.h."""
import mmap
import os
import struct
from pathlib import Path

WRITE, TRUNCATE, ALLOCATE, SYNC, SYNC_ALL, CREATE, MKDIR, RENAME, UNLINK, SAY = range(1, 11)
DURABLE = 1
FAIL_WRITE, FAIL_SYNC, FAIL_OPEN, FAIL_RENAME, FAIL_SPACE = 1, 2, 4, 8, 16
SHORT = 0  # in place of an errno: half of the bytes are written

CONTROL_SIZE = 4096
FILE_SIZE = 16 << 30
CONTROL = struct.Struct("<QQqIiQ")
RECORD = struct.Struct("<IHHQQQQQII")


class Record:
    __slots__ = ("kind", "is_durable", "begin", "end", "inode", "offset", "size", "path", "data")

    def __init__(self, kind, flags, begin, end, inode, offset, size, path, data):
        self.kind, self.is_durable = kind, bool(flags & DURABLE)
        self.begin, self.end, self.inode = begin, end, inode
        self.offset, self.size, self.path, self.data = offset, size, path, data


class Shim:
    """`root`: the folder below which calls count. `syncs` False: all syncing is left out."""

    def __init__(self, build, path, root, is_recording, syncs=True):
        self.library = build.stage() / "lib/shim.so"
        if not self.library.exists():
            data = (build.folder / "tests/faults/.libs/shim.so").read_bytes()
            self.library.write_bytes(data)
            os.chmod(self.library, 0o755)
        self.path, self.root, self.is_recording = Path(path), root, is_recording
        self.syncs = syncs
        with open(self.path, "wb") as file:
            file.truncate(FILE_SIZE)
        os.chmod(self.path, 0o666)
        with open(self.path, "r+b") as file:
            self.control = mmap.mmap(file.fileno(), CONTROL_SIZE)

    def environment(self):
        names = {"LD_PRELOAD": str(self.library), "IMPRIMATUR_SHIM_FILE": str(self.path),
                 "IMPRIMATUR_SHIM_ROOT": str(self.root),
                 "IMPRIMATUR_SHIM_RECORD": "1" if self.is_recording else "0"}
        if not self.syncs:
            names["IMPRIMATUR_SHIM_NO_SYNC"] = "1"
        return names

    def _values(self):
        return CONTROL.unpack_from(self.control)

    def now(self):
        """The sequence number that the next call will get."""
        return self._values()[0]

    def hits(self):
        return self._values()[5]

    def countdown(self):
        """Calls of the armed kinds that are still let pass, plus one; 0: it was hit, or disarmed."""
        return self._values()[2]

    def arm(self, kinds, nth, error):
        """The nth call of these kinds from now on fails."""
        struct.pack_into("<q", self.control, 16, 0)
        struct.pack_into("<Ii", self.control, 24, kinds, error)
        struct.pack_into("<q", self.control, 16, nth)

    def disarm(self):
        struct.pack_into("<q", self.control, 16, 0)

    def records(self):
        """All records in the order in which their calls ended."""
        used = self._values()[1]
        found = []
        with open(self.path, "rb") as file:
            if used == 0:
                return found
            with mmap.mmap(file.fileno(), CONTROL_SIZE + used, access=mmap.ACCESS_READ) as text:
                at = CONTROL_SIZE
                while at < CONTROL_SIZE + used:
                    (length, kind, flags, begin, end, inode, offset, size, path_length,
                     data_length) = RECORD.unpack_from(text, at)
                    if length == 0:
                        raise AssertionError("a record of the shim is not complete")
                    start = at + RECORD.size
                    path = text[start:start + path_length].decode()
                    data = text[start + path_length:start + path_length + data_length]
                    found.append(Record(kind, flags, begin, end, inode, offset, size, path, data))
                    at += length
        found.sort(key=lambda record: record.end)
        return found
