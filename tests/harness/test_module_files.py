# SPDX-License-Identifier: Apache-2.0
"""tests/check-module-files finds what it is for: small wrong modules are built and looked at."""
import importlib.machinery
import importlib.util
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import needs_programs
from harness.build import SOURCE_DIR

GOOD = """
#include <imprimatur/module.h>
static imp_status start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)self; (void)conf;
    *instance = 0;
    return imp_error_set(error, IMP_UNSUPPORTED, "nothing to do");
}
static void stop(imp_self *self, void *instance) { (void)self; (void)instance; }
IMP_MODULE(.name = "small", .version = "1.0.0", .summary = "small", .start = start, .stop = stop);
"""
NOTE = 'IMP_MODULE_NOTE("small", "1.0.0", "", "");\n'
LINK = ["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wl,-z,relro,-z,now",
        f"-Wl,--version-script={SOURCE_DIR}/sdk/module.map"]


def load_checker():
    path = str(SOURCE_DIR / "tests/check-module-files")
    loader = importlib.machinery.SourceFileLoader("check_module_files", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@needs_programs("gcc", "readelf")
class ModuleFilesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="imprimatur-module-files-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.checker = load_checker()

    def problems(self, text, options=LINK):
        source, module = self.folder / "small.c", self.folder / "small.so"
        source.write_text(text)
        subprocess.run(["gcc", "-I", str(SOURCE_DIR / "sdk/include"), "-o", str(module),
                        str(source), *options], check=True, stderr=subprocess.PIPE)
        elf = self.checker.Elf(module)
        libraries = {"libimprimatur": {"imp_error_set"}}
        return [*self.checker.check_common(elf), *self.checker.check_module(elf, libraries)]

    def test_a_good_module_passes(self):
        self.assertEqual(self.problems(GOOD + NOTE), [])

    def test_a_missing_note_is_found(self):
        self.assertEqual(self.problems(GOOD), ["has no .note.imprimatur"])

    def test_static_data_is_found_by_name(self):
        text = "static int counter; int *small(void); int *small(void) { return &counter; }\n"
        self.assertEqual(self.problems(GOOD + NOTE + text),
                         [".bss: static mutable data: counter"])

    def test_thread_local_data_is_found(self):
        text = "static _Thread_local int mine; int *small(void); int *small(void) { return &mine; }\n"
        self.assertIn(".tbss: static mutable data: mine", self.problems(GOOD + NOTE + text))

    def test_a_constructor_is_found(self):
        text = "__attribute__((constructor)) static void early(void) { imp_error_set(0, 1, \"x\"); }\n"
        self.assertEqual(self.problems(GOOD + NOTE + text),
                         [".init_array: a constructor or destructor of its own"])

    def test_a_second_exported_symbol_is_found(self):
        text = '__attribute__((visibility("default"))) void small_extra(void) { }\n'
        without_map = [option for option in LINK if "version-script" not in option]
        self.assertEqual(self.problems(GOOD + NOTE + text, without_map),
                         ["shows imp_module, small_extra instead of imp_module"])

    def test_an_unknown_function_is_found(self):
        text = "int store_open(void); int small(void); int small(void) { return store_open(); }\n"
        self.assertEqual(self.problems(GOOD + NOTE + text),
                         ["calls store_open, which none of its libraries has"])

    def test_an_imp_function_that_the_core_lacks_is_found(self):
        text = "int imp_future(void); int small(void); int small(void) { return imp_future(); }\n"
        self.assertEqual(self.problems(GOOD + NOTE + text),
                         ["calls imp_future, which libimprimatur does not have"])

    def test_a_forbidden_function_is_found(self):
        text = ("#include <stdlib.h>\nvoid small(void (*f)(void)); "
                "void small(void (*f)(void)) { (void)system(\"\"); (void)f; }\n")
        self.assertEqual(self.problems(GOOD + NOTE + text), ["calls system"])

    def test_an_rpath_is_found(self):
        self.assertEqual(self.problems(GOOD + NOTE, LINK + ["-Wl,-rpath,/opt"]), ["has an RPATH"])

    def test_missing_hardening_is_found(self):
        weak = [option for option in LINK if "relro" not in option] + ["-Wl,-z,norelro,-z,lazy"]
        self.assertEqual(self.problems(GOOD + NOTE, weak), ["no RELRO", "binds lazily"])
