# SPDX-License-Identifier: Apache-2.0
"""LPD clients that print until they are told to end, and never give up on a job."""
import random
import socket
import threading

from harness.deadline import scale
from harness.lpd import LpdClient, Refused, control_text

from .ledger import content_of

TRIES_SECONDS = 60  # a client that was not served for so long counts as refused
FILE_JOBS = 10      # one job in so many is larger than what stands in the store itself


class Client(threading.Thread):
    """One client: its next job begins when the last one is acknowledged. What is cut is sent again as
    a client would: same host, user, title and job number."""

    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load, self.number = load, number
        self.random = random.Random(f"{load.seed} {number}")
        self.queue = load.queues[number % len(load.queues)]

    def run(self):
        count = 0
        while not self.load.ends.is_set():
            self.load.may_run.wait()
            count += 1
            title = f"{self.load.prefix}-{self.number}-{count}"
            size = self.random.randrange(20, 8000)
            if self.random.randrange(FILE_JOBS) == 0:
                size = self.random.randrange(33000, 300000)
            entry = self.load.ledger.begin(title, self.queue, size)
            if not self.print(entry, count % 1000):
                return

    def print(self, entry, number):
        """Until acknowledged. False when the load ends before, or when no one served it."""
        waited = 0.0
        content = content_of(entry.title, entry.size)
        while not self.load.ends.is_set():
            entry.attempts += 1
            try:
                self.submit(entry, number, content)
                return True
            except ConnectionRefusedError as error:
                self.load.ledger.refuse(f"{entry.title}: {error}")
            except Refused as error:
                if error.octet != b"":
                    self.load.ledger.say_no()
            except (ConnectionError, BrokenPipeError):
                pass
            except (TimeoutError, socket.timeout):
                waited += TRIES_SECONDS
            if waited >= TRIES_SECONDS:
                self.load.ledger.refuse(f"{entry.title}: not served within {waited:g} s")
                return False
            self.load.ends.wait(0.01)  # a client's own pause between two tries
        return False

    def submit(self, entry, number, content):
        data, control = f"dfA{number:03}client{self.number}", f"cfA{number:03}client{self.number}"
        text = control_text(user=f"user{self.number}", title=entry.title, files=(data,),
                            host=f"client{self.number}")
        with LpdClient(self.load.port, TRIES_SECONDS / scale()) as client:
            client.receive(entry.queue)
            client.control(text, control)
            client.data(content, data)
            client.expect_yes("data")
            entry.port = client.socket.getsockname()[1]
            self.load.acknowledged(entry)


class Load:
    """`clients` clients on the server's LPD port; they share the queues out among themselves."""

    def __init__(self, port, ledger, clients=16, queues=("hold",), seed=0, prefix="job",
                 acknowledged=None):
        self.port, self.ledger, self.queues = port, ledger, queues
        self.seed, self.prefix = seed, prefix
        self.acknowledged = acknowledged or ledger.acknowledge
        self.ends = threading.Event()
        self.may_run = threading.Event()
        self.may_run.set()
        self.clients = [Client(self, number) for number in range(clients)]

    def start(self):
        for client in self.clients:
            client.start()
        return self

    def finish(self):
        """Every client ends its job first."""
        self.ends.set()
        self.may_run.set()
        for client in self.clients:
            client.join()
