# SPDX-License-Identifier: Apache-2.0
"""What clients sent and were told, against what is found in the end."""
import hashlib
import threading


def content_of(title, size):
    """The document of that title: its first line names it, the rest can be made again from it."""
    head = title.encode() + b"\n"
    return head + hashlib.shake_256(head).digest(max(0, size - len(head)))


class Entry:
    """One submission: the job of one title."""

    def __init__(self, title, queue, size):
        self.title, self.queue, self.size = title, queue, size
        self.digest = hashlib.sha256(content_of(title, size)).hexdigest()
        self.is_acknowledged = False
        self.attempts = 0
        self.port = None             # of the client's socket when the job was acknowledged
        self.acknowledged_at = None  # by the sequence of the shim


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.entries = {}  # title -> Entry
        self.acknowledged = 0
        self.refused = []  # connections that nobody took
        self.noes = 0      # answers other than yes

    def begin(self, title, queue, size):
        entry = Entry(title, queue, size)
        with self.lock:
            self.entries[title] = entry
        return entry

    def acknowledge(self, entry):
        with self.lock:
            entry.is_acknowledged = True
            self.acknowledged += 1

    def refuse(self, what):
        with self.lock:
            self.refused.append(what)

    def say_no(self):
        with self.lock:
            self.noes += 1


class Found:
    """The ledger against the jobs that job-check read from the state folder.

    printed  title -> the documents that printers received of it; a job of a direct queue that is
             completed is intact when its printer got it whole.
    """

    def __init__(self, ledger, jobs, printed=None, titles=None):
        printed = printed or {}
        by_title = {}
        for job in jobs:
            by_title.setdefault(job.title, []).append(job)
        wanted = [entry for entry in ledger.entries.values() if entry.is_acknowledged]
        if titles is not None:
            wanted = [entry for entry in wanted if entry.title in titles]
        self.acknowledged = len(wanted)
        self.problems = []
        self.present = 0
        for entry in wanted:
            if any(self._is_intact(entry, job, printed) for job in by_title.get(entry.title, [])):
                self.present += 1
            else:
                self.problems.append(
                    f"lost: {entry.title} ({entry.size} bytes, {entry.queue}, "
                    f"{entry.attempts} attempts): {by_title.get(entry.title)} "
                    f"printed {[len(text) for text in printed.get(entry.title, [])]}")
        self.lost = self.acknowledged - self.present
        self.doubled = 0
        for title, found in by_title.items():
            if title in ledger.entries and len(found) > 1:
                self.doubled += len(found) - 1
                self.problems.append(f"doubled: {title} ({ledger.entries[title].attempts} "
                                     f"attempts): {found}")
        self.uncertain = sum(job.situation == "delivery-uncertain" for job in jobs)
        self.printed_twice = 0
        for title, documents in printed.items():
            if len(documents) > 1:
                self.printed_twice += len(documents) - 1
                self.problems.append(f"printed twice: {title}: {by_title.get(title)}")
        for job in jobs:
            if job.digest not in ("none",) and len(job.digest) != 64:
                self.problems.append(f"damaged: {job}")

    @staticmethod
    def _is_intact(entry, job, printed):
        if job.digest == entry.digest:
            return True
        if job.digest != "none":
            return False
        whole = content_of(entry.title, entry.size)
        return any(document == whole for document in printed.get(entry.title, []))
