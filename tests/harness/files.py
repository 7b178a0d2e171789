# SPDX-License-Identifier: Apache-2.0
"""Looks for what must not stand in any file."""
import mmap
import os


def find_in_files(folder, needles):
    """(path, needle) for every needle (bytes) that stands in a file below `folder`."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) == 0:
                continue
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0,
                                                     access=mmap.ACCESS_READ) as text:
                found += [(path, needle) for needle in needles if text.find(needle) >= 0]
    return found
