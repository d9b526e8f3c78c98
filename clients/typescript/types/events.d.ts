/**
 * Events as they happen. When the connection breaks, or the gateway restarts, the stream connects again and goes on after
 * the last event that it has returned.
 *
 * @implements {AsyncIterable<Event>}
 */
export class EventStream implements AsyncIterable<Event> {
    /**
     * @param {Transport} transport
     * @param {string} path
     * @param {{ lastEventId?: string | undefined, signal?: AbortSignal | undefined }} options
     */
    constructor(transport: Transport, path: string, { lastEventId, signal }: {
        lastEventId?: string | undefined;
        signal?: AbortSignal | undefined;
    });
    /**
     * Where the stream is: pass it as `lastEventId` to go on from here, for instance in another process. An opaque text,
     * which is not the `id` of an event.
     */
    get lastEventId(): string | undefined;
    /** Ends the stream, and the loop over it. */
    close(): void;
    /** @internal */
    connect(): Promise<void>;
    /** @returns {AsyncGenerator<Event, void, void>} */
    [Symbol.asyncIterator](): AsyncGenerator<Event, void, void>;
    #private;
}
/**
 * Reads server-sent events.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class Parser {
    /**
     * @param {Uint8Array} piece
     * @returns {Generator<{ id: string | undefined, event: Event | undefined }>}
     */
    feed(piece: Uint8Array): Generator<{
        id: string | undefined;
        event: Event | undefined;
    }>;
    #private;
}
import type { Event } from "./models.js";
import type { Transport } from "./transport.js";
