# SPDX-License-Identifier: Apache-2.0
"""The server's log as it comes: a thread reads standard error, tests wait for events in it."""
import re
import threading

from .deadline import Deadline

FIELD = re.compile(r'([A-Za-z_][\w.-]*)=("(?:[^"\\]|\\.)*"|\S*)')
ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)")


def unescaped(match):
    """What core/log-format.h says of escapes."""
    word = match.group(1)
    if len(word) == 3:
        return chr(int(word[1:], 16))
    return {"n": "\n", "r": "\r", "t": "\t"}.get(word, word)


class LogLine:
    """TIME LEVEL SOURCE EVENT key=value ...; `event` is None for a line of another shape."""

    def __init__(self, text):
        self.text = text
        self.time = self.level = self.source = self.event = None
        self.fields = {}
        parts = text.split(" ", 4)
        if len(parts) >= 4 and re.match(r"\d{4}-\d\d-\d\dT", parts[0]):
            self.time, self.level, self.source, self.event = parts[:4]
            for key, raw in FIELD.findall(parts[4] if len(parts) > 4 else ""):
                if raw.startswith('"'):
                    raw = ESCAPE.sub(unescaped, raw[1:-1])
                self.fields[key] = raw

    def __repr__(self):
        return self.text


class Log:
    """Everything that was written to `stream` (a binary pipe)."""

    def __init__(self, stream):
        self.lines = []
        self._stream = stream
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for raw in self._stream:
            line = LogLine(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        self._stream.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def mark(self):
        """A place in the log, for wait(since=...) and find(since=...)."""
        with self._changed:
            return len(self.lines)

    def find(self, event, since=0, **fields):
        """All lines of that event (a name, or a compiled pattern searched in the text)."""
        with self._changed:
            return [line for line in self.lines[since:] if self._fits(line, event, fields)]

    def wait(self, event, seconds=10, since=0, count=1, **fields):
        """The count-th line of that event; raises DeadlineExceeded when it does not come."""
        deadline = Deadline(seconds, f"log event {event} {fields or ''}")
        with self._changed:
            while True:
                found = [line for line in self.lines[since:] if self._fits(line, event, fields)]
                if len(found) >= count:
                    return found[count - 1]
                if self._ended:
                    raise AssertionError(f"the log ended without {event} {fields or ''}")
                self._changed.wait(deadline.remaining())

    def wait_end(self, seconds=10):
        """Until every process that held the log's other end is gone."""
        deadline = Deadline(seconds, "end of the log")
        with self._changed:
            while not self._ended:
                self._changed.wait(deadline.remaining())

    def text(self):
        with self._changed:
            return "".join(line.text + "\n" for line in self.lines)

    @staticmethod
    def _fits(line, event, fields):
        if isinstance(event, re.Pattern):
            if not event.search(line.text):
                return False
        elif line.event != event:
            return False
        return all(line.fields.get(key) == str(wanted) for key, wanted in fields.items())
