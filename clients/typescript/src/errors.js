/** @import { Problem, ProblemCode, ProviderAnswer, Stage } from "../generated/api.js" */

/** Every error of this package. None of them contains the API key. */
export class VoicegateError extends Error {
  /** @override */
  name = "VoicegateError";
}

/**
 * The gateway answered with a problem. `code` is stable: base decisions on it.
 * A later version of the gateway may answer with codes that this package does not know yet.
 *
 * @template {string} [Code=ProblemCode | (string & {})]
 */
export class ProblemError extends VoicegateError {
  /** @override */
  name = "ProblemError";

  /**
   * @param {Problem} problem
   * @param {{ retryAfter?: number | undefined, idempotencyKey?: string | undefined }} [more]
   */
  constructor(problem, { retryAfter, idempotencyKey } = {}) {
    super(`${problem.code}: ${problem.detail}`);
    /** The whole problem, as the gateway sent it. */
    this.problem = problem;
    /** @type {Code} */
    this.code = /** @type {any} */ (problem.code);
    /** The HTTP status that goes with the code. */
    this.status = problem.status;
    /** What is wrong in this case, and what to do about it. */
    this.detail = problem.detail;
    /**
     * The field, parameter or header that is to blame.
     * @type {string | undefined}
     */
    this.field = problem.field;
    /**
     * The step at which it went wrong.
     * @type {Stage | undefined}
     */
    this.stage = problem.stage;
    /**
     * The voice note that failed. Without it nothing was stored.
     * @type {string | undefined}
     */
    this.id = problem.id;
    /**
     * The provider's own words.
     * @type {ProviderAnswer | undefined}
     */
    this.provider = problem.provider;
    /**
     * Tell this to the operator of the gateway.
     * @type {string | undefined}
     */
    this.requestId = problem.request_id;
    /** The seconds to wait before the next try. */
    this.retryAfter = problem.retry_after ?? retryAfter;
    /** The key of the call. Repeat it with the same key, and nothing happens twice. */
    this.idempotencyKey = idempotencyKey;
  }
}

/** No answer came: the gateway cannot be reached, or the connection broke, or it took too long. */
export class ConnectionError extends VoicegateError {
  /** @override */
  name = "ConnectionError";

  /**
   * @param {string} message
   * @param {{ cause?: unknown, idempotencyKey?: string | undefined }} [more]
   */
  constructor(message, { cause, idempotencyKey } = {}) {
    super(message, { cause });
    /** The key of the call. Repeat it with the same key, and nothing happens twice. */
    this.idempotencyKey = idempotencyKey;
  }
}

/** Something else than the gateway answered, such as a proxy. */
export class UnexpectedAnswerError extends VoicegateError {
  /** @override */
  name = "UnexpectedAnswerError";

  /**
   * @param {number} status
   * @param {{ idempotencyKey?: string | undefined }} [more]
   */
  constructor(status, { idempotencyKey } = {}) {
    super(`the answer, with status ${status}, is not one of the gateway's; check the address`);
    this.status = status;
    /** The key of the call. Repeat it with the same key, and nothing happens twice. */
    this.idempotencyKey = idempotencyKey;
  }
}

/** A webhook is not genuine. */
export class WebhookVerificationError extends VoicegateError {
  /** @override */
  name = "WebhookVerificationError";
}

/**
 * Whether an error is a problem of the gateway with one of these codes; with any code if none is given.
 *
 * @template {ProblemCode} [Code=ProblemCode]
 * @param {unknown} error
 * @param {...Code} codes
 * @returns {error is ProblemError<Code>}
 */
export function isProblem(error, ...codes) {
  return error instanceof ProblemError && (codes.length === 0 || codes.includes(/** @type {any} */ (error.code)));
}
