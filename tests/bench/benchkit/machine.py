# SPDX-License-Identifier: Apache-2.0
"""The machine: namespaces of our own, memory, processor time, flushes of the disk."""
import fcntl
import os
import platform
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness import processes

PRIVATE = "IMP_BENCH_PRIVATE"  # set in the process that has namespaces of its own
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TICKS = os.sysconf("SC_CLK_TCK")


def enter_namespaces():
    """Goes on in network and mount namespaces of its own, where that is allowed: nobody else's
    traffic, every port free, and mounts that go with us."""
    if PRIVATE in os.environ:
        loopback_up()
        return
    command = ["unshare", "--net", "--mount"]
    if os.geteuid() != 0 or shutil.which("unshare") is None or subprocess.run(
            command + ["true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        return
    os.environ[PRIVATE] = "1"
    os.execvp("unshare", command + [sys.executable] + sys.argv)


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def is_private():
    return PRIVATE in os.environ


def describe(folder):
    kinds = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    here = max((words for words in kinds if os.path.commonpath([words[1], folder]) == words[1]),
               key=lambda words: len(words[1]))
    return (f"machine cores={os.cpu_count()} kernel={platform.release()} folder={folder} "
            f"file_system={here[2]} namespaces={'private' if is_private() else 'shared'}")


# ---- processor time ----

def trees(pids):
    """These processes and all below them."""
    return [each for pid in pids for each in [pid] + processes.descendants(pid)]


def tree_seconds(pids):
    """Of these processes, of those below them and of those that these have waited for."""
    ticks = 0
    for each in trees(pids):
        try:
            text = Path(f"/proc/{each}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(word) for word in text[text.rindex(")") + 2:].split()[11:15])
    return ticks / TICKS


def busy_seconds():
    """Of all cores since the machine started: not idle, not waiting for a disk."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


def own_seconds():
    """Of this process and the programs that it has waited for, the generator among them."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


class OtherWork:
    """How many cores others have kept busy since it was made. The kernel's own threads (writeback,
    the file system's journal) count as others, so a disk that is written to shows here too."""

    def __init__(self, pids):
        self.pids = pids
        self.began, self.before = time.monotonic(), self._others()

    def _others(self):
        return busy_seconds() - own_seconds() - tree_seconds(self.pids)

    def cores(self):
        seconds = time.monotonic() - self.began
        return max(0.0, (self._others() - self.before) / seconds)


# ---- memory ----

def fields_of(path, names):
    """{name: MiB} of a file of /proc that has lines "Name: 123 kB"; {} where it can't be read."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, ProcessLookupError):
        return {}
    values = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name in names:
            values[name] = int(rest.split()[0]) / 1024
    return values


@dataclass(frozen=True)
class Memory:
    """In MiB. `anonymous`, `resident`: of one process (RssAnon + RssShmem; RSS). `proportional`: the
    sum of PSS over process trees, where a page that several have counts once; 0 where it can't be
    read."""
    anonymous: float
    resident: float
    proportional: float
    processes: int


def memory_of(pid, roots):
    """Without `pid` (None) of the trees only."""
    values = {} if pid is None else fields_of(f"/proc/{pid}/status",
                                              ("VmRSS", "RssAnon", "RssShmem"))
    parts = [fields_of(f"/proc/{each}/smaps_rollup", ("Pss",)) for each in trees(roots)]
    return Memory(values.get("RssAnon", 0) + values.get("RssShmem", 0), values.get("VmRSS", 0),
                  sum(part.get("Pss", 0) for part in parts), sum(bool(part) for part in parts))


# ---- the disk ----

def settle():
    """Writes out what was written so far, so that nobody pays for what came before."""
    os.sync()


def flushes_below(path):
    """Flushes that the disk below `path` has carried out, for whomever; None where nobody counts."""
    number = os.stat(path).st_dev
    try:
        stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
        return int(stat.read_text().split()[15])
    except (OSError, IndexError):
        return None


def free_bytes(folder):
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize
