/**
 * The body, the query and the headers of a request.
 *
 * @param {AudioHints & { audio: AudioInput } & Record<string, any>} given
 * @param {BodyForm | undefined} form
 * @returns {Promise<{ body: string | Blob | FormData, query?: Record<string, unknown>, headers?: Record<string, string> }>}
 */
export function bodyOf({ audio, ...fields }: AudioHints & {
    audio: AudioInput;
} & Record<string, any>, form: BodyForm | undefined): Promise<{
    body: string | Blob | FormData;
    query?: Record<string, unknown>;
    headers?: Record<string, string>;
}>;
import type { AudioHints } from "./models.js";
import type { AudioInput } from "./models.js";
import type { BodyForm } from "./models.js";
