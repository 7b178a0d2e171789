# SPDX-License-Identifier: Apache-2.0
"""A module outside of the tree, with nothing but what `make install` puts in place: the author guide is
typed in as it stands, and the template is built as its README says."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import needs_programs, not_under, processes
from harness.build import SOURCE_DIR
from harness.case import current_build
from harness.deadline import scale
from harness.instance import NOBODY, SANITIZER_REPORT
from harness.net import free_port
from harness.test_module_files import load_checker

GUIDE = SOURCE_DIR / "docs/module-author-guide.md"
BLOCK = re.compile(r"^```(sh|c|output)(?: ([\w.-]+))?\n(.*?)^```$", re.M | re.S)
END = "end-of-block"
NEEDED_FOR = {"with-jobs": ("audit", "accounts", "devices", "jobs", "raw")}


class Installed:
    """`make install DESTDIR=...`, and the environment of a person who uses it."""

    def __init__(self, build):
        self.root = Path(tempfile.mkdtemp(prefix="imprimatur-sdk-"))
        os.chmod(self.root, 0o755)
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DESTDIR")}
        done = subprocess.run(["make", "-s", "-C", str(build.folder), "install",
                               f"DESTDIR={self.root}/image"], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise AssertionError("make install: " + done.stdout.decode("utf-8", "replace"))
        found = list((self.root / "image").rglob("imprimatur.pc"))
        assert len(found) == 1, found
        # The image does not lie where it was configured for.
        text = found[0].read_text()
        prefix = re.search(r"^prefix=(.*)$", text, re.M)[1]
        found[0].write_text(text.replace(f"prefix={prefix}\n",
                                         f"prefix={self.root}/image{prefix}\n", 1))
        self.prefix = Path(f"{self.root}/image{prefix}")
        self.work = self.root / "work"
        self.work.mkdir()
        self.identity = {}
        if os.geteuid() == 0:
            os.chown(self.work, NOBODY, NOBODY)
            self.identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.reports = self.root / "reports"
        self.reports.mkdir()
        os.chmod(self.reports, 0o1777)
        log_path = f"log_path={self.reports}/sanitizer"
        self.environment = {
            "PATH": f"{self.prefix}/bin:{self.prefix}/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": f"{self.prefix}/lib", "PKG_CONFIG_PATH": str(found[0].parent),
            "ACLOCAL_PATH": f"{self.prefix}/share/aclocal", "LC_ALL": "C.UTF-8",
            "HOME": str(self.work), "TMPDIR": str(self.work),
            "ASAN_OPTIONS": f"{log_path}:detect_leaks=1", "UBSAN_OPTIONS": log_path,
        }
        if build.sanitizer:
            self.environment["IMPRIMATUR_KEEP_MODULES"] = "1"

    def run(self, *command, **more):
        done = subprocess.run(command, cwd=self.work, env={**self.environment, **more},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60 * scale(), **self.identity)
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)


class Typist:
    """One shell that gets one block after another."""

    def __init__(self, installed):
        self.shell = subprocess.Popen(["bash", "--norc", "-e"], cwd=installed.work,
                                      env=installed.environment, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      start_new_session=True, **installed.identity)

    def type(self, block):
        """What the block printed; raises when one of its commands failed."""
        self.shell.stdin.write(f"{block}\necho {END}\n".encode())
        self.shell.stdin.flush()
        lines = []
        for line in self.shell.stdout:
            text = line.decode("utf-8", "replace")
            if text.strip() == END:
                return "".join(lines)
            lines.append(text)
        raise AssertionError(f"failed:\n{block}\nprinted:\n{''.join(lines)}")

    def close(self):
        """Ends the shell and, after a failure, the server that it left."""
        processes.kill_all([self.shell.pid] + processes.descendants(self.shell.pid))
        self.shell.stdin.close()
        self.shell.stdout.close()
        self.shell.wait()


class SdkTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.installed = Installed(current_build())
        cls.addClassCleanup(cls.installed.remove)


@needs_programs("cc", "pkg-config", "nc", "make")
@not_under("thread", "a module built by the guide is not instrumented")
class Guide(SdkTest):
    deadline = 120

    def assert_in_order(self, expected, printed):
        """Each expected line is a part of what was printed, behind the one before."""
        at = 0
        for line in expected.splitlines():
            found = printed.find(line, at)
            self.assertGreaterEqual(found, 0, f"{line!r} is missing (in order) in:\n{printed}")
            at = found + len(line)

    def missing_for(self, kind):
        """Why a block of this kind can't be typed in here, or None."""
        modules = [name for name in NEEDED_FOR.get(kind, ())
                   if name not in current_build().modules()]
        programs = [name for name in ("autoreconf", "libtoolize")
                    if kind == "autotools" and shutil.which(name) is None]
        return ", ".join(modules + programs) or None

    def test_the_tutorial_works_as_it_stands(self):
        text = GUIDE.read_text()
        ports = {"5150": free_port(), "9100": free_port()}
        # Those of the text may be taken here; the template's settings name one as well.
        settings = next(self.installed.prefix.rglob("template/hello.conf"))
        settings.write_text(settings.read_text().replace("5150", str(ports["5150"])))
        typist, printed, folder, typed = Typist(self.installed), None, None, 0
        self.addCleanup(typist.close)
        for language, word, block in BLOCK.findall(text):
            for port, free in ports.items():
                block = block.replace(port, str(free))
            if language == "c":
                typist.type(f"cat > {word} <<'END-OF-FILE'\n{block}END-OF-FILE")
                folder = typist.type("pwd").strip()
            elif language == "sh":
                missing = self.missing_for(word)
                if missing:
                    print(f"# not typed in ({missing} missing): {block.splitlines()[0]} ...")
                    printed = None
                    continue
                printed = typist.type(block)
                typed += 1
            elif printed is not None:
                self.assert_in_order(block, printed)
        self.assertGreaterEqual(typed, 10)
        log = Path(folder, "imprimd.log").read_text()
        self.assertIsNone(SANITIZER_REPORT.search(log), log)
        self.assertEqual([path.read_text() for path in self.installed.reports.iterdir()], [])


@needs_programs("pkg-config", "make")
class Template(SdkTest):
    def variable(self, name):
        status, out = self.installed.run("pkg-config", f"--variable={name}", "imprimatur")
        self.assertEqual(status, 0, out)
        return out.strip()

    def test_it_is_short(self):
        lines = Path(self.variable("templatedir"), "hello.c").read_text().splitlines()
        self.assertLess(len(lines), 250)

    def test_one_line_builds_a_good_module_without_a_warning(self):
        source = Path(self.variable("templatedir"), "hello.c")
        checker = load_checker()
        for compiler in ("gcc", "clang"):
            if shutil.which(compiler) is None:
                continue
            with self.subTest(compiler):
                status, out = self.installed.run(
                    "sh", "-c", f"{compiler} $(pkg-config --cflags --libs imprimatur) -shared "
                    "-fPIC -fvisibility=hidden -Wall -Wextra -Wconversion -Wpedantic -Werror "
                    f"-Wl,-z,relro,-z,now -o hello.so {source}")
                self.assertEqual((status, out), (0, ""))
                elf = checker.Elf(self.installed.work / "hello.so")
                self.assertIn("libimprimatur.so.1", elf.needed())
                library = subprocess.run(
                    ["nm", "-D", "--defined-only", str(self.installed.prefix /
                                                       "lib/libimprimatur.so.1")],
                    check=True, stdout=subprocess.PIPE).stdout.decode()
                names = set(re.findall(r" T (\w+)", library))
                self.assertEqual([*checker.check_common(elf),
                                  *checker.check_module(elf, {"libimprimatur": names})], [])

    def test_what_pkg_config_says_is_there(self):
        self.assertTrue(Path(self.variable("moduledir")).is_dir())
        for file in ("hello.c", "hello.conf", "README.md", "autotools/configure.ac",
                     "autotools/Makefile.am"):
            self.assertTrue(Path(self.variable("templatedir"), file).is_file(), file)
        self.assertTrue((self.installed.prefix / "share/aclocal/imprimatur.m4").is_file())
