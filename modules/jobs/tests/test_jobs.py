# SPDX-License-Identifier: Apache-2.0
"""Queues and jobs in a running server: verbs, hold, quarantine, release, cancel, kill -9."""
import json
import os
import socket

from harness import ServerTest
from harness.deadline import Deadline

CARD, PIN = "04A2195C", "4711"


class Jobs(ServerTest):
    modules_needed = ("audit", "accounts", "devices", "jobs", "lpr")

    def setUp(self):
        super().setUp()
        self.server = self.instance(modules={
            "audit": {}, "devices": {}, "accounts": {"failure_delay": "100ms"},
            "jobs": {"sweep_interval": "200ms"},
            "lpr": {"listen": [self.listen("lpd")]}})
        self.server.start()
        self.ctl("user", "add", "anna", "--card", "--pin", stdin=f"{CARD}\n{PIN}\n")
        self.ctl("device", "add", "hall", "--uri", "socket://127.0.0.1:9")
        self.ctl("queue", "add", "hold")

    def ctl(self, *arguments, stdin=None):
        status, out, err = self.server.ctl_run(*arguments, stdin=stdin)
        self.assertEqual((status, err), (0, ""), arguments)
        return out

    def refused(self, *arguments, stdin=None):
        """The sentence of a refusal."""
        status, _, err = self.server.ctl_run(*arguments, stdin=stdin)
        self.assertIn(status, (1, 2), arguments)
        return err

    def print_job(self, number, user="anna", queue="hold", size=5000):
        """One job by LPR; returns when the last acknowledgement is there."""
        content = os.urandom(size)
        control = f"Hclient\nP{user}\nJTitle\nldfA{number:03}client\n".encode()
        with socket.create_connection(("127.0.0.1", self.server.port("lpr", "lpd")), 20) as lpd:
            for message in (f"\2{queue}\n".encode(), b"\2%d cfA%03dclient\n" % (len(control), number),
                            control + b"\0", b"\3%d dfA%03dclient\n" % (size, number),
                            content + b"\0"):
                lpd.sendall(message)
                self.assertEqual(lpd.recv(1), b"\0")
        return content

    def jobs(self, *arguments):
        return self.server.ctl("job", "list", *arguments) or []

    def test_queue_verbs_say_what_is_wrong(self):
        self.assertIn("needs the device", self.refused("queue", "add", "d", "--release", "direct"))
        self.assertIn("already", self.refused("queue", "add", "HOLD"))
        self.assertIn("can't be a queue's name", self.refused("queue", "add", "a/b"))
        self.assertIn("--expiry can't be 'soon'", self.refused("queue", "set", "hold", "--expiry", "soon"))
        self.assertIn("no device 'attic'", self.refused("queue", "set", "hold", "--device", "attic"))
        self.assertIn("no queue 'other'", self.refused("queue", "show", "other"))
        self.ctl("queue", "add", "d", "--release", "direct", "--device", "hall", "--private", "sent",
                 "--delegate", "anna", "--default", "sides=one-sided")
        shown = self.ctl("queue", "show", "d")
        for word in ("direct", "sent", "hall", "sides=one-sided", "delegate"):
            self.assertIn(word, shown)
        self.ctl("queue", "set", "d", "--undelegate", "anna", "--default", "sides=")
        shown = self.ctl("queue", "show", "d")
        self.assertNotIn("sides", shown)
        self.assertNotIn("delegate", shown)
        self.ctl("queue", "remove", "d")
        self.assertIn("queue.undelegate", self.ctl("audit", "list"))

    def test_jobs_are_held_claimed_and_canceled(self):
        self.print_job(1)
        self.print_job(2, user="stranger")
        self.assertEqual([job["reasons"] for job in self.jobs()],
                         ["job-held-for-release", "job-held-for-review"])
        self.assertIn("holds 2 jobs", self.refused("queue", "remove", "hold"))
        self.assertIn("no such user", self.refused("job", "set-owner", "2", "nobody"))
        self.ctl("job", "set-owner", "2", "anna")
        self.assertEqual({job["reasons"] for job in self.jobs()}, {"job-held-for-release"})
        self.ctl("job", "cancel", "1")
        self.assertIn("ended already", self.refused("job", "cancel", "1"))
        self.assertIn("no job '17'", self.refused("job", "show", "17"))
        self.assertEqual([job["state"] for job in self.jobs("--all")], ["canceled", "pending-held"])
        listed = self.ctl("job", "list", "--all") + self.ctl("job", "show", "2")
        for personal in ("anna", "stranger", "Title"):
            self.assertNotIn(personal, listed)

    def test_key_status_says_what_the_spool_can_not_promise(self):
        # Temporary folders lie on a file system that overwrites in place, or the start has warned.
        warned = self.server.log.find("spool.key-pool-copied")
        self.assertEqual(self.server.ctl("key", "status")["spool_warning"] != "", bool(warned))

    def test_a_closed_queue_refuses_at_the_door(self):
        self.ctl("queue", "set", "hold", "--accepting", "no")
        with socket.create_connection(("127.0.0.1", self.server.port("lpr", "lpd")), 20) as lpd:
            lpd.sendall(b"\2hold\n")
            self.assertNotEqual(lpd.recv(1), b"\0")
        self.assertEqual(self.jobs("--all"), [])

    def test_a_long_list_is_shown_in_pages(self):
        for number in range(12):
            self.print_job(number)
        status, out, err = self.server.ctl_run("job", "list", "--limit", "5")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("there are more jobs: go on with --after 5", out)
        seen, after = [], []
        while True:
            status, out, err = self.server.ctl_run("--json", "job", "list", "--limit", "5", *after)
            self.assertEqual(status, 0)
            page = [job["job-id"] for job in json.loads(out)]
            seen += page
            if "there are more" not in err:
                break
            self.assertEqual(len(page), 5)
            after = ["--after", str(page[-1])]
        self.assertEqual(seen, list(range(1, 13)))
        self.assertNotIn("more", self.ctl("job", "list", "--limit", "12"))
        self.assertIn("no number", self.refused("job", "list", "--limit", "0"))
        self.assertIn("no job '99'", self.refused("job", "list", "--after", "99"))

    def test_release_asks_for_proof(self):
        self.print_job(1)
        self.assertIn("not proved", self.refused("job", "release", "1", "--device", "hall", "--card",
                                                 stdin=f"{CARD}\n0000\n"))
        self.assertIn("no device", self.refused("job", "release", "1", "--device", "attic", "--card",
                                                stdin=f"{CARD}\n{PIN}\n"))
        self.assertIn("one of the two", self.refused("job", "release", "1", "--device", "hall"))
        self.assertEqual(self.jobs()[0]["state"], "pending-held")

    def test_held_jobs_expire(self):
        self.ctl("queue", "set", "hold", "--expiry", "1s")
        self.print_job(1)
        deadline = Deadline(20, "the job's expiry")
        while self.jobs("--all")[0]["state"] != "aborted":
            deadline.pause()
        self.assertIn("job.expire", self.ctl("audit", "list"))

    def test_every_acknowledged_job_is_there_after_kill_9(self):
        for number in range(100):
            self.print_job(number, size=100 if number % 10 else 100000)
        self.server.kill9()
        self.server.wait_ready(2)
        self.assertEqual(len(self.jobs()), 100)
        self.print_job(100)
        self.assertEqual([job["job-id"] for job in self.jobs()], list(range(1, 102)))
