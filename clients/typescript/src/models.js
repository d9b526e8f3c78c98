/** Types that the client adds to those of the API. */

/** @import { AudioSource, DeclaredFormat, ReceivedEvent, VoiceEvent, VoiceRequest, WebhookPausedEvent, Status, Recoverable } from "../generated/api.js" */

/**
 * The bytes of a recording. `openAsBlob` of `node:fs` makes a Blob of a file.
 * @typedef {Uint8Array | ArrayBuffer | Blob} AudioBytes
 */

/**
 * Speech that the gateway makes with a text-to-speech service of the tenant.
 *
 * @typedef {object} SpeechSource
 * @property {object} speech
 * @property {string} speech.text The words to be spoken.
 * @property {string} [speech.with] A service from the tenant's configuration.
 * @property {string} [speech.voice]
 * @property {string} [speech.instructions]
 * @property {number} [speech.speed]
 */

/**
 * Audio: its bytes, or an object with `url`, `data` (base64), `media_id` or `speech`.
 * @typedef {AudioBytes | AudioSource | SpeechSource} AudioInput
 */

/**
 * How bytes are sent. `multipart` is the default; `raw` puts the fields into the address, where proxies log them; `json` makes
 * the audio a third larger.
 * @typedef {"multipart" | "raw" | "json"} BodyForm
 */

/**
 * Facts about the audio that its bytes do not tell.
 *
 * @typedef {object} AudioHints
 * @property {string | undefined} [filename]
 * @property {string | undefined} [mime_type]
 * @property {DeclaredFormat | undefined} [format] The format of headerless samples.
 */

/**
 * The fields of a note, named as in the API.
 *
 * @typedef {Omit<VoiceRequest, "to" | "audio" | "send_at"> & AudioHints
 *   & { to?: string, audio: AudioInput, send_at?: string | Date | null }} SendFields `to` may be left out with
 *   `reply_to: "in_…"`.
 */

/**
 * @typedef {object} CallOptions
 * @property {AbortSignal} [signal] Gives up waiting. What the gateway has taken is not taken back.
 * @property {number} [timeout] Milliseconds for each try. Default: that of the client.
 */

/**
 * @typedef {CallOptions & { idempotencyKey?: string }} KeyOptions `idempotencyKey`: a text of your own that is unique to this
 *   call, such as the id of your message. Without it the client makes one for the call and its repetitions.
 */

/** @typedef {CallOptions & { body?: BodyForm }} BodyOptions */

/**
 * @typedef {KeyOptions & BodyOptions & { wait?: number }} SendOptions `wait`: the seconds, at most 60, that the answer may
 *   wait until the provider has accepted the note or it has failed.
 */

/**
 * @typedef {object} ListFields
 * @property {Status} [status]
 * @property {string} [to]
 * @property {string} [via]
 * @property {number} [limit] Notes per page, at most 200.
 * @property {string} [cursor] `next_cursor` of the page before.
 */

/**
 * @typedef {object} RecoverFields
 * @property {Recoverable[]} [status]
 * @property {string | Date} [since]
 * @property {string | Date} [until]
 * @property {string} [via]
 * @property {number} [limit]
 */

/**
 * @typedef {object} UsageFields
 * @property {string} [from]
 * @property {string} [to]
 * @property {"day" | "connection" | "status"} [by]
 */

/**
 * A file of the gateway.
 *
 * @typedef {object} AudioFile
 * @property {Uint8Array<ArrayBuffer>} bytes
 * @property {string} type Such as `audio/ogg; codecs=opus`.
 * @property {string | undefined} filename
 */

/**
 * Audio as it would be sent.
 *
 * @typedef {object} Rendered
 * @property {Uint8Array<ArrayBuffer>} bytes
 * @property {string} type
 * @property {number} durationMs
 * @property {Uint8Array<ArrayBuffer>} waveform 64 values from 0 to 100.
 * @property {string} work `none`, `remuxed` or `transcoded`.
 * @property {string[]} checks
 * @property {string | undefined} etag
 */

/**
 * @typedef {object} ReceivedFields
 * @property {string} [from]
 * @property {string} [conversation]
 * @property {string} [via]
 * @property {number} [limit]
 * @property {string} [cursor]
 */

/**
 * What happened. With `voice.…`, `data` is the note as it was at that moment.
 *
 * @typedef {VoiceEvent | ReceivedEvent | WebhookPausedEvent} Event
 */

/** @typedef {Event & { id: string }} WebhookEvent `id` is the same however often the event is delivered. */

export {};
