# SPDX-License-Identifier: Apache-2.0
"""What is measured, and how much of it. Everything that differs in the short form stands here."""
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20
SMALL, MIDDLE, LARGE = 10 * KIB, MIB, 100 * MIB


@dataclass(frozen=True)
class LprCase:
    """Counts of jobs differ: a peer that takes 100 a second is known after 100."""
    clients: int
    bytes: int
    jobs: int  # of ours
    peer_jobs: int
    rounds_max: int = 99


LPR_CASES = (
    LprCase(1, SMALL, 500, 100),
    LprCase(16, SMALL, 4000, 160),
    LprCase(128, SMALL, 8000, 256),
    LprCase(1, MIDDLE, 100, 50),
    LprCase(16, MIDDLE, 400, 64),
    LprCase(128, MIDDLE, 512, 128),
    LprCase(1, LARGE, 4, 4),
    LprCase(16, LARGE, 16, 16),
    LprCase(128, LARGE, 128, 128, rounds_max=1),  # 13 GB a party
)
LPR_CASES_SHORT = (
    LprCase(1, SMALL, 20, 8),
    LprCase(16, SMALL, 200, 16),
    LprCase(128, SMALL, 256, 128),
    LprCase(16, MIDDLE, 16, 16),
    LprCase(1, LARGE, 1, 1),
)


class Options:
    def __init__(self, is_short, rounds):
        self.is_short = is_short
        self.rounds = 1 if is_short else rounds
        self.lpr_cases = LPR_CASES_SHORT if is_short else LPR_CASES
        self.upload_clients = 128
        self.upload_bytes = MIB if is_short else LARGE
        self.held_jobs = 1000 if is_short else 100000
        self.starts = 1 if is_short else max(3, rounds)
        self.delivered_jobs = 40 if is_short else 2000
        self.peer_delivered_jobs = 5 if is_short else 40
        self.intake_jobs = 400 if is_short else 4000
        self.backlog_jobs = 200 if is_short else 4000
        self.synced_jobs = 64 if is_short else 2000
        self.sync_cases = ([(1, SMALL), (16, SMALL), (16, 100 * KIB)] if is_short else
                           [(clients, size) for size in (SMALL, 100 * KIB)
                            for clients in (1, 16, 128)])
        self.flush_ms = 2
