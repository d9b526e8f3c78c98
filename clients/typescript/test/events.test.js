/** The reader of server-sent events, however they are cut into pieces. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Parser } from "../src/events.js";

const TEXT = [
  ": a comment\n\n",
  "id: start\n\n",
  'id: 1\nevent: voice.sent\ndata: {"type": "voice.sent",\ndata: "data": "ä"}\n\n',
  'id:2\r\ndata:{"n":2}\r\n\r\n',
  'data: {"n":3}\r\rretry: 5\nunknown\n\n',
  "data: incomplete",
].join("");

const EXPECTED = [
  { id: "start", event: undefined },
  { id: "1", event: { type: "voice.sent", data: "ä" } },
  { id: "2", event: { n: 2 } },
  { id: undefined, event: { n: 3 } },
];

test("events are the same however they are cut", () => {
  const bytes = new TextEncoder().encode(TEXT);
  for (let size = 1; size <= bytes.length; size += 1) {
    const parser = new Parser();
    const found = [];
    for (let at = 0; at < bytes.length; at += size) found.push(...parser.feed(bytes.subarray(at, at + size)));
    assert.deepEqual(found, EXPECTED, `pieces of ${size}`);
  }
});
