# SPDX-License-Identifier: Apache-2.0
"""The SDK's headers stand alone, and say exactly what libimprimatur has."""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness.build import SOURCE_DIR
from harness.case import current_build

HEADERS = sorted((SOURCE_DIR / "sdk/include/imprimatur").glob("*.h"))
FLAGS = ["-std=c17", "-fsyntax-only", "-Wall", "-Wextra", "-Wconversion", "-Wshadow",
         "-Wstrict-prototypes", "-Wpedantic", "-Werror", f"-I{SOURCE_DIR}/sdk/include"]
NODE = "IMPRIMATUR_1"
# Exported for our own programs and modules, and in no public header.
OWN = {
    "imp_imprimd_main",     # the entry of imprimd
    "imp_version",          # imprimctl prints it
    "imp_crash_point_hit",  # crash points in our modules (--enable-crash-points)
}
DECLARATION = re.compile(r"^IMP_PUBLIC\b[^;]*?\b(imp_\w+)\s*\(", re.M)


def declarations():
    """(header, function, is it right under a comment)"""
    for header in HEADERS:
        text = header.read_text()
        for match in DECLARATION.finditer(text):
            yield header.name, match[1], text[:match.start()].endswith("*/\n")


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True,
                         stdout=subprocess.PIPE).stdout.decode()
    for line in out.splitlines():
        fields = line.split()
        name, _, node = fields[2].partition("@@")
        if name != NODE:  # the node itself
            yield name, node, fields[1]


class Headers(unittest.TestCase):
    def compile(self, text, compiler):
        with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
            source.write(text)
            source.flush()
            return subprocess.run([compiler, *FLAGS, source.name], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT).stdout.decode()

    def check_compiler(self, compiler):
        if shutil.which(compiler) is None:
            self.skipTest(f"not installed: {compiler}")
        self.assertGreater(len(HEADERS), 15)
        self.assertNotEqual(self.compile("int x = (char)1L;;\n", compiler), "")
        problems = {}
        for header in HEADERS:
            # Twice: an include guard is there. A declaration of its own: the file is not empty.
            line = f"#include <imprimatur/{header.name}>\n"
            out = self.compile(line + line + "extern int a_declaration;\n", compiler)
            if out:
                problems[header.name] = out
        self.assertEqual(problems, {})

    def test_every_header_compiles_alone_with_gcc(self):
        self.check_compiler("gcc")

    def test_every_header_compiles_alone_with_clang(self):
        self.check_compiler("clang")

    def test_every_function_has_a_comment(self):
        bare = [f"{header}: {name}" for header, name, has_comment in declarations()
                if not has_comment]
        self.assertEqual(bare, [])


class Library(unittest.TestCase):
    def setUp(self):
        self.library = current_build().folder / "lib/.libs/libimprimatur.so.1"
        if not self.library.exists():
            self.skipTest("libimprimatur is not built")

    def test_what_is_declared_is_exported_and_nothing_else(self):
        declared = {name for _, name, _ in declarations()}
        self.assertGreater(len(declared), 100)
        names = {name for name, _, _ in exported(self.library)}
        self.assertEqual(declared - names, set(), "declared, but not there")
        self.assertEqual(names - declared - OWN, set(), "there, but not declared")

    def test_all_exports_are_functions_of_the_one_version_node(self):
        for name, node, kind in exported(self.library):
            with self.subTest(name):
                self.assertEqual((node, kind), (NODE, "T"))


class Configuration(unittest.TestCase):
    def test_the_pkg_config_file_names_the_headers_abi(self):
        text = (SOURCE_DIR / "sdk/include/imprimatur/module.h").read_text()
        pc = (current_build().folder / "sdk/imprimatur.pc").read_text()
        for part in ("major", "minor"):
            value = re.search(rf"#define IMP_ABI_{part.upper()} (\d+)", text)[1]
            self.assertIn(f"\nabi_{part}={value}\n", pc)
        self.assertNotIn("@", pc)
