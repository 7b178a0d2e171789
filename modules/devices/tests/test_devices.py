# SPDX-License-Identifier: Apache-2.0
"""Devices: what they may be called, and how they are reached and found."""
from harness import CtlError, ServerTest


class Devices(ServerTest):
    modules_needed = ("audit", "devices")

    def setUp(self):
        super().setUp()
        self.server = self.server(modules={"audit": {}, "devices": {}})
        self.ctl = self.server.ctl

    def refused(self, text, *arguments):
        with self.assertRaises(CtlError) as caught:
            self.ctl(*arguments)
        self.assertIn(text, caught.exception.message)

    def test_devices_are_added_changed_and_removed(self):
        added = self.ctl("device", "add", "Hall", "--uri", "socket://192.0.2.7:9100",
                         "--uri", "ipps://[2001:db8::7]:631/ipp/print", "--range", "192.0.2.7",
                         "--range", "2001:db8::/64", "--pjl", "yes")
        shown = self.ctl("device", "show", "HALL")
        self.assertEqual((shown["device"], shown["pjl"]), (added["device"], True))
        self.assertEqual(self.ctl("device", "show", added["device"])["name"], "Hall")
        self.refused("already", "device", "add", "hall", "--uri", "socket://h")
        self.refused("belongs to another", "device", "add", "attic", "--uri", "socket://h",
                     "--range", "192.0.2.7/32")
        self.ctl("device", "set", "hall", "--range", "198.51.100.0/24", "--enabled", "no")
        self.ctl("device", "add", "attic", "--uri", "socket://h", "--range", "192.0.2.7/32")
        self.assertEqual([(d["name"], d["enabled"]) for d in sorted(
            self.ctl("device", "list"), key=lambda d: d["name"])],
            [("Hall", False), ("attic", True)])
        self.ctl("device", "remove", "hall")
        self.refused("no device of that name", "device", "show", "hall")
        self.refused("no device of that name", "device", "remove", "hall")
        self.ctl("device", "add", "hall", "--uri", "lpd://h/queue", "--range", "198.51.100.0/24")

    def test_uris_that_reach_nothing_are_refused(self):
        self.refused("at least one --uri", "device", "add", "d")
        for uri in ("", "h", "http://h", "socket://", "socket://:9100", "socket://u:p@h",
                    "socket://h:0", "socket://h:65536", "socket://h:x", "socket://h:",
                    "socket://[::1", "socket://[]:9100", "socket://[h]:9100", "socket://a b",
                    "socket://h]:9", "socket://" + "h" * 300, "socket://2001:db8::7"):
            with self.subTest(uri=uri), self.assertRaises(CtlError) as caught:
                self.ctl("device", "add", "d", "--uri", uri)
            self.assertEqual(caught.exception.message.count("\n"), 0)

    def test_ranges_that_are_none_are_refused(self):
        for text in ("192.0.2.0/33", "192.0.2.7/24", "h", "192.0.2", "::/129", "192.0.2.7/",
                     "2001:db8::1/64"):
            with self.subTest(range=text):
                self.refused("network", "device", "add", "d", "--uri", "socket://h", "--range",
                             text)
        many = [word for i in range(17) for word in ("--range", f"192.0.2.{i}")]
        self.refused("at most 16", "device", "add", "d", "--uri", "socket://h", *many)
        self.assertEqual(self.ctl("device", "list") or [], [])
