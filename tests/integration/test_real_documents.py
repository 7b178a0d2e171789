# SPDX-License-Identifier: Apache-2.0
"""Documents that others made: what a printer receives is what was sent, byte for byte."""
from harness.case import needs_testdata
from harness.lpd import submit
from harness.site import PrintTest

DOCUMENTS_MAX = 40
BYTES_MAX = 8 * 1024 * 1024


class RealDocuments(PrintTest):
    deadline = 120

    @needs_testdata("docs")
    def test_every_kind_of_document_is_printed_as_it_was_sent(self):
        files = sorted(path for path in self.testdata("docs").rglob("*")
                       if path.is_file() and path.suffix not in (".md", ".tsv")
                       and 0 < path.stat().st_size <= BYTES_MAX)
        kinds = {}
        for path in files:  # some of each kind, rather than all of the first
            kinds.setdefault((path.parent.name, path.suffix), []).append(path)
        chosen = [path for rank in range(DOCUMENTS_MAX) for paths in kinds.values()
                  for path in paths[rank:rank + 1]][:DOCUMENTS_MAX]
        self.assertGreater(len(chosen), 0, "no document in the test data")
        server = self.print_server()
        sink = self.device(server)
        for number, path in enumerate(chosen, 1):
            with self.subTest(document=str(path)):
                content = path.read_bytes()
                submit(server.port("lpr", "lpd"), content, number=number)
                job = self.jobs(server)[-1]
                self.assertEqual(job["bytes"], len(content))
                self.assertEqual(self.printed(server, job["job-id"], sink), content)
