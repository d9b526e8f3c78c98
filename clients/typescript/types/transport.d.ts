/**
 * The milliseconds to wait before a repetition; `undefined` if repeating is of no use, or not safe.
 *
 * @param {unknown} error
 * @param {Repeat} repeat
 * @param {number} attempt
 * @returns {number | undefined}
 */
export function pauseAfter(error: unknown, repeat: Repeat, attempt: number): number | undefined;
/**
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
export class Transport {
    /** @param {TransportOptions} options */
    constructor(options: TransportOptions);
    /**
     * The answer of a call as JSON.
     *
     * @template T
     * @param {Call} call
     * @returns {Promise<T>}
     */
    json<T>(call: Call): Promise<T>;
    /**
     * @param {Call} call
     * @returns {Promise<void>}
     */
    nothing(call: Call): Promise<void>;
    /**
     * The answer of a call with its bytes.
     *
     * @param {Call} call
     * @returns {Promise<{ headers: Headers, bytes: Uint8Array<ArrayBuffer> }>}
     */
    bytes(call: Call): Promise<{
        headers: Headers;
        bytes: Uint8Array<ArrayBuffer>;
    }>;
    /**
     * Makes one request and returns the answer as soon as its headers are there.
     *
     * @param {Call} call
     * @param {AbortSignal} signal
     * @returns {Promise<Response>}
     */
    open(call: Call, signal: AbortSignal): Promise<Response>;
    /**
     * Does something for a call until it succeeds, or repeating it is of no use.
     *
     * @template T
     * @param {Call} call
     * @param {() => Promise<T>} once
     * @returns {Promise<T>}
     */
    repeated<T>(call: Call, once: () => Promise<T>): Promise<T>;
    #private;
}
/**
 * When a request may be repeated.
 *
 * - `always`: the request changes nothing, or the gateway recognizes the repetition.
 * - `refused`: only if the request surely had no effect, because the gateway said so or was never reached.
 */
export type Repeat = "always" | "refused";
export type Call = {
    method: "GET" | "POST" | "DELETE";
    /**
     * Below the address of the gateway, with a leading slash.
     */
    path: string;
    query?: Record<string, unknown>;
    headers?: Record<string, string | undefined>;
    /**
     * Anything that can be sent more than once.
     */
    body?: string | Uint8Array<ArrayBuffer> | Blob | FormData;
    /**
     * Default: `always`.
     */
    repeat?: Repeat;
    /**
     * Milliseconds that the gateway was asked to wait before it answers.
     */
    patience?: number;
    idempotencyKey?: string;
    timeout?: number;
    signal?: AbortSignal;
};
export type TransportOptions = {
    url: string;
    key: string;
    timeout: number;
    retries: number;
    maxRetryAfter: number;
    fetch: typeof globalThis.fetch;
};
