# SPDX-License-Identifier: Apache-2.0
"""A print server with all of its modules, one user and one hold queue: what most tests start from."""
from .case import ServerTest
from .instance import CtlError
from .net import TcpSink
from .privacy import Search

USER, CARD, PIN, PASSWORD = "anna", "04:A2:19:5C", "4711", "correct horse"

# argon2 at its cheapest: tests log in often, and what it costs is no concern of theirs.
CHEAP_HASH = {"hash_memory": "64KiB", "hash_passes": 1, "failure_delay": "10ms"}


# What no file and no log line may hold, in any form: see privacy.py. The PIN alone and the name "anna"
# are too short to be told from chance; scenarios about names use longer ones and add them.
PRIVATE = (CARD, CARD.replace(":", ""), PASSWORD, "Quarterly report")


class PrintTest(ServerTest):
    modules_needed = ("accounts", "audit", "devices", "jobs", "lpr", "raw")

    def print_server(self, queues=None, modules=None, start=True, **instance):
        """An instance with queue `hold` (and what `queues` adds: name -> options), user anna."""
        settings = {
            "audit": {}, "devices": {}, "accounts": dict(CHEAP_HASH), "jobs": {},
            "lpr": {"listen": [self.listen("lpd")]},
            "raw": {"listen": [self.listen("raw", queue="hold")]},
        }
        if "transport-socket" in self.build.modules():
            settings["transport-socket"] = {}
        for name, more in (modules or {}).items():
            settings[name] = {**settings.get(name, {}), **more}
        server = self.instance(modules=settings, **instance)
        if start:
            server.start()
            self.furnish(server, queues)
        return server

    def furnish(self, server, queues=None):
        server.ctl("user", "add", USER, "--card", "--pin", "--password",
                   stdin=f"{CARD}\n{PIN}\n{PASSWORD}\n")
        for name, options in {"hold": (), **(queues or {})}.items():
            server.ctl("queue", "add", name, *options)

    def sink(self, **arguments):
        """A RAW printer that goes with the test."""
        sink = TcpSink(**arguments)
        self.addCleanup(sink.close)
        return sink

    def device(self, server, name="printer", sink=None, *options):
        """A device at a RAW printer; returns the printer."""
        sink = sink or self.sink()
        server.ctl("device", "add", name, "--uri", sink.uri, *options)
        return sink

    def setUp(self):
        super().setUp()
        self.private = list(PRIVATE)  # a test adds what it sends

    def check_ended(self, instance):
        """Nothing private is readable in what the instance has left."""
        found = Search(self.private).instance(instance)
        self.assertEqual(found, [], "readable in what the server wrote")

    @staticmethod
    def jobs(server, *options):
        return server.ctl("job", "list", *options) or []

    def only_job(self, server, *options):
        jobs = self.jobs(server, *options)
        self.assertEqual(len(jobs), 1, jobs)
        return jobs[0]

    @staticmethod
    def release(server, job, device="printer", card=CARD, pin=PIN):
        return server.ctl("job", "release", str(job), "--device", device, "--card",
                          stdin=f"{card}\n{pin}\n")

    def printed(self, server, job, sink, device="printer"):
        """Releases a job and gives what the printer received."""
        before = sink.connections()
        self.release(server, job, device)
        return sink.wait_documents(before + 1)[before]

    def assert_refused(self, text, function, *arguments, **named):
        with self.assertRaises(CtlError) as caught:
            function(*arguments, **named)
        self.assertIn(text, caught.exception.message)
        return caught.exception
