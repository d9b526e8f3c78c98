/** The three forms of a request with audio: JSON, a form, and the audio itself. */

/** @import { AudioInput, AudioBytes, BodyForm, AudioHints } from "./models.js" */
/** @import { AudioSource } from "../generated/api.js" */

/** The fields that describe the audio. In JSON they are inside `audio`. */
const HINTS = /** @type {const} */ (["filename", "mime_type", "format"]);

/**
 * @param {AudioInput} audio
 * @returns {audio is AudioBytes}
 */
function isBytes(audio) {
  return audio instanceof Uint8Array || audio instanceof ArrayBuffer || audio instanceof Blob;
}

/**
 * The body, the query and the headers of a request.
 *
 * @param {AudioHints & { audio: AudioInput } & Record<string, any>} given
 * @param {BodyForm | undefined} form
 * @returns {Promise<{ body: string | Blob | FormData, query?: Record<string, unknown>, headers?: Record<string, string> }>}
 */
export async function bodyOf({ audio, ...fields }, form) {
  const set = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  if (!isBytes(audio)) {
    if (form !== undefined && form !== "json") throw new TypeError(`body: "${form}" needs the bytes of the audio`);
    return json(audio, set);
  }
  if (form === "json") return json({ data: await base64(audio) }, set);
  const { filename, mime_type, ...rest } = Object.fromEntries(set);
  const name = filename ?? ("name" in audio && typeof audio.name === "string" ? audio.name : undefined);
  const type = mime_type ?? (audio instanceof Blob && audio.type !== "" ? audio.type : "application/octet-stream");
  const blob = audio instanceof Blob && audio.type === type ? audio : new Blob([/** @type {ArrayBuffer} */ (audio)], { type });
  const texts = Object.entries(rest).map(([field, value]) => /** @type {const} */ ([field, text(value)]));
  if (form === "raw") {
    // Only types that say audio are taken as a body; the bytes decide what it is.
    const audible = /^(audio\/|video\/|application\/ogg|application\/octet-stream)/.test(type);
    const query = { ...Object.fromEntries(texts), filename: name, mime_type };
    return { body: blob, query, headers: { "Content-Type": audible ? type : "application/octet-stream" } };
  }
  const body = new FormData();
  for (const [field, value] of texts) body.set(field, value);
  body.set("audio", blob, name ?? "audio");
  return { body };
}

/**
 * @param {AudioSource | Record<string, unknown>} source
 * @param {[string, unknown][]} set
 */
function json(source, set) {
  const isHint = (/** @type {[string, unknown]} */ [field]) => HINTS.some((hint) => hint === field);
  const audio = { ...source, ...Object.fromEntries(set.filter(isHint)) };
  const body = JSON.stringify({ ...Object.fromEntries(set.filter((field) => !isHint(field))), audio });
  return { body, headers: { "Content-Type": "application/json" } };
}

/** @param {unknown} value */
function text(value) {
  if (value instanceof Date) return value.toISOString();
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {AudioBytes} audio */
async function base64(audio) {
  const bytes = audio instanceof Blob ? new Uint8Array(await audio.arrayBuffer()) : new Uint8Array(audio);
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(binary);
}
