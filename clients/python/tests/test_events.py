"""The reader of server-sent events, however they are cut into pieces."""

import unittest

from voicegate._events import Parser

TEXT = (
    ": a comment\n\n"
    "id: start\n\n"
    'id: 1\nevent: voice.sent\ndata: {"type": "voice.sent",\ndata: "data": "ä"}\n\n'
    'id:2\r\ndata:{"n":2}\r\n\r\n'
    'data: {"n":3}\r\rretry: 5\nunknown\n\n'
    "data: incomplete"
).encode()

EXPECTED = [("start", None), ("1", {"type": "voice.sent", "data": "ä"}), ("2", {"n": 2}), (None, {"n": 3})]


class ParserTest(unittest.TestCase):
    def test_events_are_the_same_however_they_are_cut(self):
        for size in range(1, len(TEXT) + 1):
            parser, found = Parser(), []
            for at in range(0, len(TEXT), size):
                found += parser.feed(TEXT[at : at + size])
            self.assertEqual(found, EXPECTED, f"pieces of {size}")


if __name__ == "__main__":
    unittest.main()
