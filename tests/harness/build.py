# SPDX-License-Identifier: Apache-2.0
"""The build that is tested: programs, library and modules, and how they were built."""
import os
import shutil
import stat
import tempfile
from pathlib import Path

SHARED_STAGE, SHARED_STAGE_OF = "IMP_TEST_STAGE", "IMP_TEST_STAGE_OF"
SOURCE_DIR = Path(__file__).resolve().parents[2]


class Build:
    """A build folder. `stage()` gives a copy that any user can read: a clone in root's home can't be
    entered by the unprivileged user that the instances run as."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        header = self.folder / "build-config.h"
        text = header.read_text() if header.exists() else ""
        self.has_crash_points = "#define IMP_CRASH_POINTS 1" in text
        self.is_sanitized = "#define IMP_SANITIZED 1" in text
        makefile = self.folder / "Makefile"
        flags = ""
        if makefile.exists():
            for line in makefile.read_text().splitlines():
                if line.startswith("INSTRUMENT_CFLAGS ="):
                    flags = line
        self.sanitizer = ("thread" if "-fsanitize=thread" in flags
                          else "address" if self.is_sanitized else None)
        self.has_coverage = "--coverage" in flags
        self._stage = None

    def modules(self):
        """Names of the modules that were built. Asked of the stage: `make install`, which a test runs,
        takes files of the build away while it links them again."""
        return sorted(path.stem for path in (self.stage() / "modules").glob("*.so"))

    def stage(self):
        """A folder with imprimd, imprimctl, lib/ and modules/; made once, removed by unstage(). tests/run
        makes one for all of its workers."""
        shared = os.environ.get(SHARED_STAGE)
        if shared and os.environ.get(SHARED_STAGE_OF) == str(self.folder):
            return Path(shared)
        if self._stage is None:
            stage = Path(tempfile.mkdtemp(prefix="imprimatur-stage-"))
            os.chmod(stage, 0o755)
            (stage / "lib").mkdir(mode=0o755)
            (stage / "modules").mkdir(mode=0o755)
            for program in ("imprimd", "imprimctl"):
                self._copy_program(program, stage / program)
            for library in (self.folder / "lib/.libs").glob("libimprimatur.so*"):
                self._copy(library, stage / "lib" / library.name)
            for module in (self.folder / "modules/.libs").glob("*.so"):
                self._copy(module, stage / "modules" / module.name)
            self._stage = stage
        return self._stage

    def share_stage(self):
        """For the processes that are started from now on."""
        os.environ.update({SHARED_STAGE: str(self.stage()), SHARED_STAGE_OF: str(self.folder)})

    def unstage(self):
        if self._stage is not None:
            shutil.rmtree(self._stage, ignore_errors=True)
            self._stage = None

    def _copy_program(self, name, target):
        # libtool leaves the program itself in .libs and a wrapper script in its place.
        for source in (self.folder / ".libs" / name, self.folder / name):
            if source.exists():
                self._copy(source, target)
                return

    @staticmethod
    def _copy(source, target):
        shutil.copyfile(source, target)
        executable = source.stat().st_mode & stat.S_IXUSR
        os.chmod(target, 0o755 if executable else 0o644)
