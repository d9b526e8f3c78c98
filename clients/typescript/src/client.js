/** The calls of the gateway. */

/** @import * as api from "../generated/api.js" */
/** @import * as models from "./models.js" */

import { bodyOf } from "./body.js";
import { ConnectionError, isProblem } from "./errors.js";
import { EventStream } from "./events.js";
import { sleep, Transport } from "./transport.js";

/**
 * @typedef {object} ClientOptions
 * @property {string} [url] The address of the gateway. Default: `VOICEGATE_URL` of the environment.
 * @property {string} [key] The API key. Default: `VOICEGATE_API_KEY` of the environment.
 * @property {number} [timeout] Milliseconds for each try, beside `wait`. Default: 60000.
 * @property {number} [retries] How often a call is repeated at most. Default: 4.
 * @property {number} [maxRetryAfter] The most milliseconds to wait where the gateway asks for it. Default: 60000.
 * @property {typeof globalThis.fetch} [fetch] Another `fetch`.
 */

const ACTIVE = ["queued", "processing", "sending"];

/** A tenant's access to a gateway. The key is in no error and in no inspection of this object. */
export class Voicegate {
  #transport;

  /** @param {ClientOptions} [options] */
  constructor({ url, key, timeout = 60_000, retries = 4, maxRetryAfter = 60_000, fetch } = {}) {
    const environment = globalThis.process?.env ?? {};
    const address = new URL(url ?? environment["VOICEGATE_URL"] ?? missing("url", "VOICEGATE_URL"));
    if (!/^https?:$/.test(address.protocol) || address.username || address.password || address.search || address.hash) {
      throw new TypeError("url: expected the address of a gateway, such as https://voicegate.example");
    }
    /** The address of the gateway. */
    this.url = address.href.replace(/\/+$/, "");
    this.#transport = new Transport({
      url: this.url,
      key: key ?? environment["VOICEGATE_API_KEY"] ?? missing("key", "VOICEGATE_API_KEY"),
      timeout,
      retries,
      maxRetryAfter,
      fetch: fetch ?? ((...request) => globalThis.fetch(...request)),
    });
  }

  // Voice notes

  /**
   * Sends a voice note, once, however often the request has to be repeated.
   *
   * The answer is a note that is stored: look at its `status`. `unknown` means that the provider may or may not have it;
   * that is a status and no error. With `wait`, a note that failed within that time is a `ProblemError` with its `id`.
   *
   * @param {models.SendFields} fields
   * @param {models.SendOptions} [options]
   * @returns {Promise<api.VoiceNote>}
   */
  async send(fields, { wait, body, idempotencyKey = crypto.randomUUID(), ...options } = {}) {
    if (wait !== undefined && !(wait >= 0 && wait <= 60)) throw new RangeError("wait: expected at most 60 seconds");
    const request = await bodyOf(fields, body);
    const seconds = wait === undefined ? 0 : Math.ceil(wait);
    const headers = { ...request.headers, ...(seconds > 0 ? { Prefer: `wait=${seconds}` } : {}) };
    const patience = seconds * 1000;
    return this.#transport.json({ ...options, ...request, headers, method: "POST", path: "/voice", patience, idempotencyKey });
  }

  /**
   * Says what would happen to a note on each connection. Nothing is sent or stored.
   *
   * @param {models.SendFields} fields
   * @param {models.BodyOptions} [options]
   * @returns {Promise<api.VoicePlan>}
   */
  async plan(fields, { body, ...options } = {}) {
    return this.#transport.json({ ...options, ...(await bodyOf(fields, body)), method: "POST", path: "/voice/plan" });
  }

  /**
   * The audio as it would be sent, over a connection (`for`) or by a profile. Nothing is sent or stored.
   *
   * @param {{ audio: models.AudioInput } & models.AudioHints & ({ for: string } | { profile: string })} fields
   * @param {models.BodyOptions} [options]
   * @returns {Promise<models.Rendered>}
   */
  async render(fields, { body, ...options } = {}) {
    const { for: connection, profile, ...rest } = /** @type {Record<string, any> & { audio: models.AudioInput }} */ (fields);
    const request = await bodyOf(rest, body);
    const query = { ...request.query, for: connection, profile };
    const call = { ...options, ...request, query, path: "/render", method: /** @type {const} */ ("POST") };
    const { headers, bytes } = await this.#transport.bytes(call);
    return {
      bytes,
      type: headers.get("content-type") ?? "",
      durationMs: Number(headers.get("voicegate-duration-ms")),
      waveform: Uint8Array.from(atob(headers.get("voicegate-waveform") ?? ""), (one) => one.charCodeAt(0)),
      work: headers.get("voicegate-work") ?? "",
      checks: (headers.get("voicegate-checks") ?? "").split(/[ ,]+/).filter((check) => check !== ""),
      etag: headers.get("etag") ?? undefined,
    };
  }

  /**
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.VoiceNote>}
   */
  async getNote(id, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: `/voice/${segment(id)}` });
  }

  /**
   * The note once it is neither queued nor being sent.
   *
   * @param {string} id
   * @param {models.CallOptions & { within?: number }} [options] `within`: milliseconds. Default: 60000.
   * @returns {Promise<api.VoiceNote>}
   * @throws {ConnectionError} if it is not in time.
   */
  async waitForNote(id, { within = 60_000, ...options } = {}) {
    return until(() => this.getNote(id, options), (note) => !ACTIVE.includes(note.status), within, options.signal);
  }

  /**
   * One page of notes, newest first.
   *
   * @param {models.ListFields} [fields]
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.VoiceNoteList>}
   */
  async listNotes(fields = {}, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: "/voice", query: { ...fields } });
  }

  /**
   * All notes that fit, newest first, page by page.
   *
   * @param {models.ListFields} [fields]
   * @param {models.CallOptions} [options]
   * @returns {AsyncGenerator<api.VoiceNote, void, void>}
   */
  notes(fields = {}, options = {}) {
    return pages((cursor) => this.listNotes({ ...fields, ...cursor }, options));
  }

  /**
   * Calls off a note that is queued.
   *
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.VoiceNote>}
   */
  async cancel(id, options = {}) {
    try {
      return await this.#transport.json({ ...options, method: "POST", path: `/voice/${segment(id)}/cancel` });
    } catch (error) {
      // A request whose answer was lost may have canceled it.
      if (!isProblem(error, "wrong_state")) throw error;
      const note = await this.getNote(id, options);
      if (note.status === "canceled") return note;
      throw error;
    }
  }

  /**
   * Sends a note again that failed, expired, was canceled or is unknown. An unknown note may have arrived, so a person may
   * get it twice. The answer is a new note with `resend_of`.
   *
   * @param {string} id
   * @param {models.KeyOptions} [options]
   * @returns {Promise<api.VoiceNote>}
   */
  async resend(id, { idempotencyKey = crypto.randomUUID(), ...options } = {}) {
    return this.#transport.json({ ...options, method: "POST", path: `/voice/${segment(id)}/resend`, idempotencyKey });
  }

  /**
   * Erases audio, recipient, text and metadata of a note that has ended.
   *
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<void>}
   */
  async erase(id, options = {}) {
    return this.#transport.nothing({ ...options, method: "DELETE", path: `/voice/${segment(id)}` });
  }

  /**
   * The audio of a note as it was sent, or with `source` as it was received.
   *
   * @param {string} id
   * @param {models.CallOptions & { source?: boolean }} [options]
   * @returns {Promise<models.AudioFile>}
   */
  async getAudio(id, { source, ...options } = {}) {
    const query = { source: source ? 1 : undefined };
    return file(await this.#transport.bytes({ ...options, method: "GET", path: `/voice/${segment(id)}/audio`, query }));
  }

  /**
   * Shows in a conversation that a voice note is being recorded, where the provider can.
   *
   * @param {{ to: string, via?: string, state: "recording" | "paused" }} fields
   * @param {models.CallOptions} [options]
   * @returns {Promise<void>}
   */
  async presence(fields, options = {}) {
    return this.#transport.nothing({ ...options, ...jsonBody(fields), method: "POST", path: "/presence" });
  }

  // Uploads

  /**
   * Uploads audio once, to be sent by `media_id` to several people.
   *
   * @param {{ audio: models.AudioInput } & models.AudioHints} fields
   * @param {models.BodyOptions} [options]
   * @returns {Promise<api.Upload>}
   */
  async upload(fields, { body, ...options } = {}) {
    // A repetition would make a second upload, so only what had no effect is repeated.
    const request = await bodyOf(fields, body);
    return this.#transport.json({ ...options, ...request, method: "POST", path: "/media", repeat: "refused" });
  }

  /**
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.Upload>}
   */
  async getUpload(id, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: `/media/${segment(id)}` });
  }

  /**
   * Deletes an upload. Notes that use it are not touched.
   *
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<void>}
   */
  async deleteUpload(id, options = {}) {
    return this.#transport.nothing({ ...options, method: "DELETE", path: `/media/${segment(id)}` });
  }

  // Recovery

  /**
   * Sends everything again that did not arrive, each note once. The answer is a task that goes on by itself.
   *
   * @param {models.RecoverFields} [fields]
   * @param {models.KeyOptions} [options]
   * @returns {Promise<api.Task>}
   */
  async recover(fields = {}, { idempotencyKey = crypto.randomUUID(), ...options } = {}) {
    return this.#transport.json({ ...options, ...jsonBody(fields), method: "POST", path: "/voice/recover", idempotencyKey });
  }

  /**
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.Task>}
   */
  async getTask(id, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: `/tasks/${segment(id)}` });
  }

  /**
   * The task once it has ended.
   *
   * @param {string} id
   * @param {models.CallOptions & { within?: number }} [options] `within`: milliseconds. Default: 600000.
   * @returns {Promise<api.Task>}
   * @throws {ConnectionError} if it is not in time.
   */
  async waitForTask(id, { within = 600_000, ...options } = {}) {
    return until(() => this.getTask(id, options), (task) => task.status !== "running", within, options.signal);
  }

  // Events

  /**
   * Follows the events of all notes from now on, or after `lastEventId`. The stream is open when this returns.
   *
   * @param {{ lastEventId?: string, signal?: AbortSignal }} [options]
   * @returns {Promise<EventStream>}
   */
  async events(options = {}) {
    return this.#stream("/events", options);
  }

  /**
   * Follows the events of one note, from the first one or after `lastEventId`.
   *
   * @param {string} id
   * @param {{ lastEventId?: string, signal?: AbortSignal }} [options]
   * @returns {Promise<EventStream>}
   */
  async noteEvents(id, options = {}) {
    return this.#stream(`/voice/${segment(id)}/events`, options);
  }

  /**
   * Every try to post an event to the webhook, the oldest first.
   *
   * @param {string} id The `webhook-id`.
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.EventAttempt[]>}
   */
  async eventAttempts(id, options = {}) {
    const path = `/events/${segment(id)}/attempts`;
    const { items } = /** @type {api.EventAttempts} */ (await this.#transport.json({ ...options, method: "GET", path }));
    return items;
  }

  /**
   * Posts an event to the webhook again, with the same `webhook-id`.
   *
   * @param {string} id The `webhook-id`.
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.EventSummary>}
   */
  async resendEvent(id, options = {}) {
    return this.#transport.json({ ...options, method: "POST", path: `/events/${segment(id)}/resend` });
  }

  /**
   * Resumes the webhook, and posts everything again that it has not taken.
   *
   * @param {{ since?: string | Date }} [fields]
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.Task>}
   */
  async recoverWebhook(fields = {}, options = {}) {
    return this.#transport.json({ ...options, ...jsonBody(fields), method: "POST", path: "/webhook/recover" });
  }

  // Voice notes that people send

  /**
   * One page of the notes that people have sent, newest first.
   *
   * @param {models.ReceivedFields} [fields]
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.ReceivedNoteList>}
   */
  async listReceived(fields = {}, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: "/received", query: { ...fields } });
  }

  /**
   * All notes that people have sent and that fit, newest first, page by page.
   *
   * @param {models.ReceivedFields} [fields]
   * @param {models.CallOptions} [options]
   * @returns {AsyncGenerator<api.ReceivedNote, void, void>}
   */
  received(fields = {}, options = {}) {
    return pages((cursor) => this.listReceived({ ...fields, ...cursor }, options));
  }

  /**
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.ReceivedNote>}
   */
  async getReceived(id, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: `/received/${segment(id)}` });
  }

  /**
   * The audio of a received note, untouched (`native`, the default) or by a profile.
   *
   * @param {string} id
   * @param {models.CallOptions & { as?: string }} [options]
   * @returns {Promise<models.AudioFile>}
   */
  async getReceivedAudio(id, { as, ...options } = {}) {
    const path = `/received/${segment(id)}/audio`;
    return file(await this.#transport.bytes({ ...options, method: "GET", path, query: { as } }));
  }

  /**
   * @param {string} id
   * @param {models.CallOptions} [options]
   * @returns {Promise<void>}
   */
  async eraseReceived(id, options = {}) {
    return this.#transport.nothing({ ...options, method: "DELETE", path: `/received/${segment(id)}` });
  }

  // The tenant

  /**
   * The tenant's connections with their health and what they can do, and the state of its webhook.
   *
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.ConnectionList>}
   */
  async connections(options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: "/connections" });
  }

  /**
   * Counts notes, seconds, bytes and attempts.
   *
   * @param {models.UsageFields} [fields]
   * @param {models.CallOptions} [options]
   * @returns {Promise<api.UsageList>}
   */
  async usage(fields = {}, options = {}) {
    return this.#transport.json({ ...options, method: "GET", path: "/usage", query: { ...fields } });
  }

  /**
   * @param {string} path
   * @param {{ lastEventId?: string, signal?: AbortSignal }} options
   */
  async #stream(path, options) {
    const stream = new EventStream(this.#transport, path, options);
    await this.#transport.repeated({ method: "GET", path, ...options }, () => stream.connect());
    return stream;
  }
}

/**
 * @param {string} name
 * @param {string} variable
 * @returns {never}
 */
function missing(name, variable) {
  throw new TypeError(`${name}: expected it as an option, or in the environment as ${variable}`);
}

/**
 * An id as a part of a path. An id that is none would lead to another path.
 *
 * @param {string} id
 */
function segment(id) {
  if (typeof id !== "string" || id === "" || id === "." || id === "..") throw new TypeError("id: expected an id");
  return encodeURIComponent(id);
}

/** @param {object} fields */
function jsonBody(fields) {
  return { body: JSON.stringify(fields), headers: { "Content-Type": "application/json" } };
}

/**
 * @param {{ headers: Headers, bytes: Uint8Array<ArrayBuffer> }} answer
 * @returns {models.AudioFile}
 */
function file({ headers, bytes }) {
  const filename = /filename="([^"]*)"/.exec(headers.get("content-disposition") ?? "")?.[1];
  return { bytes, type: headers.get("content-type") ?? "", filename };
}

/**
 * @template Item
 * @param {(cursor: { cursor?: string }) => Promise<{ items: Item[], next_cursor: string | null }>} page
 * @returns {AsyncGenerator<Item, void, void>}
 */
async function* pages(page) {
  let cursor = {};
  for (;;) {
    const { items, next_cursor } = await page(cursor);
    yield* items;
    if (next_cursor === null) return;
    cursor = { cursor: next_cursor };
  }
}

/**
 * Asks again, with growing pauses, until the answer is the right one.
 *
 * @template T
 * @param {() => Promise<T>} ask
 * @param {(answer: T) => boolean} enough
 * @param {number} within
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
async function until(ask, enough, within, signal) {
  const end = Date.now() + within;
  for (let pause = 100; ; pause = Math.min(pause * 1.5, 2000)) {
    const answer = await ask();
    if (enough(answer)) return answer;
    if (Date.now() + pause > end) throw new ConnectionError(`it is not done within ${within} ms`);
    await sleep(pause, signal);
  }
}
