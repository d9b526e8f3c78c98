/** Client for voicegate, the gateway through which chatbots send voice notes. */

export { Voicegate } from "./client.js";
export {
  ConnectionError,
  isProblem,
  ProblemError,
  UnexpectedAnswerError,
  VoicegateError,
  WebhookVerificationError,
} from "./errors.js";
export { EventStream } from "./events.js";
export { verifyWebhook } from "./webhook.js";
export * from "./models.js";
/** @typedef {import("../generated/api.js").VoiceNote} VoiceNote */
/** @typedef {import("../generated/api.js").ReceivedNote} ReceivedNote */
/** @typedef {import("../generated/api.js").VoicePlan} VoicePlan */
/** @typedef {import("../generated/api.js").Problem} Problem */
/** @typedef {import("../generated/api.js").ProblemCode} ProblemCode */
/** @typedef {import("../generated/api.js").Status} Status */
/** @typedef {import("../generated/api.js").Upload} Upload */
/** @typedef {import("../generated/api.js").Task} Task */
/** @typedef {import("../generated/api.js").Connection} Connection */
/** @typedef {import("../generated/api.js").UsageList} UsageList */
/** @typedef {import("../generated/api.js").AudioSource} AudioSource */
/** @typedef {import("../generated/api.js").components} components */
/** @typedef {import("../generated/api.js").paths} paths */
