/** Repetition, against a server that gives chosen answers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ProblemError, UnexpectedAnswerError, Voicegate } from "voicegate";

import { scripted } from "./gateway.js";

const JSON_TYPE = { "Content-Type": "application/json" };
const NOTE = [202, JSON_TYPE, '{"id": "vn_1", "status": "queued"}'];
const problem = (status, code, headers = {}) => [
  status,
  { "Content-Type": "application/problem+json", ...headers },
  JSON.stringify({ type: "x", title: "x", status, detail: "x", code }),
];
const PAGE = [502, { "Content-Type": "text/html" }, "<h1>Bad Gateway</h1>"];
const audio = new Uint8Array([1]);

async function against(answers, use, options = {}) {
  const server = await scripted(answers);
  try {
    return await use(new Voicegate({ url: server.url, key: "k", ...options }), server.requests);
  } finally {
    server.close();
  }
}

test("Retry-After is honoured, and the key stays the same", () =>
  against([problem(429, "rate_limited", { "Retry-After": "2" }), PAGE, NOTE], async (client, requests) => {
    assert.equal((await client.send({ to: "+15551234567", audio })).id, "vn_1");
    assert.equal(requests.length, 3);
    assert.ok(requests[1].at - requests[0].at >= 1990);
    const keys = new Set(requests.map((request) => request.headers["idempotency-key"]));
    assert.equal(keys.size, 1);
    assert.ok(!keys.has(undefined));
  }));

test("each call has a key of its own, or the caller's", () =>
  against([NOTE], async (client, requests) => {
    await client.send({ to: "+15551234567", audio });
    await client.send({ to: "+15551234567", audio });
    await client.send({ to: "+15551234567", audio }, { idempotencyKey: "order-7" });
    await client.resend("vn_1");
    await client.recover();
    const keys = requests.map((request) => request.headers["idempotency-key"]);
    assert.equal(new Set(keys).size, 5);
    assert.equal(keys[2], "order-7");
  }));

test("a long Retry-After is an error at once", () =>
  against([problem(503, "overloaded", { "Retry-After": "3600" })], async (client, requests) => {
    await assert.rejects(client.getNote("vn_1"), (error) => error instanceof ProblemError && error.retryAfter === 3600);
    assert.equal(requests.length, 1);
  }));

test("what does not go away by itself is not repeated", async () => {
  for (const status of [400, 401, 404, 409, 413, 422, 424]) {
    await against([problem(status, "invalid_request")], async (client, requests) => {
      await assert.rejects(client.send({ to: "+15551234567", audio }), { status });
      assert.equal(requests.length, 1);
    });
  }
});

test("an upload is repeated only if the gateway has not taken it", async () => {
  await against([problem(503, "overloaded"), [201, JSON_TYPE, '{"id": "med_1"}']], async (client) => {
    assert.equal((await client.upload({ audio })).id, "med_1");
  });
  for (const answer of [problem(500, "internal"), PAGE]) {
    await against([answer], async (client, requests) => {
      await assert.rejects(client.upload({ audio }));
      assert.equal(requests.length, 1);
    });
  }
});

test("an answer that is not the gateway's is an error of its own, and redirects are not followed", async () => {
  for (const answer of [PAGE, [200, JSON_TYPE, "<html>"], [302, { Location: "http://127.0.0.1:1/" }, ""]]) {
    await against([answer], async (client, requests) => {
      await assert.rejects(client.getNote("vn_1"), UnexpectedAnswerError);
      assert.equal(requests.length, 2);
    }, { retries: 1 });
  }
});

test("a call ends after its time, or when its caller no longer wants it", async () => {
  const slow = await scripted([NOTE]);
  slow.close();
  const hanging = new Voicegate({ url: "http://192.0.2.1", key: "k", timeout: 100, retries: 0 });
  await assert.rejects(hanging.connections(), { name: "ConnectionError" });
  await assert.rejects(hanging.connections({ signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("what cannot be right is refused before it is sent", async () => {
  assert.throws(() => new Voicegate({ url: "ftp://gateway.example", key: "k" }), TypeError);
  assert.throws(() => new Voicegate({ url: "https://user:word@gateway.example", key: "k" }), TypeError);
  assert.throws(() => new Voicegate({ url: "https://gateway.example" }), /VOICEGATE_API_KEY/);
  const client = new Voicegate({ url: "http://127.0.0.1:1/base/", key: "k" });
  assert.equal(client.url, "http://127.0.0.1:1/base");
  await assert.rejects(client.send({ to: "+15551234567", audio }, { wait: 61 }), RangeError);
  await assert.rejects(client.getNote(".."), TypeError);
});
