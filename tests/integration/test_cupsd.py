# SPDX-License-Identifier: Apache-2.0
"""People print through a CUPS of their own: `lp`, cupsd, and its queues that send to us by LPD and RAW.

cupsd is the client here: it takes the job, runs its backend, and goes on to its next job only when the
backend has ended.
"""
import os
import re
import socket
import threading
import unittest

from harness import peers
from harness.case import needs_programs
from harness.cupsd import Cupsd
from harness.deadline import Deadline, scale
from harness.lpd import LpdClient
from harness.net import free_port
from harness.site import USER, PrintTest

TITLE, TITLE_UTF8, USER_UTF8 = "Quarterly report", "Gehälter für März", "jürgen"


def pjl(content, user=USER):
    """A document for a queue that knows its owner by nothing else."""
    return (b"\x1b%%-12345X@PJL SET USERNAME=\"%s\"\r\n@PJL SET JOBNAME=\"%s\"\r\n"
            b"@PJL ENTER LANGUAGE=PCL\r\n" % (user.encode(), TITLE.encode()) + content)


class Relay:
    """Lets a connection's first `limit` bytes through to `port` and holds up the others. When it may end
    it drops them, and ends when the client does."""

    def __init__(self, port, limit):
        self.port, self.limit = port, limit
        self.is_held, self.may_end, self.has_ended = (threading.Event() for _ in range(3))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.listen_port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.may_end.set()
        self._listener.close()

    def _serve(self):
        try:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()
        except OSError:
            pass

    def _pass(self, client):
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()
            left = self.limit
            while left > 0 and (data := client.recv(min(left, 65536))):
                server.sendall(data)
                left -= len(data)
            self.is_held.set()
            self.may_end.wait()
            while client.recv(65536):
                pass
        self.has_ended.set()

    @staticmethod
    def _back(server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass


@needs_programs("/usr/sbin/cupsd", "lp", "lpstat", "cancel")
@peers.needs_peer("cups/usr/lib/cups/backend-available/lpd")
class CupsdTest(PrintTest):
    modules_needed = PrintTest.modules_needed + ("transport-socket",)
    deadline = 120

    def setUp(self):
        super().setUp()
        self.private += [TITLE_UTF8, USER_UTF8]
        self.folder = peers.client_folder(self)
        self.server = self.print_server(queues={"closed": ("--accepting", "no")}, modules={
            "raw": {"listen": [self.listen("raw", queue="hold"),
                               self.listen("closed", queue="closed")]}})
        self.printer = self.device(self.server)
        self.owner = self.server.ctl("user", "show", USER)["user"]
        self.lpd_port = self.server.port("lpr", "lpd")
        raw = f"socket://127.0.0.1:{self.server.port('raw', 'raw')}"
        self.cupsd = Cupsd(self, {
            "lpd": self.lpd(self.lpd_port, "hold"),
            "socket": raw,
            "lpd-closed": self.lpd(self.lpd_port, "closed"),
            "socket-closed": f"socket://127.0.0.1:{self.server.port('raw', 'closed')}",
            "socket-away": f"socket://127.0.0.1:{free_port()}",
            **self.more_queues()})

    def more_queues(self):
        return {}

    @staticmethod
    def lpd(port, queue):
        return f"lpd://127.0.0.1:{port}/{queue}?reserve=none&sanitize_title=no"

    def file(self, content, name="document"):
        path = self.folder / name
        path.write_bytes(content)
        os.chmod(path, 0o644)
        return path

    def lp(self, queue, content, *options, user=USER):
        return self.cupsd.lp(queue, self.file(content), "-o", "raw", *options, user=user)

    def wait_jobs(self, count):
        """So many are held here, and cupsd is done with them."""
        deadline = Deadline(30, f"{count} jobs in our queue")
        while len(self.jobs(self.server)) != count:
            try:
                deadline.pause()
            except AssertionError as late:
                raise AssertionError(self.cupsd.log()[-8000:]) from late
        self.cupsd.wait_idle()
        return self.jobs(self.server)

    def assert_prints(self, job, content):
        self.assertEqual((job["state"], job["reasons"], job["owner"]),
                         ("pending-held", "job-held-for-release", self.owner))
        self.assertEqual(self.printed(self.server, job["job-id"], self.printer), content)
        deadline = Deadline(10, "the job to be finished")
        while any(left["job-id"] == job["job-id"] for left in self.jobs(self.server)):
            deadline.pause()

    def seen_by(self, user):
        with LpdClient(self.lpd_port) as client:
            client.send(b"\4hold %s\n" % user.encode())
            return client.read_all().decode()


class Prints(CupsdTest):
    def test_jobs_are_held_and_print_as_they_were_sent(self):
        for queue in ("lpd", "socket"):
            for size in (1, 1000, 1000000):
                with self.subTest(queue=queue, size=size):
                    content = pjl(os.urandom(size))
                    self.lp(queue, content, "-t", TITLE)
                    self.assert_prints(self.wait_jobs(1)[0], content)

    def test_the_second_job_does_not_wait(self):
        for queue in ("lpd", "socket"):
            with self.subTest(queue=queue):
                contents = [pjl(os.urandom(1000 + number)) for number in range(3)]
                for content in contents:
                    self.lp(queue, content)
                jobs = self.wait_jobs(len(contents))
                self.assertEqual([(job["state"], job["bytes"]) for job in jobs],
                                 [("pending-held", len(content)) for content in contents])
                for job, content in zip(jobs, contents):
                    self.assert_prints(job, content)

    def test_copies_print(self):
        for queue in ("lpd", "socket"):
            with self.subTest(queue=queue):
                content = pjl(os.urandom(1000))
                self.lp(queue, content, "-n", "3")
                self.assert_prints(self.wait_jobs(1)[0], 3 * content)

    def test_names_in_utf8_arrive(self):
        self.server.ctl("user", "add", USER_UTF8)
        owner = self.server.ctl("user", "show", USER_UTF8)["user"]
        for options in (("-t", TITLE_UTF8), ("-o", f"job-name='{TITLE_UTF8}'")):
            with self.subTest(options=options):
                self.lp("lpd", b"content", *options, user=USER_UTF8)
                job = self.wait_jobs(1)[0]
                self.assertEqual(job["owner"], owner)
                seen = self.seen_by(USER_UTF8)
                self.assertIn(TITLE_UTF8, seen)
                self.assertIn(USER_UTF8, seen)
                self.server.ctl("job", "cancel", str(job["job-id"]))

    def test_names_in_pjl_count_where_the_protocol_has_none(self):
        self.lp("socket", pjl(b"content"), user="somebody else")
        self.assertEqual(self.wait_jobs(1)[0]["owner"], self.owner)
        self.assertIn(TITLE, self.seen_by(USER))


class Cancels(CupsdTest):
    LIMIT = 300000

    def more_queues(self):
        self.relay = Relay(self.lpd_port, self.LIMIT)
        self.addCleanup(self.relay.close)
        return {"relayed": self.lpd(self.relay.listen_port, "hold")}

    def wait_log(self, text):
        deadline = Deadline(20, f"{text!r} in cupsd's log")
        while not re.search(text, self.cupsd.log()):
            deadline.pause()

    def test_a_job_that_we_do_not_take_can_be_canceled(self):
        """cupsd tries it again and again; when it is canceled nothing of it is here."""
        for refused, queue in (("lpd-closed", "lpd"), ("socket-away", "socket")):
            with self.subTest(queue=queue):
                job = self.lp(refused, pjl(b"content"))
                self.wait_log(rf"Started backend .*/{queue} ")
                self.assertEqual(self.cupsd.jobs(), [job])
                self.cupsd.cancel(job)
                self.cupsd.wait_idle()
                content = pjl(b"the next one by " + queue.encode())
                self.lp(queue, content)
                self.assert_prints(self.wait_jobs(1)[0], content)
        self.assertEqual({job["queue"] for job in self.jobs(self.server, "--all")}, {"hold"})

    def test_jobs_arrive_once_when_our_queue_takes_them(self):
        contents = {queue: pjl(os.urandom(5000)) for queue in ("lpd", "socket")}
        for queue, content in contents.items():
            self.lp(f"{queue}-closed", content)
        self.server.wait_log("lpr.refused", status="denied")
        self.server.wait_log("raw.waiting", status="denied")
        self.assertEqual(self.jobs(self.server, "--all"), [])
        self.server.ctl("queue", "set", "closed", "--accepting", "yes")
        jobs = self.wait_jobs(len(contents))
        self.assertEqual({self.printed(self.server, job["job-id"], self.printer) for job in jobs},
                         set(contents.values()))

    def test_jobs_arrive_once_when_we_are_back(self):
        contents = {queue: pjl(os.urandom(5000)) for queue in ("lpd", "socket")}
        self.server.stop()
        for queue, content in contents.items():
            self.lp(queue, content)
            self.wait_log(rf"Started backend .*/{queue} ")
        self.server.start()
        jobs = self.wait_jobs(len(contents))
        self.assertEqual({self.printed(self.server, job["job-id"], self.printer) for job in jobs},
                         set(contents.values()))

    def test_a_job_that_is_canceled_in_the_middle_leaves_nothing(self):
        job = self.lp("relayed", os.urandom(16 << 20))
        self.assertTrue(self.relay.is_held.wait(20 * scale()))
        self.cupsd.cancel(job)
        self.relay.may_end.set()
        self.assertTrue(self.relay.has_ended.wait(20 * scale()), self.cupsd.log()[-3000:])
        self.lp("lpd", b"the next one")
        self.assert_prints(self.wait_jobs(1)[0], b"the next one")
        self.assertEqual(len(self.jobs(self.server, "--all")), 1)


if __name__ == "__main__":
    unittest.main()
