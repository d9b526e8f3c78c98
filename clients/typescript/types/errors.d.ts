/**
 * Whether an error is a problem of the gateway with one of these codes; with any code if none is given.
 *
 * @template {ProblemCode} [Code=ProblemCode]
 * @param {unknown} error
 * @param {...Code} codes
 * @returns {error is ProblemError<Code>}
 */
export function isProblem<Code extends ProblemCode = "invalid_request" | "recipient_invalid" | "unauthorized" | "not_found" | "method_not_allowed" | "idempotency_key_reused" | "wrong_state" | "media_expired" | "audio_too_large" | "unsupported_media_type" | "audio_unreadable" | "audio_inconsistent" | "audio_unsupported" | "audio_too_long" | "audio_format_required" | "source_unreachable" | "source_forbidden" | "recipient_unsupported" | "unknown_connection" | "convert_refused" | "reply_unsupported" | "text_unsupported" | "speech_rejected" | "form_unavailable" | "conversation_closed" | "speech_unavailable" | "provider_rejected" | "provider_unauthorized" | "provider_unavailable" | "rate_limited" | "internal" | "overloaded" | "storage_full" | "quota_exceeded">(error: unknown, ...codes: Code[]): error is ProblemError<Code>;
/** @import { Problem, ProblemCode, ProviderAnswer, Stage } from "../generated/api.js" */
/** Every error of this package. None of them contains the API key. */
export class VoicegateError extends Error {
}
/**
 * The gateway answered with a problem. `code` is stable: base decisions on it.
 * A later version of the gateway may answer with codes that this package does not know yet.
 *
 * @template {string} [Code=ProblemCode | (string & {})]
 */
export class ProblemError<Code extends string = "invalid_request" | "recipient_invalid" | "unauthorized" | "not_found" | "method_not_allowed" | "idempotency_key_reused" | "wrong_state" | "media_expired" | "audio_too_large" | "unsupported_media_type" | "audio_unreadable" | "audio_inconsistent" | "audio_unsupported" | "audio_too_long" | "audio_format_required" | "source_unreachable" | "source_forbidden" | "recipient_unsupported" | "unknown_connection" | "convert_refused" | "reply_unsupported" | "text_unsupported" | "speech_rejected" | "form_unavailable" | "conversation_closed" | "speech_unavailable" | "provider_rejected" | "provider_unauthorized" | "provider_unavailable" | "rate_limited" | "internal" | "overloaded" | "storage_full" | "quota_exceeded" | (string & {})> extends VoicegateError {
    /**
     * @param {Problem} problem
     * @param {{ retryAfter?: number | undefined, idempotencyKey?: string | undefined }} [more]
     */
    constructor(problem: Problem, { retryAfter, idempotencyKey }?: {
        retryAfter?: number | undefined;
        idempotencyKey?: string | undefined;
    });
    /** The whole problem, as the gateway sent it. */
    problem: {
        type: string;
        title: string;
        status: number;
        detail: string;
        code: import("../generated/api.js").components["schemas"]["ProblemCode"];
        id?: string;
        stage?: import("../generated/api.js").components["schemas"]["Stage"];
        field?: string;
        retry_after?: number;
        request_id?: string;
        provider?: import("../generated/api.js").components["schemas"]["ProviderAnswer"];
    };
    /** @type {Code} */
    code: Code;
    /** The HTTP status that goes with the code. */
    status: number;
    /** What is wrong in this case, and what to do about it. */
    detail: string;
    /**
     * The field, parameter or header that is to blame.
     * @type {string | undefined}
     */
    field: string | undefined;
    /**
     * The step at which it went wrong.
     * @type {Stage | undefined}
     */
    stage: Stage | undefined;
    /**
     * The voice note that failed. Without it nothing was stored.
     * @type {string | undefined}
     */
    id: string | undefined;
    /**
     * The provider's own words.
     * @type {ProviderAnswer | undefined}
     */
    provider: ProviderAnswer | undefined;
    /**
     * Tell this to the operator of the gateway.
     * @type {string | undefined}
     */
    requestId: string | undefined;
    /** The seconds to wait before the next try. */
    retryAfter: number | undefined;
    /** The key of the call. Repeat it with the same key, and nothing happens twice. */
    idempotencyKey: string | undefined;
}
/** No answer came: the gateway cannot be reached, or the connection broke, or it took too long. */
export class ConnectionError extends VoicegateError {
    /**
     * @param {string} message
     * @param {{ cause?: unknown, idempotencyKey?: string | undefined }} [more]
     */
    constructor(message: string, { cause, idempotencyKey }?: {
        cause?: unknown;
        idempotencyKey?: string | undefined;
    });
    /** The key of the call. Repeat it with the same key, and nothing happens twice. */
    idempotencyKey: string | undefined;
}
/** Something else than the gateway answered, such as a proxy. */
export class UnexpectedAnswerError extends VoicegateError {
    /**
     * @param {number} status
     * @param {{ idempotencyKey?: string | undefined }} [more]
     */
    constructor(status: number, { idempotencyKey }?: {
        idempotencyKey?: string | undefined;
    });
    status: number;
    /** The key of the call. Repeat it with the same key, and nothing happens twice. */
    idempotencyKey: string | undefined;
}
/** A webhook is not genuine. */
export class WebhookVerificationError extends VoicegateError {
}
import type { ProblemCode } from "../generated/api.js";
import type { Stage } from "../generated/api.js";
import type { ProviderAnswer } from "../generated/api.js";
import type { Problem } from "../generated/api.js";
