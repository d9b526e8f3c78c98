/** Streams of events that reconnect by themselves and miss nothing. */

/** @import { Event } from "./models.js" */
/** @import { Transport } from "./transport.js" */

import { ProblemError, VoicegateError } from "./errors.js";
import { sleep } from "./transport.js";

/** The gateway sends a comment every 15 seconds, so a longer silence means that the connection is dead. */
const SILENCE = 45_000;

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 10_000;

/**
 * Events as they happen. When the connection breaks, or the gateway restarts, the stream connects again and goes on after
 * the last event that it has returned.
 *
 * @implements {AsyncIterable<Event>}
 */
export class EventStream {
  #transport;
  #path;
  #outer;
  #closing = new AbortController();
  /** @type {string | undefined} */
  #lastEventId;
  /** @type {{ body: AsyncIterator<Uint8Array>, silence: Silence } | undefined} */
  #open;

  /**
   * @param {Transport} transport
   * @param {string} path
   * @param {{ lastEventId?: string | undefined, signal?: AbortSignal | undefined }} options
   */
  constructor(transport, path, { lastEventId, signal }) {
    this.#transport = transport;
    this.#path = path;
    this.#lastEventId = lastEventId;
    this.#outer = signal;
  }

  /**
   * Where the stream is: pass it as `lastEventId` to go on from here, for instance in another process. An opaque text,
   * which is not the `id` of an event.
   */
  get lastEventId() {
    return this.#lastEventId;
  }

  /** Ends the stream, and the loop over it. */
  close() {
    this.#closing.abort();
  }

  /** @internal */
  async connect() {
    const { signal: closing } = this.#closing;
    const silence = new Silence();
    const signals = [closing, silence.signal, ...(this.#outer ? [this.#outer] : [])];
    const headers = { Accept: "text/event-stream", "Last-Event-ID": this.#lastEventId };
    const call = /** @type {const} */ ({ method: "GET", path: this.#path, headers });
    try {
      const answer = await this.#transport.open(call, AbortSignal.any(signals));
      const body = /** @type {AsyncIterable<Uint8Array>} */ (/** @type {unknown} */ (answer.body));
      this.#open = { body: body[Symbol.asyncIterator](), silence };
    } catch (error) {
      silence.end();
      throw error;
    }
  }

  /** @returns {AsyncGenerator<Event, void, void>} */
  async *[Symbol.asyncIterator]() {
    let failures = 0;
    try {
      while (!this.#closing.signal.aborted) {
        try {
          if (!this.#open) await this.connect();
          for await (const { id, event } of this.#messages()) {
            failures = 0;
            this.#lastEventId = id ?? this.#lastEventId;
            if (event) yield event;
          }
        } catch (error) {
          if (!this.#mayReconnect(error)) throw error;
          if (error instanceof ProblemError && error.retryAfter) await this.#pause(error.retryAfter * 1000);
        } finally {
          this.#hangUp();
        }
        if (this.#closing.signal.aborted) return;
        await this.#pause(Math.min(FIRST_PAUSE * 2 ** failures, LONGEST_PAUSE) * (0.75 + Math.random() / 2));
        failures += 1;
      }
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error;
    } finally {
      this.#hangUp();
    }
  }

  /** @param {number} milliseconds */
  #pause(milliseconds) {
    const { signal } = this.#closing;
    return sleep(milliseconds, this.#outer ? AbortSignal.any([signal, this.#outer]) : signal);
  }

  /** @param {unknown} error */
  #mayReconnect(error) {
    if (this.#closing.signal.aborted) return false;
    if (this.#outer?.aborted) return false;
    if (error instanceof ProblemError) return error.status === 429 || error.status >= 500;
    return !(error instanceof VoicegateError) || !("status" in error) || Number(error.status) >= 500;
  }

  #hangUp() {
    this.#open?.silence.end();
    // The rest of the answer is not wanted.
    this.#open?.body.return?.()?.then(undefined, () => {});
    this.#open = undefined;
  }

  async *#messages() {
    if (!this.#open) return;
    const { body, silence } = this.#open;
    const parser = new Parser();
    for (;;) {
      const { done, value } = await body.next();
      if (done) return;
      silence.heard();
      yield* parser.feed(value);
    }
  }
}

/** Aborts a connection on which nothing has come for a while. */
class Silence {
  #controller = new AbortController();
  /** @type {NodeJS.Timeout | undefined} */
  #timer;

  constructor() {
    this.heard();
  }

  get signal() {
    return this.#controller.signal;
  }

  heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(new Error("nothing came for a while")), SILENCE);
  }

  end() {
    clearTimeout(this.#timer);
  }
}

/**
 * Reads server-sent events.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class Parser {
  #decoder = new TextDecoder();
  #text = "";
  /** @type {string[]} */
  #data = [];
  /** @type {string | undefined} */
  #id;

  /**
   * @param {Uint8Array} piece
   * @returns {Generator<{ id: string | undefined, event: Event | undefined }>}
   */
  *feed(piece) {
    this.#text += this.#decoder.decode(piece, { stream: true });
    // A carriage return at the end may be half of a line break.
    const lines = this.#text.split(/\r\n|\n|\r(?!$)/);
    this.#text = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        const data = this.#data.join("\n");
        if (data !== "") yield { id: this.#id, event: /** @type {Event} */ (JSON.parse(data)) };
        else if (this.#id !== undefined) yield { id: this.#id, event: undefined };
        this.#data = [];
        this.#id = undefined;
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") this.#data.push(value);
      if (field === "id" && !value.includes("\0")) this.#id = value;
    }
  }
}
