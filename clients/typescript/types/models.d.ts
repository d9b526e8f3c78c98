/**
 * The bytes of a recording. `openAsBlob` of `node:fs` makes a Blob of a file.
 */
export type AudioBytes = Uint8Array | ArrayBuffer | Blob;
/**
 * Speech that the gateway makes with a text-to-speech service of the tenant.
 */
export type SpeechSource = {
    speech: {
        text: string;
        with?: string | undefined;
        voice?: string | undefined;
        instructions?: string | undefined;
        speed?: number | undefined;
    };
};
/**
 * Audio: its bytes, or an object with `url`, `data` (base64), `media_id` or `speech`.
 */
export type AudioInput = AudioBytes | AudioSource | SpeechSource;
/**
 * How bytes are sent. `multipart` is the default; `raw` puts the fields into the address, where proxies log them; `json` makes
 * the audio a third larger.
 */
export type BodyForm = "multipart" | "raw" | "json";
/**
 * Facts about the audio that its bytes do not tell.
 */
export type AudioHints = {
    filename?: string | undefined;
    mime_type?: string | undefined;
    /**
     * The format of headerless samples.
     */
    format?: DeclaredFormat | undefined;
};
/**
 * `to` may be left out with
 *   `reply_to: "in_…"`.
 */
export type SendFields = Omit<VoiceRequest, "to" | "audio" | "send_at"> & AudioHints & {
    to?: string;
    audio: AudioInput;
    send_at?: string | Date | null;
};
export type CallOptions = {
    /**
     * Gives up waiting. What the gateway has taken is not taken back.
     */
    signal?: AbortSignal;
    /**
     * Milliseconds for each try. Default: that of the client.
     */
    timeout?: number;
};
/**
 * `idempotencyKey`: a text of your own that is unique to this
 *   call, such as the id of your message. Without it the client makes one for the call and its repetitions.
 */
export type KeyOptions = CallOptions & {
    idempotencyKey?: string;
};
export type BodyOptions = CallOptions & {
    body?: BodyForm;
};
/**
 * `wait`: the seconds, at most 60, that the answer may
 *   wait until the provider has accepted the note or it has failed.
 */
export type SendOptions = KeyOptions & BodyOptions & {
    wait?: number;
};
export type ListFields = {
    status?: Status;
    to?: string;
    via?: string;
    /**
     * Notes per page, at most 200.
     */
    limit?: number;
    /**
     * `next_cursor` of the page before.
     */
    cursor?: string;
};
export type RecoverFields = {
    status?: Recoverable[];
    since?: string | Date;
    until?: string | Date;
    via?: string;
    limit?: number;
};
export type UsageFields = {
    from?: string;
    to?: string;
    by?: "day" | "connection" | "status";
};
/**
 * A file of the gateway.
 */
export type AudioFile = {
    bytes: Uint8Array<ArrayBuffer>;
    /**
     * Such as `audio/ogg; codecs=opus`.
     */
    type: string;
    filename: string | undefined;
};
/**
 * Audio as it would be sent.
 */
export type Rendered = {
    bytes: Uint8Array<ArrayBuffer>;
    type: string;
    durationMs: number;
    /**
     * 64 values from 0 to 100.
     */
    waveform: Uint8Array<ArrayBuffer>;
    /**
     * `none`, `remuxed` or `transcoded`.
     */
    work: string;
    checks: string[];
    etag: string | undefined;
};
export type ReceivedFields = {
    from?: string;
    conversation?: string;
    via?: string;
    limit?: number;
    cursor?: string;
};
/**
 * What happened. With `voice.…`, `data` is the note as it was at that moment.
 */
export type Event = VoiceEvent | ReceivedEvent | WebhookPausedEvent;
/**
 * `id` is the same however often the event is delivered.
 */
export type WebhookEvent = Event & {
    id: string;
};
import type { AudioSource } from "../generated/api.js";
import type { DeclaredFormat } from "../generated/api.js";
import type { VoiceRequest } from "../generated/api.js";
import type { Status } from "../generated/api.js";
import type { Recoverable } from "../generated/api.js";
import type { VoiceEvent } from "../generated/api.js";
import type { ReceivedEvent } from "../generated/api.js";
import type { WebhookPausedEvent } from "../generated/api.js";
