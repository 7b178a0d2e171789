# SPDX-License-Identifier: Apache-2.0
"""Finds tests, runs each file in a process of its own, reports one line a test."""
import ast
import concurrent.futures
import fnmatch
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import unittest
from pathlib import Path

from . import case, processes
from .build import SOURCE_DIR, Build
from .deadline import scale

PLACES = ("tests/harness/test_*.py", "tests/integration/test_*.py", "modules/*/tests/test_*.py")
SLOWNESS = {None: 1, "address": 3, "thread": 6}  # how many times longer than a plain build
LOG_SHOWN = 20000  # characters of a failed test's log


class TestDeadline(BaseException):
    """One test took longer than its class's `deadline`; not an Exception, so that none catches it."""


def files():
    found = []
    for place in PLACES:
        found += sorted(SOURCE_DIR.glob(place))
    return found


def name_of(file):
    """modules/lpr/tests/test_intake.py -> lpr.intake; tests/integration/test_boot.py -> boot"""
    short = file.stem[len("test_"):]
    parts = file.relative_to(SOURCE_DIR).parts
    return f"{parts[1]}.{short}" if parts[0] == "modules" else short


def check_names(file):
    """Two classes or two functions of one name: the second takes the place of the first, unsaid."""
    tree = ast.parse(file.read_bytes(), file)
    for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))):
        lines = {}
        for node in scope.body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if node.name in lines and not is_accessor(node):
                raise ImportError(f"{file.name}: {node.name} is defined twice, in lines "
                                  f"{lines[node.name]} and {node.lineno}")
            lines[node.name] = node.lineno


def is_accessor(node):
    """The second half of a property: @name.setter."""
    return any(isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name) and
               item.value.id == node.name for item in node.decorator_list)


def load(file):
    check_names(file)
    specification = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    sys.path.insert(0, str(file.parent))
    specification.loader.exec_module(module)
    return module


def tests_of(file):
    """(name, TestCase) of every test in the file, in the order of the text."""
    loader = unittest.TestLoader()
    loader.testMethodPrefix = "test_"  # a helper may be called testdata
    suite = loader.loadTestsFromModule(load(file))
    found = []

    def walk(item):
        if isinstance(item, unittest.TestSuite):
            for part in item:
                walk(part)
        else:
            found.append((f"{name_of(file)}.{type(item).__name__}.{item._testMethodName}", item))
    walk(suite)
    return found


def is_wanted(name, test, options):
    if options.tsan and not (getattr(test, "in_tsan_suite", False) or getattr(
            getattr(test, test._testMethodName), "in_tsan_suite", False)):
        return False
    return not options.patterns or any(
        pattern in name or fnmatch.fnmatch(name, pattern) for pattern in options.patterns)


class Result(unittest.TestResult):
    """Collects what one test said."""

    def __init__(self):
        super().__init__()
        self.problems, self.reason = [], None

    def _add(self, test, error):
        self.problems.append((test, "".join(traceback.format_exception(*error))))

    def addError(self, test, err):
        self._add(test, err)

    def addFailure(self, test, err):
        self._add(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._add(subtest, err)

    def addSkip(self, test, reason):
        self.reason = reason

    def addUnexpectedSuccess(self, test):
        self.problems.append((test, "passed, but was expected to fail\n"))


def run_one(name, test):
    """("ok" | "not ok" | "skip", line and details)"""
    seconds = getattr(getattr(test, test._testMethodName), "deadline",
                      getattr(test, "deadline", 60)) * scale()
    result = Result()
    start = time.monotonic()

    def ring(*_):
        raise TestDeadline(f"not finished within {seconds:g} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        unittest.TestSuite([test]).run(result)
    except TestDeadline as late:
        signal.setitimer(signal.ITIMER_REAL, 0)
        result.problems.append((test, "".join(traceback.format_exception(late))))
        for instance in getattr(test, "instances", []):
            instance.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    left = processes.descendants(os.getpid())
    if left:
        names = [" ".join(processes.arguments(pid)) or f"pid {pid}" for pid in left]
        processes.kill_all(left)
        result.problems.append((test, f"left behind: {'; '.join(names)}\n"))
    took = time.monotonic() - start
    if result.problems:
        details = "".join(text for _, text in result.problems)
        log = test.logs() if hasattr(test, "logs") else ""
        if log:
            details += "---- the server's log ----\n" + log[-LOG_SHOWN:]
        return "not ok", f"not ok  {name} ({took:.1f} s)\n" + "".join(
            f"    {line}\n" for line in details.splitlines())
    if result.reason is not None:
        return "skip", f"skip    {name}: {result.reason}\n"
    return "ok", f"ok      {name} ({took:.1f} s)\n"


def worker(options):
    """Runs the tests of one file; the last line is the counts in JSON."""
    processes.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    counts = {"ok": 0, "not ok": 0, "skip": 0}
    file = Path(options.worker)
    try:
        tests = tests_of(file)
    except BaseException:
        counts["not ok"] += 1
        print(f"not ok  {name_of(file)}: can't be loaded\n{traceback.format_exc()}", flush=True)
        tests = []
    try:
        for name, test in tests:
            if is_wanted(name, test, options):
                state, text = run_one(name, test)
                counts[state] += 1
                print(text, end="", flush=True)
    finally:
        case.current_build().unstage()
        processes.kill_all(processes.descendants(os.getpid()))
    print(json.dumps(counts), flush=True)
    return 0


def start_worker(file, options):
    command = [sys.executable, sys.argv[0], "--worker", str(file), "--build", options.build]
    if options.tsan:
        command.append("--tsan")
    done = subprocess.run(command + options.patterns, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    try:
        counts = json.loads(lines[-1])
        lines.pop()
    except (IndexError, ValueError):
        counts = {"ok": 0, "not ok": 1, "skip": 0}
        lines.append(f"not ok  {name_of(file)}: the test process ended ({done.returncode})")
    return lines, counts


def main(options):
    build = Build(options.build)
    options.build = str(build.folder)
    os.environ["IMP_TEST_BUILD"] = options.build
    os.environ.setdefault("IMP_TEST_SLOWNESS", str(SLOWNESS[build.sanitizer]))
    if options.keep:
        os.environ["IMP_TEST_KEEP"] = "1"
    if options.worker:
        return worker(options)
    if options.list:
        for file in files():
            for name, test in tests_of(file):
                if is_wanted(name, test, options):
                    print(name)
        return 0
    total = {"ok": 0, "not ok": 0, "skip": 0}
    build.share_stage()
    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs or 2) as pool:
            for done in concurrent.futures.as_completed(
                    pool.submit(start_worker, file, options) for file in files()):
                lines, counts = done.result()
                for line in lines:
                    print(line, flush=True)
                for state in total:
                    total[state] += counts[state]
    finally:
        build.unstage()
    if options.patterns and not sum(total.values()):
        print(f"no test fits {' '.join(options.patterns)}")
        total["not ok"] += 1
    print(f"{total['ok']} passed, {total['not ok']} failed, {total['skip']} skipped")
    if options.counts:
        Path(options.counts).write_text(f"{total['ok']} {total['not ok']} {total['skip']}\n")
    return 1 if total["not ok"] else 0
