/** Webhooks, signed according to https://www.standardwebhooks.com. */

/** @import { WebhookEvent } from "./models.js" */

import { WebhookVerificationError } from "./errors.js";

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
export async function verifyWebhook({ secret, headers, body, tolerance = 300, now = Date.now() / 1000 }) {
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  if (!/^\d{1,12}$/.test(timestamp)) throw new WebhookVerificationError("webhook-timestamp is not a time");
  if (Math.abs(now - Number(timestamp)) > tolerance) {
    throw new WebhookVerificationError("the webhook is too old, or from the future");
  }
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : new Uint8Array(body);
  const lead = new TextEncoder().encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(lead.length + bytes.length);
  signed.set(lead);
  signed.set(bytes, lead.length);
  const secrets = typeof secret === "string" ? [secret] : secret;
  if (secrets.length === 0) throw new TypeError("secret: expected at least one");
  const given = signatures.split(" ").flatMap((one) => (one.startsWith("v1,") ? [decoded(one.slice(3))] : []));
  for (const one of secrets) {
    const key = decoded(one.replace(/^whsec_/, ""));
    if (key === undefined || key.length === 0) throw new TypeError("secret: expected whsec_ and base64");
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const imported = await crypto.subtle.importKey("raw", key, hmac, false, ["verify"]);
    for (const signature of given) {
      // The comparison takes the same time whatever the signature is.
      if (signature && (await crypto.subtle.verify("HMAC", imported, signature, signed))) {
        return { id, ...JSON.parse(new TextDecoder().decode(bytes)) };
      }
    }
  }
  throw new WebhookVerificationError("no signature of the webhook fits");
}

/**
 * @param {WebhookOptions["headers"]} headers
 * @param {string} name
 */
function header(headers, name) {
  let value;
  if (headers instanceof Headers) {
    value = headers.get(name);
  } else {
    value = Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  }
  if (Array.isArray(value)) value = value.join(" ");
  if (!value) throw new WebhookVerificationError(`the header ${name} is missing`);
  return value;
}

/** @param {string} text */
function decoded(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
