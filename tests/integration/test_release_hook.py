# SPDX-License-Identifier: Apache-2.0
"""Hook `job.release`: a module asks the person, changes the ticket, denies."""
import os
import shutil
import unittest

from harness import tsan
from harness.lpd import submit
from harness.site import CARD, PIN, PrintTest

DOCUMENT = b"twice or once\n" * 500


class ReleaseHook(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)

    def setUp(self):
        super().setUp()
        asks = self.build.folder / "tests/modules/.libs/t-asks.so"
        if not asks.exists():
            raise unittest.SkipTest("tests/modules are not built (make check)")
        self.server = self.print_server(modules={"t-asks": {}}, start=False)
        folder = self.server.folder / "modules"
        shutil.copytree(self.server.module_dir, folder)
        shutil.copyfile(asks, folder / "t-asks.so")
        for path in (folder, *folder.iterdir()):
            os.chmod(path, 0o755)
        self.server.write_core(module_dir=str(folder))
        self.server.start()
        self.server.log.wait("module.started", module="t-asks")
        self.furnish(self.server)
        self.printer = self.device(self.server)

    def held(self):
        submit(self.server.port("lpr", "lpd"), DOCUMENT)
        return self.only_job(self.server)["job-id"]

    def answered(self, job, *answers, prefix=(), stdin=f"{CARD}\n{PIN}\n"):
        options = [word for answer in answers for word in ("--answer", answer)]
        return self.server.ctl_run(*prefix, "job", "release", str(job), "--device", "printer",
                                   "--card", *options, stdin=stdin)

    @tsan
    def test_a_question_is_answered_by_releasing_again(self):
        job = self.held()
        status, out, err = self.answered(job)
        self.assertEqual(status, 1)
        for word in ("t-asks.copies", "How many times?", "once, twice, never"):
            self.assertIn(word, out)
        self.assertIn("--answer t-asks.copies=CHOICE", err)
        self.assertEqual(self.only_job(self.server)["state"], "pending-held")
        status, out, err = self.answered(job, "t-asks.copies=twice")
        self.assertEqual(status, 1)
        self.assertIn("t-asks.sure", out)
        self.assertEqual(self.printer.connections(), 0)
        status, out, err = self.answered(job, "t-asks.copies=twice", "t-asks.sure=yes")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("released job", out)
        self.assertEqual(self.printer.wait_documents(1), [DOCUMENT * 2])
        changed = self.server.log.find("t-asks.changed")
        self.assertEqual(changed[-1].fields["after"], "2")
        details = [event["detail"] for event in self.server.ctl("audit", "list")
                   if event["action"] == "job.release"]
        self.assertEqual(details[:2], ["asks=t-asks.copies", "asks=t-asks.sure"])
        self.assertIn("delivery=", details[2])

    def test_a_change_is_of_its_delivery_alone(self):
        self.server.ctl("queue", "set", "hold", "--default", "copies=3")
        job = self.held()
        status, _, err = self.answered(job, "t-asks.copies=once", "t-asks.sure=yes")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(self.printer.wait_documents(1), [DOCUMENT * 3])
        self.assertEqual(self.server.log.find("t-asks.changed"), [])

    def test_a_choice_that_is_none_asks_again(self):
        job = self.held()
        status, out, _ = self.answered(job, "t-asks.copies=thrice", prefix=("--json",))
        self.assertEqual(status, 1)
        self.assertIn('"question": "t-asks.copies"', out.replace('":"', '": "'))
        status, _, err = self.answered(job, "t-asks.copies=never")
        self.assertEqual((status, err.strip().endswith("then not")), (1, True), err)

    def test_an_answer_that_is_none_is_wrong_use(self):
        job = self.held()
        for answer in ("twice", "t-asks.copies=Zwei mal", "=twice"):
            status, _, err = self.answered(job, answer)
            self.assertEqual(status, 2, err)
            self.assertIn("answer", err)
        # What the command line alone shows is said before a secret is asked for.
        for answers, word in ((["twice"], "no answer"),
                              ([f"q{i}=a" for i in range(17)], "one answer too many")):
            status, _, err = self.answered(job, *answers, stdin="")
            self.assertEqual(status, 2, err)
            self.assertIn(word, err)

    def test_a_direct_queue_asks_the_hooks_and_nobody_answers(self):
        self.server.ctl("queue", "add", "direct", "--release", "direct", "--device", "printer")
        port = self.server.port("lpr", "lpd")
        submit(port, b"short", queue="direct")
        self.server.log.wait("jobs.delivery-failed", job="aborted", status="denied")
        submit(port, DOCUMENT, queue="direct", number=2)
        self.assertEqual(self.printer.wait_documents(1), [DOCUMENT * 2])
        states = [job["state"] for job in self.server.ctl("job", "list", "--all")]
        self.assertEqual(states[0], "aborted")
