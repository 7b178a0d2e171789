# SPDX-License-Identifier: Apache-2.0
"""What people print, and who they are, is readable in nothing that the server writes."""
import os
import signal
from pathlib import Path

from harness import ServerTest, needs_root, not_under, processes
from harness.lpd import LpdClient, control_text
from harness.privacy import Search
from harness.site import PrintTest

NAME, HOST = "grace.hopper-müller", "notebook-of-grace.corp.example"
CARD, PIN, PASSWORD = "0A:1B:2C:3D:4E:5F", "8151162342", "Tr0ub4dor & dreißig"
TITLE, MAIL = "Kündigung Projekt Nachtigall", "grace.hopper@corp.example"
TEXT = "Streng vertraulich: das Gehalt beträgt 123456 Euro."


class Privacy(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)

    def setUp(self):
        super().setUp()
        self.private += [NAME, HOST, CARD, CARD.replace(":", ""), PIN, PASSWORD, TITLE, MAIL, TEXT]
        self.server = self.print_server(core={"log_level": "debug"})
        self.server.ctl("user", "add", NAME, "--card", "--pin", "--password",
                        stdin=f"{CARD}\n{PIN}\n{PASSWORD}\n")

    def submit(self, number, content, user=NAME, title=TITLE):
        data = f"dfA{number:03}{HOST}"
        with LpdClient(self.server.port("lpr", "lpd"), 30) as client:
            client.receive()
            client.control(control_text(user, f"{title} {MAIL}", (data,), host=HOST),
                           f"cfA{number:03}{HOST}")
            client.data_yes(content, data)

    def search(self):
        return Search(self.private).instance(self.server)

    def test_nothing_private_is_readable_in_what_is_left(self):
        server, sink = self.server, self.device(self.server)
        small = TEXT.encode() * 20
        large = TEXT.encode("utf-16-le") * 2000
        self.submit(1, small)
        self.submit(2, large)
        self.submit(3, small)
        self.submit(4, small, user="someone-who-is-nobody-here")
        self.private.append("someone-who-is-nobody-here")
        numbers = [job["job-id"] for job in self.jobs(server)]
        self.assertEqual(len(numbers), 4)
        self.assert_refused("not known", self.release, server, numbers[0], card=CARD,
                            pin="1" + PIN)
        self.assert_refused("not known", self.release, server, numbers[0], card=CARD + ":99",
                            pin=PIN)
        for number, content in ((numbers[0], small), (numbers[1], large)):
            before = sink.connections()
            self.release(server, number, card=CARD, pin=PIN)
            self.assertEqual(sink.wait_documents(before + 1)[before], content)
        server.ctl("job", "cancel", str(numbers[2]))
        with LpdClient(server.port("lpr", "lpd")) as client:
            client.send(b"\4hold " + NAME.encode() + b"\n")
            client.read_all()
        server.ctl("audit", "list")
        server.ctl("user", "set", NAME, "--enabled=no")
        server.ctl("user", "list")
        backup = server.run / "backup"
        server.ctl("backup", "create", str(backup))
        self.assertEqual(self.search(), [])
        server.kill9()
        server.wait_ready(2)
        self.submit(5, large)
        self.assertEqual(self.search(), [])
        # Once more, with another end, when the instance is ended: check_ended.

    def test_a_crash_leaves_no_core_with_anything_private(self):
        server = self.server
        self.submit(1, TEXT.encode() * 100)
        pid = server.server_pid()
        self.submit(2, TEXT.encode() * 100)
        os.kill(pid, signal.SIGABRT)
        processes.wait_gone(pid)
        server.wait_ready(2)
        self.assertEqual(self.search(), [])

    def test_the_search_finds_what_is_planted(self):
        self.assertEqual(self.search(), [])
        planted = Path(self.server.folder) / "planted"
        planted.write_bytes(b"\0" * 70000 + MAIL.encode("utf-16-le"))
        self.assertEqual(len(self.search()), 1)
        planted.unlink()


class Dumps(ServerTest):
    @needs_root
    @not_under("address", "its reports need a process that can be looked into")
    @not_under("thread", "its reports need a process that can be looked into")
    def test_an_installed_server_can_not_be_dumped(self):
        server = self.server(as_root=True)
        # proc(5): the files of a process that can't be dumped belong to root, whoever runs it.
        self.assertEqual(os.stat(f"/proc/{server.server_pid()}/environ").st_uid, 0)
        self.assertNotEqual(server.uid, 0)
