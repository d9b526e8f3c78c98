/**
 * @typedef {object} WebhookOptions
 * @property {string | readonly string[]} secret The secret, which begins with `whsec_`. While a secret is being replaced: both.
 * @property {Headers | Record<string, string | string[] | undefined>} headers The headers of the request.
 * @property {string | Uint8Array | ArrayBuffer} body The body of the request as it came, byte for byte; not parsed JSON.
 * @property {number} [tolerance] The most seconds between the gateway's clock and this one. Default: 300.
 * @property {number} [now] The time in seconds since 1970. Default: now.
 */
/**
 * The event of a webhook, if it is genuine and fresh.
 *
 * @param {WebhookOptions} options
 * @returns {Promise<WebhookEvent>}
 * @throws {WebhookVerificationError} if it is not.
 */
export function verifyWebhook({ secret, headers, body, tolerance, now }: WebhookOptions): Promise<WebhookEvent>;
export type WebhookOptions = {
    /**
     * The secret, which begins with `whsec_`. While a secret is being replaced: both.
     */
    secret: string | readonly string[];
    /**
     * The headers of the request.
     */
    headers: Headers | Record<string, string | string[] | undefined>;
    /**
     * The body of the request as it came, byte for byte; not parsed JSON.
     */
    body: string | Uint8Array | ArrayBuffer;
    /**
     * The most seconds between the gateway's clock and this one. Default: 300.
     */
    tolerance?: number;
    /**
     * The time in seconds since 1970. Default: now.
     */
    now?: number;
};
import type { WebhookEvent } from "./models.js";
