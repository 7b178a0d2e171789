# SPDX-License-Identifier: Apache-2.0
"""State folders as a power cut leaves them, out of the shim's records.

What is known to be on the disk at a cut: every write that had ended before a sync of its file began
that had itself ended by then, and every write that syncs itself. The rest, that which was under way
included, is there or not by chance, sector by sector; of two writes to one sector the older never
wins. Names (create, rename, unlink) are on the disk when their folder was synced; of the rest the
first ones are, as many as chance wants: folders are journalled in order, files are not.
"""
import os
import shutil
from pathlib import Path

from . import shim

SECTOR = 512
NAMES = (shim.CREATE, shim.MKDIR, shim.RENAME, shim.UNLINK)
BYTES = (shim.WRITE, shim.TRUNCATE, shim.ALLOCATE)


class Operation:
    """A record, with when it became durable (a sequence number; None: never)."""
    __slots__ = ("record", "file", "durable")

    def __init__(self, record, file, durable=None):
        self.record, self.file, self.durable = record, file, durable


class History:
    """All that happened below `root`, by file and by folder."""

    def __init__(self, records, root):
        self.root = str(root)
        self.files = {}    # number of a file -> its operations, in order
        self.folders = {}  # path -> operations on names in it, in order
        self.end = records[-1].end
        self.said = {}     # port -> when an octet to it began
        self._live = {}    # inode -> number of the file that has it now
        self._unsynced = {}  # file or folder -> operations not yet durable
        for record in records:
            self._take(record)

    def _file_of(self, inode):
        if inode not in self._live:
            self._live[inode] = len(self.files)
            self.files[self._live[inode]] = []
        return self._live[inode]

    def _take(self, record):
        if record.kind == shim.SAY:
            self.said.setdefault(record.inode, []).append((record.begin, record.data))
        elif record.kind in NAMES:
            if record.kind == shim.CREATE:
                self._live.pop(record.inode, None)  # the number of a file that is gone
            file = self._file_of(record.inode) if record.kind == shim.CREATE else None
            operation = Operation(record, file)
            folder = os.path.dirname(record.path)
            self.folders.setdefault(folder, []).append(operation)
            self._unsynced.setdefault(folder, []).append(operation)
        elif record.kind in BYTES:
            file = self._file_of(record.inode)
            operation = Operation(record, file, record.end if record.is_durable else None)
            self.files[file].append(operation)
            if operation.durable is None:
                self._unsynced.setdefault(file, []).append(operation)
        elif record.kind == shim.SYNC:
            self._sync(record.path, record)
            if record.inode in self._live:
                self._sync(self._live[record.inode], record)
        elif record.kind == shim.SYNC_ALL:
            for key in list(self._unsynced):
                self._sync(key, record)

    def _sync(self, key, sync):
        left = []
        for operation in self._unsynced.get(key, ()):
            if operation.record.end < sync.begin:
                operation.durable = sync.end
            else:
                left.append(operation)
        self._unsynced[key] = left

    # ---- folders as they were ----

    def build(self, folder, cut, chance=None):
        """Makes `folder` what the root was at `cut`; without `chance` nothing that had begun is
        lost."""
        names = self._names(cut, chance)
        contents = {}
        for path, file in sorted(names.items()):
            target = Path(str(folder) + path[len(self.root):])
            if file is None:
                target.mkdir(mode=0o700, exist_ok=True, parents=True)
                continue
            target.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
            if file in contents:
                shutil.copyfile(contents[file], target)
            else:
                self._write_file(target, self.files[file], cut, chance)
                contents[file] = target
            os.chmod(target, 0o600)

    def _names(self, cut, chance):
        """path -> number of a file, None for a folder."""
        kept = []
        for operations in self.folders.values():
            begun = [operation for operation in operations if operation.record.begin < cut]
            durable = [place for place, operation in enumerate(begun)
                       if operation.durable is not None and operation.durable <= cut]
            least = durable[-1] + 1 if durable else 0
            count = len(begun) if chance is None else chance.randint(least, len(begun))
            kept += begun[:count]
        names = {self.root: None}
        for operation in sorted(kept, key=lambda operation: operation.record.end):
            record = operation.record
            if record.kind == shim.CREATE:
                names[record.path] = operation.file
            elif record.kind == shim.MKDIR:
                names[record.path] = None
            elif record.kind == shim.UNLINK:
                names.pop(record.path, None)
            elif record.path in names:
                names[record.data.decode()] = names.pop(record.path)
        return {path: file for path, file in names.items()
                if path == self.root or os.path.dirname(path) in names}

    @staticmethod
    def _write_file(target, operations, cut, chance):
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for operation in operations:
                record = operation.record
                if record.begin >= cut:
                    continue
                is_certain = chance is None or (operation.durable is not None
                                                and operation.durable <= cut)
                share = 1.0 if is_certain else chance.choice((0.0, 0.5, 1.0))
                apply(fd, record, share, chance)
        finally:
            os.close(fd)


def apply(fd, record, share, chance):
    """Does `share` of an operation: whole, not, or sector by sector."""
    if share == 0.0:
        return
    if record.kind == shim.TRUNCATE:
        os.ftruncate(fd, record.offset)
    elif record.kind == shim.ALLOCATE:
        if os.fstat(fd).st_size < record.offset + record.size:
            os.ftruncate(fd, record.offset + record.size)
    elif share == 1.0:
        write(fd, record.offset, record.offset + record.size, record)
    else:
        at, end = record.offset, record.offset + record.size
        while at < end:
            after = min(end, (at // SECTOR + 1) * SECTOR)
            if chance.random() < share:
                write(fd, at, after, record)
            at = after


def write(fd, start, end, record):
    if record.data:
        os.pwrite(fd, record.data[start - record.offset:end - record.offset], start)
        return
    size = os.fstat(fd).st_size
    if start < size:
        os.pwrite(fd, bytes(min(end, size) - start), start)
    if end > size:
        os.ftruncate(fd, end)  # zeros behind the end are a hole
