# SPDX-License-Identifier: Apache-2.0
"""Module lpr and the LPD clients that people have: rlpr, CUPS's backend in each of its modes, LPRng.

What each of them sends is there with its owner, seen by its owner alone, and prints as it was sent.
"""
import os
import re
import unittest

from harness import peers
from harness.case import needs_programs, needs_root
from harness.deadline import Deadline
from harness.site import USER, PrintTest

STRANGER = "eve"
CUPS_LPD = "cups/usr/lib/cups/backend-available/lpd"
TITLE = "Quarterly report"


class ClientTest(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)

    def setUp(self):
        super().setUp()
        self.folder = peers.client_folder(self)
        self.server = self.print_server()
        self.port = self.server.port("lpr", "lpd")
        self.printer = self.device(self.server)
        self.owner = self.server.ctl("user", "show", USER)["user"]

    def file(self, content, name="document"):
        """A file that a client can be given; readable by all, for cupsd's sake."""
        path = self.folder / name
        path.write_bytes(content)
        os.chmod(path, 0o644)
        return path

    def rlp(self, program, *arguments, user=USER):
        command = [program, "-N", "-H", "127.0.0.1", f"--port={self.port}", "-P", "hold"]
        if program == "rlpr":
            return peers.run([*command, "-U", user, *arguments])
        return peers.run_as(user, self.folder, [*command, *arguments])

    def wait_jobs(self, count):
        deadline = Deadline(10, f"{count} jobs in the queue")
        while len(self.jobs(self.server)) != count:
            deadline.pause()
        return self.jobs(self.server)

    def assert_held(self, title, owner=None):
        """There is one job; it is held for anna, who sees its title, and nobody else does."""
        job = self.only_job(self.server)
        self.assertEqual((job["state"], job["reasons"], job["owner"]),
                         ("pending-held", "job-held-for-release", owner or self.owner))
        if title is not None:
            self.assertIn(title, self.rlp("rlpq", USER))
            stranger = self.rlp("rlpq", STRANGER, user=STRANGER)
            self.assertIn("1 job", stranger)
            self.assertNotIn(title, stranger)
        return job

    def assert_prints(self, content, title=TITLE):
        """What was sent is one job of anna's, and a printer receives exactly that."""
        job = self.assert_held(title)
        self.assertEqual(self.printed(self.server, job["job-id"], self.printer), content)
        self.wait_jobs(0)


@needs_programs("rlpr", "rlpq", "rlprm")
class Rlpr(ClientTest):
    def test_what_rlpr_sends_is_held_and_prints_as_sent(self):
        for size in (0, 1, 1000, 32768, 32769, 1000000):
            with self.subTest(size=size):
                content = os.urandom(size)
                self.rlp("rlpr", "-J", TITLE, self.file(content))
                self.assert_prints(content)

    def test_a_title_in_utf8_arrives(self):
        self.rlp("rlpr", "-J", "Gehälter für März", self.file(b"content"))
        self.assert_held("Gehälter für März")

    def test_each_of_several_files_is_a_job(self):
        contents = [b"first\n", os.urandom(50000), b"third\n"]
        files = [self.file(content, f"file-{number}") for number, content in enumerate(contents)]
        self.rlp("rlpr", "-J", TITLE, *files)
        jobs = self.jobs(self.server)
        self.assertEqual([(job["owner"], job["bytes"]) for job in jobs],
                         [(self.owner, len(content)) for content in contents])
        self.assertEqual([self.printed(self.server, job["job-id"], self.printer) for job in jobs],
                         contents)

    def test_copies_are_kept_with_the_job(self):
        self.rlp("rlpr", "-J", TITLE, "-#3", self.file(b"content"))
        job = self.assert_held(TITLE)
        shown = self.server.ctl("job", "show", str(job["job-id"]))
        self.assertEqual(str(shown.get("copies")), "3")

    def test_rlpq_tells_its_owner_and_counts_for_others(self):
        self.rlp("rlpr", "-J", TITLE, self.file(b"x" * 4321))
        for form in ((), ("-l",)):
            with self.subTest(form=form):
                own = self.rlp("rlpq", *form, USER)
                for shown in (TITLE, USER, "4321 bytes"):
                    self.assertIn(shown, own)
                for other in (self.rlp("rlpq", *form),
                              self.rlp("rlpq", *form, STRANGER, user=STRANGER)):
                    self.assertIn("1 job", other)
                    for hidden in (TITLE, USER, "4321"):
                        self.assertNotIn(hidden, other)

    def test_rlprm_removes_for_the_owner_alone(self):
        for title in ("first", "second", "third"):
            self.rlp("rlpr", "-J", title, self.file(title.encode()))
        numbers = dict(reversed(pair) for pair in re.findall(
            r"^\S+ +anna +(\d+) +(\w+)", self.rlp("rlpq", USER), re.MULTILINE))
        self.assertEqual(set(numbers), {"first", "second", "third"})
        self.rlp("rlprm", numbers["second"], user=STRANGER)
        self.rlp("rlprm", user=STRANGER)
        self.assertEqual(len(self.jobs(self.server)), 3)
        self.rlp("rlprm", numbers["second"])
        left = self.rlp("rlpq", USER)
        self.assertEqual([title in left for title in ("first", "second", "third")],
                         [True, False, True])

    def test_where_the_host_proves_nothing_the_owner_is_as_any_other(self):
        self.server.set_module("lpr", {**self.server.modules["lpr"], "host_is_proof": False})
        self.server.ctl("config", "reload")
        self.rlp("rlpr", "-J", TITLE, self.file(b"content"))
        seen = self.rlp("rlpq", USER)
        self.assertIn("1 job", seen)
        self.assertNotIn(TITLE, seen)
        self.rlp("rlprm")
        self.assertEqual(self.only_job(self.server)["owner"], self.owner)

    def test_an_unknown_queue_is_told(self):
        with self.assertRaises(peers.ClientFailed):
            peers.run(["rlpr", "-N", "-H", "127.0.0.1", f"--port={self.port}", "-P", "nowhere",
                       self.file(b"content")])
        self.assertEqual(self.jobs(self.server, "--all"), [])


@peers.needs_peer(CUPS_LPD)
class CupsBackend(ClientTest):
    deadline = 120

    def send(self, options, content, by_stdin=False, queue="hold", seconds=30, **job):
        job.setdefault("title", TITLE)
        return peers.cups_backend("lpd", f"lpd://127.0.0.1:{self.port}/{queue}?{options}",
                                  self.file(content), seconds, by_stdin=by_stdin, **job)

    def each(self, *options):
        """Every mode, with a job that is a value of the store and one that is a file."""
        for option in options:
            for size in (1000, 200000):
                with self.subTest(option=option, size=size):
                    content = os.urandom(size)
                    self.send(option, content)
                    if option == "mode=stream":
                        self.wait_jobs(1)  # the backend does not wait for the answer to a stream
                    self.assert_prints(content)

    def test_control_file_first_and_data_file_first(self):
        self.each("", "order=control,data", "order=data,control")

    def test_standard_mode_from_standard_input(self):
        for order in ("control,data", "data,control"):
            with self.subTest(order=order):
                content = os.urandom(200000)
                self.send(f"order={order}", content, by_stdin=True)
                self.assert_prints(content)

    def test_stream_mode_from_standard_input(self):
        for size in (1, 1000, 200000):
            with self.subTest(size=size):
                content = os.urandom(size)
                self.send("mode=stream", content, by_stdin=True)
                self.wait_jobs(1)
                self.assert_prints(content)

    def test_stream_mode_of_a_file(self):
        self.each("mode=stream", "mode=standard")

    def test_every_format(self):
        self.each(*(f"format={letter}" for letter in "lfopcdgntv"))

    def test_a_banner(self):
        self.each("banner=on", "banner=off")

    def test_every_way_to_choose_a_source_port_but_privileged_ones(self):
        self.each("reserve=none")

    @needs_root
    def test_privileged_source_ports(self):
        self.each("reserve=any")
        content = os.urandom(1000)
        self.send("reserve=rfc1179", content)
        self.assert_prints(content)

    def test_titles_with_and_without_their_signs(self):
        title = "Gehälter: 50 % (Entwurf)"
        self.send("sanitize_title=no", b"content", title=title)
        self.assert_prints(b"content", title)
        self.send("sanitize_title=yes", b"content", title=title)
        self.assert_prints(b"content", "50 _ _Entwurf_")

    def test_a_title_of_any_length_is_taken(self):
        self.send("sanitize_title=no", b"content", title="long " * 60)
        self.assert_prints(b"content", "long long long")

    def test_copies_that_the_client_makes_are_documents_of_their_own(self):
        content = os.urandom(1000)
        self.send("manual_copies=yes", content, copies=2)
        self.assert_prints(content * 2)

    def test_copies_that_are_asked_for_are_kept_with_the_job(self):
        self.send("manual_copies=no", os.urandom(1000), copies=2)
        job = self.assert_held(TITLE)
        shown = self.server.ctl("job", "show", str(job["job-id"]))
        self.assertEqual(str(shown.get("copies")), "2")

    def test_a_queue_given_as_a_path(self):
        self.send("", b"content", queue="printers/hold")
        self.assert_prints(b"content")

    def test_an_empty_stream_is_an_empty_job(self):
        self.send("mode=stream", b"", by_stdin=True)
        job = self.wait_jobs(1)[0]
        self.assertEqual((job["bytes"], job["owner"]), (0, self.owner))

    def test_a_queue_that_does_not_exist_is_told(self):
        with self.assertRaises(peers.ClientFailed) as caught:
            self.send("", b"content", queue="nowhere")
        self.assertIsInstance(caught.exception.status, int)
        self.assertNotIn("Data file sent successfully", caught.exception.output)
        self.assertEqual(self.jobs(self.server, "--all"), [])


@peers.needs_peer("lprng/usr/bin/lpr")
class Lprng(ClientTest):
    def lprng(self, program, *arguments, user=USER):
        return peers.run_as(user, self.folder, [
            peers.LPRNG / "usr/bin" / program, f"-Phold@127.0.0.1%{self.port}", *arguments])

    def test_what_lpr_sends_is_held_and_prints_as_sent(self):
        for size in (1, 1000, 200000):
            with self.subTest(size=size):
                content = os.urandom(size)
                self.lprng("lpr", "-J", TITLE, "-b", self.file(content))
                self.assert_prints(content)

    def test_text_with_line_ends_is_not_touched(self):
        content = b"one\ntwo\r\nthree\f\n"
        self.lprng("lpr", "-J", TITLE, self.file(content))
        self.assert_prints(content)

    def test_several_files_are_printed_in_their_order(self):
        files = [self.file(content, name) for name, content in
                 (("one", b"first\n"), ("two", os.urandom(50000)))]
        self.lprng("lpr", "-J", TITLE, "-b", *files)
        self.assert_prints(b"".join(path.read_bytes() for path in files))

    def test_lpq_and_lprm(self):
        self.lprng("lpr", "-J", TITLE, self.file(b"content"))
        self.assertIn("1 job", self.lprng("lpq"))
        self.assertIn(TITLE, self.lprng("lpq", USER))
        self.lprng("lprm", "all", user=STRANGER)
        self.assert_held(TITLE)
        number = re.search(r"anna +(\d+)", self.rlp("rlpq", USER)).group(1)
        self.lprng("lprm", number)
        self.assertEqual(self.jobs(self.server), [])


if __name__ == "__main__":
    unittest.main()
