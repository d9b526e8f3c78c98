/** Every method against a running gateway. */

import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { after, before, test } from "node:test";
import { inspect } from "node:util";

import { ConnectionError, isProblem, ProblemError, verifyWebhook, Voicegate, WebhookVerificationError } from "voicegate";

import { BrokenWay, eventually, Gateway, KEY, recording, sample, samplePath, SECRETS } from "./gateway.js";

const TO = "+15551234567";
const called = new Set();

/** @type {Gateway} */
let gateway;
/** @type {Voicegate} */
let voicegate;

/** A client that notes which of its methods were called. */
function watched(client) {
  return new Proxy(client, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      called.add(name);
      return value.bind(target);
    },
  });
}

before(async () => {
  gateway = await Gateway.start();
  voicegate = watched(new Voicegate({ url: gateway.url, key: KEY }));
});

after(() => gateway?.stop());

const failed = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "expected an error" });
};

test("every body form sends the same note", async () => {
  const blob = await openAsBlob(samplePath, { type: "audio/mpeg" });
  const data = Buffer.from(sample).toString("base64");
  const link = (await voicegate.upload({ audio: sample })).id;
  const fields = { to: TO, metadata: { order: 7 }, degrade: ["audio"], expires_in: "10m", strict: false };
  const sent = [
    await voicegate.send({ ...fields, audio: sample }, { wait: 30 }),
    await voicegate.send({ ...fields, audio: blob, filename: "speech.mp3" }, { wait: 30 }),
    await voicegate.send({ ...fields, audio: sample, mime_type: "audio/mpeg" }, { wait: 30, body: "raw" }),
    await voicegate.send({ ...fields, audio: sample.buffer }, { wait: 30, body: "json" }),
    await voicegate.send({ ...fields, audio: { data } }, { wait: 30 }),
    await voicegate.send({ ...fields, audio: { media_id: link } }, { wait: 30 }),
    await voicegate.send({ ...fields, audio: { url: `${gateway.sandboxUrl}/sandbox/ledger/${(await gateway.ledger())[0].id}/audio` } }, { wait: 30 }),
  ];
  const hashes = new Set(sent.map((note) => note.audio.source?.sha256));
  assert.equal(hashes.size, 1);
  for (const note of sent) {
    assert.ok(["accepted", "sent", "delivered"].includes(note.status), note.status);
    assert.deepEqual(note.metadata, { order: 7 });
  }
});

test("headerless samples are described by format in every form", async () => {
  const samples = new Uint8Array(32000);
  const format = { encoding: "s16le", sample_rate: 16000, channels: 1 };
  for (const body of ["multipart", "raw", "json"]) {
    const { audio } = await voicegate.plan({ to: TO, audio: samples, format }, { body });
    assert.equal(audio.duration_ms, 1000, body);
  }
  const preset = await voicegate.plan({ to: TO, audio: samples, format: "polly-pcm-16000" });
  assert.equal(preset.audio.container, "pcm");
});

test("a form that needs bytes refuses a URL", async () => {
  await assert.rejects(voicegate.send({ to: TO, audio: { url: "https://bot.example/a" } }, { body: "raw" }), TypeError);
});

test("a note is planned, read, listed, downloaded, sent again and erased", async () => {
  const plan = await voicegate.plan({ to: TO, audio: sample, via: "whatsapp" });
  assert.equal(plan.connections[0]?.work, "transcoded");

  const { id } = await voicegate.send({ to: TO, audio: sample, metadata: { test: "one" } });
  const note = await voicegate.waitForNote(id);
  assert.equal((await voicegate.getNote(id)).id, note.id);
  assert.deepEqual((await voicegate.getAudio(id)).bytes, sample);
  assert.equal((await voicegate.getAudio(id, { source: true })).type, "audio/mpeg");

  const later = new Date(Date.now() + 3600_000);
  const scheduled = await voicegate.send({ to: TO, audio: sample, send_at: later });
  assert.equal((await voicegate.cancel(scheduled.id)).status, "canceled");
  const again = await voicegate.resend(scheduled.id);
  assert.equal(again.resend_of, scheduled.id);
  await voicegate.waitForNote(again.id);

  await voicegate.erase(id);
  assert.equal((await voicegate.getNote(id)).to, null);
});

test("a list goes on over its pages", async () => {
  const page = await voicegate.listNotes({ limit: 2, via: "imessage" });
  assert.equal(page.items.length, 2);
  assert.notEqual(page.next_cursor, null);
  const ids = [];
  for await (const note of voicegate.notes({ limit: 2, via: "imessage" })) ids.push(note.id);
  assert.ok(ids.length > 4);
  assert.equal(new Set(ids).size, ids.length);
});

test("an upload is kept and deleted", async () => {
  const upload = await voicegate.upload({ audio: sample }, { body: "raw" });
  assert.equal((await voicegate.getUpload(upload.id)).audio.sha256, upload.audio.sha256);
  await voicegate.deleteUpload(upload.id);
  const error = await failed(voicegate.getUpload(upload.id));
  assert.ok(isProblem(error, "not_found", "media_expired"));
});

test("a failed note has its problem, and a recovery sends it again", async () => {
  await gateway.fault({ kind: "status", status: 400 });
  const error = await failed(voicegate.send({ to: TO, audio: sample }, { wait: 30 }));
  assert.ok(isProblem(error, "provider_rejected"), error);
  assert.equal((await voicegate.getNote(error.id)).status, "failed");
  const ordered = await voicegate.recover({ status: ["failed"], since: new Date(Date.now() - 3600_000) });
  const task = await voicegate.waitForTask(ordered.id);
  assert.equal((await voicegate.getTask(ordered.id)).status, "done");
  assert.equal(task.done, 1);
});

test("an unknown outcome is a status and no error", async () => {
  await gateway.fault({ kind: "reset_after" });
  const note = await voicegate.send({ to: TO, audio: sample }, { wait: 30 });
  assert.equal(note.attempts[0]?.outcome, "unknown");
});

test("errors are typed by their code and never show the key", async () => {
  const error = await failed(voicegate.send({ to: "hello", audio: sample }));
  assert.ok(error instanceof ProblemError);
  assert.ok(isProblem(error, "recipient_invalid") && !isProblem(error, "unauthorized"));
  assert.deepEqual([error.status, error.field, error.stage], [400, "to", "request"]);
  assert.ok(error.requestId && error.idempotencyKey);

  const stranger = new Voicegate({ url: gateway.url, key: "vg_secret_of_a_stranger" });
  const refused = await failed(stranger.connections());
  assert.ok(isProblem(refused, "unauthorized"));
  const nowhere = new Voicegate({ url: "http://127.0.0.1:1", key: "vg_secret_of_a_stranger", retries: 0 });
  const unreachable = await failed(nowhere.send({ to: TO, audio: sample }));
  assert.ok(unreachable instanceof ConnectionError && unreachable.idempotencyKey);
  for (const shown of [stranger, refused, unreachable]) {
    assert.ok(!inspect(shown, { depth: 9, showHidden: true }).includes("secret"), inspect(shown));
    assert.ok(!JSON.stringify(shown).includes("secret"));
  }
});

test("audio that is too large is told", async () => {
  // The gateway answers before it has read everything, and fetch may not read that answer.
  const client = new Voicegate({ url: gateway.url, key: KEY, retries: 0 });
  const error = await failed(client.send({ to: TO, audio: new Uint8Array(40 << 20) }));
  assert.ok(isProblem(error, "audio_too_large") || /may be larger/.test(error.message), error);
});

test("a note is sent once though its answer was lost", async () => {
  const way = new BrokenWay(gateway.port, "POST /voice", 2);
  const client = new Voicegate({ url: await way.url(), key: KEY });
  const before = (await gateway.ledger()).length;
  const note = await client.send({ to: TO, audio: sample, metadata: { test: "lost" } });
  await voicegate.waitForNote(note.id);
  way.close();
  assert.equal(way.requests.length, 3);
  const keys = new Set(way.requests.map((head) => /idempotency-key: (\S+)/i.exec(head)?.[1]));
  assert.equal(keys.size, 1);
  assert.equal((await gateway.ledger()).length, before + 1);
});

test("an upload is not repeated after its answer was lost", async () => {
  const way = new BrokenWay(gateway.port, "POST /media", 1);
  const client = new Voicegate({ url: await way.url(), key: KEY });
  await assert.rejects(client.upload({ audio: sample }), ConnectionError);
  way.close();
  assert.equal(way.requests.length, 1);
});

test("a cancellation whose answer was lost is no error", async () => {
  const { id } = await voicegate.send({ to: TO, audio: sample, send_at: new Date(Date.now() + 3600_000) });
  const way = new BrokenWay(gateway.port, "POST /voice", 1);
  const client = new Voicegate({ url: await way.url(), key: KEY });
  assert.equal((await client.cancel(id)).status, "canceled");
  way.close();
  assert.equal(way.requests.length, 2);
});

test("webhooks are verified, with either secret, and are posted again", async () => {
  gateway.webhooks.length = 0;
  const { id } = await voicegate.send({ to: TO, audio: sample }, { wait: 30 });
  const ours = ({ body }) => JSON.parse(body).data.id === id;
  const { headers, body } = await eventually("a webhook", () => gateway.webhooks.find(ours));
  for (const secret of [...SECRETS, SECRETS]) {
    const event = await verifyWebhook({ secret, headers, body });
    assert.equal(event.type, "voice.accepted");
    assert.equal(event.id, headers["webhook-id"]);
    assert.equal(event.data.id, id);
  }
  await verifyWebhook({ secret: SECRETS, headers: new Headers(headers), body: body.toString() });
  const changed = Buffer.from(body.toString().replace("voice.accepted", "voice.played"));
  const wrong = [
    { secret: "whsec_AAAA", headers, body },
    { secret: SECRETS, headers, body: changed },
    { secret: SECRETS, headers, body, now: Date.now() / 1000 + 301 },
    { secret: SECRETS, headers, body, now: Date.now() / 1000 - 400 },
    { secret: SECRETS, headers: { ...headers, "webhook-signature": "v1,!" }, body },
    { secret: SECRETS, headers: { ...headers, "webhook-signature": headers["webhook-signature"].replaceAll("v1,", "v2,") }, body },
    { secret: SECRETS, headers: { ...headers, "webhook-timestamp": "soon" }, body },
    { secret: SECRETS, headers: {}, body },
  ];
  for (const options of wrong) await assert.rejects(verifyWebhook(options), WebhookVerificationError);
  await assert.rejects(verifyWebhook({ secret: [], headers, body }), TypeError);

  const event = headers["webhook-id"];
  const attempts = await eventually("an attempt", async () => (await voicegate.eventAttempts(event)).at(0));
  assert.equal(attempts.status, 204);
  const again = await voicegate.resendEvent(event);
  assert.equal(again.id, event);
  const same = () => gateway.webhooks.filter((webhook) => webhook.headers["webhook-id"] === event).length > 1;
  await eventually("the event again", same);
  const task = await voicegate.recoverWebhook({ since: new Date(Date.now() - 60_000) });
  assert.equal((await voicegate.waitForTask(task.id)).status, "done");
});

test("a stream goes on after a crash of the gateway, without loss or repetition", async () => {
  const events = await voicegate.events();
  const first = await voicegate.send({ to: TO, audio: sample }, { wait: 30 });
  const seen = [];
  let resumed;
  for await (const event of events) {
    seen.push(`${event.type} ${event.data.id}`);
    if (seen.length === 1) {
      assert.equal(seen[0], `voice.accepted ${first.id}`);
      resumed = events.lastEventId;
      await gateway.kill();
      await gateway.serve();
      const second = await voicegate.send({ to: TO, audio: sample }, { wait: 30 });
      seen.push(second.id);
    } else if (event.data.id === seen[1]) {
      break;
    }
  }
  assert.equal(seen.filter((one) => one === `voice.accepted ${first.id}`).length, 1);

  const rest = await voicegate.events({ lastEventId: resumed });
  for await (const event of rest) {
    assert.notEqual(`${event.type} ${event.data.id}`, seen[0]);
    if (event.data.id === seen[1]) rest.close();
  }

  const ofNote = await voicegate.noteEvents(first.id);
  for await (const event of ofNote) {
    assert.equal(event.type, "voice.accepted");
    break;
  }
  const error = await failed(voicegate.noteEvents("vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"));
  assert.ok(isProblem(error, "not_found"));
  const stop = new AbortController();
  const aborted = await voicegate.events({ signal: stop.signal });
  setTimeout(() => stop.abort(), 50);
  await assert.rejects(async () => {
    for await (const _ of aborted);
  }, { name: "AbortError" });
});

test("connections and usage", async () => {
  const { items } = await voicegate.connections();
  assert.deepEqual(items.map((connection) => connection.name).sort(), ["imessage", "waha", "whatsapp"]);
  const usage = await voicegate.usage({ by: "connection" });
  assert.ok(usage.items.some((item) => item.key === "imessage" && item.notes > 5));
});

test("audio is rendered without being sent", async () => {
  const rendered = await voicegate.render({ audio: sample, for: "whatsapp" });
  assert.match(rendered.type, /^audio\/ogg/);
  assert.equal(new TextDecoder().decode(rendered.bytes.subarray(0, 4)), "OggS");
  assert.equal(rendered.waveform.length, 64);
  assert.ok(rendered.durationMs > 9000);
});

test("a received note is announced, listed, read, downloaded, answered and erased", async () => {
  const events = await voicegate.events();
  const said = await gateway.say(TO);
  let announced;
  for await (const event of events) {
    if (event.type !== "voice.received") continue;
    announced = event.data;
    break;
  }
  const { id } = announced;
  assert.match(id, /^in_/);
  assert.deepEqual(
    [announced.status, announced.from, announced.via, announced.sender_name, announced.provider_message_id],
    ["received", TO, "waha", "Ann", said.message_id],
  );
  const ours = ({ body }) => JSON.parse(body).data.id === id;
  const { headers, body } = await eventually("a webhook", () => gateway.webhooks.find(ours));
  const posted = await verifyWebhook({ secret: SECRETS, headers, body });
  assert.deepEqual([posted.type, posted.data], ["voice.received", announced]);
  const forged = Buffer.from(body.toString().replace("Ann", "Eve"));
  await assert.rejects(verifyWebhook({ secret: SECRETS, headers, body: forged }), WebhookVerificationError);

  assert.deepEqual((await voicegate.listReceived({ limit: 1 })).items.map((note) => note.id), [id]);
  const found = [];
  for await (const note of voicegate.received({ via: "waha", from: TO })) found.push(note.id);
  assert.deepEqual(found, [id]);
  for await (const note of voicegate.received({ via: "imessage" })) assert.fail(note.id);
  const note = await voicegate.getReceived(id);
  assert.deepEqual([note.id, note.form, note.waveform.length], [id, "voice", 64]);

  const native = await voicegate.getReceivedAudio(id);
  assert.deepEqual(native.bytes, recording);
  assert.match(native.type, /^audio\/ogg/);
  assert.equal(native.filename, "voice.ogg");
  assert.deepEqual((await voicegate.getReceivedAudio(id, { as: "native" })).bytes, recording);
  const mp3 = await voicegate.getReceivedAudio(id, { as: "mp3-1" });
  assert.deepEqual([mp3.type, mp3.bytes.length], ["audio/mpeg", note.audio?.renders["mp3-1"]?.size_bytes]);

  const answer = await voicegate.send({ reply_to: id, audio: sample }, { wait: 30 });
  assert.deepEqual([answer.to, answer.via, answer.reply_to], [TO, "waha", id]);
  const quotes = (await gateway.ledger()).filter((entry) => entry.reply_to === said.message_id);
  assert.deepEqual(quotes.map((entry) => [entry.provider, entry.form]), [["waha", "voice"]]);

  await voicegate.eraseReceived(id);
  assert.ok(isProblem(await failed(voicegate.getReceived(id)), "not_found"));
  assert.ok(isProblem(await failed(voicegate.getReceivedAudio(id, { as: "native" })), "not_found"));
  assert.deepEqual((await voicegate.listReceived()).items, []);
  assert.ok(isProblem(await failed(voicegate.eraseReceived("in_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41")), "not_found"));
});

test("a text is spoken, and errors of speech are typed", async () => {
  const server = { provider: "openai", operation: "speech" };
  const speech = (text, more = {}) => ({ speech: { text, ...more } });
  const note = await voicegate.send({ to: TO, audio: speech("Your parcel is here.", { voice: "otto" }) }, { wait: 30 });
  assert.ok(["accepted", "sent", "delivered"].includes(note.status), note.status);
  assert.deepEqual(
    [note.audio.speech?.text, note.audio.speech?.with, note.audio.speech?.voice],
    ["Your parcel is here.", "anna", "otto"],
  );
  // The emulator speaks 72 ms for each character.
  const length = note.audio.source?.duration_ms ?? 0;
  assert.ok(Math.abs(length - 1440) <= 10, String(length));
  const rendered = await voicegate.render({ audio: speech("Your parcel is here."), for: "whatsapp" });
  assert.equal(new TextDecoder().decode(rendered.bytes.subarray(0, 4)), "OggS");
  assert.equal((await voicegate.plan({ to: TO, audio: speech("Not spoken.") })).audio, null);

  await gateway.fault({ kind: "status", status: 400 }, server);
  const refused = await failed(voicegate.send({ to: TO, audio: speech("Refused.") }, { wait: 30 }));
  assert.ok(isProblem(refused, "speech_rejected"), refused);
  assert.deepEqual([refused.status, refused.stage], [422, "speech"]);
  assert.equal((await voicegate.getNote(refused.id)).status, "failed");
  await gateway.fault({ kind: "status", status: 500 }, server);
  const unavailable = await failed(voicegate.render({ audio: speech("Unavailable."), for: "whatsapp" }));
  assert.ok(isProblem(unavailable, "speech_unavailable"), unavailable);
  const unknown = await failed(voicegate.send({ to: TO, audio: speech("x", { with: "nobody" }) }));
  assert.ok(isProblem(unknown, "invalid_request"), unknown);
  assert.equal(unknown.field, "audio.speech.with");
});

test("the sign of recording is shown where the provider has one", async () => {
  for (const via of [undefined, "waha"]) {
    for (const state of ["recording", "paused"]) await voicegate.presence({ to: TO, via, state });
  }
  const shown = (await gateway.requests()).filter((request) => request.operation === "presence");
  assert.deepEqual(shown.map((request) => request.provider), ["linq", "linq", "waha", "waha"]);
  const error = await failed(voicegate.presence({ to: TO, via: "whatsapp", state: "recording" }));
  assert.ok(isProblem(error, "recipient_unsupported"), error);
});

test("every method was called", () => {
  const all = Object.getOwnPropertyNames(Voicegate.prototype).filter((name) => name !== "constructor");
  assert.deepEqual(all.filter((name) => !called.has(name)), []);
});
