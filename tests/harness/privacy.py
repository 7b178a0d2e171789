# SPDX-License-Identifier: Apache-2.0
"""Looks for what must not be readable: names, titles, hosts, secrets and document text, in whatever
form they might have been written, in everything that an instance leaves behind.
"""
import base64
import os
from pathlib import Path

# Shorter needles stand in any random megabyte by chance.
NEEDLE_MIN = 6
PIECE = 256 << 10
NOTHING = bytes(PIECE)  # most of a store and a spool: made ahead of need, never written


def forms(text):
    """{bytes: name of the form} of one needle: UTF-8, Latin-1, UTF-16LE, hex, base64."""
    result = {}
    encodings = {"utf-8": "UTF-8", "latin-1": "Latin-1", "utf-16-le": "UTF-16LE"}
    for encoding, name in encodings.items():
        try:
            data = text if isinstance(text, bytes) else text.encode(encoding)
        except UnicodeEncodeError:
            continue  # has no such form
        if len(text) < NEEDLE_MIN:
            continue
        result.setdefault(data, name)
        result.setdefault(data.hex().encode(), f"hex of {name}")
        result.setdefault(data.hex().upper().encode(), f"hex of {name}")
        # Base64 has three forms, by where in its group of three the text begins; the outer
        # characters depend on what stands beside the text and are cut off.
        for shift in range(3):
            whole = base64.b64encode(b"\0" * shift + data)
            first = -(-shift * 8 // 6)
            last = (shift + len(data)) * 8 // 6
            if last - first >= NEEDLE_MIN:
                result.setdefault(whole[first:last], f"base64 of {name}")
        if isinstance(text, bytes):
            break
    return result


class Search:
    """Search(["anna.beispiel", b"document text"]).folder(path): a list of findings, each a sentence.

    Needles too short to be told from chance are refused: a test has to use longer ones.
    """

    def __init__(self, needles):
        self.forms = {}
        for needle in needles:
            found = forms(needle)
            assert found, f"too short to be searched for: {needle!r}"
            self.forms.update({data: (needle, name) for data, name in found.items()})
        self.overlap = max(map(len, self.forms))

    def bytes(self, data, where):
        return [f"{where}: {needle!r} as {name}" for form, (needle, name) in self.forms.items()
                if form in data]

    def file(self, path):
        """Reads in pieces that overlap, so that a needle on the border is found."""
        found, tail = [], b""
        try:
            with open(path, "rb") as file:
                while piece := file.read(PIECE):
                    if piece == NOTHING:
                        found += self.bytes(tail + piece[:self.overlap], path)
                    else:
                        found += self.bytes(tail + piece, path)
                    tail = piece[-self.overlap:]
        except FileNotFoundError:
            return []  # removed meanwhile
        return found

    def folder(self, folder, leave_out=()):
        found = []
        for parent, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if Path(parent, name) not in leave_out]
            found += self.bytes("\n".join(folders + names).encode(errors="surrogateescape"),
                                f"file names in {parent}")
            for name in names:
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink() and path not in leave_out:
                    found += self.file(path)
        return sorted(set(found))

    def instance(self, instance):
        """All that an instance has written: state, run folder, keys, reports, core dumps, logs. The
        settings were written by the test, and strace's record holds what clients sent."""
        leave_out = [instance.etc]
        if instance.trace:
            leave_out += instance.folder.glob("trace*")
        found = self.folder(instance.folder, leave_out)
        for number, log in enumerate(instance.logs):
            found += self.bytes(log.text().encode(errors="surrogateescape"), f"log {number}")
        return found
