# SPDX-License-Identifier: Apache-2.0
"""Processes of an instance: who they are, and that none is left behind."""
import ctypes
import os
import select
import signal

from .deadline import Deadline, DeadlineExceeded

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Orphans of this process's children become its own children, so that it sees them."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    """Direct children, of all threads of `pid`."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants(pid):
    found = []
    for child in children(pid):
        found.append(child)
        found += descendants(child)
    return found


def arguments(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode("utf-8", "replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def wait_gone(pid, seconds=10):
    """Until process `pid` (anybody's child) has ended."""
    deadline = Deadline(seconds, f"end of process {pid}")
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        while not select.select([descriptor], [], [], deadline.remaining())[0]:
            pass
    finally:
        os.close(descriptor)


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        try:
            wait_gone(pid)
            os.waitpid(pid, os.WNOHANG)
        except (ChildProcessError, DeadlineExceeded):
            pass
