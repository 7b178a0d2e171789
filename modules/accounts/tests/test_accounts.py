# SPDX-License-Identifier: Apache-2.0
"""Who is who, and what it takes to prove it."""
import json
import threading

from harness.damage import tear_row
from harness.deadline import Deadline
from harness.lpd import submit
from harness.site import CARD, CHEAP_HASH, PASSWORD, PIN, PrintTest


class Accounts(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)

    def serve(self, **settings):
        self.server = self.print_server(modules={"accounts": {**CHEAP_HASH, **settings}})
        self.sink = self.device(self.server)
        submit(self.server.port("lpr", "lpd"), b"content")
        self.job = self.only_job(self.server)["job-id"]

    def tried(self, card=CARD, pin=PIN):
        """What came of a release: "" or the sentence of its refusal."""
        status, _, error = self.server.ctl_run("job", "release", str(self.job), "--device",
                                               "printer", "--card", stdin=f"{card}\n{pin}\n")
        return "" if status == 0 else error

    def test_a_card_is_the_same_however_the_reader_writes_it(self):
        self.serve()
        self.assertEqual(self.tried(card=CARD.replace(":", "-").lower() + " "), "")

    def test_a_wrong_pin_and_an_unknown_card_are_refused_alike(self):
        self.serve()
        self.assertEqual(self.tried(pin="0000"), self.tried(card="ffffffff"))
        self.assertEqual(self.sink.connections(), 0)

    def test_failures_lock_whoever_is_meant_and_time_unlocks(self):
        self.serve(lock_time="4s")
        for card in (CARD, "0badcafe"):  # somebody's, and nobody's
            for _ in range(5):
                self.assertIn("not known", self.tried(card=card, pin="0000"))
            self.assertIn("locked", self.tried(card=card))
        lines = self.server.ctl("audit", "list", "--action", "user.login")
        self.assertEqual(sum("lock=user" in line["detail"] for line in lines), 2)
        deadline = Deadline(20, "the lock to end")
        while "locked" in (answer := self.tried()):
            deadline.pause()
        self.assertEqual(answer, "")

    def test_guesses_beside_each_other_are_no_way_around_the_lock(self):
        self.serve(hash_parallel=4, failure_delay="0s", hash_passes=20, hash_memory="1MiB")
        answers = []
        threads = [threading.Thread(target=lambda pin=pin: answers.append(
            self.tried(pin=f"{pin:04}"))) for pin in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(answers), 20)
        self.assertEqual(sum("not known" in answer for answer in answers), 5)
        self.assertEqual(sum("locked" in answer for answer in answers), 15)

    def test_a_flood_of_guesses_holds_up_nothing_else(self):
        self.serve(hash_queue=3, hash_memory="64MiB", hash_passes=6)
        answers, port, submitted = [], self.server.port("lpr", "lpd"), 0
        threads = [threading.Thread(target=lambda pin=pin: answers.append(
            self.tried(pin=f"{pin:04}"))) for pin in range(12)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            submitted += 1
            submit(port, b"content", number=submitted + 1)
            self.server.ctl("user", "show", "anna")
        for thread in threads:
            thread.join()
        busy = sum("too many log-ins at once" in answer for answer in answers)
        self.assertGreaterEqual(busy, 1, answers)
        self.assertGreaterEqual(len(answers) - busy, 1, answers)
        self.assertGreaterEqual(submitted, 2)
        self.assertIn(f"imprimatur_accounts_login_busy_total {busy}\n",
                      self.server.ctl_run("metrics")[1])
        self.server.wait_log("accounts.busy", hash_queue="3")

    def test_a_disabled_user_is_nobody(self):
        self.serve()
        self.server.ctl("user", "set", "anna", "--enabled=no")
        self.assertIn("not known", self.tried())
        self.server.ctl("user", "set", "anna", "--enabled=yes")
        self.assertEqual(self.tried(), "")

    def test_names_are_mapped(self):
        self.serve()
        for name in ("ANNA", "CORP\\anna", "anna@corp.example", "Corp\\Anna@corp.example"):
            self.assertEqual(self.server.ctl("user", "show", name)["name"], "anna")
        self.assert_refused("already", self.server.ctl, "user", "add", "CORP\\Anna")
        self.assert_refused("no user", self.server.ctl, "user", "show", "anna" + "x" * 200)
        done = self.server.ctl_run("job", "release", str(self.job), "--device", "printer",
                                   "--user", "CORP\\anna", stdin=PASSWORD + "\n")
        self.assertEqual(done[0], 0, done)

    def test_secrets_that_are_too_weak_are_refused(self):
        self.serve()
        ctl = self.server.ctl
        self.assert_refused("at least 4 digits", ctl, "user", "add", "b", "--pin", stdin="123\n")
        self.assert_refused("digits", ctl, "user", "add", "b", "--pin", stdin="12a4\n")
        self.assert_refused("at least 8 characters", ctl, "user", "add", "b", "--password",
                            stdin="seven77\n")
        self.assert_refused("belongs to another", ctl, "user", "add", "b", "--card",
                            stdin=CARD + "\n")
        self.assert_refused("card: expected", ctl, "user", "add", "b", "--card", stdin="::\n")
        self.assert_refused("no control", ctl, "user", "add", " b")
        self.assertEqual([user["name"] for user in ctl("user", "list")], ["anna"])

    def test_users_are_listed_by_parts_and_around_a_torn_record(self):
        self.serve()
        server, ctl = self.server, self.server.ctl
        for number in range(4):
            ctl("user", "add", f"person {number}")
        users = ctl("user", "list")
        ids = [user["user"] for user in users]
        self.assertEqual(ids, sorted(ids))
        status, out, error = server.ctl_run("--json", "user", "list", "--limit", "2")
        self.assertEqual((status, json.loads(out)), (0, users[:2]))
        self.assertIn(f"imprimctl user list --after={ids[1]}", error)
        self.assertEqual(ctl("user", "list", "--after", ids[1]), users[2:])
        self.assert_refused("expected 1 to 100000", ctl, "user", "list", "--limit", "0")
        server.stop()
        tear_row(self, server, "accounts.user", ids[2])
        server.start()
        status, out, error = server.ctl_run("--json", "user", "list")
        self.assertEqual((status, json.loads(out)), (0, users[:2] + users[3:]))
        self.assertIn("left out, because they do not read: 1", error)
        server.wait_log("record.unreadable", kind="user", id=ids[2])
        self.assertIn('imprimatur_accounts_records_unreadable_total{kind="user"} 1',
                      server.ctl_run("metrics")[1])
        self.assert_refused("does not read", ctl, "user", "show", ids[2])
