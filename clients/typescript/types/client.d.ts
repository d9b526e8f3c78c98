/** A tenant's access to a gateway. The key is in no error and in no inspection of this object. */
export class Voicegate {
    /** @param {ClientOptions} [options] */
    constructor({ url, key, timeout, retries, maxRetryAfter, fetch }?: ClientOptions);
    /** The address of the gateway. */
    url: string;
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
    send(fields: models.SendFields, { wait, body, idempotencyKey, ...options }?: models.SendOptions): Promise<api.VoiceNote>;
    /**
     * Says what would happen to a note on each connection. Nothing is sent or stored.
     *
     * @param {models.SendFields} fields
     * @param {models.BodyOptions} [options]
     * @returns {Promise<api.VoicePlan>}
     */
    plan(fields: models.SendFields, { body, ...options }?: models.BodyOptions): Promise<api.VoicePlan>;
    /**
     * The audio as it would be sent, over a connection (`for`) or by a profile. Nothing is sent or stored.
     *
     * @param {{ audio: models.AudioInput } & models.AudioHints & ({ for: string } | { profile: string })} fields
     * @param {models.BodyOptions} [options]
     * @returns {Promise<models.Rendered>}
     */
    render(fields: {
        audio: models.AudioInput;
    } & models.AudioHints & ({
        for: string;
    } | {
        profile: string;
    }), { body, ...options }?: models.BodyOptions): Promise<models.Rendered>;
    /**
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.VoiceNote>}
     */
    getNote(id: string, options?: models.CallOptions): Promise<api.VoiceNote>;
    /**
     * The note once it is neither queued nor being sent.
     *
     * @param {string} id
     * @param {models.CallOptions & { within?: number }} [options] `within`: milliseconds. Default: 60000.
     * @returns {Promise<api.VoiceNote>}
     * @throws {ConnectionError} if it is not in time.
     */
    waitForNote(id: string, { within, ...options }?: models.CallOptions & {
        within?: number;
    }): Promise<api.VoiceNote>;
    /**
     * One page of notes, newest first.
     *
     * @param {models.ListFields} [fields]
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.VoiceNoteList>}
     */
    listNotes(fields?: models.ListFields, options?: models.CallOptions): Promise<api.VoiceNoteList>;
    /**
     * All notes that fit, newest first, page by page.
     *
     * @param {models.ListFields} [fields]
     * @param {models.CallOptions} [options]
     * @returns {AsyncGenerator<api.VoiceNote, void, void>}
     */
    notes(fields?: models.ListFields, options?: models.CallOptions): AsyncGenerator<api.VoiceNote, void, void>;
    /**
     * Calls off a note that is queued.
     *
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.VoiceNote>}
     */
    cancel(id: string, options?: models.CallOptions): Promise<api.VoiceNote>;
    /**
     * Sends a note again that failed, expired, was canceled or is unknown. An unknown note may have arrived, so a person may
     * get it twice. The answer is a new note with `resend_of`.
     *
     * @param {string} id
     * @param {models.KeyOptions} [options]
     * @returns {Promise<api.VoiceNote>}
     */
    resend(id: string, { idempotencyKey, ...options }?: models.KeyOptions): Promise<api.VoiceNote>;
    /**
     * Erases audio, recipient, text and metadata of a note that has ended.
     *
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<void>}
     */
    erase(id: string, options?: models.CallOptions): Promise<void>;
    /**
     * The audio of a note as it was sent, or with `source` as it was received.
     *
     * @param {string} id
     * @param {models.CallOptions & { source?: boolean }} [options]
     * @returns {Promise<models.AudioFile>}
     */
    getAudio(id: string, { source, ...options }?: models.CallOptions & {
        source?: boolean;
    }): Promise<models.AudioFile>;
    /**
     * Shows in a conversation that a voice note is being recorded, where the provider can.
     *
     * @param {{ to: string, via?: string, state: "recording" | "paused" }} fields
     * @param {models.CallOptions} [options]
     * @returns {Promise<void>}
     */
    presence(fields: {
        to: string;
        via?: string;
        state: "recording" | "paused";
    }, options?: models.CallOptions): Promise<void>;
    /**
     * Uploads audio once, to be sent by `media_id` to several people.
     *
     * @param {{ audio: models.AudioInput } & models.AudioHints} fields
     * @param {models.BodyOptions} [options]
     * @returns {Promise<api.Upload>}
     */
    upload(fields: {
        audio: models.AudioInput;
    } & models.AudioHints, { body, ...options }?: models.BodyOptions): Promise<api.Upload>;
    /**
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.Upload>}
     */
    getUpload(id: string, options?: models.CallOptions): Promise<api.Upload>;
    /**
     * Deletes an upload. Notes that use it are not touched.
     *
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<void>}
     */
    deleteUpload(id: string, options?: models.CallOptions): Promise<void>;
    /**
     * Sends everything again that did not arrive, each note once. The answer is a task that goes on by itself.
     *
     * @param {models.RecoverFields} [fields]
     * @param {models.KeyOptions} [options]
     * @returns {Promise<api.Task>}
     */
    recover(fields?: models.RecoverFields, { idempotencyKey, ...options }?: models.KeyOptions): Promise<api.Task>;
    /**
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.Task>}
     */
    getTask(id: string, options?: models.CallOptions): Promise<api.Task>;
    /**
     * The task once it has ended.
     *
     * @param {string} id
     * @param {models.CallOptions & { within?: number }} [options] `within`: milliseconds. Default: 600000.
     * @returns {Promise<api.Task>}
     * @throws {ConnectionError} if it is not in time.
     */
    waitForTask(id: string, { within, ...options }?: models.CallOptions & {
        within?: number;
    }): Promise<api.Task>;
    /**
     * Follows the events of all notes from now on, or after `lastEventId`. The stream is open when this returns.
     *
     * @param {{ lastEventId?: string, signal?: AbortSignal }} [options]
     * @returns {Promise<EventStream>}
     */
    events(options?: {
        lastEventId?: string;
        signal?: AbortSignal;
    }): Promise<EventStream>;
    /**
     * Follows the events of one note, from the first one or after `lastEventId`.
     *
     * @param {string} id
     * @param {{ lastEventId?: string, signal?: AbortSignal }} [options]
     * @returns {Promise<EventStream>}
     */
    noteEvents(id: string, options?: {
        lastEventId?: string;
        signal?: AbortSignal;
    }): Promise<EventStream>;
    /**
     * Every try to post an event to the webhook, the oldest first.
     *
     * @param {string} id The `webhook-id`.
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.EventAttempt[]>}
     */
    eventAttempts(id: string, options?: models.CallOptions): Promise<api.EventAttempt[]>;
    /**
     * Posts an event to the webhook again, with the same `webhook-id`.
     *
     * @param {string} id The `webhook-id`.
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.EventSummary>}
     */
    resendEvent(id: string, options?: models.CallOptions): Promise<api.EventSummary>;
    /**
     * Resumes the webhook, and posts everything again that it has not taken.
     *
     * @param {{ since?: string | Date }} [fields]
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.Task>}
     */
    recoverWebhook(fields?: {
        since?: string | Date;
    }, options?: models.CallOptions): Promise<api.Task>;
    /**
     * One page of the notes that people have sent, newest first.
     *
     * @param {models.ReceivedFields} [fields]
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.ReceivedNoteList>}
     */
    listReceived(fields?: models.ReceivedFields, options?: models.CallOptions): Promise<api.ReceivedNoteList>;
    /**
     * All notes that people have sent and that fit, newest first, page by page.
     *
     * @param {models.ReceivedFields} [fields]
     * @param {models.CallOptions} [options]
     * @returns {AsyncGenerator<api.ReceivedNote, void, void>}
     */
    received(fields?: models.ReceivedFields, options?: models.CallOptions): AsyncGenerator<api.ReceivedNote, void, void>;
    /**
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.ReceivedNote>}
     */
    getReceived(id: string, options?: models.CallOptions): Promise<api.ReceivedNote>;
    /**
     * The audio of a received note, untouched (`native`, the default) or by a profile.
     *
     * @param {string} id
     * @param {models.CallOptions & { as?: string }} [options]
     * @returns {Promise<models.AudioFile>}
     */
    getReceivedAudio(id: string, { as, ...options }?: models.CallOptions & {
        as?: string;
    }): Promise<models.AudioFile>;
    /**
     * @param {string} id
     * @param {models.CallOptions} [options]
     * @returns {Promise<void>}
     */
    eraseReceived(id: string, options?: models.CallOptions): Promise<void>;
    /**
     * The tenant's connections with their health and what they can do, and the state of its webhook.
     *
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.ConnectionList>}
     */
    connections(options?: models.CallOptions): Promise<api.ConnectionList>;
    /**
     * Counts notes, seconds, bytes and attempts.
     *
     * @param {models.UsageFields} [fields]
     * @param {models.CallOptions} [options]
     * @returns {Promise<api.UsageList>}
     */
    usage(fields?: models.UsageFields, options?: models.CallOptions): Promise<api.UsageList>;
    #private;
}
export type ClientOptions = {
    /**
     * The address of the gateway. Default: `VOICEGATE_URL` of the environment.
     */
    url?: string;
    /**
     * The API key. Default: `VOICEGATE_API_KEY` of the environment.
     */
    key?: string;
    /**
     * Milliseconds for each try, beside `wait`. Default: 60000.
     */
    timeout?: number;
    /**
     * How often a call is repeated at most. Default: 4.
     */
    retries?: number;
    /**
     * The most milliseconds to wait where the gateway asks for it. Default: 60000.
     */
    maxRetryAfter?: number;
    /**
     * Another `fetch`.
     */
    fetch?: typeof globalThis.fetch;
};
import type * as models from "./models.js";
import type * as api from "../generated/api.js";
import { EventStream } from "./events.js";
