# SPDX-License-Identifier: Apache-2.0
"""A backup and the master key file make the instance again on other ground; nothing less does."""
import os
import shutil
import subprocess

from harness.deadline import scale
from harness.lpd import submit
from harness.site import PrintTest


HELD = 70  # jobs: more than one step of what is done about them after a restore


class Backup(PrintTest):
    def offline(self, instance, *arguments):
        """imprimctl on an instance that does not run: (exit status, output, errors)."""
        done = subprocess.run(
            [str(instance.stage / "imprimctl"), "--config", str(instance.conf), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            env=instance.environ(), timeout=60 * scale(), **instance._identity())
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def backed_up(self):
        """A furnished server with jobs, and the path of its backup."""
        server = self.print_server()
        self.device(server)
        for number in range(1, HELD + 1):  # in the store, and in files
            submit(server.port("lpr", "lpd"), b"x" * 100 * 10 ** (number % 4), number=number)
        submit(server.port("lpr", "lpd"), b"canceled", number=HELD + 1)
        server.ctl("job", "cancel", str(self.jobs(server, "--limit", "1000")[-1]["job-id"]))
        backup = server.run / "backup"
        server.ctl("backup", "create", str(backup))
        return server, backup

    def empty(self, server, **arguments):
        """Another instance with the same modules and no state."""
        other = self.print_server(start=False, **arguments)
        self.give(server.keys / "master.key", other, other.keys / "master.key", 0o400)
        return other

    @staticmethod
    def give(source, instance, target, mode):
        if target.exists():
            target.unlink()
        shutil.copyfile(source, target)
        os.chmod(target, mode)
        if os.geteuid() == 0:
            os.chown(target, instance.uid, instance.gid)

    def test_a_backup_and_the_master_key_make_the_instance_again(self):
        server, backup = self.backed_up()
        other = self.empty(server)
        status, out, err = self.offline(other, "--json", "backup", "restore", str(backup))
        self.assertEqual(status, 0, err)
        self.assertIn('"records"', out)
        events = server.ctl("audit", "verify")["events"]
        server.stop()
        other.start()
        line = other.wait_log("jobs.restored")
        self.assertEqual(line.fields["lost"], str(HELD))
        jobs = self.jobs(other, "--all", "--limit", "1000")
        self.assertEqual(sorted((job["state"], job["reasons"]) for job in jobs),
                         [("aborted", "document-access-error")] * HELD +
                         [("canceled", "job-canceled-by-operator")])
        self.assertGreaterEqual(other.ctl("audit", "verify")["events"], events + HELD)
        self.assertEqual([user["name"] for user in other.ctl("user", "list")], ["anna"])
        self.assertEqual([queue["name"] for queue in other.ctl("queue", "list")], ["hold"])
        # It works on: a new job, released by the card that came with the backup.
        sink = self.sink()
        other.ctl("device", "set", "printer", "--uri", sink.uri)
        submit(other.port("lpr", "lpd"), b"after the restore", number=5)
        job = self.only_job(other)
        if "transport-socket" in self.build.modules():
            self.assertEqual(self.printed(other, job["job-id"], sink), b"after the restore")
        # The pass was made once: the next start finds nothing to do.
        other.stop()
        other.start()
        self.assertEqual(other.ctl("queue", "show", "hold")["jobs"], 0)
        self.assertEqual(other.log.find("jobs.restored"), [])

    def test_another_master_key_is_refused(self):
        server, backup = self.backed_up()
        other = self.empty(server)
        stranger = self.print_server()
        self.give(stranger.keys / "master.key", other, other.keys / "master.key", 0o400)
        for verb in ("restore", "verify"):
            status, out, err = self.offline(other, "backup", verb, str(backup))
            self.assertEqual((status, out, err.count("\n")), (1, "", 1), err)
            self.assertIn("needs master key", err)
        self.assertEqual(list(other.state.iterdir()), [])
        (other.keys / "master.key").unlink()
        status, _, err = self.offline(other, "backup", "restore", str(backup))
        self.assertEqual((status, err.count("\n")), (1, 1), err)
        self.assertIn("is missing", err)
        self.assertFalse((other.keys / "master.key").exists())

    def test_a_restore_never_goes_over_what_is_there(self):
        server, backup = self.backed_up()
        status, _, err = self.offline(server, "backup", "restore", str(backup))
        self.assertEqual(status, 1)
        self.assertIn("another instance runs", err)
        copy = backup.read_bytes()
        server.stop()
        status, _, err = self.offline(server, "backup", "restore", str(backup))
        self.assertEqual(status, 1)
        self.assertIn("there is a store in", err)
        server.start()
        self.assertEqual(len(self.jobs(server, "--limit", "1000")), HELD)
        other = self.empty(server)
        for name, damaged in (("cut", copy[:-100]), ("changed", copy[:500] + bytes([copy[500] ^ 1]) + copy[501:]),
                              ("empty", b"")):
            with self.subTest(name):
                bad = other.run / name
                bad.write_bytes(damaged)
                os.chmod(bad, 0o644)
                status, _, err = self.offline(other, "backup", "restore", str(bad))
                self.assertEqual((status, err.count("\n")), (1, 1), err)
                self.assertEqual(list(other.state.iterdir()), [])

    def test_backups_are_verified_with_and_without_a_server(self):
        server, backup = self.backed_up()
        self.assertGreater(server.ctl("backup", "verify", str(backup))["seals_opened"], 0)
        server.stop()
        status, out, err = self.offline(server, "--json", "backup", "verify", str(backup))
        self.assertEqual(status, 0, err)
        self.assertIn("seals_opened", out)

    def test_usage(self):
        server = self.instance()
        status, _, err = self.offline(server, "backup", "restore")
        self.assertEqual(status, 2, err)
        status, _, err = self.offline(server, "backup", "restore", "/nonexistent")
        self.assertEqual(status, 1, err)
