# SPDX-License-Identifier: Apache-2.0
"""What a server can't work on, it refuses in one clear line, and everything is still there afterwards."""
import os
import shutil
import subprocess
import unittest

from harness import StartFailed, needs_root
from harness.deadline import Deadline, scale
from harness.lpd import Refused, submit
from harness.site import PrintTest

SMALL, LARGE = b"in the store", b"%PDF in a file " * 10000


class StateTest(PrintTest):
    def held(self, **arguments):
        """A server that has ended and whose state holds two jobs, one in the store, one in a file."""
        server = self.print_server(**arguments)
        for number, content in enumerate((SMALL, LARGE), 1):
            submit(server.port("lpr", "lpd"), content, number=number)
        server.stop()
        return server

    def check_whole(self, server):
        """Starts it: nothing is missing, and what was held prints as it was sent."""
        server.start()
        jobs = sorted(job["job-id"] for job in self.jobs(server))
        self.assertEqual(len(jobs), 2)
        self.assertEqual([user["name"] for user in server.ctl("user", "list")], ["anna"])
        server.ctl("audit", "verify")
        if "transport-socket" in self.build.modules():
            sink = self.device(server)
            for job, content in zip(jobs, (SMALL, LARGE)):
                self.assertEqual(self.printed(server, job, sink), content)
        server.stop()

    def refusal(self, instance):
        """What a server that refuses to start has to complain of: in one line."""
        with self.assertRaises(StartFailed) as caught:
            instance.start()
        self.assertEqual(caught.exception.status, 1, caught.exception.log)
        lines = [line.text for line in instance.logs[-1].lines
                 if line.level not in ("info", "notice")]
        self.assertEqual(len(lines), 1, caught.exception.log)
        return lines[0]

    @staticmethod
    def content(server):
        """What the state folder holds; the times of nothing, and not the readers' lock file."""
        return {str(path.relative_to(server.state)): path.read_bytes()
                for path in sorted(server.state.rglob("*"))
                if path.is_file() and path.name != "lock.mdb"}


class MasterKey(StateTest):
    def test_another_master_key_is_refused(self):
        server, stranger = self.held(), self.print_server()
        key, aside = server.keys / "master.key", server.keys / "aside"
        key.rename(aside)
        shutil.copyfile(stranger.keys / "master.key", key)
        os.chmod(key, 0o400)
        os.chown(key, server.uid, server.gid)
        before = self.content(server)
        line = self.refusal(server)
        self.assertRegex(line, r"needs master key [0-9a-f]+, but the one given is [0-9a-f]+")
        self.assertEqual(self.content(server), before)
        aside.replace(key)
        self.check_whole(server)

    def test_a_missing_master_key_is_refused_and_none_is_made(self):
        server = self.held()
        key, aside = server.keys / "master.key", server.keys / "aside"
        key.rename(aside)
        before = self.content(server)
        line = self.refusal(server)
        self.assertIn(f"{key} is missing", line)
        self.assertFalse(key.exists())
        self.assertEqual(self.content(server), before)
        aside.replace(key)
        self.check_whole(server)

    def test_a_credential_is_taken_and_never_made(self):
        server = self.held()
        key, credentials = server.keys / "master.key", server.folder / "credentials"
        credentials.mkdir(mode=0o755)
        # Without a key's folder the supervisor keeps its own beside the state; nobody may make it here.
        own = server.folder / "state-supervisor"
        own.mkdir(mode=0o700)
        os.chown(own, server.uid, server.gid)
        server.write_core(master_key="credential:master")
        self.assertIn("there are no credentials", self.refusal(server))
        server.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
        self.assertIn("credentials/master is missing", self.refusal(server))
        self.assertEqual(list(credentials.iterdir()), [])
        key.rename(credentials / "master")
        self.check_whole(server)


class NewerSchema(StateTest):
    def set_schema(self, server, table, number):
        """Changes a schema number behind the server's back; returns the one that was there."""
        program = self.build.folder / "tests/integration/set-schema"
        if not program.exists():
            raise unittest.SkipTest("tests/integration/set-schema is not built")
        # Everything belongs to the server's user; root may write it, and nothing new is made.
        done = subprocess.run(
            [str(program), str(server.state), str(server.keys / "master.key"), table, str(number)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=60 * scale())
        self.assertEqual(done.returncode, 0, done.stderr)
        return int(done.stdout)

    def test_a_newer_table_is_refused_with_the_whole_start_and_stays_as_it_is(self):
        server = self.held()
        known = self.set_schema(server, "jobs.job", 99)
        line = self.refusal(server)
        self.assertIn("module jobs: table jobs.job has schema 99 in the store, this module knows up "
                      f"to {known}", line)
        self.assertEqual(self.set_schema(server, "jobs.job", known), 99)
        self.check_whole(server)

    def test_without_the_module_the_rest_of_the_store_can_be_used(self):
        server = self.held()
        known = self.set_schema(server, "devices.device", 99)
        self.refusal(server)
        server.set_module("devices", {}, is_enabled=False)
        server.start()
        self.assertEqual([user["name"] for user in server.ctl("user", "list")], ["anna"])
        server.stop()
        server.set_module("devices", {})
        self.assertEqual(self.set_schema(server, "devices.device", known), 99)
        self.check_whole(server)

    def test_a_store_of_a_newer_format_is_refused(self):
        server = self.held()
        known = self.set_schema(server, "format", 77)
        before = self.content(server)
        line = self.refusal(server)
        self.assertIn(f"format 77, this program knows up to {known}", line)
        self.assertEqual(self.content(server), before)


def mount(test, *arguments):
    """Mounts for one test; `arguments` end with the folder."""
    done = subprocess.run(["mount", *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        test.skipTest(f"no file system can be mounted here: {done.stderr.strip()}")
    test.addCleanup(subprocess.run, ["umount", "-l", str(arguments[-1])], check=True)


class ReadOnly(StateTest):
    def test_a_state_folder_that_may_not_be_written(self):
        server = self.print_server(start=False)
        os.chmod(server.state, 0o500)
        line = self.refusal(server)
        self.assertIn(str(server.state), line)
        self.assertIn("Permission denied", line)
        self.assertEqual(list(server.state.iterdir()), [])
        os.chmod(server.state, 0o700)
        server.start()

    @needs_root
    def test_a_state_folder_on_a_read_only_file_system(self):
        server = self.held()
        mount(self, "--bind", server.state, server.state)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(server.state)], check=True)
        before = self.content(server)
        line = self.refusal(server)
        self.assertIn(str(server.state), line)
        self.assertIn("Read-only file system", line)
        self.assertEqual(self.content(server), before)
        subprocess.run(["mount", "-o", "remount,bind,rw", str(server.state)], check=True)
        self.check_whole(server)


@needs_root
class FullDisk(PrintTest):
    """A job is refused while its client still listens, or it is kept: nothing between."""
    deadline = 120
    jobs_max, prints_max = 20000, 60

    def started(self, **jobs):
        server = self.print_server(start=False, modules={"jobs": jobs})
        mount(self, "-t", "tmpfs", "-o", f"size=240m,mode=0700,uid={server.uid},gid={server.gid}",
              "imprimatur-test", server.state)
        server.start()
        self.furnish(server)
        if "transport-socket" in self.build.modules():
            self.printer = self.device(server)
        return server

    @staticmethod
    def fill(server, leave):
        """Ballast, until no more than so much is free."""
        disk = os.statvfs(server.state)
        free = disk.f_bavail * disk.f_frsize
        assert free > leave, "the disk is too small for this test"
        (server.state / "ballast").write_bytes(bytes(free - leave))

    def submitted(self, server, size):
        """What was acknowledged until a job was refused."""
        kept = []
        with self.assertRaises(Refused) as refused:
            for number in range(self.jobs_max):
                content = (b"job %d " % number * size)[:size]
                submit(server.port("lpr", "lpd"), content, number=number % 1000)
                kept.append(content)
        self.assertNotIn(refused.exception.octet, (b"", b"\0"), "not refused by an octet")
        self.assertGreater(len(kept), 0)
        server.wait_log("lpr.refused", status="no-space")
        return kept

    def waiting(self, server):
        return sorted(job["job-id"] for job in self.jobs(server, "--limit", str(self.jobs_max)))

    def check_printed(self, server, job, content):
        if "transport-socket" in self.build.modules():
            printed = self.printed(server, job, self.printer)
            self.assertTrue(printed == content, f"job {job} is not as it was sent")

    def check_goes_on(self, server, kept):
        """The server lives, has what it acknowledged, prints, starts, and takes jobs when it can again."""
        self.assertEqual(server.ctl("status")["pid"], server.server_pid())
        jobs = self.waiting(server)
        self.assertEqual(len(jobs), len(kept))
        server.kill9()  # a full disk is no reason not to start
        server.wait_ready(2)
        self.assertEqual(self.waiting(server), jobs)
        self.assertEqual(server.log.find("store.fatal"), [])
        self.submitted_none(server, kept[0])
        for index in (0, len(kept) - 1):  # on a full disk still
            self.check_printed(server, jobs[index], kept[index])
        (server.state / "ballast").unlink()
        after = kept[0][::-1]
        deadline = Deadline(20, "room that intake sees")
        while True:
            try:
                submit(server.port("lpr", "lpd"), after, number=998)
                break
            except Refused as refused:
                self.assertNotEqual(refused.octet, b"")
                deadline.pause()
        self.check_printed(server, self.waiting(server)[-1], after)
        for index in range(1, len(kept) - 1, max(1, len(kept) // self.prints_max)):
            self.check_printed(server, jobs[index], kept[index])

    def submitted_none(self, server, content):
        with self.assertRaises(Refused):
            submit(server.port("lpr", "lpd"), content, number=999)

    def test_documents_in_files_are_refused_while_there_is_a_reserve(self):
        server = self.started()
        self.fill(server, 90 << 20)  # spool_reserve is 64 MiB
        self.check_goes_on(server, self.submitted(server, 1 << 20))

    def test_documents_in_files_are_refused_without_a_reserve(self):
        server = self.started(spool_reserve="0B")
        self.fill(server, 30 << 20)
        self.check_goes_on(server, self.submitted(server, 1 << 20))

    def test_documents_in_the_store_are_refused(self):
        server = self.started(spool_reserve="0B")
        self.fill(server, 8 << 20)  # too little for the store to grow by a step
        self.check_goes_on(server, self.submitted(server, 28000))
