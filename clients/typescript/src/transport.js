/** Requests to the gateway, and their repetition. */

/** @import { Problem } from "../generated/api.js" */

import { ConnectionError, ProblemError, UnexpectedAnswerError, VoicegateError } from "./errors.js";

/**
 * When a request may be repeated.
 *
 * - `always`: the request changes nothing, or the gateway recognizes the repetition.
 * - `refused`: only if the request surely had no effect, because the gateway said so or was never reached.
 *
 * @typedef {"always" | "refused"} Repeat
 */

/**
 * @typedef {object} Call
 * @property {"GET" | "POST" | "DELETE"} method
 * @property {string} path Below the address of the gateway, with a leading slash.
 * @property {Record<string, unknown>} [query]
 * @property {Record<string, string | undefined>} [headers]
 * @property {string | Uint8Array<ArrayBuffer> | Blob | FormData} [body] Anything that can be sent more than once.
 * @property {Repeat} [repeat] Default: `always`.
 * @property {number} [patience] Milliseconds that the gateway was asked to wait before it answers.
 * @property {string} [idempotencyKey]
 * @property {number} [timeout]
 * @property {AbortSignal} [signal]
 */

/**
 * @typedef {object} TransportOptions
 * @property {string} url
 * @property {string} key
 * @property {number} timeout
 * @property {number} retries
 * @property {number} maxRetryAfter
 * @property {typeof globalThis.fetch} fetch
 */

/** Errors of a connection that was never made. */
const NEVER_REACHED = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT", "EHOSTUNREACH", "ENETUNREACH"];

/** The first pause before a repetition in milliseconds; each further one is twice as long. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8000;

export class Transport {
  #options;

  /** @param {TransportOptions} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * The answer of a call as JSON.
   *
   * @template T
   * @param {Call} call
   * @returns {Promise<T>}
   */
  json(call) {
    return this.repeated(call, () => this.#once(call, async (answer) => /** @type {T} */ (await answer.json())));
  }

  /**
   * @param {Call} call
   * @returns {Promise<void>}
   */
  async nothing(call) {
    await this.repeated(call, () => this.#once(call, async (answer) => answer.body?.cancel()));
  }

  /**
   * The answer of a call with its bytes.
   *
   * @param {Call} call
   * @returns {Promise<{ headers: Headers, bytes: Uint8Array<ArrayBuffer> }>}
   */
  bytes(call) {
    const read = async (/** @type {Response} */ answer) => ({
      headers: answer.headers,
      bytes: new Uint8Array(await answer.arrayBuffer()),
    });
    return this.repeated(call, () => this.#once(call, read));
  }

  /**
   * Makes one request and returns the answer as soon as its headers are there.
   *
   * @param {Call} call
   * @param {AbortSignal} signal
   * @returns {Promise<Response>}
   */
  async open(call, signal) {
    let answer;
    try {
      answer = await this.#fetch(call, signal);
    } catch (error) {
      throw new ConnectionError(unreachable(error), { cause: error });
    }
    if (answer.ok) return answer;
    throw await refusal(answer, undefined);
  }

  /**
   * Does something for a call until it succeeds, or repeating it is of no use.
   *
   * @template T
   * @param {Call} call
   * @param {() => Promise<T>} once
   * @returns {Promise<T>}
   */
  async repeated(call, once) {
    for (let attempt = 0; ; attempt += 1) {
      let error;
      try {
        return await once();
      } catch (thrown) {
        error = thrown;
      }
      call.signal?.throwIfAborted();
      const pause = attempt < this.#options.retries ? pauseAfter(error, call.repeat ?? "always", attempt) : undefined;
      if (pause === undefined || pause > this.#options.maxRetryAfter) throw error;
      await sleep(pause, call.signal);
    }
  }

  /**
   * @template T
   * @param {Call} call
   * @param {(answer: Response) => Promise<T>} read
   * @returns {Promise<T>}
   */
  async #once(call, read) {
    const limit = (call.timeout ?? this.#options.timeout) + (call.patience ?? 0);
    const late = AbortSignal.timeout(limit);
    const signal = call.signal ? AbortSignal.any([call.signal, late]) : late;
    const { idempotencyKey } = call;
    try {
      const answer = await this.#fetch(call, signal);
      if (!answer.ok) throw await refusal(answer, idempotencyKey);
      try {
        return await read(answer);
      } catch (error) {
        if (error instanceof SyntaxError) throw new UnexpectedAnswerError(answer.status, { idempotencyKey });
        throw error;
      }
    } catch (error) {
      if (error instanceof VoicegateError) throw error;
      call.signal?.throwIfAborted();
      const why = late.aborted ? `no answer within ${limit} ms` : unreachable(error);
      throw new ConnectionError(why, { cause: error, idempotencyKey });
    }
  }

  /**
   * @param {Call} call
   * @param {AbortSignal} signal
   */
  #fetch(call, signal) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined && value !== null) query.set(name, String(value));
    }
    const address = this.#options.url + call.path + (query.size > 0 ? `?${query}` : "");
    const headers = new Headers({ Authorization: `Bearer ${this.#options.key}` });
    for (const [name, value] of Object.entries(call.headers ?? {})) {
      if (value !== undefined) headers.set(name, value);
    }
    if (call.idempotencyKey !== undefined) headers.set("Idempotency-Key", call.idempotencyKey);
    // A redirect would take the key to another host.
    return this.#options.fetch(address, { method: call.method, headers, body: call.body ?? null, signal, redirect: "manual" });
  }
}

/**
 * The error that an answer stands for.
 *
 * @param {Response} answer
 * @param {string | undefined} idempotencyKey
 */
async function refusal(answer, idempotencyKey) {
  const retryAfter = Number.parseInt(answer.headers.get("retry-after") ?? "", 10) || undefined;
  if (/^application\/problem\+json\b/.test(answer.headers.get("content-type") ?? "")) {
    try {
      const problem = /** @type {Problem} */ (await answer.json());
      return new ProblemError(problem, { retryAfter, idempotencyKey });
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  } else {
    await answer.body?.cancel();
  }
  return new UnexpectedAnswerError(answer.status, { idempotencyKey });
}

/**
 * The milliseconds to wait before a repetition; `undefined` if repeating is of no use, or not safe.
 *
 * @param {unknown} error
 * @param {Repeat} repeat
 * @param {number} attempt
 * @returns {number | undefined}
 */
export function pauseAfter(error, repeat, attempt) {
  const pause = Math.min(FIRST_PAUSE * 2 ** attempt, LONGEST_PAUSE) * (0.75 + Math.random() / 2);
  if (error instanceof ProblemError) {
    const nothingDone = error.status === 429 || error.status === 503;
    if (!nothingDone && (error.status < 500 || repeat !== "always")) return undefined;
    return Math.max(pause, (error.retryAfter ?? 0) * 1000);
  }
  if (error instanceof UnexpectedAnswerError) return repeat === "always" ? pause : undefined;
  if (error instanceof ConnectionError) return repeat === "always" || neverReached(error.cause) ? pause : undefined;
  return undefined;
}

/** @param {unknown} error */
function neverReached(error) {
  return hasCode(error, NEVER_REACHED);
}

/** @param {unknown} error */
function unreachable(error) {
  // fetch does not read the answer that the gateway gives before it has read the whole request.
  if (hasCode(error, ["EPIPE"])) return "the connection broke while the audio was sent; it may be larger than the gateway takes";
  return "the gateway cannot be reached, or the connection broke";
}

/**
 * Whether an error, or what caused it, has one of these codes of the system.
 *
 * @param {unknown} error
 * @param {string[]} codes
 */
function hasCode(error, codes) {
  for (let cause = /** @type {any} */ (error); cause; cause = cause.cause) {
    if (codes.includes(cause.code)) return true;
  }
  return false;
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
