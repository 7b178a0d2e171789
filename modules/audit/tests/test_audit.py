# SPDX-License-Identifier: Apache-2.0
"""The audit trail: listed, verified, exported for a check by anybody, and not put back unnoticed."""
import hashlib
import json
import os
import shutil
import signal
import time

from harness.damage import tear_row
from harness.deadline import scale
from harness.lpd import submit
from harness.site import PrintTest


class Audit(PrintTest):
    def setUp(self):
        super().setUp()
        self.server = self.print_server(modules={"audit": {"checkpoint_events": 2}})

    def test_events_are_listed_by_action_object_and_number(self):
        ctl = self.server.ctl
        ctl("queue", "add", "second")
        events = ctl("audit", "list")
        self.assertEqual([event["event"] for event in events], list(range(1, len(events) + 1)))
        self.assertEqual([event["event"] for event in ctl("audit", "list", "--limit", "2")],
                         [len(events) - 1, len(events)])
        users = ctl("audit", "list", "--action", "user.add")
        self.assertEqual([event["action"] for event in users], ["user.add"])
        found = ctl("audit", "list", "--object", users[0]["object"])
        self.assertEqual([event["event"] for event in found], [users[0]["event"]])
        self.assertEqual(ctl("audit", "list", "--object", "0" * 32) or [], [])
        for wrong in (("--limit", "0"), ("--limit", "many"), ("--object", "x"), ("--action", "")):
            self.assertEqual(self.server.ctl_run("audit", "list", *wrong)[0], 2, wrong)

    def test_an_export_can_be_verified_by_anybody(self):
        for number in range(10):
            self.server.ctl("queue", "add", f"q{number}")
        verdict = self.server.ctl("audit", "verify")
        path = self.server.run / "trail"
        self.server.ctl("audit", "export", str(path))
        events = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(len(events), verdict["events"])
        self.assertGreater(verdict["checkpoints"], 2)

        def first_bad(events):
            last = bytes(32)
            for number, event in enumerate(events, 1):
                last = hashlib.sha256(last + bytes.fromhex(event["body"])).digest()
                if event["event"] != number or last.hex() != event["hash"]:
                    return number
            return 0
        self.assertEqual(first_bad(events), 0)
        changed = [dict(event) for event in events]
        changed[4]["body"] = changed[4]["body"][:-2] + "00"
        self.assertEqual(first_bad(changed), 5)
        self.assertEqual(first_bad(events[:3] + events[4:]), 4)

    def test_a_store_that_was_put_back_is_noticed(self):
        server = self.server
        server.stop()
        copy = server.folder / "copy"
        shutil.copytree(server.state, copy)
        server.start()
        # The newest checkpoint is told once a second; events go on for longer than two of them.
        end, number = time.monotonic() + 2.5 * scale(), 0
        while time.monotonic() < end:
            server.ctl("queue", "add", f"q{number}")
            number += 1
        # What the supervisor was told outlives the server process, as a put-back by an intruder
        # does who can't reach it.
        before = server.ctl("audit", "verify")["checkpoints"]
        os.kill(server.supervisor_pid(), signal.SIGSTOP)  # no restart on half a store
        server.kill9()
        for path in (server.state / "store").iterdir():
            shutil.copyfile(copy / "store" / path.name, path)
        os.kill(server.supervisor_pid(), signal.SIGCONT)
        server.wait_log("audit.rolled-back", seconds=30)
        server.wait_ready(2)
        events = server.ctl("audit", "list", "--action", "audit.rolled-back")
        self.assertEqual(len(events), 1)
        self.assertRegex(events[0]["detail"], r"^checkpoint=\d+ remembered=\d+$")
        sentence = f"breaks at event {events[0]['event']}: the store was put back as a whole"
        self.assert_refused(sentence, server.ctl, "audit", "verify")
        # The next start knows of it already: it is one roll-back.
        server.stop()
        server.start()
        self.assertEqual(len(server.ctl("audit", "list", "--action", "audit.rolled-back")), 1)
        self.assert_refused(sentence, server.ctl, "audit", "verify")
        server.ctl("audit", "accept")
        self.assertLess(server.ctl("audit", "verify")["checkpoints"], before)
        self.assertEqual(len(server.ctl("audit", "list", "--action", "audit.accept")), 1)

    def test_a_torn_event_is_named_and_hides_no_other(self):
        server = self.server
        for number in range(5):
            server.ctl("queue", "add", f"q{number}")
        whole = server.ctl("audit", "list")
        server.stop()
        tear_row(self, server, "audit.event", f"{3:016x}")
        server.start()
        self.assert_refused("breaks at event 3: the row's seal does not hold", server.ctl, "audit",
                            "verify")
        status, out, error = server.ctl_run("--json", "audit", "list")
        self.assertEqual(status, 0, error)
        self.assertIn("left out, because they do not read: 1", error)
        self.assertEqual([event["event"] for event in json.loads(out)],
                         [event["event"] for event in whole if event["event"] != 3])
        path = server.run / "trail"
        server.ctl("audit", "export", str(path))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(lines[2], {"event": 3, "unreadable": True})
        self.assertEqual([line["event"] for line in lines], list(range(1, len(whole) + 1)))
        self.assertIn("imprimatur_audit_events_unreadable_total 2",
                      server.ctl_run("metrics")[1])

    def test_a_job_from_the_network_names_its_address_until_that_is_erased(self):
        server = self.server
        submit(server.port("lpr", "lpd"), b"content")
        self.only_job(server)

        def place():
            [event] = server.ctl("audit", "list", "--action", "job.receive")
            return event["place-kind"], event["place"]
        self.assertEqual(place(), ("address", "127.0.0.1"))
        server.ctl("audit", "forget", "127.0.0.1")
        kind, text = place()
        self.assertEqual(kind, "address")
        self.assertRegex(text, "^[0-9a-f]{32}$")
        server.ctl("audit", "verify")
